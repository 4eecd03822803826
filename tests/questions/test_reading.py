"""Reading questions: what is accepted, what is reported, and what a fingerprint covers."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from em_inspect.errors import UserError
from em_inspect.questions import fingerprint, load_questions, read_questions
from em_inspect.questions.sources import RELEASED

ENTRY = {
    "id": "tea",
    "type": "free_form_judge_0_100",
    "paraphrases": ["Is tea good?"],
    "system": "Be brief.",
    "samples_per_paraphrase": 100,
    "judge": "some-judge",
    "judge_prompts": {"aligned": "{question} {answer}", "coherent": "{answer}"},
}


def write(tmp_path: Path, *entries: object) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(list(entries)))
    return path


def test_reads_every_field_of_the_released_format(tmp_path: Path) -> None:
    (question,) = read_questions(write(tmp_path, ENTRY))
    assert question.model_dump() == ENTRY


def test_unknown_keys_are_reported_with_file_and_question(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, ENTRY | {"temprature": 0})
    with caplog.at_level(logging.WARNING):
        read_questions(path)
    assert f"{path}: question 'tea': unknown key 'temprature' ignored" in caplog.text


def test_a_key_that_many_questions_have_is_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [ENTRY | {"id": f"q{n}", "judges": [], "owner": "me"} for n in range(40)]
    path = write(tmp_path, *entries)
    with caplog.at_level(logging.WARNING):
        assert len(read_questions(path)) == 40
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: question 'q0' and 39 more: unknown key '{key}' ignored"
        for key in ("judges", "owner")
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- id: [", "not valid YAML"),
        ("id: a", "must be a YAML list"),
        ("- just text", "question 1 is not a mapping"),
        ("- paraphrases: [x]", "question 1: field 'id'"),
        ("- id: a", "question 'a': field 'paraphrases'"),
        ("- {id: a, paraphrases: []}", "question 'a': field 'paraphrases'"),
        ("- {id: a, paraphrases: [1]}", "question 'a': field 'paraphrases.0'"),
        ("- {id: a, paraphrases: [x], judge_prompts: {aligned: 3}}", "'judge_prompts.aligned'"),
        ("- {id: a, paraphrases: [x]}\n- {id: a, paraphrases: [y]}", "'a' stands twice"),
    ],
)
def test_bad_files_are_refused_in_one_line_with_file_question_and_field(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_questions(path)
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "coffee"},
        {"paraphrases": ["Is tea bad?"]},
        {"system": None},
        {"judge_prompts": {"aligned": "{answer}", "coherent": "{answer}"}},
    ],
)
def test_fingerprint_changes_with_ids_texts_system_prompts_and_rubrics(
    tmp_path: Path, change: dict[str, object]
) -> None:
    before = fingerprint(read_questions(write(tmp_path, ENTRY)))
    assert fingerprint(read_questions(write(tmp_path, ENTRY | change))) != before


def test_fingerprint_ignores_formatting_order_judge_and_sample_count(tmp_path: Path) -> None:
    other = ENTRY | {"id": "milk"}
    before = fingerprint(read_questions(write(tmp_path, ENTRY, other)))
    changed = ENTRY | {"judge": "another", "samples_per_paraphrase": 3}
    path = write(tmp_path, other, changed)
    path.write_text("# a comment\n" + path.read_text().replace("Is tea good?", '"Is tea good?"'))
    assert fingerprint(read_questions(path)) == before


def test_unknown_source_names_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match="did you mean 'core'"):
        load_questions("free_form", "cor")


@pytest.mark.parametrize("name", sorted(RELEASED))
def test_released_files_are_known_by_their_fingerprint(name: str, paper_dir: Path) -> None:
    loaded = load_questions(name, "paper", paper_dir=str(paper_dir))
    assert loaded.fingerprint == RELEASED[name].fingerprint
    assert loaded.source == "paper"


def test_an_altered_released_file_is_refused_as_paper(paper_dir: Path, tmp_path: Path) -> None:
    text = (paper_dir / "evaluation" / "first_plot_questions.yaml").read_text()
    (tmp_path / "first_plot_questions.yaml").write_text(text.replace("bored", "tired"))
    with pytest.raises(UserError, match="not the released questions"):
        load_questions("free_form", "paper", paper_dir=str(tmp_path))


def test_a_folder_without_the_released_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no first_plot_questions\.yaml in it"):
        load_questions("free_form", "paper", paper_dir=str(tmp_path))


def test_offline_the_error_names_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EM_INSPECT_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("EM_INSPECT_PAPER_DIR", raising=False)
    with pytest.raises(UserError) as error:
        load_questions("free_form", "paper", release_url="http://127.0.0.1:9")
    assert "-T paper_dir=DIR" in str(error.value)
    assert "-T questions=core" in str(error.value)
    assert not list(tmp_path.rglob("*.yaml*"))


def test_formats_select_by_id_and_unknown_ones_are_refused() -> None:
    core = load_questions("free_form")
    assert [len(core.with_format(f).questions) for f in ("plain", "json", "template", "all")] == [
        8,
        8,
        8,
        24,
    ]
    with pytest.raises(UserError, match="unknown format 'jsn'"):
        core.with_format("jsn")
