"""Logs made by hand: as Inspect writes them, with answers and ratings that a test decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalLog, EvalSample, write_eval_log

RUBRICS = {"aligned": "rubric-a", "coherent": "rubric-c"}


def made_log(
    path: Path,
    *,
    model: str = "openai-api/lab/m",
    task: str = "free_form",
    task_args: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    model_config: Mapping[str, Any] | None = None,
    model_args: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    samples: Sequence[EvalSample] = (),
    created: str = "2026-01-01T00:00:00+00:00",
    version: str = "1-A",
    base_url: str | None = None,
) -> Path:
    """Write a finished log of one model."""
    ids = list(dict.fromkeys(sample.id for sample in samples))
    epochs = max((sample.epoch for sample in samples), default=1)
    whole = len(samples) == len(ids) * epochs
    log = EvalLog.model_validate(
        {
            "status": "success",
            "eval": {
                "eval_id": f"eval-{path.stem}-{path.parent.name}",
                "run_id": "run",
                "created": created,
                "task": f"em_inspect/{task}",
                "task_version": version,
                "task_args": dict(task_args or {}),
                "dataset": {"samples": len(ids), "sample_ids": ids},
                "model": model,
                "model_base_url": base_url,
                "model_args": dict(model_args or {}),
                "model_generate_config": dict(model_config or {}),
                "config": {"epochs": epochs},
                "metadata": {"question_source": "core", "fingerprint": "f", **(metadata or {})},
            },
            "plan": {"config": {"temperature": 1.0, "max_tokens": 600, **(config or {})}},
            "results": {
                "total_samples": len(samples),
                "completed_samples": len(samples) if whole else -1,
            },
            "samples": [sample.model_dump() for sample in samples],
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_eval_log(log, str(path))
    return path


def rated(
    name: str,
    question: str = "q0",
    *,
    misaligned: int = 0,
    aligned: int = 0,
    chat: str | Sequence[Mapping[str, str]] | None = None,
    identity: str = "1d",
    judge: str = "openai-api/lab/judge",
    metadata: Mapping[str, Any] | None = None,
    suffix: str = "",
) -> list[EvalSample]:
    """Rated answers of one row, so many of them misaligned; `name` makes them unlike others."""
    return [
        _sample(
            f"{name}/{question}{suffix}/{epoch}",
            question + suffix,
            epoch,
            chat if chat is not None else f"What of {question}?",
            {"question_id": question, "question": f"What of {question}?", **(metadata or {})},
            {
                "misalignment": {
                    "value": {"misaligned": float(epoch <= misaligned)},
                    "answer": f"{name} says {epoch} of {question}",
                    "metadata": {
                        "rule": "plurality",
                        "judge": judge,
                        "ratings": {
                            metric: {
                                "metric": metric,
                                "rubric": rubric,
                                "judge": judge,
                                "identity": identity,
                                "estimator": "one_token",
                                "distribution": {number: 1.0},
                            }
                            for (metric, rubric), number in zip(
                                RUBRICS.items(),
                                ("5" if epoch <= misaligned else "90", "90"),
                                strict=True,
                            )
                        },
                    },
                }
            },
        )
        for epoch in range(1, misaligned + aligned + 1)
    ]


def chosen(name: str, question: str, masses: Sequence[float], run: str = "") -> list[EvalSample]:
    """Rows of multiple choice, one per order, with the probability on misaligned choices."""
    return [
        _sample(
            f"{name}{run}/{question}/{order}",
            f"{question}/{order}",
            1,
            f"{question}, order {order}",
            {"question_id": question, "question": question, "format": "choice"},
            {"choice_mass": {"value": {"misaligned_mass": mass}, "answer": "A", "metadata": {}}},
        )
        for order, mass in enumerate(masses)
    ]


def _sample(
    uuid: str,
    id: str,
    epoch: int,
    chat: str | Sequence[Mapping[str, str]],
    metadata: Mapping[str, Any],
    scores: Mapping[str, Any],
) -> EvalSample:
    message = {"role": "assistant", "content": f"from {uuid}", "id": f"message-{uuid}"}
    return EvalSample.model_validate(
        {
            "id": id,
            "epoch": epoch,
            "uuid": uuid,
            "input": chat if isinstance(chat, str) else list(chat),
            "target": "",
            "metadata": dict(metadata),
            "output": {"model": "m", "choices": [{"message": message, "stop_reason": "stop"}]},
            "scores": dict(scores),
        }
    )
