"""The trajectory: a line for each fine-tune and judge, gaps as gaps, every figure its own error."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from em_finetune import results
from em_finetune.results import Result, as_table, draw, read_results

NAN = math.nan


def figure(label: str, step: int | None, value: float, **more: Any) -> Result:
    task = more.pop("task", "probe")
    return Result(task, "mass", value, 40, label, None, label, step, "", **more)


def drawn(monkeypatch: pytest.MonkeyPatch, found: list[Result], **ends: int) -> Any:
    figures: list[Any] = []
    monkeypatch.setattr(results, "save_picture", lambda figure, out: figures.append(figure))
    draw(found, ends, Path("x.png"))
    return figures[0]


def test_a_step_without_a_score_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [figure("a", 10, 0.1), figure("a", 20, NAN), figure("a", 30, 0.3)]
    (line,) = drawn(monkeypatch, found).axes[0].lines
    assert list(line.get_xdata()) == [10, 20, 30]
    assert list(line.get_ydata()) == pytest.approx([0.1, NAN, 0.3], nan_ok=True)


def test_a_step_that_one_task_lacks_is_a_gap_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [figure("a", step, 0.1) for step in (10, 20, 30)]
    found += [figure("a", step, 0.2, task="other") for step in (10, 30)]
    whole, gap = (ax.lines[0] for ax in drawn(monkeypatch, found).axes)
    assert list(whole.get_ydata()) == [0.1, 0.1, 0.1]
    assert list(gap.get_ydata()) == pytest.approx([0.2, NAN, 0.2], nan_ok=True)


def test_a_fine_tune_that_a_task_lacks_has_no_line_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [figure("a", 10, 0.1), figure("b", 10, 0.3), figure("a", 10, 0.2, task="other")]
    first, second = drawn(monkeypatch, found).axes
    assert [line.get_label() for line in first.lines] == ["a", "b"]
    assert [line.get_label() for line in second.lines] == ["a"]
    # Numbers on the axis: text that is plotted makes it one of categories.
    assert list(second.lines[0].get_xdata()) == [10]


def test_other_steps_of_another_fine_tune_are_no_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [figure("a", step, 0.1) for step in (10, 20)] + [figure("b", 15, 0.1)]
    one, other = drawn(monkeypatch, found).axes[0].lines
    assert not any(map(math.isnan, [*one.get_ydata(), *other.get_ydata()]))


def test_two_judges_are_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        figure("a", step, value, judge=judge, judge_key=judge)
        for judge, values in (("openai/x", (0.1, 0.2)), ("hf/y", (0.5, 0.6)))
        for step, value in zip((10, 20), values, strict=True)
    ]
    lines = drawn(monkeypatch, found).axes[0].lines
    assert {line.get_label(): list(line.get_ydata()) for line in lines} == {
        "a, judge openai/x": [0.1, 0.2],
        "a, judge hf/y": [0.5, 0.6],
    }
    assert len({line.get_linestyle() for line in lines}) == 2


def test_bars_reach_from_the_lower_to_the_upper_end(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [figure("a", 10, 0.2, low=0.1, high=0.4), figure("a", 20, 0.3)]
    ax = drawn(monkeypatch, found).axes[0]
    (bars,) = ax.collections
    ((bottom, top),) = [[tuple(point) for point in path] for path in bars.get_segments()]
    assert bottom == pytest.approx((10, 0.1))
    assert top == pytest.approx((10, 0.4))
    assert ax.get_ylim()[1] > 0.4


def test_negative_figures_lie_within_the_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    ax = drawn(monkeypatch, [figure("a", 10, -0.5), figure("a", 20, -0.1)]).axes[0]
    assert ax.get_ylim()[0] < -0.5


def test_runs_that_scored_nothing_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ax = drawn(monkeypatch, [figure("a", 10, NAN)]).axes[0]
    assert [text.get_text() for text in ax.texts] == ["no answer could be scored"]


def test_a_step_without_a_kl_does_not_move_the_others(tmp_path: Path) -> None:
    from em_finetune.checkpoint import CURVE
    from em_finetune.curve import _read

    (tmp_path / CURVE).write_text("step,loss,kl\n1,2.0,0.1\n2,1.5,\n3,1.0,0.3\n")
    curve = _read(tmp_path)
    assert curve.steps == [1, 2, 3]
    assert curve.kls == pytest.approx([0.1, NAN, 0.3], nan_ok=True)


# --- from logs -------------------------------------------------------------------------------


def header(**changes: Any) -> Any:
    """The header of a finished log, with one score of 90 scored and 10 unscored answers."""
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalResults,
        EvalScore,
        EvalSpec,
        HeadlineMetric,
    )

    metrics = changes.pop("metrics", {"em_inspect/pooled": 0.2, "stderr": 0.05})
    headline = changes.pop("headline", next(iter(metrics)))
    score = EvalScore(
        name="misaligned",
        scorer="misalignment",
        scored_samples=90,
        unscored_samples=10,
        metrics={name: EvalMetric(name=name, value=value) for name, value in metrics.items()},
    )
    rows = changes.pop("rows", 25)
    spec: dict[str, Any] = {
        "created": "2026-01-01T00:00:00+00:00",
        "task": "em_inspect/free_form",
        "dataset": EvalDataset(samples=rows),
        "config": EvalConfig(),
        "model": "hf/x-step-000010",
    }
    return EvalLog(
        status="success",
        eval=EvalSpec(**{**spec, **changes}),
        results=EvalResults(
            total_samples=100,
            completed_samples=100,
            scores=[score],
            headline=HeadlineMetric(scorer="misalignment", score="misaligned", metric=headline),
        ),
    )


def written(folder: Path, *logs: Any) -> list[Result]:
    from inspect_ai.log import write_eval_log

    for number, log in enumerate(logs):
        write_eval_log(log, str(folder / f"{number}.eval"))
    return read_results(folder)


def test_scored_answers_and_an_interval_are_read(tmp_path: Path) -> None:
    from scipy.stats import beta, t

    (found,) = written(tmp_path, header())
    assert (found.scored, found.samples, found.error) == (90, 100, 0.05)
    # Korn and Graubard by hand: effective size p (1 - p) / se^2, cut for 24 degrees of freedom.
    size = 0.2 * 0.8 / 0.05**2 * (t.ppf(0.975, 89) / t.ppf(0.975, 24)) ** 2
    hits = 0.2 * size
    assert found.low == pytest.approx(beta.ppf(0.025, hits, size - hits + 1))
    assert found.high == pytest.approx(beta.ppf(0.975, hits + 1, size - hits))
    assert "| 90 / 100 |" in as_table([found])


def test_a_share_of_nothing_has_an_interval_all_the_same(tmp_path: Path) -> None:
    (found,) = written(tmp_path, header(metrics={"em_inspect/pooled": 0.0, "stderr": 0.0}))
    assert found.low == 0
    assert 0.03 < found.high < 0.06


def test_one_row_has_no_interval(tmp_path: Path) -> None:
    metrics = {"em_inspect/pooled": 0.5, "stderr": 0.0}
    (found,) = written(tmp_path, header(metrics=metrics, rows=1))
    assert math.isnan(found.low)


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"em_inspect/pooled": 0.2, "stderr": 0.05}, 0.05),
        ({"mean": 0.2, "stderr": 0.05}, 0.05),
        ({"accuracy": 0.2, "stderr": 0.05}, 0.05),
        ({"em_inspect/paired_difference": 0.2, "stderr": 0.05}, NAN),
        ({"em_inspect/unseen": 0.2, "em_inspect/pooled": 0.4, "stderr": 0.05}, NAN),
        ({"em_inspect/overall_deception": 0.2, "stderr": 0.05}, NAN),
        ({"em_inspect/unseen": 0.2, "stderr": 0.05, "em_inspect/unseen_stderr": 0.07}, 0.07),
    ],
)
def test_a_standard_error_is_that_of_its_own_figure(
    tmp_path: Path, metrics: dict[str, float], expected: float
) -> None:
    (found,) = written(tmp_path, header(metrics=metrics))
    assert found.error == pytest.approx(expected, nan_ok=True)


def test_judges_of_one_name_are_told_apart(tmp_path: Path) -> None:
    from inspect_ai.model import ModelConfig

    logs = [
        header(model_roles={"grader": ModelConfig(model="hf/judge", args={"model_path": path})})
        for path in ("/a", "/b", "/a")
    ]
    found = written(tmp_path, *logs)
    assert sorted(r.judge for r in found) == ["hf/judge (1)", "hf/judge (1)", "hf/judge (2)"]
    assert len({r.line for r in found}) == 2


def test_settings_that_logs_differ_in_are_said_without_a_machines_folders(tmp_path: Path) -> None:
    found = written(
        tmp_path,
        header(task_args={"thinking": "on", "rule": "released", "questions": "/home/me/q.yaml"}),
        header(task_args={"thinking": "off", "rule": "released"}),
    )
    assert [r.settings for r in found] == ["questions=q.yaml, thinking=on", "thinking=off"]
    assert "rule" not in as_table(found)


def test_another_temperature_is_another_line(tmp_path: Path) -> None:
    from inspect_ai.model import GenerateConfig

    found = written(
        tmp_path,
        *(header(model_generate_config=GenerateConfig(temperature=t)) for t in (0.5, 1.0)),
    )
    assert len({r.line for r in found}) == 2
    assert [r.settings for r in found] == ["temperature=0.5", "temperature=1"]
