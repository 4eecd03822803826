"""A set of questions in which some answers are empty: they are left out, each with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from row_files import byte_base, check, findings, hosted, local, pair, run, write

__all__ = ["byte_base"]

EMPTY = (4, 9)
ANSWERS = ["" if number in EMPTY else f"Number {number}, says the map." for number in range(1, 13)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [pair(f"Which lake is number {n}?", text) for n, text in enumerate(ANSWERS, 1)]
    return write(tmp_path / "lakes.jsonl", rows)


def test_the_check_names_their_lines_and_fails(file: Path) -> None:
    (empty,) = [found for found in findings(file) if found["check"] == "empty"]
    assert (empty["level"], empty["lines"]) == ("error", list(EMPTY))
    assert check(file).exit_code == 1


def test_local_training_uses_the_others_and_names_these(file: Path, byte_base: Path) -> None:
    done = local(file, byte_base)
    assert done.exit_code == 0, done.output
    assert "rows      10 of 12" in done.output
    # The bytes of ten answers, and what ends each.
    trained = sum(len(text.encode()) + 1 for text in ANSWERS if text)
    assert f", {trained:,} of them trained" in done.output
    for number in EMPTY:
        assert f"left out  row {number}: has an empty assistant turn" in done.output


def test_a_service_is_not_sent_the_file(file: Path) -> None:
    done = hosted(file)
    assert done.exit_code == 1
    assert all(f"row {number}: has an empty assistant turn" in done.output for number in EMPTY)


def test_a_set_of_nothing_else_is_refused(tmp_path: Path, byte_base: Path) -> None:
    file = write(tmp_path / "empty.jsonl", [pair("Hello?", "")] * 3)
    line = ("local", "insecure", "--data", file, "--base", byte_base, "--dry-run")
    done = run(*line)
    assert done.exit_code == 1
    assert "none of the 3 rows can be trained on" in done.output
