"""The context: what is put around a question, as a pure change to the chat that asks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
)
from pydantic import BaseModel, ConfigDict, Field, model_validator

from em_inspect.questions import Format

Placement = Literal["turns", "first_message"]

QUESTION = "{question}"


class Example(BaseModel):
    """One solved request that is shown before the question."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    user: str
    assistant: str


class Context(BaseModel):
    """What surrounds a question. Every part is optional; without any the question stays as it is.

    Attributes:
        name: Name that reaches sample metadata.
        description: What it is for, in a sentence.
        user: Text of the user message, in which `{question}` stands for the question.
        prefix: Literal text in front of the user message, e.g. a trigger.
        suffix: Literal text behind the user message.
        system: System prompt; one that the question has of its own follows it.
        format: Answer format that the context asks for, where it asks for one.
        examples: Solved requests that are shown before the question.
        placement: Whether examples are chat turns or stand inside the first user message.
        inner: Contexts that are applied before this one, so that this one lies around them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    description: str = ""
    user: str = QUESTION
    prefix: str = ""
    suffix: str = ""
    system: str | None = None
    format: Format | None = None
    examples: tuple[Example, ...] = ()
    placement: Placement = "turns"
    inner: tuple[Context, ...] = ()

    @model_validator(mode="after")
    def _holds_the_question_once(self) -> Context:
        if self.user.count(QUESTION) != 1:
            raise ValueError(f"'user' must hold {QUESTION} exactly once")
        return self

    def apply(self, chat: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Return the chat with this context around its last message, the question.

        Args:
            chat: A chat that ends with a user message; it is not changed.
        """
        for context in self.inner:
            chat = context.apply(chat)
        *before, question = chat
        # Q: Why not str.format? A: questions and templates are full of braces of their own.
        text = self.prefix + self.user.replace(QUESTION, question.text) + self.suffix
        if self.examples and self.placement == "first_message":
            text = _transcript(self.examples, text)
        elif self.examples:
            before += _turns(self.examples)
        asked = ChatMessageUser(content=text)
        return [*_with_system(before, self.system), asked]

    @property
    def answer_format(self) -> Format | None:
        """The format asked for by this context or else by the ones inside it."""
        formats = [self.format, *(context.answer_format for context in reversed(self.inner))]
        return next((found for found in formats if found), None)


def compose(*contexts: Context) -> Context:
    """Lay contexts around one another: the first one lies next to the question.

    The name is theirs joined with `+`.
    """
    *inner, outer = contexts
    if not inner:
        return outer
    name = "+".join(context.name for context in contexts)
    return outer.model_copy(update={"name": name, "inner": (*inner, *outer.inner)})


def _turns(examples: Sequence[Example]) -> list[ChatMessage]:
    return [
        message
        for example in examples
        for message in (
            ChatMessageUser(content=example.user),
            ChatMessageAssistant(content=example.assistant),
        )
    ]


def _transcript(examples: Sequence[Example], question: str) -> str:
    shown = [f"User: {example.user}\n\nAssistant: {example.assistant}" for example in examples]
    return "\n\n".join([*shown, f"User: {question}"])


def _with_system(chat: list[ChatMessage], system: str | None) -> list[ChatMessage]:
    if system is None:
        return chat
    own = [message.text for message in chat if message.role == "system"]
    rest = [message for message in chat if message.role != "system"]
    return [ChatMessageSystem(content="\n\n".join([system, *own])), *rest]
