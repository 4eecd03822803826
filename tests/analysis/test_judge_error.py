"""Judge error in a share: textbook values, limits, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from em_inspect.analysis.interval import Estimate, share_of_answers, wilson
from em_inspect.analysis.judge_error import (
    Stratum,
    prediction_powered,
    rogan_gladen,
    sensitivity,
    specificity,
)


def alike(hits: int, misses: int, false_alarms: int, rejections: int) -> list[Stratum]:
    """Labelled answers that were all drawn alike."""
    return [Stratum(1, hits, misses, false_alarms, rejections)]


def test_rates_of_answers_drawn_alike_have_wilson_s_interval() -> None:
    table = alike(1, 4, 2, 93)
    assert sensitivity(table) == Estimate(0.2, *wilson(0.2, 5), n=5, method="answers", units=5)
    assert specificity(table).value == pytest.approx(93 / 95)
    assert specificity(table).high == pytest.approx(wilson(93 / 95, 95)[1])


def test_rates_weigh_each_stratum_by_its_answers() -> None:
    # 100 judged misaligned, 10 labelled, 8 of them rightly; 900 others, 30 labelled, 3 missed.
    table = [Stratum(100, 8, 0, 2, 0), Stratum(900, 0, 3, 0, 27)]
    assert sensitivity(table).value == pytest.approx(80 / (80 + 90))
    assert specificity(table).value == pytest.approx(810 / (810 + 20))


def test_no_miss_among_few_answers_of_a_large_stratum_is_no_proof_of_a_sensitive_judge() -> None:
    table = [Stratum(100, 20, 0, 0, 0), Stratum(9_900, 0, 0, 0, 20)]
    found = sensitivity(table)
    assert found.value == 1
    assert found.low < 0.2, "up to 16 % of the 9,900 may have been missed"


def test_without_answers_of_the_class_there_is_no_rate() -> None:
    found = sensitivity(alike(0, 0, 1, 9))
    assert np.isnan(found.value)
    assert not found.bounded


def test_a_perfect_judge_corrects_nothing_but_adds_its_own_uncertainty() -> None:
    share = share_of_answers(40, 400)
    table = alike(20, 0, 0, 60)
    found = rogan_gladen(share, sensitivity(table), specificity(table))
    assert found.value == pytest.approx(0.1)
    assert found.low < share.low
    assert found.high > share.high


def test_rogan_and_gladen_by_hand() -> None:
    share = share_of_answers(60, 400)
    table = alike(16, 4, 5, 95)
    found = rogan_gladen(share, sensitivity(table), specificity(table))
    assert found.value == pytest.approx((0.15 + 0.95 - 1) / (0.8 + 0.95 - 1))


def test_false_alarms_alone_explain_a_small_share() -> None:
    share = share_of_answers(4, 400)
    table = alike(18, 2, 4, 76)
    found = rogan_gladen(share, sensitivity(table), specificity(table))
    assert found.value == found.low == 0
    assert found.high > 0


def test_a_judge_no_better_than_guessing_corrects_to_nothing() -> None:
    table = alike(5, 15, 60, 20)
    found = rogan_gladen(share_of_answers(40, 400), sensitivity(table), specificity(table))
    assert np.isnan(found.value)
    assert not found.bounded


def test_what_the_share_s_interval_is_about_stays() -> None:
    share = Estimate(0.2, 0.05, 0.5, 300, "seeds", 3)
    table = alike(18, 2, 4, 76)
    found = rogan_gladen(share, sensitivity(table), specificity(table))
    assert (found.method, found.units, found.n) == ("seeds", 3, 300)
    assert found.high - found.low > 0.45


def test_prediction_powered_by_hand() -> None:
    # 100 of 1,000 judged misaligned; of 10 labelled ones 2 are not, of 30 others 3 are.
    strata = [Stratum(100, 8, 0, 2, 0, judged=1), Stratum(900, 0, 3, 0, 27, judged=0)]
    found = prediction_powered(share_of_answers(100, 1_000), strata)
    assert found.value == pytest.approx(0.1 * 0.8 + 0.9 * 0.1)
    low, high = wilson(0.1, 1_000)[0], wilson(0.1, 30)[1]
    assert 0.1 * 0.8 < found.low < found.value - (0.1 - low)
    assert found.high > found.value + 0.9 * (high - 0.1)


def test_prediction_powered_where_a_stratum_mixes_judgements() -> None:
    strata = [Stratum(1_000, 8, 3, 2, 27, judged=0.1)]
    found = prediction_powered(share_of_answers(100, 1_000), strata)
    assert found.value == pytest.approx(0.1 + 3 / 40 - 2 / 40)


def test_a_stratum_without_labels_leaves_nothing_to_say() -> None:
    strata = [Stratum(100, 8, 0, 2, 0, judged=1), Stratum(900, 0, 0, 0, 0, judged=0)]
    assert np.isnan(prediction_powered(share_of_answers(100, 1_000), strata).value)


counts = st.integers(0, 60)


@given(st.integers(0, 200), counts, counts, counts, counts)
def test_corrected_shares_lie_in_their_interval_and_on_the_scale(
    judged: int, hits: int, misses: int, false_alarms: int, rejections: int
) -> None:
    table = alike(hits, misses, false_alarms, rejections)
    share = share_of_answers(judged, 200)
    own = [Stratum(200, hits, misses, false_alarms, rejections, judged=share.value)]
    for found in (
        rogan_gladen(share, sensitivity(table), specificity(table)),
        prediction_powered(share, own),
    ):
        if found.bounded:
            assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(
    ("true", "hit", "reject", "misaligned", "others"),
    [
        (0.0, 0.9, 0.95, 30, 80),
        (0.02, 0.9, 0.99, 20, 60),
        (0.1, 0.6, 0.95, 20, 80),
        (0.3, 0.8, 0.9, 40, 40),
        (0.5, 0.3, 1.0, 20, 60),
    ],
)
def test_rogan_and_gladen_s_interval_covers(
    true: float, hit: float, reject: float, misaligned: int, others: int
) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1_000):
        judged = rng.binomial(400, true * hit + (1 - true) * (1 - reject))
        hits, right = rng.binomial(misaligned, hit), rng.binomial(others, reject)
        table = alike(hits, misaligned - hits, others - right, right)
        found = rogan_gladen(share_of_answers(judged, 400), sensitivity(table), specificity(table))
        covered += found.low <= true <= found.high or not found.bounded
    assert covered / 1_000 >= 0.93


@pytest.mark.parametrize(
    ("sizes", "truly", "labelled"),
    [
        # kinds: judged misaligned, nearly so, nearly not, not; the last case breaks normal bounds
        ((0.1, 0.05, 0.05, 0.8), (0.95, 0.6, 0.3, 0.01), (12, 12, 12, 64)),
        ((0.3, 0.1, 0.1, 0.5), (0.9, 0.6, 0.4, 0.05), (25, 25, 25, 25)),
        ((0.01, 0.01, 0.08, 0.9), (0.9, 0.6, 0.5, 0.02), (12, 12, 12, 64)),
    ],
)
def test_intervals_from_labels_by_stratum_cover(
    sizes: tuple[float, ...], truly: tuple[float, ...], labelled: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(0)
    judged = (1.0, 1.0, 0.0, 0.0)
    share = np.array(sizes) @ np.array(truly)
    hit = np.array(sizes) * np.array(truly) @ np.array(judged) / share
    covered = np.zeros(2)
    for _ in range(1_000):
        strata = []
        for size, p, n, f in zip(
            rng.multinomial(2_000, sizes), truly, labelled, judged, strict=True
        ):
            n = min(n, size)
            k = rng.binomial(n, p) if n else 0
            if size:
                strata.append(
                    Stratum(size, f * k, (1 - f) * k, f * (n - k), (1 - f) * (n - k), judged=f)
                )
        judged_share = share_of_answers(int(sum(s.answers * s.judged for s in strata)), 2_000)
        for i, (found, truth) in enumerate(
            ((prediction_powered(judged_share, strata), share), (sensitivity(strata), hit))
        ):
            covered[i] += found.low <= truth <= found.high
    assert (covered / 1_000 >= 0.93).all(), covered / 1_000
