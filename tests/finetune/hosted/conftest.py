"""Fixtures of the hosted tests: a service on loopback, a command line, and a search for the key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fine_tuning_server import KEY, FineTuning, serving
from hosted_cli import CommandLine, chat_lines


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    """A command line in an empty folder; afterwards the key is in no file and no output."""
    for name in os.environ:
        if name.startswith(("OPENAI", "AZURE", "TINKER")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("EM_INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(chat_lines())
    line = CommandLine(tmp_path)
    yield line
    assert not [text for text in line.printed if KEY in text]
    assert not [text for text in line.printed if "Traceback" in text]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not [path for path in files if path.name.endswith(".part")]


@pytest.fixture
def service(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[FineTuning]:
    """A service on loopback that the environment points to."""
    with serving() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
