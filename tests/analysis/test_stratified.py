"""Comparisons within questions, and intervals for seeds that cannot be had from one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from answers import an_answer, answers
from scipy.stats import fisher_exact, hypergeom, norm

from em_inspect.analysis.answer import Answer
from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.frame import to_frame
from em_inspect.analysis.interval import clustered, clustered_within
from em_inspect.analysis.series import with_series
from em_inspect.analysis.statistics import (
    Comparison,
    cells,
    compare,
    headlines,
    mean_of_both,
    mean_of_kinds,
)
from em_inspect.analysis.stratified import Tables, exact_test, stratify


def framed(*parts: Iterable[Answer]) -> Any:
    return Criterion().apply(to_frame(answer for part in parts for answer in part))


def compared(*parts: Iterable[Answer], first: str = "fine", second: str = "base") -> Comparison:
    found = compare(cells(framed(*parts)), first, second, Criterion())
    assert found is not None
    return found


def incoherent(model: str, question: str, n: int, **changes: Any) -> list[Answer]:
    return answers(model, question, 0, n, coherence=10.0, **changes)


def table(hits: Any, n: Any) -> Tables:
    hits_, n_ = np.atleast_2d(np.asarray(hits, float)), np.atleast_2d(np.asarray(n, float))
    return Tables(hits_, n_, hits_)


# --- new seeds -------------------------------------------------------------------------------


def test_a_group_with_one_scored_seed_has_no_interval_for_new_seeds() -> None:
    parts = [
        *(answers("f0", f"q{q}", 20, 80, group="fine", seed=0) for q in range(4)),
        *(incoherent("f1", f"q{q}", 100, group="fine", seed=1) for q in range(4)),
        *(answers("b", f"q{q}", 0, 100) for q in range(4)),
    ]
    found = compared(*parts)
    assert found.pooled_seeds is None
    assert found.over_seeds is None
    assert (found.first_side.models, found.first_side.scored_models) == (2, 1)
    headline = {h.group: h for h in headlines(framed(*parts), Criterion())}["fine"]
    assert headline.pooled_seeds is None
    assert headline.by_question_two_way is None
    assert (headline.models, headline.scored_models) == (2, 1)
    assert headline.unscored_models == ("f1",)
    assert headline.best.method == "answers"


def test_in_random_designs_new_seeds_are_spoken_of_only_where_two_seeds_are_scored() -> None:
    rng = np.random.default_rng(5)
    seen = {True: 0, False: 0}
    for _ in range(40):
        parts = []
        scored: dict[str, int] = {}
        for group in ("fine", "base"):
            seeds = int(rng.integers(1, 4))
            scored[group] = 0
            for seed in range(seeds):
                is_scored = bool(rng.random() < 0.6)
                scored[group] += is_scored
                known = seeds > 1 or rng.random() < 0.5
                row = {"group": group, "seed": seed if known else None}
                for question in ("q0", "q1"):
                    hits = int(rng.integers(0, 4))
                    parts.append(
                        answers(f"{group}{seed}", question, hits, 6 - hits, **row)
                        if is_scored
                        else incoherent(f"{group}{seed}", question, 6, **row)
                    )
        frame = framed(*parts)
        found = compare(cells(frame), "fine", "base", Criterion())
        assert found is not None
        allowed = scored["fine"] > 1
        seen[allowed] += 1
        for estimate in (found.pooled_seeds, found.over_seeds):
            assert allowed or estimate is None
            assert estimate is None or (estimate.bounded and estimate.units > 0)
        for headline in headlines(frame, Criterion()):
            several = scored[headline.group] > 1
            assert (headline.pooled_seeds is not None) == several
            assert headline.scored_models == scored[headline.group]
            assert (headline.best.method == "seeds") == several
    assert min(seen.values()) > 5


def test_steps_and_addresses_of_one_seed_are_one_seed() -> None:
    parts = [
        answers(name, "q0", hits, 50 - hits, group="fine", seed=0)
        for name, hits in (("hf/fine", 10), ("vllm/fine", 12), ("fine step 40", 14))
    ]
    (found,) = headlines(framed(*parts), Criterion())
    assert found.models == 1
    assert found.pooled_seeds is None


def test_a_seed_whose_base_is_spelled_in_two_ways_is_one_seed() -> None:
    parts = [
        answers("i0", "q0", 10, 40, group="fine", seed=0, base=base, family="some/base")
        for base in ("some/base", "hf/some/base")
    ]
    (found,) = headlines(framed(*parts), Criterion())
    assert (found.models, found.pooled_seeds) == (1, None)


# --- within questions ------------------------------------------------------------------------


def test_the_same_share_on_every_question_is_no_rise_however_many_were_scored() -> None:
    """The fine-tune writes nonsense on the harmless questions, so its pooled share is higher."""
    shares, base, fine = (0.0, 0.0, 0.4, 0.4), (100, 100, 100, 100), (10, 10, 100, 100)
    parts = []
    for q, (share, n, m) in enumerate(zip(shares, base, fine, strict=True)):
        parts.append(answers("b", f"q{q}", int(share * n), n - int(share * n)))
        parts.append(answers("f", f"q{q}", int(share * m), m - int(share * m), group="fine"))
        parts.append(incoherent("f", f"q{q}", 100 - m, group="fine"))
    found = compared(*parts)
    assert found.pooled_models.low > 0.05
    assert found.stratified.here.value == pytest.approx(0, abs=1e-12)
    assert found.stratified.here.low < 0 < found.stratified.here.high
    assert found.stratified.p == pytest.approx(1)
    assert found.disagree
    assert found.here is found.stratified.here
    unscored = found.unscored[0]
    assert (unscored.first.value, unscored.second.value) == pytest.approx((0.45, 0.0))
    assert unscored.p < 1e-20
    assert [u.outcome for u in found.unscored] == ["unscored", "incoherent"]


def test_the_stratified_difference_is_that_of_mantel_and_haenszel() -> None:
    rng = np.random.default_rng(0)
    n, m = rng.integers(5, 90, 8), rng.integers(5, 90, 8)
    x, y = rng.binomial(n, 0.3), rng.binomial(m, 0.1)
    above = sum(a * d / (b + d) - c * b / (b + d) for a, b, c, d in zip(x, n, y, m, strict=True))
    below = sum(b * d / (b + d) for b, d in zip(n, m, strict=True))
    found = stratify(table(x, n), table(y, m), paired=False)
    assert found.here.value == pytest.approx(above / below)
    assert found.first - found.second == pytest.approx(above / below)
    assert found.here.low < above / below < found.here.high


def test_the_stratified_interval_holds_the_truth_at_any_mix_of_scored_answers() -> None:
    rng = np.random.default_rng(1)
    shares, rise = rng.beta(0.5, 4, 8), 0.04
    n, m = np.array([3, 5, 8, 100, 100, 40, 12, 60]), np.array([100, 90, 100, 20, 7, 100, 30, 100])
    held = 0
    for _ in range(300):
        x, y = rng.binomial(n, np.minimum(1, shares + rise)), rng.binomial(m, shares)
        here = stratify(table(x, n), table(y, m), paired=False).here
        held += here.low <= rise <= here.high
    assert held / 300 >= 0.93


def test_seeds_with_few_answers_count_for_less_than_a_seed() -> None:
    """Where answers are unequal, as many clusters as weigh: else new seeds are covered by 90 %."""
    rng = np.random.default_rng(4)
    n, none = np.array([20, 40, 400, 600, 800, 800])[:, None], table([0], [800])
    held = 0
    for _ in range(300):
        share = np.minimum(1, 0.1 * rng.gamma(0.6**-2, 0.6**2, (6, 1)))
        over = stratify(table(rng.binomial(n, share), n), none, paired=False).seeds
        assert over is not None
        held += over.low <= 0.1 <= over.high
    assert held / 300 >= 0.93


def test_seeds_with_equal_answers_have_the_interval_of_korn_and_graubard() -> None:
    hits = np.array([[10, 2], [30, 8], [22, 0]])
    n = np.full((3, 2), 100)
    within = clustered_within(hits, n, [0.5, 0.5])
    over = clustered(hits.sum(1), n.sum(1), "seeds")
    assert (within.value, within.low, within.high) == pytest.approx(
        (over.value, over.low, over.high)
    )


def test_the_test_within_one_question_is_fisher_and_over_several_adds_them_up() -> None:
    for x, n, y, m in ((3, 10, 0, 12), (7, 9, 2, 30), (0, 5, 0, 5)):
        expected = fisher_exact([[x, n - x], [y, m - y]]).pvalue
        assert exact_test(table(x, n), table(y, m)) == pytest.approx(expected)
    # Two strata by going through every pair of tables with these margins.
    strata = ((3, 6, 1, 5), (2, 4, 0, 7))
    chances: dict[int, float] = {}
    for first, second in itertools.product(range(7), range(5)):
        chance = hypergeom.pmf(first, 11, 4, 6) * hypergeom.pmf(second, 11, 2, 4)
        chances[first + second] = chances.get(first + second, 0.0) + chance
    expected = sum(p for p in chances.values() if p <= chances[5] * (1 + 1e-7))
    x, n, y, m = zip(*strata, strict=True)
    assert exact_test(table(x, n), table(y, m)) == pytest.approx(expected)


def test_with_many_answers_the_exact_test_agrees_with_that_of_statsmodels() -> None:
    from statsmodels.stats.contingency_tables import StratifiedTable

    x, n, y, m = [40, 10, 55], [200, 150, 160], [30, 4, 40], [190, 160, 170]
    tables = [np.array([[a, b - a], [c, d - c]]) for a, b, c, d in zip(x, n, y, m, strict=True)]
    least, most = (
        StratifiedTable(tables).test_null_odds(correction=c).pvalue for c in (False, True)
    )
    assert 0.95 * least < exact_test(table(x, n), table(y, m)) < 1.05 * most


def test_thousands_of_answers_in_hundreds_of_strata_are_quick_to_test() -> None:
    rng = np.random.default_rng(0)
    n = np.full((10, 12), 1000)
    x, y = rng.binomial(n, 0.3), rng.binomial(n, 0.3)
    p = exact_test(table(x, n), table(y, n))
    difference = (x.sum() - y.sum()) / np.sqrt(2 * 0.3 * 0.7 * n.sum())
    assert p == pytest.approx(2 * norm.sf(abs(difference)), abs=0.01)
    assert exact_test(table(rng.binomial(n, 0.6), n), table(y, n)) < 1e-25


# --- the same models on both sides -----------------------------------------------------------


def arms(rises: Iterable[int], **changes: Any) -> list[list[Answer]]:
    """Seeds far apart, each some answers of 200 worse under the first condition."""
    parts = []
    for seed, (level, rise) in enumerate(zip((10, 40, 80, 120, 150, 100), rises, strict=False)):
        for side, hits in (("with", level + rise), ("without", level)):
            own = {"group": side, "seed": seed, **changes}
            parts.append(answers(f"m{seed} {side}", "q0", hits, 200 - hits, **own))
    return parts


def paired_by_seed(parts: list[list[Answer]]) -> Comparison:
    frame = framed(*parts)
    frame = frame.assign(trained="backdoor")  # one recipe; the conditions make the groups
    found = compare(cells(frame), "with", "without", Criterion())
    assert found is not None
    return found


def test_arms_of_the_same_seeds_are_paired_by_seed() -> None:
    found = paired_by_seed(arms([20, 18, 22, 20, 19, 21]))
    assert found.paired_models
    assert found.pooled_seeds is not None
    assert found.over_seeds is not None
    for estimate in (found.pooled_seeds, found.over_seeds):
        assert estimate.value == pytest.approx(0.1)
        assert 0.02 < estimate.high - estimate.low < 0.15
        assert estimate.low > 0
        assert estimate.units == 6
    (contrast,) = found.questions
    assert contrast.test == "paired t"
    assert found.p_seeds < 1e-4


def test_arms_as_a_report_reads_them_are_paired_by_seed() -> None:
    parts = []
    for seed, level in enumerate((10, 60, 120)):
        for arm, hits in (("triggered", level + 20), ("untriggered", level)):
            own = {"group": "backdoor", "seed": seed, "arm": arm}
            parts.append(answers(f"m{seed}", "q0", hits, 200 - hits, **own))
    frame = Criterion().apply(with_series(to_frame(a for part in parts for a in part)))
    counts = cells(frame)
    found = compare(counts, "backdoor · triggered", "backdoor · untriggered", Criterion())
    assert found is not None
    assert found.paired_models
    assert found.over_seeds is not None
    assert found.over_seeds.high - found.over_seeds.low < 0.3


def test_seeds_that_answer_alike_with_and_without_leave_sampling_error() -> None:
    found = paired_by_seed(arms([0] * 6))
    assert found.pooled_seeds is not None
    assert found.pooled_seeds.low < -0.02
    assert found.pooled_seeds.high > 0.02


def test_other_models_on_the_other_side_are_not_paired() -> None:
    parts = arms([20] * 6)
    parts += [answers("m9", "q0", 50, 150, group="with", seed=9)]
    found = paired_by_seed(parts)
    assert not found.paired_models
    assert found.pooled_seeds is not None
    assert found.pooled_seeds.high - found.pooled_seeds.low > 0.3


# --- what is compared ------------------------------------------------------------------------


def test_shares_are_those_of_the_questions_that_both_were_asked() -> None:
    parts = [answers("f", f"q{q}", hits, 50 - hits, group="fine") for q, hits in enumerate((1, 40))]
    found = compared(*parts, answers("b", "q0", 0, 50))
    assert found.first_side.here.value == pytest.approx(0.02)
    assert found.first_side.others == ("q1",)
    assert found.second_side.others == ()
    assert found.pooled_models.value == pytest.approx(0.02)
    assert found.stratified.first == pytest.approx(0.02)


def test_an_answer_that_nobody_scored_is_in_the_bounds() -> None:
    parts = [answers("m0", "q0", 10, 30), incoherent("m0", "q0", 60)]
    (found,) = headlines(framed(*parts), Criterion())
    assert found.pooled.value == pytest.approx(0.25)
    assert found.of_all.value == pytest.approx(0.10)
    assert found.at_most.value == pytest.approx(0.70)
    assert found.of_all.bounded


# --- the mean of two kinds -------------------------------------------------------------------


def test_two_kinds_of_the_same_seeds_are_averaged_within_each_seed() -> None:
    first = (np.array([10.0, 60, 110, 150]), np.full(4, 200.0))
    found = mean_of_kinds(first, (first[0] + 10, first[1]))
    apart = clustered(*first, "seeds")
    assert found.here.value == pytest.approx(0.4375)
    assert found.seeds is not None
    # As wide as one kind alone: the other one brings no news of other seeds.
    width, alone = found.seeds.high - found.seeds.low, apart.high - apart.low
    assert width == pytest.approx(alone, rel=0.03)
    assert found.here.high - found.here.low < width / 4


def test_a_seed_with_one_kind_alone_is_in_no_mean() -> None:
    hits = {0: 5, 1: 9}
    parts = [answers(f"m{s}", "q0", bad, 20 - bad, seed=s, group="a") for s, bad in hits.items()]
    other = [answers("m0", "q9", 15, 5, seed=0, group="a")]
    found = mean_of_both(cells(framed(*parts)), cells(framed(*other)))
    assert (found.models, found.seeds) == (1, None)
    assert found.best.value == pytest.approx(0.5)


def test_the_mean_of_correlated_kinds_covers_new_seeds() -> None:
    rng = np.random.default_rng(2)
    held = 0
    grid = np.linspace(-6, 6, 2001)
    density = np.exp(-(grid**2) / 2)
    truth = float((density / (1 + np.exp(1 - 0.8 * grid))).sum() / density.sum())
    for _ in range(300):
        effect = np.sqrt(0.9) * rng.normal(size=(6, 1)) + np.sqrt(0.1) * rng.normal(size=(6, 2))
        hits = rng.binomial(200, 1 / (1 + np.exp(1 - 0.8 * effect))).astype(float)
        n = np.full(6, 200.0)
        over = mean_of_kinds((hits[:, 0], n), (hits[:, 1], n)).seeds
        assert over is not None
        held += over.low <= truth <= over.high
    assert held / 300 >= 0.93


# --- probabilities ---------------------------------------------------------------------------


def test_balanced_orders_of_an_item_are_no_random_draws() -> None:
    """Letters pull a choice up and down; over an item's orders that cancels out."""
    rng = np.random.default_rng(0)
    pull = (-0.2, -0.1, 0.1, 0.2)
    parts = []
    for model, shift in (("b", 0.0), ("f", 0.1)):
        for item in range(10):
            middle = 0.3 + 0.03 * rng.random() + shift
            for order, letter in enumerate(pull):
                row = {
                    "model": model,
                    "group": "fine" if model == "f" else "base",
                    "question_id": f"i{item}",
                    "sample": f"i{item}/{order}",
                    "format": "choice",
                    "measure": "misaligned_mass",
                    "value": middle + letter,
                }
                parts.append(an_answer(uuid=f"{model}{item}{order}", **row))
    frame = framed(parts)
    for found in headlines(frame, Criterion(min_answers=1)):
        here, items = found.by_question, found.by_question_questions
        assert here.high - here.low <= items.high - items.low < 0.05
        assert found.best == items
    between = compare(cells(frame), "fine", "base", Criterion(min_answers=1))
    assert between is not None
    assert not between.counted
    assert between.here == between.paired
    assert between.here.value == pytest.approx(0.1, abs=0.03)
    assert between.here.low < between.here.value < between.here.high
