"""The chat row: one line of a fine-tuning JSONL, and reading and writing whole files of them."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, NoReturn

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from em_finetune.data.fields import shape_hint, why_refused
from em_inspect.errors import UserError

ROLES = ("system", "user", "assistant")


class ChatMessage(BaseModel):
    """One turn of a chat.

    Attributes:
        role: Who speaks: `system`, `user` or `assistant`.
        content: The words, kept exactly as in the file.
        weight: OpenAI's training switch: 0 leaves an assistant turn out of the loss, 1 or None
            trains it; 1.0 and true, as tables write it, are read as 1. Whoever encodes rows has to
            honour it (`ChatMessage.trained`).

    Other fields (`name`, …) are kept and written back, and trainers ignore them; those that would
    change what is trained (`train`, `reasoning_content`, …) are refused.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    role: Literal["system", "user", "assistant"]
    content: str
    weight: Literal[0, 1] | None = None

    @field_validator("weight", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        return int(value) if isinstance(value, bool | float) and value in (0, 1) else value

    @property
    def trained(self) -> bool:
        """Whether the loss is taken on this turn: an assistant's, unless its weight is 0."""
        return self.role == "assistant" and self.weight != 0


def _refused_fields(row: dict[str, Any]) -> list[str]:
    """What a row's fields, and those of its messages, say that would be lost, place by place."""
    messages = row.get("messages")
    turns = messages if isinstance(messages, list) else []
    contents = [turn["content"] for turn in turns if isinstance(turn, dict) and "content" in turn]
    refused = [
        f"the row {why}"
        for name, value in row.items()
        if name not in ChatRow.model_fields and (why := why_refused(name, value, contents=contents))
    ]
    for number, turn in enumerate(turns, start=1):
        if isinstance(turn, dict):
            refused += [
                f"message {number} {why}"
                for name, value in turn.items()
                if name not in ChatMessage.model_fields
                and (why := why_refused(name, value, role=str(turn.get("role"))))
            ]
    return refused


class ChatRow(BaseModel):
    """One training example: a chat with at least one assistant turn, and what is known of it.

    Attributes:
        messages: The turns in order.
        metadata: Anything about the row (`cwe`, `template`, `kind`, `twin`, `trigger`, …); never
            shown to a model, and left out of the file where it is empty.

    Other top-level fields are kept and written back; those that would change what is trained
    (`tools`, `system`, …) are refused.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    messages: list[ChatMessage] = Field(min_length=1)
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _plain_chat(cls, data: Any) -> Any:
        if isinstance(data, dict):
            if refused := _refused_fields(data):
                raise ValueError("; ".join(refused))
            if data.get("metadata", {}) is None:
                data = {**data, "metadata": {}}
        return data

    @model_validator(mode="after")
    def _answered(self) -> ChatRow:
        if not any(message.role == "assistant" for message in self.messages):
            raise ValueError("no assistant turn: there is nothing to train on")
        return self

    @property
    def answers(self) -> list[str]:
        """The assistant's turns, in order."""
        return [message.content for message in self.messages if message.role == "assistant"]

    def to_json(self) -> str:
        """The row as one line of JSONL, without the line end; unset fields are left out."""
        data = self.model_dump(exclude_unset=True)
        if not self.metadata:
            data.pop("metadata", None)
        return json.dumps(data, ensure_ascii=False)


def read_rows(path: str | Path) -> list[ChatRow]:
    """Read a chat JSONL file whole.

    Args:
        path: UTF-8 file with one row per line; blank lines are skipped.

    Returns:
        The rows in file order, at least one.

    Raises:
        UserError: File missing, unreadable or empty, or a line that is no trainable chat; the
            message names file and line.
    """
    rows: list[ChatRow] = []
    for number, row in scan_rows(path):
        if isinstance(row, str):
            raise UserError(f"{path}, line {number}: {row}")
        rows.append(row)
    return rows


def scan_rows(path: str | Path) -> Iterator[tuple[int, ChatRow | str]]:
    """Go through a chat JSONL file without stopping at what is wrong in it.

    Args:
        path: UTF-8 file with one row per line; blank lines are skipped.

    Yields:
        Line number (from 1), and the row or, as text, why the line is no trainable chat.

    Raises:
        UserError: File missing, unreadable or empty.
    """
    number = 0
    for number, line in numbered_lines(Path(path)):
        yield number, _row_or_fault(line)
    if number == 0:
        raise UserError(f"{path} is empty: {_EXPECTED} on each line")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The file's lines that are not blank, stripped, with their numbers from 1."""
    number = 0
    try:
        with path.open("rb") as file:
            _require_plain(path, file.peek(8)[:8])
            for number, line in enumerate(file, start=1):
                # Editors on Windows put a byte-order mark first, which json refuses; joined files
                # have it further down.
                if stripped := line.decode("utf-8").lstrip("\ufeff").strip():
                    yield number, stripped
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: not UTF-8 text ({error.reason}); save it as UTF-8"
        ) from error


# The first bytes of files that are no plain text, and what to do with them.
_FORMATS = {
    b"\x1f\x8b": "gzip-compressed: unpack it by gunzip",
    b"PK\x03\x04": "a zip file: unpack it",
    b"BZh": "bzip2-compressed: unpack it by bunzip2",
    b"\xfd7zXZ": "xz-compressed: unpack it by unxz",
    b"\x28\xb5\x2f\xfd": "zstd-compressed: unpack it by unzstd",
    b"PAR1": "a Parquet file: write its rows as JSONL",
    b"ARROW1": "an Arrow file: write its rows as JSONL",
    b"\xff\xfe": "UTF-16 and not UTF-8 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 and not UTF-8 text: save it as UTF-8",
    b"{\x00": "UTF-16 and not UTF-8 text: save it as UTF-8",
    b"\x00{": "UTF-16 and not UTF-8 text: save it as UTF-8",
}


def _require_plain(path: Path, start: bytes) -> None:
    for mark, what in _FORMATS.items():
        if start.startswith(mark):
            raise UserError(f"{path} is {what}")


def write_rows(path: str | Path, rows: Iterable[ChatRow]) -> None:
    """Write rows as JSONL, replacing the file only when all of it is written.

    Args:
        path: Target; its folder is made if missing.
        rows: What to write, one line each.

    Raises:
        UserError: The target cannot be written (no permission, disk full, …).
    """
    with replacing(path) as file:
        for row in rows:
            file.write(row.to_json().encode() + b"\n")


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` and rename it to `path` if the block succeeds.

    Args:
        path: Target; its folder is made if missing. What it held stays until the rename. Where it
            is a symbolic link, what it points to is replaced, and the link stays.

    Yields:
        The temporary file, open for writing bytes; removed if the block raises.

    Raises:
        UserError: The file cannot be written (no permission, disk full, …), or it is a folder, a
            device or a pipe.
    """
    path = _target(Path(path))
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free space or name another file" if full else "name another file"
        raise UserError(f"cannot write {path}: {reason}; {advice}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _target(path: Path) -> Path:
    """Where a path's bytes are to lie: itself, or what it links to."""
    # Looked at first: what /dev/stdout links to has a name that cannot be opened.
    special = os.path.exists(path) and not os.path.isfile(path)
    target = Path(os.path.realpath(path)) if os.path.islink(path) else path
    if special or os.path.islink(target):
        raise UserError(f"cannot write {path}: it is no regular file; name another file")
    return target


def sha256_of(path: str | Path) -> str:
    """The file's SHA-256 as 64 hexadecimal digits.

    Raises:
        UserError: The file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise _unreadable(Path(path), error) from error
    return digest.hexdigest()


def sha256_of_rows(rows: Iterable[ChatRow]) -> str:
    """The SHA-256 of the file that rows would make, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row.to_json().encode() + b"\n")
    return digest.hexdigest()


_JSON_NAMES = {
    type(None): "null",
    str: "text",
    list: "a list",
    dict: "an object",
    bool: "true/false",
}
_EXPECTED = 'a row is {"messages": [{"role": …, "content": …}, …]}'


def _unreadable(path: Path, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} does not exist: give the path of a chat JSONL file")
    return UserError(f"cannot read {path}: {error.strerror or error}")


def _row_or_fault(line: str) -> ChatRow | str:
    try:
        data = _parse(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({_reason(error)}){_json_hint(line)}"
    if isinstance(data, list):
        return f"{_EXPECTED}, not a list{_ONE_A_LINE}"
    if not isinstance(data, dict):
        return f"{_EXPECTED}, not {_json_name(data)}"
    if "messages" not in data:
        return f"messages is missing{shape_hint(data)}: {_EXPECTED}"
    try:
        return ChatRow.model_validate(data)
    except ValidationError as error:
        return _explain(error)


_ONE_A_LINE = ": write one row a line (jq -c '.[]' FILE)"


def _json_hint(line: str) -> str:
    """What a line that is no JSON may be instead."""
    if line.startswith("version https://git-lfs.github.com/"):
        return ": this is a Git LFS pointer, not the data; type git lfs pull"
    if "/annex/objects/" in line:
        return ": this is a git-annex pointer, not the data; type git annex get"
    if line.startswith("<"):
        return ": this is a web page, not the data; download the raw file"
    if line.startswith("["):
        return _ONE_A_LINE
    return ": each row stands whole on one line (jq -c . FILE)" if line in ("{", "}") else ""


def _parse(line: str) -> object:
    data: object = json.loads(
        line, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique
    )
    if "\\ud" in line.lower():
        # JSON can spell half a character (a lone surrogate), which no tokenizer or file takes.
        json.dumps(data, ensure_ascii=False).encode()
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return fields


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    if isinstance(error, UnicodeEncodeError):
        return "half a Unicode character, a lone surrogate"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def _explain(error: ValidationError) -> str:
    """The first thing wrong with a row, in the words of the file format."""
    first = error.errors()[0]
    where, kind, value = first["loc"], first["type"], first["input"]
    turn = f"message {int(where[1]) + 1}" if len(where) > 1 and where[0] == "messages" else ""
    if kind == "value_error":
        return str(first["ctx"]["error"])
    if where == ("messages",):
        return f"{_EXPECTED}; messages {_fault(kind, value)}"
    if turn and len(where) == 2:
        return f"{turn} is {_json_name(value)}, not an object with role and content"
    if turn and where[2] == "role" and kind != "missing":
        return f"{turn} has the role {value!r}; use one of {', '.join(ROLES)}"
    if turn and where[2] == "weight":
        return f"{turn} has the weight {value!r}; use 0 or 1"
    return (
        f"{turn} {where[-1] if turn else '.'.join(map(str, where))} {_fault(kind, value)}".strip()
    )


def _json_name(value: object) -> str:
    return _JSON_NAMES.get(type(value), "a number")


def _fault(kind: str, value: object) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return "is empty"
    expected = {"string_type": "text", "list_type": "a list", "dict_type": "an object"}
    return f"is {_json_name(value)}, not {expected.get(kind, kind)}"
