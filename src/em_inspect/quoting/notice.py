"""The notice: a run's quote, printed when the run starts."""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass

from inspect_ai import Task
from inspect_ai.hooks import Hooks, TaskStart, hooks
from inspect_ai.log import EvalSpec
from inspect_ai.util import display_type

from em_inspect.judging.judge import GRADER_ROLE, Judge
from em_inspect.quoting.quote import Quote, line, quote

REMEMBERED = 64


@dataclass(frozen=True)
class _Announced:
    task: Task
    estimator: str
    judge: str | None


# Q: Why not in the log's metadata? A: a quote is for whoever starts a run, not for its readers.
_announced: deque[_Announced] = deque(maxlen=REMEMBERED)


def announce(task: Task, judge: Judge | None = None, estimator: str = "auto") -> Task:
    """Have the quote of a task printed when a run of it starts, and return the task.

    Args:
        task: The task, with the calls per answer in its metadata.
        judge: The judge that was tested.
        estimator: How the task was told to read a judge that was not tested.
    """
    _listen()
    read = judge.estimator if judge else estimator
    _announced.append(_Announced(task, read, str(judge.model) if judge else None))
    return task


@functools.cache
def _listen() -> None:
    """Register for the starts of runs, once, and only where a task of ours was made.

    Q: Why not in `_registry`? A: Inspect greets every run of any task with a list of the hooks that
    are registered when it starts; one that comes with its task disturbs nobody else's.
    """

    @hooks(name="quote", description="says what a run will ask for when it starts")
    class _Notice(Hooks):
        async def on_task_start(self, data: TaskStart) -> None:
            if display_type() != "none":
                said = notice(data.spec)
                if said:
                    print(said)  # Inspect's displays catch what is printed, and only that


def notice(spec: EvalSpec) -> str | None:
    """Say what a run will ask for, or None where its task was not announced.

    Args:
        spec: The run, with its epochs and with the rows that a limit leaves.
    """
    found = quoted(spec)
    return line(found, {}) if found else None


def quoted(spec: EvalSpec) -> Quote | None:
    """Return the quote of a run, or None where its task was not announced."""
    ids = set(spec.dataset.sample_ids or ())
    for one in reversed(_announced):
        rows = [row for row in one.task.dataset if row.id in ids]
        if one.task.dataset.name == spec.dataset.name and len(rows) == len(ids) > 0:
            return quote(
                one.task,
                rows=rows,
                epochs=spec.config.epochs or one.task.epochs,
                model=spec.model,
                judge=one.judge or _grader(spec),
                estimator=one.estimator,
            )
    return None


def _grader(spec: EvalSpec) -> str | None:
    role = (spec.model_roles or {}).get(GRADER_ROLE)
    first = role[0] if isinstance(role, list) else role
    return first.model if first else None
