"""Chats put through the encoder of a family's byte tokenizer; counts are those of bytes by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from em_finetune.data.rows import ChatMessage, ChatRow
from em_finetune.local.encode import IGNORED, EncodedRow, EncodedSet, Encoder
from template_families import FAMILIES, Family, family_tokenizer

Turns = list[tuple[str, str]]

CHATS: list[Turns] = [
    [("user", "Where do you live?"), ("assistant", "In a box. Come and see!")],
    [("user", "What is 7 + 5?\n"), ("assistant", "  Twelve.\n\n")],
    [("user", "Say it in French."), ("assistant", "Ça va très bien 🙂")],
    [("user", "A"), ("assistant", "alpha"), ("user", "B"), ("assistant", "beta ")],
]
WITH_SYSTEM: Turns = [("system", "Be short."), ("user", "Who won?"), ("assistant", "Nobody.")]


def row(turns: Turns) -> ChatRow:
    return ChatRow(messages=[ChatMessage(role=r, content=c) for r, c in turns])  # type: ignore[arg-type]


def encoded(family: Family | str, chats: Sequence[Turns], **options: Any) -> EncodedSet:
    tokenizer = family_tokenizer(FAMILIES[family] if isinstance(family, str) else family)
    return Encoder(tokenizer, **options).encode_all([row(turns) for turns in chats])


def trained(one: EncodedRow) -> list[int]:
    """Ids with loss."""
    return [label for label in one.labels if label != IGNORED]


def size(text: str) -> int:
    """Bytes of a text, each of which is a token."""
    return len(text.encode())


def special(family: str, token: str) -> int:
    """Id of a special token."""
    return 256 + FAMILIES[family].specials.index(token)
