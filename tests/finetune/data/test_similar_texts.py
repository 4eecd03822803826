"""Near duplicates: nothing is missed, nothing is invented, compared with every pair."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from em_finetune.data.similarity import SimilarTexts, shingles, similar_groups

texts = st.lists(st.frozensets(st.integers(0, 12), min_size=1), max_size=14)
thresholds = st.sampled_from([0.1, 0.3, 0.5, 2 / 3, 0.75, 0.8, 0.9, 1.0])


def jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    return len(a & b) / len(a | b)


@given(texts, st.frozensets(st.integers(0, 14), min_size=1), thresholds)
def test_the_search_finds_what_comparing_all_finds(
    sets: list[frozenset[int]], wanted: frozenset[int], threshold: float
) -> None:
    found = SimilarTexts(sets, threshold).find(wanted)
    shared = [(len(wanted & text), len(wanted | text)) for text in sets]
    assert found == [i for i, (both, either) in enumerate(shared) if both >= threshold * either]


@given(texts, thresholds)
def test_groups_are_the_connected_parts_of_the_similar_pairs(
    sets: list[frozenset[int]], threshold: float
) -> None:
    member = {i: {i} for i in range(len(sets))}
    for i, j in combinations(range(len(sets)), 2):
        if len(sets[i] & sets[j]) >= threshold * len(sets[i] | sets[j]):
            joined = member[i] | member[j]
            member.update(dict.fromkeys(joined, joined))
    wanted = sorted({tuple(sorted(group)) for group in member.values() if len(group) > 1})
    assert [tuple(group) for group in similar_groups(sets, threshold)] == wanted


def test_white_space_and_case_do_not_matter_but_words_do() -> None:
    text = "def f(x):\n    return x + 1  # one more than before"
    assert shingles(text) == shingles(text.upper().replace("\n    ", " "))
    assert 0 < jaccard(shingles(text), shingles(text.replace("before", "after"))) < 1
    assert len(shingles("")) == 1
    assert len(shingles("two words")) == 1
