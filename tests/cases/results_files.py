"""CSVs of results as other projects write them, and what a report says of one."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from em_inspect.analysis.commands import report
from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.frame import collect
from em_inspect.analysis.section import Section, sections


def written(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write a CSV with these columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def section_of(*paths: Path, rule: str | None = None, comparison: Any = ">=") -> Section:
    """The one section of a report over these files."""
    criterion = Criterion(comparison=comparison)
    (section,) = sections(collect(list(paths), rule=rule, quiet=True), criterion)
    return section


def outcomes_of(section: Section) -> Mapping[str, int]:
    """How many answers of a section there are of each outcome."""
    counted = section.frame["outcome"].astype("str").value_counts()
    return {str(name): int(count) for name, count in counted.items()}


def reported(*paths: Path, output: Path) -> Result:
    """Type `em-inspect report` on these files."""
    return CliRunner().invoke(report, [*map(str, paths), "-o", str(output)])
