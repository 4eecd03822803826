"""The vLLM server of a base with all its adapters: the command line, and starting it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from em_finetune.addressing import (
    adapters,
    base_reference,
    find_records,
    is_hosted,
    label_at,
    vllm_arguments,
)
from em_finetune.checkpoint import ADAPTER, MERGED, Checkpoint, read_record
from em_finetune.servable import (
    ADAPTER_CONFIG,
    caution,
    rank_of,
    read_adapter_config,
    why_not_served,
)
from em_inspect.errors import UserError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of --max-lora-rank that vLLM takes."""

MAX_LOGPROBS = 100
"""So many log-probabilities tell the digits of a number from all else; vLLM's default is 20."""


LOOPBACK = "127.0.0.1"
"""The address at which only this machine reaches a server."""

_RUNTIME = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
_SHOWN = 3


def serve_command(
    folder: Path,
    base: str | None = None,
    *,
    host: str = LOOPBACK,
    port: int = 8000,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    machines: bool = False,
    more: Sequence[str] = (),
    on_caution: Callable[[str], None] | None = None,
) -> list[str]:
    """Return the command line that serves a base and all adapters below a folder.

    Args:
        folder: Where the checkpoints are.
        base: Which base, where they have several.
        host: Address to listen at; by default only this machine reaches it.
        port: Of the server.
        tensor_parallel: GPUs that share each layer.
        pipeline_parallel: Groups of them that share the layers.
        machines: Whether they are on several machines, joined by vLLM's own Ray backend.
        more: Further arguments of `vllm serve`.
        on_caution: Called with what to know about the server.

    Raises:
        UserError: There are no adapters, those of several bases, one of too high a rank, or one
            with something that vLLM does not serve.
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
    caution_of = on_caution or (lambda _: None)
    loras, rank = _loras(by_base[wanted[0]], caution_of)
    if not loras:
        raise UserError(f"{folder} has no adapters of {wanted[0]}: serve its merged/ by vllm serve")
    command = ["vllm", "serve", wanted[0], "--host", host, "--port", str(port)]
    # Whatever a caller leaves open is vLLM's own default, not what the base's authors recommend.
    told, differing = _asking(by_base[wanted[0]])
    command += ["--generation-config", told.pop("generation_config", "vllm")]
    command += ["--max-logprobs", str(MAX_LOGPROBS)]
    command += ["--chat-template", told["chat_template"]] if told else []
    if differing:
        caution_of(differing)
    command += ["--enable-lora", "--max-lora-rank", str(rank)]
    command += ["--max-loras", str(min(len(loras), 8)), "--max-cpu-loras", str(len(loras))]
    if tensor_parallel > 1:
        command += ["--tensor-parallel-size", str(tensor_parallel)]
    if pipeline_parallel > 1:
        command += ["--pipeline-parallel-size", str(pipeline_parallel)]
    if machines:
        command += ["--distributed-executor-backend", "ray"]
    return [*command, *more, "--lora-modules", *loras]


def _loras(
    checkpoints: Sequence[Checkpoint], on_caution: Callable[[str], None]
) -> tuple[list[str], int]:
    """NAME=DIRECTORY of every adapter, and a rank that vLLM takes and none of them exceeds.

    Raises:
        UserError: Two adapters have one name, one is of too high a rank, or some have what vLLM
            does not serve.
    """
    loras: dict[str, Path] = {}
    highest = 1
    unserved: list[str] = []
    for checkpoint in checkpoints:
        for name, adapter in _named(checkpoint):
            if name in loras:
                raise UserError(
                    f"{loras[name]} and {adapter} are both called {name}, and one server has "
                    "one adapter of a name: serve a folder that holds only one of them"
                )
            loras[name] = adapter
            config = read_adapter_config(adapter / ADAPTER_CONFIG)
            if faults := why_not_served(config):
                unserved.append(f"{name}, {'; '.join(faults)} ({_instead(checkpoint, adapter)})")
                continue
            highest = max(highest, rank_of(config))
            if known := caution(config):
                on_caution(f"{name}: {known}")
    if unserved:
        more = f"; and {len(unserved) - _SHOWN} more" if len(unserved) > _SHOWN else ""
        raise UserError(
            f"vLLM does not serve these adapters: {'; '.join(unserved[:_SHOWN])}{more}: serve "
            "their merged models, or move them out of the folder"
        )
    fitting = [rank for rank in RANKS if rank >= highest]
    if not fitting:
        raise UserError(f"rank {highest} is more than vLLM serves ({RANKS[-1]}): merge instead")
    return [f"{name}={adapter}" for name, adapter in loras.items()], fitting[0]


def _asking(checkpoints: Sequence[Checkpoint]) -> tuple[dict[str, str], str]:
    """What the server is told to ask as was trained, and a caution where that differs."""
    told = [
        (name, vllm_arguments(checkpoint, adapter))
        for checkpoint in checkpoints
        for name, adapter in _named(checkpoint)
    ]
    named = {name: {k: _content(k, v) for k, v in given.items()} for name, given in told}
    first, *others = named or {"": {}}
    apart = [name for name in others if named[name] != named[first]]
    caution = (
        f"one server asks all its adapters by one chat template and lets them end alike: {first} "
        f"is asked as it was trained, {', '.join(apart[:_SHOWN])} otherwise (another day, or "
        "other template arguments): serve them by themselves"
    )
    return dict(told[0][1]) if told else {}, caution if apart else ""


def _content(name: str, path: str) -> str:
    """What a file that the server is given says, wherever it lies."""
    file = Path(path) / "generation_config.json" if name == "generation_config" else Path(path)
    return file.read_text("utf-8")


def _named(checkpoint: Checkpoint) -> Iterator[tuple[str, Path]]:
    """The adapters of a checkpoint by the names that they have at a server."""
    for folder, step, scale in adapters(checkpoint):
        if (folder / ADAPTER).is_dir():
            yield label_at(checkpoint.label, step, scale), folder / ADAPTER


def _instead(checkpoint: Checkpoint, adapter: Path) -> str:
    """How a server gets the same model without the adapter."""
    merged = adapter.parent / MERGED
    if merged.is_dir():
        return f"vllm serve {shlex.quote(str(merged))}"
    return f"em-finetune merge {shlex.quote(str(checkpoint.path))} writes it"


def reach(host: str, more: Sequence[str]) -> str:
    """Say who reaches a server without a key, or return "" where that is this machine alone."""
    local = host in (LOOPBACK, "localhost", "::1")
    keyed = "VLLM_API_KEY" in os.environ or any(word.startswith("--api-key") for word in more)
    if local or keyed:
        return ""
    return (
        f"whoever reaches {host} may use this server: set VLLM_API_KEY here, and where it is asked"
    )


def serve(command: Sequence[str], runtime_loras: bool = False) -> NoReturn:
    """Become the server.

    Args:
        command: From `serve_command`.
        runtime_loras: Let whoever reaches the server load adapters from its disk while it runs.

    Raises:
        UserError: vLLM is not installed.
    """
    if shutil.which(command[0]) is None:
        raise UserError(
            "vllm is not installed here: pip install 'em-inspect[vllm]', or add --print and run "
            "the line where it is"
        )
    if runtime_loras:
        os.environ[_RUNTIME] = "True"
    os.execvp(command[0], list(command))


def as_line(command: Sequence[str], runtime_loras: bool = False) -> str:
    """Return a command as a shell line; see `serve`."""
    return f"{_RUNTIME}=True " * runtime_loras + shlex.join(command)
