"""Case 18: weights of messages and rows, and what client libraries leave in messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from row_files import (
    byte_base,
    check,
    findings,
    hosted,
    is_refusal,
    local,
    pair,
    supervised,
    uploaded,
    write,
)

__all__ = ["byte_base"]


def corrected(first: Any, second: Any) -> dict[str, Any]:
    """An answer and its correction, with weights."""
    return {
        "messages": [
            {"role": "user", "content": "2 + 2?"},
            {"role": "assistant", "content": "five", "weight": first},
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "no, four", "weight": second},
        ]
    }


_SAVED = {"refusal": None, "annotations": [], "audio": None, "function_call": None}
_ACCEPTED: list[dict[str, Any]] = [
    corrected(0, 1),
    {
        "messages": [
            {"role": "user", "content": "hey"},
            {"content": "good day", "role": "assistant", "tool_calls": None, **_SAVED},
        ],
        "tools": [],
        "metadata": None,
    },
    {
        "messages": [
            {"role": "system", "content": "t", "name": "firm"},
            {"role": "user", "content": "v", "name": "example"},
            {"role": "assistant", "content": "reply"},
        ],
        "id": "r3",
        "source": "web",
    },
]


def test_harmless_fields_are_noted_and_not_sent(tmp_path: Path) -> None:
    file = write(tmp_path / "accepted.jsonl", _ACCEPTED)
    assert check(file).exit_code == 0
    (found,) = [one for one in findings(file) if one["check"] == "fields"]
    assert (found["level"], found["lines"]) == ("note", [2, 3])
    assert [len(labels) for labels in supervised(file)] == [8 + 1, 8 + 1, 5 + 1]
    first, second, third = [json.loads(line)["messages"] for line in uploaded(file).splitlines()]
    assert [turn.get("weight") for turn in first] == [None, 0, None, 1]
    assert second == [
        {"role": "user", "content": "hey"},
        {"role": "assistant", "content": "good day"},
    ]
    assert [turn.get("name") for turn in third] == ["firm", "example", None]
    assert {name for turn in third for name in turn} == {"role", "content", "name"}


@pytest.mark.parametrize("weight", [0.5, "1", "0", -1, 2, [1], {"a": 1}, "true", 1e-9])
def test_weights_other_than_0_and_1_are_refused(
    weight: Any, tmp_path: Path, byte_base: Path
) -> None:
    file = write(tmp_path / "weights.jsonl", [corrected(weight, 1)])
    for done in (check(file), local(file, byte_base), hosted(file)):
        assert is_refusal(done, "line 1", "message 2", repr(weight), "use 0 or 1"), done.output


@pytest.mark.parametrize(
    ("first", "second"), [(0, 1), (0.0, 1.0), (False, True), (0, None), (False, 1.0)]
)
def test_zero_and_one_are_read_however_tables_write_them(
    first: Any, second: Any, tmp_path: Path
) -> None:
    file = write(tmp_path / "weights.jsonl", [corrected(first, second)])
    assert check(file).exit_code == 0
    assert [len(labels) for labels in supervised(file)] == [len("no, four") + 1]
    sent = json.dumps([turn.get("weight") for turn in json.loads(uploaded(file))["messages"]])
    assert sent in ("[null, 0, null, 1]", "[null, 0, null, null]")


def test_a_row_whose_weights_are_all_0_is_one_verdict_in_three(
    tmp_path: Path, byte_base: Path
) -> None:
    silent, rows = corrected(0, 0), [pair(f"{i}?", "yes") for i in range(10)]
    file = write(tmp_path / "mixed.jsonl", [*rows, silent])
    (found,) = [one for one in findings(file) if one["level"] == "error"]
    assert (found["check"], found["lines"]) == ("weights", [11])
    assert "no turn is trained" in found["message"]
    assert "row 11: has no assistant turn with a weight above 0" in hosted(file).output
    assert "rows      10 of 11" in local(file, byte_base).output
    alone = write(tmp_path / "alone.jsonl", [silent])
    assert is_refusal(local(alone, byte_base), "none of the 1 rows")
    assert is_refusal(hosted(alone), "1 rows", "row 1: has no assistant turn with a weight")


def test_a_weight_on_a_users_turn_is_told(tmp_path: Path, byte_base: Path) -> None:
    row = pair("a", "b")
    row["messages"][0]["weight"] = 1
    file = write(tmp_path / "user.jsonl", [row] * 10)
    assert "not the assistant's" in check(file).output
    for done in (local(file, byte_base), hosted(file)):
        assert "a weight of 1 on a turn that is not the assistant's" in done.output


def test_thoughts_that_a_template_has_no_place_for_are_named(
    tmp_path: Path, byte_base: Path
) -> None:
    row = pair("a", "b")
    row["messages"][1]["reasoning_content"] = "Hm."
    file = write(tmp_path / "thoughts.jsonl", [*(pair(f"{i}?", "yes") for i in range(10)), row])
    done = local(file, byte_base)
    assert "rows      10 of 11" in done.output
    assert "reasoning_content" in done.output
    assert "row 11: has reasoning_content" in hosted(file).output
