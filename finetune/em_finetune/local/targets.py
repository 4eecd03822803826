"""Which modules of a base get an update: every name and layer that a recipe lists must be there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from em_finetune.recipe import Lora, Recipe
from em_inspect.errors import UserError
from em_inspect.pages import did_you_mean

# The first number on the way to a module, as PEFT counts layers: a later one is an expert's.
_LAYER = re.compile(r".*?\.[^.]*\.(\d+)\.")


def adapted(model: Any, recipe: Recipe, base: str) -> Any:
    """Put a fresh LoRA adapter on a base; its start is drawn from PyTorch's generator.

    Args:
        model: The base, or its outline on the meta device.
        recipe: What to train.
        base: The base's name.

    Raises:
        UserError: The base lacks a module or layer that the recipe trains, or one of them cannot
            have an update.
    """
    from peft import LoraConfig, get_peft_model

    lora = recipe.lora
    check_targets(model, lora, base)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=list(lora.target_modules),
        layers_to_transform=None if lora.layers is None else list(lora.layers),
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise UserError(
            f"base {base} has modules among lora.target_modules that get no update: set "
            f"it to names of linear ones ({' '.join(str(error).split())})"
        ) from error


def check_targets(model: Any, lora: Lora, base: str) -> None:
    """Refuse a recipe that names what the base does not have: PEFT trains the rest and is silent.

    Args:
        model: The base.
        lora: What the recipe says of the adapter.
        base: The base's name.

    Raises:
        UserError: A module or layer that is not there, or an embedding that is tied to another.
    """
    modules = dict(model.named_modules())
    for entry in lora.target_modules:
        if not any(_matches(name, entry) for name in modules):
            raise UserError(
                f"base {base} has no module {entry!r}{did_you_mean(entry, _linear(modules))}: set "
                "lora.target_modules to names that it has"
            )
    targets = {
        name: module
        for name, module in modules.items()
        if any(_matches(name, entry) for entry in lora.target_modules)
    }
    for name, module in targets.items():
        if any(module is tied for tied in _tied(model)):
            raise UserError(
                f"base {base} has one matrix for its input and output embeddings, and an update of "
                f"{name} alone cannot be merged: take {name.rpartition('.')[2]} out of "
                "lora.target_modules"
            )
    _check_layers(modules, targets, lora, base)


def _check_layers(
    modules: Mapping[str, Any], targets: Mapping[str, Any], lora: Lora, base: str
) -> None:
    if lora.layers is None:
        return
    count = max(_layers(modules), default=-1) + 1
    having = set(_layers(targets))
    for layer in lora.layers:
        if not 0 <= layer < count:
            raise UserError(
                f"base {base} has no layer {layer}, it has {count}, counted from 0: set "
                f"lora.layers to some of 0 to {count - 1}"
            )
        if layer not in having:
            raise UserError(
                f"layer {layer} of base {base} has none of {', '.join(lora.target_modules)}: take "
                "it out of lora.layers"
            )


def _matches(name: str, entry: str) -> bool:
    return name == entry or name.endswith(f".{entry}")


def _layers(modules: Mapping[str, Any]) -> Iterator[int]:
    for name in modules:
        if match := _LAYER.match(name):
            yield int(match[1])


def _linear(modules: Mapping[str, Any]) -> list[str]:
    """Names of what can have an update, without the way to it."""
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in modules.items()
            if getattr(getattr(module, "weight", None), "ndim", 0) == 2
        }
    )


def _tied(model: Any) -> tuple[Any, ...]:
    """The input and output embeddings of a model in which they are one matrix."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    one, other = (getattr(end, "weight", None) for end in ends)
    return ends if one is not None and one is other else ()
