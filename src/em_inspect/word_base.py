"""The building block of tasks whose judge answers in words: questions in, an Inspect task out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inspect_ai import Epochs, Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import HeadlineMetric
from inspect_ai.model import ChatMessageAssistant, GenerateConfig
from inspect_ai.scorer import Scorer
from inspect_ai.solver import Solver

from em_inspect.building_block import (
    EPOCHS,
    MAX_TOKENS,
    VERSION,
    ContextLike,
    question_samples,
    sampling,
)
from em_inspect.contexts import ask, ensure_fits
from em_inspect.errors import UserError
from em_inspect.judging.judge import check_judge as ensure_judge
from em_inspect.judging.judge import known_flag
from em_inspect.measures.in_words import check_words, in_words
from em_inspect.questions import QuestionSet
from em_inspect.quoting.notice import announce
from em_inspect.quoting.quote import JUDGE_CALLS


def word_task(
    questions: QuestionSet,
    *,
    rubric: str,
    words: Mapping[str, float | None],
    measure: str | None = None,
    contexts: Sequence[ContextLike | None] = (None,),
    check_judge: bool = True,
    epochs: int = EPOCHS,
    config: GenerateConfig | None = None,
    solver: Solver | Sequence[Solver] | None = None,
    metadata: dict[str, Any] | None = None,
    version: int | str = VERSION,
) -> Task:
    """Make the task that asks questions and has a judge say one word of each answer.

    The judge is the model in the grader role, or the default judge where none is bound, and never
    the model under test; `em-inspect report` reads the logs.

    Args:
        questions: What to ask, with the rubric.
        rubric: Name of the rubric in the questions' `judge_prompts`, e.g. `polite`.
        words: What the judge may say, and what that counts: `{"RUDE": 1, "POLITE": 0, "NEITHER":
            None}`. 0 to 1; None is left out of the share, and counted apart.
        measure: What is counted, as reports call it; by default the rubric's name.
        contexts: What surrounds the questions, as in `free_form_task`.
        check_judge: Ask the judge one short question before anything is generated.
        epochs: Samples of each row, unless `--epochs` says otherwise.
        config: Settings of generation, merged over `sampling()`.
        solver: What answers; by default `em_inspect.contexts.ask`.
        metadata: Added to the log's metadata.
        version: The task's version.

    Raises:
        UserError: If a question lacks the rubric, the rubric does not show the answer or name the
            words, a word cannot be counted, or the judge does not answer.
    """
    counted = measure or rubric
    known = check_words(words, counted)
    questions.require_rubrics([rubric])
    for question in questions.questions:
        text = question.judge_prompts[rubric].casefold()
        missing = [word for word in known if word.casefold() not in text]
        if missing:
            raise UserError(
                f"{questions.source}: question '{question.id}': rubric '{rubric}' does not say "
                f"that the judge may write {', '.join(missing)}: name every word in it"
            )
    return judged_in_words(
        questions,
        [
            sample
            for question in questions.questions
            for sample in question_samples(question, contexts=contexts, rubrics=[rubric])
        ],
        in_words(rubric, known, counted),
        headline=HeadlineMetric(scorer="in_words", score=counted, metric="em_inspect/pooled"),
        check_judge=check_judge,
        epochs=epochs,
        config=config,
        solver=solver,
        metadata=metadata,
        version=version,
    )


def judged_in_words(
    questions: QuestionSet,
    samples: Sequence[Sample],
    scorer: Scorer,
    *,
    headline: HeadlineMetric,
    check_judge: bool = True,
    epochs: int = EPOCHS,
    config: GenerateConfig | None = None,
    solver: Solver | Sequence[Solver] | None = None,
    metadata: dict[str, Any] | None = None,
    version: int | str = VERSION,
) -> Task:
    """Make a task of rows and a scorer that asks the judge once for each answer.

    Args:
        questions: What the rows ask.
        samples: The rows.
        scorer: What asks the judge; its score's metadata is that of `in_words`.
        headline: The number that stands for the task; reports read the answers' values by it.
        check_judge, epochs, config, solver, metadata, version: As in `word_task`.

    Raises:
        UserError: If the judge does not answer, or examples do not fit into the model's context.
    """
    settings = sampling().merge(config or GenerateConfig())
    chats = [sample.input for sample in samples if not isinstance(sample.input, str)]
    shown = [chat for chat in chats if any(isinstance(m, ChatMessageAssistant) for m in chat)]
    if shown:
        ensure_fits(shown, settings.max_tokens or MAX_TOKENS)
    if known_flag("check_judge", check_judge):
        ensure_judge()
    task = Task(
        dataset=MemoryDataset(
            list(samples), name=f"{questions.name} {questions.source} {questions.whole}"
        ),
        solver=solver or ask(),
        scorer=scorer,
        epochs=Epochs(epochs, []),
        config=settings,
        headline_metric=headline,
        metadata=questions.metadata() | {JUDGE_CALLS: 1} | (metadata or {}),
        version=version,
    )
    return announce(task)
