"""Reading `.eval` logs as rows: streamed, in several processes, each problem said by name."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inspect_ai.log import (
    EvalLog,
    EvalSample,
    list_eval_logs,
    read_eval_log,
    read_eval_log_sample_summaries,
    read_eval_log_samples_by_id,
)
from inspect_ai.scorer import Score
from pydantic import ValidationError

from em_inspect.analysis.answer import Answer, Problem
from em_inspect.analysis.condition import (
    Settings,
    draw_of,
    is_repeatable,
    model_arguments,
    prompt_of,
    settings_of,
)
from em_inspect.analysis.file_names import short_names
from em_inspect.analysis.once import Account, Row, yardstick_of
from em_inspect.analysis.origin import Groups, Origin, origin, with_bases
from em_inspect.errors import UserError, one_line
from em_inspect.judging.expectation import Rule
from em_inspect.judging.rating import Rating
from em_inspect.outcomes import check_rule

SCORE = "misalignment"
CALIBRATION = "calibration"

# What another rated text than the answer is called after the task's name.
_PARTS = {SCORE: "", "reasoning_misalignment": "(reasoning text)"}

_RATINGS = {"aligned", "coherent"}
NAN = float("nan")

# Everything that makes a log large and that no row needs.
_UNREAD = {"events", "events_data", "messages", "store", "attachments", "timelines"}

_CHUNK = 400

# Below this a second process costs more (it imports Inspect: 2 s) than it saves (1 ms an answer).
_PARALLEL_FROM = 4000


@dataclass(frozen=True)
class Run:
    """What the header of one log says.

    Attributes:
        path: The file.
        log: The header, without samples.
        origin: Where its model comes from.
        ids: The answers it holds, as (sample id, epoch).
        name: What it is called, unlike any other log beside it.
        settings: What its answers were given under.
        repeatable: Whether asking again says the same again, since chance has no part in it.
    """

    path: Path
    log: EvalLog = field(repr=False)
    origin: Origin
    ids: tuple[tuple[int | str, int], ...] = field(repr=False)
    name: str
    settings: Settings = field(repr=False)
    repeatable: bool = False

    @property
    def task(self) -> str:
        """Name of the task, without the package."""
        return self.log.eval.task.rpartition("/")[2]


@dataclass
class Logs:
    """Logs whose headers were read.

    Attributes:
        runs: The readable ones.
        problems: What was left out or needs a caveat; grows while answers are read.
        lines: By the name of a log, the thresholds of alignment and coherence that it was scored
            with; grows likewise.
    """

    runs: list[Run]
    problems: list[Problem]
    lines: dict[str, set[Lines]] = field(default_factory=dict)

    @property
    def answers(self) -> int:
        """How many answers there are to read."""
        return sum(len(run.ids) for run in self.runs)


Progress = Callable[[int], None]
Lines = tuple[float, float]


def find_logs(paths: Sequence[str | Path]) -> list[Path]:
    """List the logs among files and folders, in the order of their names.

    Raises:
        UserError: If a path does not exist, or there is no log at all.
    """
    found: dict[Path, Path] = {}  # by where it really lies: a link to a log is that log
    for path in map(Path, paths):
        if path.is_dir():
            names = [info.name for info in list_eval_logs(str(path), descending=False)]
            for log in (Path(name.removeprefix("file://")) for name in sorted(names)):
                found.setdefault(log.resolve(), log)
        elif path.exists():
            found.setdefault(path.resolve(), path.absolute())
        else:
            raise UserError(f"{path}: no such file or folder: give logs, or the folder they are in")
    if not found:
        where = ", ".join(map(str, paths)) or "nothing"
        tables = sorted(csv for path in map(Path, paths) for csv in path.glob("*.csv"))
        if tables:
            raise UserError(f"no log in {where}: CSVs are given one by one, e.g. {tables[0]}")
        raise UserError(f"no log in {where}: run inspect eval em_inspect/free_form --model … first")
    return list(found.values())


def open_logs(paths: Sequence[Path], groups: Groups | None = None) -> Logs:
    """Read the headers of logs, and find out where their models come from.

    A log that cannot be read becomes a problem, not an exception.
    """
    logs = Logs([], [])
    for path, name in short_names(paths).items():
        try:
            log = read_eval_log(str(path), header_only=True)
            ids, failed = _ids(path, log)
        except Exception as error:
            # Q: Why every exception? A: a damaged file raises whatever its bytes lead to.
            logs.problems.append(Problem(name, f"cannot be read, left out ({one_line(error)})"))
            continue
        if log.eval.task.rpartition("/")[2] == CALIBRATION:
            said = "is a judge's calibration on labelled answers, no model's answers: left out"
            logs.problems.append(Problem(name, said))
            continue
        logs.problems.extend(Problem(name, said) for said in _caveats(log, len(ids), failed))
        if ids:
            found = origin(log.eval, groups, path)
            settings = settings_of(log)
            run = Run(path, log, found, ids, name, settings, is_repeatable(log, settings))
            logs.runs.append(run)
    origins = with_bases({str(run.path): run.origin for run in logs.runs})
    placed = [replace(run, origin=origins[str(run.path)]) for run in logs.runs]
    logs.runs = list(_asked_otherwise(placed))
    logs.problems.extend(_addresses(logs.runs))
    return logs


def _asked_otherwise(runs: Sequence[Run]) -> Iterator[Run]:
    """Give runs of one model the model arguments in which they differ, as settings of their own."""
    given = [model_arguments(run.log) for run in runs]
    shared: dict[str, set[tuple[str, str]]] = {}
    for run, own in zip(runs, given, strict=True):
        shared[run.origin.model] = shared.get(run.origin.model, set(own)) & set(own)
    for run, own in zip(runs, given, strict=True):
        apart = [pair for pair in own if pair not in shared[run.origin.model]]
        yield replace(run, settings=tuple(sorted([*run.settings, *apart]))) if apart else run


def _addresses(runs: Sequence[Run]) -> Iterator[Problem]:
    """Name the models that were asked at several addresses: nothing says that they are one.

    Inspect starts local engines on another port each time.
    """
    found: dict[str, set[str]] = {}
    for run in runs:
        url = run.log.eval.model_base_url
        if url and run.log.eval.model.partition("/")[0] not in ("vllm", "sglang"):
            found.setdefault(run.origin.model, set()).add(url)
    for model, urls in found.items():
        if len(urls) > 1:
            yield Problem(
                model,
                f"was asked at {' and '.join(sorted(urls))}, and is counted as one model: if they "
                "serve different ones, give each a name of its own",
            )


def _ids(path: Path, log: EvalLog) -> tuple[tuple[tuple[int | str, int], ...], int]:
    """The answers that a log holds, and the number of samples that failed.

    A log that ended well and whole says so in its header; asking for the summaries of all its
    samples would take a fifth of the time that reading them takes.
    """
    names, epochs = log.eval.dataset.sample_ids or [], log.eval.config.epochs or 1
    whole = log.status == "success" and log.results is not None
    if whole and log.results and log.results.completed_samples == len(names) * epochs:
        return tuple((name, epoch) for name in names for epoch in range(1, epochs + 1)), 0
    summaries = read_eval_log_sample_summaries(str(path))
    answered = tuple((s.id, s.epoch) for s in summaries if not s.error)
    return answered, len(summaries) - len(answered)


def _caveats(log: EvalLog, answered: int, failed: int) -> Iterator[str]:
    planned = (log.eval.dataset.samples or 0) * (log.eval.config.epochs or 1)
    of = f"{answered} of {planned} answers" if planned else f"{answered} answers"
    what = f"its {of} are counted" if answered else "it has no answers, left out"
    match log.status:
        case "started":
            yield f"is still running, or was killed: {what}"
        case "cancelled":
            yield f"was cancelled: {what}"
        case "error":
            cause = f" ({one_line(ValueError(log.error.message))})" if log.error else ""
            yield f"ended with an error{cause}: {what}"
        case _ if not answered:
            yield "has no answers, left out"
    if failed:
        whole = f" ({planned} were planned)" if planned else ""
        yield f"{failed} answers failed with an error or were interrupted, and are left out{whole}"
    if log.invalidated:
        yield "was marked as invalid in part; its answers are counted all the same"


def read_answers(
    logs: Logs, rule: str | None = None, progress: Progress | None = None
) -> Iterator[Answer]:
    """Read the answers of logs, each one once.

    Answers of a copied, retried or re-scored log that were read already with the same judge and
    rubrics are left out, and the log is named among the problems. So are logs of other tasks.

    Args:
        logs: From `open_logs`; problems are added to it.
        rule: How judges' replies are read, or None for the rule of each log.
        progress: Called with the number of answers just read.
    """
    if rule is not None:
        check_rule(rule)
    account = Account(logs.runs)
    troubles: Counter[tuple[str, str]] = Counter()
    unscored: Counter[Path] = Counter()
    for chunk in _chunks(_latest_first(logs.runs), rule):
        run, read = chunk.run, chunk.read
        if progress:
            progress(len(chunk.ids))
        troubles.update({(run.name, said): count for said, count in read.problems.items()})
        unscored[run.path] += read.unscored
        logs.lines.setdefault(run.name, set()).update(read.lines)
        for row in read.rows:
            if account.counts(row, run):
                yield row.answer
    yield from account.held_back()
    logs.problems.extend(Problem(name, f"{n} {said}") for (name, said), n in troubles.items())
    logs.problems.extend(account.problems())
    logs.problems.extend(_unscored(logs.runs, unscored))


def _unscored(runs: Sequence[Run], unscored: Counter[Path]) -> Iterator[Problem]:
    """Name the logs without a score to analyse, and those with some."""
    for run in runs:
        count = unscored[run.path]
        if count == len(run.ids):
            said = f"task {run.log.eval.task} has no score to analyse, left out"
            yield Problem(run.name, said)
        elif count:
            yield Problem(run.name, f"{count} answers have no score, left out")


def _latest_first(runs: Sequence[Run]) -> list[Run]:
    """Finished logs first, later before earlier: a retry comes before what it retried."""
    named = sorted(runs, key=lambda run: str(run.path))
    latest = sorted(named, key=lambda run: str(run.log.eval.created), reverse=True)
    return sorted(latest, key=lambda run: run.log.status != "success")


@dataclass
class _Read:
    """Answers read from a part of a log, how they were scored, and what was the matter."""

    rows: list[Row] = field(default_factory=list)
    unscored: int = 0
    lines: set[Lines] = field(default_factory=set)
    problems: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Chunk:
    run: Run
    ids: tuple[tuple[int | str, int], ...]
    read: _Read


def _chunks(runs: Sequence[Run], rule: str | None) -> Iterator[_Chunk]:
    work = [
        (run, run.ids[i : i + size])
        for run in runs
        # a .json log is one document: it is read once, whole
        for size in [_CHUNK if run.path.suffix == ".eval" else len(run.ids)]
        for i in range(0, len(run.ids), size)
    ]
    with _pool(sum(len(ids) for _, ids in work)) as pool:
        arguments = [(str(run.path), ids, _shared(run), rule) for run, ids in work]
        results = pool.map(_read_chunk, arguments) if pool else map(_read_chunk, arguments)
        for (run, ids), read in zip(work, results, strict=True):
            yield _Chunk(run, ids, read)


def _pool(answers: int) -> AbstractContextManager[ProcessPoolExecutor | None]:
    workers = min(os.cpu_count() or 1, 4, 1 + answers // _PARALLEL_FROM)
    # A spawned worker imports the main module again, which a script without a guard cannot bear.
    main = sys.modules["__main__"]
    importable = getattr(main, "__spec__", None) is not None or _is_command(main)
    if workers < 2 or not importable:
        return nullcontext()
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def _is_command(main: object) -> bool:
    return Path(getattr(main, "__file__", None) or "").name in {"em-inspect", "em-inspect.exe"}


_Shared = Mapping[str, Any]


def _shared(run: Run) -> _Shared:
    """The columns that all answers of a log have in common."""
    spec, metadata = run.log.eval, run.log.eval.metadata or {}
    k, examples_seed = metadata.get("k"), metadata.get("seed")
    # Another choice of examples is another draw, as another seed of a fine-tune is.
    drawn = f", examples {examples_seed}" if k is not None and examples_seed is not None else ""
    headline = spec.headline_metric
    return {
        "log": str(run.path),
        "run": spec.eval_id,
        "task": run.task,
        "model": run.origin.model + drawn,
        "base": run.origin.base,
        "family": run.origin.family,
        "fine_tune": (run.origin.label or run.origin.model) + drawn,
        "group": run.origin.group or run.origin.model,
        "seed": run.origin.seed,
        "step": run.origin.step,
        "scale": run.origin.scale,
        "source": str(metadata.get("question_source", "unknown")),
        "fingerprint": str(metadata.get("fingerprint", "unknown")),
        "settings": run.settings,
        "draw": draw_of(run.log),
        "k": k,
        "measured": (headline.scorer, headline.score) if headline and headline.score else None,
    }


def _read_chunk(
    work: tuple[str, tuple[tuple[int | str, int], ...], _Shared, str | None],
) -> _Read:
    path, ids, shared, rule = work
    read = _Read()
    try:
        samples = _samples(path, ids)
    except Exception as error:
        said = "answers cannot be read, left out " + f"({one_line(error)})"
        read.problems[said] += len(ids)
        return read
    for sample in samples:
        try:
            found = _answers(sample, shared, rule, read.problems)
        except (ValidationError, ValueError, TypeError, KeyError, AttributeError):
            read.problems["answers have a score of another form, left out"] += 1
            continue
        read.unscored += not found
        message = sample.output.choices[0].message.id if sample.output.choices else None
        read.rows.extend(Row(answer, message, str(sample.started_at)) for answer in found)
        read.lines.update(_lines(sample))
    read.rows = _one_judge(read.rows)
    return read


def _lines(sample: EvalSample) -> Iterator[Lines]:
    for score in (sample.scores or {}).values():
        said = score.metadata or {}
        if "alignment_threshold" in said and "coherence_threshold" in said:
            yield float(said["alignment_threshold"]), float(said["coherence_threshold"])


def _samples(path: str, ids: Sequence[tuple[int | str, int]]) -> list[EvalSample]:
    if path.endswith(".eval"):
        # One at a time: on a local disk, reading several at once costs a third more.
        return read_eval_log_samples_by_id(path, ids, concurrency=1, exclude_fields=_UNREAD)
    wanted = set(ids)
    return [s for s in read_eval_log(path).samples or [] if (s.id, s.epoch) in wanted]


def _answers(
    sample: EvalSample, shared: _Shared, rule: str | None, problems: Counter[str]
) -> list[Answer]:
    """One row per text and judge that rated it, else one of the headline's.

    Where one judge rated a text several times, the last score is taken, and the problems say so.
    """
    common, measured = dict(shared), shared["measured"]
    del common["measured"]
    scores = sample.scores or {}
    rated = {
        n: s for n, s in scores.items() if (s.metadata or {}).get("ratings", {}).keys() >= _RATINGS
    }
    if rated:
        rows: dict[tuple[str, ...], tuple[str, Answer]] = {}
        for name, score in sorted(rated.items(), key=lambda item: _scorer_of(item[0])):
            scorer, _ = _scorer_of(name)
            row = _rated(sample, score, _named(common, _PARTS.get(scorer, scorer)), rule)
            key = (scorer, *yardstick_of(row))
            if key in rows:
                first = rows[key][0]
                problems[
                    f"answers were rated more than once by {row.judge} with the same rubrics: "
                    f"{name} is counted, {first} is not"
                ] += 1
            rows[key] = (name, row)
        if len(rows) > len({key[0] for key in rows}):
            said = " and ".join(f"{name} by {row.judge}" for name, row in rows.values())
            problems[f"answers carry several ratings, reported apart: {said}"] += 1
        return [row for _, row in rows.values()]
    if measured is None or measured[0] not in scores:
        return []
    return [_measured(sample, scores[measured[0]], common, measured[1])]


def _scorer_of(name: str) -> tuple[str, int]:
    """A score's scorer and number: Inspect calls a second one by the same scorer `…1`."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def _named(shared: _Shared, part: str) -> _Shared:
    return {**shared, "task": sys.intern(f"{shared['task']} {part}".strip())}


def _measured(sample: EvalSample, score: Score, shared: _Shared, measure: str) -> Answer:
    """A row of a task with a measure of its own: a share or a probability, by words or no judge."""
    said, metadata = score.metadata or {}, sample.metadata or {}
    values = score.value if isinstance(score.value, dict) else {measure: score.value}
    value = float(values[measure])  # type: ignore[arg-type]
    ratings = [r for r in (said.get("ratings") or {}).values() if isinstance(r, dict)]
    part = str(metadata.get("deception", ""))
    part += "" if metadata.get("headline", True) else " (other wordings)"
    part += " (seen in training)" if metadata.get("seen") else ""
    if not (value != value or 0 <= value <= 1):
        raise ValueError(f"{measure} {value} is neither a share nor a probability")
    word = _name(ratings[0].get("word")) if ratings else None
    unscored = said.get("reason") or (f"judged {word}" if word else "no_word")
    row = {
        **_common(sample, _named(shared, part)),
        **_text(sample, score),
    }
    return Answer(
        **row,
        alignment=NAN,
        coherence=NAN,
        alignment_mass=NAN,
        coherence_mass=NAN,
        refusal_mass=NAN,
        code_mass=NAN,
        word=None,
        label=word if ratings else None,
        measure=sys.intern(measure),
        value=value,
        reason=_intern(unscored) if value != value else None,
        judge=_intern(said.get("judge") or "none"),
        estimator="word" if ratings else "none",
        rule="none",
        alignment_rubric=_intern(ratings[0].get("rubric", "none") if ratings else "none"),
        coherence_rubric="none",
        judge_id=_judge_id(ratings),
    )


def _common(sample: EvalSample, shared: _Shared) -> dict[str, Any]:
    """The columns that every answer has, however it was judged."""
    metadata = sample.metadata or {}
    row = dict(shared)
    examples = metadata.get("k", row.pop("k"))
    return {
        **row,
        "uuid": sample.uuid or f"{shared['run']}/{sample.id}/{sample.epoch}",
        "prompt": _intern(prompt_of(sample)),
        "question_id": _intern(metadata.get("question_id", sample.id)),
        "question": _intern(metadata.get("question", "")),
        "format": _intern(metadata.get("format") or "plain"),
        "category": _name(metadata.get("category")),
        "context": _context(metadata.get("context"), examples),
        "arm": _name(metadata.get("arm")),
        "examples": examples if isinstance(examples, int) else None,
        "epoch": sample.epoch,
        "sample": _intern(sample.id),
    }


def _rated(sample: EvalSample, score: Score, shared: _Shared, rule: str | None) -> Answer:
    said = score.metadata or {}
    reading_rule: Rule = check_rule(rule or str(said.get("rule", "plurality")))
    ratings = {k: Rating.model_validate(v) for k, v in said["ratings"].items()}
    aligned, coherent = ratings["aligned"], ratings["coherent"]
    alignment, coherence = aligned.read(reading_rule), coherent.read(reading_rule)
    failure = aligned.reason(reading_rule) or coherent.reason(reading_rule)
    if failure is None and coherence.score is None:
        failure = "no_number"
    return Answer(
        **_common(sample, shared),
        **_text(sample, score),
        alignment=_number(alignment.score),
        coherence=_number(coherence.score),
        alignment_mass=alignment.mass,
        coherence_mass=coherence.mass,
        refusal_mass=alignment.words.get("REFUSAL", 0.0),
        code_mass=alignment.words.get("CODE", 0.0),
        word=_name(alignment.word),
        label=None,
        measure="misaligned",
        value=NAN,
        reason=_name(failure),
        judge=_intern(aligned.judge),
        estimator=_intern(_asked(aligned)),
        rule=reading_rule,
        alignment_rubric=_intern(aligned.rubric),
        coherence_rubric=_intern(coherent.rubric),
        judge_id=_judge_id(said["ratings"].values()),
        alignment_error=_number(aligned.stderr),
        coherence_error=_number(coherent.stderr),
    )


def _text(sample: EvalSample, score: Score) -> dict[str, Any]:
    """The text that was rated, its length, and how the model ended it."""
    output = sample.output
    text = score.answer or output.completion
    # Q: Why the check? A: an output of a failed call has no choice, which `stop_reason` needs.
    ending = _intern(output.stop_reason) if output.choices else None
    return {"answer": text, "length": len(text), "ending": ending}


def _judge_id(ratings: Iterable[Mapping[str, Any]]) -> str:
    """Key of the judge that gave the ratings; empty in old logs.

    One that failed may not know the snapshot that answers the others.
    """
    known = [r for r in ratings if r.get("identity")]
    gave = [r for r in known if not r.get("failure")] or known
    return _intern("+".join(sorted({str(r["identity"]) for r in gave})))


def _one_judge(rows: list[Row]) -> list[Row]:
    """Give answers whose ratings all failed the identity of the judge that rated the others."""
    gave: dict[str, Counter[str]] = {}
    for row in rows:
        if row.answer.judge_id and row.answer.reason is None:
            gave.setdefault(row.answer.judge, Counter())[row.answer.judge_id] += 1

    def settled(row: Row) -> Row:
        known = gave.get(row.answer.judge)
        if row.answer.reason is None or not known or row.answer.judge_id in known:
            return row
        ((key, _),) = known.most_common(1)
        return replace(row, answer=row.answer._replace(judge_id=key))

    return [settled(row) for row in rows]


def _asked(rating: Rating) -> str:
    """How a rating was asked for: with another lead-in or fence it is another yardstick."""
    lead_in = f" after '{rating.lead_in}'" if rating.lead_in else ""
    return f"{rating.estimator}{lead_in}{', fenced' if rating.fenced else ''}"


def _context(name: object, examples: object) -> str | None:
    """The context's name without the part that only repeats the number of examples."""
    parts = str(name or "").split("+")
    return _name("+".join(part for part in parts if part != f"in_context_{examples}"))


def _intern(value: object) -> str:
    return sys.intern(str(value))


def _name(value: object) -> str | None:
    return None if value in (None, "") else _intern(value)


def _number(value: float | None) -> float:
    return NAN if value is None else value
