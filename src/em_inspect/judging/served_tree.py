"""Digit-tree estimator over a server that continues a begun reply: at most 12 short requests.

A request asks for up to three tokens: beside what follows the begun reply it shows what follows its
likeliest digits, at no further request.
"""

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
from em_inspect.judging.one_token import chosen, probabilities
from em_inspect.judging.reply import Reply

# vLLM lists 20 tokens unless it was started with `--max-logprobs 100`.
TOP_MANY, TOP_FEW = 100, 20

# Most prefixes that are asked for at once, after the first request: what the ones before have shown
# decides which come next.
ROUNDS = (7, 3, 1)
MAX_REQUESTS = 1 + sum(ROUNDS)
NEGLIGIBLE = 1e-5  # a branch with less is not asked for: it could move a score by 0.001
LONGEST = 3  # digits of 100

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

    async def output(self, prompt: str, begun: str, tokens: int = 1) -> ModelOutput:
        """Ask for the likeliest tokens that follow a prompt and a begun reply."""
        step = GenerateConfig(
            temperature=0, max_tokens=tokens, logprobs=True, top_logprobs=self.top
        )
        messages: list[ChatMessage] = [ChatMessageUser(content=prompt)]
        text = self.lead_in + begun
        if text:
            messages.append(ChatMessageAssistant(content=text))
            extra = {**(self.config.extra_body or {}), **CONTINUE}
            step = step.merge(GenerateConfig(extra_body=extra))
        return await self.model.generate(messages, config=self.config.merge(step), cache=self.cache)

    async def after(self, prompt: str, begun: str) -> dict[str, float]:
        """Probabilities of the token that follows; raises where there are none."""
        return _listed(await self.output(prompt, begun), begun)[begun]


def _listed(output: ModelOutput, begun: str) -> dict[str, dict[str, float]]:
    """What follows a begun reply, and what follows that with its likeliest digits added to it.

    Raises:
        _Unreadable: If the server gave no probabilities.
    """
    failure = unusable(output)
    found = {} if failure else probabilities(output)
    if not found:
        said = output.completion.strip()[:DETAIL]
        raise _Unreadable(failure or Reply(failure="no_probabilities", detail=said or None))
    seen = {begun: found}
    for at, digit in enumerate(chosen(output)[:-1], start=1):
        if len(digit) != 1 or digit not in DIGITS or not (found := probabilities(output, at)):
            break
        begun += digit
        seen[begun] = found
    return seen


async def ask(server: Server, prompt: str) -> Reply:
    """Walk the number tree by asking for what follows the prefixes that matter.

    The prefixes with the most mass are asked for first. A two-digit number that was not asked for
    is taken to go on to a third digit, and so off the scale, as often as those that were. What that
    can be off by, what the requests do not reach, and what the server did not list, is counted as
    `unseen`: the most by which masses can be off. Tokens that begin a word (CODE, REFUSAL) are kept
    as they are where two of its letters are seen, as `one_token` keeps them.
    """
    try:
        return await _walk(server, prompt)
    except _Unreadable as unreadable:
        return unreadable.reply
    except Exception as error:
        return failed(error)


def _levels(begun: str) -> int:
    """How many tokens a request asks for: down to what follows a number of two digits."""
    return max(1, LONGEST - len(begun)) if begun[0] in DIGITS else 1


Seen = dict[str, dict[str, float]]
"""Probabilities of the next token, by what the reply was made to begin with."""


async def _walk(server: Server, prompt: str) -> Reply:
    output = await server.output(prompt, "", LONGEST)
    seen: Seen = _listed(output, "")
    root = seen[""]
    p = {token: mass for token, mass in root.items() if number(token) is None}
    starts = {token: mass for token, mass in p.items() if token in {word[0] for word in WORDS}}
    for most in ROUNDS:
        masses = _reached(seen) | starts
        open_ = [text for text in masses if text not in seen and masses[text] > NEGLIGIBLE]
        wanted = sorted(open_, key=lambda text: -masses[text])[:most]
        outputs = await collect(*(server.output(prompt, t, _levels(t)) for t in wanted))
        for text, one in zip(wanted, outputs, strict=True):
            seen = _listed(one, text) | seen
    for letter in starts.keys() & seen.keys():
        p |= _word_beginnings(letter, starts[letter], seen[letter])
    numbers, unseen = _numbers(seen)
    return Reply(distribution=p | numbers, unseen=unseen, named=output.model or None)


def _reached(seen: Seen) -> dict[str, float]:
    """Mass that begins with each digit, each two digits and 100, as far as it is known."""
    found = {d: seen[""].get(d, 0.0) for d in DIGITS}
    for first in DIGITS[1:]:
        if first in seen:
            found |= {first + d: found[first] * seen[first].get(d, 0.0) for d in DIGITS}
    if "10" in seen:
        found["100"] = found["10"] * seen["10"].get("0", 0.0)
    return found


def _numbers(seen: Seen) -> tuple[dict[str, float], float]:
    """The mass on each number, and the mass that it can be off by."""
    reached = _reached(seen)
    longer = {text: sum(after.get(d, 0.0) for d in DIGITS) for text, after in seen.items()}
    unseen = _rest(seen[""]) + sum(
        mass
        for token, mass in seen[""].items()
        if number(token) is not None and token not in DIGITS
    )
    p: dict[str, float] = {}
    for text, mass in reached.items():
        if text in seen:
            p[text] = mass * max(0.0, 1 - longer[text])
            unseen += mass * (0.0 if all(d in seen[text] for d in DIGITS) else _rest(seen[text]))
        elif len(text) == 1:
            unseen += mass
        else:
            goes_on = min(1.0, _leaves_scale(text, longer))
            p[text] = mass * (1 - goes_on)
            unseen += mass * max(goes_on, 1 - goes_on)
    return p, min(1.0, max(0.0, unseen))


def _leaves_scale(text: str, longer: dict[str, float]) -> float:
    """Share of a number of two digits or more that goes on to another: as of those asked for.

    Those of the same first digit tell it, or else all of them; without any it is taken for none.
    Q: Why not by their mass? A: the heaviest, which are asked for, go on more seldom than others:
    measured on a weak judge of 36 answers, scores are off by 0.4 points on average instead of 1.2.
    """
    asked = [one for one in longer if len(one) > 1 and one[0] in DIGITS]
    akin = [one for one in asked if one[0] == text[0]] or asked
    return sum(longer[one] for one in akin) / len(akin) if akin else 0.0


def _rest(listed: dict[str, float]) -> float:
    return max(0.0, 1 - sum(listed.values()))


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
