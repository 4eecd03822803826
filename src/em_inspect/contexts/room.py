"""Whether a chat with its examples fits into the model's context, asked before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from inspect_ai.model import ChatMessage, Model, get_model, get_model_info

from em_inspect.errors import UserError

logger = logging.getLogger(__name__)

# English text and code have three to four and a half characters per token in today's tokenizers.
CHARACTERS_PER_TOKEN = 4


def ensure_fits(chats: Sequence[Sequence[ChatMessage]], max_tokens: int) -> None:
    """Refuse chats that leave the model no room for its answer.

    Tokens are counted with the model's own tokenizer where it runs in this process, and estimated
    at four characters each where only Inspect's model data knows the context's length. Where
    nobody knows it, a warning says so.

    Args:
        chats: The chats that will be sent.
        max_tokens: Room that the answer needs, in tokens.

    Raises:
        UserError: If the longest chat and its answer exceed the model's context.
    """
    try:
        model = get_model()
    except ValueError:  # no model yet, e.g. while tasks are listed
        return
    longest = max(chats, key=_characters, default=())
    room = _room(model)
    if room is None:
        logger.warning("the context length of %s is unknown: it is not checked", model)
        return
    tokens, how = _tokens(model, longest)
    if tokens + max_tokens > room:
        raise UserError(
            f"the examples do not fit: {how} {tokens} tokens with the question and {max_tokens} "
            f"for the answer, but {model} has a context of {room}: lower -T k"
        )


def _characters(chat: Sequence[ChatMessage]) -> int:
    return sum(len(message.text) for message in chat)


def _room(model: Model) -> int | None:
    config: Any = getattr(getattr(model.api, "model", None), "config", None)
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()  # models that also see or hear keep it one level down
    length = getattr(config, "max_position_embeddings", None)
    if isinstance(length, int):
        return length
    info = get_model_info(model)
    return info.input_tokens if info else None


def _tokens(model: Model, chat: Sequence[ChatMessage]) -> tuple[int, str]:
    render = getattr(model.api, "hf_chat", None)
    tokenizer = getattr(model.api, "tokenizer", None)
    if render is None or tokenizer is None:
        return _characters(chat) // CHARACTERS_PER_TOKEN, "about"
    text = render(list(chat), [])
    return len(tokenizer.encode(text, add_special_tokens=False, verbose=False)), "they take"
