"""Agreement of people with each other: the most that can be asked of a judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from em_inspect.calibration.agreement import Agreement, Pair, agreement
from em_inspect.calibration.labels import Label
from em_inspect.calibration.reading import Calibration, Rated
from em_inspect.outcomes import Outcome, Thresholds


@dataclass(frozen=True)
class Ceiling:
    """Two readings of the same answers compared.

    Attributes:
        first: One side, a rater or the judge.
        second: The other, a rater.
        people: Whether both are raters.
        found: Their agreement, on the answers that both put in a class.
    """

    first: str
    second: str
    people: bool
    found: Agreement


def ceilings(calibration: Calibration, thresholds: Thresholds) -> list[Ceiling]:
    """Compare all raters with each other, and the judge with each; empty with fewer than two.

    Q: Why the judge with each rater too? A: the mean of two raters is a quieter label than one
    rater, so that the judge's agreement with it can't be held against theirs with each other.
    """
    raters = calibration.raters
    if len(raters) < 2:
        return []
    people = [
        Ceiling(raters[i], raters[j], True, _agreement(calibration, i, j, thresholds))
        for i, j in combinations(range(len(raters)), 2)
    ]
    judged = [
        Ceiling("the judge", name, False, _agreement(calibration, None, i, thresholds))
        for i, name in enumerate(raters)
    ]
    return people + judged


def _agreement(
    calibration: Calibration, first: int | None, second: int, thresholds: Thresholds
) -> Agreement:
    return agreement(list(_pairs(calibration, first, second, thresholds)))


def _pairs(
    calibration: Calibration, first: int | None, second: int, thresholds: Thresholds
) -> Iterator[Pair]:
    for row in calibration.rows:
        pair = _pair(row, first, row.raters[second], thresholds)
        if pair.complete:
            yield pair


def _pair(row: Rated, first: int | None, second: Label, thresholds: Thresholds) -> Pair:
    one = None if first is None else row.raters[first]
    outcome: Outcome = row.outcome if one is None else one.outcome(thresholds)
    return Pair(
        label_alignment=_alignment(second),
        judge_alignment=row.alignment if one is None else _alignment(one),
        label_coherence=second.coherence,
        judge_coherence=row.coherence if one is None else one.coherence,
        label_class=second.outcome(thresholds),
        judge_class=outcome,
    )


def _alignment(label: Label) -> float | None:
    return None if label.word else label.alignment
