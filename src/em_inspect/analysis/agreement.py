"""How far judges agree that rated the very same answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from em_inspect.analysis.interval import NAN, Estimate, mean_of, share_of_answers
from em_inspect.analysis.yardstick import Yardstick, yardsticks

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Agreement:
    """How far two judges agree on the answers that both sorted.

    Attributes:
        first: One judge; with what tells it from the other where both have one name.
        second: The other.
        task: What was rated, e.g. the answers or the reasoning before them.
        answers: Answers that both rated: coherent for both, with an alignment rating.
        correlation: Spearman's rank correlation of the alignment ratings; NaN for constant ones.
        mean_difference: First minus second, points of alignment.
        flips: Of those answers, the share that one calls misaligned and the other does not.
        kappa: Cohen's kappa of misaligned or not, of those answers.
        sorted_by_both: All answers that both sorted into some outcome, `judge_failed` excepted.
        same: Share of these with the same outcome.
        outcome_kappa: Cohen's kappa of the outcome, all of them told apart.
        flips_of_all: Share of these that one calls misaligned and the other anything else.
        outcomes: How many of these by the first's and the second's outcome.
    """

    first: str
    second: str
    task: str
    answers: int
    correlation: float
    mean_difference: Estimate
    flips: Estimate
    kappa: float
    sorted_by_both: int
    same: Estimate
    outcome_kappa: float
    flips_of_all: Estimate
    outcomes: Mapping[tuple[str, str], int]


def agreement(frame: DataFrame) -> Iterator[tuple[Agreement, DataFrame]]:
    """Compare judges pairwise on the same answers of a task, found by their identity.

    Another estimator, rule or rubric is another judge, even under one name: there is one agreement
    for every two yardsticks with answers in common.

    Args:
        frame: With a criterion applied (`Criterion.apply`).

    Yields:
        The agreement, and the answers that both rated: `uuid`, and alignment and `misaligned` by
        each judge with the suffixes `_1` and `_2`.
    """
    marked, known = yardsticks(frame)
    marked = marked.assign(outcome=marked["outcome"].astype("str"))
    marked = marked[marked["outcome"] != "judge_failed"]
    order = sorted(
        range(len(known)), key=lambda place: (str(known[place].task), _name(known[place]))
    )
    for one, other in combinations(order, 2):
        if known[one].task != known[other].task:
            continue
        first, second = (
            marked[marked["yardstick"] == place].drop_duplicates("uuid", keep="last")
            for place in (one, other)
        )
        both = first.merge(second, on="uuid", suffixes=("_1", "_2"))
        if len(both) > 1:
            yield _agreement(known[one].task, *_names(known[one], known[other]), both)


def _name(yardstick: Yardstick) -> tuple[str, ...]:
    return yardstick.judge, yardstick.estimator, yardstick.rule


def _names(first: Yardstick, second: Yardstick) -> tuple[str, str]:
    """Names of two raters: the judge's, and behind an equal name what differs."""
    if first.judge_shown != second.judge_shown:
        return first.judge_shown, second.judge_shown
    pairs = list(zip(_name(first), _name(second), strict=True))
    if all(a == b for a, b in pairs):
        return f"{first.judge} (one)", f"{second.judge} (another)"
    differ = [pair for pair in pairs if pair[0] != pair[1]]
    one, other = (f"{first.judge} ({', '.join(side)})" for side in zip(*differ, strict=True))
    return one, other


def _agreement(task: str, first: str, second: str, both: DataFrame) -> tuple[Agreement, DataFrame]:
    from scipy.stats import spearmanr

    columns = ["uuid", "alignment_1", "misaligned_1", "alignment_2", "misaligned_2"]
    rated = both[both["scored_1"] & both["scored_2"]][columns]
    a, b = rated["alignment_1"].to_numpy(float), rated["alignment_2"].to_numpy(float)
    varied = len(rated) > 1 and np.ptp(a) > 0 and np.ptp(b) > 0
    bad = [(both[f"outcome_{side}"] == "misaligned").to_numpy(bool) for side in (1, 2)]
    same = int((both["outcome_1"] == both["outcome_2"]).sum())
    outcomes = both.groupby(["outcome_1", "outcome_2"]).size()
    flips = int((rated["misaligned_1"] != rated["misaligned_2"]).sum())
    found = Agreement(
        first=first,
        second=second,
        task=task,
        answers=len(rated),
        correlation=float(spearmanr(a, b).statistic) if varied else NAN,
        mean_difference=mean_of(a - b),
        flips=share_of_answers(flips, len(rated)),
        kappa=_kappa(rated["misaligned_1"].to_numpy(), rated["misaligned_2"].to_numpy()),
        sorted_by_both=len(both),
        same=share_of_answers(same, len(both)),
        outcome_kappa=_kappa(both["outcome_1"].to_numpy(), both["outcome_2"].to_numpy()),
        flips_of_all=share_of_answers(int((bad[0] != bad[1]).sum()), len(both)),
        outcomes={(str(x), str(y)): int(n) for (x, y), n in outcomes.items()},
    )
    return found, rated


def _kappa(first: np.ndarray, second: np.ndarray) -> float:
    """Cohen's kappa; NaN where it is undefined, both having called everything the same."""
    from statsmodels.stats.inter_rater import cohens_kappa

    classes = np.unique(np.concatenate([first, second]))
    if len(classes) < 2:
        return NAN
    table = np.zeros((len(classes), len(classes)))
    np.add.at(table, (np.searchsorted(classes, first), np.searchsorted(classes, second)), 1)
    return float(cohens_kappa(table, return_results=False))
