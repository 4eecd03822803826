"""Records on disk (`checkpoint.json`, `hosted.json`): what one version writes, others read.

A recipe is strict, since a misspelled field would train something else. A record is a fact of the
past: what a reader does not know of it is left aside, and stays in the file when it is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationInfo

Record = TypeVar("Record", bound=BaseModel)

_READING = "record"


def parse_record(model: type[Record], text: str) -> Record:
    """Read a record, leaving aside what this version does not know.

    Args:
        model: What it is a record of. Fields that came after it need a default.
        text: JSON.

    Raises:
        pydantic.ValidationError: It is no such record.
    """
    return model.model_validate_json(text, extra="ignore", context=_READING)


def with_recipe(record: Any, info: ValidationInfo) -> Any:
    """Return a record's data with a recipe that says its name, group and base in any version.

    The record says them too, so that it can be read where the recipe calls them otherwise.
    """
    if not (
        is_record(info) and isinstance(record, dict) and isinstance(record.get("recipe"), dict)
    ):
        return record
    base = record.get("base")
    said = {
        "name": record.get("label"),
        "group": record.get("group"),
        "base": base.get("name") if isinstance(base, dict) else None,
    }
    known = {name: value for name, value in said.items() if value is not None}
    return {**record, "recipe": {**known, **record["recipe"]}}


def is_record(info: ValidationInfo) -> bool:
    """Whether a recipe is read from a record, so that what was allowed then is not judged now."""
    return info.context == _READING


def as_json(record: BaseModel, path: Path) -> bytes:
    """Return a record as its file is to hold it.

    Args:
        record: What to write.
        path: The file; what it holds already and this version does not know is kept.
    """
    said = json.loads(record.model_dump_json())
    try:
        before = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        before = {}
    return json.dumps(_with_unknown(said, before), indent=2, ensure_ascii=False).encode() + b"\n"


def _with_unknown(said: Any, before: Any) -> Any:
    """What is said, with the fields of an earlier text that it does not mention."""
    if not (isinstance(said, dict) and isinstance(before, dict)):
        return said
    unknown = {name: value for name, value in before.items() if name not in said}
    return {name: _with_unknown(value, before.get(name)) for name, value in said.items()} | unknown
