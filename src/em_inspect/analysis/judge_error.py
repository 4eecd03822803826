"""Judge error: what labelled answers say about a judge, carried into the interval of a share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from em_inspect.analysis.interval import NAN, Estimate, wilson


@dataclass(frozen=True)
class Stratum:
    """Answers of one kind, of which some were drawn at random and labelled.

    The four counts are of labelled answers that the judge rated. They need not be whole: where
    drawn answers weigh unequally they are scaled to the effective number of answers.

    Attributes:
        answers: All answers of the kind, or what they weigh; above 0.
        hits: Labelled misaligned, and judged so.
        misses: Labelled misaligned, but not judged so.
        false_alarms: Not labelled misaligned, but judged so.
        rejections: Neither labelled nor judged misaligned.
        judged: Share of all answers of the kind that the judge calls misaligned, 0 to 1.
    """

    answers: float
    hits: float
    misses: float
    false_alarms: float
    rejections: float
    judged: float = NAN

    @property
    def labelled(self) -> float:
        """Labelled answers."""
        return self.hits + self.misses + self.false_alarms + self.rejections


_Count = Callable[[Stratum], float]


def sensitivity(strata: Sequence[Stratum]) -> Estimate:
    """Share of truly misaligned answers that the judge calls misaligned.

    Wilson's interval where all answers were drawn alike; with several strata see `_ratio`.

    Args:
        strata: Labelled answers; strata without labels are left out.
    """
    return _ratio(strata, lambda s: s.hits, lambda s: s.misses)


def specificity(strata: Sequence[Stratum]) -> Estimate:
    """Share of answers that are not misaligned and that the judge does not call so.

    Args:
        strata: As for `sensitivity`.
    """
    return _ratio(strata, lambda s: s.rejections, lambda s: s.false_alarms)


def rogan_gladen(share: Estimate, sensitivity: Estimate, specificity: Estimate) -> Estimate:
    """Correct a judged share for the judge's misses and false alarms.

    (share + specificity - 1) / (sensitivity + specificity - 1), cut at 0 and 1 (Rogan and Gladen
    1978). It holds where the judge errs on these answers as it did on the labelled ones.

    The interval carries all three samples: each is moved to the ends of its own interval while the
    others stay, and the distances are squared, added and rooted (Zou and Donner 2008), so that
    what the share's interval is about (these models, new seeds) stays what the result's is about.

    Args:
        share: Judged share, with its interval.
        sensitivity: Of the judge, with its interval.
        specificity: Of the judge, with its interval.

    Returns:
        The corrected share; NaN where the labels don't show a judge that is better than guessing
        (sensitivity + specificity <= 1), since nothing can be told from its ratings then.
    """
    nothing = replace(share, value=NAN, low=NAN, high=NAN)
    value = _corrected(share.value, sensitivity.value, specificity.value)
    if not sensitivity.value + specificity.value > 1 or math.isnan(value):
        return nothing
    if not all(e.bounded for e in (share, sensitivity, specificity)):
        return replace(nothing, value=_cut(value))

    def distance(of_share: float, of_sensitivity: float, of_specificity: float) -> float:
        return value - _corrected(of_share, of_sensitivity, of_specificity)

    # More hits for the same share mean fewer misaligned answers, unless the result is below 0.
    ends = (sensitivity.high, sensitivity.low)
    fewer, more = ends if value > 0 else ends[::-1]
    down = math.hypot(
        distance(share.low, sensitivity.value, specificity.value),
        distance(share.value, fewer, specificity.value),
        distance(share.value, sensitivity.value, specificity.low),
    )
    up = math.hypot(
        distance(share.high, sensitivity.value, specificity.value),
        distance(share.value, more, specificity.value),
        distance(share.value, sensitivity.value, specificity.high),
    )
    # Q: Why cut first? A: below 0 the false alarms were overrated, and 0 to 0 would be no interval.
    value = _cut(value)
    return replace(share, value=value, low=_cut(value - down), high=_cut(value + up))


def prediction_powered(share: Estimate, strata: Sequence[Stratum]) -> Estimate:
    """Correct a judged share by labels of some of the very answers that it counts.

    The share plus the weighted mean over strata of label minus judgement (Angelopoulos et al. 2023;
    by strata: Fisch et al. 2024). It needs no assumption on how the judge errs, only that the
    labelled answers of a stratum are a random draw from it.

    The distances to the ends of the share's interval and of the Wilson intervals of each stratum's
    misses and false alarms are squared, added and rooted, as in `rogan_gladen`. The published
    normal interval covers 71 % where few labelled answers of a large stratum are misjudged.

    Args:
        share: Judged share over all strata, with its interval.
        strata: All answers that the share counts, by kind, each with labels and `judged`.

    Returns:
        The corrected share; NaN where a stratum has no labels.
    """
    total = sum(s.answers for s in strata)
    if not total or not all(s.labelled for s in strata):
        return replace(share, value=NAN, low=NAN, high=NAN)
    value, down, up = share.value, share.value - share.low, share.high - share.value
    for s in strata:
        weight = s.answers / total
        # Where the judge calls all of a kind misaligned it can miss none there, and vice versa.
        for count, sign, possible in (
            (s.misses, 1, s.judged < 1),
            (s.false_alarms, -1, s.judged > 0),
        ):
            if not possible:
                continue
            missed = count / s.labelled
            low, high = wilson(missed, s.labelled)
            value += sign * weight * missed
            below, above = (missed - low, high - missed)[::sign]
            down, up = math.hypot(down, weight * below), math.hypot(up, weight * above)
    value = _cut(value)
    return replace(share, value=value, low=_cut(value - down), high=_cut(value + up))


def _corrected(share: float, sensitivity: float, specificity: float) -> float:
    """Rogan and Gladen's estimate, not cut; infinite for a judge that tells nothing apart."""
    excess, youden = share + specificity - 1, sensitivity + specificity - 1
    if math.isnan(excess) or math.isnan(youden):
        return NAN
    return excess / youden if youden > 0 else math.copysign(math.inf, excess)


def _cut(share: float) -> float:
    return min(1.0, max(0.0, share))


def _ratio(strata: Sequence[Stratum], right: _Count, wrong: _Count) -> Estimate:
    """Share of right ones among right and wrong ones, over strata by their weights.

    With several strata the bounds of each count come from Wilson intervals within the strata, and
    are put together as in `rogan_gladen`. Wilson's interval at an effective sample size would not
    do: where no miss was found among few answers drawn from many it would have almost no width.
    """
    given = [s for s in strata if s.labelled]
    n = sum(right(s) + wrong(s) for s in given)
    if not n:
        return Estimate(NAN, NAN, NAN, 0, "answers", 0)
    size = round(n)
    if len(given) == 1:
        value = right(given[0]) / n
        return Estimate(value, *wilson(value, n), size, "answers", size)
    good, good_low, good_high = _total(given, right)
    bad, bad_low, bad_high = _total(given, wrong)
    value = good / (good + bad)
    down = math.hypot(value - _part(good_low, bad), value - _part(good, bad_high))
    up = math.hypot(_part(good_high, bad) - value, _part(good, bad_low) - value)
    return Estimate(value, _cut(value - down), _cut(value + up), size, "answers", size)


def _total(strata: Sequence[Stratum], count: _Count) -> tuple[float, float, float]:
    """A weighted total over strata with its bounds."""
    value = down = up = 0.0
    for s in strata:
        share = count(s) / s.labelled
        low, high = wilson(share, s.labelled)
        value += s.answers * share
        down, up = (
            math.hypot(down, s.answers * (share - low)),
            math.hypot(up, s.answers * (high - share)),
        )
    return value, max(0.0, value - down), value + up


def _part(of: float, beside: float) -> float:
    return of / (of + beside) if of + beside else 0.0
