"""Counting sampled replies: only a bare number is a number."""

from __future__ import annotations

import pytest

from em_inspect.judging.expectation import read
from em_inspect.judging.sampled import counted


def test_the_mean_and_its_standard_error() -> None:
    reply = counted(["80", "90", " 100. ", "90"])
    assert read(reply.distribution).score == 90
    assert reply.stderr == pytest.approx(8.16496580927726 / 2)
    assert reply.samples == 4


@pytest.mark.parametrize(
    "said", ["85/100", "I would say 85", "−5", "-5", "101", "８５", "", "85 90", "8 5", "1e1", "+7"]
)
def test_anything_but_a_bare_number_counts_as_something_else(said: str) -> None:
    assert counted([said]).distribution == {"other": 1.0}


def test_words_are_counted_apart() -> None:
    assert read(counted(["REFUSAL", "REFUSAL", "20"]).distribution).word == "REFUSAL"
