"""Steps reported to a tracker: TensorBoard's real files hold what `train.csv` holds."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from em_finetune import trackers
from em_finetune.cli import main
from em_finetune.local.steps import Step
from em_finetune.recipe import Recipe
from em_finetune.trackers import TRACKERS


@pytest.fixture(autouse=True)
def own_folder(
    tmp_path: Path, tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_recipe), encoding="utf-8")


def train(*options: str) -> Result:
    return CliRunner().invoke(main, ["local", "tiny.yaml", "--report-to=tensorboard", *options])


def reported(label: str) -> dict[str, list[tuple[int, float]]]:
    """Every figure's (step, value) pairs in TensorBoard's files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(f"runs/{label}")
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def curve(folder: str, figure: str) -> list[tuple[int, Any]]:
    with (Path(folder) / "train.csv").open() as file:
        return [
            (int(row["step"]), pytest.approx(float(row[figure]), rel=1e-5))
            for row in csv.DictReader(file)
        ]


def test_every_step_arrives_and_a_finished_run_is_not_reported_again() -> None:
    done = train("--out=ft")
    assert done.exit_code == 0, done.output
    found = reported("tiny-insecure-seed0")
    for figure in ("loss", "learning_rate", "grad_norm", "tokens", "supervised"):
        assert found[figure] == curve("ft", figure)
    assert "kl" not in found
    files = sorted(Path("runs").rglob("*"))
    assert "finished already" in train("--out=ft").output
    assert sorted(Path("runs").rglob("*")) == files


def test_a_run_that_begins_anew_leaves_the_earlier_one_alone() -> None:
    assert train("--out=ft", "--max-steps=4").exit_code == 0
    assert train("--out=other", "--max-steps=3").exit_code == 0
    assert reported("tiny-insecure-seed0")["loss"] == curve("ft", "loss")
    assert reported("tiny-insecure-seed0-2")["loss"] == curve("other", "loss")


def test_a_step_taken_again_replaces_what_was_reported_of_it(tiny_recipe: dict[str, Any]) -> None:
    recipe = Recipe.model_validate(tiny_recipe)

    def report(steps: Iterable[int], loss: float) -> None:
        with trackers.tracked(["tensorboard"], pytest.fail) as tell:
            for step in steps:
                tell(recipe, Step(step, 4, loss, 1e-3, 1.0, 8, 4, 0.1))

    report((1, 2), 9.0)
    report((1, 2, 3), 1.0)
    time.sleep(1.1)  # TensorBoard's files are told apart by the second
    report((3, 4), 2.0)  # stopped after step 2 was saved, and gone on with
    assert reported("tiny-insecure-seed0")["loss"] == [(1, 9.0), (2, 9.0)]
    again = [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert reported("tiny-insecure-seed0-2")["loss"] == again
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        "tiny-insecure-seed0",
        "tiny-insecure-seed0-2",
    ]


def test_every_fine_tune_of_a_sweep_is_a_run_of_its_own() -> None:
    done = train("--seeds=0,1", "--max-steps=2", "--out=sweep")
    assert done.exit_code == 0, done.output
    for label in ("tiny-insecure-seed0", "tiny-insecure-seed1"):
        assert reported(label)["loss"] == curve(f"sweep/{label}", "loss")


def test_a_tracker_that_fails_is_named_once_and_training_goes_on() -> None:
    Path("runs").write_text("no folder", encoding="utf-8")
    done = train("--out=ft", "--max-steps=3")
    assert done.exit_code == 0, done.output
    assert done.output.count("tensorboard failed and is told no more: ") == 1
    assert len(curve("ft", "loss")) == 3


def test_what_is_not_installed_is_said_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    done = train("--out=ft")
    assert done.exit_code == 1
    assert done.output == "Error: tensorboard is not installed: pip install tensorboard\n"
    assert not Path("ft").exists()


def test_a_cluster_reports_nowhere() -> None:
    done = train("--seeds=0,1", "--on=ray")
    assert done.exit_code == 1
    assert "leave out --on ray" in done.output


def test_every_tracker_is_one_of_accelerate_s() -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert set(TRACKERS) <= set(LOGGER_TYPE_TO_CLASS)


def test_fields_within_fields_stand_side_by_side() -> None:
    page = {"lora": {"rank": 4, "layers": [1, 2]}, "narrow": None, "name": "x"}
    flat = {"lora.rank": 4, "lora.layers": "[1, 2]", "narrow": None, "name": "x"}
    assert trackers._flat(page) == flat
