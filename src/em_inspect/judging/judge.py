"""The judge: the model in the grader role, asked by the estimator that suits its tokenizer."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import anyio
from inspect_ai.log import transcript
from inspect_ai.model import CachePolicy, GenerateConfig, Model, ModelName, get_model

from em_inspect.errors import UserError, one_line
from em_inspect.judging import digit_tree, failures, one_token, sampled, served_tree
from em_inspect.judging.patience import Patience
from em_inspect.judging.rating import ESTIMATORS, Estimator, Rating
from em_inspect.judging.reply import Reply
from em_inspect.judging.rubric import Rubric
from em_inspect.judging.sharing import Sharing

GRADER_ROLE = "grader"
DEFAULT_JUDGE = "openai/gpt-4o-2024-08-06"

# Judges do not write their answers anew for each epoch, and a rating does not age.
CACHE = CachePolicy(expiry=None, per_epoch=False)

PROBE = "Reply with the number 100. Write the number alone."

# Waits before a busy judge is tested again.
BUSY_SECONDS = (3.0, 9.0, 27.0)

_T = TypeVar("_T")


@dataclass(frozen=True)
class Way:
    """How one judge is asked, as a test of it has shown.

    Attributes:
        estimator: `one_token` where its numbers are single tokens, `digit_tree` where digits are
            tokens and a begun reply can be continued, `sampled` where neither can be had.
        top: Log-probabilities to ask a server for (`digit_tree`).
        room: Most tokens of one reply (`sampled`).
    """

    estimator: Estimator
    top: int = served_tree.TOP_FEW
    room: int = sampled.ROOM


@dataclass(frozen=True)
class Judge:
    """A model that rates, and how its numbers are read.

    Attributes:
        model: The model in the grader role.
        way: How it is asked.
        lead_in: Words that the judge's reply is made to begin with (`digit_tree` only), for weak
            judges that chat instead of rating; masses are then those of the continuation.
        fence: Harden rubrics with fence lines against their answers (see `Rubric.render`).
    """

    model: Model
    way: Way
    lead_in: str = ""
    fence: bool = True

    @property
    def name(self) -> str:
        """The name under which Inspect knows the model."""
        return str(self.model)

    @property
    def estimator(self) -> Estimator:
        """How its numbers are read."""
        return self.way.estimator

    async def rate(self, rubric: Rubric, *, question: str, answer: str, attempt: int = 0) -> Rating:
        """Rate one answer. A failing judge gives a rating that says why, never an exception.

        Args:
            rubric: What to ask.
            question: What the model under test was asked.
            answer: What it answered.
            attempt: How often this rating has failed before; a new one is not read from the cache.
        """
        prompt = rubric.render(question=question, answer=answer, fence=self.fence)
        about = _about(self.model)
        key = "\0".join((self.estimator, self.lead_in, str(attempt), prompt))

        async def ask() -> Reply:
            return await about.patience.reply(partial(self._ask, prompt, attempt))

        reply, shared = await about.sharing.reply(key, ask)
        rating = Rating(
            metric=rubric.metric,
            rubric=rubric.hash,
            judge=self.name,
            estimator=self.estimator,
            lead_in=self.lead_in or None,
            fenced=self.fence and rubric.has_fence,
            attempt=attempt,
            **reply.model_dump(),
        )
        if shared or digit_tree.in_process(self.model):
            _note(rating, prompt, shared)
        return rating

    async def _ask(self, prompt: str, attempt: int, patience: GenerateConfig) -> Reply:
        config = patience.merge(self.model.config)
        scopes = {"attempt": str(attempt)} if attempt else {}
        cache = CACHE.model_copy(update={"scopes": scopes})
        match self.estimator:
            case "one_token":
                return await one_token.ask(self.model, prompt, config, cache)
            case "sampled":
                return await sampled.ask(self.model, prompt, config, cache, room=self.way.room)
        if digit_tree.in_process(self.model):
            return await digit_tree.ask(self.model, prompt, self.lead_in)
        server = served_tree.Server(self.model, config, cache, self.way.top, self.lead_in)
        return await served_tree.ask(server, prompt)


@dataclass
class _About:
    sharing: Sharing
    patience: Patience = field(default_factory=Patience)
    ways: dict[str, Way] = field(default_factory=dict)


# Q: Why weak? A: what is remembered about a judge must not keep gigabytes of weights alive.
_judges: weakref.WeakKeyDictionary[Model, _About] = weakref.WeakKeyDictionary()


def _about(model: Model) -> _About:
    if model not in _judges:
        _judges[model] = _About(Sharing(remember=digit_tree.in_process(model)))
    return _judges[model]


def _note(rating: Rating, prompt: str, shared: bool) -> None:
    """Write a rating that made no model call of its own into the sample's transcript."""
    reading = rating.read()
    likeliest = sorted(rating.distribution.items(), key=lambda item: -item[1])[:10]
    data: dict[str, Any] = {
        "rating": rating.metric,
        "judge": rating.judge,
        "estimator": rating.estimator,
        "score": reading.score,
        "mass on numbers": reading.mass,
        "mass on words": dict(reading.words),
        "likeliest replies": dict(likeliest),
        "failure": rating.reason(),
        "shared with an identical rating": shared,
        "prompt": prompt,
    }
    transcript().info(data, source="em_inspect judge")


def grader() -> Model:
    """Return the model in the grader role, or the paper's judge where no role is bound.

    Q: Why never the active model? A: An unbound role would let the model under test grade itself.

    Raises:
        UserError: If the model cannot be set up, e.g. for want of a key.
    """
    try:
        return get_model(role=GRADER_ROLE, default=DEFAULT_JUDGE)
    except Exception as error:
        raise UserError(
            f"the judge {DEFAULT_JUDGE} cannot be used ({one_line(error)}): "
            "set its key, or choose another judge with --model-role grader=MODEL"
        ) from None


async def choose_way(model: Model) -> Way:
    """Find out by a few short calls how a judge's numbers are read: by what it does, not by name.

    Raises:
        UserError: If the judge does not answer.
    """
    if digit_tree.in_process(model):
        match digit_tree.spells(model):
            case "whole":
                return Way("one_token")
            case "digits":
                return Way("digit_tree")
            case "pieces":
                return await _sampled_way(model)
    if ModelName(model).api == "mockllm":
        return Way("one_token")
    tokens = await _first_tokens(model)
    numbers = [token for token in tokens if token.isdecimal() and token.isascii()]
    # '10' on top of '100' means tokens of two digits, whose '10' would be read for 100.
    whole = "100" in numbers or (numbers and numbers[0] != "10" and _any_long(numbers))
    if whole:
        return Way("one_token")
    if numbers and not _any_long(numbers):
        try:
            return await _served_way(model)
        except UserError:
            pass
    return await _sampled_way(model)


def _any_long(numbers: list[str]) -> bool:
    return any(len(token) > 1 for token in numbers)


async def _first_tokens(model: Model) -> list[str]:
    try:
        return await _when_free(lambda: one_token.tokens_of(model, PROBE, _once(model)))
    except Exception as error:
        # Q: Why go on at all? A: some refuse log-probabilities, yet serve plain questions. One that
        # is only busy or away must not be taken for such a judge.
        if failures.reason(error) in _AWAY:
            raise _silent(model, error) from None
        return []


async def _served_way(model: Model) -> Way:
    reason = "it does not answer"
    for top in (served_tree.TOP_MANY, served_tree.TOP_FEW):
        server = served_tree.Server(model, _once(model), False, top)
        try:
            refused = await _when_free(partial(served_tree.refusal, server))
        except Exception as error:
            if failures.reason(error) in _AWAY:
                raise _silent(model, error) from None
            reason = one_line(error)
            continue
        if refused is None:
            return Way("digit_tree", top=top)
        reason = refused
    raise UserError(
        f"{model} runs behind a server whose digit tree cannot be walked ({reason}): "
        "use -T estimator=sampled, or an engine that continues a begun reply, such as vLLM"
    )


async def _sampled_way(model: Model) -> Way:
    """Find the room that the judge's replies need: a judge that reasons spends it before speaking.

    Raises:
        UserError: If the judge does not answer, or repeats itself by its settings.
    """
    if not getattr(model.api, "do_sample", True):
        raise UserError(
            f"{model} is set to do_sample=false, so that sampled replies would all be the same: "
            "drop it, or choose another judge with --model-role grader=MODEL"
        )
    for room in (sampled.ROOM, sampled.ROOM_TO_REASON):
        config = _once(model).merge(GenerateConfig(max_tokens=room))
        try:
            output = await _when_free(partial(model.generate, PROBE, config=config))
        except Exception as error:
            if room == sampled.ROOM and failures.reason(error) not in _AWAY:
                continue
            raise _silent(model, error) from None
        thinks = bool(output.usage and output.usage.reasoning_tokens)
        if output.completion.strip() and not thinks:
            return Way("sampled", room=room)
    return Way("sampled", room=sampled.ROOM_TO_REASON)


# What asking in another way would not change.
_AWAY = ("unreachable", "timed_out", "rate_limited")


def _silent(model: Model, error: Exception) -> UserError:
    return UserError(
        f"the judge {model} does not answer ({one_line(error)}): check its key and address, "
        "or choose another judge with --model-role grader=MODEL"
    )


def _once(model: Model) -> GenerateConfig:
    # Q: Why no retry? A: a wrong address is to be said at once, and clients retry by themselves.
    return GenerateConfig(max_retries=0, timeout=120, attempt_timeout=60).merge(model.config)


async def _when_free(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask a judge, and again after a while where it is only busy (status 429)."""
    for seconds in BUSY_SECONDS:
        try:
            return await ask()
        except Exception as error:
            if failures.reason(error) != "rate_limited":
                raise
        await anyio.sleep(seconds)
    return await ask()


_known: dict[str, Way] = {}


async def prepare_judge(
    model: Model, estimator: str = "auto", lead_in: str = "", fence: bool = True
) -> Judge:
    """Make a judge of a model, testing it once per process.

    Args:
        model: The model in the grader role.
        estimator: `auto`, `one_token`, `digit_tree` or `sampled`.
        lead_in: Words that the judge's reply is made to begin with (`digit_tree` only).
        fence: Harden rubrics with fence lines against their answers.

    Raises:
        UserError: If the judge does not answer, or cannot be asked that way.
    """
    known_lead_in(lead_in)
    known_estimator(estimator)
    # Q: Why two places? A: a client made anew for the same server is the same judge, but two sets
    # of weights may go by one name.
    local = digit_tree.in_process(model)
    ways = _about(model).ways if local else _known
    key = _identity(model, estimator)
    if key not in ways:
        ways[key] = await _way(model, estimator)
    way = ways[key]
    if lead_in and way.estimator != "digit_tree":
        raise UserError(
            f"{model} is read by {way.estimator}, which takes no lead_in: drop -T lead_in"
        )
    return Judge(model, way, lead_in, fence)


def known_lead_in(lead_in: object) -> str:
    """Return the words that a reply is made to begin with.

    Raises:
        UserError: If they are no text, as `Number:` unquoted is, which YAML takes for a mapping.
    """
    if isinstance(lead_in, str):
        return lead_in
    raise UserError(
        f"the lead_in {lead_in!r} is no text: quote it twice, -T lead_in=\"'Number: '\""
    )


def known_estimator(estimator: str) -> str:
    """Return the name of an estimator, or `auto`.

    Raises:
        UserError: If there is none of that name.
    """
    if estimator in ("auto", *ESTIMATORS):
        return estimator
    raise UserError(f"unknown estimator '{estimator}': use auto, {', '.join(ESTIMATORS)}")


def known_flag(name: str, value: object) -> bool:
    """Return a boolean argument.

    Raises:
        UserError: If it is none, as YAML reads `maybe`.
    """
    if isinstance(value, bool):
        return value
    raise UserError(f"{name}={value} is neither true nor false: use -T {name}=true or false")


async def _way(model: Model, estimator: str) -> Way:
    local = digit_tree.in_process(model)
    match estimator:
        case "one_token":
            if local and digit_tree.spells(model) != "whole":
                raise UserError(
                    f"{model} does not write its numbers as single tokens, and one token would be "
                    "misread: use -T estimator=auto"
                )
            return Way("one_token")
        case "digit_tree":
            if not local:
                return await _served_way(model)
            if digit_tree.spells(model) != "digits":
                raise UserError(
                    f"{model} does not spell numbers digit by digit: use -T estimator=auto"
                )
            return Way("digit_tree")
        case "sampled":
            return await _sampled_way(model)
    return await choose_way(model)


def check_judge(estimator: str = "auto", lead_in: str = "") -> Judge:
    """Make sure that the judge answers before anything is generated, and return what it is.

    Runs in a thread with a client of its own: tasks are made inside Inspect's event loop, and a
    client's connections belong to the loop that opened them.

    Raises:
        UserError: If the judge cannot be set up, does not answer, or cannot be asked that way.
    """
    model = grader()

    async def probe() -> Judge:
        if digit_tree.in_process(model) or _identity(model, estimator) in _known:
            return await prepare_judge(model, estimator, lead_in)
        async with get_model(
            str(model),
            config=model.config,
            base_url=model.api.base_url,
            memoize=False,
            **model.model_args,
        ) as fresh:
            return await prepare_judge(fresh, estimator, lead_in)

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(anyio.run, probe).result()


def _identity(model: Model, estimator: str) -> str:
    return f"{model} {model.api.base_url} {estimator}"
