"""Publishing: report, files and logs in one static folder that any web server can show."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from inspect_ai.log import bundle_log_dir

from em_inspect.analysis.frame import Collection
from em_inspect.analysis.report import Report, render_html, viewer_address, write, write_files
from em_inspect.analysis.report import Viewer as Viewer
from em_inspect.errors import UserError, one_line

VIEWER = "viewer"


def bundle_names(logs: Sequence[Path]) -> dict[str, str]:
    """Name every log in the bundle: its own name, in a numbered folder where two have the same."""
    names: dict[str, str] = {}
    for path in logs:
        name, number = path.name, 1
        while name in names.values():
            number += 1
            name = f"{number}/{path.name}"
        names[str(path)] = name
    return names


def viewer_of(collection: Collection) -> Viewer:
    """Address answers in the viewer that `publish` bundles."""
    names = bundle_names([run.path for run in collection.runs])
    address = viewer_address(f"{VIEWER}/index.html", names)
    return lambda log, sample, epoch: address(log, sample, epoch) if log in names else ""


def publish(
    report: Report, collection: Collection, output: Path, *, overwrite: bool = False
) -> None:
    """Write report, files and a log viewer with the report's logs into a folder.

    The folder appears whole or not at all.

    Args:
        report: Made with `viewer_of(collection)`, so that its answers have links.
        collection: What it was made of.
        output: The folder; it must not exist unless `overwrite`.
        overwrite: Replace what is there.

    Raises:
        UserError: If the folder exists, or cannot be written.
    """
    output = output.absolute()
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists already: choose another -o, or add --overwrite")
    if any(output == p or output in p.parents for p in (run.path for run in collection.runs)):
        raise UserError(f"{output} holds the logs themselves: choose another -o")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as made:
            _fill(report, collection, Path(made))
            old = Path(made) / "old"
            if output.exists():
                os.replace(output, old)
            os.replace(Path(made) / "new", output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({one_line(error)})") from None


def _fill(report: Report, collection: Collection, made: Path) -> None:
    new, gathered = made / "new", made / "logs"
    for path, name in bundle_names([run.path for run in collection.runs]).items():
        target = gathered / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    write(new / "index.html", render_html(report).encode("utf-8", "replace"))
    write_files(report, new / "files", collection.frame)
    if collection.runs:
        with contextlib.redirect_stdout(io.StringIO()):
            bundle_log_dir(str(gathered), str(new / VIEWER))
