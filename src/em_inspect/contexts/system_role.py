"""The solver that asks: a system prompt is folded where the model's chat template has no role."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageSystem,
    ChatMessageUser,
    Model,
    get_model,
)
from inspect_ai.solver import Generate, Solver, TaskState, solver

from em_inspect.providers import prepare

FOLDED = "system_folded"
"""Sample metadata: whether the system prompt was sent inside the user message."""

_PROBE = "A probe of the system role."
_REFUSAL = re.compile(
    r"system (role|message|prompt|instruction)s? (is |are )?(not|n't|un)|"
    r"(not|n't) support.{0,30}system|developer instruction is not enabled",
    re.IGNORECASE,
)


@solver
def ask() -> Solver:
    """Generate the answer; a model without a system role gets the prompt in the user message.

    Whether a model has the role is read off its chat template where it runs in this process, and
    off the server's refusal elsewhere. `system_folded` in the sample's metadata says what was done.
    """

    refused: set[str] = set()  # models whose server has refused a system prompt in this run

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        model = get_model()
        prepare(model)
        if not any(message.role == "system" for message in state.messages):
            return await generate(state)
        if str(model) in refused or not takes_system(model):
            return await generate(_fold(state))
        chat = list(state.messages)
        try:
            return await generate(state)
        except Exception as error:
            if not _REFUSAL.search(str(error)):
                raise
        refused.add(str(model))
        state.messages = chat
        return await generate(_fold(state))

    return solve


def takes_system(model: Model) -> bool:
    """Whether a model's chat template takes a system prompt; True where that cannot be seen."""
    render: Callable[[list[ChatMessage], list[Any]], str] | None
    render = getattr(model.api, "hf_chat", None)
    if render is None:
        return True
    try:
        chat = render([ChatMessageSystem(content=_PROBE), ChatMessageUser(content="Hello")], [])
    except Exception:  # templates without the role raise an error of their own making
        return False
    return _PROBE in chat


def folded(chat: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Move the system prompt into the first user message, before a blank line."""
    system = "\n\n".join(message.text for message in chat if message.role == "system")
    rest: list[ChatMessage] = [message for message in chat if message.role != "system"]
    first = next(i for i, message in enumerate(rest) if message.role == "user")
    rest[first] = ChatMessageUser(content=f"{system}\n\n{rest[first].text}")
    return rest


def _fold(state: TaskState) -> TaskState:
    state.messages = folded(state.messages)
    state.metadata[FOLDED] = True
    return state
