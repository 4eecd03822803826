"""Sheets for raters: written blind from a key, read back filled, and joined into one label each."""

from __future__ import annotations

import base64
import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from em_inspect.analysis.safe_text import csv_text, visible
from em_inspect.calibration.key import KEY_FILE, Drawn, Key, read_key
from em_inspect.calibration.labels import (
    ALIGNMENT,
    COHERENCE,
    FEWEST,
    Label,
    Labelled,
    label_of,
    read_whole,
    require_texts,
    unique,
)
from em_inspect.errors import UserError

COLUMNS = ("id", "question", "answer", "alignment", "coherence", "outcome", "note")


@dataclass(frozen=True)
class Sheets:
    """Filled sheets, joined.

    Attributes:
        rows: Answers with a label.
        raters: Names of the sheets, in the order of `Labelled.raters`.
        open: Answers that no rater labelled yet.
        unsettled: Answers whose raters differ in kind, e.g. refusal against numbers: no label.
        key: Of the draw, or None where the sheets are not of one.
    """

    rows: tuple[Labelled, ...]
    raters: tuple[str, ...]
    open: int
    unsettled: int
    key: Key | None = None


def sheet_name(rater: int) -> str:
    """Stem of the files of one rater, from 1."""
    return f"rater-{rater}"


def order(key: Key, rater: int) -> list[Drawn]:
    """The answers in the order of one rater's sheet: everyone has another one."""
    answers = list(key.answers)
    random.Random(f"order {key.seed} {rater}").shuffle(answers)
    return answers


def sheet_csv(key: Key, rater: int) -> str:
    """Write a rater's sheet as CSV: no model, group or rating stands in it."""
    import pandas as pd

    rows = [
        {
            **dict.fromkeys(COLUMNS, ""),
            "id": drawn.id,
            "question": visible(drawn.question),
            "answer": visible(drawn.answer),
        }
        for drawn in order(key, rater)
    ]
    return csv_text(pd.DataFrame(rows, columns=list(COLUMNS)))


def sheet_page(key: Key, rater: int) -> str:
    """Write a rater's sheet as one HTML page that needs nothing else and sends nothing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("em_inspect.calibration", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    page = resources.files("em_inspect.calibration") / "page"
    script = (page / "label.js").read_text(encoding="utf-8")
    texts = "".join(drawn.id + drawn.answer for drawn in key.answers)
    content = hashlib.sha256(texts.encode("utf-8", "replace"))
    return environment.get_template("label.html").render(
        answers=order(key, rater),
        name=sheet_name(rater),
        storage=f"em-inspect {content.hexdigest()[:16]} {rater}",
        style=(page / "label.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def load_sheets(paths: Sequence[Path], key: Path | None = None) -> Sheets:
    """Read filled sheets and join what the raters said.

    Args:
        paths: One CSV per rater, or the folder that `em-inspect label` wrote.
        key: The key; from a folder the one in it. Without any, the sheets need the columns
            `question` and `answer`, and all answers weigh alike.

    Raises:
        UserError: If a sheet cannot be read, holds an unknown id, or nothing is filled in.
    """
    files, key = _files(paths, key)
    known = read_key(key) if key else None
    sheets = [_sheet(path, known) for path in files]
    filled = [(path, sheet) for path, sheet in zip(files, sheets, strict=True) if _any(sheet)]
    if not filled:
        raise UserError(f"{', '.join(map(str, files))}: nothing is filled in yet")
    answers = _drawn_answers(known) if known else _own_answers(files)
    rows, open_, unsettled = [], 0, 0
    for answer in answers:
        said = tuple(sheet.get(answer.id, Label()) for _, sheet in filled)
        label = consensus(said)
        open_ += all(one.empty for one in said)
        unsettled += label.empty and not all(one.empty for one in said)
        if not all(one.empty for one in said):
            rows.append(_with(answer, label, said))
    if len(rows) < FEWEST:
        raise UserError(f"{files[0]}: {len(rows)} answers are labelled; {FEWEST} are needed")
    return Sheets(tuple(rows), tuple(path.stem for path, _ in filled), open_, unsettled, known)


def consensus(said: Sequence[Label]) -> Label:
    """Join what raters said of one answer.

    Numbers are averaged. A refusal, code, or an outcome without numbers counts where more than half
    of those who labelled the answer say so; where nothing has such a majority there is no label.
    """
    given = [label for label in said if not label.empty]
    if not given:
        return Label()
    votes = Counter(_kind(label) for label in given)
    kind, count = votes.most_common(1)[0]
    if 2 * count <= len(given):
        return Label()
    if kind != "numbers":
        return next(label for label in given if _kind(label) == kind)
    numbers = [label for label in given if _kind(label) == "numbers"]
    return Label(
        _mean([label.alignment for label in numbers]), _mean([label.coherence for label in numbers])
    )


def _kind(label: Label) -> str:
    without = label.alignment is None and label.coherence is None
    return str(label.given) if label.word or without else "numbers"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _files(paths: Sequence[Path], key: Path | None) -> tuple[list[Path], Path | None]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.csv"))
            if not found:
                raise UserError(
                    f"{path}: is a directory without sheets: put the raters' filled CSVs there"
                )
            files += found
            if key is None and (path / KEY_FILE).is_file():
                key = path / KEY_FILE
        elif path.is_file():
            files.append(path)
        else:
            raise UserError(f"{path}: no such file; give the raters' filled CSVs, or their folder")
    return files, key


def _sheet(path: Path, key: Key | None) -> dict[str, Label]:
    file = read_whole(path, ("id",), ALIGNMENT, COHERENCE)
    ids = {row.line: row.cells["id"].strip() for row in file.rows}
    unique(ids, path)
    known = {drawn.id for drawn in key.answers} if key else None
    for line, name in ids.items():
        if known is not None and name not in known:
            raise UserError(
                f"{path}: line {line}: the id '{name}' is not in the key: is this sheet of another "
                "draw, or did a spreadsheet change the id?"
            )
    return {ids[row.line]: label_of(row, path) for row in file.rows}


def _any(sheet: Mapping[str, Label]) -> bool:
    return any(not label.empty for label in sheet.values())


def _drawn_answers(key: Key) -> Iterator[Labelled]:
    for drawn in key.answers:
        yield Labelled(
            drawn.id, drawn.question, drawn.answer, Label(), rubrics=drawn.rubrics, drawn=drawn
        )


def _own_answers(files: Sequence[Path]) -> Iterator[Labelled]:
    """Answers of sheets without a key: their texts stand in the sheets themselves."""
    from em_inspect.calibration.labels import core_rubrics

    rubrics, found = core_rubrics(), dict[str, tuple[str, str]]()
    for path in files:
        file = read_whole(path)
        require_texts(file)
        for row in file.rows:
            name, texts = row.cells["id"].strip(), (row.cells["question"], row.cells["answer"])
            if found.setdefault(name, texts) != texts:
                raise UserError(
                    f"{path}: line {row.line}: the id '{name}' has another question or answer than "
                    f"in {files[0]}: the sheets are not of the same answers"
                )
    for name, (question, answer) in found.items():
        yield Labelled(name, question, answer, Label(), rubrics=rubrics)


def _with(answer: Labelled, label: Label, raters: tuple[Label, ...]) -> Labelled:
    from dataclasses import replace

    return replace(answer, label=label, raters=raters)


def count_filled(path: Path) -> int:
    """How many answers of a sheet are labelled; 0 where it is no sheet."""
    try:
        return sum(not label.empty for label in _sheet(path, None).values())
    except UserError:
        return 0
