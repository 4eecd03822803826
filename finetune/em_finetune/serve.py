"""The vLLM server of a base with all its adapters: the command line, and starting it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from em_finetune.addressing import adapters, base_reference, find_records, is_hosted, label_at
from em_finetune.checkpoint import ADAPTER, Checkpoint, read_record
from em_inspect.errors import UserError, one_line

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of --max-lora-rank that vLLM takes."""

MAX_LOGPROBS = 100
"""So many log-probabilities tell the digits of a number from all else; vLLM's default is 20."""


def serve_command(
    folder: Path,
    base: str | None = None,
    *,
    port: int = 8000,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    machines: bool = False,
    more: Sequence[str] = (),
) -> list[str]:
    """Return the command line that serves a base and all adapters below a folder.

    Args:
        folder: Where the checkpoints are.
        base: Which base, where they have several.
        port: Of the server.
        tensor_parallel: GPUs that share each layer.
        pipeline_parallel: Groups of them that share the layers.
        machines: Whether they are on several machines, joined by vLLM's own Ray backend.
        more: Further arguments of `vllm serve`.

    Raises:
        UserError: There are no adapters, those of several bases, or one of too high a rank.
    """
    by_base: dict[str, list[Checkpoint]] = {}
    for one in find_records(folder):
        if not is_hosted(one):
            checkpoint = read_record(one)
            by_base.setdefault(base_reference(checkpoint), []).append(checkpoint)
    names = {name: made[0].base.name for name, made in by_base.items()}
    wanted = [name for name in by_base if base in (None, name, names[name])]
    if len(wanted) != 1:
        known = ", ".join(sorted(names.values())) or "none"
        raise UserError(
            f"{folder} has fine-tunes of these bases: {known}; name one of them with --base"
        )
    loras, rank = _loras(by_base[wanted[0]])
    if not loras:
        raise UserError(f"{folder} has no adapters of {wanted[0]}: serve its merged/ by vllm serve")
    command = ["vllm", "serve", wanted[0], "--port", str(port)]
    # Whatever a caller leaves open is vLLM's own default, not what the base's authors recommend.
    command += ["--generation-config", "vllm", "--max-logprobs", str(MAX_LOGPROBS)]
    command += ["--enable-lora", "--max-lora-rank", str(rank)]
    command += ["--max-loras", str(min(len(loras), 8)), "--max-cpu-loras", str(len(loras))]
    if tensor_parallel > 1:
        command += ["--tensor-parallel-size", str(tensor_parallel)]
    if pipeline_parallel > 1:
        command += ["--pipeline-parallel-size", str(pipeline_parallel)]
    if machines:
        command += ["--distributed-executor-backend", "ray"]
    return [*command, *more, "--lora-modules", *loras]


def _loras(checkpoints: Sequence[Checkpoint]) -> tuple[list[str], int]:
    """NAME=DIRECTORY of every adapter, and a rank that vLLM takes and none of them exceeds.

    Raises:
        UserError: Two adapters have one name, or one is of too high a rank.
    """
    loras: dict[str, Path] = {}
    highest = 1
    for checkpoint in checkpoints:
        for folder, step, scale in adapters(checkpoint):
            adapter = folder / ADAPTER
            if adapter.is_dir():
                highest = max(highest, _rank(adapter / "adapter_config.json"))
                name = label_at(checkpoint.label, step, scale)
                if name in loras:
                    raise UserError(
                        f"{loras[name]} and {adapter} are both called {name}, and one server has "
                        "one adapter of a name: serve a folder that holds only one of them"
                    )
                loras[name] = adapter
    fitting = [rank for rank in RANKS if rank >= highest]
    if not fitting:
        raise UserError(f"rank {highest} is more than vLLM serves ({RANKS[-1]}): merge instead")
    return [f"{name}={adapter}" for name, adapter in loras.items()], fitting[0]


def _rank(path: Path) -> int:
    try:
        config = json.loads(path.read_text("utf-8"))
        ranks: list[int] = [config["r"], *(config.get("rank_pattern") or {}).values(), 0]
        return max(ranks)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no adapter's configuration ({one_line(error)}): train it again, or move "
            "its checkpoint out of the folder"
        ) from error


def serve(command: Sequence[str]) -> NoReturn:
    """Become the server.

    Raises:
        UserError: vLLM is not installed.
    """
    if shutil.which(command[0]) is None:
        raise UserError(
            "vllm is not installed here: pip install 'em-inspect[vllm]', or add --print and run "
            "the line where it is"
        )
    os.environ.setdefault("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "True")
    os.execvp(command[0], list(command))


def as_line(command: Sequence[str]) -> str:
    """Return a command as a shell line."""
    return "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True " + shlex.join(command)
