"""Seeds as they are typed."""

from __future__ import annotations

from em_inspect.errors import UserError

MOST = 1000


def parse_seeds(text: str) -> list[int]:
    """Read seeds: `3`, `0-5` (both ends included), or several of these with commas.

    Raises:
        UserError: The text is none of these, or names more than 1,000.
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"--seeds {text}: use 3, 0-5 or 0,2,4")
        span = range(int(first), int(last or first) + 1)
        if not span:
            raise UserError(f"--seeds {text}: {part.strip()} runs backwards, use 0-5")
        if len(seeds) + len(span) > MOST:
            raise UserError(f"--seeds {text}: that is more than {MOST} seeds")
        seeds += span
    return list(dict.fromkeys(seeds))
