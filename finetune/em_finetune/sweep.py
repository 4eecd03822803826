"""Sweeps: one recipe over seeds and groups, resumable, failures gathered at the end."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from em_finetune.checkpoint import Checkpoint, label_of
from em_finetune.data.rules import LOOK
from em_finetune.recipe import GROUP, Recipe, of_group
from em_inspect.errors import UserError, one_line
from em_inspect.pages import checked

if TYPE_CHECKING:
    from em_finetune.local.steps import Step


@dataclass(frozen=True)
class Cell:
    """One fine-tune of a sweep.

    Attributes:
        recipe: With the cell's group, seed and data.
        out: Its checkpoint directory.
    """

    recipe: Recipe
    out: Path

    @property
    def label(self) -> str:
        """Name of the checkpoint in Inspect."""
        return label_of(self.recipe)


@dataclass(frozen=True)
class Ended:
    """How a cell ended.

    Attributes:
        cell: Which one.
        checkpoint: What it made, None where it failed.
        failure: Why it failed, in one line.
        mistake: Whether it would fail in the same way again until the user mends something.
    """

    cell: Cell
    checkpoint: Checkpoint | None = None
    failure: str | None = None
    mistake: bool = False


def parse_groups(text: str) -> list[str]:
    """Read the names of groups, with commas between them.

    Raises:
        UserError: There is none, or one is empty.
    """
    groups = [group.strip() for group in text.split(",")]
    if not all(groups):
        raise UserError(f"--groups {text!r}: use names with commas, e.g. insecure,secure")
    return list(dict.fromkeys(groups))


def cells(
    recipe: Recipe, seeds: Sequence[int] | None, groups: Sequence[str] | None, folder: Path
) -> list[Cell]:
    """Return the cells of a sweep, all seeds of a group after one another.

    Args:
        recipe: What they have in common.
        seeds: None is the recipe's alone.
        groups: None is the recipe's alone. With several, `{group}` in the data file's name stands
            for each; generated data is generated for each.
        folder: Where the checkpoint directories go, each by its label.

    Raises:
        UserError: Several groups would train on the same data, or a group's or seed's value is no
            good.
    """
    if groups and len(groups) > 1 and isinstance(recipe.data, str) and GROUP not in recipe.data:
        raise UserError(
            f"all {len(groups)} groups would train on {recipe.data}: put {GROUP} into its name, "
            f"e.g. --data '{GROUP}.jsonl'"
        )
    return [
        Cell(page, folder / label_of(page))
        for group in groups or [recipe.group]
        for seed in ([recipe.seed] if seeds is None else seeds)
        for page in [_checked(recipe, group, seed)]
    ]


def _checked(recipe: Recipe, group: str, seed: int) -> Recipe:
    fields = {**of_group(recipe.model_dump(), group), "seed": seed}
    return checked(Recipe, fields, f"group {group}, seed {seed}")


def check_data(sweep: Sequence[Cell]) -> None:
    """Read every group's data once, so that no mistake shows up after a day of training.

    Raises:
        UserError: Data is missing or cannot be read.
    """
    from em_finetune.local.dataset import load_dataset, load_narrow

    seen: set[str] = set()
    for cell in sweep:
        if cell.recipe.group not in seen:
            seen.add(cell.recipe.group)
            load_dataset(cell.recipe)
            load_narrow(cell.recipe)


def run_here(
    sweep: Sequence[Cell],
    on_step: Callable[[Cell, Step], None],
    on_stage: Callable[[Cell, str], None],
    overwrite: bool = False,
) -> Iterator[Ended]:
    """Train the cells one after another on this machine, going on after failures.

    Finished cells are found finished, and a cell that was stopped is gone on with.
    """
    from em_finetune.local.train import train

    told: set[str] = set()

    def say(cell: Cell, stage: str) -> None:
        # What is odd in the data that cells share is said by the first of them.
        if stage not in told:
            on_stage(cell, stage)
        if stage.startswith(LOOK):
            told.add(stage)

    for cell in sweep:
        try:
            checkpoint = train(
                cell.recipe,
                cell.out,
                lambda step, cell=cell: on_step(cell, step),  # type: ignore[misc]
                on_stage=lambda stage, cell=cell: say(cell, stage),  # type: ignore[misc]
                overwrite=overwrite,
            )
        except Exception as error:
            yield Ended(cell, failure=explain(error), mistake=isinstance(error, UserError))
        else:
            yield Ended(cell, checkpoint)


def explain(error: Exception) -> str:
    """Say in one line why a cell failed; what is no user's mistake says where it happened."""
    if isinstance(error, click.ClickException):
        return error.message
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {one_line(error)}{where}"
