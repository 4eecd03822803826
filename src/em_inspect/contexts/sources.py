"""Where contexts come from: the embedded file, or the user's own YAML."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from em_inspect.contexts.context import Context, compose
from em_inspect.errors import UserError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PLAIN = "plain"
"""The name of the question without any context."""


def load_contexts(names: str | Sequence[str] | None) -> list[Context | None]:
    """Load contexts as a task argument names them; each becomes rows of its own in the log.

    A name is one of the embedded ones, `plain` (no context), `FILE.yaml` (every context of a file)
    or `FILE.yaml:name`. Names joined with `+` are laid around one another, the first one next to
    the question.

    Args:
        names: One name, several (a list or separated by commas), or None for no context.

    Returns:
        The contexts in the order named; None stands for the plain question.

    Raises:
        UserError: If a name or file is unknown, or a file's entry is not a context.
    """
    if names is None:
        return [None]
    listed = names.split(",") if isinstance(names, str) else [str(name) for name in names]
    found = [context for name in listed for context in _named(name.strip())]
    seen = [context.name if context else PLAIN for context in found]
    for name in seen:
        if seen.count(name) > 1:
            raise UserError(f"the context '{name}' is named twice: name it once in -T contexts=…")
    return found


def read_contexts(path: Path) -> dict[str, Context]:
    """Read contexts by name from a YAML list of mappings with the fields of `Context`.

    Raises:
        UserError: Naming file, context and field, where the file cannot be used.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give -T contexts=NAME or a YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:150]}") from None
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: must be a YAML list of contexts (each '- name: …')")
    contexts: dict[str, Context] = {}
    for number, entry in enumerate(entries, 1):
        context = _context(entry, number, path)
        if context.name in contexts or context.name == PLAIN:
            raise UserError(f"{path}: the name '{context.name}' is taken; give the context another")
        contexts[context.name] = context
    return contexts


def _named(name: str) -> list[Context | None]:
    if name == PLAIN:
        return [None]
    if "+" in name and not Path(name).exists():
        parts = [_one(part.strip()) for part in name.split("+")]
        return [compose(*parts)]
    if name.endswith((".yaml", ".yml")):
        return [*read_contexts(Path(name).expanduser()).values()]
    return [_one(name)]


def _one(name: str) -> Context:
    file, colon, inside = name.rpartition(":")
    if colon and file.endswith((".yaml", ".yml")):
        return _pick(read_contexts(Path(file).expanduser()), inside, f" of {file}")
    with resources.as_file(_embedded_file()) as path:
        return _pick(read_contexts(path), name, "")


def _embedded_file() -> Traversable:
    return resources.files("em_inspect.questions") / "sets" / "contexts.yaml"


def _pick(contexts: dict[str, Context], name: str, where: str) -> Context:
    if name in contexts:
        return contexts[name]
    near = difflib.get_close_matches(name, contexts, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    known = ", ".join([PLAIN, *contexts])
    raise UserError(
        f"unknown context '{name}'{where}{hint}: use -T contexts= with {known}, or FILE.yaml:NAME"
    )


def _context(entry: object, number: int, path: Path) -> Context:
    if not isinstance(entry, dict):
        raise UserError(f"{path}: context {number} is not a mapping with 'name'")
    name = f"context '{entry['name']}'" if entry.get("name") else f"context {number}"
    try:
        return Context.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "user"
        raise UserError(f"{path}: {name}: field '{field}': {first['msg'].lower()}") from None
