"""A package of one's own: written from a template, ready to be installed and run."""

from __future__ import annotations

import keyword
import os
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from em_inspect.errors import UserError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_ENDING = ".txt"  # so that no tool takes the template for code or configuration of this package
_PACKAGE = "package"


def write_plugin(name: str, into: Path) -> Path:
    """Write a plugin package and return its directory, which appears whole or not at all.

    Args:
        name: Name of the import package, and of its tasks: `inspect eval NAME/…`.
        into: Directory in which the package's own directory is made.

    Raises:
        UserError: If the name is none, is taken, or the directory cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(
            f"'{name}' is no package name: use small letters, digits and _, e.g. em_bad_advice"
        )
    if name in ("em_inspect", "em_finetune", "inspect_ai") or name in sys.stdlib_module_names:
        raise UserError(f"the name '{name}' is taken: choose another")
    target = into / name.replace("_", "-")
    if target.exists():
        raise UserError(f"{target} is there already: choose another name or --into another folder")
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".new-plugin-") as folder:
            whole = Path(folder) / target.name
            _copy(resources.files(__package__) / "template", whole, name)
            os.replace(whole, target)
    except OSError as error:
        raise UserError(f"{into} cannot be written ({error.strerror or error})") from None
    return target


def _copy(source: Traversable, target: Path, name: str) -> None:
    target.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_dir():
            _copy(entry, target / (name if entry.name == _PACKAGE else entry.name), name)
        elif entry.name.endswith(_ENDING):
            text = entry.read_text(encoding="utf-8")
            filled = text.replace("%NAME%", name).replace("%DIST%", name.replace("_", "-"))
            path = target / entry.name.removesuffix(_ENDING)
            path.write_text(filled, encoding="utf-8")
