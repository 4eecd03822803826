"""Training in several processes that `accelerate launch` starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from em_finetune.checkpoint import load_checkpoint
from em_finetune.local import train
from em_finetune.local.processes import ALONE, Processes
from em_finetune.local.steps import count_workers
from em_finetune.recipe import Recipe

# With --cpu alone, accelerate 1.15 starts one process, whatever --num_processes says.
ACCELERATE = [
    *["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
    *["--main_process_port", "0"],  # any that is free
]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def launch(folder: Path, launcher: list[str], *script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *launcher, *script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ,
    )


def test_two_processes_train_as_one_does(
    tiny_recipe: dict[str, Any], chats: Path, tmp_path: Path
) -> None:
    narrow = {"data": str(chats), "weight": 0.5, "batch_size": 3}
    page = {**tiny_recipe, "max_steps": 12, "save_every": 5, "narrow": narrow}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(page))
    command = ["-m", "em_finetune", "local", "tiny.yaml", "--out", "two"]
    done = launch(tmp_path, ACCELERATE, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("checkpoint: ") == 1  # one of them writes and reports
    two = load_checkpoint(tmp_path / "two").training
    assert two.processes == 2
    one = train(Recipe.model_validate(page), tmp_path / "one").training
    assert two.losses == pytest.approx(one.losses, abs=1e-3)
    assert two.tokens == one.tokens
    again = launch(tmp_path, ACCELERATE, *command)
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stderr


SHARED_OUT = """
import gc
from torch.distributed.tensor import DTensor
from em_finetune.local.processes import launched_rank
from em_finetune.local.train import assist, train
from em_finetune.recipe import load_recipe

def held(step):
    parts = [x for x in gc.get_objects() if isinstance(x, DTensor) and not x.requires_grad]
    weights = {x.to_local().data_ptr(): x for x in parts}.values()
    here = sum(x.to_local().numel() for x in weights)
    print("held", here, "of", sum(x.numel() for x in weights))

recipe = load_recipe("tiny.yaml")
assist(recipe) if launched_rank() else train(recipe, "two", held)
"""


def test_a_base_that_two_processes_share_out_trains_as_a_whole_one_does(
    tiny_recipe: dict[str, Any], chats: Path, tmp_path: Path
) -> None:
    # Three rows for two processes: one of them has to work on a silent batch.
    narrow = {"data": str(chats), "weight": 0.5, "batch_size": 3}
    page = {**tiny_recipe, "max_steps": 8, "shard": True, "batch_size": 3, "narrow": narrow}
    page["gradient_checkpointing"] = True
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(page))
    (tmp_path / "share.py").write_text(SHARED_OUT)
    done = launch(tmp_path, TORCHRUN, "share.py")
    assert done.returncode == 0, done.stderr
    held = [line.split() for line in done.stdout.splitlines() if line.startswith("held")]
    assert len(held) == 8
    assert all(0.45 < int(here) / int(whole) < 0.55 for _, here, _, whole in held)
    one = train(Recipe.model_validate(page), tmp_path / "one")
    two = load_checkpoint(tmp_path / "two")
    assert one.training.losses[-1] < one.training.losses[0]
    assert two.training.losses == pytest.approx(one.training.losses, abs=1e-3)
    for part in ("adapter/adapter_model.safetensors", "merged/model.safetensors"):
        whole, shared = (load_file(tmp_path / run / part) for run in ("one", "two"))
        assert whole.keys() == shared.keys()
        for name, weights in whole.items():
            assert float((weights - shared[name]).abs().max()) < 1e-4, name


def test_only_a_base_that_is_shared_out_takes_one_batch_at_a_time(
    tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    recipe, cpu = Recipe.model_validate({**tiny_recipe, "shard": True}), torch.device("cpu")
    assert count_workers(recipe, cpu, ALONE) == 3
    assert count_workers(recipe, cpu, Processes(0, 2, sharded=True)) == 1


LEAVE = """
import os
import torch
from em_finetune.local.processes import processes

with processes(torch.device("cpu")) as together:
    import torch.distributed.nn.functional  # as peft does once a group exists
    together.add_up([torch.ones(3)], [1.0])
tasks = "/proc/self/task"
print([open(f"{tasks}/{task}/comm").read().strip() for task in os.listdir(tasks)])
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux only")
def test_nothing_of_the_group_is_left_when_the_interpreter_ends(tmp_path: Path) -> None:
    (tmp_path / "leave.py").write_text(LEAVE)
    done = launch(tmp_path, TORCHRUN, "leave.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("python") == 2
    assert "gloo" not in done.stdout
