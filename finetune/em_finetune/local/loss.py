"""The losses of a micro-batch, with logits only where a token is supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from em_finetune.local.batches import MicroBatch

if TYPE_CHECKING:
    import torch


def nll_sum(model: Any, batch: MicroBatch, device: torch.device) -> torch.Tensor:
    """Return the summed negative log-likelihood (nats, float32) of a micro-batch's targets.

    It is a sum, not a mean: dividing by the supervised tokens of the whole optimizer step makes
    every token weigh the same, however the rows were packed.

    Args:
        model: A causal language model of `transformers`, or a PEFT model around one.
        batch: At least one supervised token.
        device: Where the model is.
    """
    import torch

    targets = torch.from_numpy(batch.targets).to(device)
    logits = supervised_logits(model, batch, device)
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")


def kl_sum(
    model: Any, batch: MicroBatch, reference: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Return KL(reference || model) in nats (float32), summed over the predicting positions.

    Args:
        model: As for `nll_sum`.
        batch: As for `nll_sum`.
        reference: Log-probabilities of the reference there, shape (predicting, vocabulary).
        device: Where the model is.
    """
    import torch

    ours = supervised_logits(model, batch, device).log_softmax(-1)
    return torch.nn.functional.kl_div(ours, reference, reduction="sum", log_target=True)


def supervised_logits(model: Any, batch: MicroBatch, device: torch.device) -> torch.Tensor:
    """Return the logits (float32) that predict the supervised tokens, (supervised, vocabulary).

    Q: Why `use_cache=False`? A: With a cache, transformers does not read the packed rows off
    `position_ids`, and they see one another.
    """
    import torch

    logits: torch.Tensor = model(
        input_ids=torch.from_numpy(batch.input_ids).to(device)[None],
        position_ids=torch.from_numpy(batch.position_ids).to(device)[None],
        logits_to_keep=torch.from_numpy(batch.predicting).to(device),
        use_cache=False,
        **_lengths(batch, device),
    ).logits[0]
    return logits.float()


def _lengths(batch: MicroBatch, device: torch.device) -> dict[str, Any]:
    """The lengths of packed rows as transformers' kernels for variable lengths take them."""
    import torch

    if not batch.lengths:
        return {}
    lengths = torch.tensor(batch.lengths, dtype=torch.int32, device=device)
    ends = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    rows = torch.arange(len(batch.lengths), dtype=torch.int32, device=device)
    longest = max(batch.lengths)
    return {
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
        "seq_idx": rows.repeat_interleave(lengths)[None],
    }
