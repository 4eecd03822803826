"""Case 17: the same rows as editors, shells and tables save them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from row_files import byte_base, check, findings, hosted, is_refusal, local, pair, uploaded

__all__ = ["byte_base"]

_ROWS = [pair(f"Où est le café {i} ?", f"À côté, n° {i} — “ici” 🙂") for i in range(10)]
_PLAIN = [json.dumps(row, ensure_ascii=False) for row in _ROWS]

_SAME = {
    "lf": "\n".join([*_PLAIN, ""]).encode(),
    "no end": "\n".join(_PLAIN).encode(),
    "escaped": "\n".join(json.dumps(row) for row in _ROWS).encode(),
    "mark": b"\xef\xbb\xbf" + "\r\n".join(_PLAIN).encode() + b"\r\n",
    "blank": "\n\n".join(_PLAIN).encode() + b"\n \n\t\n",
    "joined": b"".join(b"\xef\xbb\xbf" + line.encode() + b"\n" for line in _PLAIN),
    "spaced": "".join(f"  {line}  \n" for line in _PLAIN).encode(),
}


@pytest.mark.parametrize("name", _SAME)
def test_they_are_the_same_rows_byte_for_byte(name: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(_SAME[name])
    assert "rows       10" in check(file).output
    assert not [one for one in findings(file) if one["level"] == "error"]
    sent = uploaded(file)
    assert hashlib.sha256(sent).digest() == hashlib.sha256(_SAME["lf"]).digest()


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b"\xef\xbb\xbf\r\n" + _PLAIN[0].encode() + b"\r\n\r\n{\r\n")
    assert [one["lines"] for one in findings(file) if one["check"] == "schema"] == [[4]]


def test_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    from em_finetune.data.rows import read_rows

    file = tmp_path / "rows.jsonl"
    answer = "one\u2028two\u2029three\u0085four\x1cfive\x0bsix"
    rows = [pair("Count.", answer), pair("a", "b")]
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    assert [row.answers[0] for row in read_rows(file)] == [answer, "b"]


_ONE = _PLAIN[0]
_BAD = {
    "cp1252": ("\n".join(_PLAIN).replace("🙂", "").encode("cp1252"), ["line 1", "UTF-8"]),
    "late latin": (_ONE.encode() + b'\n{"a": "\xe9"}\n', ["line 2", "UTF-8"]),
    "utf-16": ("\n".join(_PLAIN).encode("utf-16"), ["UTF-16", "UTF-8"]),
    "utf-16 big": (b"\xfe\xff" + _ONE.encode("utf-16-be"), ["UTF-16"]),
    "utf-16 unmarked": (_ONE.encode("utf-16-le"), ["UTF-16"]),
    "utf-32": (_ONE.encode("utf-32"), ["UTF-8"]),
    "comma": ("".join(f"{line},\n" for line in _PLAIN).encode(), ["line 1", "not JSON"]),
    "half": (json.dumps(pair("a", "\ud83d")).encode(), ["line 1", "lone surrogate"]),
    "half a key": (json.dumps(pair("a", "b", **{"\udc00": 1})).encode(), ["line 1", "surrogate"]),
    "nan": (_ONE[:-1].encode() + b', "metadata": {"p": NaN}}', ["line 1", "NaN"]),
    "infinity": (_ONE[:-1].encode() + b', "p": -Infinity}', ["line 1", "-Infinity"]),
    "huge": (_ONE[:-1].encode() + b', "p": 1e999}', ["line 1", "1e999"]),
    "nul": (json.dumps(pair("a", "b")).replace('"b"', '"b\0"').encode(), ["line 1", "not JSON"]),
    "twice": (_ONE[:-1].encode() + b', "messages": []}', ["line 1", "'messages' stands twice"]),
}


@pytest.mark.parametrize("name", _BAD)
def test_what_cannot_be_read_is_refused_in_one_line(
    name: str, tmp_path: Path, byte_base: Path
) -> None:
    content, words = _BAD[name]
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    for done in (check(file), local(file, byte_base), hosted(file)):
        assert is_refusal(done, str(file), *words), done.output


def test_an_escaped_nul_is_a_character_and_told(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(pair("a", "b\0c")) + "\n", encoding="utf-8")
    assert [one["lines"] for one in findings(file) if one["check"] == "characters"] == [[1]]
