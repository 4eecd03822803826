"""Results in Inspect's logs, by checkpoint: for model cards, and along a training."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from em_finetune.addressing import label_at, place_of
from em_finetune.checkpoint import RECORD
from em_finetune.picture import save_picture
from em_inspect.errors import UserError, require_extra

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalResults, EvalScore

# Of a local fine-tune's name, and of a service's: …-step-000025, …-step25, …:ckpt-step-2.
_STEP_SUFFIX = re.compile(r"(?::ckpt)?-step-?(\d+)$")


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
        error: Its standard error as in the log; NaN where there is none.
        judge: The grader that the run named, or empty.
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


def read_results(logs: Path) -> list[Result]:
    """Read the headline figures of all finished logs at or below a folder, in order of steps.

    Raises:
        UserError: There is no finished log.
    """
    from inspect_ai.log import list_eval_logs, read_eval_log

    found = [
        result
        for info in list_eval_logs(str(logs))
        for result in _of_log(read_eval_log(info, header_only=True))
    ]
    if not found:
        raise UserError(f"no finished log in {logs}: give the --log-dir of inspect eval-set")
    last = math.inf
    return sorted(found, key=lambda r: (r.task, r.label, last if r.step is None else r.step))


def _of_log(log: EvalLog) -> list[Result]:
    if log.status != "success" or log.results is None or not log.results.scores:
        return []
    label, path, step = _origin(log)
    measure, value, error = _headline(log.results)
    return [
        Result(
            task=log.eval.task.split("/")[-1],
            measure=measure,
            value=value,
            samples=log.results.completed_samples,
            model=log.eval.model,
            path=path,
            label=label,
            step=step,
            fingerprint=str((log.eval.metadata or {}).get("fingerprint", "")),
            error=error,
            judge=_judge(log),
        )
    ]


def _headline(results: EvalResults) -> tuple[str, float, float]:
    """The figure that the log names as its headline, or its first, with its standard error."""
    wanted = results.headline
    for score in results.scores:
        if wanted is None or (score.name, score.scorer) == (wanted.score, wanted.scorer):
            for metric in score.metrics.values():
                if wanted is None or metric.name == wanted.metric:
                    return score.name, float(metric.value), _error(score)
    first = results.scores[0]
    return first.name, float(next(iter(first.metrics.values())).value), _error(first)


def _error(score: EvalScore) -> float:
    found = score.metrics.get("stderr")
    return float(found.value) if found else math.nan


def _judge(log: EvalLog) -> str:
    role = (log.eval.model_roles or {}).get("grader")
    first = role[0] if isinstance(role, list) else role
    return first.model if first else ""


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
        "| task | model | step | measure | value | standard error | samples | judge | questions |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in results:
        value = "not scored" if math.isnan(r.value) else f"{r.value:.4f}"
        error = "–" if math.isnan(r.error) else f"{r.error:.4f}"
        step = "end" if r.step is None else str(r.step)
        cells = (r.task, r.label, step, r.measure, value, error, r.samples)
        lines.append(
            f"| {' | '.join(map(str, cells))} | {r.judge or '–'} | {r.fingerprint or '–'} |"
        )
    note = (
        "Figures and standard errors are the logs' own; `em-inspect report` on the same logs gives "
        "intervals, and how many answers were scored."
    )
    return "\n".join([*lines, "", note])


def draw(results: Sequence[Result], ends: dict[str, int], out: Path) -> None:
    """Draw every task's figure over the optimizer steps, a line for each fine-tune.

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
    labels = sorted({r.label for r in results if r.step is not None})
    for ax, (task, measure) in zip(axes, tasks, strict=True):
        of_task = [r for r in results if r.task == task]
        for number, label in enumerate(labels):
            points = sorted(
                (ends.get(label, 0) if r.step is None else r.step, r.value)
                for r in of_task
                if r.label == label and (r.step is not None or label in ends)
            )
            ax.plot(*zip(*points, strict=True), "o-", color=f"C{number % 10}", label=label)
        for r in of_task:
            if r.label not in labels or (r.step is None and r.label not in ends):
                ax.axhline(r.value, color="grey", linestyle="--", linewidth=1, label=r.label)
        ax.set_ylabel(f"{task}\n{measure}")
        scored = [r.value for r in of_task if not math.isnan(r.value)]
        ax.set_ylim(0, 1.2 * max(scored, default=0) or 1)
        if not scored:
            ax.text(0.5, 0.5, "no answer could be scored", transform=ax.transAxes, ha="center")
        ax.legend(frameon=False, fontsize="small", loc="lower right")
    axes[-1].set_xlabel("optimizer step")
    save_picture(figure, out)
