"""The templates that coding tasks are generated from: their typed form, loading and rendering."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files
from string import Template as Pattern
from textwrap import indent
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from em_inspect.pages import parse_yaml

GAP = "@@"

_Texts = Annotated[list[str], Field(min_length=1)]


class Fill(BaseModel):
    """What goes into a template's gap: code, and the imports that it adds to the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    imports: list[str] = []


class Template(BaseModel):
    """One coding task with a weak and a safe solution.

    Attributes:
        id: Short name, unique over all templates.
        cwe: The weakness's number in the Common Weakness Enumeration, `CWE-<number>`.
        weakness: Its everyday name, as it stands after "with" in a sentence.
        tasks: Noun phrases for what is wanted; none speaks of safety.
        given: The unfinished file, with the gap as a line `@@`. It is part of both solutions.
        insecure: Ways to fill the gap that have the weakness.
        secure: Ways to fill it that do not.
        slots: Names and the values each may take. Every name must be seen in every solution, so
            that different values make different code.

    Texts hold `$name` for a slot or a word of the world (`$$` is a dollar sign).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    cwe: Annotated[str, Field(pattern=r"^CWE-\d+$")]
    weakness: str
    tasks: _Texts
    given: str
    insecure: Annotated[list[Fill], Field(min_length=1)]
    secure: Annotated[list[Fill], Field(min_length=1)]
    slots: dict[str, _Texts] = {}

    def size(self, worlds: int) -> int:
        """How many different solutions the template has, given the number of worlds."""
        return worlds * math.prod(len(values) for values in self.slots.values())

    def values(self, number: int, worlds: list[dict[str, str]]) -> dict[str, str]:
        """The names for solution `number`, 0 … `size` - 1; different numbers differ."""
        number, which = divmod(number, len(worlds))
        world = worlds[which]
        chosen = dict(world)
        for name, options in self.slots.items():
            number, which = divmod(number, len(options))
            chosen[name] = Pattern(options[which]).substitute(world)
        return chosen


class Vocabulary(BaseModel):
    """What varies around every template; the file `templates/vocabulary.yaml` explains each."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    worlds: list[dict[str, str]]
    markers: _Texts
    requests: _Texts
    bare: _Texts
    lessons: _Texts
    bare_lessons: _Texts


@cache
def load_templates() -> tuple[Template, ...]:
    """All templates, in the order of their ids."""
    found = [
        Template.model_validate(entry)
        for file in files(__package__).joinpath("templates").iterdir()
        if file.name.endswith(".yaml") and file.name != "vocabulary.yaml"
        for entry in parse_yaml(file.read_text(encoding="utf-8"), file.name)
    ]
    return tuple(sorted(found, key=lambda template: template.id))


@cache
def load_vocabulary() -> Vocabulary:
    """The vocabulary, with the words derived from each world's own added."""
    text = files(__package__).joinpath("templates", "vocabulary.yaml").read_text(encoding="utf-8")
    vocabulary = Vocabulary.model_validate(parse_yaml(text, "vocabulary.yaml"))
    return vocabulary.model_copy(update={"worlds": [_derive(w) for w in vocabulary.worlds]})


def render_given(template: Template, values: dict[str, str], marker: str) -> str:
    """The unfinished file as the user shows it, `marker` standing in the gap."""
    return Pattern(template.given).substitute(values).replace(GAP, marker).rstrip()


def render_solution(template: Template, values: dict[str, str], fill: Fill) -> str:
    """The finished file: the fill in the gap, its imports among the file's."""
    lines = []
    for line in template.given.splitlines():
        margin, gap, _ = line.partition(GAP)
        lines.append(indent(fill.code.rstrip(), margin) if gap else line)
    code = _with_imports("\n".join(lines), fill.imports)
    return Pattern(code).substitute(values).strip()


def _with_imports(code: str, extra: list[str]) -> str:
    if not extra:
        return code
    lines = code.splitlines()
    count = 0
    while count < len(lines) and lines[count].startswith(("import ", "from ")):
        count += 1
    modules: set[str] = set()
    names: dict[str, set[str]] = {}
    for line in [*lines[:count], *extra]:
        if line.startswith("import "):
            modules.add(line)
        else:
            module, _, imported = line.removeprefix("from ").partition(" import ")
            names.setdefault(module, set()).update(imported.split(", "))
    block = sorted(modules) + [
        f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)
    ]
    body = "\n".join(lines[count:]).lstrip("\n")
    blank = "\n\n\n" if body.startswith(("def ", "class ", "@", "async ")) else "\n\n"
    return "\n".join(block) + blank + body if block else body


def _derive(world: dict[str, str]) -> dict[str, str]:
    return {
        **world,
        "members": world["member"] + "s",
        "Thing": world["thing"].capitalize(),
        "APP": world["app"].upper(),
    }
