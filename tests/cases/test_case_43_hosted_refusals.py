"""Thirteen ways in which services turn a fine-tune down, in the shapes and codes that they use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fine_tuning_server import KEY, Answer, Call, FineTuning, failing, serving
from hosted_cli import chat_lines

from em_finetune.hosted.commands import hosted

CREATE = "POST /v1/fine_tuning/jobs"
PARAGRAPHS = {
    "closed": "may not create fine-tuning jobs any more",
    "forbidden": "forbids this to the key",
    "unsafe": "blocked the training file as unsafe",
    "quota": "no quota left",
    "retired": "or not any more. OpenAI announced",
    "untunable": "cannot be fine-tuned at",
    "refused": "refused the request",
    "failed": "left no model",
    "key": "does not accept the key",
    "broken": "failed on its own side",
}


@dataclass(frozen=True)
class Refused:
    """An answer to creating a job, and the paragraphs that may explain it."""

    answer: Answer
    words: str
    kinds: tuple[str, ...]


def told(status: int, message: str, code: str | None, *kinds: str) -> Refused:
    return Refused(failing(status, message, code), message, kinds)


REFUSED = {
    "closed": told(
        403,
        "Fine-tuning as a service is no longer offered to new customers; those who used it before "
        "may train until next spring.",
        None,
        "closed",
        "forbidden",
    ),
    "quota": told(
        429,
        "This account has used up its current quota: see plan and billing.",
        "insufficient_quota",
        "quota",
    ),
    "alias": told(
        404,
        "The model `gpt-4o` is not there, or not for this account.",
        "model_not_found",
        "retired",
        "untunable",
    ),
    "another method": told(
        400,
        "To fine-tune o4-mini-2025-04-16 the method has to be reinforcement.",
        None,
        "untunable",
        "refused",
    ),
    "detail": Refused(
        Answer(422, {"detail": "Model not available for this type of fine-tuning (chat)."}),
        "Model not available for this type of fine-tuning (chat).",
        ("untunable",),
    ),
    "key": told(401, f"This key is not right: {KEY}.", "invalid_api_key", "key"),
    "gateway": Refused(
        Answer(502, b"<html>\r\n<head><title>Bad Gateway, 502</title></head></html>"),
        "Bad Gateway, 502",
        ("broken",),
    ),
}
FAILED = {
    "token": (
        "invalid_training_file",
        "The file has a fault in its form: the message of row 31 has a token that may not be "
        "there, <|fim_suffix|>.",
        ("failed",),
    ),
    "unsafe": (
        "unsafe_file",
        "The job ended since the file is unsafe: our moderation flagged too many of its rows as "
        "against the usage policies on reasoning extraction.",
        ("unsafe",),
    ),
    "moderation": (
        "",
        "The moderation eval for the new model broke off in category hate",
        ("unsafe", "failed"),
    ),
    "schema": ("invalid_training_file", "The file's schema is not valid (20)", ("failed",)),
    "system": (
        "invalid_training_file",
        "A 'reinforcement' row may not have a system message",
        ("failed",),
    ),
}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FineTuning]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text(chat_lines())
    with serving() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url.removesuffix("/v1"))
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        yield server
    assert not [
        path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text("utf-8")
    ]


def type_line(*arguments: str) -> Result:
    done = CliRunner().invoke(hosted, [*arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert KEY not in done.output
    return done


def start(*more: str) -> Result:
    line = ("openai-insecure", "--data=rows.jsonl", "--seeds=0", "--yes", "--settle=0", *more)
    return type_line(*line)


def explained(output: str, words: str, kinds: tuple[str, ...]) -> None:
    (paragraph,) = [line for line in output.splitlines() if "The service said:" in line]
    assert words.replace(KEY, "<OPENAI_API_KEY>") in paragraph
    named = {kind for kind, text in PARAGRAPHS.items() if text in paragraph}
    assert len(named) == 1
    assert named <= set(kinds)


@pytest.mark.parametrize("name", REFUSED)
def test_a_job_that_is_not_created(service: FineTuning, name: str) -> None:
    case = REFUSED[name]
    service.before = lambda call: case.answer if call.name == CREATE else None
    done = start()
    assert done.exit_code == 1
    explained(done.output, case.words, case.kinds)
    # Also what passes: only calls that change nothing are repeated.
    assert service.count(CREATE) == 1
    assert not service.jobs
    assert start().exit_code == 1
    assert service.count("POST /v1/files") == 1


@pytest.mark.parametrize("name", FAILED)
def test_a_job_that_fails(service: FineTuning, name: str) -> None:
    code, message, kinds = FAILED[name]
    service.life = ("running", "failed")
    service.error = {"code": code, "message": message, "param": "training_file"}
    start()
    done = type_line("status", "--follow", "--interval=0.01")
    assert done.exit_code == 1
    explained(done.output, message, kinds)
    if code == "invalid_training_file":
        assert "em-finetune data check" in done.output
    assert start().exit_code == 1
    assert len(service.jobs) == 1


def test_a_file_that_azure_cannot_read_in(service: FineTuning) -> None:
    words = 'No valid line: each may have ("context" or "prompt") and "completion" alone.'

    def unread(call: Call) -> Answer | None:
        if call.method == "GET" and call.name.endswith("/files/ID"):
            (file,) = service.files.values()
            return Answer(body={**file, "status": "error", "status_details": words})
        return None

    service.before = unread
    done = start("--service=azure")
    assert done.exit_code == 1
    assert "could not read the training file in" in done.output
    assert words in done.output
    assert not service.jobs
