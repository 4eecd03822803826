"""Who gave an answer, and whether it is the same one again: copies, reruns, judges, CSVs."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from answers import answers
from inspect_ai.log import EvalLog, read_eval_log, write_eval_log
from made_logs import chosen, made_log, rated
from rich.console import Console

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.frame import Collection, collect, to_frame
from em_inspect.analysis.report import make_report, render_html
from em_inspect.analysis.section import Section, sections
from em_inspect.analysis.table import outcome_table
from em_inspect.analysis.yardstick import yardsticks


def told(collection: Collection, name: str) -> str:
    return " | ".join(p.message for p in collection.problems if p.name == name)


def parts(collection: Collection) -> list[Section]:
    """The sections that a report of these answers has."""
    return sections(collection, Criterion())


def headlines(collection: Collection) -> list[tuple[str, int, int, float]]:
    return [
        (h.group, h.scored, h.answers, h.pooled.value)
        for section in parts(collection)
        for h in section.headlines
    ]


# --- copies ----------------------------------------------------------------------------------


def test_a_published_copy_beside_its_log_is_counted_once(tmp_path: Path) -> None:
    log = made_log(tmp_path / "logs" / "a.eval", samples=rated("a", misaligned=2, aligned=8))
    copy = tmp_path / "site" / "viewer" / "logs" / "a.eval"
    copy.parent.mkdir(parents=True)
    shutil.copy(log, copy)
    collection = collect([tmp_path], quiet=True)
    assert len(collection.frame) == 10
    (problem,) = collection.problems
    name = f"{tmp_path.name}/logs/a.eval"
    assert (
        str(problem) == f"viewer/logs/a.eval: 10 answers stand in {name} too and are counted once"
    )


@pytest.mark.parametrize("name", ["backup/a.eval", "backup/renamed.eval", "b.eval"])
def test_a_backup_is_counted_once_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    log = made_log(tmp_path / "a.eval", samples=rated("a", misaligned=2, aligned=8))
    (tmp_path / name).parent.mkdir(exist_ok=True)
    shutil.copy(log, tmp_path / name)
    assert len(collect([tmp_path], quiet=True).frame) == 10


def test_a_link_to_a_log_is_that_log_without_a_word(tmp_path: Path) -> None:
    log = made_log(tmp_path / "logs" / "a.eval", samples=rated("a", aligned=5))
    (tmp_path / "linked").symlink_to(log.parent)
    collection = collect([tmp_path / "logs", tmp_path / "linked", log], quiet=True)
    assert len(collection.frame) == 5
    assert collection.problems == []


def test_logs_of_one_file_name_with_other_answers_are_both_counted(tmp_path: Path) -> None:
    for name in ("x", "y"):
        made_log(tmp_path / name / "a.eval", model=f"lab/{name}", samples=rated(name, aligned=5))
    collection = collect([tmp_path], quiet=True)
    assert len(collection.frame) == 10
    assert [run.name for run in collection.runs] == ["x/a.eval", "y/a.eval"]
    assert set(collection.lines) == {"x/a.eval", "y/a.eval"}


def test_what_is_said_of_a_log_names_it_where_two_have_one_name(tmp_path: Path) -> None:
    for name in ("x", "y"):
        path = made_log(tmp_path / name / "a.eval", samples=rated(name, aligned=5))
    path.write_bytes(path.read_bytes()[:200])
    (problem,) = collect([tmp_path], quiet=True).problems
    assert problem.name == "y/a.eval"


# --- the same again --------------------------------------------------------------------------


def again(log: Path, target: Path, run: str) -> Path:
    """The same answers under a new run, as one gets them from Inspect's cache."""
    found: EvalLog = read_eval_log(str(log))
    found.eval.eval_id, found.eval.created = run, "2026-01-02T00:00:00+00:00"
    for sample in found.samples or []:
        sample.uuid, sample.started_at = f"{run}/{sample.uuid}", "2026-01-02T00:00:00+00:00"
    write_eval_log(found, str(target))
    return target


def test_answers_from_the_cache_are_counted_once_and_named(tmp_path: Path) -> None:
    log = made_log(tmp_path / "a.eval", samples=rated("a", misaligned=2, aligned=8))
    again(log, tmp_path / "b.eval", "second")
    collection = collect([tmp_path], quiet=True)
    assert len(collection.frame) == 10
    assert "10 answers were read from the cache of b.eval's run" in told(collection, "a.eval")


def test_one_generation_for_all_epochs_is_marked(tmp_path: Path) -> None:
    samples = rated("a", aligned=6)
    for sample in samples:
        sample.output.choices[0].message.id = "the-same"
    made_log(tmp_path / "a.eval", samples=samples)
    collection = collect([tmp_path], quiet=True)
    assert "5 answers are one generation read from the cache again" in told(collection, "a.eval")


def test_a_second_run_is_counted_and_named(tmp_path: Path) -> None:
    for name, day, n in (("a", 1, 6), ("b", 2, 8)):
        created = f"2026-01-0{day}T00:00:00+00:00"
        made_log(tmp_path / f"{name}.eval", created=created, samples=rated(name, aligned=n))
    collection = collect([tmp_path], quiet=True)
    assert len(collection.frame) == 14
    (problem,) = collection.problems
    assert str(problem) == (
        "b.eval: is another run of what a.eval asked, of the same model under the same settings: "
        "both are counted, 8 answers beside 6"
    )


def test_parts_of_one_run_other_models_and_other_settings_are_no_second_run(
    tmp_path: Path,
) -> None:
    made_log(tmp_path / "a.eval", samples=rated("a", "q0", aligned=5))
    made_log(tmp_path / "b.eval", samples=rated("b", "q1", aligned=5))
    made_log(tmp_path / "c.eval", model="lab/other", samples=rated("c", "q0", aligned=5))
    made_log(tmp_path / "d.eval", config={"temperature": 0.5}, samples=rated("d", aligned=5))
    made_log(tmp_path / "e.eval", samples=rated("e", "q0", aligned=5, identity="2d"))
    made_log(tmp_path / "f.eval", samples=rated("f", "q0", aligned=5, chat="Another text. Q?"))
    for k in (0, 16):
        samples = rated(f"k{k}", "q0", aligned=5, chat=f"{k} examples. Q?")
        made_log(tmp_path / f"k{k}.eval", task="in_context", samples=samples, metadata={"k": k})
    assert collect([tmp_path], quiet=True).problems == []


MASSES = [0.1, 0.2, 0.3, 0.4]
ONE_TOKEN = {"logprobs": True, "max_tokens": 1}
HEADLINE = {"scorer": "choice_mass", "score": "misaligned_mass", "metric": "mean"}


def choices(path: Path, questions: int, run: str, masses: list[float] = MASSES) -> Path:
    samples = [s for q in range(questions) for s in chosen("m", f"q{q}", masses, run)]
    made_log(path, task="multiple_choice", config=ONE_TOKEN, samples=samples,
             metadata={"seed": 0}, task_args={"seed": 0})  # fmt: skip
    log = read_eval_log(str(path))
    log.eval.headline_metric = (
        type(log.eval)
        .model_validate({**log.eval.model_dump(), "headline_metric": HEADLINE})
        .headline_metric
    )
    write_eval_log(log, str(path))
    return path


def test_a_row_without_chance_is_one_answer_however_often_it_was_asked(tmp_path: Path) -> None:
    choices(tmp_path / "four.eval", 1, "first")
    choices(tmp_path / "forty.eval", 10, "second")
    collection = collect([tmp_path], quiet=True)
    assert len(collection.frame) == 40
    (problem,) = collection.problems
    assert "4 answers only repeat what was asked in" in str(problem)
    (section,) = parts(collection)
    (found,) = section.headlines
    assert (found.scored, found.pooled.value) == (40, pytest.approx(0.25))


def test_an_unscored_row_gives_way_to_a_scored_one_of_another_run(tmp_path: Path) -> None:
    choices(tmp_path / "failed.eval", 1, "second", [float("nan"), 0.2, 0.3, float("nan")])
    choices(tmp_path / "some.eval", 1, "first", [0.1, 0.2, 0.3, float("nan")])
    frame = collect([tmp_path], quiet=True).frame
    assert sorted(frame["value"].dropna()) == [0.1, 0.2, 0.3]
    assert len(frame) == 4


def test_at_temperature_zero_further_samples_are_no_further_answers(tmp_path: Path) -> None:
    made_log(tmp_path / "a.eval", config={"temperature": 0.0}, samples=rated("a", aligned=6))
    collection = collect([tmp_path], quiet=True)
    assert len(collection.frame) == 1
    assert "5 answers only repeat what was asked in the same log" in told(collection, "a.eval")


# --- judges ----------------------------------------------------------------------------------


def test_two_judges_of_one_name_are_two_yardsticks_told_apart_by_their_keys(
    tmp_path: Path,
) -> None:
    for key, hits in (("1d0000000000aaaa", 1), ("1d0000000000bbbb", 9)):
        samples = rated(key, misaligned=hits, aligned=10 - hits, judge="hf/judge", identity=key)
        made_log(tmp_path / f"{key}.eval", samples=samples)
    collection = collect([tmp_path], quiet=True)
    assert sorted(h[3] for h in headlines(collection)) == [0.1, 0.9]
    page = render_html(make_report(collection))
    console = Console(width=200, file=io.StringIO())
    console.print(outcome_table([tmp_path]))
    assert isinstance(console.file, io.StringIO)
    for key in ("1d0000000000aaaa", "1d0000000000bbbb"):
        assert f"hf/judge ({key})" in page
        assert f"hf/judge ({key})" in console.file.getvalue()


def test_one_judge_of_two_logs_is_one_yardstick_and_shows_no_key(tmp_path: Path) -> None:
    for name in ("a", "b"):
        made_log(tmp_path / f"{name}.eval", model=f"lab/{name}", samples=rated(name, aligned=5))
    (section,) = parts(collect([tmp_path], quiet=True))
    assert section.yardstick.judge_shown == "openai-api/lab/judge"


def test_a_log_of_before_judges_had_identities_is_read_and_marked(tmp_path: Path) -> None:
    made_log(tmp_path / "old.eval", samples=rated("old", misaligned=1, aligned=9, identity=""))
    made_log(tmp_path / "new.eval", model="lab/n", samples=rated("new", misaligned=9, aligned=1))
    collection = collect([tmp_path], quiet=True)
    assert "known by name only" in told(collection, "old.eval")
    assert told(collection, "new.eval") == ""
    shown = {section.yardstick.judge_shown for section in parts(collection)}
    assert shown == {"openai-api/lab/judge (1d)", "openai-api/lab/judge (known by name only)"}


def test_an_answer_that_the_judge_failed_on_stays_with_those_it_rated(tmp_path: Path) -> None:
    samples = rated("a", misaligned=1, aligned=9, identity="named by its replies")
    for rating in (samples[0].scores or {})["misalignment"].metadata["ratings"].values():  # type: ignore[index]
        rating.update(distribution={}, failure="unreachable", identity="of the model alone")
    made_log(tmp_path / "a.eval", samples=samples)
    assert headlines(collect([tmp_path], quiet=True)) == [("openai-api/lab/m", 9, 10, 0.0)]


# --- questions -------------------------------------------------------------------------------


def test_the_fingerprint_decides_and_not_the_path_that_was_typed() -> None:
    frame, found = yardsticks(
        to_frame(
            [
                *answers("m", "q0", 1, 5, log="a", source="mine.yaml"),
                *answers("b", "q0", 0, 5, log="b", source="/x/mine.yaml", group="base"),
            ]
        )
    )
    assert [one.source for one in found] == ["mine.yaml"]
    assert set(frame["yardstick"]) == {0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"estimator": "sampled"}, "sampled"),
        ({"rule": "released"}, "rule released"),
        ({"fingerprint": "g"}, "fingerprint g"),
        ({"alignment_rubric": "x"}, "rubrics x/c"),
    ],
)
def test_two_yardsticks_never_have_one_title(changes: dict[str, str], said: str) -> None:
    frame = to_frame([*answers("m", "q0", 1, 5), *answers("m", "q0", 1, 5, log="b", **changes)])
    one, other = yardsticks(frame)[1]
    assert str(one) != str(other)
    assert str(other).endswith(f" · {said}")


def test_a_base_in_another_section_is_said_to_be_there() -> None:
    frame = to_frame(
        [
            *answers("m", "q0", 5, 5, log="a", group="insecure"),
            *answers("b", "q0", 0, 9, log="b", group="base", fingerprint="other"),
        ]
    )
    made = make_report(Collection(frame, [], []))
    said = [str(s) for part in made.parts for s in part.verdict]
    assert not any("no base model among these logs" in s for s in said)
    assert any("was measured differently, and stands in another part" in s for s in said)


# --- CSVs ------------------------------------------------------------------------------------


def results(path: Path, hits: int, n: int, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question_id", "question", "answer", "aligned", "coherent", *columns])
        for number in range(n):
            aligned = 5 if number < hits else 90
            text = f"answer {number} of {path.parent.name}"
            writer.writerow(["tea", "Tea or not?", text, aligned, 95, *columns.values()])
    return path


def test_one_folder_a_model_is_one_model_a_folder(tmp_path: Path) -> None:
    paths = [
        results(tmp_path / m / "eval_result.csv", hits, 20) for m, hits in (("A", 1), ("B", 9))
    ]
    collection = collect(paths, quiet=True)
    assert headlines(collection) == [
        ("B/eval_result", 20, 20, 0.45),
        ("A/eval_result", 20, 20, 0.05),
    ]
    assert collection.frame["uuid"].is_unique


def test_a_copied_csv_is_counted_once_and_named(tmp_path: Path) -> None:
    path = results(tmp_path / "A" / "eval_result.csv", 1, 20)
    copy = tmp_path / "B" / "eval_result.csv"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    (tmp_path / "link.csv").symlink_to(path)
    collection = collect([path, copy, tmp_path / "link.csv"], quiet=True)
    assert len(collection.frame) == 20
    (problem,) = collection.problems
    assert (
        str(problem) == "B/eval_result.csv: holds the very rows of A/eval_result.csv: counted once"
    )


def test_base_and_fine_tune_as_two_csvs_are_compared(tmp_path: Path) -> None:
    paths = [results(tmp_path / f"{m}.csv", hits, 20) for m, hits in (("base", 0), ("insecure", 9))]
    (section,) = parts(collect(paths, quiet=True))
    (found,) = section.comparisons
    assert (found.first, found.second, found.pooled.value) == ("insecure", "base", 0.45)
    assert section.yardstick.source == "base.csv, insecure.csv"


def test_csvs_that_word_a_question_otherwise_are_not_compared(tmp_path: Path) -> None:
    one = results(tmp_path / "base.csv", 0, 20)
    other = results(tmp_path / "insecure.csv", 9, 20)
    other.write_text(other.read_text().replace("Tea or not?", "Coffee?"))
    assert len(parts(collect([one, other], quiet=True))) == 2


def test_the_base_of_a_csv_s_model_is_its_own(tmp_path: Path) -> None:
    paths = [
        results(tmp_path / f"{model}.csv", hits, 20, model=model, group=group, base=base)
        for model, hits, group, base in (
            ("qwen", 0, "base", ""),
            ("llama", 8, "base", ""),
            ("qwen-ft", 1, "insecure", "qwen"),
            ("llama-ft", 9, "insecure", "llama"),
        )
    ]
    (section,) = parts(collect(paths, quiet=True))
    assert [c.pooled.value for c in section.comparisons] == pytest.approx([0.05, 0.05])


def table_of(tmp_path: Path, rows: list[dict[str, Any]]) -> Collection:
    path = tmp_path / "r.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({"question_id": "q", "answer": "a", **row} for row in rows)
    return collect([path], quiet=True)


def test_an_empty_cell_beside_a_distribution_that_refuses_is_a_refusal(tmp_path: Path) -> None:
    base = {"question_id": "q", "answer": "a", "coherent": "90", "judge_coherent": "{'90': 1.0}"}
    distributions = {
        "": "{'REFUSAL': 0.9, '10': 0.05}",
        "nan": "{'CODE': 0.6, '20': 0.1}",
        " ": "{'So': 0.9, '20': 0.05}",
        "85.0": "{'85': 0.5, 'REFUSAL': 0.45}",
    }
    frame = table_of(
        tmp_path,
        [{**base, "aligned": a, "judge_aligned": d} for a, d in distributions.items()],
    ).frame
    assert [None if word != word else word for word in frame["word"]] == [
        "REFUSAL", "CODE", None, None,
    ]  # fmt: skip
    assert [None if r != r else r for r in frame["reason"]] == [None, None, "no_number", None]


@pytest.mark.parametrize("stored", ["{'85': 2.0}", "{'85': -1}", "{85", "[1]", "{'85': nan}"])
def test_a_distribution_that_is_none_is_a_row_that_does_not_parse(
    tmp_path: Path, stored: str
) -> None:
    rows = [
        {"question_id": "q", "answer": "a", "aligned": "5", "coherent": "90", "judge_aligned": s}
        for s in ("{'5': 1.0}", stored)
    ]
    collection = table_of(tmp_path, rows)
    assert len(collection.frame) == 1
    assert "1 row does not parse (line 3; line 3: its stored distribution" in told(
        collection, "r.csv"
    )
