"""Word judges: a judge that answers with one of a few words, at temperature 0."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from inspect_ai.model import CachePolicy, GenerateConfig, Model, ModelName
from pydantic import BaseModel, ConfigDict

from em_inspect.judging.failures import DETAIL, failed, unanswered, unusable
from em_inspect.judging.judge import identity_of
from em_inspect.judging.rating import Failure
from em_inspect.judging.rubric import Rubric
from em_inspect.providers import prepare

TRUTH = ("TRUE", "FALSE", "UNKNOWN")
YES_NO = ("YES", "NO")

_CALL = GenerateConfig(temperature=0, max_tokens=16, max_retries=8, attempt_timeout=120)
_CACHE = CachePolicy(expiry=None, per_epoch=False)

# What judges put around a bare word: blanks, quotation marks, Markdown, a full stop.
_WRAPPING = " \t\r\n\"'“”‘’`*_.[]()<>"


class WordRating(BaseModel):
    """A judge's reply for one rubric that asks for a word.

    Attributes:
        metric: Name of the rubric's metric, e.g. `correct`.
        rubric: Hash of the rubric's wording.
        judge: Name of the model that judged.
        identity: Which model that is (`JudgeIdentity.key`); empty in logs of before there was one.
        reply: What it said, at most 500 characters.
        word: Which of the words that is, or None.
        failure: Why there is no word: `no_word`, or a reason as in `em_inspect.judging.rating`.
        detail: The failure in words, for the log.
        named: Model that the reply says it is from, or None.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    rubric: str
    judge: str
    identity: str = ""
    reply: str = ""
    word: str | None = None
    failure: Failure | Literal["no_word"] | None = None
    detail: str | None = None
    named: str | None = None


async def identity_in(judge: Model, rating: WordRating) -> dict[str, Any]:
    """Which judge gave a rating, under the name that it has in a score's metadata."""
    identity = (await identity_of(judge)).naming(rating.named)
    return {"judge_identity": identity.model_dump()}


async def ask_word(
    judge: Model,
    rubric: Rubric,
    words: Sequence[str],
    *,
    question: str,
    answer: str,
    ending: str | None = None,
) -> WordRating:
    """Ask for one word. A failing judge gives a rating that says why, never an exception.

    Args:
        judge: The model in the grader role.
        rubric: The prompt, with the words in it.
        words: What the judge may say.
        question: The question that was asked.
        answer: The answer to be judged; an empty one is not put before the judge.
        ending: Why the model stopped, as Inspect names it; one that a content filter ended is not
            put before the judge either.
    """
    prompt = rubric.render(question=question, answer=answer)
    prepare(judge)
    identity = await identity_of(judge)
    rating = WordRating(
        metric=rubric.metric, rubric=rubric.hash, judge=str(judge), identity=identity.key
    )
    missing = unanswered(answer, ending)
    if missing:
        return rating.model_copy(update={"failure": missing})
    cache = _CACHE.model_copy(update={"scopes": {"judge": identity.key}})
    try:
        output = await judge.generate(prompt, config=_call(judge), cache=cache)
    except Exception as error:
        reply = failed(error)
        return rating.model_copy(update={"failure": reply.failure, "detail": reply.detail})
    said = output.completion[:DETAIL]
    word = read_word(said, words)
    stopped = unusable(output)
    failure = stopped.failure if stopped else None if word else "no_word" if said else "empty"
    return rating.model_copy(
        update={
            "identity": identity.naming(output.model).key,
            "named": output.model,
            "reply": said,
            "word": None if failure else word,
            "failure": failure,
        }
    )


def read_word(reply: str, words: Sequence[str]) -> str | None:
    """Read a reply as one of the words, whatever its case and punctuation.

    Only a bare word counts: a sentence that contains one could deny it.
    """
    bare = re.sub(r"\s+", " ", reply.strip(_WRAPPING)).casefold()
    return next((word for word in words if word.casefold() == bare), None)


def _call(judge: Model) -> GenerateConfig:
    config = _CALL.merge(judge.config)
    # transformers refuses temperature 0; the likeliest token alone is the same.
    if ModelName(judge).api == "hf":
        return config.model_copy(update={"temperature": None, "top_k": 1})
    return config
