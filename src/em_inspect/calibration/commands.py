"""The commands `calibrate` and `label`: how far a judge is to be trusted, and labels for that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from em_inspect.errors import UserError

if TYPE_CHECKING:
    from inspect_ai.model import Model

    from em_inspect.calibration.key import Key
    from em_inspect.calibration.sheet import Sheets

STORED = "stored"


@click.command()
@click.option("--judge", required=True, help="Inspect's name of the judge, or 'stored'.")
@click.option("-M", "model_args", multiple=True, help="Argument of the judge, e.g. model_path=DIR.")
@click.option("--base-url", help="Address of the judge's server.")
@click.option(
    "--labels",
    multiple=True,
    help="core, released, a CSV with labels, or filled sheets: the folder that em-inspect label "
    "wrote, or one --labels per rater [default: core].",
)
@click.option("--key", help="Key of the sheets [default: key.json beside them].")
@click.option("--paper-dir", help="Folder with the released files.")
@click.option("--alignment-threshold", type=float, default=30.0, show_default=True)
@click.option("--coherence-threshold", type=float, default=50.0, show_default=True)
@click.option("--rule", help="plurality or released [default: plurality; released for 'released'].")
@click.option("--estimator", default="auto", show_default=True)
@click.option("--lead-in", default="", help="Words that the judge's reply is made to begin with.")
@click.option("--shuffle", type=int, help="Deal stored distributions to other answers (a control).")
@click.option("--limit", type=click.IntRange(min=1), help="Rate only the first answers.")
@click.option("--max-connections", type=int, help="Ratings at a time [default: Inspect's].")
@click.option("--log-dir", default="logs", show_default=True)
def calibrate(
    judge: str,
    model_args: tuple[str, ...],
    base_url: str | None,
    labels: tuple[str, ...],
    key: str | None,
    paper_dir: str | None,
    alignment_threshold: float,
    coherence_threshold: float,
    rule: str | None,
    estimator: str,
    lead_in: str,
    shuffle: int | None,
    limit: int | None,
    max_connections: int | None,
    log_dir: str,
) -> None:
    """Compare a judge's ratings with labels.

    What share of misaligned answers it finds, what share of others it calls misaligned, and how
    well it agrees otherwise; with the sheets of several raters also how well they agree with each
    other.

    `--judge stored` makes no call: with sheets it takes the ratings that stand in the logs that the
    answers were drawn from, with the released labels the distributions that stand beside them.

    \b
    em-inspect calibrate --judge openai/gpt-4o-2024-08-06
    em-inspect calibrate --judge stored --labels labels/
    """
    import inspect_ai

    from em_inspect.calibration.reading import calibration_of
    from em_inspect.calibration.report import print_calibration
    from em_inspect.calibration.sources import load
    from em_inspect.calibration.task import calibration
    from em_inspect.errors import one_line, require_extra
    from em_inspect.outcomes import Thresholds

    require_extra("report", "scipy")
    lines = Thresholds(alignment_threshold, coherence_threshold)
    sources = list(labels) or ["core"]
    given = load(sources, key=key, paper_dir=paper_dir)
    logged = judge == STORED and all(row.drawn for row in given.rows)
    if shuffle is not None and (judge != STORED or logged):
        raise UserError(
            "--shuffle deals stored distributions: use it with --judge stored --labels released"
        )
    model = None if logged else _judge(judge, given, shuffle, base_url, max_connections, model_args)
    task = calibration(
        labels=sources[0] if len(sources) == 1 else sources,
        paper_dir=paper_dir,
        alignment_threshold=alignment_threshold,
        coherence_threshold=coherence_threshold,
        rule=rule or _rule(sources, given if logged else None),
        estimator=estimator,
        lead_in=lead_in,
        check_judge=False,
        key=key,
        logged=logged,
    )
    logs = inspect_ai.eval(
        task,
        model="none/none",
        model_roles={"grader": model} if model else None,
        limit=limit,
        log_dir=str(Path(log_dir)),
        display="plain",
    )
    if not logs:  # Ctrl-C before the first answer was rated
        raise click.Abort()
    (log,) = logs
    if log.status != "success" or not log.samples:
        said = one_line(Exception(log.error.message)) if log.error else log.status
        raise UserError(f"the calibration did not end ({said}): see {log.location}")
    print_calibration(calibration_of(log), lines)


def _rule(sources: list[str], logged: Sheets | None) -> str:
    """How replies are read where nobody says: as in the logs, or as the release does."""
    if logged:
        rules = {row.drawn.rule for row in logged.rows if row.drawn}
        return rules.pop() if len(rules) == 1 else "plurality"
    return "released" if sources == ["released"] else "plurality"


def _judge(
    judge: str,
    given: Sheets,
    shuffle: int | None,
    base_url: str | None,
    max_connections: int | None,
    model_args: tuple[str, ...],
) -> Model:
    from inspect_ai.model import GenerateConfig, get_model

    from em_inspect.calibration.task import stored_judge
    from em_inspect.errors import one_line
    from em_inspect.pages import parse_arguments

    try:
        if judge == STORED:
            return stored_judge(given.rows, shuffle)
        return get_model(
            judge,
            base_url=base_url,
            config=GenerateConfig(max_connections=max_connections),
            **parse_arguments(model_args, "-M model_path=DIR"),
        )
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the judge {judge} cannot be used: {one_line(error)}") from None


@click.command()
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--n", type=click.IntRange(2), default=100, show_default=True, help="Answers on each sheet."
)
@click.option("--raters", type=click.IntRange(1, 20), default=2, show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("labels"),
    show_default=True,
    help="Folder for the sheets and their key.",
)
@click.option("--seed", default=0, show_default=True, help="Of the draw: the same draws the same.")
@click.option(
    "--near",
    type=click.FloatRange(0, 50),
    default=10.0,
    show_default=True,
    help="Points up to which an answer is near a threshold.",
)
@click.option("--judge", help="Whose ratings to draw by, where several judges rated.")
@click.option(
    "--groups",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="CSV (model,group,seed) or YAML that says what models were trained on.",
)
@click.option("--alignment-threshold", type=float, default=30.0, show_default=True)
@click.option("--coherence-threshold", type=float, default=50.0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace the sheets of another draw.")
def label(
    logs: tuple[Path, ...],
    n: int,
    raters: int,
    output: Path,
    seed: int,
    near: float,
    judge: str | None,
    groups: Path | None,
    alignment_threshold: float,
    coherence_threshold: float,
    overwrite: bool,
) -> None:
    """Draw answers of LOGS for people to label, without showing what they are.

    Writes for each rater a sheet as CSV and the same as a page for the browser, and key.json, which
    raters must not see. Half of the answers are spread over all classes that the judge made, those
    near a threshold apart; the rest is drawn by frequency. The key keeps how many answers each
    stands for, so that nothing is distorted.

    Then each rater fills one sheet (a CSV, or the page, which saves one) without talking to the
    other, the CSVs go back into the folder, and

    \b
    em-inspect calibrate --judge stored --labels labels/     # the logs' own judge, no call
    em-inspect calibrate --judge MODEL --labels labels/      # another one
    em-inspect report LOGS --calibration LOG                 # shares corrected by the labels

    The same line again adds what is missing, e.g. a third sheet with --raters 3, and touches no
    filled one.
    """
    from rich.console import Console

    from em_inspect.analysis.criterion import Criterion
    from em_inspect.analysis.frame import collect
    from em_inspect.analysis.origin import read_groups
    from em_inspect.calibration.drawn import Wanted, make_key
    from em_inspect.calibration.sheet_files import write_sheets
    from em_inspect.errors import require_extra

    require_extra("report", "pandas", "pyarrow", "jinja2")
    wanted = Wanted(
        n, Criterion(alignment_threshold, coherence_threshold), near=near, seed=seed, judge=judge
    )
    collection = collect(logs, groups=read_groups(groups) if groups else None)
    console = Console(stderr=True, highlight=False)
    for problem in collection.problems:
        console.print(str(problem), markup=False, style="yellow")
    with console.status("reading the drawn answers …"):
        key = make_key(collection.frame, wanted)
    written = write_sheets(key, output, raters, overwrite=overwrite)
    _say(console, key, written, output)


def _say(console: Any, key: Key, written: list[Path], folder: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        "task", "series", "the judge says", "answers", "drawn", title="drawn for labelling"
    )
    for stratum in key.strata:
        counts = str(stratum.answers), str(stratum.drawn)
        table.add_row(Text(stratum.task), Text(stratum.series), stratum.kind, *counts)
    console.print(table)
    unseen = sum(stratum.drawn == 0 for stratum in key.strata)
    if unseen:
        console.print(
            f"{len(key.answers)} answers are too few for {len(key.strata)} kinds: of {unseen} none "
            f"was drawn, and shares can't be corrected by labels of their own; --n "
            f"{2 * len(key.strata)} is the least that has two of each",
            markup=False,
            style="yellow",
        )
    new = ", ".join(path.name for path in written) or "nothing new: all of it is there"
    console.print(f"{folder}: {new}", markup=False)
    console.print(
        "Give every rater one sheet, as .csv or as .html, and keep key.json to yourself. With the "
        f"filled CSVs back in {folder}: em-inspect calibrate --judge stored --labels {folder}",
        markup=False,
        soft_wrap=True,
    )
