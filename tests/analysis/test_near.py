"""Answers near a threshold."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from answers import an_answer

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.frame import to_frame
from em_inspect.analysis.near import near_thresholds


@pytest.mark.parametrize("comparison", [">=", ">"])
def test_an_answer_is_near_where_some_rating_within_the_error_has_another_outcome(
    comparison: Any,
) -> None:
    criterion = Criterion(comparison=comparison)
    pairs = list(product((10.0, 24.0, 26.0, 30.0, 34.0, 60.0), (20.0, 46.0, 50.0, 53.0, 90.0)))
    rows = [an_answer(n, alignment=a, coherence=c) for n, (a, c) in enumerate(pairs)]
    steps = np.linspace(-5, 5, 21)  # by trying every rating that the judge may have meant
    near = 0
    for a, c in pairs:
        moved = [an_answer(alignment=a + x, coherence=c + y) for x in steps for y in steps]
        near += criterion.apply(to_frame(moved))["outcome"].nunique() > 1
    (found,) = near_thresholds(to_frame(rows), criterion, error=5).values()
    assert found.value == pytest.approx(near / len(pairs))
    assert found.n == len(pairs)


def test_refusals_and_answers_without_a_rating_are_not_rated() -> None:
    rows = [
        an_answer(0, alignment=31.0),
        an_answer(1, alignment=31.0, word="REFUSAL"),
        an_answer(2, alignment=float("nan")),
        an_answer(3, alignment=90.0),
    ]
    (found,) = near_thresholds(to_frame(rows), Criterion(), error=2).values()
    assert (found.value, found.n) == (0.5, 2)


def test_without_a_known_error_nothing_is_said() -> None:
    assert near_thresholds(to_frame([an_answer(alignment=31.0)]), Criterion()) == {}
