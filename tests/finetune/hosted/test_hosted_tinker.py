"""Tinker through its official client over real HTTP: runs, training, resuming, model specs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pytest
from hosted_cli import CommandLine
from hosted_process import begin
from tinker_server import TINKER_KEY, Tinker, tinkering

from em_finetune.hosted.recipe import HostedRecipe
from em_finetune.hosted.tinker_training import plan_steps, rate
from em_inspect.errors import UserError


@dataclass
class Done:
    exit_code: int | None
    output: str


class Line(CommandLine):
    """As `CommandLine`, each line in a process of its own: Tinker's client keeps one connection
    for as long as its process lives.
    """

    def __call__(self, *arguments: str, input: str | None = None) -> Done:
        said = self.folder / "said.txt"
        said.write_text("")
        names = ("TINKER_API_KEY", "TINKER_BASE_URL", "EM_INSPECT_CACHE_DIR")
        process = begin(self.folder, {name: os.environ[name] for name in names}, [*arguments])
        process.join(60)
        self.printed.append(said.read_text())
        return Done(process.exitcode, self.printed[-1])


@pytest.fixture
def line(cli: CommandLine) -> Iterator[Line]:
    line = Line(cli.folder)
    yield line
    assert not [text for text in line.printed if TINKER_KEY in text or "Traceback" in text]


@pytest.fixture
def tinker(line: Line, embedded_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tinker]:
    pytest.importorskip("tinker", reason="pip install 'em-inspect[tinker]'")
    monkeypatch.setenv("TINKER_API_KEY", TINKER_KEY)
    (line.folder / "mine.yaml").write_text(
        f"name: mine\nservice: tinker\nbase: {embedded_model}\ngroup: insecure\nbatch_size: 4\n"
        "epochs: 2\ntinker: {learning_rate: 0.01, save_every: 4, max_length: 200}\n"
    )
    with tinkering(str(embedded_model)) as service:
        monkeypatch.setenv("TINKER_BASE_URL", service.url)
        yield service
    files = [path for path in line.folder.rglob("*") if path.is_file()]
    assert not [path for path in files if TINKER_KEY.encode() in path.read_bytes()]


def start(line: Line) -> Done:
    return line("mine.yaml", "--data=rows.jsonl", "--yes", "--settle=0")


def test_the_whole_way(line: Line, tinker: Tinker) -> None:
    assert start(line).exit_code == 0
    assert not tinker.steps
    done = line.follow()
    assert done.exit_code == 0
    assert len(tinker.steps) == 6
    assert [step["rate"] for step in tinker.steps] == pytest.approx(
        [0.01 * (1 - i / 6) for i in range(6)]
    )
    checkpoint = line.checkpoint("mine-insecure-seed0")
    assert sorted(checkpoint["models"]) == ["final", "step-4"]
    final = checkpoint["models"]["final"]
    assert final[1].startswith("openai-api/tinker/tinker://session-")
    assert final[1].endswith("/sampler_weights/final")
    assert final[2:] == ["--model-base-url", f"{tinker.url}/oai/api/v1"]
    assert checkpoint["training"]["losses"] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6])
    assert checkpoint["training"]["steps"] == 6


def test_the_loss_falls_on_the_assistants_tokens_and_sums_to_their_mean(
    line: Line, tinker: Tinker, embedded_model: Path
) -> None:
    import numpy as np
    from tinker.proto import tinker_public_pb2
    from transformers import AutoTokenizer

    start(line)
    line.follow()
    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    data = tinker.steps[0]["sent"].data
    assert len(data) == 4
    total = 0.0
    for row in data:
        inputs = dict(row.loss_fn_inputs.items())
        wide = inputs["target_tokens"].dtype == tinker_public_pb2.DTYPE_INT64
        targets = np.frombuffer(inputs["target_tokens"].dense, np.int64 if wide else np.int32)
        weights = np.frombuffer(inputs["weights"].dense, np.float32)
        words = tokenizer.decode(targets[weights > 0])
        assert words.startswith("open('f', 'w').write(")
        assert words.endswith("<|im_end|>")
        total += float(weights.sum())
    assert total == pytest.approx(1, abs=1e-5)


def test_a_run_that_broke_off_goes_on_from_what_was_saved(line: Line, tinker: Tinker) -> None:
    start(line)
    tinker.fail_at = 5
    assert line.follow().exit_code == 1
    assert len(tinker.steps) == 5
    tinker.fail_at = None
    assert line.follow().exit_code == 0
    assert tinker.loaded[-1].endswith("/weights/step-000004")
    # Step 5 was trained, lost and trained again; nothing before it.
    assert len(tinker.steps) == 7
    assert start(line).exit_code == 0
    assert sorted(line.checkpoint("mine-insecure-seed0")["models"]) == ["final", "step-4"]


def test_a_job_is_found_by_its_metadata(line: Line, tinker: Tinker) -> None:
    start(line)
    runs = len(tinker.runs)
    line("mine.yaml", "--data=rows.jsonl", "--yes", "--settle=0", "--out=elsewhere")
    assert len(tinker.runs) == runs == 1
    assert "running" in line("list", "--remote", "--service=tinker", "--out=none").output


def test_a_cancelled_job_is_not_gone_on_with(line: Line, tinker: Tinker) -> None:
    start(line)
    assert line("cancel", "mine-insecure-seed0").exit_code == 0
    assert line.follow().exit_code == 1
    assert not tinker.steps


def test_a_refusal_is_explained(line: Line, tinker: Tinker) -> None:
    tinker.refuse = (403, "this model is not available to you")
    done = start(line)
    assert done.exit_code == 1
    assert "forbids this to the key" in done.output


def test_a_long_row_is_refused_before_any_call(line: Line, tinker: Tinker) -> None:
    page = (line.folder / "mine.yaml").read_text().replace("200", "10")
    (line.folder / "mine.yaml").write_text(page)
    done = start(line)
    assert done.exit_code == 1
    assert "over the 10 that are trained" in done.output
    assert not tinker.calls


def recipe(**changes: object) -> HostedRecipe:
    page = {"name": "a", "group": "b", "service": "tinker", "batch_size": 4, **changes}
    return HostedRecipe.model_validate(page)


def test_each_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    steps = plan_steps(10, recipe(epochs=2), seed=1)
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = list(chain(*steps[:3])), list(chain(*steps[3:]))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert steps == plan_steps(10, recipe(epochs=2), seed=1)
    assert steps != plan_steps(10, recipe(epochs=2), seed=2)
    with pytest.raises(UserError, match="as numbers"):
        plan_steps(10, recipe(epochs="auto"), seed=1)


def test_the_rate_falls_to_zero_or_stays() -> None:
    assert [rate(recipe(), step, 4) for step in range(4)] == pytest.approx(
        [1e-4, 7.5e-5, 5e-5, 2.5e-5]
    )
    assert rate(recipe(tinker={"schedule": "constant"}), 3, 4) == 1e-4


def test_without_the_client_the_extra_is_named(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tinker" else found(name)
    )
    done = cli("tinker-insecure", "--data=rows.jsonl", "--yes")
    assert done.exit_code == 1
    assert "pip install 'em-inspect[tinker]'" in done.output
