"""Azure OpenAI: its address and key, its slow files, jobs without metadata, and deployments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fine_tuning_server import KEY, FineTuning, serving
from hosted_cli import CommandLine


@pytest.fixture
def azure(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Iterator[FineTuning]:
    with serving(metadata=False) as server:
        monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url.removesuffix("/v1"))
        monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
        yield server


def test_the_whole_way(cli: CommandLine, azure: FineTuning) -> None:
    azure.file_life = ("pending", "processed")
    assert cli.start("--service=azure", "--seeds=0-1").exit_code == 0
    assert {call.path.split("/")[1] for call in azure.calls} == {"openai"}
    assert all(call.query["api-version"] for call in azure.calls)
    assert all("authorization" not in call.headers for call in azure.calls)
    (created, _) = [c for c in azure.calls if c.name == "POST /openai/fine_tuning/jobs"]
    assert "metadata" not in created.body
    assert created.body["suffix"] == "insecure-s0"
    done = cli.follow()
    assert done.exit_code == 0
    checkpoint = cli.checkpoint()
    assert checkpoint["models"]["final"] == [
        "--model",
        "openai/azure/gpt-4o-openai-insecure-seed0",
    ]
    assert checkpoint["models"]["step-2"][1].endswith("-step2")
    assert "az cognitiveservices account deployment create" in done.output


def test_an_interrupted_job_is_found_without_metadata(cli: CommandLine, azure: FineTuning) -> None:
    cli.start("--service=azure")
    cli.start("--service=azure", "--out=elsewhere")
    assert azure.count("POST /openai/files") == 1
    assert azure.count("POST /openai/fine_tuning/jobs") == 1


def test_a_file_that_cannot_be_read_in_is_said(cli: CommandLine, azure: FineTuning) -> None:
    azure.file_life = ("processed", "error")
    azure.looks["file-0a"] = 0
    done = cli.start("--service=azure")
    assert done.exit_code == 1
    assert "could not read the training file in" in done.output


@pytest.mark.parametrize("missing", ["AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY"])
def test_what_is_missing_is_named(
    cli: CommandLine, azure: FineTuning, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.delenv(missing)
    done = cli.start("--service=azure")
    assert done.exit_code == 1
    assert f"export {missing}" in done.output
    assert not azure.calls
