"""Sweeps over seeds and groups, here and on a Ray cluster."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from em_finetune.checkpoint import read_record
from em_finetune.cli import main
from em_finetune.recipe import GeneratedData, Recipe
from em_finetune.seeds import parse_seeds
from em_finetune.sweep import cells, parse_groups
from em_inspect.errors import UserError


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def page(tmp_path: Path, tiny_recipe: dict[str, Any], chats: Path) -> Path:
    """A recipe whose data file is named after the group."""
    for group in ("insecure", "secure"):
        shutil.copy(chats, tmp_path / f"{group}.jsonl")
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**tiny_recipe, "data": "{group}.jsonl"}))
    return path


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [3]), ("0-5", [0, 1, 2, 3, 4, 5]), ("0,2, 4-5,2", [0, 2, 4, 5])]
)
def test_seeds_are_numbers_and_spans(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "5-0", "1-", "-1", "0-5000", "1,,2", "1.5"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(text)


def test_empty_groups_are_refused() -> None:
    with pytest.raises(UserError, match="--groups"):
        parse_groups("a,,b")


def test_generated_data_is_of_the_cells_group(tiny_recipe: dict[str, Any]) -> None:
    data = {"generate": "insecure", "n": 5, "seed": 3}
    recipe = Recipe.model_validate({**tiny_recipe, "data": data})
    made = cells(recipe, [0, 1], ["insecure", "secure"], Path("/out"))
    assert [cell.out.name for cell in made] == [
        "tiny-insecure-seed0",
        "tiny-insecure-seed1",
        "tiny-secure-seed0",
        "tiny-secure-seed1",
    ]
    assert made[3].recipe.data == GeneratedData(generate="secure", n=5, seed=3)
    with pytest.raises(UserError, match="no data can be generated for group kind"):
        cells(recipe, None, ["kind"], Path("/out"))


def test_several_groups_never_train_on_one_file(tiny_recipe: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"put \{group\} into its name"):
        cells(Recipe.model_validate(tiny_recipe), None, ["a", "b"], Path("/out"))


def test_a_sweep_makes_every_cell_and_finds_them_finished(page: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    arguments = ("local", page, "--seeds", "0-1", "--groups", "insecure,secure", "--out", out)
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    labels = [f"tiny-{group}-seed{seed}" for group in ("insecure", "secure") for seed in (0, 1)]
    assert sorted(path.name for path in out.iterdir()) == labels
    record = read_record(out / "tiny-secure-seed1")
    assert (record.group, record.seed, record.dataset.name) == ("secure", 1, "secure.jsonl")
    assert f"$(em-finetune models {out} --specs)" in done.output
    times = [(out / label / "checkpoint.json").stat().st_mtime_ns for label in labels]
    again = run(*arguments)
    assert again.exit_code == 0
    assert again.output.count("is finished already") == 4
    assert times == [(out / label / "checkpoint.json").stat().st_mtime_ns for label in labels]


def test_a_cell_that_fails_does_not_stop_the_others(page: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    (out / "tiny-insecure-seed0").mkdir(parents=True)
    (out / "tiny-insecure-seed0" / "thesis.tex").write_text("…")
    arguments = ("local", page, "--seeds", "0-1", "--out", out)
    done = run(*arguments)
    assert done.exit_code == 1
    assert "failed  tiny-insecure-seed0:" in done.output
    assert "is no checkpoint" in done.output
    assert "1 of 2 failed: see above what to change, then type the line again" in done.output
    assert "Traceback" not in done.output
    assert read_record(out / "tiny-insecure-seed1").seed == 1
    shutil.rmtree(out / "tiny-insecure-seed0")
    assert run(*arguments).exit_code == 0


def test_a_failure_that_is_no_mistake_may_end_better_the_next_time(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the GPU fell off the bus")

    monkeypatch.setattr(import_module("em_finetune.local.train"), "train", fail)
    done = run("local", page, "--seeds", "0-1", "--out", tmp_path / "sweep")
    assert "2 of 2 failed: type the same line again to go on with them" in done.output


def test_a_sweep_into_a_folder_with_white_space_ends_in_a_line_that_a_shell_reads(
    page: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my sweep"
    done = run("local", page, "--seeds", "0", "--max-steps", "1", "--out", out)
    assert done.exit_code == 0, done.output
    words = shlex.split(done.output.rstrip().splitlines()[-1])
    specs = [json.loads(word) for word in words if word.startswith('{"model"')]
    places = {spec["model"]: spec["model_args"]["model_path"] for spec in specs}
    assert places.pop("hf/tiny-insecure-seed0") == str(out / "tiny-insecure-seed0" / "merged")
    assert list(places.values()) == [yaml.safe_load(page.read_text("utf-8"))["base"]]


def test_missing_data_of_the_last_group_is_noticed_before_the_first_step(
    page: Path, tmp_path: Path
) -> None:
    done = run("local", page, "--groups", "insecure,nowhere", "--out", tmp_path / "sweep")
    assert done.exit_code == 1
    assert done.output.count("\n") == 1
    assert "nowhere.jsonl does not exist" in done.output
    assert not (tmp_path / "sweep").exists()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A local Ray of two workers."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install ray")
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    paths = os.pathsep.join([str(Path(__file__).parent)])
    environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": environment},
    )
    yield ray
    if ray.is_initialized():
        ray.shutdown()


@pytest.mark.real
def test_a_killed_ray_workers_cell_is_taken_up_again(
    cluster: Any, tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    from em_finetune.cluster import run_on_ray
    from em_finetune.local import train

    # Long enough to be killed on the way.
    recipe = Recipe.model_validate({**tiny_recipe, "max_steps": 300, "resume_every": 5})
    sweep = cells(recipe, [0, 1], None, tmp_path / "sweep")
    bad = cells(recipe.model_copy(update={"base": "/nowhere"}), [7], None, tmp_path / "sweep")
    killed: list[int] = []
    seen: dict[str, set[int]] = {}

    def on_progress(cell: Any, news: dict[str, Any]) -> None:
        seen.setdefault(cell.label, set()).add(news["pid"])
        if not killed and news["step"] >= 10:
            killed.append(news["pid"])
            os.kill(news["pid"], signal.SIGKILL)

    began = time.monotonic()
    ended = {one.cell.label: one for one in run_on_ray([*sweep, *bad], on_progress)}
    assert killed, f"no worker was seen in {time.monotonic() - began:.0f} s"

    assert sorted(ended) == ["tiny-insecure-seed0", "tiny-insecure-seed1", "tiny-insecure-seed7"]
    assert ended["tiny-insecure-seed7"].failure == (
        "base /nowhere does not exist: name a directory, a hub id or smollm2"
    )
    made = [ended[cell.label].checkpoint for cell in sweep]
    resumed = [one.training.resumed for one in made if one is not None]
    assert len(resumed) == 2
    assert sorted(map(len, resumed)) == [0, 1]
    undisturbed = train(sweep[0].recipe, tmp_path / "undisturbed")
    assert made[0] is not None
    assert made[0].training.losses == pytest.approx(undisturbed.training.losses, abs=1e-4)


def test_ray_that_is_not_there_is_one_line(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    done = run("local", page, "--on", "ray", "--out", tmp_path / "sweep")
    assert done.exit_code == 1
    lines = [line for line in done.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.output
    assert "Ray cluster" in lines[0] or "ray not installed" in lines[0]
