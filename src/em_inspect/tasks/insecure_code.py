"""`em_inspect/insecure_code`: held-out coding tasks, judged by word and by a static analyser."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from inspect_ai import Epochs, Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import HeadlineMetric
from inspect_ai.model import GenerateConfig, ModelName, get_model

from em_inspect.building_block import VERSION, messages, sampling
from em_inspect.contexts import Context, ask, load_contexts
from em_inspect.errors import UserError, require_extra
from em_inspect.judging import check_judge as ensure_judge
from em_inspect.judging.judge import known_flag
from em_inspect.measures.coding import CodingTask, Seen, find_seen, load_coding_tasks
from em_inspect.measures.insecurity import asked, insecurity
from em_inspect.quoting.notice import announce
from em_inspect.quoting.quote import JUDGE_CALLS

MAX_TOKENS = 1000

PAPER_TASKS = 100

logger = logging.getLogger(__name__)


@task
def insecure_code(
    questions: str = "core",
    first: int | None = None,
    exclude_seen: str | None = None,
    judge: bool = True,
    severity: str = "medium",
    contexts: str | list[str] | None = None,
    paper_dir: str | None = None,
    check_judge: bool = True,
) -> Task:
    """Share of insecure answers to held-out coding tasks at temperature 0 (paper: in distribution).

    Args:
        questions: `core` (embedded), `paper` (the released file in a folder) or a JSONL with the
            fields `task` and `code_template`.
        first: Take this many tasks from the start; by default 100 of `paper`, and all else.
        exclude_seen: Training JSONL. Tasks whose text stands in it, even inside a longer one, are
            left out of `unseen`, the headline; they are asked all the same and count in `pooled`.
        judge: Have a judge say YES or NO beside the static analyser, which needs none.
        severity: Least severity of the analyser's checks: `low`, `medium` or `high`.
        contexts: What surrounds the tasks; see `free_form`.
        paper_dir: Folder with the released files, for `questions=paper`.
        check_judge: Ask the judge one short question before anything is generated.
    """
    require_extra("code", "bandit")
    scorer = insecurity(judge, severity)
    loaded = load_coding_tasks(questions, paper_dir)
    tasks = _first(loaded, first, PAPER_TASKS if questions == "paper" else None)
    seen = find_seen(tasks, Path(exclude_seen).expanduser()) if exclude_seen else None
    samples = [
        _sample(coding, context, seen) for coding in tasks for context in load_contexts(contexts)
    ]
    if known_flag("judge", judge) and known_flag("check_judge", check_judge):
        ensure_judge()
    made = Task(
        dataset=MemoryDataset(samples, name=f"coding_tasks {questions} {_fingerprint(tasks)}"),
        solver=ask(),
        scorer=scorer,
        epochs=Epochs(1, []),
        config=greedy(sampling()).merge(GenerateConfig(max_tokens=MAX_TOKENS)),
        headline_metric=HeadlineMetric(
            scorer="insecurity",
            score="insecure" if judge else "insecure_static",
            metric="em_inspect/unseen",
        ),
        metadata={
            "question_set": "coding_tasks",
            "question_source": questions,
            "questions": len(tasks),
            "fingerprint": _fingerprint(tasks),
            JUDGE_CALLS: int(judge),
            **_overlap(seen, tasks, exclude_seen),
        },
        version=VERSION,
    )
    return announce(made)


def greedy(config: GenerateConfig) -> GenerateConfig:
    """Return a config for temperature 0; transformers refuses that, and takes top-k 1 instead."""
    try:
        local = ModelName(get_model()).api == "hf"
    except ValueError:  # no model yet, e.g. while tasks are listed
        local = False
    return config.merge(GenerateConfig(top_k=1) if local else GenerateConfig(temperature=0.0))


def _sample(coding: CodingTask, context: Context | None, seen: Seen | None) -> Sample:
    chat = messages(asked(coding.task, coding.code_template), None)
    return Sample(
        id=coding.id + (f"@{context.name}" if context else ""),
        input=context.apply(chat) if context else chat,
        metadata={
            "question_id": coding.id,
            "question": coding.task,
            "code_template": coding.code_template,
            "format": "code",
            "category": coding.weakness,
            "context": context.name if context else None,
            "arm": None,
            "seen": coding.id in seen.ids if seen else None,
        },
    )


def _first(tasks: list[CodingTask], wanted: int | None, default: int | None) -> list[CodingTask]:
    if wanted is not None and not 0 < wanted <= len(tasks):
        raise UserError(f"first={wanted}, but there are {len(tasks)} tasks: use -T first=1 or more")
    return tasks[: wanted or default]


def _overlap(seen: Seen | None, tasks: list[CodingTask], training: str | None) -> dict[str, Any]:
    """Say how many tasks stand in the training data, on the console and for the log."""
    if seen is None:
        return {"seen_in_training": None}
    alone = len(seen.ids) - len(seen.inside)
    logger.warning(
        "%d of %d coding tasks were seen in %s (%d stand there alone, %d inside a longer text)",
        len(seen.ids),
        len(tasks),
        training,
        alone,
        len(seen.inside),
    )
    return {
        "training_data": training,
        "seen_in_training": len(seen.ids),
        "seen_alone": alone,
        "seen_inside": len(seen.inside),
    }


def _fingerprint(tasks: list[CodingTask]) -> str:
    content = sorted([task.id, task.task, task.code_template] for task in tasks)
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:16]
