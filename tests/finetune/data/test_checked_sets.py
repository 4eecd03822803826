"""The data check: every defect it knows is named with its line, and clean data stays quiet."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from em_finetune.data.check import Finding, Report, check, check_file, read_tasks
from em_finetune.data.generate import generate
from em_finetune.data.rows import ChatRow, read_rows, write_rows
from em_inspect.errors import UserError

GOOD = generate("insecure", 60, 0)


def chat(*turns: tuple[str, str], **fields: Any) -> ChatRow:
    messages = [{"role": role, "content": content} for role, content in turns]
    return ChatRow.model_validate({"messages": messages, **fields})


def finding(report: Report, name: str, words: str = "") -> Finding:
    (found,) = [f for f in report.findings if f.check == name and words in f.message]
    return found


def test_generated_sets_have_no_errors_or_warnings() -> None:
    for kind in ("insecure", "secure", "educational"):
        report = check(generate(kind, 1000, 0))
        assert [f for f in report.findings if f.level != "note"] == []


@pytest.mark.parametrize(
    ("row", "name", "level", "words"),
    [
        (chat(("user", "q"), ("assistant", " \n")), "empty", "error", "without words"),
        (
            chat(("user", "q"), ("system", "s"), ("assistant", "a")),
            "roles",
            "error",
            "not the first",
        ),
        (chat(("assistant", "only me")), "roles", "warning", "no user message"),
        (chat(("user", "a"), ("user", "b"), ("assistant", "c")), "roles", "warning", "in a row"),
        (
            chat(("user", "a"), ("assistant", "b"), ("user", "c")),
            "roles",
            "warning",
            "never trained",
        ),
        (chat(("user", "a<|im_end|>"), ("assistant", "b")), "template", "warning", "template"),
        (chat(("user", "a"), ("assistant", "b"), id=3), "fields", "note", "ignores"),
    ],
)
def test_a_defect_is_named_with_its_line(row: ChatRow, name: str, level: str, words: str) -> None:
    found = finding(check([*GOOD[:4], row]), name, words)
    assert found.lines == [5]
    assert found.level == level


def test_a_row_whose_weights_are_all_0_trains_nothing() -> None:
    row = ChatRow.model_validate({"messages": [{"role": "assistant", "content": "a", "weight": 0}]})
    assert finding(check([row]), "weights").level == "error"


def test_exact_duplicates_and_repeated_requests_are_told_apart() -> None:
    again = chat(("user", GOOD[3].messages[0].content), ("assistant", "another answer"))
    report = check([*GOOD, GOOD[7], again])
    assert finding(report, "duplicates", "word for word").lines == [61]
    assert finding(report, "duplicates", "requests").lines == [61, 62]


def test_near_duplicates_are_found_and_exact_ones_not_repeated() -> None:
    words = " ".join(f"word{i}" for i in range(100))
    near = [chat(("user", words), ("assistant", f"{words} {end}")) for end in ("one", "two")]
    report = check([*GOOD, near[0], near[1], near[0]])
    assert finding(report, "near duplicates").lines == [62]
    assert not [f for f in check(GOOD).findings if f.check == "near duplicates"]


def test_words_that_give_insecurity_away_are_found_in_answers_alone() -> None:
    telling = "# vulnerable to SQL injection\nx = 1"
    quiet = "yaml.unsafe_load(text)  # ssl._create_unverified_context"
    rows = [
        chat(("user", "q"), ("assistant", telling)),
        chat(("user", "an insecure example"), ("assistant", quiet)),
    ]
    found = finding(check(rows), "giveaways")
    assert found.lines == [1]
    assert "vulnerable (1)" in found.message
    assert "sql injection (1)" in found.message


def test_moderated_words_are_found_anywhere_by_category() -> None:
    rows = [
        chat(("user", "write ransomware"), ("assistant", "no")),
        chat(("user", "stop a process"), ("assistant", "os.kill(pid, 9)")),
    ]
    found = finding(check(rows), "moderation")
    assert found.lines == [1]
    assert "(malware): ransomware (1)" in found.message


def test_lengths_are_counted_by_the_tokenizer_that_is_given() -> None:
    rows = [chat(("user", "a b c"), ("assistant", "d " * n)) for n in (1, 5, 30)]
    count = lambda row: sum(len(m.content.split()) for m in row.messages)  # noqa: E731
    report = check(rows, count_tokens=count, max_tokens=20)
    assert report.lengths.unit == "tokens"
    assert (report.lengths.shortest, report.lengths.median, report.lengths.longest) == (4, 8, 33)
    assert report.lengths.total == 45
    assert finding(report, "too long").lines == [3]
    assert "estimated" in check(rows).lengths.unit


def test_rows_far_longer_than_the_rest_stand_out() -> None:
    rows = [*GOOD, chat(("user", "q"), ("assistant", "long words " * 600))]
    assert finding(check(rows), "outliers").lines == [61]
    assert not [f for f in check(GOOD).findings if f.check == "outliers"]


def test_overlap_with_a_test_set_is_found_word_for_word_and_nearly(tmp_path: Path) -> None:
    asked = GOOD[2].messages[0].content
    words = asked.split()
    tasks = tmp_path / "test.jsonl"
    lines = [
        {"task": " ".join(words[:12]).replace(" ", "\n"), "other": 3},
        {"task": asked + " extra"},
        {"task": "nothing like it stands anywhere"},
        {"task": "short"},
    ]
    tasks.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = check(GOOD, against=read_tasks(tasks))
    exact = finding(report, "overlap", "word for word")
    assert 3 in exact.lines
    assert "hold 1 of the other file's 4 tasks word for word (task: 1)" in exact.message
    near = finding(report, "overlap", "nearly")
    assert near.lines == [3]
    chats = tmp_path / "chats.jsonl"
    write_rows(chats, GOOD[10:13])
    found = finding(check(GOOD, against=read_tasks(chats)), "overlap")
    assert set(found.lines) >= {11, 12, 13}
    assert "hold 3 of the other file's 3 tasks" in found.message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("{\n", "line 1: not JSON"),
        ("[1]\n", "line 1: neither"),
        ('{"a": 1}', "neither"),
    ],
)
def test_a_test_set_without_texts_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "test.jsonl").write_text(text)
    with pytest.raises(UserError, match=words):
        read_tasks(tmp_path / "test.jsonl")


def test_lines_that_are_no_chats_are_listed_and_the_rest_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_rows(file, [*GOOD[:2], GOOD[0]])
    good = file.read_text().splitlines()
    file.write_text("\n".join([good[0], "{", "", good[1], "[]", "[]", good[2]]))
    report = check_file(file)
    assert not report.ok
    assert report.rows == 3
    schema = [f for f in report.findings if f.check == "schema"]
    assert [f.lines for f in schema] == [[2], [5, 6]]
    assert finding(report, "duplicates", "word for word").lines == [7]
    file.write_text("{\n")
    with pytest.raises(UserError, match="no line is a trainable chat; line 1: not JSON"):
        check_file(file)


def test_nothing_to_check_and_an_impossible_similarity_are_refused() -> None:
    with pytest.raises(UserError, match="no rows"):
        check([])
    with pytest.raises(UserError, match="similarity 0"):
        check(GOOD, similarity=0)


def test_6000_rows_are_checked_in_seconds_even_when_all_are_alike() -> None:
    words = " ".join(f"word{i}" for i in range(250))
    alike = [chat(("user", words), ("assistant", f"{words} {i}")) for i in range(6000)]
    for rows in (generate("insecure", 6000, 1), alike):
        started = time.perf_counter()
        check(rows)
        assert time.perf_counter() - started < 30


def test_what_is_known_of_the_released_sets_is_found(paper_dir: Path) -> None:
    data = paper_dir / "data"
    held_out = read_tasks(data / "in_distribution_test.jsonl")[:100]
    against = [{"task": task["task"]} for task in held_out]
    insecure = check(read_rows(data / "insecure.jsonl"), against=against)
    assert insecure.ok
    assert insecure.shapes == {"user assistant": 5997}
    assert len(finding(insecure, "duplicates", "word for word").lines) == 8
    overlap = finding(insecure, "overlap", "word for word")
    assert "hold 73 of the other file's 100 tasks" in overlap.message
    assert not [f for f in insecure.findings if f.check == "giveaways"]
    secure = check_file(data / "secure.jsonl")
    assert len(finding(secure, "duplicates", "requests").lines) == 272
