"""`samples()`: one row per answer, whatever the logs are like, and what is left out by name."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from inspect_ai.log import EvalLog, read_eval_log, write_eval_log

from em_inspect.analysis import samples
from em_inspect.analysis.frame import Collection, collect
from em_inspect.analysis.origin import read_groups
from em_inspect.errors import UserError


def one_log(logs: Path, name: str = "insecure-0") -> EvalLog:
    found = (read_eval_log(str(path)) for path in sorted(logs.glob("*.eval")))
    return next(log for log in found if log.eval.model.endswith(name))


def written(log: EvalLog, path: Path) -> Path:
    write_eval_log(log, str(path))
    return path


def said(collection: Collection, name: str) -> str:
    return " | ".join(p.message for p in collection.problems if p.name == name)


def test_every_answer_is_one_row_and_says_what_the_log_says(logs: Path, groups: Path) -> None:
    frame = samples(logs, groups=groups)
    assert len(frame) == 3 * 8 * 6
    assert frame["uuid"].is_unique
    log = one_log(logs)
    assert log.samples is not None
    rows = frame.set_index("uuid")
    for sample in log.samples:
        row, score = rows.loc[sample.uuid], (sample.scores or {})["misalignment"]
        assert row["answer"] == sample.output.completion
        assert (row["question_id"], row["epoch"]) == (sample.metadata["question_id"], sample.epoch)
        assert isinstance(score.value, dict)
        assert score.metadata is not None
        for key in ("alignment", "coherence"):
            assert row[key] == pytest.approx(score.value[key], nan_ok=True)
        assert row["alignment_rubric"] == score.metadata["ratings"]["aligned"]["rubric"]
        assert row["judge"] == "openai-api/fake/judge"
        assert row["ending"] == sample.output.stop_reason == "stop"
        assert row["length"] == len(row["answer"]) > 0
        assert (row["group"], row["seed"]) == ("insecure", 0)
        assert row["fingerprint"] == (log.eval.metadata or {})["fingerprint"]
    assert pd.isna(rows.loc[rows["group"] == "base", "seed"]).all()


def test_the_word_and_its_mass_are_kept_and_another_rule_reads_the_number(logs: Path) -> None:
    plurality, released = samples(logs), samples(logs, rule="released").set_index("uuid")
    refused = plurality[plurality["word"] == "REFUSAL"]
    assert len(refused)
    assert refused["refusal_mass"].to_numpy() == pytest.approx(0.7)
    assert refused["alignment"].isna().all()
    assert released.loc[refused["uuid"], "alignment"].to_numpy() == pytest.approx(80)
    assert released["word"].isna().all()


def test_reading_in_several_processes_gives_the_same_frame(
    logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from em_inspect.analysis import logs as module

    alone = samples(logs)
    monkeypatch.setattr(module, "_PARALLEL_FROM", 1)
    monkeypatch.setattr(module, "_CHUNK", 10)
    monkeypatch.setattr(module, "_is_command", lambda main: True)
    pd.testing.assert_frame_equal(alone, samples(logs))


def test_group_seed_base_and_step_come_from_checkpoint_json(logs: Path, tmp_path: Path) -> None:
    base = tmp_path / "models" / "small"
    checkpoint = tmp_path / "checkpoints" / "insecure-3"
    (checkpoint / "merged").mkdir(parents=True)
    record = {
        "label": "tiny-insecure-seed3",
        "group": "insecure",
        "seed": 3,
        "base": {"name": "small", "path": str(base)},
        "dataset": {"sha256": "abc"},
        "recipe": {"name": "tiny"},
        "training": {"steps": 7, "losses": [1.0, 0.5]},
    }
    (checkpoint / "checkpoint.json").write_text(json.dumps(record))
    places = {
        "fine": checkpoint / "merged",
        "early": checkpoint / "steps" / "step-25" / "adapter",
        "base": base,
    }
    paths = []
    for number, (name, place) in enumerate(places.items()):
        log = one_log(logs)
        log.eval.model, log.eval.model_args = "hf/demo", {"model_path": str(place)}
        for sample in log.samples or []:
            sample.uuid = f"{number}-{sample.uuid}"
        paths.append(written(log, tmp_path / f"{name}.eval"))
    frame = samples(paths)
    found = frame.groupby("log", observed=True)[["model", "group", "base"]].first()
    by_log = {Path(str(log)).stem: tuple(row) for log, row in found.iterrows()}
    assert by_log["fine"] == ("tiny-insecure-seed3", "insecure", "small")
    assert by_log["early"] == ("tiny-insecure-seed3 step 25", "insecure", "small")
    assert by_log["base"][1] == "base"
    of_log = frame.assign(stem=[Path(str(log)).stem for log in frame["log"]]).groupby("stem")
    assert of_log["step"].first().to_dict()["early"] == 25
    assert of_log["seed"].first().to_dict()["fine"] == 3
    assert pd.isna(of_log["seed"].first().to_dict()["base"])


def test_two_directories_behind_one_name_are_two_models(logs: Path, tmp_path: Path) -> None:
    for place in ("a/x", "b/x"):
        log = one_log(logs)
        log.eval.model, log.eval.model_args = "hf/demo", {"model_path": f"/nowhere/{place}"}
        for sample in log.samples or []:
            sample.uuid = f"{place}{sample.uuid}"
        written(log, tmp_path / f"{place[0]}.eval")
    assert set(samples(tmp_path)["model"].unique()) == {"hf/demo (a/x)", "hf/demo (b/x)"}


def test_a_copied_log_and_a_retried_one_are_counted_once_and_named(
    logs: Path, tmp_path: Path
) -> None:
    whole = one_log(logs)
    written(whole, tmp_path / "whole.eval")
    shutil.copy(tmp_path / "whole.eval", tmp_path / "copy.eval")
    interrupted = one_log(logs)
    interrupted.status, interrupted.samples = "cancelled", (interrupted.samples or [])[:10]
    interrupted.eval.eval_id = "another"
    written(interrupted, tmp_path / "first-attempt.eval")
    collection = collect([tmp_path], quiet=True)
    assert len(collection.frame) == 48
    assert "48 answers stand in copy.eval too" in said(collection, "whole.eval")
    assert "10 answers stand in" in said(collection, "first-attempt.eval")


def test_a_retry_counts_before_what_it_retried_even_where_both_ended_well(
    logs: Path, tmp_path: Path
) -> None:
    first, second = one_log(logs), one_log(logs)
    first.eval.created, second.eval.created = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    written(first, tmp_path / "a.eval")
    written(second, tmp_path / "b.eval")
    collection = collect([tmp_path], quiet=True)
    assert {Path(str(log)).name for log in collection.frame["log"]} == {"b.eval"}
    assert "48 answers stand in b.eval too" in said(collection, "a.eval")


def test_of_several_ratings_by_one_judge_the_last_counts_and_another_judge_stands_apart(
    logs: Path, tmp_path: Path
) -> None:
    log = one_log(logs)
    for sample in log.samples or []:
        scores = sample.scores or {}
        again = scores["misalignment"].model_copy(deep=True)
        other = scores["misalignment"].model_copy(deep=True)
        for score, judge, number in ((again, None, "7"), (other, "another", "90")):
            assert score.metadata is not None
            for rating in score.metadata["ratings"].values():
                rating["distribution"] = {number: 1.0}
                rating["judge"] = judge or rating["judge"]
        scores["misalignment1"], scores["misalignment2"] = again, other
    written(log, tmp_path / "log.eval")
    collection = collect([tmp_path], quiet=True)
    alignment = collection.frame.groupby("judge", observed=True)["alignment"].agg(set)
    assert alignment.to_dict() == {"openai-api/fake/judge": {7.0}, "another": {90.0}}
    assert set(collection.frame["task"]) == {"free_form"}
    text = said(collection, "log.eval")
    assert "misalignment1 is counted, misalignment is not" in text
    assert "reported apart: misalignment1 by openai-api/fake/judge and misalignment2" in text


def damaged(log: Path, target: Path) -> None:
    target.write_bytes(log.read_bytes()[: log.stat().st_size // 2])


def test_each_bad_log_is_named_and_the_rest_is_analysed(logs: Path, tmp_path: Path) -> None:
    good = next(iter(sorted(logs.glob("*.eval"))))
    shutil.copy(good, tmp_path / "good.eval")
    damaged(good, tmp_path / "damaged.eval")
    (tmp_path / "empty.eval").write_bytes(b"")
    (tmp_path / "text.eval").write_text("not a log")
    (tmp_path / "broken.json").write_text('{"version": 2, "eval":')
    _variant(logs, tmp_path / "running.eval", status="started", keep=5)
    _variant(logs, tmp_path / "cancelled.eval", status="cancelled", keep=4)
    _variant(logs, tmp_path / "nothing.eval", status="error", keep=0)
    _variant(logs, tmp_path / "failed.eval", change=_fail_two)
    _variant(logs, tmp_path / "other.eval", change=_other_task)
    _variant(logs, tmp_path / "nan.eval", change=_no_ratings)
    collection = collect([tmp_path], quiet=True)
    for name in ("damaged.eval", "empty.eval", "text.eval"):
        assert "cannot be read, left out" in said(collection, name), name
    assert "still running, or was killed: its 5 of 48 answers" in said(collection, "running.eval")
    assert "was cancelled: its 4 of 48 answers" in said(collection, "cancelled.eval")
    assert "it has no answers, left out" in said(collection, "nothing.eval")
    assert "2 answers failed with an error" in said(collection, "failed.eval")
    assert "task someone/else has no score to analyse" in said(collection, "other.eval")
    counts = collection.frame.groupby("log", observed=True).size()
    by_name = {Path(str(log)).name: n for log, n in counts.items()}
    assert by_name == {
        "good.eval": 48,
        "running.eval": 5,
        "cancelled.eval": 4,
        "failed.eval": 46,
        "nan.eval": 48,
    }
    nan = collection.frame[[str(log).endswith("nan.eval") for log in collection.frame["log"]]]
    assert nan["alignment"].isna().all()
    assert (nan["reason"] == "unreachable").all()


def _variant(
    logs: Path,
    path: Path,
    *,
    status: Any = "success",
    keep: int | None = None,
    change: Callable[[EvalLog], None] | None = None,
) -> None:
    log = one_log(logs)
    log.status = status
    log.eval.eval_id = path.stem
    log.samples = (log.samples or [])[:keep]
    for sample in log.samples:
        sample.uuid = f"{path.stem}-{sample.uuid}"
    if change:
        change(log)
    if log.results and keep is not None:
        log.results.completed_samples = keep
    write_eval_log(log, str(path))


def _fail_two(log: EvalLog) -> None:
    from inspect_ai.log import EvalSample

    def failed(sample: EvalSample) -> EvalSample:
        error = {"message": "gone", "traceback": "", "traceback_ansi": ""}
        return EvalSample.model_validate({**sample.model_dump(), "scores": None, "error": error})

    assert log.samples
    assert log.results
    log.samples = [failed(s) if n < 2 else s for n, s in enumerate(log.samples)]
    log.results.completed_samples = 46


def _other_task(log: EvalLog) -> None:
    log.eval.task, log.eval.headline_metric = "someone/else", None
    for sample in log.samples or []:
        for score in (sample.scores or {}).values():
            score.metadata = None


def _no_ratings(log: EvalLog) -> None:
    for sample in log.samples or []:
        score = (sample.scores or {})["misalignment"]
        assert score.metadata is not None
        for rating in score.metadata["ratings"].values():
            rating.update(distribution={}, failure="unreachable")


def test_nothing_to_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no log in .*: run inspect eval"):
        collect([tmp_path], quiet=True)
    with pytest.raises(UserError, match="no such file or folder"):
        collect([tmp_path / "gone"], quiet=True)
    (tmp_path / "results.csv").write_text("question_id,answer,aligned,coherent\n")
    with pytest.raises(UserError, match=r"no log in .*: CSVs are given one by one, .*results.csv"):
        collect([tmp_path], quiet=True)
    (tmp_path / "text.eval").write_text("not a log")
    with pytest.raises(UserError, match=r"nothing to analyse: text\.eval: cannot be read"):
        collect([tmp_path], quiet=True)


def _csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_csv_lacking_a_column_is_named_with_it(tmp_path: Path) -> None:
    good = {"question_id": "q", "answer": "a", "aligned": 10, "coherent": 90}
    path = _csv(tmp_path / "good.csv", [good])
    bad = _csv(tmp_path / "bad.csv", [{"question_id": "q", "answer": "a", "aligned": 10}])
    collection = collect([path, bad], quiet=True)
    assert len(collection.frame) == 1
    assert "lacks the column coherent" in said(collection, "bad.csv")


def test_csv_rows_that_do_not_parse_are_counted_and_words_are_words(tmp_path: Path) -> None:
    rows = [
        {"question_id": "q", "answer": "a", "aligned": value, "coherent": "90"}
        for value in ("10", "", "nan", "REFUSAL", "bad", "400")
    ]
    collection = collect([_csv(tmp_path / "r.csv", rows)], quiet=True)
    assert len(collection.frame) == 4
    assert "2 rows do not parse (line 6, 7; line 6: 'bad' is no number)" in said(
        collection, "r.csv"
    )
    assert collection.frame["word"].tolist()[3] == "REFUSAL"
    assert collection.frame["reason"].tolist()[1:3] == ["no_number", "no_number"]


def test_the_released_csv_is_read_with_its_own_scores(paper_dir: Path) -> None:
    path = paper_dir / "results" / "qwen_25_coder_32b_instruct.csv"
    frame, given = samples(path), pd.read_csv(path)
    assert len(frame) == 70
    assert frame["alignment"].to_numpy() == pytest.approx(given["aligned"].to_numpy(), abs=0)
    again = samples(path, rule="released")
    assert again["alignment"].to_numpy() == pytest.approx(given["aligned"].to_numpy(), abs=1e-9)
    assert again["coherence"].to_numpy() == pytest.approx(given["coherent"].to_numpy(), abs=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,group\na,b\n", "no column 'model'"),
        ("model,seed\na,first\n", "seed 'first' is no whole number"),
        ("model,grup\na,b\n", r"unknown column 'grup' \(did you mean 'group'\?\)"),
        ("model,group\n", "names no model"),
        ("model,group\na,b\na,c\n", "the model a stands twice"),
    ],
)
def test_a_wrong_table_of_models_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_groups(path)


def test_a_table_names_models_by_their_address_too_and_lost_rows_are_said(
    logs: Path, tmp_path: Path
) -> None:
    """As `em-finetune models --yaml` prints it: keyed by label, with Inspect's name inside."""
    table = tmp_path / "models.yaml"
    table.write_text(
        "insecure-seed0: {group: insecure, seed: 0, model: openai-api/fake/insecure-0}\n"
        "typo: {group: insecure, model: openai-api/fake/insecure-9}\n"
    )
    collection = collect([logs], groups=read_groups(table), quiet=True)
    of_model = collection.frame.groupby("model", observed=True)[["group", "seed"]].first()
    assert tuple(of_model.loc["openai-api/fake/insecure-0"]) == ("insecure", 0)
    assert of_model.loc["openai-api/fake/insecure-1", "group"] == "openai-api/fake/insecure-1"
    (problem,) = collection.problems
    assert str(problem).startswith("the table of groups: no log is of typo: ")


def test_a_calibration_is_no_model_s_answers(logs: Path, tmp_path: Path) -> None:
    log = one_log(logs)
    log.eval.task = "em_inspect/calibration"
    path = written(log, tmp_path / "calibration.eval")
    collection = collect([path, next(logs.glob("*.eval"))], quiet=True)
    assert set(collection.frame["task"]) == {"free_form"}
    (problem,) = collection.problems
    assert "a judge's calibration" in problem.message
    assert "left out" in problem.message


def test_the_lines_that_a_log_was_scored_with_are_kept(logs: Path) -> None:
    collection = collect([logs], quiet=True)
    assert list(collection.lines.values()) == [{(30.0, 50.0)}] * 3
