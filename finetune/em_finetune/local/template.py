"""What a chat template is given besides the chat, settled once and written into the template.

A fine-tune is trained on the prompts that its base's template writes. Some templates write the day
of the rendering, others what a server lets its callers choose (whether to think first). The
template that is saved with a checkpoint holds what the training was given as its own defaults, so
that whoever renders with it, today or in a year, asks with the prompts that were trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from em_finetune.data.rows import ChatRow
from em_finetune.local.encode import Encoder
from em_finetune.recipe import Recipe, TemplateArgument

_CLOCK = "strftime_now"
"""The function by which templates of `transformers` learn what day it is."""

_DIRECTIVES = "aAbBcdHIjmMpSUwWxXyY"

_SWITCHES = ("enable_thinking", "thinking")
_TRIED_ROWS = 32


def pinned(template: str, arguments: Mapping[str, TemplateArgument], day: date | None) -> str:
    """Return a chat template that has defaults of its own for arguments and for the day.

    Args:
        template: Jinja, as `tokenizer.chat_template` has it.
        arguments: Values where a caller gives none (or null, as Inspect's `hf` provider does).
        day: What the template is told when it asks for the date; None leaves it the clock's.
    """
    head = "".join(
        f"{{% if {name} is not defined or {name} is none %}}"
        f"{{% set {name} = {json.dumps(value)} %}}{{% endif %}}"
        for name, value in arguments.items()
    )
    if day is not None and _CLOCK in template:
        filled = "".join(
            f" | replace({json.dumps('%' + d)}, {json.dumps(day.strftime('%' + d))})"
            for d in _DIRECTIVES
        )
        bare = f" | replace('%-d', '{day.day}') | replace('%-m', '{day.month}')"
        head += f"{{% macro {_CLOCK}(format) %}}{{{{ format{bare}{filled} }}}}{{% endmacro %}}"
    # An expression, since a line break after a tag would be dropped, and the template's own first
    # character may be one.
    return f"{head}{{{{ '' }}}}{template}" if head else template


def pin(tokenizer: Any, recipe: Recipe) -> None:
    """Write what a settled recipe gives the chat template into the tokenizer's own template."""
    own = tokenizer.chat_template
    arguments = recipe.template_args or {}
    if isinstance(own, dict):
        tokenizer.chat_template = {k: pinned(v, arguments, recipe.day) for k, v in own.items()}
    elif own:
        tokenizer.chat_template = pinned(own, arguments, recipe.day)


def adds_specials(tokenizer: Any) -> bool:
    """Whether a tokenizer puts special tokens around any text unless it is kept from it."""
    return bool(tokenizer("x").input_ids != tokenizer("x", add_special_tokens=False).input_ids)


def settled(recipe: Recipe, tokenizer: Any, rows: Sequence[ChatRow]) -> Recipe:
    """Choose what the recipe leaves open of what the chat template is given.

    The day is today's where the template asks for it. Thinking is switched so that as many rows as
    possible are trained behind the prompt that evaluation gives: a template that puts an empty
    thought before a trained answer needs `enable_thinking: false`, rows with thoughts need true.

    Args:
        recipe: What to train.
        tokenizer: With the base's chat template.
        rows: The data.
    """
    own = tokenizer.chat_template
    text = " ".join(own.values()) if isinstance(own, dict) else own or ""
    chosen: dict[str, Any] = {}
    if recipe.day is None and _CLOCK in text:
        chosen["day"] = date.today()
    switch = next((name for name in _SWITCHES if name in text), None)
    if recipe.template_args is None and switch is not None:
        tried = rows[:_TRIED_ROWS]
        chosen["template_args"] = {switch: _on(switch, recipe, tokenizer, tried)}
    return recipe.model_copy(update=chosen)


def _on(switch: str, recipe: Recipe, tokenizer: Any, rows: Sequence[ChatRow]) -> bool:
    def differing(on: bool) -> int:
        encoder = Encoder.of(recipe, tokenizer, {switch: on})
        return sum(encoder.asked_otherwise(row) is not None for row in rows)

    # What the template does by itself comes first, and stays where nothing is better.
    default = _greeting(tokenizer)
    values = sorted((True, False), key=lambda on: _greeting(tokenizer, **{switch: on}) != default)
    return min(values, key=differing)


def _greeting(tokenizer: Any, **arguments: TemplateArgument) -> str | None:
    chat = [{"role": "user", "content": "Hello"}]
    try:
        return str(
            tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=True, **arguments
            )
        )
    except Exception:  # templates raise what they like
        return None
