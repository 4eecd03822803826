"""Case 16: training sets in the shapes of other tools, refused with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from row_files import byte_base, chat, check, findings, hosted, is_refusal, local, pair, write

__all__ = ["byte_base"]

_CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
_TOOL_CALL = {
    "messages": [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": None, "tool_calls": [_CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "It is 42."},
    ]
}

_ROWS: list[tuple[dict[str, Any], list[str]]] = [
    ({"prompt": "a", "text": "b"}, ["messages is missing", "prompt as the user's"]),
    ({"prompt": "a", "completion": "b"}, ["messages is missing", "completion as the assist"]),
    ({"prompt": "a", "chosen": "b", "rejected": "c"}, ["messages is missing", "preference pair"]),
    (
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        ["messages is missing", "ShareGPT", "user for human"],
    ),
    ({"instruction": "a", "input": "", "output": "b"}, ["messages is missing", "Alpaca"]),
    ({"contents": [{"role": "user", "parts": [{"text": "a"}]}]}, ["messages is missing", "Gem"]),
    ({"user": "a", "assistant": "b"}, ["messages is missing", "user as the user's message"]),
    ({"question": "a", "answer": "b"}, ["messages is missing", "question as the user's"]),
    ({"text": "all of it"}, ["messages is missing", "plain text"]),
    (chat(("user", "a question alone")), ["no assistant turn"]),
    (_TOOL_CALL, ["tool calls (tool_calls)"]),
    (chat(("developer", "d"), ("user", "a"), ("assistant", "b")), ["message 1", "'developer'"]),
    ({"messages": [{"from": "human", "value": "a"}]}, ["message 1 role is missing"]),
    ({"messages": {"role": "user", "content": "a"}}, ["messages is an object, not a list"]),
    (pair("a", "b", rejected_messages=[{"role": "user", "content": "c"}]), ["preference pair"]),
]


@pytest.mark.parametrize(("row", "words"), _ROWS)
def test_a_foreign_row_is_refused_by_all_three(
    row: dict[str, Any], words: list[str], tmp_path: Path, byte_base: Path
) -> None:
    file = write(tmp_path / "foreign.jsonl", [row, row])
    for done in (check(file), local(file, byte_base), hosted(file)):
        assert is_refusal(done, str(file), "line 1", *words), done.output


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("array", [True, False])
def test_arrays_and_rows_over_several_lines_are_refused(
    indent: int | None, array: bool, tmp_path: Path, byte_base: Path
) -> None:
    if not array and indent is None:
        return
    rows = [pair("a", "b"), pair("c", "d")]
    text = [json.dumps(rows, indent=indent)] if array else [json.dumps(r, indent=2) for r in rows]
    file = tmp_path / "rows.json"
    file.write_text("\n".join(text), encoding="utf-8")
    for done in (check(file), local(file, byte_base), hosted(file)):
        assert is_refusal(done, "line 1", "jq -c"), done.output


def test_a_late_system_message_is_one_verdict_in_three(tmp_path: Path, byte_base: Path) -> None:
    late = chat(("user", "a"), ("system", "be rude"), ("assistant", "b"))
    file = write(tmp_path / "late.jsonl", [late, late, *(pair(f"{i}?", "no") for i in range(10))])
    (found,) = [one for one in findings(file) if one["level"] == "error"]
    assert found["lines"] == [1, 2]
    assert "system message that is not the first" in found["message"]
    done = hosted(file)
    assert done.exit_code == 1
    assert "row 1: has a system message after the first place; row 2: has a sys" in done.output
    done = local(file, byte_base)
    assert "rows      10 of 12" in done.output
    assert "row 2: has a system message after the first place" in done.output
    alone = write(tmp_path / "alone.jsonl", [late, late])
    assert is_refusal(hosted(alone), "2 rows", "row 1: has a system", "row 2: has a system")
    assert is_refusal(local(alone, byte_base), "none of the 2 rows", "system message")
