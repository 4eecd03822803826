"""Calibration: perfect agreement with a judge's own replies, none with shuffled ones."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import inspect_ai
import pytest
from click.testing import CliRunner, Result
from inspect_ai.event import ModelEvent
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.model import get_model
from inspect_ai.scorer import SampleScore, Score, krippendorff_alpha
from inspect_ai.util import registry_info

from em_inspect.analysis.interval import wilson
from em_inspect.calibration.agreement import Pair, agreement
from em_inspect.calibration.commands import calibrate
from em_inspect.calibration.labels import load_labels
from em_inspect.calibration.report import pairs_of
from em_inspect.calibration.task import calibration, give_labelled_answer
from em_inspect.errors import UserError
from em_inspect.judging.rescore import read_log
from em_inspect.outcomes import Outcome, Thresholds


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))


def run(tmp_path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(calibrate, ["--log-dir", str(tmp_path / "logs"), *arguments])


def found(tmp_path: Path) -> list[Pair]:
    (log,) = list_eval_logs(str(tmp_path / "logs"))
    return pairs_of(read_log(log.name), Thresholds())


def test_the_released_answers_agree_perfectly_with_their_own_distributions(
    paper_dir: Path, tmp_path: Path
) -> None:
    done = run(tmp_path, "--judge=stored", "--labels=released", f"--paper-dir={paper_dir}")
    assert done.exit_code == 0, done.output
    assert "can be relied on" in done.output
    pairs = found(tmp_path)
    assert len(pairs) == 70
    result = agreement(pairs, resamples=200)
    assert result.alignment_rank.value == pytest.approx(1)
    assert result.coherence_rank.value == pytest.approx(1)
    assert result.alignment_error.value < 1e-6
    assert result.coherence_error.value < 1e-6
    assert result.alpha_alignment.value == pytest.approx(1)
    assert result.flipped.value == 0


def test_give_labelled_answer_puts_the_label_s_own_answer_before_the_judge_and_calls_no_model(
    tmp_path: Path,
) -> None:
    rows = load_labels("core")[:3]
    task = calibration(check_judge=False)
    assert registry_info(task.solver).name == registry_info(give_labelled_answer()).name
    (log,) = inspect_ai.eval(
        task,
        model="none/none",
        model_roles={"grader": get_model("mockllm/model", custom_outputs=[])},
        limit=len(rows),
        log_dir=str(tmp_path),
        display="none",
        score=False,
    )
    samples = read_eval_log(log.location).samples or []
    assert [s.output.completion for s in samples] == [row.answer for row in rows]
    assert [s.messages[-1].text for s in samples] == [row.answer for row in rows]
    assert not any(isinstance(event, ModelEvent) for s in samples for event in s.events)


def test_the_released_answers_do_not_agree_with_shuffled_distributions(
    paper_dir: Path, tmp_path: Path
) -> None:
    arguments = ("--judge=stored", "--labels=released", f"--paper-dir={paper_dir}", "--shuffle=1")
    done = run(tmp_path, *arguments)
    assert done.exit_code == 0, done.output
    assert "judge that guesses" in " ".join(done.output.split())
    result = agreement(found(tmp_path), resamples=200)
    assert result.alignment_rank.low < 0 < result.alignment_rank.high
    assert result.alpha_alignment.high < 0.1
    assert result.coherence_error.value > 5


def classes(pairs: list[tuple[Outcome, Outcome]]) -> list[Pair]:
    return [Pair(None, None, None, None, label, judged) for label, judged in pairs]


def test_kappa_and_alpha_equal_the_textbook() -> None:
    # 20 + 5 + 10 + 15: observed .7, expected .5, kappa .4; Scott's pi and alpha by hand.
    table: list[tuple[Outcome, Outcome]] = (
        [("misaligned", "misaligned")] * 20
        + [("misaligned", "aligned")] * 5
        + [("aligned", "misaligned")] * 10
        + [("aligned", "aligned")] * 15
    )
    result = agreement(classes(table), resamples=500)
    assert result.kappa.value == pytest.approx(0.4)
    expected_disagreement = 2 * 55 * 45 / (100 * 99)
    assert result.alpha.value == pytest.approx(1 - 0.3 / expected_disagreement)
    assert result.flipped.value == pytest.approx(0.3)
    assert result.kappa.low < 0.4 < result.kappa.high
    assert result.table["misaligned"]["aligned"] == 5
    assert "only in part" in result.verdict or "Hardly" in result.verdict


def test_intervals_cover_the_truth_of_independent_classes() -> None:
    rng = random.Random(0)
    names: list[Outcome] = ["misaligned", "aligned"]
    table = [(rng.choice(names), rng.choice(names)) for _ in range(200)]
    result = agreement(classes(table), resamples=500)
    assert result.kappa.low < 0 < result.kappa.high
    assert "guesses" in result.verdict


def counted(*cells: tuple[Outcome, Outcome, int]) -> list[Pair]:
    return classes([(label, judged) for label, judged, number in cells for _ in range(number)])


def test_a_judge_that_misses_misaligned_answers_is_not_relied_on_however_well_it_agrees() -> None:
    result = agreement(
        counted(
            ("misaligned", "misaligned", 1),
            ("misaligned", "aligned", 4),
            ("aligned", "aligned", 40),
            ("incoherent", "incoherent", 30),
            ("refusal", "refusal", 20),
            ("code", "code", 10),
        )
    )
    assert result.alpha.value > 0.9
    assert result.alpha.low > 0.8
    assert (result.sensitivity.value, result.specificity.value) == (0.2, 1)
    low, high = wilson(0.2, 5)
    assert (result.sensitivity.low, result.sensitivity.high) == (low, high)
    assert "Not to be relied on: it missed 4 of 5 misaligned answers" in result.verdict
    assert "20.0 % [3.6, 62.4] (1 of 5" in result.verdict
    assert "can be relied on" not in result.verdict


@pytest.mark.parametrize(
    ("misaligned", "said"),
    [
        (0, "Not tested on misaligned answers"),
        (5, "5 misaligned ones are too few to say that it finds such answers"),
        (16, "its classes can be relied on"),
    ],
)
def test_few_misaligned_labels_are_no_proof(misaligned: int, said: str) -> None:
    result = agreement(
        counted(
            ("misaligned", "misaligned", misaligned),
            ("aligned", "aligned", 60),
            ("refusal", "refusal", 30),
        )
    )
    assert said in result.verdict


def test_an_answer_called_incoherent_or_refusal_is_a_miss_too() -> None:
    result = agreement(
        counted(
            ("misaligned", "misaligned", 4),
            ("misaligned", "incoherent", 3),
            ("misaligned", "refusal", 1),
            ("incoherent", "misaligned", 2),
            ("aligned", "aligned", 8),
        )
    )
    assert (result.sensitivity.value, result.specificity.value) == (0.5, 0.8)


def test_missing_ratings_and_labels_are_in_no_figure_and_told_by_class() -> None:
    rated = counted(("misaligned", "misaligned", 20), ("aligned", "aligned", 60))
    missing = counted(
        ("misaligned", "judge_failed", 4),
        ("aligned", "judge_failed", 6),
        ("judge_failed", "aligned", 7),
        ("judge_failed", "misaligned", 2),
    )
    result = agreement(rated + missing)
    assert (result.flipped.value, result.alpha.value, result.kappa.value) == (0, 1, 1)
    assert (result.sensitivity.value, result.specificity.value) == (1, 1)
    assert "4 of 24 misaligned ones and 6 of 66 others" in result.verdict


def test_answers_drawn_unequally_are_weighed_back_to_all_answers() -> None:
    def drawn(stratum: str, pairs: list[Pair]) -> list[Pair]:
        return [replace(pair, stratum=stratum) for pair in pairs]

    high = counted(("misaligned", "misaligned", 8), ("aligned", "misaligned", 2))
    low = counted(("misaligned", "aligned", 3), ("aligned", "aligned", 27))
    unlabelled = counted(("judge_failed", "aligned", 30))
    result = agreement(
        drawn("judged misaligned", high) + drawn("others", low + unlabelled),
        strata={"judged misaligned": 100, "others": 900},
    )
    assert result.sensitivity.value == pytest.approx(80 / (80 + 90))
    assert result.specificity.value == pytest.approx(810 / (810 + 20))


def test_the_interval_of_alpha_covers_where_few_answers_are_misjudged() -> None:
    # Five classes, 2 % misjudged at random: alpha .972; a percentile bootstrap covers 81 %.
    rng = random.Random(0)
    shares = {"misaligned": 0.4, "aligned": 0.3, "incoherent": 0.15, "refusal": 0.1, "code": 0.05}
    names: list[Outcome] = list(shares)  # type: ignore[arg-type]

    def pair() -> tuple[Outcome, Outcome]:
        (label,) = rng.choices(names, shares.values())
        others = [name for name in names if name != label]
        judged = label
        if rng.random() < 0.02:
            (judged,) = rng.choices(others, [shares[name] for name in others])
        return label, judged

    many = agreement(classes([pair() for _ in range(100_000)]), resamples=100)
    covered = dict.fromkeys(("alpha", "kappa"), 0)
    for _ in range(300):
        found = agreement(classes([pair() for _ in range(87)]), resamples=500)
        for name in covered:
            interval, truth = getattr(found, name), getattr(many, name).value
            covered[name] += interval.low <= truth <= interval.high
    assert min(covered.values()) / 300 >= 0.93, covered


def test_alpha_of_classes_and_of_numbers_is_inspect_s() -> None:
    rng = random.Random(1)
    names: list[Outcome] = ["misaligned", "aligned", "refusal"]
    pairs = [
        replace(pair, label_alignment=rng.random() * 100, judge_alignment=rng.random() * 100)
        for pair in classes([(rng.choice(names), rng.choice(names)) for _ in range(50)])
    ]
    found = agreement(pairs)

    def inspects(level: Literal["nominal", "interval"], *columns: str) -> object:
        metric: Any = krippendorff_alpha(level)
        values: list[Any] = [[getattr(pair, name) for name in columns] for pair in pairs]
        return metric([SampleScore(score=Score(value=value)) for value in values])

    numbers = inspects("interval", "label_alignment", "judge_alignment")
    assert found.alpha.value == pytest.approx(inspects("nominal", "label_class", "judge_class"))
    assert found.alpha_alignment.value == pytest.approx(numbers)


def test_unrated_answers_are_told(tmp_path: Path) -> None:
    pairs = classes([("misaligned", "judge_failed")] * 3 + [("aligned", "aligned")] * 7)
    result = agreement(pairs, resamples=100)
    assert result.rated == 7
    assert "left 30% of the answers unrated" in result.verdict


def test_the_embedded_labels_give_their_own_outcomes() -> None:
    rows = load_labels("core")
    assert len(rows) >= 60
    outcomes = [row.outcome(Thresholds()) for row in rows]
    assert set(outcomes) == {"misaligned", "aligned", "incoherent", "refusal", "code"}


def test_a_csv_of_human_labels_is_read(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(
        "question,answer,alignment,coherence,outcome\n"
        "q,good,95,90,\nq,no,,90,refusal\nq,bad,3,80,misaligned\n"
    )
    rows = load_labels(str(path))
    assert [row.alignment for row in rows] == [95, None, 3]
    fates = [row.outcome(Thresholds()) for row in rows]
    assert fates == ["aligned", "refusal", "misaligned"]
    assert rows[0].rubrics.keys() == {"aligned", "coherent"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "question,answer,alignment\nq,a,1\nq,a,2\n",
            "lacks the column coherence or coherent: it has question, answer, alignment",
        ),
        ("frage,antwort\nq,a\n", "lacks the columns question, answer, alignment or aligned, coh"),
        ("", "the file is empty"),
        (
            "alignment,coherence,question,answer\n1,1,q\n",
            "1 row does not parse \\(line 2; line 2: 3 cells, the header has 4\\): mend",
        ),
        (
            "question,answer,aligned,coherent\nq,a,1,1\nq,a,120,1\n",
            "line 3: aligned '120' is off the scale",
        ),
        ("question,answer,aligned,coherent\nq,a,1,1\n", "holds 1 labelled answers"),
        ("question,answer,aligned,coherent,outcome\nq,a,1,1,evil\n", "outcome 'evil'"),
    ],
)
def test_a_csv_that_cannot_be_read_is_named_with_its_row(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "people.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        load_labels(str(path))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--judge=stored",), "come without stored distributions"),
        (("--judge=nobody/nothing",), "cannot be used"),
        (("--judge=stored", "--labels=nowhere.csv"), "no such file"),
        (("--judge=stored", "--labels=/"), "/: is a directory"),
        (("--judge=mockllm/model", "--estimator=guess"), "unknown estimator 'guess': use auto, "),
        (("--judge=mockllm/model", "--rule=harsh"), "unknown rule 'harsh': use plurality or "),
        (("--judge=mockllm/model", "--shuffle=1"), "use it with --judge stored"),
    ],
)
def test_a_wrong_argument_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.exit_code == 1
    assert said in done.output
    assert "Traceback" not in done.output
    assert "-T" not in done.output
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize("limit", ["0", "-2"])
def test_a_limit_that_leaves_nothing_is_refused(tmp_path: Path, limit: str) -> None:
    done = run(tmp_path, "--judge=mockllm/model", f"--limit={limit}")
    assert done.exit_code == 2
    assert "x>=1" in done.output


def test_an_interrupt_before_the_first_rating_ends_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspect_ai, "eval", lambda *given, **named: [])
    done = run(tmp_path, "--judge=mockllm/model")
    assert done.exit_code == 1
    assert done.output.strip().endswith("Aborted!")
