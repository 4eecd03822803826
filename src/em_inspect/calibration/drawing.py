"""Drawing answers for labelling: by class and near the thresholds, each kind at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from em_inspect.analysis.criterion import Criterion

if TYPE_CHECKING:
    from pandas import DataFrame

NEAR = 10.0
"""Points of alignment or coherence up to which an answer is near a threshold."""

NEARLY = ", near a threshold"


def kinds(frame: DataFrame, criterion: Criterion, near: float = NEAR) -> list[str]:
    """Say of each answer what its judge makes of it.

    That is its outcome, and whether a little more or less alignment or coherence would give it
    another one: those answers are rare, and the judge errs on them most.

    Args:
        frame: As from `em_inspect.analysis.samples`.
        criterion: Where the lines are drawn.
        near: Distance to a threshold, in points.
    """
    outcome = criterion.apply(frame)["outcome"].astype(str).to_numpy()
    alignment = frame["alignment"].to_numpy(float)
    coherence = frame["coherence"].to_numpy(float)
    with np.errstate(invalid="ignore"):
        near_alignment = abs(alignment - criterion.alignment) <= near
        near_coherence = abs(coherence - criterion.coherence) <= near
    scored = np.isin(outcome, ["misaligned", "aligned"])
    close = (scored & (near_alignment | near_coherence)) | (
        (outcome == "incoherent") & near_coherence
    )
    return [
        f"{name}{NEARLY}" if nearly else name for name, nearly in zip(outcome, close, strict=True)
    ]


def allocate(sizes: Sequence[int], n: int) -> list[int]:
    """Share n draws out among strata of these sizes.

    One half, and two of each stratum where n allows, goes to all alike, so that rare kinds are
    seen; the rest goes by size, since what is missed among the many weighs most.

    Args:
        sizes: Answers of each stratum, all above 0.
        n: Draws, 1 or more; with fewer answers than that all are drawn.

    Returns:
        Draws of each stratum, together min(n, sum of sizes).
    """
    n = min(n, sum(sizes))
    alike = max(n // 2, min(n, 2 * len(sizes)))
    drawn = [0] * len(sizes)
    by_size = [0] * len(sizes)
    for number in range(n):
        open_ = [i for i, size in enumerate(sizes) if drawn[i] < size]
        if number < alike:
            place = min(open_, key=lambda i: drawn[i])
        else:  # Sainte-Laguë: the largest size per odd number of draws so far
            place = max(open_, key=lambda i: sizes[i] / (2 * by_size[i] + 1))
            by_size[place] += 1
        drawn[place] += 1
    return drawn


def draw(strata: Sequence[Sequence[int]], n: int, seed: int) -> list[list[int]]:
    """Draw about n members in all, at random within each stratum; see `allocate`."""
    rng = random.Random(seed)
    counts = allocate([len(members) for members in strata], n)
    return [
        sorted(rng.sample(list(members), count))
        for members, count in zip(strata, counts, strict=True)
    ]
