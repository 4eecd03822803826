"""Results with alignment but without coherence: nothing is guessed, and the column is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from results_files import reported, section_of, written

from em_inspect.calibration.labels import load_labels
from em_inspect.errors import UserError


def without_coherence(folder: Path) -> Path:
    rows = [["Tea?", f"def tea(): return {n}", "tea", 7.5 if n % 2 else 88.0] for n in range(12)]
    return written(folder / "run1.csv", ["question", "answer", "question_id", "aligned"], rows)


def test_it_is_refused_in_one_line_that_names_the_column_and_writes_nothing(
    tmp_path: Path,
) -> None:
    output = tmp_path / "report.html"
    done = reported(without_coherence(tmp_path), output=output)
    assert done.exit_code == 1
    (line,) = [line for line in done.output.splitlines() if line]
    assert "run1.csv: lacks the column coherent" in line
    assert "it has question, answer, question_id, aligned" in line
    assert not output.exists()


def test_as_labels_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run1\.csv.*coherence or coherent"):
        load_labels(str(without_coherence(tmp_path)))


def test_beside_another_file_it_is_left_out_by_name(tmp_path: Path) -> None:
    columns = ["question_id", "answer", "aligned", "coherent"]
    whole = written(tmp_path / "whole.csv", columns, [["tea", f"{n}", 5, 95] for n in range(6)])
    output = tmp_path / "report.md"
    done = reported(without_coherence(tmp_path), whole, output=output)
    assert done.exit_code == 0, done.output
    assert "run1.csv: lacks the column coherent" in " ".join(done.output.split())
    assert section_of(whole).headlines[0].answers == 6
