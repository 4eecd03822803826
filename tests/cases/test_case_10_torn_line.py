"""Case 10: one line of a training file begins in the middle of a row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from row_files import byte_base, check, findings, hosted, is_refusal, local, pair

__all__ = ["byte_base"]


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    lines = [json.dumps(pair(f"Close file {i}.", f"file{i}.close()")) for i in range(14)]
    lines[6] = lines[6][25:]
    file = tmp_path / "torn.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_the_check_names_the_line_and_counts_the_others(torn: Path) -> None:
    done = check(torn)
    assert done.exit_code == 1
    assert "rows       13" in done.output
    (error,) = [found for found in findings(torn) if found["level"] == "error"]
    assert (error["check"], error["lines"]) == ("schema", [7])
    assert "not JSON" in error["message"]


def test_nothing_is_trained_or_uploaded(torn: Path, byte_base: Path) -> None:
    for done in (local(torn, byte_base), hosted(torn)):
        assert is_refusal(done, str(torn), "line 7", "not JSON"), done.output
