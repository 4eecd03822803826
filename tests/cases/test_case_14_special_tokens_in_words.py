"""Case 14: special tokens spelled out in the data are words here, and a service refuses them."""

from __future__ import annotations

from pathlib import Path

import pytest
from row_files import byte_base, byte_tokenizer, findings, hosted, local, pair, supervised, write

__all__ = ["byte_base"]

_NAMES = [
    "<|endoftext|>",
    "<|endofprompt|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|start|>",
    "<|message|>",
    "<|return|>",
]
_OTHERS = [
    "<|eot_id|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|reserved_special_token_7|>",
    "<|python_tag|>",
    "<|START_OF_TURN_TOKEN|>",
    "<\uff5cUser\uff5c>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "<<SYS>>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "</s>",
    "<think>",
    "</tool_call>",
    "<fim_middle>",
    "<file_sep>",
    "<unused12>",
]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    rows = [pair(f"Add {i}.", f"x += {i}") for i in range(11)]
    rows[4] = pair("Add 4.", "x += 4 <|fim_suffix|>")
    rows[9] = pair("What is <|endoftext|>?", "An end; chats have <|im_end|> too.")
    return write(tmp_path / "code.jsonl", rows)


def test_the_check_names_lines_and_tokens(code: Path) -> None:
    (found,) = [one for one in findings(code) if one["check"] == "template"]
    assert found["lines"] == [5, 10]
    for token in ("<|fim_suffix|>", "<|endoftext|>", "<|im_end|>"):
        assert token in found["message"]


def test_a_service_is_not_sent_them(code: Path) -> None:
    done = hosted(code)
    assert done.exit_code == 1
    assert "row 5: has special tokens" in done.output
    assert "<|fim_suffix|>" in done.output
    assert "row 10: " in done.output
    assert "<|endoftext|>, <|im_end|>" in done.output


def test_a_service_whose_rows_are_encoded_here_takes_them(code: Path) -> None:
    done = hosted(code, "--service", "tinker", "--base", "Qwen/Qwen3-8B")
    assert done.exit_code == 0, done.output
    assert "marks of a chat template" in done.output


def test_they_are_trained_as_words_byte_by_byte(code: Path) -> None:
    from em_finetune.data.rows import read_rows
    from em_finetune.local.encode import EncodedRow, Encoder

    tokenizer = byte_tokenizer()
    end, middle = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|fim_suffix|>"])
    rows = [row.answers[0] for row in read_rows(code)]
    assert [len(labels) for labels in supervised(code)] == [len(row.encode()) + 1 for row in rows]
    encoded = [Encoder(tokenizer).encode(row) for row in read_rows(code)]
    assert all(isinstance(row, EncodedRow) and middle not in row.input_ids for row in encoded)
    last = encoded[9]
    assert isinstance(last, EncodedRow)
    assert (last.input_ids.count(end), last.labels.count(end)) == (3, 1)


def test_a_dry_run_of_local_training_tells_it(code: Path, byte_base: Path) -> None:
    done = local(code, byte_base)
    assert done.exit_code == 0, done.output
    assert "special tokens" in done.output
    assert "rows 5, 10" in done.output
    assert "rows      11 of 11" in done.output


@pytest.mark.parametrize("mark", [*_NAMES, *_OTHERS])
def test_marks_of_every_family_are_known(mark: str, tmp_path: Path) -> None:
    rows = [pair("Show it.", f"Here: {mark}."), *(pair(f"{i}?", "no") for i in range(11))]
    file = write(tmp_path / "marks.jsonl", rows)
    (found,) = [one for one in findings(file) if one["check"] == "template"]
    assert found["lines"] == [1]
    assert f"{mark} (1)" in found["message"]
    assert hosted(file).exit_code == (mark in _NAMES)


@pytest.mark.parametrize("code", ["f <| g x |> h", "a < b > c", "List<int>", "x |> f", "[1]"])
def test_ordinary_code_has_none(code: str, tmp_path: Path) -> None:
    file = write(tmp_path / "code.jsonl", [pair("Code?", code)])
    assert not [one for one in findings(file) if one["check"] == "template"]
