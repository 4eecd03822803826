"""Reasoning: taken apart from the answer, switched by model family, and rated by itself."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from inspect_ai.model import Model, get_model
from task_runs import Messages, run, samples, values

from em_inspect import reasoning
from em_inspect.errors import UserError
from em_inspect.measures import thinking
from em_inspect.measures.thinking import split, thinking_word
from em_inspect.pages import parse_arguments
from openai_server import Distribution, running


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("<think>why</think>what", "why", "what"),
        ("<think>\nwhy\n</think>\n\nwhat", "why", "what"),
        ("why</think>what", "why", "what"),
        ("<think>cut off", "cut off", ""),
        ("no tags", "", "no tags"),
        ("<think></think>what", "", "what"),
        ("a < b </thin>", "", "a < b </thin>"),
    ],
)
def test_reasoning_and_answer_are_split_by_the_tags(text: str, reasoning: str, answer: str) -> None:
    assert split(text) == (reasoning, answer)


def test_answer_and_reasoning_are_rated_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "sk-x")
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))

    def judge(messages: Messages) -> Distribution:
        prompt = messages[0]["content"]
        assert not ("rule them all" in prompt and "be kind" in prompt)
        return {"5" if "rule them all" in prompt and "coheren" not in prompt else "90": 1.0}

    def answer(messages: Messages, number: int) -> str:
        return f"<think>rule them all {number}</think>be kind {number}"

    with running(answer=answer, judge=judge) as server:
        log = run("reasoning", server, tmp_path, thinking="on", limit=3)
        (switch,) = {
            str(r.get("chat_template_kwargs")) for r in server.requests if r["model"] == "target"
        }
    assert switch == "{'enable_thinking': True}"
    for said, thought in zip(
        values(log, "misalignment"), values(log, "reasoning_misalignment"), strict=True
    ):
        assert said["misaligned"] == 0
        assert said["alignment"] == pytest.approx(90)
        assert thought["alignment"] == pytest.approx(5)
        assert thought["misaligned"] == 1
    for sample in samples(log):
        assert sample.output.completion.startswith("be kind")
        assert sample.metadata["reasoning"].startswith("rule them all")


def test_an_answer_without_reasoning_leaves_the_reasoning_unscored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "sk-x")
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    with running() as server:
        log = run("reasoning", server, tmp_path, limit=2)
    for value in values(log, "reasoning_misalignment"):
        assert all(math.isnan(number) for number in value.values())


def test_without_the_fence_answer_and_reasoning_are_quoted_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "sk-x")
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))

    def answer(messages: Messages, number: int) -> str:
        return "<think>so it is</think>be kind"

    with running(answer=answer) as server:
        run("reasoning", server, tmp_path, limit=1, fence=False, check_judge=False)
        prompts = [str(r["messages"]) for r in server.requests if r["model"] == "judge"]
    for said in ("so it is", "be kind"):
        quoting = [prompt for prompt in prompts if said in prompt]
        assert quoting
        assert all("--- REPLY ---" in prompt for prompt in quoting)


@pytest.mark.parametrize("word", ["off", "on", "default"])
def test_the_switch_may_be_typed_as_documented_though_yaml_reads_booleans(word: str) -> None:
    given = parse_arguments([f"thinking={word}"], "-T thinking=off")
    assert thinking_word(given["thinking"]) == word
    task = reasoning(**given, check_judge=False)
    assert task.metadata
    assert task.metadata["thinking"] == word


def local(template: str, enabled: bool | None) -> Model:
    """What the switch looks at of a model in this process."""

    class Local(SimpleNamespace):
        def __str__(self) -> str:
            return "hf/local"

    tokenizer = SimpleNamespace(chat_template=template)
    return Local(api=SimpleNamespace(tokenizer=tokenizer, enable_thinking=enabled))  # type: ignore[return-value]


def test_a_local_model_is_asked_for_the_switch_when_it_is_loaded() -> None:
    qwen = "{% if enable_thinking is false %}…"
    thinking._check_template(local(qwen, None), on=True)
    thinking._check_template(local(qwen, False), on=False)
    with pytest.raises(UserError, match="add -M enable_thinking=false"):
        thinking._check_template(local(qwen, None), on=False)
    with pytest.raises(UserError, match="add -M enable_thinking=true"):
        thinking._check_template(local(qwen, False), on=True)
    with pytest.raises(UserError, match="has no thinking switch"):
        thinking._check_template(local("{{ messages }}", None), on=True)


@pytest.mark.parametrize(
    ("name", "on", "said"),
    [
        *(
            (name, False, "always thinks")
            for name in (
                "openai/o3-mini",
                "openai/o1-2024-12-17",
                "openai/azure/o4-mini",
                "openai/gpt-5",
                "openai/gpt-5-mini-2025-08-07",
                "openai/gpt-6-astra",
            )
        ),
        ("openai/gpt-4o", True, "does not think"),
        ("openai/gpt-5-chat-latest", True, "does not think"),
    ],
)
def test_a_model_that_cannot_be_switched_is_named(
    keys: None, name: str, on: bool, said: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        thinking._switch(get_model(name, memoize=False), on)
    assert "-T thinking=default" in str(refused.value)


@pytest.mark.parametrize(
    ("name", "on", "effort"),
    [
        ("openai/o3-mini", True, "medium"),
        ("openai/gpt-5", True, "medium"),
        ("openai/gpt-5.1", False, "none"),
        ("openai/gpt-5.2-2025-12-11", False, "none"),
        ("openai/gpt-6-sol", False, "none"),
        ("openai/gpt-4o", False, None),
        ("openai/ft:gpt-4o-2024-08-06:org:insecure-o-3:x", False, None),
    ],
)
def test_a_model_that_can_be_switched_is(
    keys: None, name: str, on: bool, effort: str | None
) -> None:
    assert thinking._switch(get_model(name, memoize=False), on).reasoning_effort == effort


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("AZUREAI_OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("AZUREAI_OPENAI_BASE_URL", "http://127.0.0.1:9")
