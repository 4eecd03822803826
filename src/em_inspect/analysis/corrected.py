"""Shares corrected for the judge's errors, as labelled answers show them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.interval import NAN, Estimate
from em_inspect.analysis.judge_error import (
    Stratum,
    prediction_powered,
    rogan_gladen,
    sensitivity,
    specificity,
)
from em_inspect.analysis.statistics import Headline, fine_tunes
from em_inspect.analysis.verdict import number, percent
from em_inspect.analysis.yardstick import Yardstick
from em_inspect.calibration.agreement import FAILED, Pair, strata_of
from em_inspect.calibration.drawing import kinds
from em_inspect.calibration.labels import Label
from em_inspect.calibration.reading import Calibration
from em_inspect.judging.scorer import ALIGNMENT, COHERENCE
from em_inspect.outcomes import OUTCOMES, Outcome, check_rule

if TYPE_CHECKING:
    from pandas import DataFrame


BY_RATES, BY_LABELS = "corrected by the judge's rates", "corrected by own labels"


@dataclass(frozen=True)
class CorrectedShare:
    """One series' share, as judged and as corrected.

    Attributes:
        group: The series.
        judged: The headline share with the interval to quote.
        corrected: By the judge's sensitivity and specificity (`rogan_gladen`); NaN where the labels
            don't show a judge that is better than guessing.
        powered: By labels of the series' own answers (`prediction_powered`), or None.
        labelled: Labelled ones among the answers that its share counts.
        why_not: Why there is no `powered`; empty where there is.
    """

    group: str
    judged: Estimate
    corrected: Estimate
    powered: Estimate | None
    labelled: int
    why_not: str = ""

    def __str__(self) -> str:
        rates = (
            f"{_said(self.corrected)} by the judge's rates"
            if not math.isnan(self.corrected.value)
            else "nothing by the judge's rates (the labels show none better than guessing)"
        )
        own = f"; {_said(self.powered)} by labels of its own answers" if self.powered else ""
        return f"{self.group}: as judged {_said(self.judged)}; corrected {rates}{own}."


@dataclass(frozen=True)
class Correction:
    """What a calibration makes of the shares that its judge gave.

    Sensitivity and specificity are of the answers that the judge scored (called misaligned or
    aligned), since those are what a share counts: so corrected, it is the share of the scored
    answers that the labels call misaligned.

    Attributes:
        calibration: Path of its log.
        labels: Where its labels came from.
        misaligned: Answers labelled misaligned that the judge scored.
        others: Other labelled answers that it scored.
        sensitivity: Of the judge, under the report's criterion.
        specificity: Likewise.
        shares: One per series, in the order of the headlines.
        cautions: What may make the labels unfit for these answers.
    """

    calibration: str
    labels: str
    misaligned: int
    others: int
    sensitivity: Estimate
    specificity: Estimate
    shares: tuple[CorrectedShare, ...]
    cautions: tuple[str, ...]


def correction_frame(correction: Correction) -> DataFrame:
    """Tabulate a correction.

    Returns:
        Three rows per series: `series`; `number`, which is `judged`, `corrected by the
        judge's rates` or `corrected by own labels`; the estimate's columns as in the headline
        table; `labelled` answers of its own, and in `note` why a number is missing.
    """
    import pandas as pd

    from em_inspect.analysis.pictures import estimate_columns

    rows = []
    for share in correction.shares:
        guess = "" if share.corrected.bounded else "the labels show no judge better than guessing"
        for name, estimate, note in (
            ("judged", share.judged, ""),
            (BY_RATES, share.corrected, guess),
            (BY_LABELS, share.powered, share.why_not),
        ):
            nothing = replace(share.judged, value=NAN, low=NAN, high=NAN)
            columns = estimate_columns(estimate or nothing)
            rows.append(
                {
                    "series": share.group,
                    "number": name,
                    **columns,
                    "labelled": share.labelled,
                    "note": note,
                }
            )
    return pd.DataFrame(rows)


def rates(correction: Correction) -> str:
    """Say what the labels say of the judge, and what the corrected shares are of."""
    return (
        f"By the labels {correction.labels} (calibration {Path(correction.calibration).name}): of "
        f"the answers that it scores the judge finds {_said(correction.sensitivity)} of the "
        f"misaligned ones ({correction.misaligned} labelled), and calls "
        f"{_said(correction.specificity)} of the others not misaligned ({correction.others} "
        "labelled). Corrected, a share is of the scored answers that labels would call misaligned. "
        "Intervals carry the error of the answers and that of the labels."
    )


def _said(share: Estimate) -> str:
    bounds = f" [{number(share.low)}, {number(share.high)}]" if share.bounded else ""
    return f"{percent(share.value)}{bounds}"


def fits(calibration: Calibration, frame: DataFrame) -> bool:
    """Whether a calibration is of the judge that rated these answers.

    Identities decide where both have one, else names.

    Args:
        calibration: Of some judge.
        frame: Answers of one yardstick.
    """
    judge, judge_id = _judge(frame)
    if calibration.judge_id and judge_id:
        return calibration.judge_id == judge_id
    return calibration.judge == judge


def _judge(frame: DataFrame) -> tuple[str, str]:
    """Name and identity of the one judge that rated; empty where there are several."""
    names = [frame[column].astype(str).unique() for column in ("judge", "judge_id")]
    name, key = (str(found[0]) if len(found) == 1 else "" for found in names)
    return name, key


def correct(
    frame: DataFrame,
    headlines: Sequence[Headline],
    yardstick: Yardstick,
    criterion: Criterion,
    calibration: Calibration,
) -> Correction:
    """Correct the shares of rated answers.

    Args:
        frame: The answers of one yardstick, with the criterion applied and `group` the series.
        headlines: Of the series in it.
        yardstick: What they were measured with.
        criterion: Where the lines are drawn; labels and ratings are read with it too.
        calibration: Of the judge that rated them (`fits`).
    """
    pairs = _pairs(calibration, criterion, yardstick.rule)
    strata = strata_of(pairs, calibration.sizes, scored=True)
    finds, rejects = sensitivity(strata), specificity(strata)
    scored = [p for p in pairs if p.complete and p.judge_class in ("misaligned", "aligned")]
    misaligned = sum(p.label_class == "misaligned" for p in scored)
    by_text = {
        (row.task, row.uuid): pair
        for row, pair in zip(calibration.rows, pairs, strict=True)
        if row.uuid
    }
    return Correction(
        calibration=calibration.path,
        labels=calibration.labels,
        misaligned=misaligned,
        others=len(scored) - misaligned,
        sensitivity=finds,
        specificity=rejects,
        shares=tuple(
            _share(found, frame, finds, rejects, calibration, by_text) for found in headlines
        ),
        cautions=tuple(_cautions(calibration, yardstick, _judge(frame)[1], scored)),
    )


def _share(
    found: Headline,
    frame: DataFrame,
    finds: Estimate,
    rejects: Estimate,
    calibration: Calibration,
    by_text: Mapping[_Text, Pair],
) -> CorrectedShare:
    part = frame[(frame["group"].astype(str) == found.group) & frame["scored"]]
    own = {text: by_text[text] for text in _texts(part) if text in by_text}
    labelled = {text: pair for text, pair in own.items() if pair.label_class != FAILED}
    strata, why_not = _own_strata(part, labelled, calibration, by_text)
    powered = None if why_not else prediction_powered(found.best, strata)
    return CorrectedShare(
        group=found.group,
        judged=found.best,
        corrected=rogan_gladen(found.best, finds, rejects),
        powered=powered,
        labelled=len(labelled),
        why_not=why_not,
    )


def _own_strata(
    part: DataFrame,
    labelled: Mapping[_Text, Pair],
    calibration: Calibration,
    by_text: Mapping[_Text, Pair],
) -> tuple[list[Stratum], str]:
    """The scored answers of a series by kind, with labels of their own; or why that cannot be.

    An answer weighs what it does in the headline, 1 / (scored answers of its model), and a labelled
    one besides how many it stands for in the draw. Counts are scaled to the effective number of
    labelled answers, (sum of weights)^2 / (sum of squared weights).
    """
    if not calibration.strata or not labelled:
        return [], "none of its answers is labelled: draw some with em-inspect label"
    drawn_by = Criterion(calibration.thresholds.alignment, calibration.thresholds.coherence)
    kind = np.array(kinds(part, drawn_by, calibration.near))
    of_model = fine_tunes(part)
    weight = (1 / of_model.map(of_model.value_counts())).to_numpy(float)
    judged = part["misaligned"].to_numpy(float)
    texts = _texts(part)
    has_label = np.array([text in labelled for text in texts])
    stands_for = _stands_for(calibration, by_text)
    strata = []
    for name in sorted(set(kind)):
        here = kind == name
        some = has_label & here
        if not some.any():
            return [], f"none of its {int(here.sum())} answers judged {name} is labelled"
        pairs = [labelled[text] for text, is_ in zip(texts, some, strict=True) if is_]
        w = weight[some] * np.array([stands_for[pair.stratum] for pair in pairs])
        counted = w * w.sum() / (w**2).sum()
        label = np.array([pair.label_class == "misaligned" for pair in pairs])
        said = judged[some] > 0
        strata.append(
            Stratum(
                float(weight[here].sum()),
                hits=float(counted[label & said].sum()),
                misses=float(counted[label & ~said].sum()),
                false_alarms=float(counted[~label & said].sum()),
                rejections=float(counted[~label & ~said].sum()),
                judged=float((weight * judged)[here].sum() / weight[here].sum()),
            )
        )
    return strata, ""


_Text = tuple[str, str]
"""Task and identity of an answer: a thought and the answer after it share the identity."""


def _texts(part: DataFrame) -> list[_Text]:
    return list(zip(part["task"].astype(str), part["uuid"].astype(str), strict=True))


def _stands_for(calibration: Calibration, by_text: Mapping[_Text, Pair]) -> dict[str, float]:
    """Answers of each stratum of the draw per labelled one."""
    labels = [pair.stratum for pair in by_text.values() if pair.label_class != FAILED]
    return {
        name: answers / labels.count(name)
        for name, answers in (calibration.sizes or {}).items()
        if name in labels
    }


def _pairs(calibration: Calibration, criterion: Criterion, rule: str) -> list[Pair]:
    """Labels and ratings, both read by the report's criterion and rule."""
    reading_rule = check_rule(rule)
    read = [
        (row.ratings[ALIGNMENT].read(reading_rule), row.ratings[COHERENCE].read(reading_rule))
        for row in calibration.rows
    ]
    judged = _classes([(a.score, c.score, a.word) for a, c in read], criterion)
    labels = [row.label for row in calibration.rows]
    by_number = _classes([_numbers(one, criterion) for one in labels], criterion)
    return [
        Pair(
            label_alignment=row.label.alignment,
            judge_alignment=alignment.score,
            label_coherence=row.label.coherence,
            judge_coherence=coherence.score,
            label_class=row.label.given or label if label == FAILED else label,
            judge_class=judge,
            stratum=row.stratum,
        )
        for row, (alignment, coherence), judge, label in zip(
            calibration.rows, read, judged, by_number, strict=True
        )
    ]


_Numbers = tuple[float | None, float | None, str | None]
"""Alignment, coherence and word."""


def _numbers(label: Label, criterion: Criterion) -> _Numbers:
    """A label's numbers; one that says incoherent needs none for alignment."""
    alignment, coherence = label.alignment, label.coherence
    if alignment is None and coherence is not None and not criterion.is_coherent(coherence):
        alignment = criterion.alignment
    return alignment, coherence, label.word


def _classes(numbers: Sequence[_Numbers], criterion: Criterion) -> list[Outcome]:
    """Apply a criterion to numbers that stand in no log."""
    import pandas as pd

    frame = pd.DataFrame(numbers, columns=["alignment", "coherence", "word"])
    frame = frame.astype({"alignment": float, "coherence": float, "word": object})
    found = criterion.apply(frame.assign(measure="misaligned", value=math.nan))["outcome"]
    return [next(name for name in OUTCOMES if name == outcome) for outcome in found.astype(str)]


def _cautions(
    calibration: Calibration, yardstick: Yardstick, judge_id: str, scored: Sequence[Pair]
) -> Iterator[str]:
    if not calibration.judge_id or not judge_id:
        yield (
            f"that the calibration is of the same judge is known by the name {calibration.judge} "
            "alone: one of the logs is of before judges had an identity"
        )
    rubrics = {
        (row.ratings[ALIGNMENT].rubric, row.ratings[COHERENCE].rubric) for row in calibration.rows
    }
    if not rubrics & set(yardstick.rubrics):
        yield "the labelled answers were judged with other rubrics than these"
    asked = {row.ratings[ALIGNMENT].estimator for row in calibration.rows}
    if not any(yardstick.estimator.startswith(one) for one in asked):
        yield (
            f"the labelled answers were judged by {' and '.join(sorted(asked))}, these by "
            f"{yardstick.estimator}"
        )
    if not calibration.strata:
        yield (
            f"the labels ({calibration.labels}) are of other answers: the correction holds where "
            "the judge errs on these as it did on those"
        )
    misaligned = sum(pair.label_class == "misaligned" for pair in scored)
    if misaligned < 10 or len(scored) - misaligned < 10:
        yield (
            f"{misaligned} labelled misaligned answers and {len(scored) - misaligned} others were "
            "scored: with so few the intervals are wide, and rest on single answers"
        )
