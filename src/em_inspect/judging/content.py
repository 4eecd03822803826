"""Content of a model's folder: one hash that another training under the same path changes.

Q: Why not every byte? A: 60 GB would take minutes. Of each tensor at most 1 MiB is read, in blocks
spread over it from its first to its last byte; a training moves nearly every weight of the tensors
that it touches. Adapters and small models are read whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

BLOCK = 65_536
BLOCKS_OF_A_TENSOR = 16
BLOCKS_OF_A_FILE = 512
"""Weights without a header that says where tensors lie (`.bin`, `.gguf`) are read in more blocks;
the checksums that such archives keep at their end are among them."""

_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf"}
_SETTINGS = {".json", ".model", ".jinja", ".txt", ".py"}

# What a training leaves beside a model, and what a model is not changed by.
_OTHER = {
    "checkpoint.json",
    "trainer_state.json",
    "training_args.bin",
    "optimizer.bin",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "requirements.txt",
}

ADAPTER = "adapter_config.json"
_BASE = ("base_model_name_or_path", "revision")


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def folder_content(folder: Path) -> str:
    """Name what a model's folder holds: 32 hex digits over its settings, tokenizer and weights.

    Where it lies, when it was written and what else lies in it make no difference. An adapter's
    content includes that of its base where the base is a folder, else the base's name.

    Args:
        folder: A folder as `from_pretrained` reads it: a model, or an adapter.

    Raises:
        OSError: If a file of it cannot be read.
    """
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.name in _OTHER or not path.is_file():
            continue
        if path.suffix in _WEIGHTS:
            found.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            _add_weights(found, path)
        elif path.suffix in _SETTINGS:
            found.update(f"{path.name}\0".encode())
            found.update(_adapter(path) if path.name == ADAPTER else path.read_bytes())
    return found.hexdigest()[:32]


def _adapter(path: Path) -> bytes:
    """An adapter's settings with its base's content in place of the base's path."""
    text = path.read_bytes()
    try:
        settings = json.loads(text)
        base = Path(str(settings["base_model_name_or_path"])).expanduser()
    except (ValueError, KeyError, TypeError):
        return text
    if not base.is_dir() or base.resolve() == path.parent.resolve():
        return text
    rest = {key: value for key, value in settings.items() if key not in _BASE}
    return json.dumps([rest, folder_content(base)], sort_keys=True).encode()


def _add_weights(found: _Hash, path: Path) -> None:
    with path.open("rb") as file:
        for start, end, blocks in _parts(file, path):
            for at in _block_starts(start, end, blocks):
                file.seek(at)
                found.update(file.read(min(BLOCK, end - at)))


def _parts(file: BinaryIO, path: Path) -> Iterator[tuple[int, int, int]]:
    """Where the parts of a weights file begin and end, and how many blocks of each are read."""
    size = path.stat().st_size
    if path.suffix == ".safetensors":
        length = int.from_bytes(file.read(8), "little")
        try:
            header: dict[str, Any] = json.loads(file.read(length)) if length < size else {}
            spans = [one["data_offsets"] for key, one in header.items() if key != "__metadata__"]
            parts = [(8 + length + int(a), 8 + length + int(b)) for a, b in spans]
        except (ValueError, KeyError, TypeError):
            parts = []
        if parts:
            yield 0, 8 + length, 1 + length // BLOCK
            yield from ((start, end, BLOCKS_OF_A_TENSOR) for start, end in sorted(parts))
            return
    yield 0, size, BLOCKS_OF_A_FILE


def _block_starts(start: int, end: int, blocks: int) -> list[int]:
    """Where blocks begin that are spread evenly from the first to the last byte."""
    if end - start <= blocks * BLOCK:
        return list(range(start, end, BLOCK))
    last = end - BLOCK
    return [start + (last - start) * i // (blocks - 1) for i in range(blocks)]
