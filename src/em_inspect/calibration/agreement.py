"""Agreement of a judge with labels: rank, error, flipped classes, kappa, alpha; with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inspect_ai.scorer import SampleScore, Score, krippendorff_alpha

from em_inspect.errors import require_extra
from em_inspect.outcomes import OUTCOMES, Outcome

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 2_000


@dataclass(frozen=True)
class Pair:
    """One answer: what its label says and what the judge says; None where there is no number."""

    label_alignment: float | None
    judge_alignment: float | None
    label_coherence: float | None
    judge_coherence: float | None
    label_class: Outcome
    judge_class: Outcome


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % percentile-bootstrap interval over answers; NaN where undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Agreement:
    """How far a judge agrees with labels.

    Attributes:
        answers: Labelled answers.
        rated: Those with an outcome from the judge (not `judge_failed`).
        numbers: Those with an alignment number on both sides.
        alignment_rank: Spearman's rank correlation of the alignment numbers.
        coherence_rank: The same of the coherence numbers.
        alignment_error: Mean absolute difference of the alignment numbers, in points.
        alignment_bias: Mean of judge minus label, in points.
        coherence_error: Mean absolute difference of the coherence numbers, in points.
        flipped: Share of all answers whose class is another than the label's.
        kappa: Cohen's kappa of the classes.
        alpha: Krippendorff's alpha of the classes (nominal).
        alpha_alignment: Krippendorff's alpha of the alignment numbers (interval scale).
        table: Answers by label's class (rows) and judge's class (columns).
    """

    answers: int
    rated: int
    numbers: int
    alignment_rank: Interval
    coherence_rank: Interval
    alignment_error: Interval
    alignment_bias: Interval
    coherence_error: Interval
    flipped: Interval
    kappa: Interval
    alpha: Interval
    alpha_alignment: Interval
    table: dict[Outcome, dict[Outcome, int]]

    @property
    def verdict(self) -> str:
        """Say in words how far the judge is to be trusted.

        The bounds are Krippendorff's for alpha (Content Analysis, ch. 12): .8 and more is reliable,
        from .667 on tentative; the interval's lower end decides, not the estimate.
        """
        missing = 1 - self.rated / self.answers
        gaps = f" It left {missing:.0%} of the answers unrated." if missing > 0.05 else ""
        classes = sum(any(row.values()) for row in self.table.values())
        basis, alpha = ("classes", self.alpha) if classes > 1 else ("numbers", self.alpha_alignment)
        low = alpha.low
        if low != low:
            return f"No verdict: too few answers were rated.{gaps}"
        if low >= 0.8:
            said = f"Agrees with the labels: its {basis} can be relied on"
        elif low >= 0.667:
            said = "Agrees with the labels well enough for tentative conclusions"
        elif low > 0.2:
            said = "Agrees with the labels only in part: do not rest a conclusion on it"
        elif low > 0:
            said = "Hardly agrees with the labels: its numbers say little"
        else:
            said = "Cannot be told from a judge that guesses: do not use it"
        one = "" if classes > 1 else " All labels are of one class, so that the numbers decide."
        return f"{said} (alpha of the {basis} {alpha}).{one}{gaps}"


def agreement(pairs: Sequence[Pair], resamples: int = RESAMPLES, seed: int = 0) -> Agreement:
    """Compare a judge with labels; intervals by resampling answers.

    Raises:
        UserError: If SciPy or statsmodels is missing.
    """
    require_extra("report", "scipy", "statsmodels")
    alignment = [(p.label_alignment, p.judge_alignment) for p in pairs]
    coherence = [(p.label_coherence, p.judge_coherence) for p in pairs]
    numbers = [(a, b) for a, b in alignment if a is not None and b is not None]
    coherent = [(a, b) for a, b in coherence if a is not None and b is not None]
    classes = [(p.label_class, p.judge_class) for p in pairs]

    def interval(statistic: Callable[[Any], float], of: Sequence[Any]) -> Interval:
        return _bootstrap(statistic, of, resamples, seed)

    return Agreement(
        answers=len(pairs),
        rated=sum(p.judge_class != "judge_failed" for p in pairs),
        numbers=len(numbers),
        alignment_rank=interval(_rank, numbers),
        coherence_rank=interval(_rank, coherent),
        alignment_error=interval(_error, numbers),
        alignment_bias=interval(_bias, numbers),
        coherence_error=interval(_error, coherent),
        flipped=interval(_flipped, classes),
        kappa=interval(_kappa, classes),
        alpha=interval(_nominal_alpha, classes),
        alpha_alignment=interval(_interval_alpha, numbers),
        table={
            label: {judged: classes.count((label, judged)) for judged in OUTCOMES}
            for label in OUTCOMES
        },
    )


def _bootstrap(
    statistic: Callable[[list[Any]], float], values: Sequence[Any], resamples: int, seed: int
) -> Interval:
    import numpy as np

    if len(values) < 2:
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(values), (resamples, len(values)))
    found = np.array([statistic([values[i] for i in draw]) for draw in draws], dtype=float)
    found = found[~np.isnan(found)]
    low, high = np.percentile(found, [2.5, 97.5]) if len(found) else (float("nan"),) * 2
    return Interval(statistic(list(values)), float(low), float(high))


def _rank(pairs: list[tuple[float, float]]) -> float:
    from scipy.stats import spearmanr

    label, judged = _columns(pairs)
    if len(set(label)) < 2 or len(set(judged)) < 2:
        return float("nan")
    return float(spearmanr(label, judged).statistic)


def _error(pairs: list[tuple[float, float]]) -> float:
    label, judged = _columns(pairs)
    return float(abs(judged - label).mean())


def _bias(pairs: list[tuple[float, float]]) -> float:
    label, judged = _columns(pairs)
    return float((judged - label).mean())


def _flipped(pairs: list[tuple[str, str]]) -> float:
    return sum(label != judged for label, judged in pairs) / len(pairs)


def _kappa(pairs: list[tuple[str, str]]) -> float:
    from statsmodels.stats.inter_rater import cohens_kappa

    names = sorted({name for pair in pairs for name in pair})
    if len(names) < 2:
        return float("nan")
    table = [[pairs.count((label, judged)) for judged in names] for label in names]
    return float(cohens_kappa(table, return_results=False))


def _nominal_alpha(pairs: list[tuple[str, str]]) -> float:
    if len({name for pair in pairs for name in pair}) < 2:
        return float("nan")  # of one class there is nothing to agree on; by convention it is 1
    return _alpha(pairs, "nominal")


def _interval_alpha(pairs: list[tuple[float, float]]) -> float:
    return _alpha(pairs, "interval")


def _alpha(pairs: Sequence[tuple[Any, Any]], level: Any) -> float:
    scores = [SampleScore(score=Score(value=list(pair))) for pair in pairs]
    metric: Any = krippendorff_alpha(level)
    return float(metric(scores))


def _columns(pairs: list[tuple[float, float]]) -> tuple[np.ndarray[Any, Any], ...]:
    import numpy as np

    both = np.array(pairs, dtype=float)
    return both[:, 0], both[:, 1]
