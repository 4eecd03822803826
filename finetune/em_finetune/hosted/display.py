"""How jobs look on the console: a table, bars or lines as they go on, and what is to be said."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from em_finetune.hosted.hosted_checkpoint import read_hosted_checkpoint
from em_finetune.hosted.refusals import Context, cancelled, failure, waiting
from em_finetune.hosted.state import JobRecord

Show = Callable[[Sequence[JobRecord]], None]
QUEUE_MINUTES = 20.0
"""Jobs that wait longer get a word of explanation."""
_WIDE = 300
"""Columns where there is no terminal, so that lines stay whole for other programs."""


def table(records: Sequence[JobRecord]) -> None:
    """Print one line for each job."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False)
    for column in ("fine-tune", "service", "job", "status", "step", "loss", "end", "model"):
        grid.add_column(column, overflow="fold")
    for record in records:
        final = next((m.model for m in record.models if m.step is None), "")
        cells = (
            record.label,
            record.service,
            record.job_id or "-",
            record.status,
            steps(record),
            loss(record),
            end(record),
            final,
        )
        # As plain text: a service's words are no markup.
        grid.add_row(*map(Text, cells))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(grid)


def steps(record: JobRecord) -> str:
    """Progress in optimizer steps, e.g. `120/1500`."""
    if not record.losses:
        return "-"
    return f"{max(record.losses)}/{record.steps or '?'}"


def loss(record: JobRecord) -> str:
    """The newest training loss."""
    return f"{record.losses[max(record.losses)]:.3f}" if record.losses else "-"


def end(record: JobRecord, now: float | None = None) -> str:
    """The estimated end, by the service, or else by the steps so far, marked with ~."""
    now = time.time() if now is None else now
    if record.status not in ("running", "queued", "validating_files"):
        return "-"
    if record.finish:
        return _clock(record.finish)
    done = max(record.losses, default=0)
    if record.status != "running" or not record.steps or not done or record.created is None:
        return "-"
    return "~" + _clock(now + (now - record.created) / done * (record.steps - done))


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


@contextmanager
def following() -> Iterator[Show]:
    """Show jobs as they go on: bars on a terminal, elsewhere a line for each change."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as show:
            yield show
    else:
        yield _lines()


@contextmanager
def _bars(console: Any) -> Iterator[Show]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}

        def show(records: Sequence[JobRecord]) -> None:
            for record in records:
                if record.label not in tasks:
                    tasks[record.label] = progress.add_task(record.label, figures="", total=None)
                figures = f"{record.status}  loss {loss(record)}  end {end(record)}"
                progress.update(
                    tasks[record.label],
                    total=record.steps,
                    completed=max(record.losses, default=0),
                    figures=figures,
                )

        yield show


def _lines() -> Show:
    shown: dict[str, str] = {}

    def show(records: Sequence[JobRecord]) -> None:
        for record in records:
            line = (
                f"{record.label}  {record.status}  step {steps(record)}  loss {loss(record)}  "
                f"end {end(record)}"
            )
            if shown.get(record.label) != line:
                shown[record.label] = line
                click.echo(line, err=True)

    return show


def queued_minutes(record: JobRecord) -> float | None:
    """How long a job has been waiting to begin, in minutes; None if that is not worth a word."""
    if record.status not in ("validating_files", "queued") or record.created is None:
        return None
    minutes = (time.time() - record.created) / 60
    return minutes if minutes >= QUEUE_MINUTES else None


def tell_waiting(records: Sequence[JobRecord]) -> None:
    """Explain jobs that have been in the queue for long."""
    for record in records:
        minutes = queued_minutes(record)
        if minutes is not None:
            context = Context(record.service, record.endpoint, record.recipe)
            click.echo(waiting(record.label, minutes, context), err=True)


def tell_ended(records: Sequence[JobRecord]) -> None:
    """Explain jobs that ended without a model, or were never created."""
    for record in records:
        context = Context(record.service, record.endpoint, record.recipe)
        if record.status == "failed":
            why = failure(record.error_code, record.error, context)
            click.echo(f"{record.label} failed. {why}", err=True)
        elif record.status == "cancelled":
            click.echo(cancelled(record.label, context), err=True)
        elif record.job_id is None:
            click.echo(
                f"{record.label} was begun but has no job yet: run the same em-finetune hosted "
                "line again, it goes on where it stopped",
                err=True,
            )


def tell_models(records: Sequence[JobRecord], out: Path) -> None:
    """Say how the models of jobs that succeeded are evaluated, and each base once."""
    bases: set[str] = set()
    for record in records:
        if record.status == "succeeded":
            checkpoint = read_hosted_checkpoint(out / record.label)
            click.echo(f"checkpoint: {out / record.label}, {len(checkpoint.models)} model(s)")
            for line in checkpoint.before_use:
                click.echo(f"first: {line}")
            click.echo(f"evaluate it: {checkpoint.command}")
            if checkpoint.base_command and checkpoint.base.name not in bases:
                bases.add(checkpoint.base.name)
                click.echo(f"and its base, to compare: {checkpoint.base_command}")
