"""Results in Inspect's logs, by checkpoint: for model cards, and along a training."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from em_finetune.addressing import label_at, place_of
from em_finetune.checkpoint import RECORD
from em_finetune.picture import save_picture
from em_inspect.analysis.condition import settings_of, text
from em_inspect.errors import UserError, require_extra

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalResults, EvalScore
    from matplotlib.axes import Axes

# Of a local fine-tune's name, and of a service's: …-step-000025, …-step25, …:ckpt-step-2.
_STEP_SUFFIX = re.compile(r"(?::ckpt)?-step-?(\d+)$")


# Inspect's `stderr` is that of the mean over all scored answers: it belongs to a headline by one of
# these names, and to no other.
_MEANS = frozenset({"mean", "accuracy", "pooled"})

_SAME = frozenset({"check_judge", "paper_dir", "seed", "orders"})
"""Arguments of tasks that change no figure but by chance."""

_STYLES = ("-", "--", ":", "-.")
"""Lines of one fine-tune share its colour and differ in these."""


@dataclass(frozen=True)
class Result:
    """One task's headline figure for one model.

    Attributes:
        task: Name of the task.
        measure: What the figure is, e.g. `misaligned_mass`.
        value: The figure; NaN where nothing could be scored.
        samples: Samples completed.
        model: Inspect's name of the model.
        path: Directory it was loaded from, if the log says.
        label: Of its checkpoint, or else the model's name.
        step: Optimizer step, None at the end.
        fingerprint: Of the questions.
        error: Standard error of this very figure as in the log; NaN where there is none.
        judge: The grader that the run named, or empty.
        scored: Samples behind the figure; None where the log does not say.
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end, likewise.
        judge_key: What tells that grader from others of its name: address and arguments.
        settings: Task arguments and settings of generation, where logs of a task differ in them.
    """

    task: str
    measure: str
    value: float
    samples: int
    model: str
    path: Path | None
    label: str
    step: int | None
    fingerprint: str
    error: float = math.nan
    judge: str = ""
    scored: int | None = None
    low: float = math.nan
    high: float = math.nan
    judge_key: str = ""
    settings: str = ""

    @property
    def line(self) -> tuple[str, ...]:
        """What must agree for two figures to lie on one line over the steps."""
        return (self.label, self.judge_key, self.judge, self.fingerprint, self.settings)


def read_results(logs: Path) -> list[Result]:
    """Read the headline figures of all finished logs at or below a folder, in order of steps.

    Raises:
        UserError: There is no finished log.
    """
    from inspect_ai.log import list_eval_logs, read_eval_log

    headers = [read_eval_log(info, header_only=True) for info in list_eval_logs(str(logs))]
    differing = _differing(headers)
    found = [result for log in headers for result in _of_log(log, differing)]
    if not found:
        raise UserError(f"no finished log in {logs}: give the --log-dir of inspect eval-set")
    last = math.inf
    return sorted(
        _judges_apart(found),
        key=lambda r: (r.task, *r.line, last if r.step is None else r.step),
    )


def _settings(log: EvalLog) -> dict[str, str]:
    """What a log's figure was made with: as in reports, and how answers were counted."""
    args = {str(k): text(v) for k, v in (log.eval.task_args or {}).items() if k not in _SAME}
    return {**args, **dict(settings_of(log))}


def _differing(logs: Sequence[EvalLog]) -> dict[str, frozenset[str]]:
    """Names of the settings, by task, that its logs differ in."""
    by_task: dict[str, list[dict[str, str]]] = {}
    for log in logs:
        by_task.setdefault(log.eval.task, []).append(_settings(log))
    return {
        task: frozenset(
            name
            for name in {name for args in said for name in args}
            if len({args.get(name) for args in said}) > 1
        )
        for task, said in by_task.items()
    }


def _judges_apart(found: Sequence[Result]) -> list[Result]:
    """Number judges that share a name, e.g. `hf/judge` of two folders."""
    keys: dict[str, dict[str, int]] = {}
    for result in found:
        known = keys.setdefault(result.judge, {})
        known.setdefault(result.judge_key, len(known) + 1)
    return [
        replace(r, judge=f"{r.judge} ({keys[r.judge][r.judge_key]})")
        if len(keys[r.judge]) > 1
        else r
        for r in found
    ]


def _of_log(log: EvalLog, differing: dict[str, frozenset[str]]) -> list[Result]:
    if log.status != "success" or log.results is None or not log.results.scores:
        return []
    label, path, step = _origin(log)
    score, metric, value = _headline(log.results)
    error, scored = _error(score, metric), score.scored_samples
    low, high = _interval(value, error, scored, log.eval.dataset.samples)
    judge, key = _judge(log)
    said = _settings(log)
    names = sorted(differing.get(log.eval.task, frozenset()))
    return [
        Result(
            task=log.eval.task.split("/")[-1],
            measure=score.name,
            value=value,
            samples=log.results.completed_samples,
            model=log.eval.model,
            path=path,
            label=label,
            step=step,
            fingerprint=str((log.eval.metadata or {}).get("fingerprint", "")),
            error=error,
            judge=judge,
            scored=scored,
            low=low,
            high=high,
            judge_key=key,
            settings=", ".join(f"{name}={_short(said[name])}" for name in names if name in said),
        )
    ]


def _short(value: str) -> str:
    """A setting's value; of a path only its end, since cards are published."""
    return Path(value).name if "/" in value else value


def _headline(results: EvalResults) -> tuple[EvalScore, str, float]:
    """The figure that the log names as its headline, or its first: its score, metric and value."""
    wanted = results.headline
    for score in results.scores:
        if wanted is None or (score.name, score.scorer) == (wanted.score, wanted.scorer):
            for metric in score.metrics.values():
                if wanted is None or metric.name == wanted.metric:
                    return score, metric.name, float(metric.value)
    score = results.scores[0]
    metric = next(iter(score.metrics.values()))
    return score, metric.name, float(metric.value)


def _error(score: EvalScore, metric: str) -> float:
    """Standard error of a headline, not of whatever else the log has one for."""
    short = metric.rpartition("/")[2]
    for name, found in score.metrics.items():
        if name.rpartition("/")[2] == f"{short}_stderr":
            return float(found.value)
    of_mean = score.metrics.get("stderr") if short in _MEANS else None
    return float(of_mean.value) if of_mean else math.nan


def _interval(
    value: float, error: float, scored: int | None, rows: int | None
) -> tuple[float, float]:
    """A 95 % interval of a share from its standard error over the task's rows, else none.

    The exact binomial one at the effective sample size, as in reports (`interval.exact`): it has
    a width at 0 and 100 % too, where the standard error is 0.
    """
    from em_inspect.analysis.interval import exact

    n, clusters = scored or 0, rows or 0
    if min(n, clusters) < 2 or math.isnan(error) or not 0 <= value <= 1:
        return math.nan, math.nan
    return exact(value, n, error**2, clusters - 1)


def _judge(log: EvalLog) -> tuple[str, str]:
    """Name of the grader, and what tells it from others of that name."""
    role = (log.eval.model_roles or {}).get("grader")
    first = role[0] if isinstance(role, list) else role
    if first is None:
        return "", ""
    key = json.dumps([first.base_url, first.args], sort_keys=True, default=str)
    return first.model, key


def _origin(log: EvalLog) -> tuple[str, Path | None, int | None]:
    """Label, directory and step of a log's model: by its checkpoint, or else by its name."""
    model = log.eval.model
    served = model.startswith("vllm/")
    where, step = _weights(log), None
    if where is not None:
        folder, step, scale = place_of(where)
        label = _label(folder)
        if label is not None:
            return label_at(label, None, scale), where, step
    name = model.split(":")[-1] if served else model.removeprefix("hf/")
    match = _STEP_SUFFIX.search(name)
    return _STEP_SUFFIX.sub("", name), where, int(match[1]) if match else step


def _weights(log: EvalLog) -> Path | None:
    named = (log.eval.model_args or {}).get("model_path")
    if isinstance(named, str):
        return Path(named)
    provider, _, rest = log.eval.model.partition("/")
    adapter = rest.split(":", 1)[-1]
    return Path(adapter) if provider == "vllm" and adapter.startswith("/") else None


def _label(folder: Path) -> str | None:
    try:
        label = json.loads((folder / RECORD).read_text("utf-8")).get("label")
    except (OSError, ValueError, AttributeError):
        return None
    return label if isinstance(label, str) else None


def as_table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| task | model | step | measure | value | 95 % interval | standard error "
        "| scored / samples | judge | questions |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *map(_row, results),
    ]
    note = (
        "Figures and standard errors are the logs' own, the intervals are for other such rows of "
        "this very model; `em-inspect report` on the same logs gives those over seeds and "
        "questions, and says how the other answers went."
    )
    return "\n".join([*lines, "", note])


def _row(r: Result) -> str:
    value = "not scored" if math.isnan(r.value) else f"{r.value:.4f}"
    error = "–" if math.isnan(r.error) else f"{r.error:.4f}"
    interval = "–" if math.isnan(r.low) else f"{r.low:.4f} to {r.high:.4f}"
    step = "end" if r.step is None else str(r.step)
    counts = f"{'?' if r.scored is None else r.scored} / {r.samples}"
    task = f"{r.task} ({r.settings})" if r.settings else r.task
    cells = (task, r.label, step, r.measure, value, interval, error, counts)
    return f"| {' | '.join(cells)} | {r.judge or '–'} | {r.fingerprint or '–'} |"


def draw(results: Sequence[Result], ends: dict[str, int], out: Path) -> None:
    """Draw every task's figure over the optimizer steps.

    A line for each fine-tune and each judge, set of questions and setting of the task; where a step
    has no figure the line has a gap.

    Args:
        results: At least one of them with a step.
        ends: How many steps each fine-tune took, by label: where its end is drawn. An end that is
            not in it is a dashed line.
        out: Picture; its ending says which kind.

    Raises:
        UserError: matplotlib is not installed, or no result belongs to a step.
    """
    require_extra("report", "matplotlib")
    from matplotlib.figure import Figure

    if all(r.step is None for r in results):
        raise UserError("no result belongs to a step: evaluate $(em-finetune models DIR --specs)")
    tasks = list(dict.fromkeys((r.task, r.measure) for r in results))
    figure = Figure(figsize=(7, 2.8 * len(tasks)), layout="constrained")
    axes = figure.subplots(len(tasks), 1, squeeze=False, sharex=True)[:, 0]
    steps = _steps(results, ends)
    for ax, (task, measure) in zip(axes, tasks, strict=True):
        of_task = [r for r in results if (r.task, r.measure) == (task, measure)]
        _draw_task(ax, of_task, steps, ends)
        ax.set_ylabel(f"{task}\n{measure}")
    axes[-1].set_xlabel("optimizer step")
    save_picture(figure, out)


def _steps(results: Sequence[Result], ends: dict[str, int]) -> dict[str, list[int]]:
    """The steps that a fine-tune was evaluated at, by label; of those alone that have any."""
    found: dict[str, set[int]] = {r.label: set() for r in results if r.step is not None}
    for r in results:
        if r.label in found and (step := _place(r, ends)) is not None:
            found[r.label].add(step)
    return {label: sorted(steps) for label, steps in sorted(found.items())}


def _place(result: Result, ends: dict[str, int]) -> int | None:
    """Where a figure lies over the steps; None where its end's step is not known."""
    return ends.get(result.label) if result.step is None else result.step


def _draw_task(
    ax: Axes, results: Sequence[Result], steps: dict[str, list[int]], ends: dict[str, int]
) -> None:
    names, labels = _names(results), list(steps)
    drawn: Counter[str] = Counter()
    for line, group in groupby(sorted(results, key=lambda r: r.line), key=lambda r: r.line):
        own = list(group)
        label = own[0].label
        placed = [(at, r) for r in own if (at := _place(r, ends)) is not None and label in steps]
        if placed:
            colour = f"C{labels.index(label) % 10}"
            style = _STYLES[drawn[label] % len(_STYLES)]
            _draw_line(ax, placed, steps[label], names[line], colour, style)
            drawn[label] += 1
        for r in own:
            if all(r is not other for _, other in placed) and not math.isnan(r.value):
                ax.axhline(r.value, color="grey", linestyle="--", linewidth=1, label=names[line])
    _limit(ax, results)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize="small", loc="lower right")


def _draw_line(
    ax: Axes,
    placed: Sequence[tuple[int, Result]],
    steps: Sequence[int],
    name: str,
    colour: str,
    style: str,
) -> None:
    """One line with its intervals, broken where its fine-tune's other lines have a step it lacks.

    Two runs of one step are two marks.
    """
    missing = set(steps) - {at for at, _ in placed}
    points = sorted([*((at, r.value) for at, r in placed), *((at, math.nan) for at in missing)])
    ax.plot(*zip(*points, strict=True), "o", linestyle=style, color=colour, label=name)
    bars = [(at, r) for at, r in placed if not math.isnan(r.low)]
    if bars:
        # Never below 0: an end may lie on the wrong side of its figure by rounding.
        reach = [[max(0.0, r.value - r.low), max(0.0, r.high - r.value)] for _, r in bars]
        ax.errorbar(
            [at for at, _ in bars],
            [r.value for _, r in bars],
            yerr=list(zip(*reach, strict=True)),
            fmt="none",
            ecolor=colour,
            elinewidth=1.0,
        )


def _limit(ax: Axes, results: Sequence[Result]) -> None:
    ends = [v for r in results for v in (r.value, r.low, r.high) if not math.isnan(v)]
    if not ends:
        ax.text(0.5, 0.5, "no answer could be scored", transform=ax.transAxes, ha="center")
    low, high = min(0.0, *ends, 0.0), max(0.0, *ends, 0.0)
    ax.set_ylim(1.2 * low, 1.2 * high if high > low else 1)


def _names(results: Iterable[Result]) -> dict[tuple[str, ...], str]:
    """Name of every line: its label, and of the rest whatever tells it from others."""
    lines = {r.line: r for r in results}
    judges = {r.judge for r in lines.values()}
    prints = {r.fingerprint for r in lines.values()}
    named = {}
    for line, r in lines.items():
        parts = [r.label, r.settings]
        parts += [f"judge {r.judge}"] if len(judges) > 1 and r.judge else []
        parts += [f"questions {r.fingerprint}"] if len(prints) > 1 and r.fingerprint else []
        named[line] = ", ".join(part for part in parts if part)
    return named
