"""Runs that are killed and gone on with, and what is kept along the way."""

from __future__ import annotations

import csv
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from em_finetune.checkpoint import load_checkpoint
from em_finetune.local import Step, train
from em_finetune.recipe import Recipe
from em_inspect.errors import UserError


def recipe(tiny_recipe: dict[str, Any], **changes: Any) -> Recipe:
    return Recipe.model_validate({**tiny_recipe, **changes})


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def largest_difference(one: Path, other: Path) -> float:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def in_child(page: dict[str, Any], out: str, pipe: Connection) -> None:
    """Train, saying when the steps begin, and their losses at the end."""

    def on_stage(stage: str) -> None:
        if stage.startswith("training"):
            pipe.send("training")

    checkpoint = train(Recipe.model_validate(page), out, on_stage=on_stage)
    pipe.send(checkpoint.training.losses)


class Child:
    """A training in a process of its own, forked from one that has imported everything."""

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "peft", "test_local_resume"])

    def __init__(self, page: dict[str, Any], out: Path) -> None:
        self.pipe, theirs = self.context.Pipe(duplex=False)
        self.process = self.context.Process(target=in_child, args=(page, str(out), theirs))
        self.process.start()
        theirs.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *args: object) -> None:
        self.kill(signal.SIGKILL)

    def wait_for_steps(self) -> None:
        assert self.pipe.poll(60)
        assert self.pipe.recv() == "training"

    def kill(self, number: int) -> None:
        if self.process.is_alive():
            os.kill(self.process.pid or 0, number)
        self.process.join(60)


@pytest.mark.parametrize(("times", "dropout"), [(10, 0.0), (3, 0.3)])
def test_killed_at_random_moments_it_ends_as_if_undisturbed(
    tiny_recipe: dict[str, Any], tmp_path: Path, times: int, dropout: float
) -> None:
    page = {
        **tiny_recipe,
        "max_steps": 60,
        "save_every": 7,
        "resume_every": 4,
        "lora": {"rank": 4, "alpha": 8, "dropout": dropout},
    }
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "ft"
    began = time.monotonic()
    with Child(page, undisturbed) as child:
        child.wait_for_steps()
        started = time.monotonic()
        child.process.join(60)
        trained, loading = time.monotonic() - started, started - began

    chance = random.Random(7)
    kills = resumed = 0
    saved = tmp_path / ".ft.partial" / "state.safetensors"
    while kills < times or not saved.exists():
        with Child(page, out) as child:
            if kills % 3 == 2:  # also while reading, encoding and loading
                time.sleep(chance.uniform(0, loading))
            else:
                child.wait_for_steps()
                time.sleep(chance.uniform(0, trained / 5))
            alive = child.process.is_alive()
            child.kill(chance.choice([signal.SIGKILL, signal.SIGTERM]))
        if alive:
            kills += 1
        else:  # it came to its end
            resumed = max(resumed, len(load_checkpoint(out).training.resumed))
            shutil.rmtree(out)
    assert not (out / "checkpoint.json").exists()

    checkpoint = train(Recipe.model_validate(page), out)
    assert checkpoint.training.resumed or resumed
    names = [f"step-{step:06d}" for step in range(7, 61, 7)]
    assert left_in(out / "steps") == names
    for part in ["adapter", *(f"steps/{name}/adapter" for name in names)]:
        assert largest_difference(out / part, undisturbed / part) < 1e-4
    wanted = load_checkpoint(undisturbed).training.losses
    assert checkpoint.training.losses == pytest.approx(wanted, abs=1e-4)
    assert left_in(tmp_path) == ["ft", "undisturbed"]


def test_a_resumed_run_begins_after_its_last_saved_step(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    def interrupt(step: Step) -> None:
        if step.step == 5:
            raise KeyboardInterrupt

    page = recipe(tiny_recipe, resume_every=3, save_every=2)
    with pytest.raises(KeyboardInterrupt):
        train(page, tmp_path / "ft", interrupt)
    assert left_in(tmp_path) == [".ft.partial"]
    steps: list[Step] = []
    stages: list[str] = []
    checkpoint = train(page, tmp_path / "ft", steps.append, on_stage=stages.append)
    assert "going on after step 3" in stages
    assert [step.step for step in steps] == [4, 5, 6]
    assert checkpoint.training.resumed == [3]
    with (tmp_path / "ft" / "train.csv").open() as file:
        assert [int(line["step"]) for line in csv.DictReader(file)] == [1, 2, 3, 4, 5, 6]
    assert left_in(tmp_path) == ["ft"]


def test_a_run_killed_while_writing_the_result_takes_no_step_again(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    # The package's attribute of this name is the function.
    module = importlib.import_module("em_finetune.local.train")
    monkeypatch.setattr(module, "save_merged", full)
    with pytest.raises(UserError, match="the disk of"):
        train(recipe(tiny_recipe), tmp_path / "ft")
    monkeypatch.undo()
    steps: list[Step] = []
    assert train(recipe(tiny_recipe), tmp_path / "ft", steps.append).steps == 6
    assert not steps


def test_an_unfinished_run_of_another_recipe_is_not_dropped_unasked(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    def interrupt(step: Step) -> None:
        if step.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(tiny_recipe, resume_every=2), tmp_path / "ft", interrupt)
    other = recipe(tiny_recipe, learning_rate=1e-3)
    with pytest.raises(UserError, match=r"another learning_rate stopped in .*ft after step 4"):
        train(other, tmp_path / "ft")
    checkpoint = train(other, tmp_path / "ft", overwrite=True)
    assert checkpoint.recipe.learning_rate == 1e-3
    assert not checkpoint.training.resumed


def test_a_damaged_state_is_begun_anew(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    partial = tmp_path / ".ft.partial"
    partial.mkdir()
    (partial / "state.safetensors").write_bytes(b"\x00\x01")
    checkpoint = train(recipe(tiny_recipe), tmp_path / "ft")
    assert (checkpoint.steps, checkpoint.training.resumed) == (6, [])
    assert left_in(tmp_path) == ["ft"]


def test_what_is_kept_at_a_step_is_what_a_shorter_run_would_end_with(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    constant = {"schedule": "constant"}
    train(recipe(tiny_recipe, save_every=2, **constant), tmp_path / "long")
    train(recipe(tiny_recipe, max_steps=4, **constant), tmp_path / "short")
    assert left_in(tmp_path / "long" / "steps") == ["step-000002", "step-000004", "step-000006"]
    kept = tmp_path / "long" / "steps" / "step-000004" / "adapter"
    assert largest_difference(kept, tmp_path / "short" / "adapter") == 0
    assert largest_difference(kept, tmp_path / "long" / "adapter") > 1e-3
    models = load_checkpoint(tmp_path / "long").models
    assert models["step-000004"][1] == "hf/tiny-insecure-seed0-step-000004"
    assert f"model_path={kept}" in models["step-000004"]
