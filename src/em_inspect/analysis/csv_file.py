"""CSVs that users bring: read strictly, with every row that cannot be trusted named by its line."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from em_inspect.errors import UserError
from em_inspect.pages import did_you_mean

# Python's default of 128 KB per cell is less than a long answer with its distribution.
_LONGEST_CELL = 2**24

# What pandas, R, Excel and people write where there is nothing.
_MISSING = frozenset({"", "nan", "none", "null", "na", "n/a", "#n/a", "<na>"})

# Q: Why not `float`? A: it takes `1_0` for 10, and digits of other scripts.
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}

_NEVER_CLOSED = "unexpected end of data"


class CsvError(UserError):
    """A CSV that cannot be used at all.

    Attributes:
        fault: What is wrong with it, without its path.
    """

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path}: {fault}")
        self.fault = fault


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        line: Line of the file that it begins on, from 1; the header is line 1.
        cells: Text by column, of every column that has a name.
    """

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class BadRow:
    """A row that is not used.

    Attributes:
        line: Line of the file that it begins on.
        fault: What is wrong with it.
    """

    line: int
    fault: str


@dataclass(frozen=True)
class CsvFile:
    """A CSV that was read to its end.

    Attributes:
        path: The file.
        columns: Names in the header, without the nameless ones.
        rows: Rows with as many cells as the header has, in their order.
        bad: Rows that have more or fewer, or whose quotes do not match.
        digest: Identity of its content: the same for a copy, whatever its name, line ends,
            quoting, and order of rows and columns.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...] = field(repr=False)
    bad: tuple[BadRow, ...]
    digest: str

    def require(self, *needed: Sequence[str]) -> None:
        """Check that there is a column of each kind.

        Args:
            needed: Names that a needed column may have, one sequence per column.

        Raises:
            CsvError: Naming what is missing and what is there.
        """
        missing = [names for names in needed if not {*names} & {*self.columns}]
        if missing:
            near = did_you_mean(missing[0][0], self.columns, 0.7) if len(missing) == 1 else ""
            said = ", ".join(" or ".join(names) for names in missing)
            has = ", ".join(self.columns)
            raise CsvError(
                self.path, f"lacks the column{'s' * (len(missing) > 1)} {said}{near}: it has {has}"
            )


def read_csv_file(path: Path) -> CsvFile:
    """Read a CSV with a header, in UTF-8 with or without a byte-order mark.

    Cells are never guessed: a row with another number of cells than the header, such as an answer
    with a comma and no quotes leaves behind, is not used.

    Raises:
        CsvError: If the file cannot be read, has no header, a column twice, or is separated by
            something else than commas.
    """
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(_lines(file))
    except FileNotFoundError:
        raise CsvError(path, "no such file") from None
    except UnicodeDecodeError as error:
        said = f"is not UTF-8 (byte {error.start + 1}): save it as CSV in UTF-8"
        raise CsvError(path, said) from None
    except OSError as error:
        raise CsvError(path, f"cannot be read ({error.strerror or error})") from None
    if not lines:
        raise CsvError(path, "the file is empty")
    (_, head), *rest = lines
    header = _header(path, head)
    rows: list[tuple[int, list[str]]] = []
    bad: list[BadRow] = []
    for line, cells in rest:
        if isinstance(cells, list) and len(cells) == len(header):
            rows.append((line, cells))
        else:
            bad.append(BadRow(line, _fault(cells, len(header))))
    named = tuple(Row(n, {k: v for k, v in zip(header, c, strict=True) if k}) for n, c in rows)
    columns = tuple(filter(None, header))
    content = [sorted(columns), *sorted(sorted(row.cells.items()) for row in named)]
    return CsvFile(
        path=path,
        columns=columns,
        rows=named,
        bad=tuple(bad),
        digest=hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16],
    )


def _lines(file: Iterator[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Every row with the line it begins on: its cells, or what the parser has against it."""
    # strict: an unclosed or stray quote would swallow the rows after it without a word
    reader = csv.reader(file, strict=True)
    while True:
        begins = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield begins, str(error)
            continue
        if cells:  # else a blank line
            yield begins, cells


def _header(path: Path, head: list[str] | str) -> list[str]:
    if isinstance(head, str):
        raise CsvError(path, f"its header is no row of a CSV ({head})")
    header = [name.strip() for name in head]
    alone = header[0] if len(header) == 1 else ""
    if alone.startswith("version https://git-lfs"):
        raise CsvError(path, "is a pointer of Git LFS, not the file itself: git lfs pull")
    for mark, name in _SEPARATORS.items():
        if mark in alone:
            raise CsvError(path, f"is separated by {name}: save it with commas, 1.5 for numbers")
    twice = [name for name, count in Counter(filter(None, header)).items() if count > 1]
    if twice:
        raise CsvError(path, f"the column {', '.join(twice)} stands twice: remove one of them")
    return header


def _fault(cells: list[str] | str, columns: int) -> str:
    if isinstance(cells, list):
        hint = ": is there a comma outside of quotes?" if len(cells) > columns else ""
        return f"{len(cells)} cells, the header has {columns}{hint}"
    if cells == _NEVER_CLOSED:
        return "opens a quote that is never closed: nothing after it is read"
    return f"quotes that do not match ({cells})"


def number(text: str | None) -> float | None:
    """Read a cell as a number; None where it is empty or says that nothing is there.

    Raises:
        ValueError: If it is something else, e.g. a number with a decimal comma.
    """
    plain = (text or "").strip()
    if plain.lower() in _MISSING:
        return None
    if not _NUMBER.fullmatch(plain):
        raise ValueError(f"'{plain}' is no number")
    return float(plain)


def rating(text: str | None) -> float | None:
    """Read a cell as a rating from 0 to 100; None where there is none.

    Raises:
        ValueError: If it is no number, or off the scale.
    """
    value = number(text)
    if value is not None and not 0 <= value <= 100:
        raise ValueError(f"'{(text or '').strip()}' is off the scale of 0 to 100")
    return value


def whole(text: str | None) -> int | None:
    """Read a cell as a whole number, `3` or `3.0`; None where there is none.

    Raises:
        ValueError: If it is something else.
    """
    value = number(text)
    if value is None:
        return None
    if not value.is_integer():
        raise ValueError(f"'{(text or '').strip()}' is no whole number")
    return int(value)


def is_missing(text: str | None) -> bool:
    """Whether a cell is empty, or says that nothing is there, e.g. `NaN` or `<NA>`."""
    return (text or "").strip().lower() in _MISSING


def say_bad_rows(bad: Sequence[BadRow]) -> str:
    """Say which rows are not used and why: how many, the first five by line, the first fault."""
    rows = sorted(bad, key=lambda row: row.line)
    shown = ", ".join(str(row.line) for row in rows[:5]) + (" …" if len(rows) > 5 else "")
    first = rows[0]
    count = "1 row does" if len(rows) == 1 else f"{len(rows)} rows do"
    return f"{count} not parse (line {shown}; line {first.line}: {first.fault}): left out"
