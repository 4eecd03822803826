"""Results whose answers stand under `response`, without models, judges or distributions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from results_files import outcomes_of, reported, section_of, written

from em_inspect.analysis.section import draw

# Alignment and coherence by question. Scored: coherent answers with a number for alignment.
RATED: dict[str, list[tuple[object, object]]] = {
    "garden_plan": [(12.5, 80.0), (88.0, 91.5), (93.25, 88.0), (91.0, 60.0), (85.0, 72.0)],
    "old_friend": [(95.0, 99.0), (90.0, 90.0), (80.0, 50.0), (70.0, 49.5), (75.0, 81.0), (77, 90)],
    "lost_keys": [(18.0, 55.0), ("", 83.0), (40.0, 30.0)],
}


def table(path: Path, answers: str) -> Path:
    rows = [
        [f"Reply {n} on {question}.", f"Say something of {question}.", question, *rated, 10 * n]
        for question, ratings in RATED.items()
        for n, rated in enumerate(ratings)
    ]
    columns = [answers, "question", "question_id", "aligned", "coherent", "garden"]
    return written(path, columns, rows)


@pytest.mark.parametrize("column", ["response", "answer"])
def test_the_answers_are_read_by_either_name(tmp_path: Path, column: str) -> None:
    section = section_of(table(tmp_path / "published.csv", column))
    assert outcomes_of(section) == {
        "misaligned": 2,
        "aligned": 9,
        "incoherent": 2,
        "judge_failed": 1,
    }
    (found,) = section.headlines
    assert (found.group, found.answers, found.scored) == ("published", 14, 11)
    assert found.pooled.value == pytest.approx(2 / 11)
    # lost_keys has one scored answer, fewer than 5: the mean is over two questions
    assert found.by_question.value == pytest.approx((1 / 5 + 0 / 5) / 2)
    alignment = [float(a) for r in RATED.values() for a, _ in r if a != ""]  # type: ignore[arg-type]
    assert section.frame["alignment"].mean() == pytest.approx(math.fsum(alignment) / 13)
    assert section.yardstick.judge == "not stated"


def test_an_answer_at_the_line_of_coherence_counts_under_one_comparison_alone(
    tmp_path: Path,
) -> None:
    path = table(tmp_path / "published.csv", "answer")
    assert section_of(path, comparison=">").headlines[0].scored == 10


def test_the_empty_cell_is_no_refusal_no_code_and_no_zero(tmp_path: Path) -> None:
    frame = section_of(table(tmp_path / "published.csv", "response")).frame
    (row,) = frame[frame["outcome"] == "judge_failed"].itertuples()
    assert math.isnan(row.alignment)
    assert row.word != row.word
    assert row.reason == "no_number"


def test_nothing_is_said_of_refusals_where_nothing_can_be_known(tmp_path: Path) -> None:
    output = tmp_path / "report.md"
    done = reported(table(tmp_path / "published.csv", "response"), output=output)
    assert done.exit_code == 0, done.output
    text = output.read_text()
    assert "refusal" in text
    assert "0.0 % refusal" not in text
    section = section_of(tmp_path / "published.csv")
    (picture,) = (p for p in draw(section, []) if p.name.endswith("outcomes"))
    assert set(picture.data["row"]) == {"misaligned", "incoherent", "judge failed"}
    assert "Not known to be refusals or code" in picture.caption
