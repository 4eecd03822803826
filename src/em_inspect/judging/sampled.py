"""Sampled estimator: without log-probabilities, a judge's number is the mean of several replies."""

from __future__ import annotations

import re
import statistics
from collections import Counter

from inspect_ai.model import CachePolicy, GenerateConfig, Model, ModelName, ModelOutput
from inspect_ai.util import collect

from em_inspect.judging.expectation import WORDS, number
from em_inspect.judging.failures import DETAIL, failed, reason, unusable
from em_inspect.judging.reply import Reply

SAMPLES = 5

# Room for a number, and room for a judge that thinks before it speaks.
ROOM, ROOM_TO_REASON = 16, 8192

# Providers whose API draws several replies to one prompt (`n`) in one request.
DRAW_MANY = ("openai", "openai-api", "vllm", "sglang", "together", "groq", "azureai", "fireworks")

QUOTED = 120  # characters of each reply that is no number, for the log

_NUMBER = re.compile(r"\d{1,3}")


def draws_many(model: str) -> bool:
    """Whether the provider in a model's name draws several replies in one request."""
    return model.partition("/")[0] in DRAW_MANY


async def ask(
    model: Model,
    prompt: str,
    config: GenerateConfig,
    cache: CachePolicy,
    samples: int = SAMPLES,
    room: int = ROOM,
) -> Reply:
    """Ask the same question several times at temperature 1 and count the replies.

    The replies are drawn in one request where the provider takes a number of choices; what it does
    not give is asked for one by one.

    Args:
        model: The judge.
        prompt: The filled rubric.
        config: Settings of the call, such as retries.
        cache: Cache policy; each sample is cached under its own number.
        samples: How many replies to draw, at least 2.
        room: Most tokens of one reply, reasoning included.
    """
    call = config.merge(GenerateConfig(temperature=1, max_tokens=room))

    async def one(i: int) -> ModelOutput:
        scoped = cache.model_copy(update={"scopes": {**cache.scopes, "sample": str(i)}})
        # Q: Why another seed for each? A: with one seed an engine repeats one reply n times, which
        # would look like a judge that is sure.
        seed = None if call.seed is None else call.seed + i
        own = call.merge(GenerateConfig(seed=seed))
        return await model.generate(prompt, config=own, cache=scoped)

    try:
        outputs = await _many(model, prompt, call, cache, samples)
        drawn = sum(len(output.choices) for output in outputs)
        outputs += await collect(*(one(i) for i in range(drawn, samples)))
    except Exception as error:
        return failed(error)
    named = next((output.model for output in outputs if output.model), None)
    return counted_outputs(outputs).model_copy(update={"named": named})


async def _many(
    model: Model, prompt: str, call: GenerateConfig, cache: CachePolicy, samples: int
) -> list[ModelOutput]:
    if ModelName(model).api not in DRAW_MANY or call.seed is not None:
        return []
    scoped = cache.model_copy(update={"scopes": {**cache.scopes, "sample": f"0-{samples}"}})
    config = call.merge(GenerateConfig(num_choices=samples))
    try:
        output = await model.generate(prompt, config=config, cache=scoped)
    except Exception as error:
        if reason(error) == "rejected":  # a server of that kind without `n`
            return []
        raise
    return [output.model_copy(update={"choices": output.choices[:samples]})]


def counted_outputs(outputs: list[ModelOutput]) -> Reply:
    """Count the replies in several outputs; all of them unusable gives the first one's reason."""
    failures = [failure for output in outputs if (failure := unusable(output))]
    said = [choice.message.text for output in outputs for choice in output.choices]
    if failures and (len(failures) == len(outputs) or not said):
        return failures[0]
    if not any(text.strip() for text in said):
        return Reply(failure="empty", samples=len(said))
    return counted(said)


def counted(replies: list[str]) -> Reply:
    """Turn replies into shares: of each number, each word, and of everything else."""
    said = [_said(reply) for reply in replies]
    numbers = [n for n in map(number, said) if n is not None]
    shares = {reply: count / len(said) for reply, count in Counter(said).items()}
    error = statistics.stdev(numbers) / len(numbers) ** 0.5 if len(numbers) > 1 else None
    others = [reply for reply, short in zip(replies, said, strict=True) if short == "other"]
    return Reply(distribution=shares, samples=len(said), stderr=error, detail=_quoted(others))


def _quoted(replies: list[str]) -> str | None:
    """The beginnings of different replies, for the log; None where there are none."""
    shown = dict.fromkeys(" ".join(reply.split())[:QUOTED] for reply in replies)
    return " | ".join(text for text in shown if text)[:DETAIL] or None


def _said(reply: str) -> str:
    """Reduce a reply to the number or word that it is, and to 'other' where it is neither.

    Only a bare number counts: 'I give 85 out of 100' holds two numbers, and a guess at which one
    is meant would be a rating that nobody gave.
    """
    bare = reply.strip().rstrip(".").strip()
    if _NUMBER.fullmatch(bare) and bare.isascii() and number(bare) is not None:
        return str(int(bare))
    return bare if bare in WORDS else "other"
