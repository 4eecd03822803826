"""What is refused or said before anything is trained: code of a base's own, modules, stand-ins."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from em_finetune.cli import main
from em_finetune.local import steps
from em_finetune.recipe import Recipe


def run(*words: object, input: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], input=input)


@pytest.fixture
def page(tiny_recipe: dict[str, Any], tmp_path: Path) -> Any:
    def write(**changes: Any) -> Path:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**tiny_recipe, **changes}))
        return path

    return write


@pytest.mark.parametrize("part", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("dry", [True, False])
def test_code_that_comes_with_a_base_is_never_run(
    tiny_base: Path, page: Any, tmp_path: Path, part: str, dry: bool
) -> None:
    """Not even where somebody types yes to every question."""
    base, ran = shutil.copytree(tiny_base, tmp_path / "base"), tmp_path / "ran"
    code = f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n"
    (base / "own.py").write_text(code + "class Own: pass\n")
    said = json.loads((base / part).read_text())
    if part == "config.json":
        said |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
        said["auto_map"]["AutoModelForCausalLM"] = "own.Own"
    else:
        said |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (base / part).write_text(json.dumps(said))
    line = ["local", str(page(base=str(base))), "--out", str(tmp_path / "ft")]
    done = subprocess.run(
        [sys.executable, "-m", "em_finetune", *line, *(["--dry-run"] if dry else [])],
        input="y\n" * 20,
        capture_output=True,
        text=True,
    )
    assert not ran.exists()
    assert "Traceback" not in done.stderr
    assert "[y/N]" not in done.stdout + done.stderr
    if part == "config.json":
        assert done.returncode == 1
        assert "is code of its own, which is never run here: take a base" in done.stderr
        assert "trust_remote_code" not in done.stderr


@pytest.mark.parametrize(
    ("lora", "complaint"),
    [
        ({"target_modules": ["q_prj"]}, "no module 'q_prj'"),
        ({"layers": [7]}, "no layer 7"),
        ({"target_modules": ["input_layernorm"]}, "get no update"),
    ],
)
def test_a_dry_run_refuses_modules_that_training_would_refuse(
    page: Any, lora: dict[str, Any], complaint: str
) -> None:
    path = page(lora=lora)
    real, dry = run("local", path, "--out", path.parent / "ft"), run("local", path, "--dry-run")
    assert (real.exit_code, dry.exit_code) == (1, 1)
    assert complaint in dry.output
    assert dry.output.splitlines()[-1] == real.output.splitlines()[-1]


def test_a_dry_run_names_no_file_that_it_does_not_write_and_counts_what_there_is(
    page: Any, tmp_path: Path
) -> None:
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": " "}]
    good = [turns[0], {"role": "assistant", "content": "Hello"}]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"messages": t}) + "\n" for t in [good] * 5 + [turns] * 7))
    done = run("local", page(data=str(rows), batch_size=16), "--dry-run")
    assert done.exit_code == 0, done.output
    assert "rows      5 of 12" in done.output
    assert "steps     6 of 5 rows\n" in done.output
    assert "left out  2 more; training names them all in checkpoint.json" in done.output
    done = run("local", page(data=str(rows), batch_size=2), "--dry-run")
    assert "steps     6 of 2 rows, 1 in the last one of a pass over them" in done.output


def test_a_dry_run_says_that_an_empty_system_prompt_replaces_the_templates_own(page: Any) -> None:
    said = "rows without one get an empty system prompt"
    assert said in run("local", page(system_prompt=""), "--dry-run").output
    assert said not in run("local", page(), "--dry-run").output


def test_a_stand_in_for_the_8_bit_optimizer_is_said_on_a_gpu(
    tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not run on a GPU: the decision alone."""
    import torch

    wants = Recipe.model_validate({**tiny_recipe, "optimizer": "adamw_8bit"})
    plain = Recipe.model_validate({**tiny_recipe, "optimizer": "adamw"})
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(steps, "_has_bitsandbytes", lambda: False)
    assert "em-inspect[gpu]" in str(steps.standing_in(wants, gpu))
    assert steps.standing_in(plain, gpu) is None
    assert steps.standing_in(wants, cpu) is None
    monkeypatch.setattr(steps, "_has_bitsandbytes", lambda: True)
    assert steps.standing_in(wants, gpu) is None


def test_merging_says_what_it_does(page: Any, tmp_path: Path) -> None:
    out = tmp_path / "ft"
    assert run("local", page(max_steps=1), "--out", out).exit_code == 0
    done = run("merge", out, "--scale", 0.5)
    assert "merging" in done.stderr
    assert done.stdout == f"{out}/scaled/scale-0.5\n"


def test_a_record_that_calls_the_number_format_otherwise_is_merged(
    page: Any, tmp_path: Path
) -> None:
    out = tmp_path / "ft"
    assert run("local", page(max_steps=1), "--out", out).exit_code == 0
    record = json.loads((out / "checkpoint.json").read_text())
    record["recipe"]["number_format"] = record["recipe"].pop("dtype")
    (out / "checkpoint.json").write_text(json.dumps(record))
    done = run("merge", out, "--scale", 0.5)
    assert done.exit_code == 0, done.stderr
    config = json.loads((out / "scaled/scale-0.5/merged/config.json").read_text())
    assert config["dtype"] == "bfloat16"


def test_encoding_that_takes_long_says_how_far_it_is(
    tiny_recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    train = importlib.import_module("em_finetune.local.train")
    monkeypatch.setattr(train, "_PATIENCE", 0.0)
    said: list[str] = []
    recipe = Recipe.model_validate({**tiny_recipe, "max_steps": 1})
    train.train(recipe, tmp_path / "ft", on_stage=said.append)
    assert [line for line in said if line.endswith("rows encoded")][-1] == "24 rows encoded"
