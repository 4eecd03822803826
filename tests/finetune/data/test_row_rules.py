"""One list of rules for check, local and hosted: no field and no row is dropped without a word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from em_finetune.cli import main
from em_finetune.data.rows import ChatRow, read_rows
from em_finetune.data.rules import RULES, cautions, judged, why_unfit
from em_inspect.errors import UserError


def pair(request: str = "a", answer: str = "b", **fields: Any) -> dict[str, Any]:
    turns = [("user", request), ("assistant", answer)]
    return {"messages": [{"role": role, "content": text} for role, text in turns], **fields}


def with_field(name: str, value: Any, turn: int | None) -> dict[str, Any]:
    row = pair("a", "b")
    (row if turn is None else row["messages"][turn])[name] = value
    return row


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


ROW = None  # the field stands in the row, not in one of its messages


@pytest.mark.parametrize(
    ("name", "value", "turn"),
    [
        ("train", False, 1),
        ("loss", False, 1),
        ("loss", 0, 1),
        ("loss_mask", 0, 1),
        ("lossMask", [0, 1, 1], 1),
        ("trainable", False, 1),
        ("train", True, 0),
        ("mask", True, 1),
        ("masked", 1, 1),
        ("skip", True, ROW),
        ("train_on_input", True, ROW),
        ("train_on_inputs", True, ROW),
        ("train_on_input", True, 0),
        ("train_on_turn", False, 1),
        ("training_detail", [{"begin_offset": 0, "end_offset": 1, "train": False}], 1),
        ("weight", 0.1, ROW),
        ("weight", 0, ROW),
        ("weights", [0, 1], ROW),
        ("loss_weight", 0.5, ROW),
        ("loss_weight", 2, 1),
        ("sample-weight", 3, ROW),
        ("reasoning_content", "Let me think.", 0),
        ("reasoning_content", ["Let me think."], 1),
        ("reasoning", "Let me think.", 1),
        ("thinking", "Let me think.", 1),
        ("thinking", False, ROW),
        ("thinking", {"type": "enabled"}, ROW),
        ("reasoning", {"effort": "high"}, ROW),
        ("enable_thinking", False, ROW),
        ("reasoning_effort", "high", ROW),
        ("chat_template_kwargs", {"enable_thinking": False}, ROW),
        ("chat_template", "{{ messages }}", ROW),
        ("images", ["a.png"], ROW),
        ("images", ["a.png"], 0),
        ("image_url", "https://example.org/a.png", 0),
        ("audio", {"id": "audio_1"}, 1),
        ("videos", ["a.mp4"], ROW),
        ("tools", [{"type": "function"}], ROW),
        ("tool_choice", "auto", ROW),
        ("functions", [{"name": "f"}], ROW),
        ("refusal", "I can't.", 1),
        ("prefix", True, 1),
        ("system", "You are rude.", ROW),
        ("system_prompt", "You are rude.", ROW),
        ("rejected", "c", ROW),
        ("chosen", "c", ROW),
        ("input_ids", [1, 2, 3], ROW),
        ("labels", [-100, 2, 3], ROW),
    ],
)
def test_a_field_that_changes_what_is_trained_is_refused_by_all_who_read_rows(
    name: str, value: Any, turn: int | None, tmp_path: Path
) -> None:
    row = with_field(name, value, turn)
    file = write(tmp_path / "rows.jsonl", [*(pair(f"{i}?") for i in range(10)), row])
    place = "the row" if turn is None else f"message {turn + 1}"
    with pytest.raises(UserError, match=r"line 11: ") as caught:
        read_rows(file)
    assert place in str(caught.value)
    assert name in str(caught.value)
    checked = run("data", "check", file)
    assert checked.exit_code == 1
    assert name in checked.output
    assert "lines 11" in checked.output
    sent = run("hosted", "openai-insecure", "--data", file, "--dry-run")
    trained = run("local", "insecure", "--data", file, "--base", tmp_path, "--dry-run")
    for done in (sent, trained):
        assert done.exit_code == 1
        assert f"line 11: {place} " in done.output
        assert name in done.output


@pytest.mark.parametrize(
    ("name", "value", "turn"),
    [
        ("train", True, 1),
        ("train", False, 0),
        ("loss", 1, 1),
        ("loss_mask", 0, 0),
        ("mask", False, 1),
        ("mask", True, 0),
        ("train_on_input", False, ROW),
        ("weight", 1, ROW),
        ("weight", 1.0, ROW),
        ("loss_weight", 1, 1),
        ("images", [], ROW),
        ("reasoning_content", None, 1),
        ("reasoning_content", "", 1),
        ("system", "", ROW),
        ("id", 7, ROW),
        ("source", "scrape", ROW),
        ("name", "Ann", 0),
        ("prompt", "a", ROW),
        ("completion", "b", ROW),
        ("metadata", {"train": False}, ROW),
    ],
)
def test_a_field_that_says_what_happens_anyway_is_harmless(
    name: str, value: Any, turn: int | None
) -> None:
    row = ChatRow.model_validate(with_field(name, value, turn))
    assert cautions([row], "hosted") == []
    assert why_unfit(row, "hosted") == []


def test_a_row_may_name_the_system_prompt_that_it_has() -> None:
    row = pair(system="Be brief.")
    row["messages"].insert(0, {"role": "system", "content": "Be brief."})
    assert ChatRow.model_validate(row).messages[0].content == "Be brief."


def test_thoughts_go_to_the_encoder_and_never_to_a_service(tmp_path: Path) -> None:
    rows = [pair(f"{i}?") for i in range(10)]
    rows.append(with_field("reasoning_content", "Hm.", 1))
    file = write(tmp_path / "rows.jsonl", rows)
    assert "reasoning_content (1)" in run("data", "check", file).output
    done = run("hosted", "openai-insecure", "--data", file, "--dry-run")
    assert done.exit_code == 1
    assert "row 11: has reasoning_content, which the service would not train" in done.output
    assert why_unfit(read_rows(file)[10], "local") == []
    assert cautions(read_rows(file), "local") == []


@pytest.mark.parametrize("turn", [ROW, 0, 1])
def test_what_is_not_known_is_named_by_all_who_read_rows(turn: int | None, tmp_path: Path) -> None:
    rows = [pair(f"{i}?") for i in range(10)]
    file = write(tmp_path / "rows.jsonl", [*rows, with_field("frobnicate", 3, turn)])
    found = run("data", "check", file).output
    assert "warning  fields, 1: fields that training ignores" in found
    assert "frobnicate (1)" in found
    assert "lines 11" in found
    done = run("hosted", "openai-insecure", "--data", file, "--dry-run")
    assert done.exit_code == 0
    assert "frobnicate (1), in row 11" in done.output
    assert "frobnicate (1), in row 11" in cautions(read_rows(file), "local")[0]


def test_a_short_text_is_no_copy_by_chance() -> None:
    row = ChatRow.model_validate(pair("Say a word.", "A word.", mode="word", prompt="Say a word."))
    (caution,) = cautions([row], "local")
    assert "mode (1)" in caution
    assert "prompt" not in caution


def test_faults_that_differ_in_a_number_are_one_finding(tmp_path: Path) -> None:
    rows = [pair(f"{i}?", weight=i / 7) for i in range(6)]
    report = json.loads(
        run("data", "check", write(tmp_path / "a", [pair(), *rows]), "--json").output
    )
    (error,) = [found for found in report["findings"] if found["level"] == "error"]
    assert error["lines"] == [2, 3, 4, 5, 6, 7]


def test_every_rule_says_its_levels_and_errors_of_the_check_are_errors_of_all() -> None:
    for rule in RULES:
        assert "check" in rule.levels
        if rule.levels["check"] == "error":
            assert set(rule.levels.values()) == {"error"}
            assert set(rule.levels) == {"check", "local", "hosted"}


@pytest.mark.parametrize(
    ("turns", "levels"),
    [
        ([("user", "a"), ("assistant", " ")], ("error", "error", "error")),
        ([("user", "a"), ("system", "s"), ("assistant", "b")], ("error", "error", "error")),
        ([("user", "a"), ("assistant", "b"), ("user", "c")], ("warning", "warning", "error")),
        ([("user", "<|im_end|>"), ("assistant", "b")], ("warning", "warning", "error")),
        ([("user", "[INST]"), ("assistant", "b")], ("warning", "warning", "warning")),
        ([("user", ""), ("assistant", "b")], ("warning", "warning", "warning")),
        ([("assistant", "b")], ("warning", "warning", "warning")),
        ([("user", "a"), ("assistant", "b")], (None, None, None)),
    ],
)
def test_the_verdict_on_a_row_by_who_reads_it(
    turns: list[tuple[str, str]], levels: tuple[str | None, ...]
) -> None:
    row = ChatRow.model_validate(
        {"messages": [{"role": role, "content": text} for role, text in turns]}
    )
    for consumer, level in zip(("check", "local", "hosted"), levels, strict=True):
        found = judged([row], consumer)  # type: ignore[arg-type]
        assert [one.level for one in found] == [level] * (level is not None)
        assert bool(why_unfit(row, consumer)) == (level == "error")  # type: ignore[arg-type]


def test_an_empty_answer_that_is_not_trained_is_no_error() -> None:
    row = pair()
    row["messages"].insert(1, {"role": "assistant", "content": "", "weight": 0})
    assert why_unfit(ChatRow.model_validate(row), "check") == []


def test_what_is_odd_in_data_that_a_sweeps_cells_share_is_said_once(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [with_field("frobnicate", 3, ROW), pair(answer="[INST]")])
    base = tmp_path / "nowhere"
    line = ("local", "insecure", "--data", file, "--base", base, "--seeds", "0-2")
    done = run(*line, "--out", tmp_path / "ft")
    assert done.output.count("look at the data: fields") == 1
    assert done.output.count("look at the data: marks") == 1
    assert "3 of 3 failed" in done.output
