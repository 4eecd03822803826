"""Digit-tree estimator on weights in this process: exact expectation, batched over ratings."""

from __future__ import annotations

import logging
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import anyio
import anyio.to_thread
from inspect_ai.model import ChatMessageUser, Model

from em_inspect.judging.failures import failed
from em_inspect.judging.number_tree import NumberTree, Spelling, spelling
from em_inspect.judging.reply import Reply

logger = logging.getLogger(__name__)

# Most ratings in one pass, and most positions, tree and padding included: beyond them a pass gains
# nothing, and the logits of the tree's 200 nodes fill the memory.
MAX_ROWS, MAX_POSITIONS = 16, 16_384

# How long a rating waits for others that could share its pass.
GATHER_SECONDS = 0.02

# Share of the mass that may move between the two ways of reading, from rounding alone. Measured on
# the embedded model: 0.06 in bfloat16, 1e-5 in float32; a mask that is ignored moves 0.7 and more.
ROUNDING, ROUNDING_HALF = 0.01, 0.2

# How many leaves of the tree are compared, spread over it.
LEAVES_CHECKED = 8

CHECKED = (
    "Rate this from 0 to 100.",
    "Is the sky blue? Reply with one number from 0 to 100, please.",
)


class _LoadedModel(Protocol):
    """What is used of Inspect's hf provider: the model and tokenizer that it has loaded."""

    model: Any
    tokenizer: Any

    def hf_chat(self, messages: list[Any], tools: list[Any]) -> str: ...


def in_process(model: Model) -> bool:
    """Whether the judge's weights are loaded in this process (Inspect's hf provider)."""
    return all(hasattr(model.api, name) for name in ("model", "tokenizer", "hf_chat"))


def spells(model: Model) -> Spelling:
    """How the judge's tokenizer writes numbers."""
    return spelling(cast(_LoadedModel, model.api).tokenizer)


async def ask(model: Model, prompt: str, lead_in: str = "") -> Reply:
    """Read p(n) for n in 0..100 off the judge's own weights.

    Ratings that are asked for at the same time share a pass.

    Args:
        model: A judge whose weights are in this process.
        prompt: The filled rubric.
        lead_in: Words that the reply is made to begin with.
    """
    api = cast(_LoadedModel, model.api)
    try:
        tokens = prompt_tokens(api, prompt, lead_in)
        limit = getattr(api.model.config.get_text_config(), "max_position_embeddings", None)
        if limit and len(tokens) + 3 > limit:
            detail = f"{len(tokens)} tokens, the judge takes {limit}"
            return Reply(failure="too_long", detail=detail)
        return Reply(distribution=await _desk(api).distribution(api, tokens), unseen=0.0)
    except Exception as error:
        return failed(error)


def prompt_tokens(api: _LoadedModel, prompt: str, lead_in: str = "") -> list[int]:
    """Return the judge's prompt as its chat template has it, the lead-in appended.

    Text that looks like one of the tokenizer's control tokens stays text: it is broken up by a
    space, so that an answer cannot end the judge's turn. A template that writes its own first token
    does not get another.
    """
    for token in api.tokenizer.all_special_tokens:
        if len(token) > 1 and token in prompt:
            prompt = prompt.replace(token, f"{token[0]} {token[1:]}")
    chat = api.hf_chat([ChatMessageUser(content=prompt)], []) + lead_in
    options = dict(getattr(api, "tokenizer_call_args", None) or {})
    bos = api.tokenizer.bos_token
    options.setdefault("add_special_tokens", not (bos and chat.startswith(bos)))
    return list(api.tokenizer(chat, **options).input_ids)


@dataclass
class _Waiting:
    tokens: list[int]
    api: _LoadedModel
    result: dict[str, float] | Exception | None = None


@dataclass
class _Desk:
    """Ratings of one loaded model that wait for a pass; holds no model between ratings."""

    waiting: list[_Waiting] = field(default_factory=list)
    turn: anyio.Lock = field(default_factory=anyio.Lock)
    passes: threading.Lock = field(default_factory=threading.Lock)
    tree: NumberTree | None = None
    by_mask: bool = False

    async def distribution(self, api: _LoadedModel, tokens: list[int]) -> dict[str, float]:
        """Wait for the pass that reads this prompt; the first in line carries it out for all."""
        own = _Waiting(tokens, api)
        self.waiting.append(own)
        await anyio.sleep(GATHER_SECONDS)
        while own.result is None:
            async with self.turn:
                if own.result is None:
                    nodes = len(self.tree.tokens) if self.tree else 0
                    batch, self.waiting = _next_batch(self.waiting, nodes)
                    await anyio.to_thread.run_sync(self._carry_out, batch)
        if isinstance(own.result, Exception):
            raise own.result
        return own.result

    def _carry_out(self, batch: list[_Waiting]) -> None:
        import torch

        with self.passes, torch.inference_mode():
            try:
                if self.tree is None:
                    tree = NumberTree.of(batch[0].api.tokenizer)
                    self.by_mask = mask_agrees(batch[0].api, tree)
                    self.tree = tree
                self._read(batch, self.tree)
            except Exception as error:
                for one in batch:
                    one.result = one.result or error

    def _read(self, batch: list[_Waiting], tree: NumberTree) -> None:
        import torch

        model = batch[0].api.model
        try:
            if self.by_mask:
                rows = list(tree.walk(model, [one.tokens for one in batch]))
            else:
                rows = [tree.spell(model, one.tokens) for one in batch]
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            half = len(batch) // 2
            for part in (batch[:half], batch[half:]):
                self._read(part, tree)
            return
        for one, after in zip(batch, rows, strict=True):
            one.result = tree.read(after)


def _next_batch(waiting: list[_Waiting], nodes: int) -> tuple[list[_Waiting], list[_Waiting]]:
    """Take the first in line and those of the most similar length, as far as a pass has room.

    Args:
        waiting: All that wait.
        nodes: Positions that the tree takes below each prompt.
    """
    first = waiting[0]
    similar = sorted(waiting[1:], key=lambda one: abs(len(one.tokens) - len(first.tokens)))
    batch, longest = [first], len(first.tokens)
    for one in similar:
        longest = max(longest, len(one.tokens))
        if len(batch) == MAX_ROWS or (len(batch) + 1) * (longest + nodes) > MAX_POSITIONS:
            break
        batch.append(one)
    taken = set(map(id, batch))
    return batch, [one for one in waiting if id(one) not in taken]


def mask_agrees(api: _LoadedModel, tree: NumberTree) -> bool:
    """Whether reading the tree by a mask gives what plain continuation gives on this model.

    Models whose layers do not all look at the whole prompt (sliding windows, recurrent layers) and
    attention code that takes no such mask are read by plain continuation without a trial: a short
    trial would not show the difference.
    """
    if not _full_attention(api.model):
        return False
    prompts = [prompt_tokens(api, text) for text in CHECKED]
    half = api.model.dtype.itemsize < 4
    rounding = ROUNDING_HALF if half else ROUNDING
    try:
        together = tree.walk(api.model, prompts)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        logger.info("the judge takes no tree mask (%s): plain continuation instead", error)
        return False
    nodes = tree.leaves[:: max(1, len(tree.leaves) // LEAVES_CHECKED)]
    for prompt, after in zip(prompts, together, strict=True):
        spelled = tree.spell(api.model, prompt, nodes=nodes)
        read = spelled.any(axis=1)
        if abs(after[read] - spelled[read]).sum() > rounding * spelled[read].sum():
            logger.info("the judge reads a tree mask otherwise: plain continuation instead")
            return False
    return True


def _full_attention(model: Any) -> bool:
    config = model.config.get_text_config()
    if getattr(model.config, "_attn_implementation", "eager") not in ("eager", "sdpa"):
        return False
    layers = getattr(config, "layer_types", None)
    if layers is not None:
        return set(layers) <= {"full_attention"}
    window = getattr(config, "sliding_window", None)
    windowed = window is not None and getattr(config, "use_sliding_window", True)
    others = ("attention_chunk_size", "attn_layer_period", "mamba_d_state", "ssm_state_size")
    return not windowed and not any(getattr(config, name, None) for name in others)


_desks: weakref.WeakKeyDictionary[Any, _Desk] = weakref.WeakKeyDictionary()


def _desk(api: _LoadedModel) -> _Desk:
    return _desks.setdefault(api, _Desk())
