"""The state that a killed run goes on from: weights, optimizer and curve, in one file.

Everything else follows from the recipe, the rows and the number of the step: the order of the
data, the learning rate and the random numbers of dropout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from em_finetune.recipe import Recipe
from em_finetune.records import parse_record

if TYPE_CHECKING:
    import torch

    from em_finetune.local.steps import State, Step


class Identity(BaseModel):
    """What a saved state belongs to; it is only gone on from where all of it is the same."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    data: str
    base: str
    rows: int
    tokens: str = ""
    """SHA-256 of what the rows were encoded to; empty in states of older versions."""


@dataclass(frozen=True)
class Saved:
    """What a state file says besides its tensors.

    Attributes:
        identity: What it belongs to.
        step: Steps taken.
        steps: Their curve, as fields of `Step`.
        resumed: After which steps the run was gone on with.
    """

    identity: Identity
    step: int
    steps: list[dict[str, Any]]
    resumed: list[int]


def save_state(
    state: State, steps: Sequence[Step], resumed: Sequence[int], identity: Identity, path: Path
) -> bool:
    """Write the state, whole or not at all; a state that is not finite is not written.

    Returns:
        Whether it was written.

    Raises:
        OSError, safetensors.SafetensorError: No room or no permission.
    """
    from safetensors.torch import save_file

    if not all(bool(weight.isfinite().all()) for weight in state.weights):
        return False
    tensors = {f"weight.{i}": _plain(weight) for i, weight in enumerate(state.weights)}
    scalars: dict[str, dict[str, Any]] = {}
    for i, entries in state.optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if hasattr(value, "detach"):
                tensors[f"optimizer.{i}.{name}"] = _plain(value)
            else:
                scalars.setdefault(str(i), {})[name] = value
    said = {
        "identity": identity.model_dump_json(),
        "step": str(state.step),
        "steps": json.dumps([asdict(step) for step in steps]),
        "resumed": json.dumps(list(resumed)),
        "scalars": json.dumps(scalars),
    }
    part = path.with_name(f".{path.name}.part")
    save_file(tensors, part, metadata=said)
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    return True


def read_saved(path: Path) -> Saved | None:
    """Read what a state file says, None where there is none that this version understands."""
    said = _said(path)
    try:
        return Saved(
            parse_record(Identity, said["identity"]),
            int(said["step"]),
            json.loads(said["steps"]),
            json.loads(said["resumed"]),
        )
    except (KeyError, ValueError, ValidationError):
        return None


def restore(state: State, content: bytes, device: torch.device) -> None:
    """Bring a fresh state of the same recipe to where a state file's content left off."""
    import torch
    from safetensors.torch import load

    said = _header(content)
    tensors = load(content)
    with torch.no_grad():
        for i, weight in enumerate(state.weights):
            weight.copy_(tensors[f"weight.{i}"])
    entries: dict[int, dict[str, Any]] = {
        int(i): dict(values) for i, values in json.loads(said["scalars"]).items()
    }
    for name, tensor in tensors.items():
        kind, _, place = name.partition(".")
        if kind == "optimizer":
            number, _, entry = place.partition(".")
            # AdamW keeps its step count on the CPU.
            value = tensor if entry == "step" else tensor.to(device)
            entries.setdefault(int(number), {})[entry] = value
    plan = state.optimizer.state_dict()
    plan["state"] = entries
    state.optimizer.load_state_dict(plan)
    state.step = int(said["step"])


def _said(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def _header(content: bytes) -> dict[str, str]:
    # The format: eight bytes of length, then a JSON header, then the tensors.
    length = int.from_bytes(content[:8], "little")
    said: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return said


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()
