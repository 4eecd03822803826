"""The yardstick: what answers were measured with, since only equal ones share a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ["task", "measure", "fingerprint", "judge", "judge_id", "estimator", "rule"]
"""What must agree. Where questions lay is not among it: their fingerprint decides."""

UNKNOWN = ("unknown", "not stated")
"""Fingerprints of questions that nobody took: there the wording of each question decides."""

Key = tuple[str, ...]
Rubrics = dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
"""Alignment and coherence rubrics by question, as hashes."""

Wordings = dict[str, frozenset[str]]
"""What questions were worded like, by their ids."""

RUBRICS = ["alignment_rubric", "coherence_rubric"]

_MOST_SOURCES = 3


@dataclass(frozen=True)
class Yardstick:
    """Everything that must agree before two answers may be counted together.

    Attributes:
        task: Task name.
        measure: What is counted, e.g. `misaligned`.
        source: Where its questions came from, to be read: the same ones may lie in several places.
        fingerprint: Fingerprint over its questions and rubrics.
        judge: Model that rated.
        judge_id: Key of its identity, empty where its ratings say none.
        estimator: How its numbers were read.
        rule: How its replies were read.
        rubrics: Hashes of the rubrics, alignment before coherence, sorted.
        judge_shown: The judge's name, with its key where another judge has the same name.
        more: What tells it from another yardstick of the same task, questions and judge, or empty.
    """

    task: str
    measure: str
    source: str
    fingerprint: str
    judge: str
    judge_id: str
    estimator: str
    rule: str
    rubrics: tuple[tuple[str, str], ...]
    judge_shown: str
    more: str = ""

    def __str__(self) -> str:
        said = f"{self.task} · questions {self.source} · judge {self.judge_shown}"
        return f"{said} · {self.more}" if self.more else said


def yardsticks(frame: DataFrame) -> tuple[DataFrame, list[Yardstick]]:
    """Number the yardsticks of a frame, in a new column `yardstick`.

    A log in which a question was rated with another rubric than in the logs before it, e.g. after
    re-scoring, gets a yardstick of its own even where all else agrees. So does a file whose
    questions have no fingerprint and share an id with others, but no wording.

    Returns:
        The frame with the column, and the yardsticks in the order of their numbers.
    """
    first = frame.groupby([*COLUMNS, "log", "question_id"], observed=True, sort=False)
    used = first[[*RUBRICS, "question"]].agg(lambda values: tuple(sorted(set(values))))
    sources = frame.groupby([*COLUMNS, "log"], observed=True, sort=False)["source"].first()
    found: list[_Found] = []
    number: dict[Key, int] = {}
    parts = used.reset_index().groupby([*COLUMNS, "log"], observed=True, sort=False)
    for key, part in parts:
        rubrics: Rubrics = {
            str(row.question_id): (row.alignment_rubric, row.coherence_rubric)
            for row in part.itertuples()
        }
        worded: Wordings = {
            str(row.question_id): frozenset(filter(None, row.question)) for row in part.itertuples()
        }
        place = _place(found, key[:-1], rubrics, worded)
        found[place].sources.append(str(sources[key]))
        number[key] = place
    keys = zip(*(frame[name] for name in [*COLUMNS, "log"]), strict=True)
    marked = frame.assign(yardstick=[number[key] for key in keys])
    return marked, _told_apart([_yardstick(one) for one in found])


@dataclass
class _Found:
    """A yardstick, and what is known of its questions so far."""

    key: Key
    rubrics: Rubrics
    wordings: Wordings
    sources: list[str] = field(default_factory=list)

    def takes(self, key: Key, rubrics: Rubrics, wordings: Wordings) -> bool:
        """Whether answers with these rubrics and wordings were measured alike."""
        if self.key != key or any(self.rubrics.get(q, r) != r for q, r in rubrics.items()):
            return False
        if key[COLUMNS.index("fingerprint")] not in UNKNOWN:
            return True
        both = [(self.wordings.get(q), w) for q, w in wordings.items()]
        return all(not known or not own or known & own for known, own in both)


def _place(found: list[_Found], key: Key, rubrics: Rubrics, wordings: Wordings) -> int:
    for number, one in enumerate(found):
        if one.takes(key, rubrics, wordings):
            one.rubrics.update(rubrics)
            one.wordings.update(_joined(one.wordings, wordings))
            return number
    found.append(_Found(key, dict(rubrics), dict(wordings)))
    return len(found) - 1


def _joined(known: Mapping[str, frozenset[str]], own: Wordings) -> Wordings:
    return {question: known.get(question, frozenset()) | words for question, words in own.items()}


def _yardstick(found: _Found) -> Yardstick:
    pairs = {(a, c) for ones, others in found.rubrics.values() for a in ones for c in others}
    task, measure, fingerprint, judge, judge_id, estimator, rule = found.key
    return Yardstick(
        task,
        measure,
        _source(found.sources, fingerprint),
        fingerprint,
        judge,
        judge_id,
        estimator,
        rule,
        tuple(sorted(pairs)),
        judge,
    )


def _source(sources: list[str], fingerprint: str) -> str:
    """One place of the same questions; all files of questions that nobody took a fingerprint of."""
    distinct = sorted(set(sources), key=lambda source: (len(source), source))
    if fingerprint not in UNKNOWN:
        return distinct[0]
    more = f" and {len(distinct) - _MOST_SOURCES} more" if len(distinct) > _MOST_SOURCES else ""
    return ", ".join(distinct[:_MOST_SOURCES]) + more


def _told_apart(found: list[Yardstick]) -> list[Yardstick]:
    """Give judges of one name the keys of their identities, and equal titles what differs."""
    keys: dict[str, set[str]] = {}
    for one in found:
        keys.setdefault(one.judge, set()).add(one.judge_id)
    named = [
        replace(one, judge_shown=judge_name(one.judge, one.judge_id))
        if len(keys[one.judge]) > 1
        else one
        for one in found
    ]
    alike: dict[str, list[Yardstick]] = {}
    for one in named:
        alike.setdefault(str(one), []).append(one)
    return [replace(one, more=_more(one, alike[str(one)])) for one in named]


def _more(own: Yardstick, alike: list[Yardstick]) -> str:
    """What of a yardstick is not the same in all that have its title."""
    said = {
        "measure": own.measure.replace("_", " "),
        "fingerprint": f"fingerprint {own.fingerprint}",
        "estimator": own.estimator.replace("_", " "),
        "rule": f"rule {own.rule}",
        "rubrics": f"rubrics {' '.join('/'.join(pair) for pair in own.rubrics[:2])}",
    }
    differ = [name for name in said if len({getattr(one, name) for one in alike}) > 1]
    return ", ".join(said[name] for name in differ)


def judge_name(judge: str, judge_id: str) -> str:
    """A judge's name with the key of its identity, or with a word that its log has none."""
    return f"{judge} ({judge_id or 'known by name only'})"
