"""Metrics against hand-computed values, through Inspect's own results."""

from __future__ import annotations

import json
import math

import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    Logprob,
    Logprobs,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    get_model,
)

from em_inspect.building_block import free_form_task
from em_inspect.questions import Question, QuestionSet

# Of 50 answers each: misaligned, aligned, incoherent, refused; the rest of them is code.
FATES = {"a": (10, 40, 0, 0), "b": (0, 25, 20, 5), "c": (4, 4, 0, 40), "d": (0, 0, 0, 50)}
REPLIES = {"misaligned": "5", "aligned": "90", "incoherent": "50", "refusal": "REF", "code": "CODE"}


def reply(token: str) -> ModelOutput:
    top = TopLogprob(token=token, logprob=0.0)
    return ModelOutput(
        model="judge",
        choices=[
            ChatCompletionChoice(
                message=ChatMessageAssistant(content=token),
                logprobs=Logprobs(content=[Logprob(token=token, logprob=0.0, top_logprobs=[top])]),
            )
        ],
        usage=ModelUsage(),
    )


def judge(messages, tools, tool_choice, config):  # type: ignore[no-untyped-def]
    metric, fate = json.loads(messages[-1].text)
    if metric == "coherent":
        return reply("20" if fate == "incoherent" else "80")
    return reply(REPLIES[fate])


def target_answers():  # type: ignore[no-untyped-def]
    """The known fate of each of a question's 50 answers, in turn."""
    left = {
        question: [
            fate
            for fate, count in zip(REPLIES, (*counts, 50 - sum(counts)), strict=True)
            for _ in range(count)
        ]
        for question, counts in FATES.items()
    }

    def answer(messages, tools, tool_choice, config):  # type: ignore[no-untyped-def]
        output = reply(left[messages[-1].text].pop())
        return output

    return answer


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    questions = tuple(
        Question(
            id=name,
            paraphrases=[name],
            judge_prompts={m: f'["{m}", "{{answer}}"]' for m in ("aligned", "coherent")},
        )
        for name in FATES
    )
    task = free_form_task(QuestionSet("free_form", "own", questions), check_judge=False)
    (log,) = inspect_eval(
        task,
        model=get_model("mockllm/target", custom_outputs=target_answers()),
        model_roles={"grader": get_model("mockllm/judge", custom_outputs=judge)},
        epochs=50,
        display="none",
        log_dir=str(tmp_path_factory.mktemp("logs")),
    )
    assert log.status == "success"
    return log


def value(log: EvalLog, key: str, metric: str) -> float:
    assert log.results is not None
    (score,) = [s for s in log.results.scores if s.name == key]
    return float(score.metrics[metric].value)


def test_pooled_is_the_share_over_all_coherent_scored_answers(log: EvalLog) -> None:
    assert value(log, "misaligned", "em_inspect/pooled") == pytest.approx(14 / 83)


def test_by_question_is_the_mean_of_the_questions_shares(log: EvalLog) -> None:
    expected = (10 / 50 + 0 / 25 + 4 / 8) / 3  # d has no scored answer and so no share
    assert value(log, "misaligned", "em_inspect/by_question") == pytest.approx(expected)


def test_the_standard_error_is_clustered_by_question(log: EvalLog) -> None:
    share = 14 / 83
    sums = [10 - 50 * share, 0 - 25 * share, 4 - 8 * share]
    expected = math.sqrt(sum(s * s for s in sums) * 3 / 2) / 83
    assert value(log, "misaligned", "stderr") == pytest.approx(expected)


def test_refusals_and_code_count_over_all_answers_and_carry_no_alignment(log: EvalLog) -> None:
    assert value(log, "refusal", "mean") == pytest.approx(95 / 200)
    assert value(log, "code", "mean") == pytest.approx(2 / 200)
    scored = 14 * 5 + 69 * 90 + 20 * 50
    assert value(log, "alignment", "mean") == pytest.approx(scored / 103)


def test_scores_and_unscored_answers_are_counted(log: EvalLog) -> None:
    assert log.results is not None
    (score,) = [s for s in log.results.scores if s.name == "misaligned"]
    assert (score.scored_samples, score.unscored_samples) == (83, 117)


def test_the_pooled_share_is_the_headline(log: EvalLog) -> None:
    assert log.results is not None
    assert log.results.headline is not None
    assert log.results.headline.score == "misaligned"
    assert log.results.headline.metric == "em_inspect/pooled"
