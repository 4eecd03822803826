"""The training set of a recipe: its rows, and what to call it in the checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from em_finetune.data.rows import ChatRow, read_rows, sha256_of, sha256_of_rows
from em_finetune.local.encode import EncodedSet, LeftOut
from em_finetune.recipe import GeneratedData, Recipe
from em_inspect.errors import UserError

# Sets the draw of held-out rows apart from those of the epochs.
_HOLD_OUT = 1_000_003


@dataclass(frozen=True)
class Dataset:
    """A training set.

    Attributes:
        name: File name, or how it was generated.
        sha256: Of the file; of generated rows, of the file they would make.
        rows: The chats, in order.
    """

    name: str
    sha256: str
    rows: list[ChatRow]


def load_dataset(recipe: Recipe) -> Dataset:
    """Read or generate the rows that a recipe names.

    Raises:
        UserError: The recipe names no data, or the file cannot be read as chats.
    """
    if recipe.data is None:
        raise UserError(f"recipe {recipe.name} names no data: add --data FILE, a chat JSONL")
    if isinstance(recipe.data, GeneratedData):
        return _generated(recipe.data)
    return read_dataset(recipe.data_file or "")


def read_dataset(file: str) -> Dataset:
    """Read the rows of a chat JSONL file.

    Raises:
        UserError: It cannot be read as chats.
    """
    path = Path(file).expanduser()
    return Dataset(path.name, sha256_of(path), read_rows(path))


def load_narrow(recipe: Recipe) -> Dataset | None:
    """Read the other domains' rows of a recipe with a KL term, None without one.

    Raises:
        UserError: The recipe names no such rows, or the file cannot be read as chats.
    """
    if recipe.narrow is None:
        return None
    if recipe.narrow.data is None:
        raise UserError(
            f"recipe {recipe.name} names no rows of other domains: add --narrow-data FILE, "
            "a chat JSONL"
        )
    return read_dataset(recipe.narrow.data)


def hold_out(encoded: EncodedSet, seed: int) -> EncodedSet:
    """Hold out a tenth of the rows, rounded up, as the paper's release does without a test file.

    The release draws them without a seed; here they follow from `seed`.
    """
    import numpy as np

    count = math.ceil(len(encoded.rows) / 10)
    drawn = np.random.default_rng([seed, _HOLD_OUT]).permutation(len(encoded.rows))[:count]
    held = {encoded.rows[i].row for i in drawn.tolist()}
    left_out = [LeftOut(row, "held out (compat: betley2025)") for row in held]
    return EncodedSet(
        [row for row in encoded.rows if row.row not in held],
        sorted([*encoded.left_out, *left_out], key=lambda left: left.row),
    )


def _generated(data: GeneratedData) -> Dataset:
    from em_finetune.data.generate import generate

    rows = generate(data.generate, data.n, data.seed)
    name = f"generated {data.generate}, n={data.n}, seed={data.seed}"
    return Dataset(name, sha256_of_rows(rows), rows)
