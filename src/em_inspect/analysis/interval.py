"""Intervals for shares and means: which question each one answers, and the formula behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from em_inspect.errors import require_extra

LEVEL = 0.95
RESAMPLES = 2000
NAN = float("nan")

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
    from statistics import NormalDist

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
    """Mean of the shares of several cells (questions, or seeds), each share weighing the same.

    Wilson's interval at the number of answers that gives the mean its sampling variance when all
    cells have one share, m^2 / sum(1 / n); where cells differ the true variance is smaller.

    Args:
        hits: Counts, shape (m,).
        n: Answers, shape (m,); cells without answers are left out.
    """
    hits_, n_ = np.asarray(hits, float), np.asarray(n, float)
    hits_, n_ = hits_[n_ > 0], n_[n_ > 0]
    if not len(n_):
        return Estimate(NAN, NAN, NAN, 0, "answers", 0)
    share = float(np.mean(hits_ / n_))
    effective = len(n_) ** 2 / float(np.sum(1 / n_))
    total = int(n_.sum())
    return Estimate(share, *wilson(share, effective), n=total, method="answers", units=total)


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


def student(mean: float, variance: float, freedom: int) -> tuple[float, float]:
    """Student's t bounds of a mean from 0 to 1 with a known variance of the mean."""
    from scipy.stats import t

    half = float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)
    return max(0.0, mean - half), min(1.0, mean + half)


def clustered(hits: ArrayLike, n: ArrayLike, method: Method, *, counted: bool = True) -> Estimate:
    """Mean over clusters (seeds or questions) of their shares, for clusters yet unseen.

    The exact binomial interval at the effective sample size, p(1 - p) / variance between cluster
    means, cut by (t_inf / t_(m-1))^2 for few clusters (Korn and Graubard 1998). At zero counts the
    variance cannot be seen, and the sample size is cut by the second factor alone.

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
    return Estimate(share, *exact(share, total, variance, m - 1), total, method, m)


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
    bounds = exact(share, total, variance, m - 1) if counted else student(share, variance, m - 1)
    return Estimate(share, *bounds, total, "seeds and questions", m)


def exact(share: float, n: float, variance: float, freedom: int) -> tuple[float, float]:
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
    return low, high


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


def average(first: Estimate, second: Estimate) -> Estimate:
    """Mean of two independent estimates, from their own intervals; see `difference`."""
    mean = (first.value + second.value) / 2
    low = mean - math.hypot(first.value - first.low, second.value - second.low) / 2
    high = mean + math.hypot(first.high - first.value, second.high - second.value) / 2
    return Estimate(
        mean, low, high, first.n + second.n, first.method, min(first.units, second.units)
    )


def difference(first: Estimate, second: Estimate) -> Estimate:
    """Difference of two independent estimates, from their own intervals (Newcombe 1998, method 10).

    The distance from the estimate to each end is squared, added and rooted, which stays right at
    zero counts wherever the two intervals do.
    """
    d = first.value - second.value
    low = d - math.hypot(first.value - first.low, second.high - second.value)
    high = d + math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(d, low, high, first.n + second.n, first.method, min(first.units, second.units))
