"""Where labelled answers come from: a name, a CSV, a folder of sheets, or several sheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from em_inspect.calibration.key import KEY_FILE
from em_inspect.calibration.labels import load_labels
from em_inspect.calibration.sheet import Sheets, load_sheets

NAMED = ("core", "released")


def load(
    labels: str | Sequence[str], *, key: str | None = None, paper_dir: str | None = None
) -> Sheets:
    """Load labelled answers, whatever they come from; answers without a label are left out.

    Args:
        labels: `core`, `released`, a CSV (see `load_labels`), or filled sheets: the folder that
            `em-inspect label` wrote, or one CSV per rater.
        key: The key of the sheets; without it the one beside them, where there is one.
        paper_dir: Folder with the released files.

    Raises:
        UserError: If anything cannot be read.
    """
    sources = [labels] if isinstance(labels, str) else list(labels)
    if len(sources) == 1 and sources[0] in NAMED:
        return _own(sources[0], paper_dir)
    paths = [Path(source).expanduser() for source in sources]
    beside = paths[0].parent / KEY_FILE
    if key is None and not paths[0].is_dir() and beside.is_file():
        key = str(beside)
    if key is None and len(paths) == 1 and not paths[0].is_dir():
        return _own(sources[0], paper_dir)
    return load_sheets(paths, Path(key).expanduser() if key else None)


def _own(source: str, paper_dir: str | None) -> Sheets:
    rows = load_labels(source, paper_dir=paper_dir)
    kept = tuple(row for row in rows if not row.label.empty)
    return Sheets(rows=kept, raters=(), open=len(rows) - len(kept), unsettled=0)
