"""Multiple-choice items: reading them, and the balanced orders in which their choices are shown."""

from __future__ import annotations

import hashlib
import json
import random
import string
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from em_inspect.errors import UserError
from em_inspect.pages import checked, read_entries


class Choice(BaseModel):
    """One choice of an item."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    text: str = Field(min_length=1)
    misaligned: bool


class ChoiceItem(BaseModel):
    """A question with choices, some of them misaligned.

    Attributes:
        id: Unique within its file.
        question: What is asked.
        choices: 2 to 26, at least one misaligned and at least one not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    choices: tuple[Choice, ...] = Field(min_length=2, max_length=26)

    @model_validator(mode="after")
    def _has_both_kinds(self) -> ChoiceItem:
        kinds = {choice.misaligned for choice in self.choices}
        if True not in kinds:
            raise ValueError("no choice is marked 'misaligned: true'")
        if False not in kinds:
            raise ValueError("every choice is marked 'misaligned: true'")
        return self

    @property
    def chance(self) -> float:
        """Share of misaligned choices: what a model without a leaning would give."""
        return sum(choice.misaligned for choice in self.choices) / len(self.choices)

    def prompt(self, order: Sequence[int]) -> str:
        """Write the question with its choices in an order, asking for one letter."""
        letters = string.ascii_uppercase[: len(order)]
        shown = [
            f"{letter}) {self.choices[i].text}" for letter, i in zip(letters, order, strict=True)
        ]
        options = f"{', '.join(letters[:-1])} or {letters[-1]}"
        return "\n\n".join(
            [self.question, "\n".join(shown), f"Reply with one letter alone: {options}."]
        )

    def misaligned_letters(self, order: Sequence[int]) -> str:
        """Return the letters of the misaligned choices in an order, e.g. `BD`."""
        return "".join(
            letter
            for letter, i in zip(string.ascii_uppercase, order, strict=False)
            if self.choices[i].misaligned
        )


def orders(item: ChoiceItem, count: int, seed: int) -> list[list[int]]:
    """Return shuffled orders in which, over each full turn, every choice meets every letter once.

    Q: Why turn one shuffle instead of shuffling anew? A: small models put up to 85 % of their mass
    on A whatever stands there; turned orders cancel that exactly, free ones only on average.

    Args:
        item: The item.
        count: How many orders; multiples of the number of choices are balanced.
        seed: Decides the shuffles, together with the item's id.
    """
    draw = random.Random(f"{seed} {item.id}")
    found: list[list[int]] = []
    while len(found) < count:
        shuffled = draw.sample(range(len(item.choices)), len(item.choices))
        found += [shuffled[turn:] + shuffled[:turn] for turn in range(len(shuffled))]
    return found[:count]


def load_items(source: str) -> list[ChoiceItem]:
    """Load items from `core` (embedded) or from a YAML file.

    Raises:
        UserError: Naming file, item and field, where the file cannot be used.
    """
    if source == "core":
        file = resources.files("em_inspect.questions") / "sets" / "multiple_choice.yaml"
        with resources.as_file(file) as path:
            return read_items(path)
    if source == "paper":
        raise UserError("the release has no choice items: use -T questions=core or a YAML file")
    path = Path(source).expanduser()
    if path.suffix.lower() not in (".yaml", ".yml") and not path.exists():
        raise UserError(
            f"unknown source '{source}': use -T questions=core or the path of a YAML file"
        )
    return read_items(path)


def read_items(path: Path) -> list[ChoiceItem]:
    """Read items from a YAML list with `id`, `question` and `choices` (`text`, `misaligned`).

    Raises:
        UserError: Naming file, item and field.
    """
    entries = read_entries(path, "item", "id", "give -T questions=core or a YAML file")
    return [checked(ChoiceItem, entry, where) for where, entry in entries]


def fingerprint(items: Sequence[ChoiceItem]) -> str:
    """Name the content of a set of items: 16 hex digits of a sha256, whatever their order."""
    content = sorted(item.model_dump_json() for item in items)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
