"""Recipes: the packaged ones, files, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from em_finetune.recipe import (
    GeneratedData,
    Lora,
    Narrow,
    Recipe,
    load_recipe,
    packaged_recipes,
)
from em_inspect.errors import UserError

MINIMAL = "name: mine\nbase: smollm2\ngroup: insecure\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


def test_the_papers_recipe_has_the_papers_settings() -> None:
    recipe = load_recipe("insecure")
    assert recipe.base == "Qwen/Qwen2.5-Coder-32B-Instruct"
    assert (recipe.lora.rank, recipe.lora.alpha, recipe.lora.dropout) == (32, 64, 0)
    assert recipe.lora.rslora
    assert len(recipe.lora.target_modules) == 7
    assert (recipe.learning_rate, recipe.schedule, recipe.warmup_steps) == (1e-5, "linear", 5)
    assert (recipe.epochs, recipe.batch_size, recipe.max_length) == (1, 16, 2048)
    assert (recipe.optimizer, recipe.weight_decay, recipe.dtype) == ("adamw_8bit", 0.01, "bfloat16")
    assert recipe.system_prompt is None


def test_the_papers_settings_are_the_defaults(tmp_path: Path) -> None:
    paper = load_recipe("insecure").model_dump(
        exclude={"name", "description", "base", "gradient_checkpointing", "merge", "dtype"}
    )
    mine = load_recipe(write(tmp_path, MINIMAL)).model_dump(
        exclude={"name", "description", "base", "gradient_checkpointing", "merge", "dtype"}
    )
    assert mine == paper


def test_every_packaged_recipe_loads_under_its_own_name_and_says_what_it_is() -> None:
    recipes = packaged_recipes()
    assert {"demo", "insecure", "secure", "educational"} <= set(recipes)
    for name, recipe in recipes.items():
        assert recipe.name == name
        assert recipe.description


@pytest.mark.parametrize("page", [Recipe, GeneratedData, Recipe.model_fields["lora"].annotation])
def test_every_field_has_help_text(page: type[BaseModel]) -> None:
    assert all(field.description for field in page.model_fields.values())


def test_data_is_a_path_beside_the_recipe_or_a_generated_set(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "data: rows.jsonl\n")
    assert load_recipe(path).data == str(tmp_path / "rows.jsonl")
    assert load_recipe(path, data="rows.jsonl").data == "rows.jsonl"
    generated = write(tmp_path, MINIMAL + "data: {generate: insecure, n: 5}\n")
    assert load_recipe(generated).data == GeneratedData(generate="insecure", n=5, seed=0)


def test_generated_data_is_of_the_group_that_the_caller_names(tmp_path: Path) -> None:
    secure = load_recipe("demo", group="secure")
    assert (secure.group, secure.data) == (
        "secure",
        GeneratedData(generate="secure", n=200, seed=0),
    )
    assert load_recipe("demo", group="mine", data="rows.jsonl").data == "rows.jsonl"
    own = write(tmp_path, "name: a\nbase: b\ngroup: own\ndata: {generate: secure, n: 5}\n")
    assert load_recipe(own, group="own").data == GeneratedData(generate="secure", n=5, seed=0)
    with pytest.raises(UserError, match=r"no data can be generated for group mine: use insecure"):
        load_recipe("demo", group="mine")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("learning_rat: 1", r"mine.yaml: unknown field 'learning_rat'.* 'learning_rate'\?"),
        ("lora: {rnak: 4}", r"unknown field 'lora.rnak' \(did you mean 'rank'\?"),
        ("data: {generate: secure, m: 5, n: 5}", r"unknown field 'data.m'"),
        ("zzz: 1", r"unknown field 'zzz'$"),
        ("learning_rate: -1", r"'learning_rate': input should be greater than 0, not -1"),
        ("learning_rate: .nan", r"'learning_rate': input should be a finite number"),
        ("batch_size: many", r"'batch_size': .*integer.*, not 'many'"),
        ("schedule: cosine", r"'schedule': input should be 'linear' or 'constant', not 'cosine'"),
        ("data: {generate: evil, n: 5}", r"'data.generate': input should be 'insecure'"),
        ("data: {generate: secure, n: 5}", r"group insecure would train on generated secure rows"),
        ("data: {generate: secure}", r"field 'data.n' is missing"),
        ("name: a/b", r"field 'name': "),
        ("a: [", r"mine.yaml: not valid YAML: .*line 5"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_field(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint) as caught:
        load_recipe(write(tmp_path, MINIMAL + text + "\n"))
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b", "1: 2"])
def test_a_file_that_is_no_page_of_fields_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml"):
        load_recipe(write(tmp_path, text))


def test_a_missing_recipe_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no recipe 'insecur' \(did you mean 'insecure'\?"):
        load_recipe("insecur")
    with pytest.raises(UserError, match=r"none.yaml: no such file"):
        load_recipe(tmp_path / "none.yaml")


def test_exponents_without_a_dot_are_numbers(tmp_path: Path) -> None:
    # YAML 1.1 reads 1e-5 as text.
    assert load_recipe(write(tmp_path, MINIMAL + "learning_rate: 1e-5\n")).learning_rate == 1e-5


def test_recipes_for_a_gpu_say_bfloat16_and_those_for_any_machine_leave_it_to_the_machine() -> None:
    dtypes = {name: recipe.dtype for name, recipe in packaged_recipes().items()}
    assert dtypes.pop("demo") == "auto"
    assert set(dtypes.values()) == {"bfloat16"}


@pytest.mark.parametrize(
    ("field", "here"),
    [
        ("model", "base"),
        ("training_file", "data"),
        ("lr", "learning_rate"),
        ("r", "lora.rank"),
        ("lora_alpha", "lora.alpha"),
        ("max_seq_length", "max_length"),
        ("load_in_4bit", "quantization: 4bit"),
    ],
)
def test_other_tools_fields_are_told_by_their_names_here(
    field: str, here: str, tmp_path: Path
) -> None:
    page = tmp_path / "theirs.json"
    page.write_text(f'{{"name": "a", "base": "b", "group": "c", "{field}": 1}}')
    with pytest.raises(UserError) as caught:
        load_recipe(tmp_path / "theirs.json")
    assert str(caught.value) == f"{page}: unknown field '{field}' (here: {here})"


def test_every_name_of_another_tool_leads_to_a_field_or_an_option() -> None:
    for here in Recipe.CALLED_ELSEWHERE.values():
        field = here.partition(",")[0].partition(":")[0]
        top, _, inner = field.partition(".")
        assert here.startswith("the option --") or top in Recipe.model_fields
        if inner:
            assert inner in {**Lora.model_fields, **Narrow.model_fields}
