"""The frame: one typed row per answer, from logs and from CSVs in the release's form."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from em_inspect.analysis.answer import Answer, Problem, gathered
from em_inspect.analysis.condition import Settings
from em_inspect.analysis.logs import Lines, Logs, Run, find_logs, open_logs, read_answers
from em_inspect.analysis.logs import Progress as Report
from em_inspect.analysis.origin import Groups, read_groups, unmatched
from em_inspect.analysis.release_csv import ReleaseFile, open_csvs, read_rows
from em_inspect.analysis.series import SETTING
from em_inspect.errors import UserError, require_extra

if TYPE_CHECKING:
    from pandas import DataFrame, Series

logger = logging.getLogger(__name__)

_TEXT = ("uuid", "answer")
_WHOLE = ("seed", "step", "examples", "epoch", "length")
_NUMBERS = (
    "scale",
    "alignment",
    "coherence",
    "alignment_mass",
    "coherence_mass",
    "refusal_mass",
    "code_mass",
    "value",
    "alignment_error",
    "coherence_error",
)


@dataclass
class Collection:
    """Answers, where they came from, and what was left out.

    Attributes:
        frame: One row per answer, the columns of `Answer`.
        runs: Headers of the logs.
        problems: What was left out or needs a caveat, by name.
        lines: By the name of a log, the thresholds of alignment and coherence it was scored with.
    """

    frame: DataFrame = field(repr=False)
    runs: list[Run]
    problems: list[Problem]
    lines: Mapping[str, set[Lines]] = field(default_factory=dict)


def samples(
    logs: str | Path | Sequence[str | Path],
    *,
    rule: str | None = None,
    groups: str | Path | None = None,
    quiet: bool = True,
) -> DataFrame:
    """Read one typed row per answer from logs, folders of logs, and CSVs in the release's form.

    What is left out is logged as a warning; `collect` returns it.

    Args:
        logs: Files or folders; from a folder all logs in it are read.
        rule: How judges' replies are read (`plurality` or `released`), or None for each log's own.
        groups: A CSV or YAML that says group, seed, base or step of models (`read_groups`).
        quiet: Show no progress bar.

    Returns:
        The columns of `em_inspect.analysis.Answer`, one row per answer; in place of `settings` one
        column per setting, `setting_…`.

    Raises:
        UserError: If there is nothing to read, or the extra `report` is missing.
    """
    paths = [logs] if isinstance(logs, (str, Path)) else list(logs)
    table = read_groups(Path(groups)) if groups else None
    collection = collect(paths, rule=rule, groups=table, quiet=quiet)
    for problem in gathered(collection.problems):
        logger.warning("%s", problem)
    return collection.frame


def collect(
    paths: Sequence[str | Path],
    *,
    rule: str | None = None,
    groups: Groups | None = None,
    quiet: bool = False,
) -> Collection:
    """Read answers and keep account of what was left out; see `samples`."""
    require_extra("report", "pandas", "pyarrow")
    tables = [Path(p) for p in paths if Path(p).suffix.lower() == ".csv"]
    others = [p for p in paths if Path(p).suffix.lower() != ".csv"]
    for table in tables:
        if not table.is_file():
            raise UserError(f"{table}: no such file: give logs, a folder of them, or CSVs")
    logs = open_logs(find_logs(others), groups) if others or not tables else Logs([], [])
    if groups and not tables:
        logs.problems.extend(_lost(groups, logs.runs))
    opened = open_csvs(tables, logs.problems)
    with _progress(logs.answers + sum(csv.answers for csv in opened), quiet) as report:
        frame = to_frame(_all(logs, opened, groups, rule, report))
    if not len(frame):
        reasons = "; ".join(map(str, logs.problems))
        raise UserError(f"nothing to analyse: {reasons or 'the logs hold no answers'}")
    return Collection(frame, logs.runs, logs.problems, logs.lines)


def _lost(groups: Groups, runs: Sequence[Run]) -> Iterator[Problem]:
    """Rows of the user's table that no log is of, where they may explain a missing group."""
    lost = unmatched(groups, [(run.log.eval, run.origin) for run in runs])
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        yield Problem(
            "the table of groups",
            f"no log is of {', '.join(lost[:3])}{more}: name models as inspect eval does",
        )


def _all(
    logs: Logs, csvs: Sequence[ReleaseFile], groups: Groups | None, rule: str | None, report: Report
) -> Iterator[Answer]:
    yield from read_answers(logs, rule, report)
    for opened in csvs:
        yield from read_rows(opened, logs.problems, groups=groups, rule=rule, progress=report)


def to_frame(answers: Iterable[Answer]) -> DataFrame:
    """Put answers into a frame: words that repeat as categories, missing numbers as NaN or NA.

    Each of the answers' settings has a column of its own, `setting_…`.
    """
    import pandas as pd

    columns: tuple[list[Any], ...] = tuple([] for _ in Answer._fields)
    for answer in answers:
        for column, value in zip(columns, answer, strict=True):
            column.append(value)
    typed = {}
    for name, values in zip(Answer._fields, columns, strict=True):
        if name in _TEXT:
            typed[name] = pd.Series(values, dtype="str")
        elif name in _WHOLE:
            typed[name] = pd.Series(values, dtype="Int64")
        elif name in _NUMBERS:
            typed[name] = pd.Series(values, dtype="float64")
        elif name == "settings":
            typed.update(_setting_columns(values))
        else:
            typed[name] = _categories(values)
        values.clear()
    return pd.DataFrame(typed)


def _categories(values: Sequence[object]) -> Series:
    import pandas as pd

    words = sorted({str(value) for value in values if value is not None})
    return pd.Series(pd.Categorical(values, categories=pd.Index(words, dtype="str")))


def _setting_columns(values: Sequence[Settings]) -> dict[str, Series]:
    """One column per setting; few settings serve many answers, so that each is looked at once."""
    codes: dict[Settings, int] = {}
    places = [codes.setdefault(settings, len(codes)) for settings in values]
    distinct = [dict(settings) for settings in codes]
    names = sorted({name for settings in distinct for name in settings})
    return {
        f"{SETTING}{name}": _categories([settings.get(name) for settings in distinct])
        .take(places)
        .reset_index(drop=True)
        for name in names
    }


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Report]:
    if quiet:
        yield lambda count: None
        return
    bar = Progress(
        TextColumn("reading answers"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("reading", total=total or None)
        yield lambda count: bar.advance(task, count)
