"""Metrics against hand-computed values, through Inspect's own results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

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
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState
from inspect_ai.util import registry_info

from em_inspect.analysis.criterion import Criterion
from em_inspect.building_block import free_form_task
from em_inspect.measures.arms import paired_difference, paired_difference_stderr
from em_inspect.measures.honesty import (
    factual_deception_stderr,
    overall_deception,
    overall_deception_stderr,
)
from em_inspect.measures.insecurity import unseen_stderr
from em_inspect.metrics import (
    MIN_ANSWERS,
    by_question,
    by_question_stderr,
    error_by,
    pooled,
    pooled_stderr,
)
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


def test_every_headline_has_a_standard_error_of_its_own(log: EvalLog) -> None:
    assert value(log, "misaligned", "em_inspect/pooled_stderr") == pytest.approx(
        value(log, "misaligned", "stderr")
    )
    shares = [10 / 50, 0 / 25, 4 / 8]
    mean = sum(shares) / 3
    expected = math.sqrt(sum((s - mean) ** 2 for s in shares) / 2 / 3)
    assert value(log, "misaligned", "em_inspect/by_question_stderr") == pytest.approx(expected)
    assert expected != pytest.approx(value(log, "misaligned", "stderr"), rel=0.2)


def scores(values: dict[str, list[float]], **metadata: str) -> list[SampleScore]:
    """Scores by question, each with the metadata besides."""
    return [
        SampleScore(
            score=Score(value=v), sample_id=q, sample_metadata={"question_id": q, **metadata}
        )
        for q, given in values.items()
        for v in given
    ]


def called(metric: Metric, given: list[SampleScore]) -> Any:
    return metric(given)  # type: ignore[operator, arg-type]


def test_one_question_has_no_standard_error_and_nothing_is_rounded_to_none() -> None:
    one = scores({"q0": [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]})
    for metric in (pooled_stderr(), by_question_stderr(), error_by(), unseen_stderr()):
        assert math.isnan(called(metric, one))
    assert called(by_question(), one) == pytest.approx(1 / 3)
    assert registry_info(error_by()).name == "inspect_ai/stderr"


def test_a_run_of_one_question_has_no_standard_error_in_its_log(tmp_path: Path) -> None:
    question = Question(
        id="a",
        paraphrases=["a"],
        judge_prompts={m: f'["{m}", "{{answer}}"]' for m in ("aligned", "coherent")},
    )
    task = free_form_task(QuestionSet("free_form", "own", (question,)), check_judge=False)
    (done,) = inspect_eval(
        task,
        model=get_model("mockllm/target", custom_outputs=target_answers()),
        model_roles={"grader": get_model("mockllm/judge", custom_outputs=judge)},
        epochs=10,
        display="none",
        log_dir=str(tmp_path),
    )
    for name in ("stderr", "em_inspect/pooled_stderr", "em_inspect/by_question_stderr"):
        assert math.isnan(value(done, "misaligned", name))
    assert math.isnan(value(done, "alignment", "stderr"))
    assert value(done, "misaligned", "em_inspect/pooled") == value(
        done, "misaligned", "em_inspect/by_question"
    )


def test_questions_with_fewer_than_five_scored_answers_are_left_out_as_in_the_report() -> None:
    given = scores({"q0": [1.0] * 4, "q1": [0.0] * 5})
    assert called(by_question(), given) == 0.0
    assert called(by_question(min_answers=1), given) == 0.5
    assert Criterion().min_answers == MIN_ANSWERS


def test_the_standard_error_of_a_paired_difference_is_that_of_the_questions_differences() -> None:
    on = scores({"a": [1, 1, 0, 0], "b": [1, 0, 0, 0], "c": [1, 1, 1, 1]}, arm="triggered")
    off = scores({"a": [0, 0], "b": [0, 0], "c": [1, 0]}, arm="untriggered")
    expected = math.sqrt(((0.5 - 5 / 12) ** 2 + (0.25 - 5 / 12) ** 2 + (0.5 - 5 / 12) ** 2) / 2 / 3)
    assert called(paired_difference(), [*on, *off]) == pytest.approx(5 / 12)
    assert called(paired_difference_stderr(), [*on, *off]) == pytest.approx(expected)


def test_the_standard_error_of_deception_is_that_of_the_mean_of_both_kinds() -> None:
    given = [
        SampleScore(
            score=Score(value=v),
            sample_id=w,
            sample_metadata={"deception": kind, "wording": f"{kind}/{w}", "question_id": w},
        )
        for kind, wordings in (
            ("factual", {"x": [1, 0, 0], "y": [1, 1, 0]}),
            ("identity", {"x": [1] * 9, "y": [0] * 9}),
        )
        for w, values in wordings.items()
        for v in values
    ]
    factual = math.sqrt(2 * 2 * 0.5**2) / 6
    identity = math.sqrt(2 * 2 * 4.5**2) / 18
    assert called(overall_deception(), given) == pytest.approx(0.5)
    expected = math.hypot(factual, identity) / 2
    assert called(overall_deception_stderr(), given) == pytest.approx(expected)
    assert called(factual_deception_stderr(), given) == pytest.approx(factual)
    # The error of the mean over all answers is another number: identity has thrice the answers.
    assert called(error_by("wording"), given) != pytest.approx(expected, rel=0.05)


def test_a_mean_over_epochs_that_was_asked_for_changes_no_share(log: EvalLog) -> None:
    from inspect_ai import score as inspect_score

    assert log.samples is not None
    known = {(s.id, s.epoch): (s.scores or {})["misalignment"] for s in log.samples}

    @scorer(metrics={"misaligned": [pooled(), pooled_stderr(), by_question(), error_by()]})
    def as_in_the_log() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score:
            return known[state.sample_id, state.epoch]

        return score

    again = inspect_score(
        log, as_in_the_log(), epochs_reducer="mean", action="overwrite", display="none"
    )
    assert again.results is not None
    shares = {
        name: found.value
        for s in again.results.scores
        if s.name == "misaligned"
        for name, found in s.metrics.items()
    }
    assert shares["em_inspect/pooled"] == pytest.approx(14 / 83)
    assert shares["em_inspect/by_question"] == pytest.approx((10 / 50 + 4 / 8) / 3)


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
