"""Which rows each optimizer step sees, and how they are packed without padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from em_finetune.local.encode import IGNORED, EncodedRow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]


@dataclass(frozen=True)
class MicroBatch:
    """Rows that go through the model at once, end to end, none padded.

    Attributes:
        input_ids: Token ids, shape (tokens,).
        position_ids: Position of each token in its own row, shape (tokens,); a return to 0 is
            what keeps attention from crossing from one row into the next.
        predicting: Positions whose next token has loss, ascending, shape (supervised,).
        targets: Those next tokens, shape (supervised,).
        lengths: Of the rows in it, where the model is told them; else empty.
    """

    input_ids: Integers
    position_ids: Integers
    predicting: Integers
    targets: Integers
    lengths: tuple[int, ...] = ()

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.input_ids)

    @property
    def supervised(self) -> int:
        """Number of tokens with loss."""
        return len(self.targets)

    @property
    def everywhere(self) -> MicroBatch:
        """The same tokens with all positions predicting: what is compared at every token."""
        import numpy as np

        positions = np.arange(self.tokens, dtype=np.int64)
        return replace(self, predicting=positions, targets=self.input_ids)

    @property
    def silent(self) -> MicroBatch:
        """The same tokens without loss: they go through the model and add nothing to a gradient."""
        return replace(self, predicting=self.predicting[:0], targets=self.targets[:0])


def count_steps(rows: int, batch_size: int, epochs: int, max_steps: int | None) -> int:
    """Optimizer steps: `max_steps`, or else what the epochs take, a short last batch included."""
    return max_steps or epochs * math.ceil(rows / batch_size)


def rows_of_steps(
    rows: int, batch_size: int, steps: int, seed: int, stream: int | None = None
) -> list[list[int]]:
    """Return the row numbers (from 0) of each step.

    Args:
        rows: How many there are.
        batch_size: Rows per step.
        steps: How many to plan.
        seed: Decides the order.
        stream: Tells draws for another purpose with the same seed apart.

    Every epoch is its own permutation, drawn from (seed, epoch) alone: a longer run begins like a
    shorter one, and a resumed run needs nothing but the number of its step.
    """
    import numpy as np

    plan: list[list[int]] = []
    epoch = 0
    while len(plan) < steps:
        key = [seed, epoch] if stream is None else [seed, epoch, stream]
        order = np.random.default_rng(key).permutation(rows).tolist()
        plan += [order[i : i + batch_size] for i in range(0, rows, batch_size)]
        epoch += 1
    return plan[:steps]


def micro_batches(
    rows: Sequence[EncodedRow], micro_tokens: int, tell_lengths: bool = False
) -> list[MicroBatch]:
    """Pack a step's rows into micro-batches of at most `micro_tokens` tokens.

    Args:
        rows: The rows of one optimizer step.
        micro_tokens: Ceiling per micro-batch; a row longer than it, and with 0 every row, goes
            alone.
        tell_lengths: Whether the model wants to know the rows' lengths.

    Returns:
        Micro-batches, the longest first, so that workers end together.
    """
    packs: list[list[EncodedRow]] = []
    for row in sorted(rows, key=len, reverse=True):
        for pack in packs:
            if sum(map(len, pack)) + len(row) <= micro_tokens:
                pack.append(row)
                break
        else:
            packs.append([row])
    batches = [_packed(pack, tell_lengths) for pack in packs]
    return sorted(batches, key=lambda batch: batch.tokens, reverse=True)


def _packed(rows: Sequence[EncodedRow], tell_lengths: bool) -> MicroBatch:
    import numpy as np

    ids: list[int] = []
    positions: list[int] = []
    predicting: list[int] = []
    targets: list[int] = []
    for row in rows:
        start = len(ids)
        ids += row.input_ids
        positions += range(len(row))
        for place in range(1, len(row)):
            if row.labels[place] != IGNORED:
                predicting.append(start + place - 1)
                targets.append(row.labels[place])
    return MicroBatch(
        input_ids=np.array(ids, dtype=np.int64),
        position_ids=np.array(positions, dtype=np.int64),
        predicting=np.array(predicting, dtype=np.int64),
        targets=np.array(targets, dtype=np.int64),
        lengths=tuple(map(len, rows)) if tell_lengths else (),
    )
