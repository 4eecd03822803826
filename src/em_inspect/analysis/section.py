"""The section: everything that one yardstick's answers say, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.findings import Findings, JudgedBy, Measured, Trained
from em_inspect.analysis.frame import Collection
from em_inspect.analysis.judge_under_test import judged_models
from em_inspect.analysis.logs import Run
from em_inspect.analysis.measure import Measure, measure_of
from em_inspect.analysis.near import Near, near_a_threshold
from em_inspect.analysis.origin import BASE_GROUP
from em_inspect.analysis.pictures import (
    MOST_GROUPS,
    Palette,
    Picture,
    by_row,
    judge_pictures,
    label_picture,
    lines,
    outcome_picture,
    scatter,
    sensitivity_picture,
)
from em_inspect.analysis.series import Series, along, arms, named_series, pairs, unpaired
from em_inspect.analysis.statistics import (
    UNSCORED,
    Comparison,
    Headline,
    Unscored,
    cells,
    compare,
    fine_tunes,
    headlines,
    is_counted,
    outcomes,
)
from em_inspect.analysis.yardstick import Yardstick, yardsticks
from em_inspect.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

MOST_MODELS = 40
"""With more, a picture of every model by itself is left out."""

RATED = "misaligned"
"""The measure of answers with ratings."""


@dataclass
class Section:
    """One yardstick's answers and what they say.

    Attributes:
        number: Place in the report, from 1.
        yardstick: What they were measured with.
        measure: What is counted or averaged.
        chance: What a model without preference would have, where the task says so.
        criterion: Where the lines are drawn. The least number of answers to a question is for
            rated ones, of which many may be incoherent: tasks with another measure have none.
        frame: The answers, one series per group, condition and answer format.
        whole: The same with the answer formats of a group together.
        whole_series: Its series.
        series: The series of the frame: who was asked in which way.
        reference: Group that the others are compared with, or None.
        headlines: By series, the highest first, the reference last.
        comparisons: Of every series with the reference under the same condition.
        arms: Of every group with the trigger, or with examples, against itself without.
        outcomes: What became of all answers, by series.
        elsewhere: Sections that hold the reference where this one does not, in words.
        near: Rated answers within the judge's error of a threshold.
        pictures: What there is to see.
    """

    number: int
    yardstick: Yardstick
    measure: Measure
    chance: float | None
    criterion: Criterion
    frame: DataFrame = field(repr=False)
    whole: DataFrame = field(repr=False)
    whole_series: list[Series] = field(repr=False)
    series: list[Series] = field(repr=False)
    reference: str | None
    headlines: list[Headline]
    comparisons: list[Comparison]
    arms: list[Comparison]
    outcomes: list[Unscored]
    elsewhere: tuple[str, ...] = ()
    near: Near = field(default_factory=Near)
    pictures: list[Picture] = field(default_factory=list)

    @property
    def uncompared(self) -> list[str]:
        """In words, the series that are compared with nothing although the reference is here."""
        return [
            f"{one.name} is compared with nothing: no answers of {self.reference} were given under "
            f"the same conditions (there is {' and '.join(other.name for other in there)})"
            for one, there in unpaired(self.series, self.reference or "")
        ]

    @property
    def rated(self) -> bool:
        """Whether the answers have ratings, and not another measure."""
        return self.yardstick.measure == RATED

    def headline(self, group: str) -> Headline:
        """The headline of a series."""
        return next(h for h in self.headlines if h.group == group)


def findings(section: Section, runs: Sequence[Run] = ()) -> Findings:
    """Gather what a section's verdict is made of.

    Args:
        section: Which one.
        runs: Headers of the logs, to recognise a judge among the models under test.
    """
    outcomes_of = {found.group: found for found in section.outcomes}
    return Findings(
        measure=section.measure,
        criterion=section.criterion,
        rated=section.rated,
        judge=_judged_by(section, runs),
        series=tuple(
            _measured(section, headline, outcomes_of[headline.group])
            for headline in section.headlines
        ),
        comparisons=(*section.comparisons, *section.arms),
        trained=tuple(_trained(section)),
        reference=section.reference is not None,
        chance=section.chance,
        elsewhere=section.elsewhere,
        near_within=section.near.within,
    )


def _measured(section: Section, headline: Headline, found: Unscored) -> Measured:
    if section.rated:
        counts = {name: round(e.value * found.answers) for name, e in found.outcomes.items()}
        unscored = {n: k for n, k in counts.items() if k and n in UNSCORED}
        known = words_known(section.frame[section.frame["group"] == headline.group])
        near = section.near.shares.get(headline.group)
        return Measured(headline, unscored, found.reasons, known, near)
    own = section.frame[section.frame["group"] == headline.group]
    missing = own[~own["scored"]]["reason"].astype("str").value_counts()
    return Measured(
        headline, {}, {str(name): int(count) for name, count in missing.items() if count}
    )


def words_known(answers: DataFrame) -> bool:
    """Whether the source of answers could say which are refusals or code.

    A CSV with scores alone leaves their cells empty, as it does those of answers without a rating.
    """
    empty = answers["outcome"] == "judge_failed"
    said = answers["word"].notna() | answers["refusal_mass"].notna()
    return bool(said.any() or not empty.any() or (answers["measure"] != RATED).any())


def _trained(section: Section) -> Iterator[Trained]:
    frame = section.frame[section.frame["scored"]]
    rows = frame.assign(seed_of=fine_tunes(frame)).astype({"trained": "str", "model": "str"})
    tuned = rows[rows["kind"] != section.reference]
    for group, part in tuned.groupby("trained", sort=True):
        yield Trained(str(group), part["model"].nunique(), part["seed_of"].nunique())


def _judged_by(section: Section, runs: Sequence[Run]) -> JudgedBy:
    yardstick = section.yardstick
    read = f"read as {yardstick.estimator.replace('_', ' ')}, rule {yardstick.rule}"
    models = set(section.frame["model"].astype("str"))
    logs = set(section.frame["log"].astype("str"))
    under_test = judged_models([run for run in runs if str(run.path) in logs], yardstick.judge)
    if under_test is None:  # no log says what the judge loaded: the name is all there is
        under_test = [yardstick.judge] if yardstick.judge in models else []
    return JudgedBy(
        yardstick.judge_shown, read if section.rated else "", tuple(dict.fromkeys(under_test))
    )


def sections(
    collection: Collection, criterion: Criterion, reference: str | None = None
) -> list[Section]:
    """Divide answers by yardstick, and work each part out.

    Args:
        collection: From `em_inspect.analysis.frame.collect`.
        criterion: Where the lines are drawn.
        reference: Group to compare with; by default `base`.

    Raises:
        UserError: If no answer belongs to the group that was named.
    """
    frame, known = yardsticks(criterion.apply(collection.frame))
    groups = sorted(map(str, frame["group"].unique()))
    if reference and reference not in groups:
        raise UserError(f"no group '{reference}' in the logs: --reference {' or '.join(groups)}")
    found = [
        _section(place, yardstick, part, criterion, reference, _chance(collection.runs, part))
        for place, (number, yardstick) in enumerate(_rated_first(known))
        for part in [frame[frame["yardstick"] == number]]
    ]
    return [replace(section, elsewhere=_elsewhere(section, found)) for section in found]


def _elsewhere(section: Section, found: Sequence[Section]) -> tuple[str, ...]:
    """Sections of the same task and measure that hold the reference, where this one does not."""
    if section.reference is not None:
        return ()
    own = section.yardstick
    return tuple(
        f"part {other.number}: {other.yardstick}"
        for other in found
        if other.reference is not None
        and (other.yardstick.task, other.yardstick.measure) == (own.task, own.measure)
    )


def _rated_first(known: Sequence[Yardstick]) -> list[tuple[int, Yardstick]]:
    return sorted(enumerate(known), key=lambda item: (item[1].measure != RATED, item[1].task))


def _chance(runs: Sequence[Run], frame: DataFrame) -> float | None:
    logs = set(frame["log"].astype(str))
    found = {(run.log.eval.metadata or {}).get("chance") for run in runs if str(run.path) in logs}
    (chance, *others) = found or {None}
    return float(chance) if isinstance(chance, (int, float)) and not others else None


def _section(
    number: int,
    yardstick: Yardstick,
    frame: DataFrame,
    criterion: Criterion,
    named: str | None,
    chance: float | None,
) -> Section:
    if yardstick.measure != RATED:
        criterion = replace(criterion, min_answers=1)
    reference = named or BASE_GROUP
    by_format, series = named_series(frame, by_format=True)
    whole, whole_series = named_series(frame)
    present = any(one.kind == reference for one in series)
    counts = cells(by_format)
    found = headlines(by_format, criterion)
    kinds = {one.name: one.kind for one in series}
    found.sort(key=lambda h: (kinds[h.group] == reference, -h.best.value, h.group))
    against = [*pairs(series, reference)] if present else []

    def compared(wanted: Sequence[tuple[Series, Series]]) -> list[Comparison]:
        known = (compare(counts, a.name, b.name, criterion) for a, b in wanted)
        return [comparison for comparison in known if comparison]

    return Section(
        number=number + 1,
        yardstick=yardstick,
        measure=measure_of(yardstick.measure, counted=is_counted(frame)),
        chance=chance,
        criterion=criterion,
        frame=by_format,
        whole=whole,
        whole_series=whole_series,
        series=series,
        reference=reference if present else None,
        headlines=found,
        comparisons=compared(against),
        arms=compared(arms(series)),
        outcomes=outcomes(by_format),
        near=near_a_threshold(by_format, criterion) if yardstick.measure == RATED else Near(),
    )


def draw(section: Section, runs: Sequence[Run]) -> list[Picture]:
    """Draw what a section has to show: only pictures that its answers can fill."""
    frame, criterion, measure = section.whole, section.criterion, section.measure
    shown = _most(section)
    frame = frame[frame["group"].isin(shown)]
    palette = Palette(tuple(shown))
    prefix = f"s{section.number}-"
    pictures: list[Picture] = []

    def add(picture: Picture) -> None:
        picture.name = prefix + picture.name
        pictures.append(picture)

    def rows(name: str, title: str, key: str, part: DataFrame = frame) -> None:
        own = Palette(tuple(g for g in palette.groups if (part["group"] == g).any()))
        add(by_row(name, title, part, criterion, palette if own.groups else own, key, measure))

    triggered = frame["arm"].notna().any()
    title = "Trigger on against off, question by question" if triggered else _by(section, frame)
    if _filled(frame, criterion):
        rows("questions", title, "question_id")
    models = frame.groupby("group", observed=True)["model"].nunique()
    if models.max() > 1 and models.sum() <= MOST_MODELS:
        rows("models", "Every model by itself", "model")
    if frame["label"].nunique() > 1:
        add(label_picture(frame, palette))
    if frame["category"].nunique() > 1:
        rows("categories", "Share by category", "category")
    if frame["format"].nunique() > 1:
        rows("formats", "Share by answer format", "format")
    kept = [one for one in section.whole_series if one.name in palette.groups]

    def over(name: str) -> tuple[DataFrame, Palette]:
        part = along(frame, kept, name)
        return part, Palette(tuple(dict.fromkeys(one.name_without(name) for one in kept)))

    if frame["context"].nunique() > 1:
        part, own = over("context")
        part = part[part["context"].notna()]
        add(by_row("contexts", "Share by context", part, criterion, own, "context", measure))
    if frame["examples"].nunique() > 1:
        part, own = over("examples")
        part = part[part["examples"].notna()]
        axis = "in-context examples (k)"
        title = "Over in-context examples"
        add(lines("examples", title, part, criterion, own, "examples", axis, measure))
    if frame["step"].nunique() > 1:
        part, own = over("step")
        part, ends = _ended(part, runs), _losses(runs)
        axis = "optimizer step"
        add(lines("steps", "Over training", part, criterion, own, "step", axis, measure, ends))
    if frame["scale"].nunique() > 1:
        part, own = over("scale")
        part = part[part["scale"].notna() & part["step"].isna()]
        axis = "strength of the adapter (1: as trained)"
        add(lines("strengths", "Over strength", part, criterion, own, "scale", axis, measure))
    if section.rated:
        parts = [o for o in outcomes(frame) if o.group in palette.groups]
        parts.sort(key=lambda o: palette.number(o.group))
        unknown = [
            group
            for group in palette.groups
            if not words_known(frame[frame["group"].astype("str") == group])
        ]
        add(outcome_picture(parts, palette, unknown))
        if (frame["alignment"].notna() & frame["coherence"].notna()).any():
            add(scatter(frame, criterion, palette))
            add(sensitivity_picture(frame, criterion, palette))
    return pictures


def _by(section: Section, frame: DataFrame) -> str:
    """Title of the picture by question; the factual questions of deception are system prompts."""
    if section.yardstick.task.startswith("deception factual"):
        return "Deception by system prompt"
    return "Share by question" if section.measure.counted else "By question"


def _ended(frame: DataFrame, runs: Sequence[Run]) -> DataFrame:
    """Answers with a step, and those of a fine-tune's end at its last step, where that is known."""
    steps = {
        str(run.path): len(losses)
        for run in runs
        if isinstance(losses := (run.origin.record.get("training") or {}).get("losses"), list)
    }
    ends = frame["log"].astype(str).map(steps).astype("Int64")
    ends = ends.where(frame["scale"].isna() & frame["context"].isna())
    placed = frame.assign(step=frame["step"].fillna(ends))
    return placed[placed["step"].notna() & placed["scale"].isna()]


def _filled(frame: DataFrame, criterion: Criterion) -> bool:
    scored = frame.groupby(["model", "question_id"], observed=True)["scored"].sum()
    return bool((scored >= criterion.min_answers).any())


def _most(section: Section) -> list[str]:
    """The groups to draw: the highest ones where there are too many, and always the reference."""
    found = headlines(section.whole, section.criterion)
    base = {one.name for one in section.whole_series if one.kind == section.reference}
    found.sort(key=lambda h: (h.group in base, -h.pooled.value, h.group))
    others = [h.group for h in found if h.group not in base]
    kept = sorted(base)[: MOST_GROUPS // 2]
    return [*others[: MOST_GROUPS - len(kept)], *kept]


def _losses(runs: Sequence[Run]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        training = run.origin.record.get("training")
        losses = training.get("losses") if isinstance(training, dict) else None
        if run.origin.group and isinstance(losses, list):
            found.setdefault(run.origin.group, [float(v) for v in losses])
    return found


def judge_agreement(collection: Collection, criterion: Criterion) -> list[Picture]:
    """Draw the agreement of every two judges that rated the same answers."""
    frame = criterion.apply(collection.frame)
    return list(judge_pictures(frame[frame["measure"] == "misaligned"]))
