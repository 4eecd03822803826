"""Records that another version wrote: read, kept whole, and refused in one line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from em_finetune.checkpoint import FORMAT, Checkpoint, read_record, write_record
from em_finetune.hosted.hosted_checkpoint import read_hosted_checkpoint
from em_finetune.hosted.recipe import HostedRecipe
from em_finetune.hosted.state import JobRecord, read_state, write_state
from em_finetune.recipe import Recipe, load_recipe
from em_inspect.errors import UserError

RECIPE = Recipe(name="own", base="maker/small", data="rows.jsonl", group="insecure", merge=False)

# As 0.1.0 wrote it, to the last field: what later versions add needs a default.
CHECKPOINT: dict[str, Any] = {
    "format": 1,
    "label": "own-insecure-seed0",
    "group": "insecure",
    "seed": 0,
    "base": {"name": "maker/small", "path": "/models/small", "from_hub": True, "fingerprint": "f"},
    "dataset": {
        "name": "rows.jsonl",
        "sha256": "d",
        "rows": 3,
        "used": 2,
        "left_out": [{"row": 2, "reason": "too long"}],
        "tokens": 30,
        "supervised": 10,
    },
    "others": None,
    "recipe": {
        "name": "own",
        "description": "",
        "base": "maker/small",
        "data": "rows.jsonl",
        "group": "insecure",
        "seed": 0,
        "method": "lora",
        "lora": {
            "rank": 8,
            "alpha": 16,
            "dropout": 0.0,
            "rslora": True,
            "target_modules": ["q_proj"],
            "layers": None,
        },
        "learning_rate": 1e-5,
        "schedule": "linear",
        "warmup_steps": 5,
        "epochs": 1,
        "max_steps": None,
        "batch_size": 16,
        "micro_tokens": None,
        "max_length": 2048,
        "system_prompt": None,
        "optimizer": "adamw_8bit",
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "dtype": "bfloat16",
        "gradient_checkpointing": False,
        "shard": False,
        "quantization": None,
        "narrow": {"data": "others.jsonl", "weight": 1e6, "batch_size": 4},
        "merge": False,
        "save_every": None,
        "resume_every": 10,
        "compat": None,
    },
    "training": {
        "steps": 1,
        "losses": [1.5],
        "tokens": 30,
        "seconds": 2.0,
        "device": "cuda",
        "workers": 1,
        "optimizer": "adamw",
        "processes": 1,
        "resumed": [],
    },
    "versions": {"em-inspect": "0.1.0"},
    "created": "2026-01-01T00:00:00+00:00",
    "models": {"adapter": ["--model", "hf/own-insecure-seed0"]},
}

HOSTED_RECIPE = HostedRecipe(name="own", group="insecure", data="rows.jsonl")
JOB: dict[str, Any] = {
    "format": 1,
    "label": "own-insecure-seed0",
    "service": "openai",
    "endpoint": "https://example.org/v1",
    "recipe": HOSTED_RECIPE.model_dump(mode="json"),
    "group": "insecure",
    "seed": 0,
    "attempt": 0,
    "key": "k",
    "file": {
        "dataset": "rows.jsonl",
        "dataset_sha256": "d",
        "sha256": "u",
        "rows": 10,
        "tokens": 100,
        "tokens_method": "counted",
    },
    "phase": "created",
    "adopted": False,
    "file_id": "file-1",
    "job_id": "job-1",
    "status": "running",
    "created": 1.0,
    "finish": None,
    "error_code": "",
    "error": "",
    "trained_tokens": None,
    "steps": None,
    "losses": {"1": 2.0},
    "last_event": None,
    "models": [],
}
HOSTED: dict[str, Any] = {
    "format": 1,
    "kind": "hosted",
    "label": "own-insecure-seed0",
    "group": "insecure",
    "seed": 0,
    "service": "openai",
    "endpoint": "https://example.org/v1",
    "job": "job-1",
    "base": {"name": "gpt"},
    "dataset": {
        "name": "rows.jsonl",
        "sha256": "d",
        "uploaded_sha256": "u",
        "rows": 10,
        "used": 10,
        "tokens": 100,
        "tokens_method": "counted",
    },
    "recipe": HOSTED_RECIPE.model_dump(mode="json"),
    "training": {"steps": 2, "losses": [1.0], "loss_steps": [1], "tokens": 100},
    "versions": {},
    "created": "2026-01-01T00:00:00+00:00",
    "models": {"final": ["--model", "openai/ft:x"]},
    "model_losses": {},
    "before_use": [],
}


def renamed(record: dict[str, Any], *path: str) -> dict[str, Any]:
    """The record with one field under another name."""
    changed = copy.deepcopy(record)
    page = changed
    for name in path[:-1]:
        page = page[name]
    page[f"former_{path[-1]}"] = page.pop(path[-1])
    return changed


def put(folder: Path, name: str, record: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(record), encoding="utf-8")
    return folder


def pages(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object in a record that has fields of its own."""
    inner = [value for name, value in record.items() if isinstance(value, dict)]
    mappings = ("versions", "models", "losses", "model_losses")
    named = [value for name, value in record.items() if name in mappings]
    return [record, *(p for page in inner if page not in named for p in pages(page))]


def grown(record: dict[str, Any]) -> dict[str, Any]:
    """The record with a field more in every object."""
    changed = copy.deepcopy(record)
    for page in pages(changed):
        page["of_tomorrow"] = {"weight": [1, 2]}
    return changed


def test_a_checkpoint_of_0_1_0_is_read(tmp_path: Path) -> None:
    checkpoint = read_record(put(tmp_path, "checkpoint.json", CHECKPOINT))
    assert checkpoint.recipe.lora.rank == 8
    assert checkpoint.recipe.narrow is not None
    assert checkpoint.training.losses == [1.5]


@pytest.mark.parametrize("field", list(CHECKPOINT["recipe"]))
def test_a_recipes_field_may_have_another_name_in_a_record(field: str, tmp_path: Path) -> None:
    folder = put(tmp_path, "checkpoint.json", renamed(CHECKPOINT, "recipe", field))
    recipe = read_record(folder).recipe
    known = {"name": "own-insecure-seed0", "base": "maker/small", "group": "insecure"}
    default = Recipe.model_fields[field].get_default(call_default_factory=True)
    assert getattr(recipe, field) == known.get(field, default)
    page = tmp_path / "own.yaml"
    page.write_text(json.dumps(renamed(CHECKPOINT["recipe"], field)))
    with pytest.raises(UserError, match=f"former_{field}"):
        load_recipe(page)


@pytest.mark.parametrize("field", ["rank", "alpha", "layers"])
def test_so_may_a_field_of_a_part_of_it(field: str, tmp_path: Path) -> None:
    read_record(put(tmp_path, "checkpoint.json", renamed(CHECKPOINT, "recipe", "lora", field)))


def test_what_is_not_known_is_left_aside_and_stays_in_the_file(tmp_path: Path) -> None:
    folder = put(tmp_path, "checkpoint.json", grown(CHECKPOINT))
    checkpoint = read_record(folder)
    assert (
        checkpoint.recipe
        == read_record(put(tmp_path / "now", "checkpoint.json", CHECKPOINT)).recipe
    )
    moved = checkpoint.base.model_copy(update={"path": "/elsewhere"})
    write_record(checkpoint.model_copy(update={"base": moved}), folder)
    written = json.loads((folder / "checkpoint.json").read_text())
    expected = grown(CHECKPOINT)
    expected["base"]["path"] = "/elsewhere"
    for page, wanted in (
        (written, expected),
        (written["recipe"]["lora"], expected["recipe"]["lora"]),
    ):
        assert page["of_tomorrow"] == wanted["of_tomorrow"]
    assert written["base"] == expected["base"]
    assert written["training"].items() >= expected["training"].items()


def test_a_record_is_not_held_to_what_recipes_are_held_to_today(tmp_path: Path) -> None:
    record = copy.deepcopy(CHECKPOINT)
    record["recipe"]["method"] = "full"
    record["recipe"]["data"] = {"generate": "secure", "n": 4, "seed": 0}
    with pytest.raises(ValueError, match="method lora"):
        Recipe.model_validate(record["recipe"])
    assert read_record(put(tmp_path, "checkpoint.json", record)).recipe.method == "full"


def test_a_newer_format_is_refused_in_one_line(tmp_path: Path) -> None:
    record = CHECKPOINT | {"format": FORMAT + 1, "versions": {"em-inspect": "9.0"}}
    with pytest.raises(UserError, match=r"format 2, .* up to 1: update em-inspect, 9\.0 wrote it"):
        read_record(put(tmp_path, "checkpoint.json", record))
    with pytest.raises(UserError, match=r"format 2, .* update em-inspect"):
        read_hosted_checkpoint(put(tmp_path / "h", "checkpoint.json", HOSTED | {"format": 2}))
    put(tmp_path / JOB["label"], "hosted.json", JOB | {"format": 2})
    with pytest.raises(UserError, match=r"format 2, .* update em-inspect"):
        read_state(tmp_path, JOB["label"])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    record = {name: value for name, value in CHECKPOINT.items() if name != "training"}
    with pytest.raises(UserError, match="field 'training' is missing"):
        read_record(put(tmp_path, "checkpoint.json", record))


@pytest.mark.parametrize("field", list(JOB["recipe"]))
def test_a_jobs_record_is_read_with_another_recipe(field: str, tmp_path: Path) -> None:
    put(tmp_path / JOB["label"], "hosted.json", renamed(JOB, "recipe", field))
    assert read_state(tmp_path, JOB["label"]) is not None
    folder = put(tmp_path / "done", "checkpoint.json", renamed(HOSTED, "recipe", field))
    assert read_hosted_checkpoint(folder).job == "job-1"


def test_a_jobs_record_keeps_what_is_not_known(tmp_path: Path) -> None:
    put(tmp_path / JOB["label"], "hosted.json", grown(JOB))
    record = read_state(tmp_path, JOB["label"])
    assert isinstance(record, JobRecord)
    write_state(record.model_copy(update={"status": "succeeded"}), tmp_path)
    written = json.loads((tmp_path / JOB["label"] / "hosted.json").read_text())
    expected = grown(JOB) | {"status": "succeeded"}
    assert {**expected, "recipe": 0} == {**{k: written[k] for k in expected}, "recipe": 0}
    assert written["recipe"]["of_tomorrow"] == expected["recipe"]["of_tomorrow"]


def test_a_stopped_run_is_resumed_across_versions(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from em_finetune.local.resume import Identity, read_saved

    identity = Identity(recipe=RECIPE, data="d", base="b", rows=3)
    said = json.loads(identity.model_dump_json())
    said["recipe"]["of_tomorrow"] = 1
    state = tmp_path / "state.safetensors"
    metadata = {"identity": json.dumps(said), "step": "2", "steps": "[]", "resumed": "[]"}
    save_file({"weight.0": torch.zeros(1)}, state, metadata=metadata)
    saved = read_saved(state)
    assert saved is not None
    assert saved.identity.recipe == RECIPE
    assert isinstance(read_record(put(tmp_path, "checkpoint.json", CHECKPOINT)), Checkpoint)
