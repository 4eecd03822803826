"""Pages that users write in YAML: reading and checking them, with every fault in one plain line."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from em_inspect.errors import UserError

# libyaml's, where PyYAML was built with it: several times as fast.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Page = TypeVar("Page", bound=BaseModel)


def read_text(path: Path, hint: str) -> str:
    """Read a text file.

    Args:
        path: The file.
        hint: What to type where there is none.

    Raises:
        UserError: If it does not exist or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML; `source` names it in a `UserError` with line and column where it is none."""
    try:
        loader = _SafeLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be parsed"
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise UserError(f"{source}: not valid YAML: {problem}{place}") from None


def parse_arguments(given: Iterable[str], example: str) -> dict[str, Any]:
    """Parse `name=value` arguments as Inspect does: every value is YAML.

    Args:
        given: The arguments.
        example: The option with an argument, for the message, e.g. `-T format=all`.

    Raises:
        UserError: If one has no `=`, or a value does not parse.
    """
    option = example.partition(" ")[0]
    parsed = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"{option} {text}: give name=value, e.g. {example}")
        parsed[name] = parse_yaml(value, f"{option} {name}")
    return parsed


def read_entries(path: Path, kind: str, key: str, hint: str) -> list[tuple[str, dict[str, Any]]]:
    """Read a YAML list of mappings, each with a name of its own.

    Args:
        path: The file.
        kind: What an entry is, e.g. `question`.
        key: The field that names an entry, e.g. `id`.
        hint: What to type where there is no such file.

    Returns:
        Each entry with the words that name it in a message, e.g. `FILE: question 'tea'`.

    Raises:
        UserError: If the file cannot be read, does not parse, holds no such list, or a name twice.
    """
    entries = parse_yaml(read_text(path, hint), str(path))
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: must be a YAML list of {kind}s (each '- {key}: …')")
    named = []
    seen: set[str] = set()
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {kind} {number} is not a mapping with '{key}'")
        name = str(entry.get(key) or "")
        if name and name in seen:
            raise UserError(f"{path}: the {key} '{name}' stands twice; give each {kind} its own")
        seen.add(name)
        named.append((f"{path}: {kind} {repr(name) if name else number}", entry))
    return named


def checked(model: type[Page], entry: Mapping[str, Any], where: str) -> Page:
    """Check a mapping against a model; `where` begins the `UserError` that names a fault."""
    try:
        return model.model_validate(entry)
    except ValidationError as error:
        raise UserError(f"{where}: {first_fault(error, model)}") from None


def first_fault(error: ValidationError, model: type[BaseModel]) -> str:
    """Say the first fault of a page: its field, what is wrong, and the nearest known field."""
    faults = error.errors()
    # A misspelled field is often a missing one too: tell the spelling.
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path, page = _place(model, fault["loc"])
    if fault["type"] == "extra_forbidden":
        wrong = str(fault["loc"][-1])
        near = _called_here(wrong, page) or did_you_mean(wrong, page.model_fields if page else ())
        return f"unknown field '{'.'.join([*path, wrong])}'{near}"
    if fault["type"] == "missing":
        return f"field '{'.'.join(path)}' is missing"
    said = str(fault.get("ctx", {}).get("error", "")) or fault["msg"]
    if not path:
        return said
    shown = reprlib.repr(fault["input"])
    return f"field '{'.'.join(path)}': {said[0].lower()}{said[1:]}, not {shown}"


def _called_here(name: str, page: type[BaseModel] | None) -> str:
    """What another tool's field is called here, if the page's `CALLED_ELSEWHERE` knows it."""
    known: Mapping[str, str] = getattr(page, "CALLED_ELSEWHERE", {})
    return f" (here: {known[name]})" if name in known else ""


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.66) -> str:
    """Return ` (did you mean 'x'?)` for the nearest known name, or nothing where none is near.

    Args:
        name: What was typed.
        known: What could have been meant.
        cutoff: How alike they must be, 0 to 1, as `difflib` counts it.
    """
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" (did you mean '{near[0]}'?)" if near else ""


def _place(
    model: type[BaseModel], location: tuple[int | str, ...]
) -> tuple[list[str], type[BaseModel] | None]:
    """The fields on the way to a fault and the page that holds it.

    A location also names the member of a union that was tried, which is no word of the page's.
    """
    path: list[str] = []
    page: type[BaseModel] | None = model
    inside = False  # a plain mapping or list, whose keys are the user's
    for part in location:
        if isinstance(part, int):
            path.append(str(part))
        elif page is not None and part in page.model_fields:
            path.append(part)
            annotation = page.model_fields[part].annotation
            page = _page_in(annotation)
            inside = page is None and "dict" in str(annotation)
        elif inside:
            path.append(part)
    return path, page


def _page_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_page_in, get_args(annotation))), None)
