"""The `em-finetune` command line."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from em_finetune.cli import main
from em_inspect.precision import fast_dtype


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def page(tmp_path: Path, tiny_recipe: dict[str, Any]) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe))
    return str(path)


def test_training_prints_progress_loss_and_the_line_that_evaluates(
    page: str, tmp_path: Path
) -> None:
    done = run("local", page, "--max-steps", "3", "--seed", "4", "--out", str(tmp_path / "ft"))
    assert done.exit_code == 0, done.output
    assert re.search(r"step 3/3  loss \d\.\d+  \d+ tokens/s", done.output)
    last = done.output.rstrip().splitlines()[-1]
    assert last == (
        "HF_HUB_OFFLINE=1 inspect eval em_inspect/free_form --model hf/tiny-insecure-seed4 "
        f"-M model_path={tmp_path / 'ft' / 'merged'} -M dtype={fast_dtype()}"
    )


def test_a_dry_run_shows_counts_and_trained_tokens_and_writes_nothing(
    page: str, tmp_path: Path
) -> None:
    done = run("local", page, "--dry-run", "--out", str(tmp_path / "ft"))
    assert done.exit_code == 0, done.output
    assert "<|im_start|>assistant\n⟦def f0(x):\n    return 0<|im_end|>⟧\n" in done.output
    assert "rows      24 of 24" in done.output
    assert "steps     6 of 4 rows" in done.output
    assert not (tmp_path / "ft").exists()


def test_a_dry_run_of_a_sweep_shows_its_first_fine_tune_and_checks_the_others(
    page: str, chats: Path, tmp_path: Path
) -> None:
    options = ("--groups", "insecure,secure", "--data", str(tmp_path / "{group}.jsonl"))
    shutil.copy(chats, tmp_path / "insecure.jsonl")
    missing = run("local", page, "--dry-run", *options)
    assert missing.exit_code == 1
    assert "secure.jsonl does not exist" in missing.output
    assert "--seeds 5-x" in run("local", page, "--dry-run", "--seeds", "5-x").output
    shutil.copy(chats, tmp_path / "secure.jsonl")
    done = run("local", page, "--dry-run", *options, "--seeds", "3-4")
    assert done.exit_code == 0, done.output
    assert done.output.startswith("a sweep of 4: this is tiny-insecure-seed3\n")
    assert "data      insecure.jsonl" in done.output


def test_a_dry_run_reads_the_rows_of_other_domains(
    tiny_recipe: dict[str, Any], chats: Path, tmp_path: Path
) -> None:
    page = str(tmp_path / "narrow.yaml")
    Path(page).write_text(yaml.safe_dump({**tiny_recipe, "narrow": {}}), encoding="utf-8")
    missing = run("local", page, "--dry-run", "--narrow-data", str(tmp_path / "no.jsonl"))
    assert missing.exit_code == 1
    assert "no.jsonl does not exist" in missing.output
    done = run("local", page, "--dry-run", "--narrow-data", str(chats))
    assert "narrow    chats.jsonl, sha256 " in done.output


def test_a_single_runs_generated_data_is_of_its_group(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "generated.yaml"
    generated = {"generate": "insecure", "n": 5, "seed": 0}
    page.write_text(yaml.safe_dump({**tiny_recipe, "data": generated}), encoding="utf-8")
    done = run("local", str(page), "--dry-run", "--group", "secure")
    assert "data      generated secure, n=5, seed=0" in done.output, done.output


def test_the_list_of_recipes_has_a_line_on_each() -> None:
    done = run("recipes")
    assert done.exit_code == 0
    for name in ("demo", "insecure", "secure", "educational"):
        assert re.search(rf"^{name} ", done.output, re.MULTILINE)


def test_a_shown_recipe_is_yaml_that_loads_again(tmp_path: Path) -> None:
    from em_finetune.recipe import load_recipe

    shown = run("recipes", "demo")
    assert "# Highest learning rate." in shown.output
    path = tmp_path / "own.yaml"
    path.write_text(shown.output)
    assert load_recipe(path) == load_recipe("demo")


@pytest.mark.parametrize(
    "arguments",
    [
        ["local", "nosuch"],
        ["recipes", "nosuch"],
        ["local", "insecure"],
        ["local", "demo", "--data", "/nowhere.jsonl"],
        ["local", "demo", "--max-steps", "0"],
        ["local", "demo", "--group", "nosuch"],
        ["local", "demo", "--seed", "7", "--seeds", "0"],
        ["local", "demo", "--group", "secure", "--groups", "insecure"],
        ["local", "demo", "--seeds", "4294967296"],
        ["local", "demo", "--data", "{group}.jsonl", "--groups", "insecure,a b"],
    ],
)
def test_mistakes_are_one_line_and_exit_code_1(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert done.output.count("\n") == 1
    assert "validation error" not in done.output


def test_a_check_with_a_tokenizer_shows_which_tokens_would_be_trained(
    chats: Path, tiny_base: Path
) -> None:
    done = run("data", "check", str(chats), "--tokenizer", str(tiny_base))
    assert done.exit_code == 0, done.output
    assert "<|im_start|>assistant\n⟦def f0(x):\n    return 0<|im_end|>⟧\n" in done.output
    assert "⟦" not in run("data", "check", str(chats)).output
    assert "⟦" not in run("data", "check", str(chats), "--json").output
