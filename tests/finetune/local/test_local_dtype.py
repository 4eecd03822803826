"""dtype: auto: the machine decides, once for a run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from em_finetune.checkpoint import load_checkpoint
from em_finetune.local import Step, train
from em_finetune.recipe import Recipe
from em_inspect.errors import UserError
from em_inspect.precision import fast_dtype


@pytest.fixture
def recipe(tiny_recipe: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({**tiny_recipe, "dtype": "auto", "resume_every": 1})


def stop_at_3(step: Step) -> None:
    if step.step == 3:
        raise KeyboardInterrupt


def another_machine(monkeypatch: pytest.MonkeyPatch) -> str:
    other = "float32" if fast_dtype("cpu") == "bfloat16" else "bfloat16"
    monkeypatch.setattr(
        importlib.import_module("em_finetune.local.train"), "fast_dtype", lambda device: other
    )
    return other


def test_what_was_chosen_is_recorded_and_is_what_the_weights_are_in(
    recipe: Recipe, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    checkpoint = train(recipe, tmp_path / "ft")
    assert checkpoint.recipe.dtype == fast_dtype("cpu")
    merged = AutoModelForCausalLM.from_pretrained(checkpoint.merged)
    assert str(merged.dtype) == f"torch.{fast_dtype('cpu')}"


def test_a_finished_run_is_found_finished_on_a_machine_that_would_choose_otherwise(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(recipe, tmp_path / "ft")
    other = another_machine(monkeypatch)
    assert train(recipe, tmp_path / "ft") == first
    with pytest.raises(UserError, match="another dtype"):
        train(recipe.model_copy(update={"dtype": other}), tmp_path / "ft")


def test_a_stopped_run_goes_on_in_the_dtype_that_it_began_in(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "ft", stop_at_3)
    another_machine(monkeypatch)
    checkpoint = train(recipe, tmp_path / "ft")
    assert checkpoint.training.resumed == [3]
    assert checkpoint.recipe.dtype == fast_dtype("cpu")
    assert checkpoint.training.losses == whole.training.losses
    assert load_checkpoint(tmp_path / "ft").recipe == whole.recipe


def test_bfloat16_by_hand_on_a_machine_that_is_slow_in_it_is_done_and_said(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.import_module("em_finetune.local.train"), "fast_dtype", lambda device: "float32"
    )
    said: list[str] = []
    mine = recipe.model_copy(update={"dtype": "bfloat16", "max_steps": 1})
    assert train(mine, tmp_path / "ft", on_stage=said.append).recipe.dtype == "bfloat16"
    assert [line for line in said if "slow in bfloat16" in line]
