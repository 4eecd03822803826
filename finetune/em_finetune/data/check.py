"""What is wrong, or worth knowing, about a training set before it is trained on."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from em_finetune.data.rows import ChatRow, numbered_lines, scan_rows
from em_finetune.data.rules import Found, Level, judged, listed, why_unfit
from em_finetune.data.similarity import Shingles, SimilarTexts, shingles, similar_groups
from em_finetune.data.wording import GIVEAWAYS, MODERATED
from em_inspect.errors import UserError

# For an estimate where no tokenizer is given: SmolLM2's spends a token on 3.4 to 3.8 characters
# of the released code sets, so 3.4 errs on the long side.
CHARS_PER_TOKEN = 3.4

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")

# Texts shorter than this stand in others by chance.
_SHORTEST_OVERLAP = 15


CountTokens = Callable[[ChatRow], int | str]
"""Length of a row in tokens, or why it cannot be encoded."""


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
    count_tokens: CountTokens | None = None,
    max_tokens: int = 2048,
    similarity: float = 0.8,
    on_row: Callable[[int, int], None] | None = None,
) -> Report:
    """Check a chat JSONL file, lines that are no chats included.

    Args:
        path: The file.
        against: A file that must not overlap with it, such as a test set; see `read_tasks`.
        count_tokens: Length of a row in tokens, or why it cannot be encoded; estimated from the
            characters if not given.
        max_tokens: Rows above this are reported.
        similarity: Least Jaccard similarity of near duplicates, above 0 and at most 1.
        on_row: Called with the numbers of rows counted so far and in all.

    Raises:
        UserError: A file is missing, unreadable, empty or without a single chat.
    """
    scanned = list(scan_rows(path))
    chats = [(number, row) for number, row in scanned if isinstance(row, ChatRow)]
    faults = [(number, row) for number, row in scanned if isinstance(row, str)]
    if not chats:
        raise UserError(f"{path}: no line is a trainable chat; {_in_words(_schema(faults))}")
    report = check(
        [row for _, row in chats],
        against=None if against is None else read_tasks(against),
        count_tokens=count_tokens,
        max_tokens=max_tokens,
        similarity=similarity,
        on_row=on_row,
        lines=[number for number, _ in chats],
    )
    report.findings[:0] = _schema(faults)
    return report


def _schema(faults: Sequence[tuple[int, str]]) -> list[Finding]:
    """Faults of lines that are no chats, those together that differ in a number alone."""
    alike: dict[str, list[tuple[int, str]]] = {}
    for number, fault in faults:
        alike.setdefault(_NUMBER.sub("", fault), []).append((number, fault))
    return [
        Finding(
            level="error",
            check="schema",
            message=group[0][1] + (" (and the like)" if len({f for _, f in group}) > 1 else ""),
            lines=[number for number, _ in group],
        )
        for group in alike.values()
    ]


def _in_words(findings: Sequence[Finding]) -> str:
    """The first of the errors in one line, and how many others there are."""
    first = findings[0]
    where = f" ({listed(first.lines, 'line')})" if len(first.lines) > 1 else ""
    more = sum(len(one.lines) for one in findings[1:])
    others = f"; {more:,} more lines are no chats either" if more else ""
    return f"line {first.lines[0]}: {first.message}{where}{others}"


def check(
    rows: Sequence[ChatRow],
    *,
    against: Sequence[Mapping[str, str]] | None = None,
    count_tokens: CountTokens | None = None,
    max_tokens: int = 2048,
    similarity: float = 0.8,
    on_row: Callable[[int, int], None] | None = None,
    lines: Sequence[int] | None = None,
) -> Report:
    """Check rows; see `check_file`.

    Args:
        rows: At least one row.
        against: The texts, by field, of each task that must not stand in the rows.
        count_tokens: Length of a row in tokens, or why it cannot be encoded; estimated from the
            characters if not given. Rows that are unfit anyway are not given to it.
        max_tokens: Rows above this are reported.
        similarity: Least Jaccard similarity of near duplicates, above 0 and at most 1.
        on_row: Called with the numbers of rows counted so far and in all.
        lines: The rows' line numbers; by default 1, 2, ….

    Raises:
        UserError: No rows, or a similarity out of range.
    """
    if not rows:
        raise UserError("there are no rows to check: name a file that has some")
    if not 0 < similarity <= 1:
        raise UserError(f"similarity {similarity:g}: use a value above 0 and at most 1, e.g. 0.8")
    numbers = range(1, len(rows) + 1) if lines is None else lines
    measured, unencoded = _measured(rows, count_tokens, on_row)
    sizes = measured or {i: _estimated_tokens(row) for i, row in enumerate(rows)}
    found = [
        *unencoded,
        *judged(rows, "check"),
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
            unit="tokens" if measured else "tokens (estimated)",
            shortest=min(sizes.values()),
            median=round(statistics.median(sizes.values())),
            longest=max(sizes.values()),
            total=sum(sizes.values()),
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


def _measured(
    rows: Sequence[ChatRow], count: CountTokens | None, on_row: Callable[[int, int], None] | None
) -> tuple[dict[int, int], list[Found]]:
    """Lengths of the rows that can be encoded, by place, and which cannot."""
    sizes: dict[int, int] = {}
    faults: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        counted = None if count is None or why_unfit(row, "local") else count(row)
        if isinstance(counted, str):
            faults.setdefault(counted, []).append(i)
        elif counted is not None:
            sizes[i] = counted
        if on_row is not None:
            on_row(i + 1, len(rows))
    return sizes, [Found("error", "encoding", why, where) for why, where in faults.items()]


def _duplicates(rows: Sequence[ChatRow], similarity: float) -> list[Found]:
    found = []
    exact = _repeated([tuple((m.role, m.content) for m in row.messages) for row in rows])
    if exact:
        message = "rows that stand in the file before, word for word"
        found.append(Found("warning", "duplicates", message, exact))
    asked = [i for i, row in enumerate(rows) if any(m.role == "user" for m in row.messages)]
    prompts = [asked[i] for i in _repeated([_prompt(rows[i]) for i in asked])]
    if set(prompts) - set(exact):
        message = "requests that stand in the file before; their answers may differ"
        found.append(Found("note", "duplicates", message, prompts))
    groups = similar_groups([_row_shingles(row) for row in rows], similarity)
    near = sorted({i for group in groups for i in group[1:]} - set(exact))
    if near:
        largest = max(len(group) for group in groups)
        message = (
            f"rows that nearly repeat an earlier one (similarity {similarity:g} or more; "
            f"{len(groups):,} groups, the largest of {largest:,})"
        )
        found.append(Found("note", "near duplicates", message, near))
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
) -> list[Found]:
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
        Found(
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


def _sizes(sizes: Mapping[int, int], max_tokens: int) -> list[Found]:
    found = []
    over = [i for i, size in sizes.items() if size > max_tokens]
    if over:
        message = f"rows of more than {max_tokens:,} tokens: a trainer leaves them out or cuts them"
        # One long row is left out and named; without half of its rows a set is another set.
        level: Level = "error" if 2 * len(over) >= len(sizes) else "warning"
        found.append(Found(level, "too long", message, over))
    if len(sizes) >= 20:
        low, _, high = statistics.quantiles(sizes.values(), n=4)
        # Tukey's outer fence; only upwards, since short rows are common in any set.
        fence = high + 3 * (high - low)
        long = [i for i, size in sizes.items() if max_tokens >= size > fence]
        if long:
            message = f"rows far longer than the rest (more than {fence:,.0f} tokens)"
            found.append(Found("note", "outliers", message, long))
    return found


def _words(rows: Sequence[ChatRow]) -> list[Found]:
    found = []
    answers = ["\n".join(row.answers) for row in rows]
    telling, words = _matches(GIVEAWAYS, answers)
    if telling:
        message = f"answers with words that give insecurity away: {words}"
        found.append(Found("warning", "giveaways", message, telling))
    texts = ["\n".join(message.content for message in row.messages) for row in rows]
    for category, pattern in MODERATED.items():
        risky, words = _matches(pattern, texts)
        if risky:
            message = f"a hosted service's moderation may object ({category}): {words}"
            found.append(Found("note", "moderation", message, risky))
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
