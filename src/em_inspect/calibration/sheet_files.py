"""The files of a draw: key first, then what is missing; filled sheets are never touched."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from em_inspect.analysis.report import write
from em_inspect.calibration.key import KEY_FILE, Key, read_key
from em_inspect.calibration.sheet import count_filled, sheet_csv, sheet_name, sheet_page
from em_inspect.errors import UserError


def write_sheets(key: Key, folder: Path, raters: int, *, overwrite: bool = False) -> list[Path]:
    """Write a key and the sheets of so many raters; of the same draw only what is missing.

    Args:
        key: From `drawn.make_key`.
        folder: Made if it is not there.
        raters: Sheets to write, 1 or more.
        overwrite: Replace the files of another draw.

    Returns:
        The files that were written.

    Raises:
        UserError: If another draw lies in the folder and is not to be replaced.
    """
    files = _files(key, folder, raters)
    there = [path for path in files if path.exists()]
    same = (folder / KEY_FILE).is_file() and _same(folder / KEY_FILE, key)
    if there and not same and not overwrite:
        filled = sum(count_filled(path) for path in sorted(folder.glob("*.csv")))
        holds = f", in which {filled} answers are labelled" if filled else ""
        raise UserError(
            f"{folder}: holds the sheets of another draw{holds}: choose another -o, or add "
            "--overwrite to replace them"
        )
    missing = [path for path in files if not (same and path.exists())]
    for path in missing:
        write(path, files[path]().encode("utf-8", "replace"))
    return missing


def _files(key: Key, folder: Path, raters: int) -> dict[Path, Callable[[], str]]:
    """Every file with what makes its content, the key first: without it sheets are worthless."""
    files: dict[Path, Callable[[], str]] = {
        folder / KEY_FILE: partial(key.model_dump_json, indent=1)
    }
    for rater in range(1, raters + 1):
        files[folder / f"{sheet_name(rater)}.csv"] = partial(sheet_csv, key, rater)
        files[folder / f"{sheet_name(rater)}.html"] = partial(sheet_page, key, rater)
    return files


def _same(path: Path, key: Key) -> bool:
    """Whether a key is of the same draw; one that cannot be read is not."""
    try:
        known = read_key(path)
    except UserError:
        return False
    return known.model_copy(update={"version": key.version}) == key
