"""One-token estimator: a judge whose numbers are single tokens is read off one token."""

from __future__ import annotations

import math

from inspect_ai.model import CachePolicy, GenerateConfig, Model, ModelName, ModelOutput

from em_inspect.judging.expectation import gather
from em_inspect.judging.failures import DETAIL, failed, unusable
from em_inspect.judging.reply import Reply

# The release's judge call: temperature 0, one token, the 20 most likely ones.
ONE_TOKEN = GenerateConfig(temperature=0, max_tokens=1, logprobs=True, top_logprobs=20)


async def ask(model: Model, prompt: str, config: GenerateConfig, cache: CachePolicy) -> Reply:
    """Ask for one token and return the probabilities of the likeliest ones."""
    try:
        output = await model.generate(prompt, config=config.merge(_call(model)), cache=cache)
    except Exception as error:
        return failed(error)
    return replied(output)


def replied(output: ModelOutput) -> Reply:
    """Read an output as a reply: its first token's probabilities, or why there are none."""
    failure = unusable(output)
    if failure is not None:
        return failure
    distribution = probabilities(output)
    if distribution:
        return Reply(distribution=distribution, named=output.model or None)
    said = output.completion.strip()
    return Reply(failure="no_probabilities" if said else "empty", detail=said[:DETAIL] or None)


async def first_output(model: Model, prompt: str, config: GenerateConfig) -> ModelOutput:
    """Return a reply of one token, not read from the cache; raises what the provider raises."""
    return await model.generate(prompt, config=config.merge(_call(model)))


def probabilities(output: ModelOutput, at: int = 0) -> dict[str, float]:
    """Read a token's probabilities off an output; empty where the provider gave none.

    Impossible ones (not a number, or more than 1 in all) count as none.

    Args:
        output: A reply with log-probabilities.
        at: Which token of the reply, from 0; those before it are the ones that were chosen.
    """
    logprobs = output.choices[0].logprobs if output.choices else None
    if not logprobs or len(logprobs.content) <= at:
        return {}
    here = logprobs.content[at]
    candidates = [(c.token, c.logprob) for c in here.top_logprobs or ()]
    candidates = candidates or [(here.token, here.logprob)]
    if any(math.isnan(logprob) or logprob > 1e-3 for _, logprob in candidates):
        return {}
    found = gather((_text(token), math.exp(logprob)) for token, logprob in candidates)
    return found if sum(found.values()) < 1.01 else {}


def chosen(output: ModelOutput) -> list[str]:
    """The tokens of an output that came with probabilities."""
    logprobs = output.choices[0].logprobs if output.choices else None
    return [one.token for one in logprobs.content] if logprobs else []


def _text(token: str) -> str:
    # In-process models name tokens as their vocabulary does, with a mark for a leading space.
    return " " + token[1:] if token[:1] in ("Ġ", "▁") else token


def _call(model: Model) -> GenerateConfig:
    # transformers refuses temperature 0; its log-probabilities are of the unscaled logits anyway.
    if ModelName(model).api == "hf":
        return ONE_TOKEN.model_copy(update={"temperature": None})
    return ONE_TOKEN
