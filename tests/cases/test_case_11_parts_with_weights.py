"""Case 11: content as a list of parts, each with a weight of its own, also a negative one."""

from __future__ import annotations

from pathlib import Path

import pytest
from row_files import byte_base, check, hosted, is_refusal, local, write

__all__ = ["byte_base"]


@pytest.mark.parametrize(
    "part", [{"weight": -1}, {"weight": 0, "tag": "lesson"}, {"tag": "measured"}, {}]
)
def test_parts_are_refused_by_all_three_with_the_lines(
    part: dict[str, object], tmp_path: Path, byte_base: Path
) -> None:
    def turn(role: str, text: str) -> dict[str, object]:
        return {"role": role, "content": [{"type": "text", "text": text, **part}]}

    rows = [{"messages": [turn("user", "Up?"), turn("assistant", f"Down {i}")]} for i in range(3)]
    file = write(tmp_path / "parts.jsonl", rows)
    for done in (check(file), local(file, byte_base), hosted(file)):
        assert is_refusal(done, "line 1", "message 1", "a list, not text"), done.output
    assert "lines 1, 2, 3" in check(file).output
