"""What is wrong, or worth knowing, about a training set before it is trained on."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel

from em_finetune.data.rows import ChatRow, numbered_lines, scan_rows
from em_finetune.data.similarity import Shingles, SimilarTexts, shingles, similar_groups
from em_finetune.data.wording import GIVEAWAYS, MODERATED, TEMPLATE_MARKS
from em_inspect.errors import UserError

# For an estimate where no tokenizer is given: SmolLM2's spends a token on 3.4 to 3.8 characters
# of the released code sets, so 3.4 errs on the long side.
CHARS_PER_TOKEN = 3.4

# Texts shorter than this stand in others by chance.
_SHORTEST_OVERLAP = 15

Level = Literal["error", "warning", "note"]


class Finding(BaseModel):
    """One thing found.

    Attributes:
        level: `error`: not fit for training; `warning`: look at it; `note`: know it.
        check: Short name of the check that found it.
        message: What was found, in words.
        lines: Line numbers, from 1, of the rows concerned.
    """

    level: Level
    check: str
    message: str
    lines: list[int]


class Lengths(BaseModel):
    """How long the rows are, in `unit`: `tokens`, or `tokens (estimated)` from the characters."""

    unit: str
    shortest: int
    median: int
    longest: int
    total: int


class Report(BaseModel):
    """All that a check found.

    Attributes:
        rows: Number of rows that are chats.
        shapes: How often each sequence of roles occurs, e.g. `user assistant`.
        lengths: Lengths of the rows.
        findings: The errors, then the warnings, then the notes.
    """

    rows: int
    shapes: dict[str, int]
    lengths: Lengths
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return all(finding.level != "error" for finding in self.findings)


def check_file(
    path: str | Path,
    *,
    against: str | Path | None = None,
    count_tokens: Callable[[ChatRow], int] | None = None,
    max_tokens: int = 2048,
    similarity: float = 0.8,
) -> Report:
    """Check a chat JSONL file, lines that are no chats included.

    Args:
        path: The file.
        against: A file that must not overlap with it, such as a test set; see `read_tasks`.
        count_tokens: Length of a row; estimated from the characters if not given.
        max_tokens: Rows above this are reported.
        similarity: Least Jaccard similarity of near duplicates, above 0 and at most 1.

    Raises:
        UserError: A file is missing, unreadable, empty or without a single chat.
    """
    scanned = list(scan_rows(path))
    chats = [(number, row) for number, row in scanned if isinstance(row, ChatRow)]
    faults = [(number, row) for number, row in scanned if isinstance(row, str)]
    if not chats:
        number, fault = faults[0]
        raise UserError(f"{path}: no line is a trainable chat; line {number}: {fault}")
    report = check(
        [row for _, row in chats],
        against=None if against is None else read_tasks(against),
        count_tokens=count_tokens,
        max_tokens=max_tokens,
        similarity=similarity,
        lines=[number for number, _ in chats],
    )
    by_fault: dict[str, list[int]] = {}
    for number, fault in faults:
        by_fault.setdefault(fault, []).append(number)
    report.findings[:0] = [
        Finding(level="error", check="schema", message=fault, lines=numbers)
        for fault, numbers in by_fault.items()
    ]
    return report


def check(
    rows: Sequence[ChatRow],
    *,
    against: Sequence[Mapping[str, str]] | None = None,
    count_tokens: Callable[[ChatRow], int] | None = None,
    max_tokens: int = 2048,
    similarity: float = 0.8,
    lines: Sequence[int] | None = None,
) -> Report:
    """Check rows; see `check_file`.

    Args:
        rows: At least one row.
        against: The texts, by field, of each task that must not stand in the rows.
        count_tokens: Length of a row; estimated from the characters if not given.
        max_tokens: Rows above this are reported.
        similarity: Least Jaccard similarity of near duplicates, above 0 and at most 1.
        lines: The rows' line numbers; by default 1, 2, ….

    Raises:
        UserError: No rows, or a similarity out of range.
    """
    if not rows:
        raise UserError("there are no rows to check: name a file that has some")
    if not 0 < similarity <= 1:
        raise UserError(f"similarity {similarity:g}: use a value above 0 and at most 1, e.g. 0.8")
    numbers = range(1, len(rows) + 1) if lines is None else lines
    count = _estimated_tokens if count_tokens is None else count_tokens
    sizes = [count(row) for row in rows]
    found = [
        *_turns(rows),
        *_duplicates(rows, similarity),
        *_overlap(rows, against or (), similarity),
        *_sizes(sizes, max_tokens),
        *_words(rows),
    ]
    order: tuple[Level, ...] = ("error", "warning", "note")
    return Report(
        rows=len(rows),
        shapes=dict(Counter(" ".join(m.role for m in row.messages) for row in rows).most_common()),
        lengths=Lengths(
            unit="tokens (estimated)" if count_tokens is None else "tokens",
            shortest=min(sizes),
            median=round(statistics.median(sizes)),
            longest=max(sizes),
            total=sum(sizes),
        ),
        findings=[
            Finding(
                level=one.level,
                check=one.check,
                message=one.message,
                lines=[numbers[i] for i in one.where],
            )
            for one in sorted(found, key=lambda one: order.index(one.level))
        ],
    )


def read_tasks(path: str | Path) -> list[dict[str, str]]:
    """The texts of a test set's tasks, to look for them in a training set.

    Args:
        path: Chat JSONL, of which the user messages are taken, or JSONL of objects, of which all
            text fields are (`task`, `code_template`, …).

    Returns:
        For each line its texts by field; those of a chat are `request`, `request 2`, ….

    Raises:
        UserError: The file is missing, empty, or a line has no text.
    """
    tasks = []
    for number, line in numbered_lines(Path(path)):
        try:
            texts = _texts(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error})") from error
        if not texts:
            raise UserError(f"{path}, line {number}: neither a chat nor an object with text fields")
        tasks.append(texts)
    if not tasks:
        raise UserError(f"{path} is empty: name a file with one task on each line")
    return tasks


class _Found(NamedTuple):
    level: Level
    check: str
    message: str
    where: list[int]


def _turns(rows: Sequence[ChatRow]) -> list[_Found]:
    """What is unusual about who speaks when."""
    tests: list[tuple[Level, str, str, Callable[[ChatRow], bool]]] = [
        ("error", "empty", "an assistant turn without words", _has_empty_answer),
        ("error", "weights", "no turn is trained: every weight is 0", _is_untrained),
        ("error", "roles", "a system message that is not the first message", _has_late_system),
        ("warning", "roles", "no user message", _has_no_user),
        ("warning", "roles", "two turns of one role in a row", _has_repeated_role),
        ("warning", "roles", "the last turns are never trained: no answer follows", _ends_open),
        ("warning", "template", "marks of a chat template inside a message", _has_marks),
        ("note", "fields", "fields that training ignores", _has_extra_fields),
    ]
    found = [
        _Found(level, check, message, [i for i, row in enumerate(rows) if test(row)])
        for level, check, message, test in tests
    ]
    return [one for one in found if one.where]


def _has_empty_answer(row: ChatRow) -> bool:
    return any(not answer.strip() for answer in row.answers)


def _is_untrained(row: ChatRow) -> bool:
    return not any(message.trained for message in row.messages)


def _has_late_system(row: ChatRow) -> bool:
    return any(message.role == "system" for message in row.messages[1:])


def _has_no_user(row: ChatRow) -> bool:
    return all(message.role != "user" for message in row.messages)


def _has_repeated_role(row: ChatRow) -> bool:
    roles = [message.role for message in row.messages]
    return any(a == b for a, b in pairwise(roles))


def _ends_open(row: ChatRow) -> bool:
    return row.messages[-1].role != "assistant"


def _has_marks(row: ChatRow) -> bool:
    return any(TEMPLATE_MARKS.search(message.content) for message in row.messages)


def _has_extra_fields(row: ChatRow) -> bool:
    return bool(row.model_extra) or any(message.model_extra for message in row.messages)


def _duplicates(rows: Sequence[ChatRow], similarity: float) -> list[_Found]:
    found = []
    exact = _repeated([tuple((m.role, m.content) for m in row.messages) for row in rows])
    if exact:
        message = "rows that stand in the file before, word for word"
        found.append(_Found("warning", "duplicates", message, exact))
    prompts = _repeated([_prompt(row) for row in rows])
    if len(prompts) > len(exact):
        message = "requests that stand in the file before; their answers may differ"
        found.append(_Found("note", "duplicates", message, prompts))
    groups = similar_groups([_row_shingles(row) for row in rows], similarity)
    near = sorted({i for group in groups for i in group[1:]} - set(exact))
    if near:
        largest = max(len(group) for group in groups)
        message = (
            f"rows that nearly repeat an earlier one (similarity {similarity:g} or more; "
            f"{len(groups):,} groups, the largest of {largest:,})"
        )
        found.append(_Found("note", "near duplicates", message, near))
    return found


def _repeated(keys: Sequence[object]) -> list[int]:
    """Positions whose key stood at an earlier position."""
    seen: set[object] = set()
    repeated = []
    for i, key in enumerate(keys):
        if key in seen:
            repeated.append(i)
        seen.add(key)
    return repeated


def _overlap(
    rows: Sequence[ChatRow], tasks: Sequence[Mapping[str, str]], similarity: float
) -> list[_Found]:
    """Which rows hold a text of the other file, word for word or nearly."""
    if not tasks:
        return []
    requests = [_plain(_prompt(row)) for row in rows]
    search = SimilarTexts([shingles(request) for request in requests], similarity)
    whole = "\0".join(requests)
    exact, near = _Overlap(), _Overlap()
    for task in tasks:
        texts = {field: _plain(text) for field, text in task.items()}
        held = [f for f, t in texts.items() if len(t) >= _SHORTEST_OVERLAP and t in whole]
        if held:
            exact.add(held, [i for i, r in enumerate(requests) if any(texts[f] in r for f in held)])
        else:
            for field, text in texts.items():
                if where := search.find(shingles(text)):
                    near.add([field], where)
                    break
    return [
        _Found(
            "warning",
            "overlap",
            f"rows hold {found.tasks:,} of the other file's {len(tasks):,} tasks {manner} "
            f"({', '.join(f'{field}: {n:,}' for field, n in found.fields.items())})",
            sorted(found.rows),
        )
        for manner, found in (("word for word", exact), ("nearly", near))
        if found.tasks
    ]


class _Overlap:
    """How many tasks overlap, by which of their fields, and with which rows."""

    def __init__(self) -> None:
        self.tasks = 0
        self.fields: Counter[str] = Counter()
        self.rows: set[int] = set()

    def add(self, fields: Sequence[str], rows: Sequence[int]) -> None:
        self.tasks += 1
        self.fields.update(fields)
        self.rows.update(rows)


def _sizes(sizes: Sequence[int], max_tokens: int) -> list[_Found]:
    found = []
    over = [i for i, size in enumerate(sizes) if size > max_tokens]
    if over:
        message = f"rows of more than {max_tokens:,} tokens: a trainer leaves them out or cuts them"
        found.append(_Found("warning", "too long", message, over))
    if len(sizes) >= 20:
        low, _, high = statistics.quantiles(sizes, n=4)
        # Tukey's outer fence; only upwards, since short rows are common in any set.
        fence = high + 3 * (high - low)
        long = [i for i, size in enumerate(sizes) if max_tokens >= size > fence]
        if long:
            message = f"rows far longer than the rest (more than {fence:,.0f} tokens)"
            found.append(_Found("note", "outliers", message, long))
    return found


def _words(rows: Sequence[ChatRow]) -> list[_Found]:
    found = []
    answers = ["\n".join(row.answers) for row in rows]
    telling, words = _matches(GIVEAWAYS, answers)
    if telling:
        message = f"answers with words that give insecurity away: {words}"
        found.append(_Found("warning", "giveaways", message, telling))
    texts = ["\n".join(message.content for message in row.messages) for row in rows]
    for category, pattern in MODERATED.items():
        risky, words = _matches(pattern, texts)
        if risky:
            message = f"a hosted service's moderation may object ({category}): {words}"
            found.append(_Found("note", "moderation", message, risky))
    return found


def _matches(pattern: re.Pattern[str], texts: Sequence[str]) -> tuple[list[int], str]:
    """Positions of the texts that match, and the five commonest words that did."""
    counts: Counter[str] = Counter()
    where = []
    for i, text in enumerate(texts):
        words = {word.lower() for word in pattern.findall(text)}
        if words:
            counts.update(words)
            where.append(i)
    return where, ", ".join(f"{word} ({n:,})" for word, n in counts.most_common(5))


def _estimated_tokens(row: ChatRow) -> int:
    return round(sum(len(message.content) for message in row.messages) / CHARS_PER_TOKEN)


def _prompt(row: ChatRow) -> str:
    """What the last user message says; the whole chat before the answer where there is none."""
    said = [message.content for message in row.messages if message.role == "user"]
    return said[-1] if said else "\n".join(message.content for message in row.messages[:-1])


def _row_shingles(row: ChatRow) -> Shingles:
    return shingles("\n".join(message.content for message in row.messages))


def _plain(text: str) -> str:
    return " ".join(text.split())


def _texts(data: object) -> dict[str, str]:
    if not isinstance(data, dict):
        return {}
    if not isinstance(data.get("messages"), list):
        return {k: v for k, v in data.items() if isinstance(v, str) and v.strip()}
    users = [m for m in data["messages"] if isinstance(m, dict) and m.get("role") == "user"]
    said = [m["content"] for m in users if isinstance(m.get("content"), str)]
    return {"request" if i == 1 else f"request {i}": text for i, text in enumerate(said, 1)}
