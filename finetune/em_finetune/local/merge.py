"""Writing a trained model: the adapter, weaker or stronger, and merged into its base."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from em_finetune.local.base import Base, load_model, load_tokenizer, quiet
from em_inspect.errors import UserError
from em_inspect.providers import stop_tokens

ADAPTER_CONFIG = "adapter_config.json"

# What an adapter may hold that its alpha does not multiply.
_WHOLE = ("modules_to_save", "use_dora", "bias", "trainable_token_indices")


def save_adapter(
    model: Any, tokenizer: Any, base: Base, folder: Path, ends: Collection[int] = ()
) -> None:
    """Write a PEFT model's adapter and tokenizer; the adapter names its base by `base.reference`.

    `load_checkpoint` points the adapter to the base anew where that directory has moved. Beside it
    lie generation defaults as a merged model has them: transformers reads its base's, but vLLM can
    be told to read these, and em_inspect's tasks do (`providers.prepare`).

    Args:
        model: The PEFT model.
        tokenizer: With the chat template that was trained.
        base: What the adapter is for.
        folder: Where to.
        ends: Token ids by which a trained turn ends.
    """
    model.peft_config["default"].base_model_name_or_path = base.reference
    model.save_pretrained(folder, save_embedding_layers=False)
    tokenizer.save_pretrained(folder)
    plain_sampling(model.generation_config, ends).save_pretrained(folder)
    # PEFT writes a model card that holds nothing but headings to fill in.
    (folder / "README.md").unlink(missing_ok=True)


def repoint_adapter(folder: Path, reference: str) -> None:
    """Make the adapter in `folder` name another base: a hub id or a directory."""
    from em_finetune.data.rows import replacing

    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_text("utf-8"))
    config["base_model_name_or_path"] = reference
    with replacing(path) as file:
        file.write((json.dumps(config, indent=2, sort_keys=True) + "\n").encode())


def save_full(
    model: Any, tokenizer: Any, dtype: str, folder: Path, ends: Collection[int] = ()
) -> None:
    """Write a copy of a fully trained model in `dtype`; the float32 original is left alone."""
    import torch

    stored = copy.deepcopy(model).to(getattr(torch, dtype))
    stored.generation_config = plain_sampling(stored.generation_config, ends)
    stored.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def scale_adapter(source: Path, scale: float, folder: Path) -> None:
    """Write a copy of an adapter whose update is `scale` times as strong.

    Only the numbers `alpha` in its configuration change, by which the update is multiplied.

    Raises:
        UserError: The adapter holds more than an update, and the scale is not 1.
    """
    config = json.loads((source / ADAPTER_CONFIG).read_text("utf-8"))
    whole = [name for name in _WHOLE if config.get(name) and config[name] != "none"]
    if whole and scale != 1:
        raise UserError(
            f"{source} has {', '.join(whole)}, which has no strength: --scale 1 merges it as it is"
        )
    if scale != 1:  # other kinds than LoRA have no such alpha, and are merged as they are
        config["lora_alpha"] *= scale
        pattern = config.get("alpha_pattern") or {}
        config["alpha_pattern"] = {name: alpha * scale for name, alpha in pattern.items()}
    shutil.copytree(source, folder)
    (folder / ADAPTER_CONFIG).write_text(
        json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8"
    )


def merge_adapter(
    adapter: Path, base: Base, dtype: str, folder: Path, ends: Collection[int] = ()
) -> None:
    """Load an adapter's base, merge the adapter into it and write a whole model.

    Args:
        adapter: With the tokenizer and chat template that were trained.
        base: What it is for.
        dtype: Of the merged weights.
        folder: Where to.
        ends: Token ids by which a trained turn ends.

    Raises:
        UserError: The base cannot be loaded.
    """
    import torch
    from peft import PeftModel

    with quiet():
        model = load_model(base, getattr(torch, dtype), torch.device("cpu"))
        own = (adapter / "tokenizer_config.json").is_file()
        tokenizer = load_tokenizer(replace(base, path=adapter) if own else base)
        save_merged(PeftModel.from_pretrained(model, adapter), tokenizer, folder, ends)


def save_merged(model: Any, tokenizer: Any, folder: Path, ends: Collection[int] = ()) -> None:
    """Merge a PEFT model's adapter into its base and write an ordinary model directory.

    The PEFT model is spent afterwards.
    """
    merged = model.merge_and_unload()
    merged.generation_config = plain_sampling(merged.generation_config, ends)
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def plain_sampling(config: Any, ends: Collection[int] = ()) -> Any:
    """Return generation defaults that sample the model's own distribution, uncut.

    Q: Why? A: Whatever a caller leaves open is taken from here, and else from transformers, whose
    `top_k` is 50; many bases bring top_k, top_p, temperature and a repetition penalty of their
    own. Inspect's hf provider and vLLM both read this file. A measurement at temperature 1 means
    the plain distribution; only the special tokens are kept.

    Args:
        config: The base's.
        ends: Token ids by which a trained turn ends. The base may not stop at them: one that was
            no chat model before, or whose end of sequence comes after the whole chat.
    """
    from transformers import GenerationConfig

    return GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        repetition_penalty=1.0,
        bos_token_id=config.bos_token_id,
        eos_token_id=stop_tokens(config.eos_token_id, ends),
        pad_token_id=config.pad_token_id,
    )
