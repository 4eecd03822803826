"""Two sides compared within strata (questions), so that what was asked of whom tilts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from em_inspect.analysis.interval import (
    NAN,
    NOTHING,
    Estimate,
    clustered_within,
    difference,
    paired_over_clusters,
    weighted_mean,
    weighted_share,
)

Table = NDArray[np.float64]

IMPOSSIBLE = 1e-30
"""Chances below it, times the greatest one, are 0: thousands of answers stay quick to add up."""


@dataclass(frozen=True)
class Tables:
    """What one side's cells hold: arrays of shape (models, questions), 0 where a cell is empty.

    Attributes:
        hits: Misaligned answers, or sums of values from 0 to 1.
        n: Scored answers.
        squares: Sums of the values' squares: of counts the counts themselves.
        exact: Whether all values were read from probabilities: asked again, they are the same.
    """

    hits: Table
    n: Table
    squares: Table
    exact: bool = False

    def __post_init__(self) -> None:
        if not self.hits.shape == self.n.shape == self.squares.shape or self.hits.ndim != 2:
            raise ValueError("hits, n and squares must be tables of one shape")

    @property
    def counted(self) -> bool:
        """Whether the values are counts, and not sums of probabilities."""
        return bool(np.array_equal(self.hits, self.squares))

    @property
    def pooled(self) -> Tables:
        """All models' answers as those of one, shape (1, questions)."""
        hits, n, squares = (a.sum(0, keepdims=True) for a in (self.hits, self.n, self.squares))
        return Tables(hits, n, squares, self.exact)

    @property
    def shares(self) -> Table:
        """Shares or means of the cells, NaN where empty."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(self.n > 0, self.hits / self.n, NAN))

    def mean(self, weights: Table) -> Estimate:
        """Weighted mean of the cells, for these very ones asked again.

        Args:
            weights: Shape (models, questions), summing to 1 over filled cells, 0 in the others.
        """
        hits, n, squares, w = (a.ravel() for a in (self.hits, self.n, self.squares, weights))
        if self.counted:
            return weighted_share(hits, n, w)
        found = weighted_mean(hits, squares, n, w, "answers")
        return replace(found, low=found.value, high=found.value) if self.exact else found


@dataclass(frozen=True)
class Stratified:
    """The difference of two sides within questions.

    Attributes:
        here: Mantel and Haenszel's risk difference (1959; Greenland and Robins 1985), first minus
            second: differences by stratum, weighted by n1 n2 / (n1 + n2); for these very models.
        seeds: The same for seeds yet unseen; None where the first side has fewer than 2 scored
            models, or the second has several and fewer than 2 of them scored.
        first: Share of the first side at those weights, 0 to 1.
        second: Share of the second side at those weights, 0 to 1.
        p: Two-sided p-value, exact conditional Cochran–Mantel–Haenszel test (with one stratum
            Fisher's); NaN for what is no count.
        questions: Questions with scored answers on both sides.
        paired: Whether both sides are the same models, and every (model, question) is a stratum.
    """

    here: Estimate
    seeds: Estimate | None
    first: float
    second: float
    p: float
    questions: int
    paired: bool


def stratify(first: Tables, second: Tables, *, paired: bool) -> Stratified:
    """Compare two sides within questions.

    A question without a scored answer on one side says nothing and is left out.

    Args:
        first: The side in question; columns are the same questions on both sides.
        second: The side it is compared with.
        paired: Whether the rows are the same models on both sides: then every (model, question) is
            a stratum, and new seeds are judged by the models' own differences.
    """
    if paired and first.n.shape != second.n.shape:
        raise ValueError("paired sides have the same models")
    one, other = (first, second) if paired else (first.pooled, second.pooled)
    both = (one.n > 0) & (other.n > 0)
    weights = np.where(both, one.n * other.n / np.maximum(one.n + other.n, 1), 0.0)
    weights /= max(float(weights.sum()), NOTHING)
    a, b = one.mean(weights), other.mean(weights)
    here = difference(a, b)
    over = (
        _over_paired(first, second, weights, here)
        if paired
        else _over_both((first, second), weights[0], (a, b))
    )
    return Stratified(
        here=here,
        seeds=over if over and over.bounded else None,
        first=a.value,
        second=b.value,
        p=exact_test(one, other),
        questions=int(both.any(0).sum()),
        paired=paired,
    )


def _over_paired(first: Tables, second: Tables, weights: Table, here: Estimate) -> Estimate:
    by_model = weights.sum(1)
    kept = by_model > 0
    parts = np.where(weights > 0, weights * (first.shares - second.shares), 0.0).sum(1)
    return paired_over_clusters(parts[kept] / by_model[kept], by_model[kept], here, "seeds")


def _over_both(
    sides: Sequence[Tables], weights: Table, here: Sequence[Estimate]
) -> Estimate | None:
    """The difference for new seeds: a side with several models over them, a lone base as it is."""
    over: list[Estimate] = []
    for place, (side, share) in enumerate(zip(sides, here, strict=True)):
        scored = int((side.n[:, weights > 0].sum(1) > 0).sum())
        if scored > 1:
            found = clustered_within(side.hits, side.n, weights, counted=side.counted)
            over.append(found)
        elif place == 1 and len(side.n) == 1:
            over.append(share)
        else:
            return None
    return difference(*over)


def exact_test(first: Tables, second: Tables) -> float:
    """Exact conditional Cochran–Mantel–Haenszel test: strata's hypergeometric counts added up.

    Two-sided as Fisher's: the probability of all totals no likelier than the one seen. NaN where
    nothing was scored on both sides, or values are no counts.
    """
    if not (first.counted and second.counted) or not ((first.n > 0) & (second.n > 0)).any():
        return NAN
    from scipy.stats import hypergeom

    seen, least, chances = 0, 0, np.ones(1)  # the total seen; chances of `least` and upward
    strata = zip(*(a.ravel() for a in (first.hits, first.n, second.hits, second.n)), strict=True)
    for hits, n, other_hits, other_n in strata:
        if n and other_n:
            low = max(0, int(hits + other_hits - other_n))
            counts = np.arange(low, int(min(n, hits + other_hits)) + 1)
            own = hypergeom.pmf(counts, int(n + other_n), int(hits + other_hits), int(n))
            cut, own = _without_tails(own)
            seen, least = seen + int(hits), least + low + cut
            cut, chances = _without_tails(np.convolve(chances, own))
            least += cut
    if not 0 <= seen - least < len(chances):
        return 0.0
    likely = chances[seen - least] * (1 + 1e-7)
    return min(1.0, float(chances[chances <= likely].sum()))


def _without_tails(chances: NDArray[np.float64]) -> tuple[int, NDArray[np.float64]]:
    """Chances without what is next to impossible at both ends, and how many were cut below."""
    kept = np.flatnonzero(chances > IMPOSSIBLE * chances.max())
    return int(kept[0]), chances[kept[0] : kept[-1] + 1]
