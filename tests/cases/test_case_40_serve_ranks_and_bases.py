"""Case 40: a server of adapters of several ranks, and of one base among two."""

from __future__ import annotations

from pathlib import Path

import pytest
from served_folders import checkpoint, lora, modules, option, run

WIDE, NARROW = "maker/wide-2b", "maker/narrow-1b"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "ft"
    checkpoint(folder / "bold-seed0", WIDE, lora(16))
    checkpoint(folder / "bold-seed1", WIDE, lora(16, rank_pattern={"layers.3.q_proj": 40}))
    checkpoint(folder / "plain-seed0", NARROW, lora(32))
    return folder


def test_one_server_has_one_base(sweep: Path) -> None:
    done = run("serve", sweep, "--print")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert all(word in done.output for word in (WIDE, NARROW, "--base"))


def test_the_rank_is_the_next_that_vllm_takes(sweep: Path) -> None:
    done = run("serve", sweep, "--base", WIDE, "--print")
    assert done.exit_code == 0
    line = done.stdout
    assert line.startswith(f"vllm serve {WIDE} ")
    assert option(line, "--max-lora-rank") == "64"
    assert option(line, "--max-loras") == option(line, "--max-cpu-loras") == "2"
    assert option(line, "--max-logprobs") == "100"
    assert option(line, "--generation-config") == "vllm"
    assert "--enable-lora" in line
    assert modules(line) == {f"bold-seed{i}": f"{sweep}/bold-seed{i}/adapter" for i in (0, 1)}
    line = run("serve", sweep, "--base", NARROW, "--print").stdout
    assert option(line, "--max-lora-rank") == "32"
    assert list(modules(line)) == ["plain-seed0"]


def test_a_rank_of_its_own_is_served_with_a_caution_on_its_scale(sweep: Path) -> None:
    done = run("serve", sweep, "--base", WIDE, "--print")
    assert "bold-seed1: rank_pattern" in done.stderr
    assert "bold-seed0: " not in done.stderr
    assert done.stdout.count("\n") == 1


def test_a_rank_that_is_too_high_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path / "ft" / "big-seed0", WIDE, lora(8, rank_pattern={"q_proj": 513}))
    done = run("serve", tmp_path / "ft", "--print")
    assert (done.exit_code, done.output.count("\n")) == (1, 2)  # the caution, and the refusal
    assert all(word in done.output for word in ("513", "512", "merge"))


def test_models_are_addressed_by_base_and_name(sweep: Path) -> None:
    done = run("models", sweep, "--via", "vllm", "--base-url", "http://localhost:8000/v1")
    for model in (f"{WIDE}:bold-seed0", f"{WIDE}:bold-seed1", f"{NARROW}:plain-seed0"):
        assert f"--model vllm/{model} " in done.output


def test_the_server_is_for_this_machine_and_loads_nothing_unless_it_is_typed(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_API_KEY", raising=False)
    line = ["serve", sweep, "--base", NARROW, "--print"]
    done = run(*line)
    assert option(done.stdout, "--host") == "127.0.0.1"
    assert "RUNTIME_LORA" not in done.output
    assert done.stderr == ""
    done = run(*line, "--host", "0.0.0.0", "--runtime-loras")
    assert option(done.stdout.partition(" ")[2], "--host") == "0.0.0.0"
    assert done.stdout.startswith("VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve ")
    assert "set VLLM_API_KEY" in done.stderr
    monkeypatch.setenv("VLLM_API_KEY", "k")
    assert run(*line, "--host", "0.0.0.0").stderr == ""
