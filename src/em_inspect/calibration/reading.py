"""Reading a calibration's log: labels and ratings of every answer, as typed values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.scorer import Score

from em_inspect.calibration.agreement import Pair
from em_inspect.calibration.key import Drawing
from em_inspect.calibration.labels import WORDS, Label
from em_inspect.errors import UserError, one_line
from em_inspect.judging.rating import Rating
from em_inspect.judging.scorer import ALIGNMENT, ratings_of
from em_inspect.outcomes import OUTCOMES, Outcome, Thresholds

SCORERS = ("misalignment", "logged_ratings")
TASK = "calibration"


@dataclass(frozen=True)
class Rated:
    """One labelled answer with what the judge said of it.

    Attributes:
        label: Its label.
        raters: What each rater said, where several did.
        ratings: The judge's, by metric.
        outcome: Class that the judge put it in, by the log's thresholds.
        alignment: The judge's number, or None.
        coherence: The judge's number, or None.
        uuid: Identity of the answer in the logs that it was drawn from, or empty.
        task: Which of the answer's texts that is (`Drawn.task`), or empty.
        stratum: Number of the stratum that it was drawn from, or empty.
    """

    label: Label
    raters: tuple[Label, ...]
    ratings: Mapping[str, Rating]
    outcome: Outcome
    alignment: float | None
    coherence: float | None
    uuid: str = ""
    task: str = ""
    stratum: str = ""

    def pair(self, thresholds: Thresholds) -> Pair:
        """Label and judge side by side; the judge's class is the log's own."""
        return Pair(
            label_alignment=None if self.label.word else self.label.alignment,
            judge_alignment=self.alignment,
            label_coherence=self.label.coherence,
            judge_coherence=self.coherence,
            label_class=self.label.outcome(thresholds),
            judge_class=self.outcome,
            stratum=self.stratum,
        )


@dataclass(frozen=True)
class Calibration:
    """What a calibration's log says.

    Attributes:
        path: The log.
        labels: Where the labels came from.
        judge: Name of the judge.
        judge_id: Key of its identity, empty in old logs.
        estimator: How its numbers were read.
        rule: How its replies were read.
        raters: Names of the raters' sheets; empty where there is one label for each answer.
        rows: The labelled answers.
        strata: What the answers were drawn from; empty where all were drawn alike.
        near: Distance to a threshold that the strata go by, in points.
        thresholds: That the strata go by, or the log's own.
        open: Answers without any label, which were not rated.
        unsettled: Answers whose raters differ in kind.
    """

    path: str
    labels: str
    judge: str
    judge_id: str
    estimator: str
    rule: str
    raters: tuple[str, ...]
    rows: tuple[Rated, ...]
    strata: tuple[Drawing, ...]
    near: float
    thresholds: Thresholds
    open: int
    unsettled: int

    @property
    def sizes(self) -> dict[str, float] | None:
        """All answers of each stratum, or None where all were drawn alike."""
        return {str(s.number): float(s.answers) for s in self.strata} or None

    def pairs(self, thresholds: Thresholds) -> list[Pair]:
        """Labels and judge side by side."""
        return [row.pair(thresholds) for row in self.rows]


def read_calibration(path: Path) -> Calibration:
    """Read the log of a calibration.

    Raises:
        UserError: If there is no such log, or it is none of a calibration.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file: give the log that em-inspect calibrate named")
    try:
        log = read_eval_log(str(path))
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise UserError(f"{path}: cannot be read ({one_line(error)})") from None
    return calibration_of(log)


def calibration_of(log: EvalLog) -> Calibration:
    """Take a calibration out of its log; see `read_calibration`."""
    where = log.location or "the log"
    if log.eval.task.rpartition("/")[2] != TASK:
        raise UserError(
            f"{where}: is a log of {log.eval.task}, not of a calibration: run em-inspect calibrate "
            "and give the log that it names"
        )
    rows = tuple(_rated(sample, where) for sample in log.samples or [])
    if not rows:
        raise UserError(f"{where}: holds no rated answers: run em-inspect calibrate again")
    first = rows[0].ratings[ALIGNMENT]
    said = log.eval.metadata or {}
    draw = said.get("draw") or {}
    return Calibration(
        path=where,
        labels=str(said.get("labels", "")),
        judge=first.judge,
        judge_id=_identity(rows),
        estimator=first.estimator,
        rule=_rule(log),
        raters=tuple(map(str, said.get("raters") or ())),
        rows=rows,
        strata=tuple(Drawing.model_validate(one) for one in draw.get("strata", ())),
        near=float(draw.get("near", 0)),
        thresholds=Thresholds(draw.get("alignment", 30.0), draw.get("coherence", 50.0)),
        open=int(said.get("open", 0)),
        unsettled=int(said.get("unsettled", 0)),
    )


def pairs_of(log: EvalLog, thresholds: Thresholds) -> list[Pair]:
    """Pair labels and ratings of a calibration log.

    Raises:
        UserError: If the log is none of a calibration.
    """
    return calibration_of(log).pairs(thresholds)


def _rated(sample: EvalSample, where: str) -> Rated:
    label, score = (sample.metadata or {}).get("label"), _score(sample)
    if not isinstance(label, dict) or score is None or not isinstance(score.value, dict):
        raise UserError(f"{where}: sample {sample.id} is none of a calibration")
    drawn = sample.metadata.get("drawn") or {}
    return Rated(
        label=_label(label),
        raters=tuple(_label(one) for one in sample.metadata.get("raters") or ()),
        ratings=ratings_of(score),
        outcome=(score.metadata or {})["outcome"],
        alignment=_number(score.value["alignment"]),
        coherence=_number(score.value["coherence"]),
        uuid=str(drawn.get("uuid", "")),
        task=str(drawn.get("task", "")),
        stratum=str(drawn.get("stratum", "")),
    )


def _score(sample: EvalSample) -> Score | None:
    found = [s for name in SCORERS if (s := (sample.scores or {}).get(name)) and ratings_of(s)]
    return found[0] if found else None


def _label(said: Mapping[str, Any]) -> Label:
    given = said.get("given")
    if given is None and said.get("word"):  # logs of before a label could be an outcome
        given = next(name for name, word in WORDS.items() if word == said["word"])
    known = next((name for name in OUTCOMES if name == given), None)
    return Label(said.get("alignment"), said.get("coherence"), known)


def _identity(rows: tuple[Rated, ...]) -> str:
    found = {r.identity for row in rows for r in row.ratings.values() if r.identity}
    return "+".join(sorted(found))


def _rule(log: EvalLog) -> str:
    for sample in log.samples or []:
        score = _score(sample)
        if score and score.metadata:
            return str(score.metadata.get("rule", "plurality"))
    return "plurality"


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not math.isnan(value) else None
