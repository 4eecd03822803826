"""Weaker and stronger adapters: copies of a fine-tune at other strengths, merged or not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from em_finetune.addressing import base_reference
from em_finetune.checkpoint import ADAPTER, MERGED, SCALED, STEPS, Checkpoint, step_name
from em_inspect.errors import UserError


def scaled(
    checkpoint: Checkpoint, scale: float, step: int | None = None, merge: bool = True
) -> Path:
    """Write a fine-tune at another strength into `scaled/`, whole or not at all.

    The update that training gave the weights is multiplied by `scale`: 0 is the base, 1 the
    fine-tune. One that is there already is left as it is.

    Args:
        checkpoint: Which fine-tune; not a full one.
        scale: Strength, at least 0.
        step: Where along its training, if not at its end.
        merge: Whether to write the whole model too.

    Returns:
        The directory, with `adapter/` and, if asked for, `merged/`.

    Raises:
        UserError: It has no adapter, none was kept at that step, or the base cannot be loaded.
    """
    from em_finetune.local.base import find_base
    from em_finetune.local.merge import merge_adapter, scale_adapter

    if ADAPTER not in checkpoint.parts:
        raise UserError(f"{checkpoint.path} is a full fine-tune: it has no adapter to scale")
    if not 0 <= scale < float("inf"):
        raise UserError(f"--scale {scale:g}: use 0 or more, 1 is as trained")
    at = checkpoint.path if step is None else checkpoint.path / STEPS / step_name(step)
    if not (at / ADAPTER).is_dir():
        kept = sorted(int(p.name[5:]) for p in (checkpoint.path / STEPS).glob("step-*"))
        known = ", ".join(map(str, kept)) or "none; train with save_every"
        raise UserError(f"no adapter was kept at step {step}: there is {known}")
    name = f"scale-{scale:g}" + ("" if step is None else f"-{step_name(step)}")
    target = checkpoint.path / SCALED / name
    if (target / (MERGED if merge else ADAPTER)).is_dir():
        return target
    part = target.with_name(f".{name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        scale_adapter(at / ADAPTER, scale, part / ADAPTER)
        if merge:
            base = find_base(base_reference(checkpoint))
            merge_adapter(part / ADAPTER, base, checkpoint.recipe.dtype, part / MERGED)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target
