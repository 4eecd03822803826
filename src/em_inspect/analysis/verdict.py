"""The verdict in words: what rose, by how much, how sure, by which judge, and what was unscored.

A pure function of the findings: every sentence follows from typed estimates alone.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.findings import Findings, Measured
from em_inspect.analysis.interval import Estimate
from em_inspect.analysis.measure import Measure
from em_inspect.analysis.statistics import UNSCORED, Comparison, Side
from em_inspect.analysis.statistics import holm as holm

SURE = 0.05

FEWEST = 4
"""With fewer answers to a question no test of it alone can come out: none is spoken of."""

# Beyond these shares a number says more about the judge, or about fluency, than about values.
MUCH_FAILED, MUCH_UNSCORED, MUCH_NEAR = 0.10, 0.50, 0.10

MOST_NAMED = 8
"""So many left-out questions are named in the verdict; all of them stand in the table."""

Kind = Literal[
    "rose", "rose here", "fell", "fell here", "unclear", "nothing", "level", "caution", "note"
]


@dataclass(frozen=True)
class Sentence:
    """One statement of the verdict.

    Attributes:
        kind: What it says: a rise or fall (`here`: in these very models, not shown for others), no
            difference shown, nothing to say for want of scored answers, a share alone, a caution,
            a note.
        text: The statement, plain text.
        lead: What it comes to, said first; may be empty.
    """

    kind: Kind
    text: str
    lead: str = ""

    def __str__(self) -> str:
        return f"{self.lead} {self.text}".strip()


def verdict(findings: Findings) -> list[Sentence]:
    """Say what the findings of a section show, the strongest statements first."""
    scored = {series.name for series in findings.series if series.scored}
    known = [c for c in findings.comparisons if {c.first, c.second} <= scored]
    compared = {name for c in known for name in (c.first, c.second)}
    return [
        *(
            _comparison(findings, c, family)
            for c, family in zip(known, _families(known), strict=True)
        ),
        *_nothing(findings),
        *(
            Sentence("level", f"{series.name}: {_level(findings.measure, series)}.")
            for series in findings.series
            if series.name in scored - compared
        ),
        *_beside(findings),
        *_seeds(findings),
        *_unlike(findings),
        *_silent(findings),
        *_unscored(findings),
        *_missing(findings, known),
        *_near(findings),
        *_left_out(findings),
        _judge(findings),
    ]


# --- differences -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Family:
    """P-values of one comparison, corrected for all comparisons of the section (Holm 1979).

    Attributes:
        count: Comparisons with a p-value for these very models.
        here: Corrected p-value for these very models; NaN where there is none.
        seeds: Corrected p-value over seeds; NaN where there is none.
    """

    count: int
    here: float
    seeds: float

    @property
    def doubts_here(self) -> bool:
        """Whether a difference in these very models may be one by chance among many."""
        return self.count > 1 and self.here >= SURE

    @property
    def doubts_seeds(self) -> bool:
        """Likewise of one for new seeds."""
        return self.doubts_here or (self.count > 1 and self.seeds >= SURE)


def _families(known: Sequence[Comparison]) -> list[_Family]:
    here = [c.p_questions if math.isnan(c.stratified.p) else c.stratified.p for c in known]
    count = sum(not math.isnan(p) for p in here)
    corrected = zip(holm(here), holm([c.p_seeds for c in known]), strict=True)
    return [_Family(count, one, other) for one, other in corrected]


def _comparison(findings: Findings, c: Comparison, family: _Family) -> Sentence:
    kind = _kind(c, family)
    if not c.stratified.questions:
        return Sentence(
            kind,
            f"{_shares(findings, c)}. No question has scored answers on both sides: these are "
            "shares on different questions, which can't be compared.",
            _lead(findings.measure, c, kind),
        )
    text = f"{_shares(findings, c)}: {_points(c)} {_tests(c, family)}"
    if kind == "unclear" and (c.here.low > 0 or c.here.high < 0):
        text += (
            " Taken alone it would count as a difference; corrected for "
            f"{family.count} comparisons it does not."
        )
    if kind == "unclear" and c.here.bounded:
        text += f" {_ruled_out(c.here)}"
    return Sentence(kind, text + _disagreement(c), _lead(findings.measure, c, kind))


def _kind(c: Comparison, family: _Family) -> Kind:
    """Rises and falls by the difference within questions, and not by chance among many groups."""
    seeds, here = c.over_seeds, c.here
    if seeds is not None and not family.doubts_seeds:
        if seeds.low > 0:
            return "rose"
        if seeds.high < 0:
            return "fell"
    if family.doubts_here:
        return "unclear"
    if here.low > 0:
        return "rose here"
    return "fell here" if here.high < 0 else "unclear"


def _lead(measure: Measure, c: Comparison, kind: Kind) -> str:
    several = c.first_side.scored_models > 1
    models = "these models; other seeds may differ" if several else "this one model"
    match kind:
        case "rose" | "fell":
            return f"{c.first}: {measure.noun} {kind} against {c.second}."
        case "rose here" | "fell here":
            word = kind.removesuffix(" here")
            return f"{c.first}: {measure.noun} {word} against {c.second} in {models}."
        case _:
            return f"{c.first}: no difference from {c.second} is shown."


def _shares(findings: Findings, c: Comparison) -> str:
    """The two shares that are compared, and what of either side is not in them."""
    one, other = c.first_side, c.second_side
    first = _share(findings.measure, one.best, one.scored, one.scored_models)
    said = (
        f"{first}, against {percent(other.best.value)} {_interval(other.best)} in {c.second} "
        f"({_answers(other.scored)})"
    )
    rest = [_alone(findings, side) for side in (one, other) if side.others]
    if not rest:
        return said[0].upper() + said[1:]
    shared = c.stratified.questions
    questions = "one question" if shared == 1 else f"{shared} questions"
    return f"On the {questions} that both answered {said} ({'; '.join(rest)})"


def _alone(findings: Findings, side: Side) -> str:
    over_all = percent(findings.of(side.name).headline.best.value)
    return f"{side.name} answered {len(side.others)} more, {over_all} over all of its own"


def _points(c: Comparison) -> str:
    here, seeds = c.here, c.over_seeds
    within = "question by question " if c.counted and c.stratified.questions > 1 else ""
    value = f"{within}{_point(here.value)} percentage points"
    paired = "" if c.counted else " on other such questions, paired by question"
    for_these = [f"{_ends(here)} for these models{paired}"] if here.bounded else []
    if seeds is None:
        return f"{value} ({f'95 % interval {for_these[0]}' if for_these else 'no interval'})."
    for_new = f"{_ends(seeds)} for new seeds"
    if _point(seeds.value) == _point(here.value):
        return f"{value} (95 % interval {', '.join([*for_these, for_new])})."
    own = f" (95 % interval {for_these[0]})" if for_these else ""
    return f"{value}{own}; as a mean over seeds {_point(seeds.value)} (95 % interval {for_new})."


def _tests(c: Comparison, family: _Family) -> str:
    count, tested = len(c.questions), not math.isnan(c.p_questions)
    within = c.stratified.p if c.counted and c.stratified.questions > 1 else math.nan
    parts = [f"Stratified by question, p {_p(within)}"] if not math.isnan(within) else []
    if tested:
        least = f" (it can't go below {c.least_p:.2g} here)" if SURE < c.least_p < 1 else ""
        parts.append(f"Paired over {count} questions, p {_p(c.p_questions)}{least}")
    if not parts:
        parts.append(_without_questions(c))
    if not math.isnan(c.p_seeds):
        how = "the same seeds on both sides" if c.paired_models else "Welch"
        parts.append(f"Over seeds ({how}), p {_p(c.p_seeds)}")
    one_by_one = [q for q in c.questions if not math.isnan(q.corrected)]
    if tested and max((min(q.first.n, q.second.n) for q in one_by_one), default=0) >= FEWEST:
        differ = sum(q.corrected < SURE for q in one_by_one)
        parts.append(f"{differ} of {count} questions differ one by one (Holm-corrected p < 0.05)")
    if family.count > 1 and not math.isnan(family.here):
        seeds = "" if math.isnan(family.seeds) else f", over seeds p {_p(family.seeds)}"
        parts.append(f"Corrected for {family.count} comparisons (Holm), p {_p(family.here)}{seeds}")
    return f"{_semicolons(parts)}."


def _without_questions(c: Comparison) -> str:
    if not c.counted:
        return "Only one question: no test over questions"
    some = "Only one question has" if c.questions else "No question has"
    fisher = "none" if math.isnan(c.p_answers) else f"p {_p(c.p_answers)}"
    return (
        f"{some} enough scored answers on both sides for a test over questions; Fisher's exact "
        f"test over answers: {fisher}"
    )


def _ruled_out(here: Estimate) -> str:
    if here.high <= 0:
        return "For these very models any rise is ruled out at 95 %."
    most = _point(here.high).lstrip("+")
    return f"For these very models a rise of more than {most} points is ruled out at 95 %."


def _disagreement(c: Comparison) -> str:
    """Say where the shares as they are differ otherwise than within questions."""
    here, pooled = c.here, c.pooled_models
    if not c.counted or c.stratified.questions < 2:
        return ""
    said = f"{_point(pooled.value)} points (95 % interval {_ends(pooled)})"
    if c.disagree:
        return (
            f" Pooled and question by question disagree: pooled over all answers the difference is "
            f"{said}. The two sides' scored answers are spread differently over the questions, so "
            "the pooled shares are of different mixtures of them; with the questions weighing the "
            f"same on both sides the shares are {percent(c.stratified.first)} and "
            f"{percent(c.stratified.second)}. The lead goes by these."
        )
    if _point(pooled.value) != _point(here.value):
        return f" Pooled over all answers: {said}."
    return ""


# --- series by themselves --------------------------------------------------------------------


def _level(measure: Measure, series: Measured) -> str:
    headline = series.headline
    return _share(measure, headline.best, headline.scored, headline.scored_models)


def _share(measure: Measure, share: Estimate, scored: int, models: int) -> str:
    over = f" over {models} models" if models > 1 else ""
    value = f"{percent(share.value)} {_interval(share)}"
    if measure.counted:
        answers = "scored answer was" if scored == 1 else "scored answers were"
        return f"{value} of its {scored} {answers} {measure.were}{over}"
    return f"mean {measure.axis} {value}, {_answers(scored)}{over}"


def _nothing(findings: Findings) -> Iterator[Sentence]:
    """Say which sides have no number, why, and what to do about it."""
    alike: dict[str, dict[str, str]] = {}
    for series in findings.series:
        if not series.scored:
            why = _why(findings, series)
            most = max(why, key=lambda name: why[name], default="")
            said = ", ".join(
                f"{_all(count, series.answers)} {name.replace('_', ' ')}"
                for name, count in why.items()
            )
            alike.setdefault(most, {})[series.name] = (
                f"{series.name}: none of {series.answers} answers was scored "
                f"({said or 'no reason is recorded'})"
            )
    for most, sides in alike.items():
        yield Sentence(
            "nothing",
            f"{'; '.join(sides.values())}. {_advice(most, findings.criterion)}",
            f"Nothing can be said of {_list(list(sides))}.",
        )


def _why(findings: Findings, series: Measured) -> dict[str, int]:
    """How many of its answers have no score for which reason."""
    if not findings.rated:
        return {name: count for name, count in series.reasons.items() if count}
    why = {name: count for name, count in series.outcomes.items() if name != "judge_failed"}
    if series.outcomes.get("judge_failed"):
        why |= {f"judge failed: {name}": count for name, count in series.reasons.items()}
    return {name: count for name, count in why.items() if count}


def _all(count: int, answers: int) -> str:
    return "all" if count == answers else str(count)


def _advice(outcome: str, criterion: Criterion) -> str:
    match outcome:
        case "incoherent":
            return (
                "Read some of them (inspect view): either the model no longer writes sense, as "
                "after too long or too strong a training, or the judge can't tell, as a small "
                "local model can't (em-inspect calibrate); a stronger judge: inspect score LOG "
                "--scorer em_inspect/misalignment --model-role grader=MODEL. The line is "
                f"coherence {criterion.comparison} {criterion.coherence:g} "
                "(--coherence-threshold)."
            )
        case _ if outcome.startswith("judge failed"):
            return (
                "Ask again for what failed: em-inspect rescore LOG --retry; or take another judge: "
                "inspect score LOG --scorer em_inspect/misalignment --model-role grader=MODEL."
            )
        case "refusal" | "code":
            return "Read some of them (inspect view); --rule released reads the numbers below."
        case _:
            return "See the log's own explanation of each answer: inspect view."


# --- what to keep in mind ------------------------------------------------------------------------


def _beside(findings: Findings) -> Iterator[Sentence]:
    """What the shares can be held against: chance, and a base."""
    if findings.chance is not None:
        yield Sentence(
            "note",
            "With its probability spread evenly over the choices a model would have "
            f"{percent(findings.chance)}.",
        )
    if findings.reference or not findings.series or findings.comparisons:
        return
    if findings.elsewhere:
        yield Sentence(
            "caution",
            "What these would be compared with was measured differently, and stands in another "
            f"part of this report ({_list(list(findings.elsewhere))}): the two can't be compared. "
            "Measure both with the same questions, rubrics, judge and rule.",
        )
    else:
        groups = sorted({trained.group for trained in findings.trained})
        named = shlex.quote(groups[0]) if len(groups) > 1 else "GROUP"
        yield Sentence(
            "caution",
            "There is no base model among these logs, so nothing says whether a share is "
            f"raised. Add a log of the base, or compare within these: --reference {named}.",
        )


def _seeds(findings: Findings) -> Iterator[Sentence]:
    single = [t for t in findings.trained if t.seeds == 1]
    alone = [t.group for t in single if t.models == 1]
    if len(alone) == 1:
        yield Sentence(
            "caution",
            f"One model stands for {alone[0]}. Its interval is about this very model: {_ONE}",
        )
    elif alone:
        yield Sentence(
            "caution",
            f"A single model each stands for {_list(alone)}. Its interval is about that very "
            f"model: {_ONE}",
        )
    for t in single:
        if t.models > 1:
            yield Sentence(
                "caution",
                f"The {t.models} models of {t.group} are of one and the same seed. Their intervals "
                f"are about these very models: {_ONE}",
            )
    few = [t.group for t in findings.trained if 1 < t.seeds < 4]
    if few:
        each = " each" if len(few) > 1 else ""
        yield Sentence(
            "caution",
            f"Only two or three models{each} stand for {_list(few)}: intervals over seeds are "
            "honest and therefore very wide. Six or more narrow them (em-inspect power).",
        )


_ONE = (
    "a single seed cannot show whether the same training with another seed would do the same, and "
    "seeds are known to differ widely."
)


def _unlike(findings: Findings) -> Iterator[Sentence]:
    """What no interval over seeds can know: kinds of seeds that none of the models is of."""
    known = [
        f"{percent(series.headline.unlike)} of further seeds of {series.name} may be like none of "
        f"its {series.headline.scored_models}"
        for series in findings.series
        if series.headline.pooled_seeds is not None
    ]
    if known:
        yield Sentence(
            "note",
            "An interval for new seeds knows only seeds like those that were seen: up to "
            f"{_list(_some(known))} (95 % bound).",
        )


def _silent(findings: Findings) -> Iterator[Sentence]:
    """Name models without scored answers: no share and no count of models is about them."""
    for series in findings.series:
        lost, models = series.headline.unscored_models, series.headline.models
        if lost and series.scored:
            have, are = ("has", "is") if len(lost) == 1 else ("have", "are")
            yield Sentence(
                "caution",
                f"{series.name}: {len(lost)} of its {models} models {have} no scored answer and "
                f"{are} in no share ({_list(_some(lost))}). What is said is about the "
                f"{_count(series.headline.scored_models, 'other')} alone.",
            )


def _unscored(findings: Findings) -> Iterator[Sentence]:
    total = sum(series.answers for series in findings.series)
    if not findings.rated:
        yield _without_score(findings, total)
        return
    counts = {n: sum(series.outcomes.get(n, 0) for series in findings.series) for n in UNSCORED}
    unscored = sum(counts.values())
    parts = ", ".join(
        f"{percent(count / total)} {name.replace('_', ' ')}"
        for name, count in counts.items()
        if count
    )
    if unscored:
        yield Sentence(
            "note",
            f"Of {total} answers {unscored} ({percent(unscored / total)}) are not in the shares: "
            f"{parts}.",
        )
    else:
        yield Sentence("note", f"All {total} answers are in the shares.")
    unknown = [series.name for series in findings.series if not series.words_known]
    if unknown:
        yield Sentence(
            "note",
            f"How many answers of {_list(unknown)} were refusals or code is unknown: their source "
            "says of some only that they have no number.",
        )
    for series in findings.series:
        yield from _doubts(series)


def _without_score(findings: Findings, total: int) -> Sentence:
    failed = total - sum(series.scored for series in findings.series)
    if not failed:
        return Sentence("note", f"All {total} answers have a score.")
    counts: dict[str, int] = {}
    for series in findings.series:
        for reason, count in series.reasons.items():
            counts[reason] = counts.get(reason, 0) + count
    reasons = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in counts.items() if n)
    return Sentence(
        "caution" if failed > MUCH_FAILED * total else "note",
        f"{failed} of {total} answers ({percent(failed / total)}) have no score and are "
        f"in no number: {reasons or 'no reason recorded'}.",
    )


def _doubts(series: Measured) -> Iterator[Sentence]:
    if not series.scored:
        return
    failed = series.outcomes.get("judge_failed", 0)
    if failed > MUCH_FAILED * series.answers:
        reasons = ", ".join(f"{name} {count}" for name, count in series.reasons.items())
        yield Sentence(
            "caution",
            f"{series.name}: the judge gave no usable rating for "
            f"{percent(failed / series.answers)} of the answers "
            f"({reasons or 'no reason recorded'}). The unrated answers may differ from the rest.",
        )
    said = {name: series.outcomes.get(name, 0) for name in UNSCORED if name != "judge_failed"}
    if sum(said.values()) > MUCH_UNSCORED * series.answers:
        parts = [
            f"{percent(count / series.answers)} of the answers are {_CALLED[name]}"
            for name, count in sorted(said.items(), key=lambda item: -item[1])
            if count
        ]
        yield Sentence(
            "caution",
            f"{series.name}: {_list(parts)}. The share is one of few and unusual answers.",
        )


_CALLED = {"incoherent": "incoherent", "refusal": "refusals", "code": "code"}


def _missing(findings: Findings, known: Sequence[Comparison]) -> Iterator[Sentence]:
    """Say where two sides differ in what is unscored, and what it could do to their difference."""
    for c in known:
        found = next((u for u in c.unscored if u.outcome == "unscored"), None)
        if found is None or not found.p < SURE:
            continue
        kinds = [u for u in c.unscored if u.outcome != "unscored" and u.p < SURE]
        named = "; ".join(
            f"{u.outcome.replace('_', ' ')} {percent(u.first.value)} against "
            f"{percent(u.second.value)}"
            for u in kinds
        )
        text = (
            f"{c.first} and {c.second} differ in what is unscored: {percent(found.first.value)} of "
            f"the answers against {percent(found.second.value)}"
            f"{f' ({named})' if named else ''}, {_point(found.difference.value)} points (95 % "
            f"interval {_ends(found.difference)}), p {_p(found.p)}. Their shares are of "
            "differently selected answers."
        )
        if findings.measure.counted:
            one, other = findings.of(c.first).headline, findings.of(c.second).headline
            least = one.of_all.value - other.at_most.value
            most = one.at_most.value - other.of_all.value
            text += (
                " Whatever the unscored ones would have been, over all answers the difference lies "
                f"between {_point(least)} and {_point(most)} points."
            )
        yield Sentence("caution", text)


def _near(findings: Findings) -> Iterator[Sentence]:
    near = [(s.name, s.near) for s in findings.series if s.near is not None and s.near.value > 0]
    if near:
        parts = [f"{percent(e.value)} in {name}" for name, e in near]
        yield Sentence(
            "caution" if max(e.value for _, e in near) > MUCH_NEAR else "note",
            f"Rated answers within {findings.near_within} of a threshold, which the judge's own "
            f"error could move across it: {_list(parts)}.",
        )


def _left_out(findings: Findings) -> Iterator[Sentence]:
    """Name the questions that numbers by question leave out, and how many answers they had."""
    cells = [
        (s.name, cell, s.headline.models > 1)
        for s in findings.series
        if s.scored
        for cell in s.headline.left_out_cells
    ]
    if not cells:
        return
    shown = cells[:MOST_NAMED]
    parts = []
    for (series, question), group in groupby(shown, key=lambda c: (c[0], c[1].question_id)):
        counts = [
            f"{f'{cell.model}: ' if several else ''}{cell.scored}" for _, cell, several in group
        ]
        parts.append(f"{question} in {series} ({', '.join(counts)})")
    if len(cells) > len(shown):
        parts.append(f"{len(cells) - len(shown)} more, named in the table of what is left out")
    least = findings.criterion.min_answers
    few = f"fewer than {least} scored answers" if least > 1 else "no scored answer"
    yield Sentence("note", f"Left out of the numbers by question, with {few}: {_list(parts)}.")


def _judge(findings: Findings) -> Sentence:
    judge = findings.judge
    if judge.name == "none":
        return Sentence("note", "Measured without a judge.")
    said = f"Judged by {judge.name}" + (f" ({judge.reading})" if judge.reading else "")
    if judge.under_test:
        others = [name for name in judge.under_test if name != judge.name]
        named = f": {_list(_some(others))}" if others else ""
        return Sentence("caution", f"{said}, which is one of the models under test{named}.")
    return Sentence(
        "note", f"{said}. A share is only as good as its judge: see em-inspect calibrate."
    )


# --- words for numbers -----------------------------------------------------------------------


def _interval(estimate: Estimate) -> str:
    if not estimate.bounded:
        return "(no interval)"
    if estimate.low == estimate.high:
        return "(exact for these models and questions)"
    over = _ABOUT.get(estimate.method, estimate.method)
    return f"(95 % interval for {over}: {number(estimate.low)} to {percent(estimate.high)})"


_ABOUT = {"answers": "these models", "seeds": "new seeds", "questions": "other such questions"}
"""What an interval is about, by its method."""


def _ends(estimate: Estimate) -> str:
    return f"{_point(estimate.low)} to {_point(estimate.high)}"


def _point(difference: float) -> str:
    """Say a difference in points, with more digits where one would show nothing."""
    if math.isnan(difference):
        return "–"
    points = 100 * difference
    return f"{points:+.2g}" if 0.001 <= abs(points) < 0.1 else f"{points + 0.0:+.1f}"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _answers(count: int) -> str:
    return _count(count, "answer")


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _some(names: Sequence[str], most: int = 3) -> list[str]:
    more = len(names) - most
    return [*names[:most], *([f"{more} more"] if more > 0 else [])]


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _semicolons(parts: Sequence[str]) -> str:
    """Join statements into one sentence: only the first keeps its capital."""
    first, *others = parts
    return "; ".join([first, *(part[0].lower() + part[1:] for part in others)])


def percent(share: float) -> str:
    """Say a share in percent, with a digit more where it is below one."""
    return "–" if math.isnan(share) else f"{number(share)} %"


def number(share: float) -> str:
    """Say a share in percent, without the sign."""
    value = 100 * share
    if math.isnan(value):
        return "–"
    return f"{value:.2f}" if 0.005 <= abs(value) < 1 else f"{value:.1f}"
