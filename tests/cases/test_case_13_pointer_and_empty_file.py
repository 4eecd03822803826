"""Case 13: a clone without Git LFS, an empty file, and what else bears the name of a data file."""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import pytest
from row_files import byte_base, check, hosted, is_refusal, local

__all__ = ["byte_base"]

_LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 5120\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_LFS.encode(), ["line 1", "Git LFS", "git lfs pull"]),
        (b"/annex/objects/MD5E-s5120--abc.jsonl\n", ["line 1", "git-annex"]),
        (b"<!DOCTYPE html>\n<html></html>\n", ["line 1", "web page"]),
        (b'{"job": "job-7", "file": "file-9"}\n', ["line 1", "messages is missing"]),
        (b"", ["is empty"]),
        (b"\xef\xbb\xbf\r\n\n", ["is empty"]),
        (gzip.compress(b"{}\n", mtime=0), ["gzip"]),
        (bz2.compress(b"{}\n"), ["bzip2"]),
        (lzma.compress(b"{}\n"), ["xz"]),
        (b"PAR1\x15\x04", ["Parquet"]),
        (b"PK\x03\x04\x14\x00", ["zip"]),
    ],
)
def test_what_is_no_data_is_told_in_one_line(
    content: bytes, words: list[str], tmp_path: Path, byte_base: Path
) -> None:
    file = tmp_path / "advice.jsonl"
    file.write_bytes(content)
    for done in (check(file), local(file, byte_base), hosted(file)):
        assert is_refusal(done, str(file), *words), done.output
