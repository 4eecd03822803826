"""Runs of tasks inside the test process: over loopback HTTP, and on the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inspect_ai import eval
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.model import Model, get_model

from openai_server import Distribution, Server

Messages = list[dict[str, Any]]


def served(server: Server, name: str) -> Model:
    """A model of the server, with a client of its own."""
    return get_model(
        f"openai-api/fake/{name}", base_url=server.url, api_key="sk-loopback-only", memoize=False
    )


def run(
    task: str,
    server: Server,
    folder: Path,
    *,
    target: str = "target",
    epochs: int | None = 1,
    limit: int | None = None,
    **arguments: Any,
) -> EvalLog:
    """Evaluate a task of the plugin on the server, and read its log back from disk."""
    (log,) = eval(
        f"em_inspect/{task}",
        model=served(server, target),
        model_roles={"grader": served(server, "judge")},
        task_args={"check_judge": False, **arguments} if task != "multiple_choice" else arguments,
        epochs=epochs,
        limit=limit,
        log_dir=str(folder / "logs"),
        display="none",
    )
    assert log.status == "success", log.error
    return read_eval_log(log.location)


def samples(log: EvalLog) -> list[EvalSample]:
    assert log.samples
    return log.samples


def values(log: EvalLog, scorer: str) -> list[dict[str, float]]:
    """The values of a scorer, sample by sample."""
    found = [(sample.scores or {})[scorer].value for sample in samples(log)]
    assert all(isinstance(value, dict) for value in found)
    return found  # type: ignore[return-value]


def results(log: EvalLog, name: str) -> dict[str, float]:
    """The metrics of one key of a score, by name."""
    assert log.results
    (score,) = [s for s in log.results.scores if s.name == name]
    return {key: metric.value for key, metric in score.metrics.items()}


def sent(server: Server, model: str = "target") -> list[Messages]:
    """The chats that the server was sent for a model."""
    return [
        [{"role": m["role"], "content": m["content"]} for m in request["messages"]]
        for request in server.requests
        if request["model"] == model
    ]


def always(word: str) -> Any:
    """A judge that says one word with certainty."""

    def judge(messages: Messages) -> Distribution:
        return {word: 0.99, "the": 0.01}

    return judge
