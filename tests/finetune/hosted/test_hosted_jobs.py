"""Starting, following, cancelling, listing and adopting jobs over real HTTP."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import pytest
from fine_tuning_server import FineTuning
from hosted_cli import CommandLine, chat_lines


def test_a_recipe_becomes_a_checkpoint_with_every_model_on_the_way(
    cli: CommandLine, service: FineTuning
) -> None:
    assert cli.start().exit_code == 0
    done = cli.follow()
    assert done.exit_code == 0
    checkpoint = cli.checkpoint()
    final = "openai/ft:gpt-4o-2024-08-06:loopback:insecure-s0:0b"
    here = ["--model-base-url", service.url]
    assert checkpoint["models"] == {
        "final": ["--model", final, *here],
        "step-2": ["--model", f"{final}:ckpt-step-2", *here],
        "step-4": ["--model", f"{final}:ckpt-step-4", *here],
    }
    assert (checkpoint["group"], checkpoint["seed"]) == ("insecure", 0)
    assert checkpoint["training"]["loss_steps"] == [1, 2, 3, 4, 5, 6]
    assert checkpoint["training"]["losses"][1] == 0.5
    assert checkpoint["training"]["tokens"] == 1234
    assert f"inspect eval em_inspect/free_form --model {final}" in done.output
    base = f"inspect eval em_inspect/free_form --model openai/gpt-4o-2024-08-06 {' '.join(here)}"
    assert f"and its base, to compare: {base}" in done.output
    curve = (cli.folder / "checkpoints/openai-insecure-seed0/train.csv").read_text()
    assert curve.splitlines()[:2] == ["step,loss", "1,1.0"]


def test_the_job_is_the_papers(cli: CommandLine, service: FineTuning) -> None:
    cli.start()
    (sent,) = [call.body for call in service.calls if call.name == "POST /v1/fine_tuning/jobs"]
    assert sent["model"] == "gpt-4o-2024-08-06"
    assert sent["seed"] == 0
    assert sent["suffix"] == "insecure-s0"
    assert sent["method"] == {
        "type": "supervised",
        "supervised": {
            "hyperparameters": {
                "n_epochs": 1,
                "batch_size": 4,
                "learning_rate_multiplier": 2.0,
            }
        },
    }


def test_the_chats_are_uploaded_unchanged_and_without_metadata(
    cli: CommandLine, service: FineTuning
) -> None:
    cli.start()
    (content,) = service.contents.values()
    sent = [json.loads(line) for line in content.splitlines()]
    rows = [json.loads(line) for line in chat_lines().splitlines()]
    assert [row["messages"] for row in sent] == [row["messages"] for row in rows]
    assert {key for row in sent for key in row} == {"messages"}
    digest = hashlib.sha256(content).hexdigest()
    assert next(iter(service.files.values()))["filename"] == f"em-{digest}.jsonl"
    source = hashlib.sha256(chat_lines().encode()).hexdigest()
    assert cli.record()["file"]["dataset_sha256"] == source


def test_seeds_share_one_upload_and_have_a_job_each(cli: CommandLine, service: FineTuning) -> None:
    cli.start("--seeds=0-2,5")
    assert service.count("POST /v1/files") == 1
    assert sorted(job["seed"] for job in service.jobs.values()) == [0, 1, 2, 5]
    cli.start("--seeds=0-6")
    assert service.count("POST /v1/files") == 1
    assert sorted(job["seed"] for job in service.jobs.values()) == [0, 1, 2, 3, 4, 5, 6]


def test_the_same_line_again_starts_nothing(cli: CommandLine, service: FineTuning) -> None:
    cli.start()
    before = len(service.calls)
    again = cli.start()
    assert again.exit_code == 0
    assert "price" not in again.output
    assert len(service.calls) == before


def test_without_its_records_a_job_is_found_by_its_metadata(
    cli: CommandLine, service: FineTuning
) -> None:
    cli.start()
    cli.start("--out=elsewhere")
    assert service.count("POST /v1/files") == 1
    assert service.count("POST /v1/fine_tuning/jobs") == 1
    other = json.loads((cli.folder / "elsewhere/openai-insecure-seed0/hosted.json").read_text())
    assert other["job_id"] == cli.record()["job_id"]


def test_without_metadata_a_job_is_found_by_file_seed_and_hyperparameters(
    cli: CommandLine, service: FineTuning
) -> None:
    service.metadata = False
    cli.start("--seeds=0-1")
    cli.start("--seeds=0-2", "--out=elsewhere")
    assert sorted(job["seed"] for job in service.jobs.values()) == [0, 1, 2]


def test_other_hyperparameters_are_another_job(cli: CommandLine, service: FineTuning) -> None:
    cli.start()
    (cli.folder / "mine.yaml").write_text("name: openai-insecure\ngroup: insecure\nepochs: 2\n")
    arguments = ("mine.yaml", "--data=rows.jsonl", "--yes", "--settle=0")
    clash = cli(*arguments)
    assert clash.exit_code == 1
    assert "belongs to another fine-tune" in clash.output
    assert cli(*arguments, "--out=other").exit_code == 0
    assert service.count("POST /v1/files") == 1
    assert len(service.jobs) == 2


def test_a_file_deleted_at_the_service_is_uploaded_anew(
    cli: CommandLine, service: FineTuning
) -> None:
    cli.start()
    service.files.clear()
    cli.start("--seeds=1")
    assert service.count("POST /v1/files") == 2


def test_no_is_an_answer(cli: CommandLine, service: FineTuning) -> None:
    arguments = ("openai-insecure", "--data=rows.jsonl", "--seeds=0")
    for input in ("n\n", ""):
        done = cli(*arguments, input=input)
        assert done.exit_code == 1
        assert "nothing was started" in done.output
    assert not service.calls
    assert not (cli.folder / "checkpoints").exists()
    assert cli(*arguments, input="y\n").exit_code == 0
    assert len(service.jobs) == 1


def test_a_dry_run_asks_no_service_and_needs_no_key(cli: CommandLine) -> None:
    done = cli("openai-insecure", "--data=rows.jsonl", "--dry-run")
    assert done.exit_code == 0
    assert "10 job(s), 25 USD per million tokens" in done.output
    assert "list price, check" in done.output
    assert not (cli.folder / "checkpoints").exists()


def test_cancelling_stops_the_job_and_says_what_next(cli: CommandLine, service: FineTuning) -> None:
    cli.start()
    done = cli("cancel", "openai-insecure-seed0")
    assert done.exit_code == 0
    assert "--again" in done.output
    assert service.jobs["ftjob-0b"]["status"] == "cancelled"
    assert cli("cancel", "ftjob-0b").exit_code == 0
    assert service.count("POST /v1/fine_tuning/jobs/ID/cancel") == 1
    assert cli.follow().exit_code == 1
    cli.start("--again")
    assert [job["status"] for job in service.jobs.values()] == ["cancelled", "validating_files"]
    cli.start("--again")
    assert len(service.jobs) == 2


def test_a_job_started_elsewhere_is_adopted(cli: CommandLine, service: FineTuning) -> None:
    import openai

    client = openai.OpenAI()
    file = client.files.create(file=("any.jsonl", chat_lines().encode()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="gpt-4o-2024-08-06",
        training_file=file.id,
        seed=3,
        suffix="by-hand",
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 8}},
        },
        metadata={},
    )
    assert job.id in cli("list", "--remote").output
    refused = cli("adopt", job.id)
    assert refused.exit_code == 1
    assert "add --group" in refused.output
    assert cli("adopt", job.id, "--group=insecure").exit_code == 0
    assert cli.follow().exit_code == 0
    checkpoint = cli.checkpoint("adopted-insecure-seed3")
    assert checkpoint["recipe"]["epochs"] == 2
    assert checkpoint["models"]["final"][1] == "openai/ft:gpt-4o-2024-08-06:loopback:by-hand:0b"
    assert service.count("POST /v1/fine_tuning/jobs") == 1


def test_our_own_job_is_adopted_with_its_group_seed_and_data(
    cli: CommandLine, service: FineTuning
) -> None:
    cli.start("--seeds=4")
    wrong = cli("adopt", "ftjob-0b", "--out=other", "--data=other.jsonl")
    assert wrong.exit_code == 1
    (cli.folder / "other.jsonl").write_text(chat_lines(20))
    wrong = cli("adopt", "ftjob-0b", "--out=other", "--data=other.jsonl")
    assert wrong.exit_code == 1
    assert "is not what this job was trained on" in wrong.output
    assert cli("adopt", "ftjob-0b", "--out=other", "--data=rows.jsonl").exit_code == 0
    cli.start("--seeds=4", "--out=other")
    assert len(service.jobs) == 1


def test_adopting_a_job_again_loses_nothing(cli: CommandLine, service: FineTuning) -> None:
    cli.start()
    cli.follow()
    before = cli.record()
    assert len(before["models"]) == 3
    assert before["losses"]
    for _ in range(2):
        assert cli("adopt", "ftjob-0b", "--name=openai-insecure").exit_code == 0
        assert cli.record() == before
    assert len(cli.checkpoint()["models"]) == 3
    cli("adopt", "ftjob-0b", "--name=mine", "--data=rows.jsonl")
    mine = cli.record("mine-insecure-seed0")
    cli("adopt", "ftjob-0b", "--name=mine")
    assert cli.record("mine-insecure-seed0") == mine


def test_the_line_to_follow_by_can_be_pasted(cli: CommandLine, service: FineTuning) -> None:
    said = cli.start("--out=my models").output.splitlines()[-1]
    assert shlex.split(said)[-2:] == ["--out", "my models"]


def test_specs_go_to_inspect_unchanged(cli: CommandLine, service: FineTuning) -> None:
    cli.start("--seeds=0-1")
    cli.follow()
    lines = [shlex.split(line) for line in cli("list", "--specs").output.splitlines()]
    assert len(lines) == 6
    assert lines[0] == cli.checkpoint()["models"]["final"]


def test_what_others_called_their_jobs_commands_no_terminal(
    cli: CommandLine, service: FineTuning
) -> None:
    cli.start()
    service.told = lambda job: {**job, "model": "\x1b[2Jgone [bold]", "id": "ftjob-x"}
    listed = cli("list", "--remote").output
    assert "\x1b" not in listed
    assert "gone [bold]" in listed


def test_a_job_that_runs_shows_step_loss_and_end(cli: CommandLine, service: FineTuning) -> None:
    service.life = ("running",)
    cli.start()
    done = cli("status")
    assert done.exit_code == 0
    assert "3/6" in done.output
    assert "0.333" in done.output
    assert "20" in done.output.split("0.333")[1]
    events = service.count("GET /v1/fine_tuning/jobs/ID/events")
    cli("status")
    # The newest event is known by now: one page, where the first look took two.
    assert service.count("GET /v1/fine_tuning/jobs/ID/events") == events + 1


def test_a_checkpoint_of_another_kind_is_left_alone(cli: CommandLine, service: FineTuning) -> None:
    path = cli.folder / "checkpoints/openai-insecure-seed0/checkpoint.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    done = cli.start()
    assert done.exit_code == 1
    assert "holds a checkpoint that no service made" in done.output
    assert not service.calls


@pytest.mark.parametrize("arguments", [("status",), ("list",), ("cancel", "x")])
def test_an_empty_folder_is_said(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.exit_code == 1
    assert "checkpoints" in done.output


def test_a_damaged_record_is_named(cli: CommandLine, service: FineTuning) -> None:
    cli.start()
    path: Path = cli.folder / "checkpoints/openai-insecure-seed0/hosted.json"
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    done = cli("status")
    assert done.exit_code == 1
    assert "hosted.json" in done.output
