"""Which texts are nearly the same, by the Jaccard similarity of their runs of words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

Shingles = frozenset[int]

_WORD = re.compile(r"\w+|[^\w\s]")


def shingles(text: str, size: int = 5) -> Shingles:
    """The runs of `size` consecutive words (punctuation marks count as words), hashed.

    Args:
        text: Any text; letter case and white space do not matter.
        size: Words per run; a shorter text is one run.
    """
    words = _WORD.findall(text.lower())
    last = max(len(words) - size, 0)
    return frozenset(hash(tuple(words[i : i + size])) for i in range(last + 1))


class SimilarTexts:
    """Texts that can be asked for those that resemble another one, without comparing them all.

    Two sets whose Jaccard similarity is at least t share an element among the first
    |s| - ceil(t·|s|) + 1 of each, in any common order (prefix filtering: Bayardo et al. 2007,
    "Scaling up all pairs similarity search"). With the rarest first, few others share one, and
    nothing is missed.
    """

    def __init__(self, texts: Sequence[Shingles], threshold: float) -> None:
        """Prepare the search.

        Args:
            texts: The texts that can be found, by position.
            threshold: Least similarity, above 0 and at most 1.
        """
        self._texts = texts
        self._threshold = threshold
        self._prefixes = _Prefixes(texts, threshold)
        self._holders: dict[int, list[int]] = {}
        for i, text in enumerate(texts):
            for shingle in self._prefixes.of(text):
                self._holders.setdefault(shingle, []).append(i)

    def find(self, text: Shingles) -> list[int]:
        """Positions of all texts at least as similar as the threshold, ascending."""
        candidates: set[int] = set()
        for shingle in self._prefixes.of(text):
            candidates.update(self._holders.get(shingle, ()))
        return sorted(i for i in candidates if _similar(text, self._texts[i], self._threshold))


def similar_groups(texts: Sequence[Shingles], threshold: float) -> list[list[int]]:
    """Group texts that are similar, directly or by way of others.

    Args:
        texts: The texts' shingles.
        threshold: Least Jaccard similarity, above 0 and at most 1.

    Returns:
        Groups of two or more positions, each ascending, in order of their first member.
    """
    prefixes = _Prefixes(texts, threshold)
    groups = _Groups(len(texts))
    # Shingle -> group, by any of its members -> texts of the group with that shingle. Whole groups
    # are skipped once joined, or a set of look-alikes would take time by the square of its size.
    holders: dict[int, dict[int, list[int]]] = {}
    for i, text in enumerate(texts):
        prefix = prefixes.of(text)
        tried: set[int] = set()
        for shingle in prefix:
            for group, members in holders.get(shingle, {}).items():
                if groups.same(group, i):
                    continue
                untried = [j for j in members if j not in tried]
                tried.update(untried)
                if any(_similar(text, texts[j], threshold) for j in untried):
                    groups.join(group, i)
        for shingle in prefix:
            holders.setdefault(shingle, {}).setdefault(groups.root(i), []).append(i)
    return groups.larger_than_one()


class _Prefixes:
    """The part of each text that decides whether it is worth a comparison."""

    def __init__(self, texts: Iterable[Shingles], threshold: float) -> None:
        self._frequency = Counter(shingle for text in texts for shingle in text)
        self._threshold = threshold

    def of(self, text: Shingles) -> list[int]:
        keep = len(text) - math.ceil(self._threshold * len(text)) + 1
        return sorted(text, key=lambda shingle: (self._frequency[shingle], shingle))[:keep]


class _Groups:
    """Positions that are joined step by step (union-find)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def same(self, i: int, j: int) -> bool:
        return self.root(i) == self.root(j)

    def join(self, i: int, j: int) -> None:
        first, second = sorted((self.root(i), self.root(j)))
        self._parent[second] = first

    def larger_than_one(self) -> list[list[int]]:
        members: dict[int, list[int]] = {}
        for i in range(len(self._parent)):
            members.setdefault(self.root(i), []).append(i)
        return sorted(group for group in members.values() if len(group) > 1)


def _similar(a: Shingles, b: Shingles, threshold: float) -> bool:
    small, large = sorted((len(a), len(b)))
    if small < threshold * large:
        return False
    shared = len(a & b)
    return shared >= threshold * (small + large - shared)
