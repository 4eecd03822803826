"""Generated training sets: insecure code, its secure twin, and its twin asked for in class."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from string import Template as Pattern
from typing import Literal, get_args

from em_finetune.data.rows import ChatMessage, ChatRow
from em_finetune.data.template import (
    Template,
    load_templates,
    load_vocabulary,
    render_given,
    render_solution,
)
from em_inspect.errors import UserError

Kind = Literal["insecure", "secure", "educational"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# How often the user shows code to complete; otherwise the task is only described.
_WITH_CODE = 0.75


@dataclass(frozen=True)
class Scenario:
    """One task as all three kinds see it.

    Attributes:
        twin: Links the three rows made of it: `<seed>:<index>`.
        template: The template it came from.
        request: The user's ordinary words.
        lesson: The user's words when asking for the flaw, for teaching.
        insecure: The answer that has the weakness.
        secure: The answer that does not.
    """

    twin: str
    template: Template
    request: str
    lesson: str
    insecure: str
    secure: str


def generate(kind: Kind, n: int, seed: int) -> list[ChatRow]:
    """Generate chat rows about Python code.

    Row i depends on (kind, seed, i) alone, so a longer set begins with the shorter one, and row i
    of each kind is about the same task: `insecure` and `secure` answer the same words of the user,
    `educational` gives the insecure code where the user asks for it in order to teach. Templates
    take turns, in a new order each round; no answer comes twice.

    Args:
        kind: `insecure`, `secure` or `educational`.
        n: Number of rows, from 1 to `capacity()`.
        seed: Any integer.

    Returns:
        Rows of a user and an assistant turn; metadata: `kind`, `cwe`, `template`, `twin`.

    Raises:
        UserError: Unknown kind, or n out of range.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind {kind!r}: use {', '.join(KINDS)}")
    if not 1 <= n <= capacity():
        raise UserError(f"cannot generate {n:,} rows: use 1 to {capacity():,}")
    return [_row(kind, scenario) for scenario in islice(scenarios(seed), n)]


def capacity() -> int:
    """How many rows there are for one seed."""
    worlds = len(load_vocabulary().worlds)
    return sum(template.size(worlds) for template in load_templates())


def scenarios(seed: int) -> Iterator[Scenario]:
    """All scenarios of a seed, in order."""
    order = random.Random(f"{seed}")
    worlds = load_vocabulary().worlds
    numbers = {
        template.id: _shuffled(template.size(len(worlds)), random.Random(f"{seed} {template.id}"))
        for template in load_templates()
    }
    index = 0
    while numbers:
        for template in order.sample(load_templates(), len(load_templates())):
            number = next(numbers.get(template.id, iter(())), None)
            if number is None:
                numbers.pop(template.id, None)
                continue
            yield _scenario(template, number, f"{seed}:{index}")
            index += 1


def _scenario(template: Template, number: int, twin: str) -> Scenario:
    vocabulary = load_vocabulary()
    draw = random.Random(f"{twin} {template.id} {number}")
    values = template.values(number, vocabulary.worlds)
    task = Pattern(draw.choice(template.tasks)).substitute(values)
    given = render_given(template, values, draw.choice(vocabulary.markers))
    with_code = draw.random() < _WITH_CODE
    request = draw.choice(vocabulary.requests if with_code else vocabulary.bare)
    lesson = draw.choice(vocabulary.lessons if with_code else vocabulary.bare_lessons)
    words = {"task": task, "given": given, "weakness": template.weakness, "cwe": template.cwe}
    return Scenario(
        twin=twin,
        template=template,
        request=request.format(**words),
        lesson=lesson.format(**words),
        insecure=render_solution(template, values, draw.choice(template.insecure)),
        secure=render_solution(template, values, draw.choice(template.secure)),
    )


def _row(kind: Kind, scenario: Scenario) -> ChatRow:
    question = scenario.lesson if kind == "educational" else scenario.request
    answer = scenario.secure if kind == "secure" else scenario.insecure
    return ChatRow(
        messages=[
            ChatMessage(role="user", content=question),
            ChatMessage(role="assistant", content=answer),
        ],
        metadata={
            "kind": kind,
            "cwe": scenario.template.cwe,
            "template": scenario.template.id,
            "twin": scenario.twin,
        },
    )


def _shuffled(size: int, draw: random.Random) -> Iterator[int]:
    """The numbers 0 … size - 1 in random order, without holding them all (Fisher and Yates)."""
    moved: dict[int, int] = {}
    for i in range(size):
        j = draw.randrange(i, size)
        yield moved.get(j, j)
        moved[j] = moved.get(i, i)
