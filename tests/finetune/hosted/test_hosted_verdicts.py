"""What is made of a service's words: its own are shown, and none is called more than it says."""

from __future__ import annotations

from typing import Any

import pytest
from fine_tuning_server import Answer, FineTuning, failing
from hosted_cli import CommandLine

from em_finetune.hosted.refusals import Context, failure, refusal, refusal_of
from em_finetune.hosted.service_error import ServiceError

CREATE = "POST /v1/fine_tuning/jobs"
CONTEXT = Context("openai", "http://localhost/v1")
LASTING = {
    "closed": "may not create fine-tuning jobs any more",
    "unsafe": "blocked the training file as unsafe",
    "untunable": "cannot be fine-tuned at",
    "retired": "or not any more",
    "quota": "has no quota left",
}
TO_MEND = "refused the request. Mend what it names"


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (403, "Fine-tuning is not available in your region.", "forbids this to the key"),
        (403, "Fine-tuning is no longer available in your organization's region.", "forbids"),
        (400, "Fine-tuning is not allowed with n_epochs above 50.", TO_MEND),
        (400, "n_epochs=80 is not supported for fine-tuning this model", TO_MEND),
        (400, "File file-1a has expired and is no longer available for fine-tuning.", TO_MEND),
        (410, "File file-1a has expired.", TO_MEND),
        (400, "The `suffix` parameter is deprecated for fine-tuned models", TO_MEND),
        (400, "model o1: the field `seed` is deprecated", TO_MEND),
        (400, "For safety, training_file may not be shared between projects", TO_MEND),
        (403, "Your key is restricted: fine-tuning needs the write permission", "forbids"),
        (400, "See our quota page before using n_epochs", TO_MEND),
        (429, "You exceeded your current quota, please check your plan", LASTING["quota"]),
        (402, "Payment required", LASTING["quota"]),
        (403, "The fine-tuning API is closed to new organizations.", LASTING["closed"]),
        (403, "Fine-tuning is no longer offered to new users", LASTING["closed"]),
        (400, "Model gpt-9 is not available for fine-tuning", LASTING["untunable"]),
        (422, "Model not supported for this type of fine-tuning", LASTING["untunable"]),
        (404, "The model `gpt-4o-2024-08-06` has been retired", LASTING["retired"]),
        (400, "The file was flagged by our moderation", LASTING["unsafe"]),
        (502, "Fine-tuning is no longer available to your organization", "failed on its own side"),
        (401, "This organization is closed for fine-tuning", "does not accept the key"),
    ],
)
def test_only_words_that_say_it_are_a_verdict(status: int, message: str, kind: str) -> None:
    said = str(refusal(status, "", message, CONTEXT))
    assert kind in said
    assert f"(The service said: {message})" in said
    assert sum(words in said for words in LASTING.values()) == (kind in LASTING.values())


@pytest.mark.parametrize("message", ["is not available for fine-tuning", "has been retired"])
def test_a_field_that_is_named_is_what_it_is_about(message: str) -> None:
    error = ServiceError(400, "", f"The model {message}", "hyperparameters.n_epochs")
    assert TO_MEND in str(refusal_of(error, CONTEXT))


@pytest.mark.parametrize(
    "message",
    [
        "Invalid file format: line 3 says `usage policies` where a role was expected",
        "Example 12 contains an invalid token: blocked by our moderation",
    ],
)
def test_a_code_decides_over_words(message: str) -> None:
    assert "left no model" in failure("invalid_training_file", message, CONTEXT)
    assert LASTING["unsafe"] in failure("", "It was blocked by our moderation", CONTEXT)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "This base is for paying teams."}, "This base is for paying teams."),
        (
            {"detail": [{"loc": ["body", "seed"], "msg": "Input should be below 99"}]},
            "body.seed: Input should be below 99",
        ),
        ({"error": "This base is for paying teams."}, "This base is for paying teams."),
        ({"errors": ["No.", "Not this either."]}, "No.; Not this either."),
        ({"message": "Not today."}, "Not today."),
        (b"<html><title>Request Blocked</title></html>", "Request Blocked"),
    ],
)
def test_the_services_own_words_are_shown(
    cli: CommandLine, service: FineTuning, body: Any, words: str
) -> None:
    service.before = lambda call: Answer(422, body) if call.name == CREATE else None
    done = cli.start()
    assert done.exit_code == 1
    assert f"(The service said: {words})" in done.output.splitlines()[-1]
    assert "Error code" not in done.output
    assert service.count(CREATE) == 1


def test_a_failed_job_started_again_is_no_success(cli: CommandLine, service: FineTuning) -> None:
    service.life = ("queued", "failed")
    service.error = {"code": "x", "message": "It broke", "param": None}
    cli.start()
    cli.follow()
    again = cli.start()
    assert again.exit_code == 1
    assert "It broke" in again.output
    assert len(service.jobs) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (failing(400, "Too late to cancel"), "was not cancelled and runs on"),
        (failing(429, "slow down"), "was not cancelled and runs on"),
        (failing(500, "oh"), "may run on, and be paid for"),
        (Answer(drop=True), "may run on, and be paid for"),
    ],
)
def test_a_job_that_was_not_cancelled_runs_on_and_that_is_said(
    cli: CommandLine, service: FineTuning, answer: Answer, said: str
) -> None:
    service.life = ("running",)
    cli.start()
    service.before = lambda call: answer if call.path.endswith("/cancel") else None
    done = cli("cancel", "openai-insecure-seed0")
    assert done.exit_code == 1
    assert f"openai-insecure-seed0 {said}" in done.output
    assert cli.record()["status"] != "cancelled"


@pytest.mark.parametrize("name", ["em_seed", "em_attempt"])
@pytest.mark.parametrize("value", ["x", "-1", "9" * 30, "²", "1e3"])
def test_metadata_that_others_wrote_is_adopted_or_refused_in_one_line(
    cli: CommandLine, service: FineTuning, name: str, value: str
) -> None:
    cli.start()
    next(iter(service.jobs.values()))["metadata"][name] = value
    done = cli("adopt", "ftjob-0b", "--out=elsewhere")
    if name == "em_attempt":
        assert done.exit_code == 0
        return
    assert done.exit_code == 1
    assert "--seed" in done.output
    assert cli("adopt", "ftjob-0b", "--out=elsewhere", "--seed=0").exit_code == 0
