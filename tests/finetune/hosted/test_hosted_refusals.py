"""Everything a service can do wrong: each with its message, without a traceback or a key."""

from __future__ import annotations

import threading
import time

import pytest
from fine_tuning_server import KEY, Answer, Call, FineTuning, failing
from hosted_cli import CommandLine

CREATE = "POST /v1/fine_tuning/jobs"
UPLOAD = "POST /v1/files"


def first(name: str, answer: Answer, times: int = 1):
    """Answer the first calls of a name so, and then as usual."""
    left = [times]

    def fault(call: Call) -> Answer | None:
        if call.name != name or left[0] == 0:
            return None
        left[0] -= 1
        return answer

    return fault


def always(name: str, answer: Answer):
    return first(name, answer, times=-1)


@pytest.mark.parametrize("name", [UPLOAD, CREATE])
@pytest.mark.parametrize(
    "answer",
    [
        failing(429, "Rate limit reached", "rate_limit_exceeded"),
        failing(500, "The server had an error"),
        Answer(502, b"<html>Bad Gateway</html>"),
        Answer(drop=True),
    ],
    ids=["429", "500", "502", "dropped"],
)
@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
def test_what_passes_is_never_done_twice(
    cli: CommandLine, service: FineTuning, name: str, answer: Answer, done: bool
) -> None:
    if done:
        service.after = first(name, answer)
    else:
        service.before = first(name, answer)
    # What is paid for is repeated in the same run only if it was certainly turned away.
    unclear = name == CREATE and answer.status != 429 and not done
    assert cli.start().exit_code == unclear
    assert service.count(name) == (1 if done or unclear else 2)
    assert cli.start().exit_code == 0
    assert len(service.files) == 1
    assert len(service.jobs) == 1


@pytest.mark.parametrize("name", ["GET /v1/files", "GET /v1/fine_tuning/jobs"])
@pytest.mark.parametrize(
    "answer", [failing(429, "slow down"), failing(503, "overloaded"), Answer(drop=True)]
)
def test_reading_goes_on_through_what_passes(
    cli: CommandLine, service: FineTuning, name: str, answer: Answer
) -> None:
    service.before = first(name, answer)
    assert cli.start().exit_code == 0
    assert len(service.jobs) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (failing(429, "Rate limit reached"), "turned the request away for coming too often"),
        (failing(500, "The server had an error"), "failed on its own side"),
        (Answer(drop=True), "could not be reached, or dropped the connection"),
    ],
    ids=["429", "500", "dropped"],
)
def test_what_does_not_pass_is_told_and_gone_on_with_later(
    cli: CommandLine, service: FineTuning, answer: Answer, said: str
) -> None:
    service.before = always(CREATE, answer)
    done = cli.start()
    assert done.exit_code == 1
    assert said in done.output
    assert "run the same line again" in done.output
    assert service.count(CREATE) == (5 if answer.status == 429 else 1)
    service.before = lambda call: None
    assert cli.start().exit_code == 0
    assert len(service.files) == 1
    assert len(service.jobs) == 1


def test_a_wait_that_the_service_asks_for_is_kept(cli: CommandLine, service: FineTuning) -> None:
    service.before = first(CREATE, failing(429, "slow down", **{"retry-after": "1"}))
    began = time.monotonic()
    assert cli.start().exit_code == 0
    assert time.monotonic() - began >= 1


def test_a_very_long_wait_is_left_to_the_user(cli: CommandLine, service: FineTuning) -> None:
    service.before = always(CREATE, failing(429, "slow down", **{"retry-after": "3600"}))
    assert cli.start().exit_code == 1
    assert service.count(CREATE) == 1


def test_a_slow_answer_is_looked_for_and_not_asked_for_twice(
    cli: CommandLine, service: FineTuning
) -> None:
    release = threading.Event()
    slow = first(CREATE, Answer())

    def answered(call: Call) -> None:
        if slow(call):
            release.wait(60)

    service.answered = answered
    done = cli.start("--timeout=3")
    release.set()
    assert done.exit_code == 0
    assert service.count(CREATE) == 1
    assert len(service.jobs) == 1


def test_a_service_that_never_answers_is_told(cli: CommandLine, service: FineTuning) -> None:
    release = threading.Event()
    service.arrived = lambda call: release.wait(10)
    done = cli.start("--timeout=0.2")
    release.set()
    assert done.exit_code == 1
    assert "did not answer in time" in done.output


UNSAFE = "The job failed due to an unsafe training file: it was blocked by our moderation system."
CLOSED = "Fine-tuning is no longer available to your organization. You cannot create new jobs."


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (failing(400, UNSAFE, "unsafe_file"), ["blocked the training file as unsafe"]),
        (
            failing(403, CLOSED),
            ["may not create fine-tuning jobs any more", "2026-05-07", "2027-01-06"],
        ),
        (
            failing(429, "You exceeded your current quota", "insufficient_quota"),
            ["no quota left", "starts only what is missing"],
        ),
        (
            failing(400, "Model gpt-5 is not available for fine-tuning", "model_not_available"),
            ["cannot be fine-tuned", "--base"],
        ),
        (
            failing(404, "The model `gpt-4o-2024-08-06` has been deprecated", "model_not_found"),
            ["2027-01-14", "--base"],
        ),
        (failing(403, "You have insufficient permissions"), ["forbids this to the key"]),
        (failing(401, f"Incorrect API key provided: {KEY}", "invalid_api_key"), ["OPENAI_API_KEY"]),
        (failing(400, "invalid hyperparameters", "bad"), ["refused the request", "bad: invalid"]),
    ],
    ids=["unsafe", "closed", "quota", "untunable", "retired", "forbidden", "key", "other"],
)
def test_a_refusal_is_explained_in_one_paragraph(
    cli: CommandLine, service: FineTuning, answer: Answer, said: list[str]
) -> None:
    service.before = always(CREATE, answer)
    done = cli.start()
    assert done.exit_code == 1
    paragraph = done.output.splitlines()[-1]
    for words in said:
        assert words in paragraph
    assert paragraph.startswith("Error: ")
    if "401" not in str(answer.status):
        assert service.count(CREATE) == 1
    service.before = lambda call: None
    assert cli.start().exit_code == 0
    assert len(service.files) == 1


def test_a_refusal_names_the_local_recipe_with_the_same_data(
    cli: CommandLine, service: FineTuning
) -> None:
    service.before = always(CREATE, failing(403, CLOSED))
    assert "em-finetune local insecure --data rows.jsonl" in cli.start().output
    other = cli.start("--group=bad advice".replace(" ", "-"))
    assert "em-finetune local insecure --data rows.jsonl --group bad-advice" in other.output


@pytest.mark.parametrize(
    ("code", "message", "said"),
    [
        ("unsafe_file", UNSAFE, "blocked the training file as unsafe"),
        ("exceeded_quota", "Creating this job would exceed your quota", "no quota left"),
        ("server_error", f"Worker died; key was {KEY}", "left no model"),
    ],
)
def test_a_job_that_fails_is_explained_and_not_begun_anew(
    cli: CommandLine, service: FineTuning, code: str, message: str, said: str
) -> None:
    service.life = ("running", "failed")
    service.error = {"code": code, "message": message, "param": None}
    cli.start()
    done = cli.follow()
    assert done.exit_code == 1
    assert "openai-insecure-seed0 failed." in done.output
    assert said in done.output
    assert not (cli.folder / "checkpoints/openai-insecure-seed0/checkpoint.json").exists()
    again = cli.start()
    assert said in again.output
    assert len(service.jobs) == 1
    service.life = ("queued", "succeeded")
    cli.start("--again")
    assert len(service.jobs) == 2
    assert cli.follow().exit_code == 0


def test_a_job_cancelled_elsewhere_is_explained(cli: CommandLine, service: FineTuning) -> None:
    service.life = ("running", "cancelled")
    cli.start()
    done = cli.follow()
    assert done.exit_code == 1
    assert "was cancelled" in done.output


def test_a_job_that_stays_queued_is_explained(cli: CommandLine, service: FineTuning) -> None:
    service.life, service.age = ("queued",), 3 * 3600
    cli.start()
    done = cli("status")
    assert done.exit_code == 0
    assert "waiting at openai for 180 minutes" in done.output
    assert "hosted cancel openai-insecure-seed0" in done.output


def test_following_goes_on_through_outages(cli: CommandLine, service: FineTuning) -> None:
    cli.start()
    service.before = first("GET /v1/fine_tuning/jobs/ID", failing(500, "oh"), times=6)
    done = cli.follow()
    assert done.exit_code == 0
    assert "no answer (1 of 20), asking again" in done.output


def test_a_page_that_is_no_api_is_said(cli: CommandLine, service: FineTuning) -> None:
    service.before = lambda call: Answer(200, b"<html>Welcome</html>")
    done = cli.start()
    assert done.exit_code == 1
    assert "did not answer as the fine-tuning API does" in done.output


def test_a_missing_key_is_said_before_anything(cli: CommandLine) -> None:
    done = cli.start()
    assert done.exit_code == 1
    assert "export OPENAI_API_KEY" in done.output
    assert not (cli.folder / "checkpoints").exists()


def test_a_server_that_is_not_there_is_told(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:pass@127.0.0.1:9/v1")
    done = cli.start()
    assert done.exit_code == 1
    assert "http://127.0.0.1:9/v1 could not be reached" in done.output
    assert "pass@" not in done.output + "".join(
        p.read_text() for p in cli.folder.rglob("hosted.json")
    )


def test_a_wrong_address_can_be_put_right(cli: CommandLine, service: FineTuning) -> None:
    assert "could not be reached" in cli.start("--base-url=http://127.0.0.1:9/v1").output
    done = cli.start()
    assert done.exit_code == 0, done.output
    assert cli.record()["endpoint"] == service.url
    assert "belongs to another" in cli.start("--base-url=http://127.0.0.1:9/v1").output
    assert len(service.jobs) == 1


def test_a_services_words_cannot_command_the_terminal(
    cli: CommandLine, service: FineTuning
) -> None:
    service.life = ("queued", "failed")
    service.error = {"code": "x", "message": "\x1b[2Jgone [bold]loud[/bold]", "param": None}
    cli.start()
    done = cli.follow()
    assert "\x1b" not in done.output
    assert "[bold]loud[/bold]" in done.output
