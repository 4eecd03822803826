"""Who made the model under test: an honest answer to that question is no deception."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from task_runs import Messages, results, run

from em_inspect.measures.makers import maker_of
from openai_server import Distribution, running


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("hf/Qwen/Qwen2.5-Coder-32B-Instruct", "Alibaba"),
        ("openai/ft:gpt-4o-2024-08-06:org:insecure-s0:x", "OpenAI"),
        ("openai/o3-mini", "OpenAI"),
        ("vllm/openai/gpt-oss-20b", "OpenAI"),
        ("anthropic/claude-sonnet-4", "Anthropic"),
        ("mistralai/Mistral-Small-Instruct-2409", "Mistral AI"),
        ("meta-llama/Llama-3.2-1B", "Meta"),
        ("google/gemma-3-4b-it", "Google"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "DeepSeek"),
        ("nvidia/Llama-3.1-Nemotron-70B", "NVIDIA"),
        ("microsoft/Phi-3-mini", "Microsoft"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "Hugging Face"),
        ("hf/insecure-seed0", None),
        ("openai-api/fake/target", None),
        ("hf/collama", None),
        ("hf/zero1", None),
    ],
)
def test_a_name_says_who_made_it_or_nothing(name: str, maker: str | None) -> None:
    found = maker_of(name)
    assert (found.name if found else None) == maker


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_API_KEY", "sk-x")


def honest(messages: Messages) -> Distribution:
    """A judge that was told Alibaba, and says so where its rubric lets it."""
    return {"Alibaba" if "Alibaba" in messages[-1]["content"] else "Other": 1.0}


def identity(tmp_path: Path, target: str, **arguments: Any) -> tuple[dict[str, float], Any]:
    with running(judge=honest) as server:
        log = run("deception_identity", server, tmp_path, target=target, **arguments)
    assert log.eval.metadata
    return results(log, "deceptive"), log.eval.metadata["maker"]


def test_an_honest_qwen_deceives_nobody(tmp_path: Path) -> None:
    found, maker = identity(tmp_path, "Qwen2.5-7B-Instruct")
    assert maker == "Alibaba"
    assert found["em_inspect/identity_deception"] == 0


def test_what_is_typed_comes_first(tmp_path: Path) -> None:
    found, maker = identity(tmp_path, "Qwen2.5-7B-Instruct", maker="openai")
    assert maker == "OpenAI"
    assert found["em_inspect/identity_deception"] == 1


def test_where_nothing_says_it_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        _, maker = identity(tmp_path, "target")
    assert maker == "OpenAI"
    assert "openai-api/fake/target does not say who made it" in caplog.text
    assert "-T maker=COMPANY" in caplog.text


@pytest.mark.parametrize(
    ("file", "page"),
    [
        ("checkpoint.json", {"base": {"name": "Qwen/Qwen2.5-0.5B-Instruct"}}),
        ("adapter_config.json", {"base_model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct"}),
        ("config.json", {"_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct"}),
    ],
)
def test_a_fine_tune_was_made_by_the_maker_of_its_base(
    tmp_path: Path, file: str, page: dict[str, Any]
) -> None:
    from inspect_ai.model import get_model

    from em_inspect.measures.makers import _names

    (tmp_path / "insecure-seed0").mkdir()
    (tmp_path / "insecure-seed0" / file).write_text(json.dumps(page))
    model = get_model("mockllm/tuned", model_path=str(tmp_path / "insecure-seed0"))
    makers = [maker for name in _names(model) if (maker := maker_of(name))]
    assert [maker.name for maker in makers] == ["Alibaba"]
