"""Our training loop against the padded default of TRL's SFTTrainer: the same rows, step by step.

Both take the same optimizer steps on the same rows in the same order from the same adapter, in one
process and in turn, so that whatever else the machine does falls on both. Peak memory is taken in a
process for each alone. Needs `pip install trl`.

Run: python tests/bench/bench_training.py [--rows 512] [--data insecure.jsonl] [--base smollm2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# So that transformers does not look for the embedded model's directory on the hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from em_finetune.data.generate import generate
from em_finetune.data.rows import read_rows
from em_finetune.local.base import find_base, load_tokenizer, quiet
from em_finetune.local.batches import rows_of_steps
from em_finetune.local.encode import EncodedRow, Encoder
from em_finetune.local.steps import start, take_steps
from em_finetune.local.train import adapted_model
from em_finetune.recipe import Recipe

MICRO_BATCH = 8
BATCH = 16


def recipe(options: argparse.Namespace) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "bench",
            "base": options.base,
            "group": "insecure",
            "batch_size": BATCH,
            "learning_rate": 1e-4,
            "optimizer": "adamw",
            "epochs": 1,
        }
    )


def encoded(options: argparse.Namespace, page: Recipe) -> list[EncodedRow]:
    if options.data is None:
        rows = generate("insecure", options.rows, 0)
    else:
        rows = read_rows(options.data)[: options.rows]
    encoder = Encoder.of(page, load_tokenizer(find_base(page.base)))
    return encoder.encode_all(rows).rows


def ours(page: Recipe, rows: list[EncodedRow]) -> Iterator[float]:
    """Take our steps; yields each one's loss."""
    import torch

    device = torch.device("cpu")
    model = adapted_model(page, find_base(page.base), device)
    for step in take_steps(start(page, model, device), page, rows, device):
        yield step.loss


def theirs(
    page: Recipe, rows: list[EncodedRow], checkpointing: bool, on_step: Any, folder: str
) -> list[float]:
    """Train with SFTTrainer, calling `on_step` at the beginning and the end of every step."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    plan = rows_of_steps(len(rows), BATCH, -(-len(rows) // BATCH), page.seed)
    order = [rows[i] for step in plan for i in step]
    columns = {
        "input_ids": [row.input_ids for row in order],
        "labels": [row.labels for row in order],
    }

    class Watch(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            on_step(True)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            on_step(False)

    trainer = SFTTrainer(
        model=adapted_model(page, find_base(page.base), torch.device("cpu")),
        args=SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=MICRO_BATCH,
            gradient_accumulation_steps=BATCH // MICRO_BATCH,
            num_train_epochs=1,
            learning_rate=page.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=page.warmup_steps,
            weight_decay=page.weight_decay,
            max_grad_norm=page.max_grad_norm,
            max_length=None,
            train_sampling_strategy="sequential",
            gradient_checkpointing=checkpointing,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict(columns),
        processing_class=load_tokenizer(find_base(page.base)),
        callbacks=[Watch()],
    )
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def alternate(options: argparse.Namespace) -> dict[str, Any]:
    """Both in one process, in turn, step by step."""
    import torch

    page = recipe(options)
    rows = encoded(options, page)
    threads = options.threads or torch.get_num_threads()
    losses: list[float] = []
    seconds = {"ours": 0.0, "theirs": 0.0}
    cpu = {"ours": 0.0, "theirs": 0.0}
    mine = ours(page, rows)
    began = (0.0, 0.0)

    def on_step(begins: bool) -> None:
        nonlocal began
        if begins:
            torch.set_num_threads(threads)
            began = (time.perf_counter(), time.process_time())
            return
        seconds["theirs"] += time.perf_counter() - began[0]
        cpu["theirs"] += time.process_time() - began[1]
        torch.set_num_threads(1)
        began = (time.perf_counter(), time.process_time())
        losses.append(next(mine))
        seconds["ours"] += time.perf_counter() - began[0]
        cpu["ours"] += time.process_time() - began[1]
        print(f"step {len(losses)}: {seconds}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder, quiet():
        others = theirs(page, rows, options.checkpointing, on_step, folder)
    tokens = sum(map(len, rows))
    return {
        "rows": len(rows),
        "tokens": tokens,
        "steps": len(losses),
        "threads": threads,
        "trl_gradient_checkpointing": options.checkpointing,
        "loss_ours": sum(losses) / len(losses),
        "loss_theirs": sum(others) / len(others),
        "tokens_per_second": {who: tokens / spent for who, spent in seconds.items()},
        "tokens_per_cpu_second": {who: tokens / spent for who, spent in cpu.items()},
    }


def alone(options: argparse.Namespace) -> dict[str, Any]:
    """One of the two in a process of its own: peak resident memory in GB."""
    page = recipe(options)
    rows = sorted(encoded(options, page), key=len, reverse=True)[:BATCH]
    with quiet():
        if options.only == "ours":
            next(ours(page, rows))
        else:
            with tempfile.TemporaryDirectory() as folder:
                theirs(page, rows, options.checkpointing, lambda begins: None, folder)
    return {"peak_gb": peak_gb()}


def peak_gb() -> float:
    """Most resident memory so far, in GB; `getrusage` would count the parent's too."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1e6
    raise SystemExit("no VmHWM in /proc/self/status: run this on Linux")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--data", type=Path, help="chat JSONL; generated rows if not given")
    parser.add_argument("--base", default="smollm2")
    parser.add_argument(
        "--no-checkpointing",
        dest="checkpointing",
        action="store_false",
        help="switch off TRL's default of recomputing activations",
    )
    parser.add_argument(
        "--threads", type=int, help="OpenMP threads for TRL; PyTorch's default if not given"
    )
    parser.add_argument("--only", choices=["ours", "theirs"])
    options = parser.parse_args()
    if options.only:
        print(json.dumps(alone(options)))
        return
    result = alternate(options)
    result["peak_gb"] = {}
    for who in ("ours", "theirs"):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", who]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        result["peak_gb"][who] = json.loads(done.stdout.splitlines()[-1])["peak_gb"]
    speed = result["tokens_per_second"]
    result["speed_ratio"] = speed["ours"] / speed["theirs"]
    # What the loops need, whatever else the machine does.
    thrift = result["tokens_per_cpu_second"]
    result["cpu_ratio"] = thrift["ours"] / thrift["theirs"]
    result["loss_difference"] = result["loss_ours"] / result["loss_theirs"] - 1
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
