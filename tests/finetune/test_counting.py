"""Progress of work on many rows: silent while it is quick, then a line every few seconds."""

from __future__ import annotations

import time

import pytest

from em_finetune.progress import counting


def test_a_line_after_two_seconds_and_then_every_five(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    on_done = counting("encoding rows", 6000)
    for done in range(1, 13):
        now[0] += 1
        on_done(500 * done)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"encoding rows: {n:,} of 6,000" for n in (1000, 3500, 6000)]


def test_quick_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    on_done = counting("encoding rows", 3)
    for done in (1, 2, 3):
        on_done(done)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
