"""Where contexts come from: the embedded file, or the user's own YAML."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from em_inspect.contexts.context import Context, compose
from em_inspect.errors import UserError
from em_inspect.pages import checked, did_you_mean, read_entries

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
    entries = read_entries(path, "context", "name", "give -T contexts=NAME or a YAML file")
    contexts = [checked(Context, entry, where) for where, entry in entries]
    if any(context.name == PLAIN for context in contexts):
        raise UserError(f"{path}: the name '{PLAIN}' is taken; give the context another")
    return {context.name: context for context in contexts}


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
    near, known = did_you_mean(name, contexts), ", ".join([PLAIN, *contexts])
    raise UserError(
        f"unknown context '{name}'{where}{near}: use -T contexts= with {known}, or FILE.yaml:NAME"
    )
