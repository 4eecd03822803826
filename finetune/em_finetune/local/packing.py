"""Whether rows that go through a model end to end see one another, tried on the loaded base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from em_finetune.local.batches import micro_batches
from em_finetune.local.encode import IGNORED, EncodedRow
from em_finetune.local.loss import supervised_logits

if TYPE_CHECKING:
    import torch

Packing = Literal["by positions", "by lengths", "none"]
"""How rows are told apart: their positions begin anew, their lengths are given too, or each goes
alone."""

_TOLERANCE, _TOLERANCE_HALF = 1e-3, 0.1
"""Difference of log-probabilities, in nats, that arithmetic alone may make: in float32, and in
bfloat16."""

_LENGTH, _BEFORE = 32, 48


@dataclass(frozen=True)
class Trial:
    """What came of packing.

    Attributes:
        packing: How rows can be packed.
        leak: By how much, in nats, log-probabilities of a row's tokens moved behind other rows that
            are only told apart by positions.
    """

    packing: Packing
    leak: float


def try_packing(model: Any, device: torch.device, dtype: str) -> Trial:
    """Compare a row alone with the same row behind others, as training would read them.

    Attention reads off `position_ids` where a row begins. Recurrent and convolutional layers do
    not (LFM2, Qwen3-Next, Qwen3.5), nor do some attentions (gpt-oss): there the loss of a row
    would silently depend on the one before it. Some of them want the rows' lengths, and have
    kernels that heed them.

    Q: Why does the row before repeat the row? A: A model that can see it copies it, which moves
    log-probabilities by nats, not by what arithmetic moves.

    Args:
        model: Ready to train.
        device: Where it is.
        dtype: Of its arithmetic.
    """
    tolerance = _TOLERANCE_HALF if dtype == "bfloat16" else _TOLERANCE
    training = model.training
    model.eval()
    try:
        leak = _leak(model, device, dtype, told=False)
        if leak <= tolerance:
            return Trial("by positions", leak)
        try:
            told = _leak(model, device, dtype, told=True)
        except (TypeError, ValueError, RuntimeError, NotImplementedError):
            return Trial("none", leak)  # kernels that are not installed, arguments not taken
        return Trial("by lengths" if told <= tolerance else "none", leak)
    finally:
        model.train(training)


def _leak(model: Any, device: torch.device, dtype: str, told: bool) -> float:
    """How far a row's log-probabilities move with what stands before it.

    The largest difference behind one row or another of the same length, where all else is computed
    alike; or, if larger, the mean one against the row alone, for positions that do not begin anew.
    """
    row, repeating, other = _rows(model.config.get_text_config().vocab_size)
    alone = _log_probs(model, [row], device, dtype, told)
    behind = [_log_probs(model, [one, row], device, dtype, told) for one in (repeating, other)]
    moved, apart = (behind[0] - behind[1]).abs().max(), (alone - behind[0]).abs().mean()
    return max(float(moved), float(apart))


def _rows(vocabulary: int) -> tuple[EncodedRow, EncodedRow, EncodedRow]:
    import numpy as np

    # Not from the ends of the vocabulary, where special tokens are.
    words = np.random.default_rng(0).integers(vocabulary // 4, vocabulary // 2, _LENGTH + _BEFORE)
    ids, others = words[:_LENGTH].tolist(), words[_LENGTH:].tolist()
    repeating = (ids + others)[:_BEFORE]
    return (
        EncodedRow(1, ids, ids),
        EncodedRow(2, repeating, [IGNORED] * _BEFORE),
        EncodedRow(2, others, [IGNORED] * _BEFORE),
    )


def _log_probs(
    model: Any, rows: list[EncodedRow], device: torch.device, dtype: str, told: bool
) -> torch.Tensor:
    import torch

    (batch,) = micro_batches(rows, _LENGTH + _BEFORE, told)
    mixed = torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == "bfloat16")
    with torch.no_grad(), mixed:
        logits = supervised_logits(model, batch, device)
    targets = torch.from_numpy(batch.targets).to(device)
    return logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
