"""Intervals for shares and means: which question each one answers, and the formula behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from em_inspect.errors import require_extra

LEVEL = 0.95
RESAMPLES = 2000
NAN = float("nan")

NOTHING = 1e-12
"""Shares and differences below it are rounding, and count as 0."""

Method = Literal["answers", "seeds", "questions", "seeds and questions", "paper", "t"]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The estimate; NaN where nothing was counted.
        low: Lower end, NaN where the method cannot give one.
        high: Upper end, likewise.
        n: Answers behind it.
        method: Which interval it is (see this module's functions).
        units: Independent units behind the interval: answers, seeds or questions.
    """

    value: float
    low: float
    high: float
    n: int
    method: Method
    units: int

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))


def wilson(share: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval for a share, right at zero counts; `n` need not be whole.

    Source: Wilson 1927; SciPy's `binomtest` has it for whole counts only.
    """
    if not n > 0 or math.isnan(share):
        return NAN, NAN
    z = NormalDist().inv_cdf((1 + level) / 2)
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if share == 0 else max(0.0, center - half)
    return low, 1.0 if share == 1 else min(1.0, center + half)


def share_of_answers(hits: int, n: int) -> Estimate:
    """Share of answers, as if each were drawn anew from these very models and questions."""
    share = hits / n if n else NAN
    return Estimate(share, *wilson(share, n), n=n, method="answers", units=n)


def mean_share(hits: ArrayLike, n: ArrayLike) -> Estimate:
    """Mean of the shares of several cells (questions, or models), each share weighing the same.

    Args:
        hits: Counts, shape (m,).
        n: Answers, shape (m,); cells without answers are left out.
    """
    n_ = np.asarray(n, float)
    filled = n_ > 0
    return weighted_share(hits, n, filled / max(int(filled.sum()), 1))


def weighted_share(hits: ArrayLike, n: ArrayLike, weights: ArrayLike) -> Estimate:
    """Weighted mean of independent shares, for these very cells (models and questions) asked again.

    The score interval of a linear combination of proportions (Martín Andrés and Álvarez Hernández
    2011): it holds each value whose distance from the estimate is at most z standard errors, at the
    likeliest shares of the cells that have this value. With one cell, or several alike, it is
    Wilson's. Cells may differ in answers and in shares: a cell with few answers widens it by what
    it may hide, also where it has no hit.

    Cells of one or a few answers show little of their own variance. So it is never narrower than
    Wilson's at the answers that give the mean its variance where all cells have one share,
    1 / sum(w^2 / n): what equally many answers in all cells have, and more than they need.

    Args:
        hits: Counts, shape (m,).
        n: Answers, shape (m,); cells without answers are left out.
        weights: Weights from 0 up, summing to 1 over the filled cells, shape (m,).
    """
    hits_, n_, weights_ = (np.asarray(a, float) for a in (hits, n, weights))
    kept = (n_ > 0) & (weights_ > 0)
    hits_, n_, weights_ = hits_[kept], n_[kept], weights_[kept]
    total = int(n_.sum())
    if not len(n_):
        return Estimate(NAN, NAN, NAN, 0, "answers", 0)
    share = float(np.sum(weights_ * hits_ / n_))
    if len(n_) == 1:
        return Estimate(share, *wilson(share, total), n=total, method="answers", units=total)
    low, high = wilson(share, 1 / float(np.sum(weights_**2 / n_)))
    if hits_.any():
        low = min(low, _score_bound(hits_, n_, weights_, share, below=True))
    if not (hits_ == n_).all():
        high = max(high, _score_bound(hits_, n_, weights_, share, below=False))
    return Estimate(share, low, high, total, "answers", total)


def _score_bound(
    hits: NDArray[np.float64],
    n: NDArray[np.float64],
    weights: NDArray[np.float64],
    share: float,
    *,
    below: bool,
) -> float:
    """The farthest value that the score test does not reject, on one side of the estimate.

    The likeliest cells' shares with a given weighted mean are one curve with a parameter from 0
    (the estimate itself) up, Lagrange's multiplier; the bound is where the test turns.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    sign = 1.0 if below else -1.0

    def at(multiplier: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        cells = _likeliest(hits, n, sign * multiplier[:, None] * weights)
        mean = cells @ weights
        error = np.sqrt((cells * (1 - cells)) @ (weights**2 / n))
        return mean, np.abs(mean - share) - z * error

    # Twelve decades are narrowed down to where the test turns last, 24 times a round.
    scale = float(np.min(n / weights))
    low, high = 1e-6 * scale, 1e6 * scale
    for _ in range(7):
        grid = np.geomspace(low, high, 25)
        inside = np.flatnonzero(at(grid)[1] <= 0)
        last = int(inside[-1]) if len(inside) else 0
        low, high = grid[last], grid[min(last + 1, 24)]
    return float(at(np.array([high]))[0][0])


def _likeliest(
    hits: NDArray[np.float64], n: NDArray[np.float64], pull: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Shares where the slope of each cell's log likelihood is `pull`: n p = hits - pull p (1 - p).

    Returns:
        Shares, the shape of `pull`, whose last axis is the cells.
    """
    b = n + pull
    root = np.sqrt(np.maximum(b * b - 4 * pull * hits, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(b > 0, 2 * hits / np.where(b > 0, b + root, 1), (b - root) / (2 * pull))
    return np.clip(found, 0, 1)


def weighted_mean(
    sums: ArrayLike, squares: ArrayLike, n: ArrayLike, weights: ArrayLike, method: Method
) -> Estimate:
    """Weighted mean of cells' means, for values that are no counts (probabilities from 0 to 1).

    Student's t with the variance within the cells (model and question), sum(w^2 s^2 / n), and
    Satterthwaite's degrees of freedom; cut at 0 and 1. No interval where no cell has two values.

    Args:
        sums: Sums of the values, shape (m,).
        squares: Sums of their squares, shape (m,).
        n: Values, shape (m,); cells without any are left out.
        weights: Weights of the cells, summing to 1 over the filled ones, shape (m,).
        method: What the interval is about.
    """
    require_extra("report", "scipy")
    from scipy.stats import t

    sums_, squares_, n_, weights_ = (np.asarray(a, float) for a in (sums, squares, n, weights))
    kept = n_ > 0
    sums_, squares_, n_, weights_ = sums_[kept], squares_[kept], n_[kept], weights_[kept]
    total = int(n_.sum())
    if not total:
        return Estimate(NAN, NAN, NAN, 0, method, 0)
    mean = float(np.sum(weights_ * sums_ / n_))
    several = n_ > 1
    if not several.all():  # the variance of a single value cannot be seen
        return Estimate(mean, NAN, NAN, total, method, total)
    variances = np.maximum(squares_ - sums_**2 / n_, 0) / (n_ - 1)
    parts = weights_**2 * variances / n_
    variance = float(parts.sum())
    if not variance:
        return Estimate(mean, mean, mean, total, method, total)
    freedom = variance**2 / float(np.sum(parts**2 / (n_ - 1)))
    half = float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half), total, method, total)


def student(mean: float, variance: float, freedom: float) -> tuple[float, float]:
    """Student's t bounds of a mean from 0 to 1 with a known variance of the mean."""
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    return max(0.0, mean - half), min(1.0, mean + half)


def clustered(hits: ArrayLike, n: ArrayLike, method: Method, *, counted: bool = True) -> Estimate:
    """Mean over clusters (seeds or questions) of their shares, for clusters yet unseen.

    The exact binomial interval at the effective sample size, p(1 - p) / variance between cluster
    means, cut by (t_inf / t_(m-1))^2 for few clusters (Korn and Graubard 1998). The size is never
    more than that of the answers, m^2 / sum(1 / n). At zero counts the variance cannot be seen, and
    the latter is cut by the second factor alone.

    Args:
        hits: Counts by cluster, shape (m,).
        n: Answers by cluster, shape (m,); clusters without answers are left out.
        method: What the clusters are.
        counted: Whether hits are counts; sums of probabilities have Student's t instead.
    """
    hits_, n_ = np.asarray(hits, float), np.asarray(n, float)
    hits_, n_ = hits_[n_ > 0], n_[n_ > 0]
    total, m = int(n_.sum()), len(n_)
    if m == 0:
        return Estimate(NAN, NAN, NAN, 0, method, 0)
    shares = hits_ / n_
    share = float(np.mean(shares))
    if m < 2:
        return Estimate(share, NAN, NAN, total, method, m)
    variance = float(np.var(shares, ddof=1)) / m
    if not counted:
        return Estimate(share, *student(share, variance, m - 1), total, method, m)
    size = m * m / float(np.sum(1 / n_))
    return Estimate(share, *exact(share, size, variance, m - 1), total, method, m)


def clustered_within(
    hits: ArrayLike, n: ArrayLike, weights: ArrayLike, *, counted: bool = True
) -> Estimate:
    """Weighted mean over strata (questions) of their shares, for clusters (seeds) yet unseen.

    Each stratum's share is that of all its answers. Its variance is that of the clusters' sums of
    residuals, as in a survey's ratio estimate, which cluster and stratum without answers do not
    disturb; then as in `clustered`, which it equals where all cells have as many answers. Clusters
    weigh by their answers, c: where they differ they count as 1 / sum(c^2) clusters (Kish 1965).

    Args:
        hits: Counts, shape (clusters, strata).
        n: Answers, shape (clusters, strata).
        weights: Weights of the strata, summing to 1, 0 where a stratum has no answers.
        counted: Whether hits are counts; sums of probabilities have Student's t instead.
    """
    weights_ = np.asarray(weights, float)
    kept = weights_ > 0
    hits_, n_ = np.asarray(hits, float)[:, kept], np.asarray(n, float)[:, kept]
    weights_ = weights_[kept]
    filled = n_.sum(1) > 0
    hits_, n_ = hits_[filled], n_[filled]
    m, answers = len(n_), n_.sum(0)
    total, shares = int(answers.sum()), hits_.sum(0) / answers
    share = float(np.sum(weights_ * shares))
    if m < 2:
        return Estimate(share, NAN, NAN, total, "seeds", m)
    residuals = (hits_ - shares * n_) @ (weights_ / answers)
    concentration = float(np.sum((n_ @ (weights_ / answers)) ** 2))
    freedom = 1 / concentration - 1
    variance = float(np.sum(residuals**2)) / (1 - concentration)
    size = 1 / float(np.sum(weights_**2 / answers))
    bounds = exact(share, size, variance, freedom) if counted else student(share, variance, freedom)
    return Estimate(share, *bounds, total, "seeds", m)


def two_way(hits: ArrayLike, n: ArrayLike, *, counted: bool = True) -> Estimate:
    """Mean share over seeds and questions, for seeds and questions yet unseen.

    Variance by seed plus variance by question less that of the cells (Cameron, Gelbach and Miller
    2011), never less than the larger of the first two; then as in `clustered`, with the smaller
    number of clusters.

    Args:
        hits: Counts, shape (seeds, questions).
        n: Answers, shape (seeds, questions); 0 where a cell is empty.
        counted: Whether hits are counts; sums of probabilities have Student's t instead.
    """
    hits_, n_ = np.asarray(hits, float), np.asarray(n, float)
    total = int(n_.sum())
    with np.errstate(invalid="ignore"):
        cells = np.where(n_ > 0, hits_ / n_, NAN)
    filled = ~np.isnan(cells)
    rows, columns = int(filled.any(1).sum()), int(filled.any(0).sum())
    if not filled.any():
        return Estimate(NAN, NAN, NAN, 0, "seeds and questions", 0)
    share = float(np.nanmean(cells))
    m = min(rows, columns)
    if m < 2:
        return Estimate(share, NAN, NAN, total, "seeds and questions", m)
    residual = np.where(filled, cells - share, 0.0)
    count = filled.sum()

    def squares(sums: NDArray[np.float64], clusters: int) -> float:
        return float(np.sum(sums**2)) / float(count) ** 2 * clusters / (clusters - 1)

    by_row, by_column = squares(residual.sum(1), rows), squares(residual.sum(0), columns)
    both = by_row + by_column - squares(residual.ravel(), int(count))
    variance = max(both, by_row, by_column)
    size = float(count) ** 2 / float(np.sum(1 / n_[filled]))
    bounds = exact(share, size, variance, m - 1) if counted else student(share, variance, m - 1)
    return Estimate(share, *bounds, total, "seeds and questions", m)


def exact(share: float, n: float, variance: float, freedom: float) -> tuple[float, float]:
    """Exact binomial bounds at the effective sample size of a variance; see `clustered`."""
    require_extra("report", "scipy")
    from scipy.stats import beta, t

    degenerate = variance <= 0 or share in (0, 1)
    effective = n if degenerate else min(n, share * (1 - share) / variance)
    effective *= (t.ppf((1 + LEVEL) / 2, max(n - 1, 1)) / t.ppf((1 + LEVEL) / 2, freedom)) ** 2
    hits = share * effective
    tail = (1 - LEVEL) / 2
    low = 0.0 if share == 0 else float(beta.ppf(tail, hits, effective - hits + 1))
    high = 1.0 if share == 1 else float(beta.ppf(1 - tail, hits + 1, effective - hits))
    # With two clusters the size may be a fraction of one answer: 2.6e-68 says no more than 0.
    return (low if low > NOTHING else 0.0), (high if high < 1 - NOTHING else 1.0)


def bootstrap(values: Sequence[float], n: int, seed: int = 0) -> Estimate:
    """The paper's interval: percentile bootstrap over models, 2,000 resamples, 95 %.

    With one model it does not exist, and where all models have the same share its width is zero.

    Args:
        values: One number per model, shape (m,).
        n: Answers behind them.
        seed: Of the resampling.
    """
    given = np.asarray([v for v in values if not math.isnan(v)], float)
    if not len(given):
        return Estimate(NAN, NAN, NAN, n, "paper", 0)
    mean = float(given.mean())
    if len(given) < 2:
        return Estimate(mean, NAN, NAN, n, "paper", len(given))
    if np.ptp(given) == 0:  # SciPy calls this degenerate and gives NaN
        return Estimate(mean, mean, mean, n, "paper", len(given))
    require_extra("report", "scipy")
    from scipy.stats import bootstrap as resample

    found = resample(
        (given,),
        np.mean,
        n_resamples=RESAMPLES,
        method="percentile",
        confidence_level=LEVEL,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean, float(found.low), float(found.high), n, "paper", len(given))


def mean_of(values: ArrayLike) -> Estimate:
    """Mean of ratings with Student's t interval, NaN left out."""
    given = np.asarray(values, float)
    given = given[~np.isnan(given)]
    n = len(given)
    if not n:
        return Estimate(NAN, NAN, NAN, 0, "t", 0)
    mean = float(given.mean())
    if n < 2:
        return Estimate(mean, NAN, NAN, n, "t", n)
    require_extra("report", "scipy")
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, n - 1) * given.std(ddof=1) / math.sqrt(n))
    return Estimate(mean, mean - half, mean + half, n, "t", n)


def paired_over_clusters(
    differences: ArrayLike, weights: ArrayLike, here: Estimate, method: Method
) -> Estimate:
    """Weighted mean of differences within clusters (seeds) that both sides share, for new clusters.

    Student's t with the variance between the clusters' differences. Since few of them show little
    of that variance, and none at zero counts, it is never narrower than the sampling error alone
    with the same t: the distance to each end of `here`, times t_(m-1) / t_inf. Cut at -1 and 1.
    Clusters of unequal weights count as 1 / sum(w^2) clusters (Kish 1965).

    Args:
        differences: First side minus second by cluster, shape (m,).
        weights: Weights summing to 1, shape (m,).
        here: The same difference for these very clusters.
        method: What the clusters are.
    """
    require_extra("report", "scipy")
    from scipy.stats import t

    d, w = np.asarray(differences, float), np.asarray(weights, float)
    m = len(d)
    if m < 2:
        return Estimate(here.value, NAN, NAN, here.n, method, m)
    mean = float(np.sum(w * d))
    concentration = float(np.sum(w**2))  # 1 / m where all clusters weigh the same
    error = math.sqrt(float(np.sum((w * (d - mean)) ** 2)) / (1 - concentration))
    factor = float(t.ppf((1 + LEVEL) / 2, 1 / concentration - 1))
    least = factor / NormalDist().inv_cdf((1 + LEVEL) / 2) if here.bounded else 0.0
    below, above = (here.value - here.low, here.high - here.value) if here.bounded else (0.0, 0.0)
    low = mean - max(factor * error, least * below)
    high = mean + max(factor * error, least * above)
    return Estimate(mean, max(-1.0, low), min(1.0, high), here.n, method, m)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Difference of two independent estimates, from their own intervals (Newcombe 1998, method 10).

    The distance from the estimate to each end is squared, added and rooted, which stays right at
    zero counts wherever the two intervals do.
    """
    d = first.value - second.value
    low = d - math.hypot(first.value - first.low, second.high - second.value)
    high = d + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(d, low, high, first.n + second.n, first.method, min(first.units, second.units))
