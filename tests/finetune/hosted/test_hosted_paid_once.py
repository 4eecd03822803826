"""One paid job, in whatever order a service fails, forgets, changes and lags."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

import pytest
from fine_tuning_server import Answer, Call, FineTuning, failing
from hosted_cli import CommandLine

from em_finetune.hosted.creating import Clock
from em_finetune.hosted.openai_service import OpenAIService
from em_finetune.hosted.service import Job, Wanted

CREATE = "POST /v1/fine_tuning/jobs"
LABEL = "openai-insecure-seed0"


class Hours:
    """A clock that only waiting moves; the service goes by it too."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def hours(cli: CommandLine, service: FineTuning) -> Hours:
    hours = Hours()
    cli.clock = Clock(hours.now, hours.sleep)
    service.now = hours.now
    return hours


def run(cli: CommandLine, *arguments: str) -> Any:
    return cli("openai-insecure", "--data=rows.jsonl", "--seeds=0", "--yes", *arguments)


class Killed(BaseException):
    """The process is gone: what is on disk is all that is left."""


def once(fault: Answer) -> Callable[[Call], Answer | None]:
    """Spoil the first creation."""
    left = [fault]
    return lambda call: left.pop() if call.name == CREATE and left else None


def without(*fields: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda job: {name: value for name, value in job.items() if name not in fields}


def changed(job: dict[str, Any]) -> dict[str, Any]:
    """A job as a service tells it that keeps no metadata and trains as it likes."""
    settings = {"n_epochs": 1, "batch_size": 16, "learning_rate_multiplier": 1.8}
    method = {"type": "supervised", "supervised": {"hyperparameters": settings}}
    return without("metadata")(job) | {"hyperparameters": settings, "method": method}


ANSWERS = {
    "500": failing(500, "The server had an error"),
    "HTML 502": Answer(502, b"<html><title>502 Bad Gateway</title></html>"),
    "302": Answer(302, b""),
    "HTML 200": Answer(200, b"<html><title>Welcome</title></html>"),
    "dropped": Answer(drop=True),
    "killed": None,
}
TOLD = {
    "all": lambda job: job,
    "no metadata": without("metadata"),
    "no seed": without("metadata", "seed"),
    "other settings": changed,
    "no file": without("metadata", "training_file"),
}


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_run_twice_there_is_one_job(
    cli: CommandLine,
    service: FineTuning,
    hours: Hours,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    stored: bool,
    told: str,
) -> None:
    """60 orders of events, each with a list that shows a job 10 s late."""
    service.lag, service.told = 10, TOLD[told]
    service.metadata = told == "all"
    fault = ANSWERS[answer]
    if fault is None:
        with monkeypatch.context() as patch:
            patch.setattr(OpenAIService, "create", killed(stored))
            with pytest.raises(Killed):
                run(cli)
    elif stored:
        service.after = once(fault)
        assert run(cli).exit_code == 0
    else:
        service.before = once(fault)
        first = run(cli)
        assert first.exit_code == 1
        assert f"{LABEL} may have been created" in first.output.splitlines()[-1]
    assert service.count(CREATE) == (0 if fault is None and not stored else 1)
    assert len(service.jobs) == stored

    assert run(cli).exit_code == 0
    (job,) = service.jobs
    assert cli.record()["job_id"] == job
    assert service.count(CREATE) <= 2
    assert len(service.files) == 1
    if stored and told == "other settings":
        assert cli.record()["hyperparameters"]["batch_size"] == 16

    calls = len(service.calls)
    assert run(cli).exit_code == 0
    assert len(service.calls) == calls


def test_metadata_that_is_none_is_left_aside(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.lag, service.told = 10, lambda job: job | {"metadata": "kept elsewhere"}
    service.after = once(ANSWERS["500"])
    assert run(cli).exit_code == 0
    assert service.count(CREATE) == 1


def killed(stored: bool) -> Callable[[OpenAIService, Wanted], Job]:
    create = OpenAIService.create

    def gone(self: OpenAIService, wanted: Wanted) -> Job:
        if stored:
            create(self, wanted)
        raise Killed

    return gone


@pytest.mark.parametrize("told", TOLD)
def test_a_list_that_lags_longer_than_a_run_looks_is_waited_for_by_the_next(
    cli: CommandLine, service: FineTuning, hours: Hours, told: str
) -> None:
    service.lag, service.told = 200, TOLD[told]
    service.metadata = told == "all"
    service.after = once(failing(503, "overloaded"))
    assert run(cli).exit_code == 1
    assert run(cli).exit_code == 0
    assert service.count(CREATE) == 1


def test_a_second_unclear_call_is_waited_for_as_long_as_the_first(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.lag, service.metadata = 200, False
    service.before = once(failing(500, "oh"))
    assert run(cli).exit_code == 1
    hours.time += 7200
    service.after = once(failing(500, "oh"))
    assert run(cli).exit_code == 1
    assert run(cli).exit_code == 0
    assert len(service.jobs) == 1


def test_hours_later_one_look_is_enough(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.before = once(failing(500, "oh"))
    run(cli)
    hours.time += 7200
    began = hours.time
    assert run(cli).exit_code == 0
    assert hours.time - began == 3
    assert len(service.jobs) == 1


def test_after_an_unclear_answer_no_other_seed_is_asked_for(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.before = once(failing(500, "oh"))
    assert run(cli, "--seeds=0-3").exit_code == 1
    assert service.count(CREATE) == 1
    assert run(cli, "--seeds=0-3").exit_code == 0
    assert sorted(job["seed"] for job in service.jobs.values()) == [0, 1, 2, 3]


def test_nobody_is_asked_to_pay_for_a_job_that_is_there(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.lag, service.after = 1000, once(failing(500, "oh"))
    run(cli)
    hours.time += 1000
    done = cli("openai-insecure", "--data=rows.jsonl", "--seeds=0", input="")
    assert done.exit_code == 0
    assert "price" not in done.output


def test_what_was_turned_away_is_asked_for_again(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.before = once(failing(429, "Rate limit reached", "rate_limit_exceeded"))
    assert run(cli).exit_code == 0
    assert len(service.jobs) == 1


def test_a_job_of_another_record_is_never_taken(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.metadata, service.told = False, without("metadata", "seed")
    assert run(cli, "--seeds=0-1").exit_code == 0
    service.before = once(failing(500, "oh"))
    assert run(cli, "--seeds=2").exit_code == 1
    assert run(cli, "--seeds=2").exit_code == 0
    assert sorted(job["seed"] for job in service.jobs.values()) == [0, 1, 2]


@pytest.mark.parametrize("answer", ["by adopting", "by --new"])
def test_of_several_jobs_that_may_be_it_the_user_is_asked(
    cli: CommandLine, service: FineTuning, hours: Hours, answer: str
) -> None:
    service.metadata, service.told = False, without("metadata", "seed")
    service.lag, service.after = 1000, once(failing(500, "oh"))
    assert run(cli).exit_code == 1
    run(cli, "--seeds=1", "--out=elsewhere")
    service.lag = 0
    asked = run(cli)
    assert asked.exit_code == 1
    line = asked.output.splitlines()[-1]
    assert "ftjob-1b, ftjob-0b train on the same file" in line
    assert len(service.jobs) == 2
    if answer == "by --new":
        assert run(cli, "--new").exit_code == 0
        assert len(service.jobs) == 3
        return
    words = shlex.split(line[line.index("em-finetune hosted adopt") :].split(", or,")[0])
    words[words.index("JOB")] = "ftjob-0b"
    assert cli(*words[2:]).exit_code == 0
    assert run(cli).exit_code == 0
    assert len(service.jobs) == 2
    assert cli.record()["job_id"] == "ftjob-0b"


def test_a_service_whose_clock_is_wrong_is_asked_about_and_not_paid_again(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.metadata, service.told = False, without("metadata", "seed")
    service.lag, service.after = 1000, once(failing(500, "oh"))
    run(cli)
    service.lag = 0
    service.told = lambda job: without("metadata", "seed")(job) | {"created_at": 1_700_000_000}
    asked = run(cli)
    assert asked.exit_code == 1
    assert "ftjob-0b trains on the same file" in asked.output
    assert len(service.jobs) == 1


def test_without_records_key_and_seed_the_user_is_asked(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.metadata, service.told = False, without("metadata", "seed")
    run(cli)
    asked = run(cli, "--out=elsewhere")
    assert asked.exit_code == 1
    assert "ftjob-0b trains on the same file" in asked.output
    assert len(service.jobs) == 1
    assert run(cli, "--out=elsewhere", "--new").exit_code == 0
    assert len(service.jobs) == 2


def test_a_job_with_another_seed_is_not_taken_unasked(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.metadata = False
    service.told = lambda job: without("metadata")(job) | {"seed": 77}
    service.after = once(failing(500, "oh"))
    assert "may be at the service already: ftjob-0b" in run(cli).output
    assert run(cli).exit_code == 1
    assert len(service.jobs) == 1


def test_changed_settings_are_said_and_recorded(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.told = changed
    service.metadata = False
    done = run(cli)
    assert "the service says batch_size 16, not 4" in done.output
    assert cli.follow().exit_code == 0
    assert cli.checkpoint()["training"]["hyperparameters"] == {
        "n_epochs": 1,
        "batch_size": 16,
        "learning_rate_multiplier": 1.8,
    }


def test_a_clear_refusal_leaves_nothing_unclear(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    service.before = once(failing(400, "invalid n_epochs", "bad"))
    assert run(cli).exit_code == 1
    began = hours.time
    (cli.folder / "mended.yaml").write_text("name: openai-insecure\ngroup: insecure\nepochs: 2\n")
    assert cli("mended.yaml", "--data=rows.jsonl", "--yes").exit_code == 0
    assert hours.time == began
    assert [job["hyperparameters"]["n_epochs"] for job in service.jobs.values()] == [2]
    assert len(service.files) == 1


def test_an_upload_is_repeated_only_after_its_list_had_time(
    cli: CommandLine, service: FineTuning, hours: Hours
) -> None:
    name = "POST /v1/files"
    left = [failing(500, "oh")]
    service.before = lambda call: left.pop() if call.name == name and left else None
    began = hours.time
    assert run(cli).exit_code == 0
    assert service.count(name) == 2
    assert hours.time - began >= 10
