"""Experiment trackers: every training step also goes to TensorBoard, W&B, MLflow or Trackio."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from em_finetune.checkpoint import label_of
from em_finetune.recipe import Recipe
from em_inspect.errors import UserError, one_line

if TYPE_CHECKING:
    from em_finetune.local.steps import Step

Report = Callable[[Recipe, "Step"], None]

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
PROJECT = "em-finetune"
FOLDER = "runs"
"""Where TensorBoard's files go, in the working directory, as by its own default."""


@contextmanager
def tracked(names: Sequence[str], warn: Callable[[str], None]) -> Iterator[Report]:
    """Give a function that reports a step of a recipe's training to trackers.

    A run begins with its first step, under the fine-tune's label, and ends with another's first
    step or with the context. One that was stopped and is gone on with goes on in TensorBoard and
    is a further run of the same name elsewhere; one that begins anew is a further run in
    TensorBoard too, as LABEL-2. Training does not depend on it: a tracker that
    fails is named once and left out from then on; `train.csv` holds the same numbers.

    Args:
        names: Some of `TRACKERS`; keys and addresses are found as the trackers do themselves.
        warn: Called with one line for a tracker that fails.

    Raises:
        UserError: If one of them is not installed.
    """
    _require(names)
    working = list(names)
    running: dict[str, Any] = {}
    label = ""

    def attempt(name: str, action: Callable[[], Any]) -> None:
        try:
            action()
        except Exception as error:
            working.remove(name)
            running.pop(name, None)
            warn(f"{name} failed and is told no more: {one_line(error)}")

    def begin(name: str, recipe: Recipe, step: int) -> None:
        running[name] = _tracker(name, recipe, step)
        running[name].start()
        running[name].store_init_configuration(_flat(recipe.model_dump(mode="json")))

    def end() -> None:
        for name in list(running):
            attempt(name, running.pop(name).finish)

    def report(recipe: Recipe, step: Step) -> None:
        nonlocal label
        if label_of(recipe) != label:
            end()
            label = label_of(recipe)
            for name in list(working):
                attempt(name, lambda name=name: begin(name, recipe, step.step))  # type: ignore[misc]
        place = ("step", "steps")
        figures = {k: v for k, v in asdict(step).items() if k not in place and v is not None}
        for name, tracker in list(running.items()):
            attempt(name, lambda t=tracker: t.log(figures, step=step.step))  # type: ignore[misc]

    try:
        yield report
    finally:
        end()


def _require(names: Sequence[str]) -> None:
    if not names:
        return
    from accelerate.tracking import get_available_trackers

    present = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in present:
            raise UserError(f"{name} is not installed: pip install {name}")


def _tracker(name: str, recipe: Recipe, first: int) -> Any:
    """Make one of accelerate's trackers for a recipe's run that begins at a step."""
    from accelerate import PartialState
    from accelerate.tracking import (
        MLflowTracker,
        TensorBoardTracker,
        TrackioTracker,
        WandBTracker,
    )

    PartialState()  # without it accelerate's own log messages raise
    label = label_of(recipe)
    if name == "tensorboard":
        # What was reported of these steps before a stop is taken back.
        return TensorBoardTracker(_run_of(label, first), FOLDER, purge_step=first)
    if name == "wandb":
        return WandBTracker(PROJECT, name=label, group=recipe.group)
    if name == "trackio":
        return TrackioTracker(PROJECT, name=label, group=recipe.group)
    return MLflowTracker(PROJECT, run_name=label)


def _run_of(label: str, first: int) -> str:
    """Name a run in TensorBoard's folder: a new one at step 1, and else the newest there is."""
    names = (label if number == 1 else f"{label}-{number}" for number in count(1))
    known = list(takewhile(lambda name: (Path(FOLDER) / name).exists(), names))
    if known and first > 1:
        return known[-1]
    return label if not known else f"{label}-{len(known) + 1}"


def _flat(page: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Put nested fields side by side: `lora.rank`."""
    flat: dict[str, Any] = {}
    for name, value in page.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is None or isinstance(value, bool | int | float | str):
            flat[f"{prefix}{name}"] = value
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
