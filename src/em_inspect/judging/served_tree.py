"""Digit-tree estimator over a server that continues a begun reply: at most 12 short requests."""

from __future__ import annotations

from dataclasses import dataclass

from inspect_ai.model import (
    CachePolicy,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
)
from inspect_ai.util import collect

from em_inspect.judging.expectation import WORDS, number
from em_inspect.judging.failures import DETAIL, failed, unusable
from em_inspect.judging.number_tree import DIGITS
from em_inspect.judging.one_token import probabilities
from em_inspect.judging.reply import Reply

# vLLM lists 20 tokens unless it was started with `--max-logprobs 100`.
TOP_MANY, TOP_FEW = 100, 20

MAX_REQUESTS = 12
NEGLIGIBLE = 1e-5  # a branch with less is not asked for: it could move a score by 0.001

# What vLLM and servers like it take to go on with the last message instead of answering it.
CONTINUE = {"add_generation_prompt": False, "continue_final_message": True}

PROBE = "How warm is the colour orange, from 0 to 100? Write the number alone."


class _Unreadable(Exception):  # noqa: N818 - it carries a reply, it is not an error
    def __init__(self, reply: Reply) -> None:
        self.reply = reply


@dataclass(frozen=True)
class Server:
    """How a server that continues replies is asked.

    Attributes:
        model: The judge.
        config: Settings of every call, such as retries.
        cache: Cache policy of every call.
        top: Log-probabilities to ask for, 20 or 100.
        lead_in: Words that the reply is made to begin with.
    """

    model: Model
    config: GenerateConfig
    cache: CachePolicy | bool
    top: int
    lead_in: str = ""

    async def output(self, prompt: str, begun: str) -> ModelOutput:
        """Ask for the one token that follows a prompt and a begun reply."""
        step = GenerateConfig(temperature=0, max_tokens=1, logprobs=True, top_logprobs=self.top)
        messages: list[ChatMessage] = [ChatMessageUser(content=prompt)]
        text = self.lead_in + begun
        if text:
            messages.append(ChatMessageAssistant(content=text))
            extra = {**(self.config.extra_body or {}), **CONTINUE}
            step = step.merge(GenerateConfig(extra_body=extra))
        return await self.model.generate(messages, config=self.config.merge(step), cache=self.cache)

    async def after(self, prompt: str, begun: str) -> dict[str, float]:
        """Probabilities of the token that follows; raises where there are none."""
        return _listed(await self.output(prompt, begun))


def _listed(output: ModelOutput) -> dict[str, float]:
    failure = unusable(output)
    found = {} if failure else probabilities(output)
    if found:
        return found
    said = output.completion.strip()[:DETAIL]
    raise _Unreadable(failure or Reply(failure="no_probabilities", detail=said or None))


async def ask(server: Server, prompt: str) -> Reply:
    """Walk the number tree by asking for one token after each prefix that matters.

    The prefixes with the most mass are asked for first; what the requests do not reach, and what
    the server did not list, is counted as `unseen`. Tokens that begin a word (CODE, REFUSAL) are
    kept as they are where two of its letters are seen, as `one_token` keeps them.
    """
    try:
        return await _walk(server, prompt)
    except _Unreadable as unreadable:
        return unreadable.reply
    except Exception as error:
        return failed(error)


async def _walk(server: Server, prompt: str) -> Reply:
    output = await server.output(prompt, "")
    root = _listed(output)
    first = {d: root.get(d, 0.0) for d in DIGITS}
    p = {token: mass for token, mass in root.items() if number(token) is None}
    starts = {token: mass for token, mass in p.items() if token in {word[0] for word in WORDS}}
    wanted = sorted((first | starts).items(), key=lambda item: -item[1])
    wanted = [(text, mass) for text, mass in wanted if mass > NEGLIGIBLE][: MAX_REQUESTS - 2]
    followed = await collect(*(server.after(prompt, text) for text, _ in wanted))
    unseen = _rest(root) + sum(first.values()) - sum(first[t] for t, _ in wanted if t in first)
    for (text, mass), after in zip(wanted, followed, strict=True):
        if text in first:
            p |= _below(text, mass, after)
            unseen += mass * (0.0 if all(d in after for d in DIGITS) else _rest(after))
        else:
            p |= _word_beginnings(text, mass, after)
    ten = p.get("10", 0.0)
    if ten > NEGLIGIBLE:
        after = await server.after(prompt, "10")
        p["10"] = ten * max(0.0, 1 - sum(after.get(d, 0.0) for d in DIGITS))
        p["100"] = ten * after.get("0", 0.0)
        unseen += ten * (0.0 if all(d in after for d in DIGITS) else _rest(after))
    unseen = min(1.0, max(0.0, unseen))
    return Reply(distribution=p, unseen=unseen, named=output.model or None)


def _rest(listed: dict[str, float]) -> float:
    return max(0.0, 1 - sum(listed.values()))


def _below(digit: str, mass: float, after: dict[str, float]) -> dict[str, float]:
    second = {d: after.get(d, 0.0) for d in DIGITS}
    p = {digit: mass * max(0.0, 1 - sum(second.values()))}
    if digit != "0":
        p |= {digit + d: mass * share for d, share in second.items()}
    return p


def _word_beginnings(letter: str, mass: float, after: dict[str, float]) -> dict[str, float]:
    """Split a single letter's mass into what goes on as one of the words and what does not."""
    longer = {
        letter + token: mass * share
        for token, share in after.items()
        if token and any(word.startswith(letter + token) for word in WORDS)
    }
    return {**longer, letter: mass - sum(longer.values())}


async def refusal(server: Server) -> str | None:
    """Say why a server cannot be walked, or None where it can; four short calls.

    That a begun reply is continued, and digit by digit, shows in the count of prompt tokens: two
    more with '10' begun, three with '100'. A server that answers the message instead adds the
    tokens of a new turn, or none.
    """
    root = await server.after(PROBE, "")
    if len(root) < 10:
        return f"it lists {len(root)} log-probabilities, and ten digits need 10"
    blank = sum(mass for token, mass in root.items() if not token.strip())
    if blank > 0.05:
        return f"it begins numbers with a separate space ({blank:.0%} of the mass)"
    lengths = [_prompt_tokens(await server.output(PROBE, begun)) for begun in ("1", "10", "100")]
    if None in lengths:
        return "it does not count prompt tokens, so that continuing cannot be told from answering"
    one, two, three = (length or 0 for length in lengths)
    bare = _prompt_tokens(await server.output(PROBE, "")) if not server.lead_in else one - 1
    if (one, two, three) != ((bare or 0) + 1, (bare or 0) + 2, (bare or 0) + 3):
        return "it does not continue a begun reply digit by digit"
    return None


def _prompt_tokens(output: ModelOutput) -> int | None:
    usage = output.usage
    if usage is None or not usage.total_tokens:
        return None
    return (
        usage.input_tokens
        + (usage.input_tokens_cache_read or 0)
        + (usage.input_tokens_cache_write or 0)
    )
