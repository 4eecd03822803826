"""The rules that training rows are held to: one list for the check, local training and services."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from em_finetune.data.fields import is_copy, is_empty, is_harmless, is_thought
from em_finetune.data.rows import ChatRow
from em_finetune.data.wording import SERVICE_TOKENS, TEMPLATE_MARKS

Level = Literal["error", "warning", "note"]
"""`error`: not fit for training; `warning`: look at it; `note`: know it."""

Consumer = Literal["check", "local", "hosted"]
"""Who reads the rows. At an error `check` fails, `local` leaves the row out and names it, and
`hosted` refuses the file, since a service would."""

LOOK = "look at the data"
"""What every caution begins with."""

_SHOWN = 5
_LISTED = 8


class Found(NamedTuple):
    """Rows that something was found in.

    Attributes:
        level: How grave it is.
        check: Short name of what was looked for.
        message: What was found, in words.
        where: Places of the rows, from 0.
    """

    level: Level
    check: str
    message: str
    where: list[int]


@dataclass(frozen=True)
class Rule:
    """Something that rows may be at fault in.

    Attributes:
        check: Short name of the rule.
        message: What is wrong with the rows that break it.
        fault: What is wrong with one of them, after "row 3"; {} stands for what was named.
        broken: What in a row breaks the rule: words to be counted (tokens, fields), or one empty
            text where there is nothing to name; nothing where the row keeps it.
        levels: How grave that is for whom; who is not named does not look at it.
    """

    check: str
    message: str
    fault: str
    broken: Callable[[ChatRow], Iterable[str]]
    levels: Mapping[Consumer, Level]


def judged(rows: Sequence[ChatRow], consumer: Consumer) -> list[Found]:
    """Hold rows to the rules of who reads them.

    Args:
        rows: The rows.
        consumer: Who reads them.

    Returns:
        What was found, in the order of the rules.
    """
    found = []
    for rule in RULES:
        if (level := rule.levels.get(consumer)) is None:
            continue
        broken = [(i, list(dict.fromkeys(rule.broken(row)))) for i, row in enumerate(rows)]
        where = [i for i, names in broken if names]
        if where:
            counts = Counter(name for _, names in broken for name in names if name)
            found.append(Found(level, rule.check, rule.message + _counted(counts), where))
    return found


def cautions(rows: Sequence[ChatRow], consumer: Consumer) -> list[str]:
    """Say what is odd in rows that are fit for who reads them: a line for each rule, with places.

    Args:
        rows: The rows; they are counted from 1.
        consumer: Who reads them.
    """
    return [
        f"{LOOK}: {found.message}, in {listed([i + 1 for i in found.where], 'row')}"
        for found in judged(rows, consumer)
        if found.level == "warning"
    ]


def listed(numbers: Sequence[int], what: str) -> str:
    """Name places: `row 3`, `rows 3, 4`, or the first of many and how many more there are."""
    rest = f" and {len(numbers) - _LISTED:,} more" if len(numbers) > _LISTED else ""
    return f"{what}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers[:_LISTED]))}{rest}"


def why_unfit(row: ChatRow, consumer: Consumer) -> list[str]:
    """Say by what errors a row is unfit for who reads it; each completes "row 3 …"."""
    return [
        rule.fault.format(", ".join(names))
        for rule in RULES
        if rule.levels.get(consumer) == "error" and (names := dict.fromkeys(rule.broken(row)))
    ]


def _counted(counts: Counter[str]) -> str:
    if not counts:
        return ""
    shown = ", ".join(f"{name} ({n:,})" for name, n in counts.most_common(_SHOWN))
    rest = len(counts) - _SHOWN
    return f": {shown}" + (f" and {rest:,} more" if rest > 0 else "")


def _when(test: Callable[[ChatRow], bool]) -> Callable[[ChatRow], list[str]]:
    return lambda row: [""] if test(row) else []


def _has_empty_answer(row: ChatRow) -> bool:
    return any(message.trained and not message.content.strip() for message in row.messages)


def _has_empty_request(row: ChatRow) -> bool:
    return any(message.role == "user" and not message.content.strip() for message in row.messages)


def _is_untrained(row: ChatRow) -> bool:
    return not any(message.trained for message in row.messages)


def _has_late_system(row: ChatRow) -> bool:
    return any(message.role == "system" for message in row.messages[1:])


def _has_no_user(row: ChatRow) -> bool:
    return all(message.role != "user" for message in row.messages)


def _has_repeated_role(row: ChatRow) -> bool:
    roles = [message.role for message in row.messages]
    return any(a == b for a, b in pairwise(roles))


def _open_end(row: ChatRow) -> list[str]:
    last = row.messages[-1].role
    return [] if last == "assistant" else [last]


def _weighs_others(row: ChatRow) -> bool:
    return any(message.weight == 1 and message.role != "assistant" for message in row.messages)


def _has_nul(row: ChatRow) -> bool:
    return any("\0" in message.content for message in row.messages)


def _service_tokens(row: ChatRow) -> list[str]:
    return [token for message in row.messages for token in SERVICE_TOKENS.findall(message.content)]


def _marks(row: ChatRow) -> list[str]:
    found = [mark for message in row.messages for mark in TEMPLATE_MARKS.findall(message.content)]
    return [mark for mark in found if not SERVICE_TOKENS.fullmatch(mark)]


def _thoughts(row: ChatRow) -> list[str]:
    return [
        name
        for message in row.messages
        for name, value in (message.model_extra or {}).items()
        if is_thought(name, value, message.role) and not is_empty(value)
    ]


def _ignored_fields(row: ChatRow, harmless: bool) -> list[str]:
    """Names of fields that nothing here reads, either the harmless ones or the others."""
    contents = [message.content for message in row.messages]
    thoughts = _thoughts(row)
    return [
        name
        for fields in (row.model_extra, *(message.model_extra for message in row.messages))
        for name, value in (fields or {}).items()
        if name not in thoughts
        and (is_empty(value) or is_harmless(name) or is_copy(value, contents)) is harmless
    ]


_ALL: dict[Consumer, Level] = {"check": "error", "local": "error", "hosted": "error"}
_ODD: dict[Consumer, Level] = {"check": "warning", "local": "warning", "hosted": "warning"}

RULES = (
    Rule(
        "empty",
        "an assistant turn without words",
        "has an empty assistant turn",
        _when(_has_empty_answer),
        _ALL,
    ),
    Rule(
        "weights",
        "no turn is trained: every weight is 0",
        "has no assistant turn with a weight above 0",
        _when(_is_untrained),
        _ALL,
    ),
    Rule(
        "roles",
        "a system message that is not the first message",
        "has a system message after the first place",
        _when(_has_late_system),
        _ALL,
    ),
    Rule(
        "roles",
        "the last turns are never trained: no answer follows",
        "ends with the {}, not with the assistant",
        _open_end,
        {**_ODD, "hosted": "error"},
    ),
    Rule("roles", "no user message", "has no user message", _when(_has_no_user), _ODD),
    Rule(
        "roles",
        "two turns of one role in a row",
        "has two turns of one role in a row",
        _when(_has_repeated_role),
        _ODD,
    ),
    Rule(
        "empty",
        "a user's turn without words",
        "has an empty user's turn",
        _when(_has_empty_request),
        _ODD,
    ),
    Rule(
        "weights",
        "a weight of 1 on a turn that is not the assistant's, which is never trained",
        "has a weight of 1 on a turn that is not the assistant's",
        _when(_weighs_others),
        _ODD,
    ),
    Rule(
        "template",
        "marks of a chat template inside a message: special tokens, at which services refuse a "
        "file; local training reads them as words",
        "has special tokens in its words, which services refuse: {}",
        _service_tokens,
        {**_ODD, "hosted": "error"},
    ),
    Rule(
        "template",
        "marks of a chat template inside a message",
        "has marks of a chat template inside a message",
        _marks,
        _ODD,
    ),
    Rule(
        "characters",
        "a NUL character inside a message",
        "has a NUL character inside a message",
        _when(_has_nul),
        _ODD,
    ),
    Rule(
        "fields",
        "thoughts, which services do not take, and which are trained here where the chat template "
        "has a place for them",
        "has {}, which the service would not train",
        _thoughts,
        {"check": "warning", "hosted": "error"},
    ),
    Rule(
        "fields",
        "fields that training ignores, and that are not known here to be harmless",
        "has fields that training ignores",
        lambda row: _ignored_fields(row, harmless=False),
        _ODD,
    ),
    Rule(
        "fields",
        "fields that training ignores",
        "has fields that training ignores",
        lambda row: _ignored_fields(row, harmless=True),
        {"check": "note"},
    ),
)
