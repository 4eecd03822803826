"""Weaker and stronger adapters: copies of a fine-tune at other strengths, merged or not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from em_finetune.addressing import adapters, base_reference, scaled_name
from em_finetune.checkpoint import (
    ADAPTER,
    MERGED,
    SCALED,
    STEPS,
    Checkpoint,
    is_whole,
    step_name,
)
from em_inspect.errors import UserError, one_line


def scaled(
    checkpoint: Checkpoint,
    scale: float,
    step: int | None = None,
    merge: bool = True,
    on_stage: Callable[[str], None] | None = None,
) -> Path:
    """Write a fine-tune at another strength into `scaled/`, whole or not at all.

    The update that training gave the weights is multiplied by `scale`: 0 is the base, 1 the
    fine-tune. One that is there already is left as it is.

    Args:
        checkpoint: Which fine-tune; not a full one.
        scale: Strength, at least 0.
        step: Where along its training, if not at its end.
        merge: Whether to write the whole model too.
        on_stage: Called with what is being done, before anything that may take seconds.

    Returns:
        The directory, with `adapter/` and, if asked for, `merged/`.

    Raises:
        UserError: It has no adapter, none was kept at that step, it is damaged, or the base cannot
            be loaded.
    """
    if ADAPTER not in checkpoint.parts:
        raise UserError(f"{checkpoint.path} is a full fine-tune: it has no adapter to scale")
    if not 0 <= scale < float("inf"):
        raise UserError(f"--scale {scale:g}: use 0 or more, 1 is as trained")
    at = checkpoint.path if step is None else checkpoint.path / STEPS / step_name(step)
    if not (at / ADAPTER).is_dir():
        kept = [s for _, s, strength in adapters(checkpoint) if s is not None and strength is None]
        known = ", ".join(map(str, kept)) or "none; train with save_every"
        raise UserError(f"no adapter was kept at step {step}: there is {known}")
    target = checkpoint.path / SCALED / scaled_name(scale, step)
    if (target / (MERGED if merge else ADAPTER)).is_dir():
        return target
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        _write(checkpoint, at / ADAPTER, scale, merge, part, on_stage)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    except OSError as error:
        raise UserError(
            f"cannot make {target}: {error.strerror or one_line(error)}; see that there is space, "
            "that you may write there, and that the base is whole"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _write(
    checkpoint: Checkpoint,
    adapter: Path,
    scale: float,
    merge: bool,
    folder: Path,
    on_stage: Callable[[str], None] | None,
) -> None:
    from safetensors import SafetensorError

    from em_finetune.local.base import find_base
    from em_finetune.local.merge import merge_adapter, scale_adapter

    try:
        scale_adapter(adapter, scale, folder / ADAPTER)
        if merge:
            if not all(map(is_whole, adapter.glob("*.safetensors"))):
                raise ValueError("its weights are cut short")
            base = find_base(base_reference(checkpoint))
            if on_stage is not None:
                on_stage(f"merging {adapter} into {base.name}, strength {scale:g}")
            ends = checkpoint.prompt.ends if checkpoint.prompt else ()
            merge_adapter(folder / ADAPTER, base, checkpoint.dtype, folder / MERGED, ends)
    except (
        SafetensorError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise UserError(
            f"{adapter} is damaged or does not fit its base ({one_line(error)}): train it again, "
            "or put back a copy"
        ) from error
