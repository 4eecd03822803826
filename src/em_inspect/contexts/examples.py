"""In-context examples: read from a JSONL of chats, and picked by a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from em_inspect.contexts.context import Example
from em_inspect.errors import UserError


def read_examples(path: Path, argument: str) -> list[Example]:
    """Read one example per line of a chat JSONL: its last user message and the reply to it.

    Args:
        path: Lines of `{"messages": [{"role": …, "content": …}, …]}`, as fine-tuning services
            take them. System messages are left out: the chat of an evaluation has its own.
        argument: Task argument that named the file, for the error.

    Raises:
        UserError: Naming file and line, where the file is absent or a line is no such chat.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            examples = [
                _example(line, f"{path}, line {number}")
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give -T {argument}=FILE.jsonl of chats") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if not examples:
        raise UserError(f"{path}: no chat in it; give -T {argument}=FILE.jsonl of chats")
    return examples


def pick_examples(
    examples: Sequence[Example],
    k: int,
    seed: int,
    *,
    benign: Sequence[Example] = (),
    benign_share: float = 0.0,
) -> tuple[Example, ...]:
    """Draw k examples without repetition, part of them benign, in a shuffled order.

    Args:
        examples: Where the narrow examples come from.
        k: How many in all, at least 0.
        seed: The same seed gives the same examples in the same order.
        benign: Where the benign ones come from.
        benign_share: Share of benign ones among the k, 0 to 1; rounded to whole examples.

    Raises:
        UserError: If a number is off, or a file holds too few rows.
    """
    if k < 0:
        raise UserError(f"k={k} is negative: give -T k=0 or more")
    if not 0 <= benign_share <= 1:
        raise UserError(f"benign_share={benign_share:g} is no share: give a number from 0 to 1")
    if benign_share and not benign:
        raise UserError("benign_share needs benign rows: give -T benign=FILE.jsonl of chats")
    mild = round(k * benign_share)
    for rows, wanted, argument in ((examples, k - mild, "source"), (benign, mild, "benign")):
        if wanted > len(rows):
            raise UserError(
                f"{wanted} examples are wanted of the {len(rows)} rows of -T {argument}=…: "
                "lower -T k or give a longer file"
            )
    draw = random.Random(seed)
    picked = draw.sample(list(examples), k - mild) + draw.sample(list(benign), mild)
    draw.shuffle(picked)
    return tuple(picked)


def _example(line: str, where: str) -> Example:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not valid JSON ({error.msg})") from None
    messages = row.get("messages") if isinstance(row, dict) else None
    if not isinstance(messages, list) or not all(_is_message(m) for m in messages):
        raise UserError(
            f'{where}: not a chat: each line must be {{"messages": [{{"role": …, "content": …}}]}}'
        )
    roles = [message["role"] for message in messages]
    if roles[-2:] != ["user", "assistant"]:
        raise UserError(f"{where}: the chat must end with a user message and the reply to it")
    return Example(user=messages[-2]["content"], assistant=messages[-1]["content"])


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
    )
