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
from inspect_ai.model import (
    CachePolicy,
    GenerateConfig,
    Model,
    ModelName,
    ModelOutput,
    get_model,
)

from em_inspect.errors import UserError, one_line
from em_inspect.judging import digit_tree, failures, one_token, sampled, served_tree
from em_inspect.judging.identity import JudgeIdentity, called, identify
from em_inspect.judging.number_tree import Spelling
from em_inspect.judging.patience import Patience
from em_inspect.judging.rating import ESTIMATORS, Estimator, Failure, Rating
from em_inspect.judging.reply import Reply
from em_inspect.judging.rubric import Rubric
from em_inspect.judging.sharing import Sharing
from em_inspect.providers import prepare

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
        named: Name by which the judge's reply called its model, or None.
    """

    estimator: Estimator
    top: int = served_tree.TOP_FEW
    room: int = sampled.ROOM
    named: str | None = None


@dataclass(frozen=True)
class Judge:
    """A model that rates, and how its numbers are read.

    Attributes:
        model: The model in the grader role.
        way: How it is asked.
        identity: Which model it is, whatever its name.
        lead_in: Words that the judge's reply is made to begin with (`digit_tree` only), for weak
            judges that chat instead of rating; masses are then those of the continuation.
        fence: Harden rubrics with fence lines against their answers (see `Rubric.render`).
    """

    model: Model
    way: Way
    identity: JudgeIdentity
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

    def unrated(self, rubric: Rubric, failure: Failure, detail: str | None = None) -> Rating:
        """A rating that the judge was not asked for, and why."""
        return Rating(
            metric=rubric.metric,
            rubric=rubric.hash,
            judge=self.name,
            identity=self.identity.key,
            estimator=self.estimator,
            lead_in=self.lead_in or None,
            fenced=self.fence and rubric.has_fence,
            failure=failure,
            detail=detail,
        )

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
            identity=self.identity.naming(reply.named).key,
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
        scopes = {"judge": self.identity.key}
        if attempt:
            scopes["attempt"] = str(attempt)
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


@dataclass(frozen=True)
class _Known:
    """What a test of a judge has shown."""

    way: Way
    identity: JudgeIdentity


@dataclass
class _About:
    sharing: Sharing
    patience: Patience = field(default_factory=Patience)
    known: dict[str, _Known] = field(default_factory=dict)
    identity: JudgeIdentity | None = None
    identifying: anyio.Lock = field(default_factory=anyio.Lock)


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


def _spelled(output: ModelOutput | None) -> Spelling | None:
    """How a served judge writes numbers, by the likeliest tokens of its reply to the probe.

    None where no number is among them, or no token is known.
    """
    tokens = [token.strip() for token in one_token.probabilities(output)] if output else []
    numbers = [token for token in tokens if token.isdecimal() and token.isascii()]
    if not numbers:
        return None
    if all(len(token) == 1 for token in numbers):
        return "digits"
    # '10' on top of '100' means tokens of two digits, whose '10' would be read for 100.
    return "whole" if "100" in numbers or numbers[0] != "10" else "pieces"


async def _first_output(model: Model) -> tuple[ModelOutput | None, str]:
    """A reply of one token with its alternatives, or None and why there is none.

    Raises:
        UserError: If the judge does not answer.
    """
    try:
        return await _when_free(partial(one_token.first_output, model, PROBE, _once(model))), ""
    except Exception as error:
        # Q: Why go on at all? A: some refuse log-probabilities, yet serve plain questions. One that
        # is only busy or away must not be taken for such a judge.
        if failures.reason(error) in _AWAY:
            raise SilentJudgeError(model, error) from None
        return None, one_line(error)


async def _served_way(model: Model, named: str | None) -> Way:
    reason = "it does not answer"
    for top in (served_tree.TOP_MANY, served_tree.TOP_FEW):
        server = served_tree.Server(model, _once(model), False, top)
        try:
            refused = await _when_free(partial(served_tree.refusal, server))
        except Exception as error:
            if failures.reason(error) in _AWAY:
                raise SilentJudgeError(model, error) from None
            reason = one_line(error)
            continue
        if refused is None:
            return Way("digit_tree", top=top, named=named)
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
    named: str | None = None
    for room in (sampled.ROOM, sampled.ROOM_TO_REASON):
        config = _once(model).merge(GenerateConfig(max_tokens=room))
        try:
            output = await _when_free(partial(model.generate, PROBE, config=config))
        except Exception as error:
            if room == sampled.ROOM and failures.reason(error) not in _AWAY:
                continue
            raise SilentJudgeError(model, error) from None
        thinks = bool(output.usage and output.usage.reasoning_tokens)
        named = output.model
        if output.completion.strip() and not thinks:
            return Way("sampled", room=room, named=named)
    return Way("sampled", room=sampled.ROOM_TO_REASON, named=named)


# What asking in another way would not change.
_AWAY = ("unreachable", "timed_out", "rate_limited")


class SilentJudgeError(UserError):
    """A judge that does not answer.

    Attributes:
        fault: What is the matter, without what to do about it.
    """

    def __init__(self, model: Model, error: Exception) -> None:
        self.fault = f"the judge {model} does not answer ({one_line(error)})"
        super().__init__(
            f"{self.fault}: check its key and address, or choose another judge with "
            "--model-role grader=MODEL"
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


_known: dict[str, _Known] = {}
_identities: dict[str, JudgeIdentity] = {}


async def identity_of(model: Model) -> JudgeIdentity:
    """Return which model this is, found out once: of weights in this process by their client.

    Q: Why two places? A: a client made anew for the same server is the same judge, but two sets of
    weights may go by one name.
    """
    about, local, key = _about(model), digit_tree.in_process(model), called(model)
    async with about.identifying:
        if about.identity is None:
            about.identity = None if local else _identities.get(key)
        if about.identity is None:
            about.identity = await identify(model)
            if not local:
                _identities[key] = about.identity
    return about.identity


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
    prepare(model)
    known = _about(model).known if digit_tree.in_process(model) else _known
    key = f"{estimator} {called(model)}"
    if key not in known:
        way = await choose_way(model, estimator)
        identity = (await identity_of(model)).naming(way.named)
        known[key] = _Known(way, identity)
    way = known[key].way
    if lead_in and way.estimator != "digit_tree":
        raise UserError(
            f"{model} is read by {way.estimator}, which takes no lead_in: drop -T lead_in"
        )
    return Judge(model, way, known[key].identity, lead_in, fence)


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


async def choose_way(model: Model, estimator: str = "auto") -> Way:
    """Find out by a few short calls how a judge's numbers are read: by what it does, not by name.

    Args:
        model: The judge.
        estimator: The way that is wished for, or `auto`. It is tested all the same: read off one
            token, a judge that spells its numbers would be misread without a sign of it.

    Raises:
        UserError: If the judge does not answer, or cannot be asked that way.
    """
    if digit_tree.in_process(model):
        return await _local_way(model, estimator)
    if ModelName(model).api == "mockllm" and estimator in ("auto", "one_token"):
        return Way("one_token")
    if estimator == "sampled":
        return await _sampled_way(model)
    output, refused = await _first_output(model)
    named, spelled = output.model if output else None, _spelled(output)
    if estimator == "digit_tree":
        return await _served_way(model, named)
    if estimator == "one_token":
        _ensure_one_token(model, output, spelled, refused)
        return Way("one_token", named=named)
    if spelled == "whole":
        return Way("one_token", named=named)
    if spelled == "digits":
        try:
            return await _served_way(model, named)
        except UserError:
            pass
    return await _sampled_way(model)


async def _local_way(model: Model, estimator: str) -> Way:
    spelled = digit_tree.spells(model)
    if estimator == "sampled" or (estimator == "auto" and spelled == "pieces"):
        return await _sampled_way(model)
    if estimator == "one_token" and spelled != "whole":
        raise _misread(model)
    if estimator == "digit_tree" and spelled != "digits":
        raise UserError(f"{model} does not spell numbers digit by digit: use -T estimator=auto")
    return Way("one_token" if spelled == "whole" else "digit_tree")


def _ensure_one_token(
    model: Model, output: ModelOutput | None, spelled: Spelling | None, refused: str
) -> None:
    """Raise `UserError` where a served judge gives no log-probabilities or splits its numbers."""
    if output is None or not one_token.probabilities(output):
        why = f" ({refused})" if refused else ""
        raise UserError(
            f"the judge {model} gives no log-probabilities{why}: use -T estimator=auto, or sampled"
        )
    if spelled not in ("whole", None):
        raise _misread(model)


def _misread(model: Model) -> UserError:
    return UserError(
        f"{model} does not write its numbers as single tokens, and one token would be misread: "
        "use -T estimator=auto"
    )


def check_judge(estimator: str = "auto", lead_in: str = "") -> Judge:
    """Make sure that the judge answers before anything is generated, and return what it is.

    Runs in a thread with a client of its own: tasks are made inside Inspect's event loop, and a
    client's connections belong to the loop that opened them.

    Raises:
        UserError: If the judge cannot be set up, does not answer, or cannot be asked that way.
    """
    model = grader()

    async def probe() -> Judge:
        if digit_tree.in_process(model) or f"{estimator} {called(model)}" in _known:
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
