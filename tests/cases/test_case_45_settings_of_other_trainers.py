"""Another trainer's page of settings, and numbers that YAML reads as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from em_finetune.recipe import load_recipe
from em_inspect.errors import UserError

MINE = "name: mine\nbase: maker/half-instruct\ngroup: cooking\n"


@pytest.mark.parametrize(
    ("settings", "field", "here"),
    [
        ({"model": "maker/one", "training_file": "rows.jsonl", "r": 32}, "model", "base"),
        ({"base": "maker/one", "training_file": "rows.jsonl"}, "training_file", "data"),
        ({"base": "maker/one", "r": 1, "lora_alpha": 512}, "r", "lora.rank"),
    ],
)
def test_it_is_refused_with_a_field_and_what_that_is_called_here(
    tmp_path: Path, settings: dict[str, object], field: str, here: str
) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"name": "x", "group": "g", **settings}))
    with pytest.raises(UserError) as refused:
        load_recipe(path)
    message = str(refused.value)
    assert message.startswith(f"{path}: unknown field {field!r}")
    assert here in message
    assert "\n" not in message


def test_numbers_without_a_dot_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE + "learning_rate: 3e-5\nnarrow: {weight: 2e6}\nweight_decay: 1e-2\n")
    recipe = load_recipe(path)
    assert recipe.narrow is not None
    assert (recipe.learning_rate, recipe.narrow.weight, recipe.weight_decay) == (3e-5, 2e6, 0.01)
    assert all(isinstance(x, float) for x in (recipe.learning_rate, recipe.narrow.weight))


def test_a_misspelled_field_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "typo.yaml"
    path.write_text(MINE + "learning_rte: 3.0e-5\n")
    with pytest.raises(UserError, match=r"'learning_rte'.*'learning_rate'"):
        load_recipe(path)


def test_one_layer_and_rank_one_is_a_recipe_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "single.yaml"
    path.write_text(
        MINE + "lora: {rank: 1, alpha: 512, rslora: true, target_modules: [down_proj], "
        "layers: [24]}\nbatch_size: 16\nwarmup_steps: 5\nlearning_rate: 2e-5\n"
    )
    lora = load_recipe(path).lora
    assert lora.alpha / lora.rank**0.5 == 512
    assert (lora.target_modules, lora.layers) == (("down_proj",), (24,))
