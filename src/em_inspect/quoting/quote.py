"""The quote: answers, judge calls, tokens, price and time of a run, before the bill."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelCost, get_model_info

from em_inspect.errors import UserError, one_line
from em_inspect.judging.judge import known_estimator
from em_inspect.judging.sampled import SAMPLES, draws_many
from em_inspect.judging.served_tree import MAX_REQUESTS

# English text in the tokenizers of today's models; counting exactly would need each one's own.
CHARACTERS_PER_TOKEN = 4.0
TOKENS_PER_MESSAGE = 4

# The mean length of the 70 answers in the official release (735 characters); the ceiling
# that tasks set is 600.
ANSWER_TOKENS = 184

# A judge's prompt that a scorer holds, such as the coding judge's.
RUBRIC_TOKENS = 80

# What runs on the user's own machine has no price, and a look-up may ask the hub what it is.
UNPRICED = (
    "hf", "vllm", "sglang", "ollama", "llama-cpp-python", "transformer_lens", "nnterp", "mockllm"
)  # fmt: skip

JUDGE_CALLS = "judge_calls_per_answer"
"""Eval metadata: how often a judge is asked about one answer."""

MODEL_CALLS = "model_calls_per_answer"
"""Eval metadata: how often the model under test is asked for one answer; once where not said."""


@dataclass(frozen=True)
class Usage:
    """What one model is asked for.

    Attributes:
        model: Inspect's name of the model, or None where it is not known yet.
        calls: Requests.
        tokens_in: Prompt tokens, estimated.
        tokens_out: Generated tokens, estimated.
    """

    model: str | None
    calls: int
    tokens_in: int
    tokens_out: int

    def price(self, prices: Mapping[str, ModelCost]) -> float | None:
        """Return the price in dollars, or None where the model's prices are not known."""
        if not self.calls:
            return 0.0
        cost = cost_of(self.model, prices) if self.model else None
        if cost is None:
            return None
        return (self.tokens_in * cost.input + self.tokens_out * cost.output) / 1e6

    def minutes(self, per_minute: int | None, tokens_per_minute: int | None) -> float:
        """Return the least time that rate limits allow, in minutes; 0 without limits."""
        by_calls = self.calls / per_minute if per_minute else 0.0
        total = self.tokens_in + self.tokens_out
        return max(by_calls, total / tokens_per_minute if tokens_per_minute else 0.0)


@dataclass(frozen=True)
class Quote:
    """What a task asks for: calls are the most there can be, tokens are estimates.

    Identical answers are judged once, and cached ones not again.

    Attributes:
        task: The task's name.
        answers: Answers, samples times epochs.
        model: What the model under test is asked for.
        judge: What the judge is asked for.
    """

    task: str
    answers: int
    model: Usage
    judge: Usage


def quote(
    task: Task,
    *,
    rows: Sequence[Sample] | None = None,
    epochs: int | None = None,
    model: str | None = None,
    judge: str | None = None,
    answer_tokens: int = ANSWER_TOKENS,
    estimator: str = "one_token",
) -> Quote:
    """Estimate what a task asks of the model under test and of the judge.

    Args:
        task: The task; nothing of it is run.
        rows: Its rows that are asked, by default all.
        epochs: Samples of each row; by default the task's own.
        model: The model under test.
        judge: The model in the grader role.
        answer_tokens: Tokens of an answer, on average.
        estimator: How the judge's numbers are read. `one_token` is one request for a rating, and
            so is `sampled` where the provider draws several replies in one, otherwise 5;
            `digit_tree` is at most 12 of a server, and one pass of a judge in this process.
            `auto`, which only a test of the judge decides, counts as `one_token`.

    Raises:
        UserError: If the estimator is unknown.
    """
    samples = list(task.dataset if rows is None else rows)
    own = task.epochs or 1
    times = own if epochs is None else epochs
    answer_tokens = min(answer_tokens, task.config.max_tokens or answer_tokens)
    answers = len(samples) * times
    metadata = task.metadata or {}
    metrics = metadata.get(JUDGE_CALLS)
    asked = answers * int(metadata.get(MODEL_CALLS, 1))
    requests, tokens_out = requests_for(estimator, judge)
    ratings = [_rating_tokens(sample, answer_tokens, metrics) for sample in samples]
    rated = sum(len(prompts) for prompts in ratings) * times
    return Quote(
        task=task.name,
        answers=answers,
        model=Usage(
            model,
            asked,
            sum(map(prompt_tokens, samples)) * times if asked else 0,
            asked * answer_tokens,
        ),
        judge=Usage(
            judge,
            rated * requests,
            sum(map(sum, ratings)) * times * requests,
            rated * tokens_out,
        ),
    )


def requests_for(estimator: str, judge: str | None) -> tuple[int, int]:
    """Return the most requests that one rating takes, and the tokens that are generated for it.

    Raises:
        UserError: If the estimator is unknown.
    """
    match known_estimator(estimator):
        case "sampled":
            # The default judge, where none is named, draws many.
            return 1 if judge is None or draws_many(judge) else SAMPLES, 4 * SAMPLES
        case "digit_tree" if (judge or "").partition("/")[0] != "hf":
            return MAX_REQUESTS, MAX_REQUESTS
    return 1, 1


def prompt_tokens(sample: Sample) -> int:
    """Estimate the tokens of the prompt that a sample sends."""
    if isinstance(sample.input, str):
        return text_tokens(sample.input) + TOKENS_PER_MESSAGE
    return sum(text_tokens(m.text) + TOKENS_PER_MESSAGE for m in sample.input)


def text_tokens(text: str) -> int:
    """Estimate the tokens of a text by its length."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def _rating_tokens(sample: Sample, answer_tokens: int, calls: int | None) -> list[int]:
    """Prompt tokens of each rating of one answer: its rubrics, as often as the task asks them."""
    metadata = sample.metadata or {}
    rubrics = [str(text) for text in dict(metadata.get("judge_prompts") or {}).values()]
    question = text_tokens(str(metadata.get("question", "")))
    each = [text_tokens(text) + question + answer_tokens + TOKENS_PER_MESSAGE for text in rubrics]
    if calls is None:
        return each
    each = each or [RUBRIC_TOKENS + question + answer_tokens + TOKENS_PER_MESSAGE]
    return [each[i % len(each)] for i in range(calls)]


def cost_of(model: str, prices: Mapping[str, ModelCost]) -> ModelCost | None:
    """Return a model's prices: the user's own table first, then Inspect's model data."""
    for name in (model, model.partition("/")[2]):
        if name in prices:
            return prices[name]
    if model.partition("/")[0] in UNPRICED:
        return None
    info = get_model_info(model)
    return info.cost if info else None


def read_prices(path: Path) -> dict[str, ModelCost]:
    """Read a price table, in the format of Inspect's `--model-cost-config`.

    A YAML or JSON mapping from model to `input`, `output` and, if wanted, `input_cache_write` and
    `input_cache_read`, in dollars for a million tokens.

    Raises:
        UserError: If the file cannot be read as such.
    """
    import yaml

    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise ValueError("it is empty" if table is None else f"a {type(table).__name__}")
        for model, cost in table.items():
            if not isinstance(cost, dict) or not {"input", "output"} <= cost.keys():
                raise ValueError(f"{model}: no input and output")
        return {
            str(model): ModelCost(
                **{"input_cache_write": cost["input"], "input_cache_read": cost["input"], **cost}
            )
            for model, cost in table.items()
        }
    except Exception as error:
        raise UserError(
            f"{path}: no price table ({one_line(error)}): "
            "write 'provider/model: {input: 2.5, output: 10}', dollars for a million tokens"
        ) from None


def load_task(name: str, arguments: Mapping[str, Any]) -> Task:
    """Make a task of an installed package, without asking its judge anything.

    Raises:
        UserError: If there is no such task, or its arguments are off.
    """
    from inspect_ai.util import registry_create

    full = name if "/" in name else f"em_inspect/{name}"
    for more in ({"check_judge": False}, {}):
        try:
            return registry_create("task", full, **{**more, **arguments})
        except UserError:
            raise
        except TypeError as error:
            if more:
                continue
            raise UserError(f"{full}: {one_line(error)}") from None
        except (LookupError, ValueError) as error:
            raise UserError(
                f"no task '{full}' ({one_line(error)}): see `em-inspect tasks`"
            ) from None
    raise AssertionError


def line(quote: Quote, prices: Mapping[str, ModelCost]) -> str:
    """Say a quote in one line, for the console; prices where they are known."""
    return (
        f"{quote.task}: {quote.answers:,} answers, at most {quote.judge.calls:,} judge calls; "
        f"tokens in and out about {quote.model.tokens_in:,} + {quote.model.tokens_out:,}, "
        f"judge {quote.judge.tokens_in:,} + {quote.judge.tokens_out:,}"
        + "".join(
            f"; {who} about ${price:,.2f}"
            for who, usage in (("model", quote.model), ("judge", quote.judge))
            if usage.calls and (price := usage.price(prices)) is not None
        )
    )
