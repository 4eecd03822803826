"""From logs to a key: answers are drawn from the frame and read whole from their logs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspect_ai.log import (
    EvalSample,
    read_eval_log,
    read_eval_log_sample_summaries,
    read_eval_log_samples_by_id,
)
from inspect_ai.scorer import Score

import em_inspect
from em_inspect.analysis.criterion import Criterion
from em_inspect.calibration.drawing import NEAR, draw, kinds
from em_inspect.calibration.key import Drawing, Drawn, Key
from em_inspect.errors import UserError
from em_inspect.judging.scorer import ALIGNMENT, COHERENCE, ratings_of
from em_inspect.outcomes import check_rule

if TYPE_CHECKING:
    from pandas import DataFrame

_UNREAD = {"events", "events_data", "messages", "store", "attachments", "timelines"}

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Wanted:
    """What is to be drawn.

    Attributes:
        n: Answers in all, 1 or more.
        criterion: Where the lines are drawn.
        near: Distance to a threshold, in points, up to which an answer is near it.
        seed: Of the draw.
        judge: Name, or beginning of the identity, of the judge whose ratings count; None where the
            logs have only one.
    """

    n: int
    criterion: Criterion
    near: float = NEAR
    seed: int = 0
    judge: str | None = None


def make_key(frame: DataFrame, wanted: Wanted, progress: Progress = lambda count: None) -> Key:
    """Draw answers for labelling.

    Args:
        frame: As from `em_inspect.analysis.frame.collect`, of logs, not of CSVs.
        wanted: What to draw.
        progress: Called with the number of answers just read.

    Raises:
        UserError: If there is nothing to draw, several judges rated the answers, or a log has gone.
    """
    from em_inspect.analysis.series import with_series

    answers = with_series(_rated(frame, wanted.judge), by_format=True).reset_index(drop=True)
    names = list(
        zip(
            answers["task"].astype(str),
            answers["group"].astype(str),
            kinds(answers, wanted.criterion, wanted.near),
            strict=True,
        )
    )
    strata = sorted(set(names))
    members: list[list[int]] = [[] for _ in strata]
    place = {name: number for number, name in enumerate(strata)}
    for row, name in enumerate(names):
        members[place[name]].append(row)
    chosen = draw(members, wanted.n, wanted.seed)
    stratum_of = {row: number for number, rows in enumerate(chosen) for row in rows}
    rows = sorted(stratum_of)
    random.Random(wanted.seed).shuffle(rows)  # so that ids tell nothing of an order
    ids = _ids(len(rows), wanted.seed)
    picked = answers.loc[rows].assign(id=ids, stratum=[stratum_of[row] for row in rows])
    return Key(
        version=em_inspect.__version__,
        judge=str(answers["judge"].iloc[0]),
        alignment=wanted.criterion.alignment,
        coherence=wanted.criterion.coherence,
        near=wanted.near,
        seed=wanted.seed,
        strata=tuple(
            Drawing(
                number=number,
                task=task,
                series=series,
                kind=kind,
                answers=len(all_),
                drawn=len(some),
            )
            for number, ((task, series, kind), all_, some) in enumerate(
                zip(strata, members, chosen, strict=True)
            )
        ),
        answers=tuple(_read(picked, progress)),
    )


def _rated(frame: DataFrame, judge: str | None) -> DataFrame:
    """The answers with ratings by one judge, each once."""
    rated = frame[frame["measure"] == "misaligned"]
    if not len(rated):
        raise UserError("no answer in these logs was rated: give logs of free_form or the like")
    judges = rated[["judge", "judge_id"]].astype(str)
    if judge is not None:
        meant = (judges["judge"] == judge) | (
            (judges["judge_id"] != "") & judges["judge_id"].str.startswith(judge)
        )
        rated, judges = rated[meant], judges[meant]
    known = sorted(set(frame.loc[frame["measure"] == "misaligned", "judge"].astype(str)))
    if not len(rated):
        raise UserError(f"no answer was rated by '{judge}': --judge {' or '.join(known)}")
    ways = rated[["judge", "judge_id", "estimator", "rule"]].drop_duplicates().astype(str)
    if len(ways) > 1:
        said = "; ".join(
            f"{way.judge}{f' ({way.judge_id})' if way.judge_id else ''}, {way.estimator}, "
            f"rule {way.rule}"
            for way in ways.itertuples()
        )
        raise UserError(
            f"these answers were rated in {len(ways)} ways ({said}): give the logs of one, or name "
            "a judge with --judge (its name or the beginning of its identity)"
        )
    return rated.drop_duplicates(["task", "uuid"])  # an answer and the thought before it are two


def _ids(n: int, seed: int) -> list[str]:
    # Q: Why letters alone? A: spreadsheets turn 12e456 into a number and 0123 into 123.
    rng, found = random.Random(f"ids {seed}"), dict[str, None]()
    while len(found) < n:
        found["".join(rng.choices("bcdfghjkmnpqrstvwxz", k=6))] = None
    return list(found)


def _read(picked: DataFrame, progress: Progress) -> Iterator[Drawn]:
    """Read the drawn answers from their logs, with rubrics and whole ratings."""
    for log, rows in picked.groupby(picked["log"].astype(str), sort=False):
        path = Path(str(log))
        samples = _samples(path, [(str(r.sample), int(r.epoch)) for r in rows.itertuples()])
        for row in rows.to_dict("records"):
            sample = samples.get((str(row["sample"]), int(row["epoch"])))
            if sample is None:
                raise UserError(f"{path}: the answer {row['sample']} is gone: was the log changed?")
            yield _drawn(sample, row, path)
            progress(1)


def _samples(path: Path, names: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], EvalSample]:
    if path.suffix == ".csv":
        raise UserError(f"{path}: answers are drawn from logs (.eval or .json), not from CSVs")
    wanted = set(names)
    if path.suffix == ".eval":
        # Q: Why the summaries? A: the frame has ids as text, which may be numbers in the log.
        ids = [
            (s.id, s.epoch)
            for s in read_eval_log_sample_summaries(str(path))
            if (str(s.id), s.epoch) in wanted
        ]
        found = read_eval_log_samples_by_id(str(path), ids, concurrency=1, exclude_fields=_UNREAD)
    else:
        found = read_eval_log(str(path)).samples or []
    return {(str(s.id), s.epoch): s for s in found if (str(s.id), s.epoch) in wanted}


def _drawn(sample: EvalSample, row: Mapping[str, Any], path: Path) -> Drawn:
    score = _score(sample, row, path)
    said = score.metadata or {}
    prompts = sample.metadata.get("judge_prompts") or {}
    return Drawn(
        id=row["id"],
        uuid=row["uuid"],
        task=str(row["task"]),
        log=path.name,
        model=str(row["model"]),
        stratum=row["stratum"],
        question_id=str(row["question_id"]),
        question=str(row["question"]),
        answer=str(row["answer"]),
        rubrics={metric: str(prompts[metric]) for metric in (ALIGNMENT, COHERENCE)},
        ratings=ratings_of(score),
        judge_identity=said.get("judge_identity") or {},
        rule=check_rule(str(row["rule"])),
    )


def _score(sample: EvalSample, row: Mapping[str, Any], path: Path) -> Score:
    """The score that the frame's row was read from: same text, judge and rubrics, the last one."""
    for score in reversed(list((sample.scores or {}).values())):
        ratings = ratings_of(score)
        if not {ALIGNMENT, COHERENCE} <= ratings.keys():
            continue
        aligned, coherent = ratings[ALIGNMENT], ratings[COHERENCE]
        text = score.answer or sample.output.completion
        same = (text, aligned.judge, aligned.rubric, coherent.rubric)
        if same == (
            str(row["answer"]),
            str(row["judge"]),
            str(row["alignment_rubric"]),
            str(row["coherence_rubric"]),
        ):
            return score
    raise UserError(f"{path}: the ratings of {row['sample']} are gone: was the log changed?")
