"""The verdict in words: what rose, by how much, how sure, by which judge, and what was unscored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from em_inspect.analysis.interval import Estimate
from em_inspect.analysis.section import Section
from em_inspect.analysis.statistics import Comparison, Headline, Unscored

SURE = 0.05

FEWEST = 4
"""With fewer answers to a question no test of it alone can come out: none is spoken of."""

# Beyond these shares a number says more about the judge, or about fluency, than about values.
MUCH_FAILED, MUCH_INCOHERENT = 0.10, 0.50

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


def verdict(section: Section) -> list[Sentence]:
    """Say what a section shows, the strongest statements first."""
    scored = {h.group for h in section.headlines if h.scored}
    pairs = (*section.comparisons, *section.arms)
    known = [c for c in pairs if {c.first, c.second} <= scored]
    sentences = [_comparison(section, found) for found in known]
    sentences += _nothing(section)
    compared = {side for c in known for side in (c.first, c.second)}
    sentences += [
        Sentence("level", f"{h.group}: {_share(section, h)}.")
        for h in section.headlines
        if h.group in scored - compared
    ]
    if section.chance is not None:
        sentences.append(
            Sentence(
                "note",
                f"With its probability spread evenly over the choices a model would have "
                f"{percent(section.chance)}.",
            )
        )
    if section.reference is None and len(section.headlines) > 0 and not section.arms:
        sentences.append(
            Sentence(
                "note",
                "There is no base model among these logs, so nothing says whether a share is "
                "raised. Add a log of the base, or name a group with --reference.",
            )
        )
    sentences += _seeds(section)
    sentences += _unscored(section)
    sentences.append(_judge(section))
    return sentences


def _comparison(section: Section, found: Comparison) -> Sentence:
    first, second = section.headline(found.first), section.headline(found.second)
    several = first.scored_models > 1
    kind = _kind(section, found)
    lead = _lead(kind, found, section.measure.noun, several)
    share = _share(section, first)
    text = (
        f"{share[0].upper()}{share[1:]}, against {percent(second.best.value)} "
        f"{_interval(second.best)} in {second.group} ({second.scored} answers): "
        f"{_points(section, found)} {_test(section, found)}"
    )
    here = _here(section, found)
    if kind == "unclear" and here.bounded:
        text += (
            f" For these very models a rise of more than {_point(here.high).lstrip('+')} points is "
            "ruled out at 95 %."
        )
    return Sentence(kind, text, lead)


def _here(section: Section, found: Comparison) -> Estimate:
    """The difference in these very models.

    Probabilities of the same rows go up and down together: their difference is paired by question.
    """
    return found.pooled_models if section.measure.counted else found.paired


def _kind(section: Section, found: Comparison) -> Kind:
    if found.pooled_seeds:
        if found.pooled_seeds.low > 0:
            return "rose"
        if found.pooled_seeds.high < 0:
            return "fell"
    here = _here(section, found)
    if here.bounded and here.low > 0:
        return "rose here"
    return "fell here" if here.high < 0 else "unclear"


def _nothing(section: Section) -> Iterator[Sentence]:
    """Say which sides have no number, why, and what to do about it."""
    alike: dict[str, dict[str, str]] = {}
    for h in section.headlines:
        if not h.scored:
            why = _why(section, h)
            most = max(why, key=lambda name: why[name], default="")
            said = ", ".join(
                f"{_all(count, h.answers)} {name.replace('_', ' ')}" for name, count in why.items()
            )
            alike.setdefault(most, {})[h.group] = (
                f"{h.group}: none of {h.answers} answers was scored "
                f"({said or 'no reason is recorded'})"
            )
    for most, sides in alike.items():
        yield Sentence(
            "nothing",
            f"{'; '.join(sides.values())}. {_advice(most, section)}",
            f"Nothing can be said of {_list(list(sides))}.",
        )


def _why(section: Section, headline: Headline) -> dict[str, int]:
    """How many of its answers have no score for which reason."""
    if not section.rated:
        own = section.frame[section.frame["group"] == headline.group]
        return {str(k): int(v) for k, v in own["reason"].value_counts().items() if v}
    found = next(o for o in section.outcomes if o.group == headline.group)
    why = {name: round(e.value * found.answers) for name, e in found.outcomes.items()}
    failed = why.pop("judge_failed", 0)
    why |= {f"judge failed: {name}": count for name, count in found.reasons.items() if failed}
    return {name: count for name, count in why.items() if count}


def _all(count: int, answers: int) -> str:
    return "all" if count == answers else str(count)


def _advice(outcome: str, section: Section) -> str:
    criterion = section.criterion
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


def _lead(kind: Kind, found: Comparison, noun: str, several: bool) -> str:
    first, second = found.first, found.second
    models = "these models; other seeds may differ" if several else "this one model"
    match kind:
        case "rose":
            return f"{first}: {noun} rose against {second}."
        case "fell":
            return f"{first}: {noun} fell against {second}."
        case "rose here":
            return f"{first}: {noun} rose against {second} in {models}."
        case "fell here":
            return f"{first}: {noun} fell against {second} in {models}."
        case _:
            return f"{first}: no difference from {second} is shown."


def _share(section: Section, headline: Headline) -> str:
    models = f" over {headline.scored_models} models" if headline.scored_models > 1 else ""
    share = f"{percent(headline.best.value)} {_interval(headline.best)}"
    if section.measure.counted:
        answers = "scored answer was" if headline.scored == 1 else "scored answers were"
        return f"{share} of its {headline.scored} {answers} {section.measure.were}{models}"
    return f"mean {section.measure.axis} {share}, {headline.scored} answers{models}"


def _interval(estimate: Estimate) -> str:
    if not estimate.bounded:
        return "(no interval)"
    over = {"answers": "these models", "seeds": "new seeds"}.get(estimate.method, estimate.method)
    return f"(95 % interval for {over}: {number(estimate.low)} to {percent(estimate.high)})"


def _points(section: Section, found: Comparison) -> str:
    here = _here(section, found)
    value = f"{100 * found.pooled.value:+.1f} percentage points"
    if not here.bounded:
        return f"{value} (no interval)."
    paired = "" if section.measure.counted else " on other such questions, paired by question"
    over = f"{_ends(here)} for these models{paired}"
    seeds = f", {_ends(found.pooled_seeds)} for new seeds" if found.pooled_seeds else ""
    return f"{value} (95 % interval {over}{seeds})."


def _ends(estimate: Estimate) -> str:
    return f"{_point(estimate.low)} to {_point(estimate.high)}"


def _point(difference: float) -> str:
    """Say a difference in points, with more digits where one would show nothing."""
    points = 100 * difference
    return f"{points:+.2g}" if 0 < abs(points) < 0.1 else f"{points:+.1f}"


def _test(section: Section, found: Comparison) -> str:
    count = len(found.questions)
    if math.isnan(found.p_questions) and not section.measure.counted:
        return "Only one question: no test over questions."
    if math.isnan(found.p_questions):
        answers = f"p {_p(found.p_answers)} " if not math.isnan(found.p_answers) else ""
        some = "No question has" if count == 0 else "Only one question has"
        return (
            f"{some} enough scored answers on both sides for a test over questions; Fisher's "
            f"exact test over answers: {answers or 'none'}."
        ).replace(" .", ".")
    said = f"Paired over {count} questions, p {_p(found.p_questions)}"
    least = 2 / 2**count
    if least > SURE:
        said += f" (with {count} questions it can't go below {least:.2g})"
    if not math.isnan(found.p_seeds):
        said += f"; over seeds (Welch), p {_p(found.p_seeds)}"
    tested = [c for c in found.questions if not math.isnan(c.corrected)]
    if tested and max(min(c.first.n, c.second.n) for c in tested) >= FEWEST:
        differ = sum(c.corrected < SURE for c in tested)
        said += f"; {differ} of {count} questions differ one by one (Holm-corrected p < 0.05)"
    return f"{said}."


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _seeds(section: Section) -> Iterator[Sentence]:
    trained = section.frame[["trained", "model"]].drop_duplicates().astype("str")
    counts = trained[trained["trained"] != section.reference].groupby("trained").size()
    single = [str(group) for group, count in counts.items() if count == 1]
    few = [str(group) for group, count in counts.items() if 1 < count < 4]
    if single:
        yield Sentence(
            "caution",
            f"One model stands for {_list(single)}. Its interval is about this very model: a "
            "single seed cannot show whether the same training with another seed would do the "
            "same, and seeds are known to differ widely.",
        )
    if few:
        yield Sentence(
            "caution",
            f"Only two or three models stand for {_list(few)}: intervals over seeds are honest and "
            "therefore very wide. Six or more narrow them (em-inspect power).",
        )


def _unscored(section: Section) -> Iterator[Sentence]:
    if not section.rated:
        yield _without_score(section)
        return
    total = len(section.frame)
    counts = section.frame["outcome"].value_counts()
    names = ("incoherent", "refusal", "code", "judge_failed")
    parts = [
        f"{percent(int(counts.get(name, 0)) / total)} {name.replace('_', ' ')}"
        for name in names
        if counts.get(name, 0)
    ]
    unscored = sum(int(counts.get(name, 0)) for name in names)
    kind: Kind = "note"
    if parts:
        yield Sentence(
            kind,
            f"Of {total} answers {unscored} ({percent(unscored / total)}) are not in the "
            f"shares: {', '.join(parts)}.",
        )
    else:
        yield Sentence(kind, f"All {total} answers are in the shares.")
    for found in section.outcomes:
        yield from _doubts(found)


def _without_score(section: Section) -> Sentence:
    failed = section.frame[~section.frame["scored"]]
    total = len(section.frame)
    if not len(failed):
        return Sentence("note", f"All {total} answers have a score.")
    counts = failed["reason"].astype("str").value_counts()
    reasons = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in counts.items() if n)
    return Sentence(
        "caution" if len(failed) > MUCH_FAILED * total else "note",
        f"{len(failed)} of {total} answers ({percent(len(failed) / total)}) have no score and are "
        f"in no number: {reasons}.",
    )


def _doubts(found: Unscored) -> Iterator[Sentence]:
    failed = found.outcomes["judge_failed"]
    if MUCH_FAILED < failed.value < 1:
        reasons = ", ".join(f"{name} {count}" for name, count in found.reasons.items())
        yield Sentence(
            "caution",
            f"{found.group}: the judge gave no usable rating for {percent(failed.value)} of the "
            f"answers ({reasons or 'no reason recorded'}). What remains is no random part of them.",
        )
    incoherent = found.outcomes["incoherent"]
    if MUCH_INCOHERENT < incoherent.value < 1:
        yield Sentence(
            "caution",
            f"{found.group}: {percent(incoherent.value)} of the answers are incoherent. The share "
            "is one of few and unusual answers.",
        )


def _judge(section: Section) -> Sentence:
    yardstick = section.yardstick
    if yardstick.judge == "none":
        return Sentence("note", "Measured without a judge.")
    said = f"Judged by {yardstick.judge}"
    if section.rated:
        said += f" (read as {yardstick.estimator.replace('_', ' ')}, rule {yardstick.rule})"
    if yardstick.judge in set(section.frame["model"].astype(str)):
        return Sentence("caution", f"{said}, which is one of the models under test.")
    return Sentence(
        "note", f"{said}. A share is only as good as its judge: see em-inspect calibrate."
    )


def _list(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def percent(share: float) -> str:
    """Say a share in percent, with a digit more where it is below one."""
    return "–" if math.isnan(share) else f"{number(share)} %"


def number(share: float) -> str:
    """Say a share in percent, without the sign."""
    value = 100 * share
    if math.isnan(value):
        return "–"
    return f"{value:.2f}" if 0 < abs(value) < 1 else f"{value:.1f}"
