"""What a vLLM server takes of an adapter's configuration, and what it serves wrongly or not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from em_inspect.errors import UserError, one_line

ADAPTER_CONFIG = "adapter_config.json"

# Fields of PEFT's LoraConfig whose use vLLM refuses at the first request, or does not look at: it
# would then serve another model than the one that was trained. (vllm/lora/peft_helper.py reads r,
# lora_alpha, use_rslora, target_modules, bias, modules_to_save and use_dora, no others.)
_NOT_SERVED = {
    "modules_to_save": "whole copies of modules",
    "use_dora": "DoRA",
    "lora_bias": "a bias in the adapter",
    "alpha_pattern": "strengths of their own for some modules, which vLLM does not read",
    "layer_replication": "layers that the base has not",
    "trainable_token_indices": "tokens that were trained apart",
    "target_parameters": "parameters outside linear modules",
    "alora_invocation_tokens": "aLoRA, which is switched on by a token",
    "use_qalora": "QALoRA",
    "use_bdlora": "block-diagonal updates",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "loftq_config": "a start (LoftQ) that changes the base",
    "corda_config": "a start (CorDA) that changes the base",
    "lora_ga_config": "a start (LoRA-GA) that changes the base",
}
_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
# Where models have them, as a pattern of whole names has to say.
_PLACES = ("", "model.", "transformer.", "gpt_neox.", "model.language_model.", "language_model.")
_HEADS = ("lm_head", "embed_tokens", "embed_in", "embed_out", "wte", "output_layer")


def read_adapter_config(path: Path) -> dict[str, Any]:
    """Read an adapter's configuration.

    Args:
        path: Its `adapter_config.json`.

    Raises:
        UserError: It cannot be read, or has no rank where an adapter of LoRA needs one.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no object")
        if _is_lora(config) and not (isinstance(config.get("r"), int) and config["r"] > 0):
            raise ValueError("it has no rank r")
        if not all(isinstance(rank, int) for rank in (config.get("rank_pattern") or {}).values()):
            raise ValueError("a rank in rank_pattern is no number")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is no adapter's configuration ({one_line(error)}): train it again, or move "
            "its checkpoint out of the folder"
        ) from error
    return config


def rank_of(config: Mapping[str, Any]) -> int:
    """Return the highest rank in an adapter, of single modules too."""
    pattern = config.get("rank_pattern") or {}
    ranks: list[int] = [config["r"], *pattern.values()]
    return max(ranks)


def why_not_served(config: Mapping[str, Any]) -> list[str]:
    """Say what of an adapter vLLM does not serve; nothing where it serves all of it.

    Args:
        config: From `adapter_config.json`.
    """
    if not _is_lora(config):
        return [f"peft_type {config['peft_type']}: only LORA is served"]
    faults = [
        f"{field}: {_shown(config[field])} ({what})"
        for field, what in _NOT_SERVED.items()
        if config.get(field)
    ]
    if config.get("bias", "none") != "none":
        faults.append(f"bias: {config['bias']} (trained biases of the base)")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGING_STARTS):
        faults.append(f"init_lora_weights: {start} (a start that changes the base)")
    faults += [f"target_modules: {head} (embeddings or the head)" for head in _heads(config)]
    return faults


def caution(config: Mapping[str, Any]) -> str:
    """Say what vLLM serves otherwise than PEFT, or return ""."""
    if config.get("rank_pattern"):
        return (
            f"rank_pattern {_shown(config['rank_pattern'])}: vLLM scales every module by the "
            f"adapter's own rank {config['r']}, PEFT each by its own; compare with the merged model"
        )
    return ""


def _is_lora(config: Mapping[str, Any]) -> bool:
    return str(config.get("peft_type") or "LORA").upper() == "LORA"


def _heads(config: Mapping[str, Any]) -> list[str]:
    """Which of the target modules are embeddings or the head."""
    targets = config.get("target_modules") or []
    if isinstance(targets, str):
        try:
            return [
                head for head in _HEADS if any(re.fullmatch(targets, at + head) for at in _PLACES)
            ]
        except re.error:
            return []
    return sorted({name for name in map(str, targets) if name.rpartition(".")[2] in _HEADS})


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
