"""How a training looks as it goes on: a bar or plain lines, and what trackers are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from em_finetune.recipe import Recipe
from em_finetune.trackers import Report, tracked

if TYPE_CHECKING:
    from em_finetune.local.steps import Step

OnStep = Callable[["Step"], None]
OnStage = Callable[[str], None]


@contextmanager
def following(trackers: Sequence[str]) -> Iterator[tuple[Report, OnStage]]:
    """Show training and report it to trackers."""
    with _shown() as (show, on_stage), tracked(trackers, on_stage) as report:

        def on_step(recipe: Recipe, step: Step) -> None:
            show(step)
            report(recipe, step)

        yield on_step, on_stage


@contextmanager
def _shown() -> Iterator[tuple[OnStep, OnStage]]:
    """Show training: a bar on a terminal, elsewhere plain lines, at most one in five seconds."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with _bar(console) as shown:
            yield shown
    else:
        yield _plain_lines()


@contextmanager
def _bar(console: Any) -> Iterator[tuple[OnStep, OnStage]]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task: Any = None
        pace = _Pace()

        def on_stage(stage: str) -> None:
            progress.console.print(stage, style="dim", markup=False, highlight=False)

        def on_step(step: Step) -> None:
            nonlocal task
            if pace.add(step):
                task = progress.add_task("step", total=step.steps, figures="")
            figures = f"loss {step.loss:.3f}  {pace.speed:.0f} tokens/s"
            progress.update(task, completed=step.step, figures=figures)

        yield on_step, on_stage


def _plain_lines() -> tuple[OnStep, OnStage]:
    from time import monotonic

    pace = _Pace()
    shown = -5.0

    def on_stage(stage: str) -> None:
        click.echo(stage, err=True)

    def on_step(step: Step) -> None:
        nonlocal shown
        pace.add(step)
        if step.step < step.steps and monotonic() - shown < 5:
            return
        shown = monotonic()
        left = pace.seconds / pace.taken * (step.steps - step.step)
        click.echo(
            f"step {step.step}/{step.steps}  loss {step.loss:.3f}  "
            f"{pace.speed:.0f} tokens/s  {left:.0f} s left",
            err=True,
        )

    return on_step, on_stage


def counting(what: str, total: int) -> Callable[[int], None]:
    """Return a function that says how far work is, once it takes longer than two seconds.

    Args:
        what: What is done, e.g. `encoding rows`.
        total: How many things it is done to.

    Returns:
        To be called with the number of things done; it writes to standard error, at most one line
        in five seconds.
    """
    from time import monotonic

    due = monotonic() + 2

    def on_done(done: int) -> None:
        nonlocal due
        if monotonic() >= due:
            due = monotonic() + 5
            click.echo(f"{what}: {done:,} of {total:,}", err=True)

    return on_done


class _Pace:
    """How fast a run goes, from the steps taken in this process."""

    def __init__(self) -> None:
        self.last = self.taken = self.tokens = 0
        self.seconds = 0.0

    def add(self, step: Step) -> bool:
        """Count a step; returns whether a run begins with it."""
        begins = self.taken == 0 or step.step <= self.last
        if begins:
            self.taken, self.tokens, self.seconds = 0, 0, 0.0
        self.last, self.taken = step.step, self.taken + 1
        self.tokens, self.seconds = self.tokens + step.tokens, self.seconds + step.seconds
        return begins

    @property
    def speed(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds
