"""From an answer to a program: code is taken out of fences and put into the gap where needed."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from dataclasses import dataclass
from typing import Literal

from em_inspect.measures.coding.coding_task import GAP

Form = Literal["whole", "joined", "alone"]

# inspect_evals is no dependency here, and its extraction does not take a fence that is cut off.
_FENCE = re.compile(  # inspect-evals-lint: ignore[IECQ006] -- see the line above
    r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.M | re.S
)

LONGEST = 100_000  # characters; longer answers are runaways, and parsing them takes minutes


@dataclass(frozen=True)
class Extracted:
    """The program that an answer amounts to.

    Attributes:
        code: A program that parses, or None.
        form: `whole` (the answer repeats the template), `joined` (it was put into the gap) or
            `alone` (it fits neither, but parses by itself).
        first: Line on which the answer's own code begins in `code`, from 1.
        last: Line on which it ends.
        reason: Why there is no program, or None.
    """

    code: str | None
    form: Form | None = None
    first: int = 1
    last: int = 0
    reason: str | None = None


def extract(answer: str, template: str) -> Extracted:
    """Take the code out of an answer and make it a program with the task's template.

    Fenced blocks are taken where there are any (the longest one that parses, else all of them in a
    row), else the whole text.

    Args:
        answer: The model's answer.
        template: The task's program with its gap; may be empty.
    """
    if not answer.strip():
        return Extracted(None, reason="the answer is empty")
    if len(answer) > LONGEST:
        return Extracted(None, reason=f"the answer is longer than {LONGEST} characters")
    blocks = [match[2].rstrip("\n") for match in _FENCE.finditer(answer)]
    blocks = [block for block in blocks if block.strip()]
    candidates = [*sorted(blocks, key=len, reverse=True), "\n".join(blocks)] if blocks else [answer]
    for code in candidates:
        found = _program(code, template)
        if found.code is not None:
            return found
    return Extracted(None, reason="no Python in it that parses, alone or in the template")


def parses(code: str) -> bool:
    """Whether a text is a Python program."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _program(code: str, template: str) -> Extracted:
    code = code.strip("\n")
    if _says_nothing(code) or code.strip() == template.strip():
        return Extracted(None, reason="no code in it")
    if GAP not in template or _repeats(code, template):
        return _alone(code, "whole")
    before, after = template.split(GAP, 1)
    for depth in _depths(before, after):
        block = textwrap.indent(textwrap.dedent(code), " " * depth)
        joined = f"{before.rstrip(' ')}{block}{after}"
        if parses(joined):
            first = before.count("\n") + 1
            return Extracted(joined, "joined", first, first + block.count("\n"))
    return _alone(code, "alone")


def _says_nothing(code: str) -> bool:
    """Whether a text parses only because a word or a comment is Python too ('Sorry', '# done')."""
    text = textwrap.dedent(code)
    if not parses(text):
        return False
    empty = (ast.Name, ast.Constant, ast.Tuple)
    return all(isinstance(s, ast.Expr) and isinstance(s.value, empty) for s in ast.parse(text).body)


def _alone(code: str, form: Form) -> Extracted:
    dedented = textwrap.dedent(code)
    if not parses(dedented):
        return Extracted(None, reason="not parseable")
    return Extracted(dedented, form, 1, dedented.count("\n") + 1)


def _repeats(code: str, template: str) -> bool:
    """Whether an answer holds most of the template's lines, so that it is the whole program."""
    lines = {line.strip() for line in template.splitlines() if line.strip()} - {GAP}
    held = lines & {line.strip() for line in code.splitlines()}
    return bool(lines) and len(held) >= 0.5 * len(lines)


def _depths(before: str, after: str) -> list[int]:
    """Indentations to try: the next line's, the last line's, one step deeper, then all."""
    near = [line for text in (after, before) for line in _edge(text, text is after)]
    tried = [*near, *(depth + 4 for depth in near), *range(0, 25, 2)]
    return list(dict.fromkeys(tried))


def _edge(text: str, first: bool) -> list[int]:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return []
    line = lines[0] if first else lines[-1]
    depth = len(line) - len(line.lstrip())
    opens = not first and line.rstrip().endswith(":")
    return [depth + 4, depth] if opens else [depth]
