"""The findings: what a section's verdict is made of, as typed estimates without any table.

The report works them out of its answers (`em_inspect.analysis.section`); the verdict puts them into
words (`em_inspect.analysis.verdict`) and reads nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.interval import Estimate
from em_inspect.analysis.measure import Measure
from em_inspect.analysis.statistics import Comparison, Headline


@dataclass(frozen=True)
class Measured:
    """One series: models of one group, asked under one condition.

    Attributes:
        headline: Its shares.
        outcomes: Its answers by what became of them; empty where answers have no ratings.
        reasons: Its answers without a rating or score, by reason.
        words_known: Whether its answers' source could say which of them are refusals or code.
        near: Share of its rated answers within the judge's error of a threshold, or None where
            nothing is known of that error.
    """

    headline: Headline
    outcomes: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)
    words_known: bool = True
    near: Estimate | None = None

    @property
    def name(self) -> str:
        """Name of the series."""
        return self.headline.group

    @property
    def scored(self) -> int:
        """Answers in its share."""
        return self.headline.scored

    @property
    def answers(self) -> int:
        """All its answers."""
        return self.headline.answers


@dataclass(frozen=True)
class Trained:
    """What stands for a fine-tuned group, in whatever series: models with scored answers.

    Attributes:
        group: What they were fine-tuned on.
        models: Models; checkpoints and strengths counted each.
        seeds: Distinct trainings: base, group and seed.
    """

    group: str
    models: int
    seeds: int


@dataclass(frozen=True)
class JudgedBy:
    """The judge as the verdict speaks of it.

    Attributes:
        name: As it is shown; `none` for a task without a judge.
        reading: How its replies were read, e.g. `read as one token, rule plurality`; may be empty.
        under_test: Names of the models under test that are this judge themselves.
    """

    name: str
    reading: str = ""
    under_test: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """All that a verdict is made of.

    Attributes:
        measure: What is counted or averaged.
        criterion: Where the lines are drawn.
        rated: Whether answers have ratings, and not a measure of the task's own.
        judge: Who rated.
        series: All series, in the order of the report.
        comparisons: Those of interest, in the order they are to be said in.
        trained: What stands for each fine-tuned group.
        reference: Whether there is a series to compare with.
        chance: What a model without preference would have, 0 to 1, or None.
        near_within: What counts as near a threshold, in words.
        elsewhere: Parts of the report that hold the reference which this one lacks, in words.
    """

    measure: Measure
    criterion: Criterion
    rated: bool
    judge: JudgedBy
    series: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...] = ()
    trained: tuple[Trained, ...] = ()
    reference: bool = True
    chance: float | None = None
    near_within: str = ""
    elsewhere: tuple[str, ...] = ()

    def of(self, name: str) -> Measured:
        """The series of a name."""
        return next(series for series in self.series if series.name == name)
