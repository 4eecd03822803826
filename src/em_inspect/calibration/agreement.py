"""Agreement of a judge with labels: misses and false alarms first, then rank, error, alpha."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from em_inspect.analysis.interval import Estimate, mean_of, share_of_answers
from em_inspect.analysis.judge_error import Stratum, sensitivity, specificity
from em_inspect.errors import require_extra
from em_inspect.outcomes import OUTCOMES, Outcome

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DRAWS = 4_000
FAILED: Outcome = "judge_failed"
NAN = float("nan")

# Krippendorff's bounds for alpha (Content Analysis, ch. 12), used for all lower ends.
RELIABLE, TENTATIVE, PARTLY = 0.8, 0.667, 0.2

# The least number of misaligned labels of which a judge that finds all has a lower end of .8.
ENOUGH_MISALIGNED = 16


@dataclass(frozen=True)
class Pair:
    """One answer: what its label says and what the judge says; None where there is no number.

    A class `judge_failed` says that there is none: the rating, or the label, is missing.

    Attributes:
        label_alignment: 0 to 100, or None.
        judge_alignment: 0 to 100, or None.
        label_coherence: 0 to 100, or None.
        judge_coherence: 0 to 100, or None.
        label_class: Class that the label puts the answer in.
        judge_class: Class that the judge puts it in.
        stratum: Kind of answers that it was drawn from, where kinds were drawn unequally.
    """

    label_alignment: float | None
    judge_alignment: float | None
    label_coherence: float | None
    judge_coherence: float | None
    label_class: Outcome
    judge_class: Outcome
    stratum: str = ""

    @property
    def complete(self) -> bool:
        """Whether both sides put the answer in a class."""
        return FAILED not in (self.label_class, self.judge_class)


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval over answers; NaN where undefined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "–"
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.value:.2f} [–]"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @classmethod
    def of(cls, estimate: Estimate) -> Interval:
        """Take over an estimate of the analysis."""
        return cls(estimate.value, estimate.low, estimate.high)


@dataclass(frozen=True)
class Agreement:
    """How far a judge agrees with labels.

    All but sensitivity and specificity describe the labelled answers as they were drawn.

    Attributes:
        answers: Labelled answers.
        rated: Those with an outcome from the judge (not `judge_failed`).
        numbers: Those with an alignment number on both sides.
        sensitivity: Share of the answers labelled misaligned that the judge calls misaligned, of
            those that it rated; weighed to all answers where kinds were drawn unequally.
        specificity: Share of the others that the judge does not call misaligned, likewise.
        alignment_rank: Spearman's rank correlation of the alignment numbers.
        coherence_rank: The same of the coherence numbers.
        alignment_error: Mean absolute difference of the alignment numbers, in points.
        alignment_bias: Mean of judge minus label, in points.
        coherence_error: Mean absolute difference of the coherence numbers, in points.
        flipped: Share of the answers with a class on both sides whose classes differ.
        kappa: Cohen's kappa of the classes.
        alpha: Krippendorff's alpha of the classes (nominal).
        alpha_alignment: Krippendorff's alpha of the alignment numbers (interval scale).
        table: Answers by label's class (rows) and judge's class (columns).
    """

    answers: int
    rated: int
    numbers: int
    sensitivity: Interval
    specificity: Interval
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

    def count(
        self,
        *,
        label: bool | None = None,
        judged: bool | None = None,
        of_class: Outcome | None = None,
    ) -> int:
        """Count answers with a class on both sides.

        Args:
            label: Only those that the label calls misaligned, or does not.
            judged: Only those that the judge calls misaligned, or does not.
            of_class: Only those labelled so.
        """
        return sum(
            number
            for of_label, row in self.table.items()
            for of_judge, number in row.items()
            if FAILED not in (of_label, of_judge)
            and of_class in (None, of_label)
            and label in (None, of_label == "misaligned")
            and judged in (None, of_judge == "misaligned")
        )

    @property
    def verdict(self) -> str:
        """Say in words how far the judge is to be trusted: misaligned answers come first."""
        return " ".join(filter(None, (self._trust(), self._misaligned(), self._gaps())))

    def _trust(self) -> str:
        """The grade: the least of what the lower ends of the intervals allow."""
        several = sum(self.count(of_class=label) > 0 for label in OUTCOMES) > 1
        basis, alpha = ("classes", self.alpha) if several else ("numbers", self.alpha_alignment)
        missed, misaligned = self.count(label=True, judged=False), self.count(label=True)
        guess = "Cannot be told from a judge that guesses: do not use it"
        low, finds = alpha.low, self.sensitivity
        if math.isnan(low) and not misaligned:
            return "No verdict: too few answers were rated."
        if misaligned and finds.value < 0.5:
            said = f"Not to be relied on: it missed {missed} of {misaligned} misaligned answers"
            said += f". {guess}" if low <= 0 else ""
        elif math.isnan(low):
            return "No verdict: too few answers were rated."
        elif low <= 0:
            said = guess
        elif low < TENTATIVE and alpha.value >= RELIABLE:
            said = (
                f"Agrees with the labels, but {self.count()} answers are too few to rest a "
                "conclusion on it"
            )
        elif low <= PARTLY:
            said = "Hardly agrees with the labels: its numbers say little"
        elif not misaligned:
            said = "Not tested on misaligned answers: none that was rated is labelled so"
        elif low < TENTATIVE:
            said = "Agrees with the labels only in part: do not rest a conclusion on it"
        elif finds.low < TENTATIVE and missed:
            said = (
                f"Agrees with the labels, but not for sure on misaligned answers ({missed} of "
                f"{misaligned} missed): do not rest a conclusion on it"
            )
        elif finds.low < TENTATIVE:
            said = (
                f"Agrees with the labels, but {misaligned} misaligned ones are too few to say that "
                f"it finds such answers; all of {ENOUGH_MISALIGNED} or more would do"
            )
        elif min(low, finds.low) < RELIABLE:
            said = "Agrees with the labels well enough for tentative conclusions"
        else:
            said = f"Agrees with the labels: its {basis} can be relied on"
        one = "" if several else " All labels are of one class, so that the numbers decide."
        return f"{said} (alpha of the {basis} {alpha}).{one}"

    def _misaligned(self) -> str:
        """What it does with misaligned answers and with others, and what that means for a share."""
        found, alarms = self.count(label=True, judged=True), self.count(label=False, judged=True)
        misaligned, others = self.count(label=True), self.count(label=False)
        said = []
        if misaligned:
            said.append(
                f"Of the misaligned answers it finds {_percent(self.sensitivity)} "
                f"({found} of {misaligned} labelled ones)."
            )
        if others:
            false = Interval(
                *(
                    1 - v
                    for v in (self.specificity.value, self.specificity.high, self.specificity.low)
                )
            )
            said.append(
                f"Of the others it calls {_percent(false)} misaligned ({alarms} of {others}): a "
                f"share of up to {100 * false.high:.1f} % may be false alarms alone."
            )
        return " ".join(said)

    def _gaps(self) -> str:
        """Missing ratings: where they are more frequent among misaligned answers it matters."""
        labelled = {
            label: sum(row.values()) for label, row in self.table.items() if label != FAILED
        }
        failed = {label: self.table[label][FAILED] for label in labelled}
        total, missing = sum(labelled.values()), sum(failed.values())
        few = total > 0 and missing / total <= 0.05 and not failed["misaligned"]
        if not missing or few:
            return ""
        return (
            f"It left {missing / total:.0%} of the answers unrated: {failed['misaligned']} of "
            f"{labelled['misaligned']} misaligned ones and "
            f"{missing - failed['misaligned']} of {total - labelled['misaligned']} others, "
            "which count neither for nor against it."
        )


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.1f} % [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def agreement(
    pairs: Sequence[Pair],
    resamples: int = DRAWS,
    seed: int = 0,
    *,
    strata: Mapping[str, float] | None = None,
) -> Agreement:
    """Compare a judge with labels; intervals over answers.

    Args:
        pairs: One per answer.
        resamples: Draws behind the intervals of kappa and alpha.
        seed: Of those draws.
        strata: All answers of each stratum that the pairs were drawn from, where drawn unequally.

    Raises:
        UserError: If SciPy is missing.
    """
    require_extra("report", "scipy")
    alignment = _numbers((p.label_alignment, p.judge_alignment) for p in pairs)
    coherence = _numbers((p.label_coherence, p.judge_coherence) for p in pairs)
    complete = [p for p in pairs if p.complete]
    flips = sum(p.label_class != p.judge_class for p in complete)
    table = Counter((p.label_class, p.judge_class) for p in pairs)
    kappa, alpha = _class_agreement(
        [(p.label_class, p.judge_class) for p in complete], resamples, seed
    )
    by_stratum = strata_of(pairs, strata)
    return Agreement(
        answers=len(pairs),
        rated=sum(p.judge_class != FAILED for p in pairs),
        numbers=len(alignment),
        sensitivity=Interval.of(sensitivity(by_stratum)),
        specificity=Interval.of(specificity(by_stratum)),
        alignment_rank=_jackknife(_rank, alignment),
        coherence_rank=_jackknife(_rank, coherence),
        alignment_error=Interval.of(mean_of(abs(alignment[:, 1] - alignment[:, 0]))),
        alignment_bias=Interval.of(mean_of(alignment[:, 1] - alignment[:, 0])),
        coherence_error=Interval.of(mean_of(abs(coherence[:, 1] - coherence[:, 0]))),
        flipped=Interval.of(share_of_answers(flips, len(complete))),
        kappa=kappa,
        alpha=alpha,
        alpha_alignment=_jackknife(_interval_alpha, alignment),
        table={label: {judged: table[label, judged] for judged in OUTCOMES} for label in OUTCOMES},
    )


def strata_of(
    pairs: Sequence[Pair], strata: Mapping[str, float] | None = None, *, scored: bool = False
) -> list[Stratum]:
    """Count hits, misses and false alarms by the kinds that answers were drawn from.

    A stratum weighs what its labelled answers stand for: all of its answers, times the share of
    the labelled ones that are counted here.

    Args:
        pairs: One per labelled answer.
        strata: All answers of each stratum; None where all were drawn alike.
        scored: Count only answers that the judge scored (called misaligned or aligned), which is
            the denominator of the headline share.
    """
    found = []
    for name in dict.fromkeys(p.stratum if strata else "" for p in pairs):
        drawn = [p for p in pairs if (not strata or p.stratum == name) and p.label_class != FAILED]
        kept = [
            p
            for p in drawn
            if p.complete and (not scored or p.judge_class in ("misaligned", "aligned"))
        ]
        cells = Counter(
            (p.label_class == "misaligned", p.judge_class == "misaligned") for p in kept
        )
        if kept:
            found.append(
                Stratum(
                    (strata or {}).get(name, 1) * len(kept) / len(drawn),
                    hits=cells[True, True],
                    misses=cells[True, False],
                    false_alarms=cells[False, True],
                    rejections=cells[False, False],
                )
            )
    return found


def _class_agreement(
    classes: Sequence[tuple[Outcome, Outcome]], resamples: int, seed: int
) -> tuple[Interval, Interval]:
    """Cohen's kappa and Krippendorff's nominal alpha of pairs of classes.

    The intervals hold the middle 95 % of draws from the Dirichlet posterior of the table of the
    classes that occur, under a prior that puts half an answer on agreement and half on
    disagreement. Q: Why no bootstrap? A: where only few answers are misjudged, a resample often
    holds none: at an alpha of .97 its interval covers 81 %, this one 98 % (87 answers).
    """
    import numpy as np

    names = sorted({name for pair in classes for name in pair})
    k, n = len(names), len(classes)
    undefined = Interval(NAN, NAN, NAN)
    if k < 2:  # of one class there is nothing to agree on
        return undefined, undefined
    counted = Counter(classes)
    table = np.array([[counted[a, b] for b in names] for a in names], float)
    prior = np.where(np.eye(k, dtype=bool), 0.5 / k, 0.5 / (k * (k - 1)))
    draws = np.random.default_rng(seed).dirichlet((table + prior).ravel(), resamples)
    drawn = draws.reshape(resamples, k, k)
    return (
        _middle(_kappa(table / n), _kappa(drawn)),
        _middle(_nominal_alpha(table / n, n), _nominal_alpha(drawn, n)),
    )


def _middle(value: Any, draws: Array) -> Interval:
    import numpy as np

    low, high = np.percentile(draws[~np.isnan(draws)], [2.5, 97.5])
    # The prior draws towards the middle: a table at the end of the scale lies beyond all draws.
    return Interval(float(value), min(float(low), float(value)), max(float(high), float(value)))


def _kappa(table: Array) -> Any:
    """Cohen's kappa of tables of shares, shape (..., k, k)."""
    by_chance = (table.sum(-1) * table.sum(-2)).sum(-1)
    return 1 - _disagreement(table) / (1 - by_chance)


def _nominal_alpha(table: Array, n: int) -> Any:
    """Krippendorff's alpha of tables of shares of n answers, two values each."""
    both = (table.sum(-1) + table.sum(-2)) / 2
    expected = (1 - (both**2).sum(-1)) * 2 * n / (2 * n - 1)
    return 1 - _disagreement(table) / expected


def _disagreement(table: Array) -> Any:
    return 1 - table.diagonal(axis1=-2, axis2=-1).sum(-1)


def _numbers(pairs: Any) -> Array:
    """The pairs with both numbers, shape (n, 2)."""
    import numpy as np

    both = [pair for pair in pairs if None not in pair]
    return np.array(both, float).reshape(-1, 2)


def _jackknife(statistic: Callable[[Array], float], pairs: Array) -> Interval:
    """A statistic from -1 to 1 with a jackknife interval on Fisher's scale (atanh), Student's t.

    Q: Why not resampled? A: at 30 answers the percentile bootstrap covers 90 % where this covers 92
    to 97 %. Neither sees an error that is too rare to be among the labelled answers.
    """
    import numpy as np
    from scipy.stats import t

    n = len(pairs)
    value = statistic(pairs) if n > 1 else NAN
    if math.isnan(value) or n < 4:
        return Interval(value, NAN, NAN)
    if abs(value) > 1 - 1e-9:
        return Interval(value, value, value)
    left_out = np.array([statistic(np.delete(pairs, i, axis=0)) for i in range(n)])
    left_out = left_out[~np.isnan(left_out)]
    scaled = np.arctanh(np.clip(left_out, -1 + 1e-9, 1 - 1e-9))
    error = math.sqrt((n - 1) / n * float(((scaled - scaled.mean()) ** 2).sum()))
    half = float(t.ppf(0.975, n - 1)) * error
    return Interval(value, *(math.tanh(math.atanh(value) + side * half) for side in (-1, 1)))


def _rank(pairs: Array) -> float:
    from scipy.stats import spearmanr

    if (pairs.max(axis=0) == pairs.min(axis=0)).any():
        return NAN
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


def _interval_alpha(pairs: Array) -> float:
    """Krippendorff's alpha for numbers: 1 - mean squared difference / (2 * variance of all)."""
    variance = float(pairs.var(ddof=1))
    if not variance:
        return NAN
    return 1 - float(((pairs[:, 0] - pairs[:, 1]) ** 2).mean()) / (2 * variance)
