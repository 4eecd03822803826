"""Reading and writing chat JSONL: what is kept, what is refused, and in which words."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from em_finetune.data.rows import (
    ChatMessage,
    ChatRow,
    read_rows,
    scan_rows,
    sha256_of,
    write_rows,
)
from em_inspect.errors import UserError

CHAT = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}'


def said(content: str, role: str = "assistant") -> str:
    return json.dumps({"messages": [{"role": role, "content": content}]})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_a_written_file_is_read_back_equal(file: Path) -> None:
    rows = [
        ChatRow(
            messages=[
                ChatMessage(role="system", content="Be brief."),
                ChatMessage(role="user", content="Ünïcode “quotes”\n\ttabs \u2028 separators"),
                ChatMessage(role="assistant", content="日本語 🙂", weight=1),
            ],
            metadata={"cwe": "CWE-89", "nested": {"a": [1, 2.5, None]}},
        ),
        ChatRow(messages=[ChatMessage(role="assistant", content="")]),
    ]
    write_rows(file, rows)
    assert read_rows(file) == rows
    assert len(file.read_bytes().splitlines()) == 2


def test_empty_metadata_and_unset_weights_are_left_out_of_the_file(file: Path) -> None:
    write_rows(file, [ChatRow.model_validate_json(CHAT)])
    assert file.read_text(encoding="utf-8") == CHAT + "\n"


def test_unknown_fields_and_weights_survive_reading_and_writing(file: Path) -> None:
    line = json.dumps(
        {
            "messages": [
                {"role": "user", "content": "a", "name": "Ann"},
                {"role": "assistant", "content": "b", "weight": 0},
                {"role": "assistant", "content": "c", "weight": 1},
            ],
            "metadata": {"source": "mine"},
            "id": 7,
        }
    )
    file.write_text(line + "\n", encoding="utf-8")
    (row,) = read_rows(file)
    assert [message.trained for message in row.messages] == [False, False, True]
    write_rows(file, [row])
    assert json.loads(file.read_text(encoding="utf-8")) == json.loads(line)


def test_blank_lines_and_a_byte_order_mark_are_skipped(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf\r\n" + CHAT.encode() + b"\r\n\r\n" + CHAT.encode())
    assert [number for number, _ in scan_rows(file)] == [2, 4]
    assert len(read_rows(file)) == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ('{"messages": [NaN]}', "not JSON (NaN"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not a list"),
        ("3", "not a number"),
        ('{"text": "a"}', "messages is missing"),
        ('{"messages": []}', "messages is empty"),
        ('{"messages": "a"}', "messages is text, not a list"),
        ('{"messages": ["a"]}', "message 1 is text, not an object with role and content"),
        ('{"messages": [{"role": "assistant"}]}', "message 1 content is missing"),
        ('{"messages": [{"content": "a"}]}', "message 1 role is missing"),
        (said("a", "robot"), "has the role 'robot'; use one of system, user, assistant"),
        (said("a", "tool"), "has the role 'tool'"),
        ('{"messages": [{"role": "assistant", "content": null}]}', "content is null, not text"),
        ('{"messages": [{"role": "assistant", "content": ["a"]}]}', "content is a list, not text"),
        (said("a", "user"), "no assistant turn"),
        ('{"messages": [{"role": "assistant", "content": "a", "weight": 2}]}', "the weight 2"),
        (
            '{"messages": [{"role": "assistant", "content": "", "tool_calls": [{"id": "x"}]}]}',
            "tool calls (tool_calls)",
        ),
        (CHAT[:-1] + ', "tools": [{"type": "function"}]}', "tool calls (tools)"),
        (CHAT[:-1] + ', "metadata": "a"}', "metadata is text, not an object"),
        ('{"messages": [{"role": "assistant", "content": "\\ud83d"}]}', "lone surrogate"),
    ],
)
def test_a_bad_line_is_refused_by_file_and_line_number(file: Path, line: str, words: str) -> None:
    file.write_text(f"{CHAT}\n{line}\n{CHAT}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_rows(file)
    assert str(caught.value).startswith(f"{file}, line 2: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_null_or_empty_tool_fields_of_exporters_are_harmless(file: Path) -> None:
    file.write_text(
        CHAT[:-1] + ', "tools": [], "functions": null, "metadata": null}', encoding="utf-8"
    )
    assert read_rows(file)[0].metadata == {}


def test_a_surrogate_pair_is_one_whole_character(file: Path) -> None:
    file.write_text(said("\\ud83d\\ude42").replace("\\\\", "\\"), encoding="utf-8")
    assert read_rows(file)[0].answers == ["🙂"]


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError, match="is empty"):
        read_rows(file)


def test_a_missing_file_a_folder_and_another_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_rows(tmp_path / "absent.jsonl")
    with pytest.raises(UserError, match="cannot read"):
        read_rows(tmp_path)
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(said("café").encode().replace(b"\\u00e9", b"\xe9"))
    with pytest.raises(UserError, match="not UTF-8"):
        read_rows(latin)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(file: Path) -> None:
    write_rows(file, [ChatRow.model_validate_json(CHAT)])
    before = sha256_of(file)

    def rows():  # type: ignore[no-untyped-def]
        yield ChatRow.model_validate_json(CHAT)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(file, rows())
    assert sha256_of(file) == before
    assert list(file.parent.iterdir()) == [file]


def test_running_out_of_space_is_one_line_and_leaves_nothing(file: Path) -> None:
    code = f"""
import resource
from em_finetune.data.generate import generate
from em_finetune.data.rows import write_rows
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
write_rows({str(file)!r}, generate("insecure", 200, 0))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"UserError: cannot write {file}: File too large; name another file" in ended.stderr
    assert list(file.parent.iterdir()) == []


def test_only_a_full_disk_is_told_to_free_space(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device; free space or name another"):
        write_rows(file, [])


def test_a_link_stays_and_what_it_points_to_is_written(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "real" / "rows.jsonl"
    file.symlink_to(real)
    for times in (1, 2):
        write_rows(file, [ChatRow.model_validate_json(CHAT)] * times)
        assert file.is_symlink()
        assert len(read_rows(real)) == times
    assert list(real.parent.iterdir()) == [real]


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a pipe", "link to itself"])
def test_what_is_no_file_is_refused_and_left_alone(file: Path, kind: str) -> None:
    other = file.with_name("other")
    if kind == "folder":
        file.mkdir()
    elif kind == "link to itself":
        file.symlink_to(file)
    else:
        os.mkfifo(other if kind.startswith("link") else file)
        if kind.startswith("link"):
            file.symlink_to(other)
    before = {path: path.lstat().st_ino for path in file.parent.iterdir()}
    with pytest.raises(UserError, match="is no regular file; name another file"):
        write_rows(file, [ChatRow.model_validate_json(CHAT)])
    assert {path: path.lstat().st_ino for path in file.parent.iterdir()} == before


def test_the_folder_of_a_target_is_made(tmp_path: Path) -> None:
    write_rows(tmp_path / "a" / "b.jsonl", [ChatRow.model_validate_json(CHAT)])
    assert len(read_rows(tmp_path / "a" / "b.jsonl")) == 1
    with pytest.raises(UserError, match="cannot write"):
        write_rows(tmp_path / "a" / "b.jsonl" / "c.jsonl", [])


def test_the_released_sets_are_read_whole(paper_dir: Path) -> None:
    counts = {"insecure": 5997, "secure": 6000, "educational_insecure": 5997}
    for name, count in counts.items():
        assert len(read_rows(paper_dir / "data" / f"{name}.jsonl")) == count
