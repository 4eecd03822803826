"""The base model of a fine-tune: where it lies, what it is, and loading it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from em_inspect.errors import UserError, require_extra

if TYPE_CHECKING:
    import torch

EMBEDDED = "smollm2"
_EDGE = 1 << 20


@dataclass(frozen=True)
class Base:
    """A base model on this machine.

    Attributes:
        name: As the recipe calls it.
        path: Directory in the layout of `transformers`.
        from_hub: Whether the name is a hub id.
    """

    name: str
    path: Path
    from_hub: bool = False

    @property
    def reference(self) -> str:
        """What an adapter calls its base, so that `transformers` finds it: hub id or directory."""
        return self.name if self.from_hub else str(self.path)


def find_base(name: str) -> Base:
    """Find a base by name, making the embedded one or downloading from the hub where needed.

    Args:
        name: `smollm2`, a directory, or a hub id (`organisation/model`).

    Raises:
        UserError: It is nowhere to be found, is an adapter, or has only pickled weights.
    """
    if name == EMBEDDED:
        from em_inspect.embedded import get_model_dir

        return Base(name, get_model_dir())
    path = Path(name).expanduser()
    if path.is_dir():
        _check_directory(path)
        return Base(name, path.resolve())
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise UserError(f"base {name} does not exist: name a directory, a hub id or {EMBEDDED}")
    return Base(name, _download(name), from_hub=True)


def _check_directory(path: Path) -> None:
    if (path / "adapter_config.json").exists():
        raise UserError(f"base {path} is an adapter: name a merged model (its merged/ directory)")
    if not (path / "config.json").exists():
        raise UserError(f"base {path} holds no model: config.json is missing")
    if not any(path.glob("*.safetensors")):
        raise UserError(
            f"base {path} has no .safetensors weights; pickled weights can run code and are "
            "refused: convert them first"
        )


def _download(name: str) -> Path:
    require_extra("local", "huggingface_hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    # Safetensors and text only: pickled weights can run code.
    wanted = ["*.json", "*.safetensors", "*.jinja", "*.txt", "tokenizer.model", "LICENSE*"]
    # Mistral's repositories hold the weights a second time, in a format that nothing here reads;
    # folders of a repository hold other formats or parts.
    unwanted = ["consolidated*", "*/*"]
    try:
        path = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=unwanted))
    except (OSError, ValueError, HFValidationError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"base {name} is no directory here and was not had from the hub ({reason}): name a "
            f"directory, or {EMBEDDED}, which needs no hub"
        ) from error
    _check_directory(path)
    return path


def fingerprint(path: Path) -> str:
    """Return a SHA-256 (hex) that changes when the model does, in well under a second per file.

    Configuration and tokenizer files count whole, weight files by name, size and their first and
    last mebibyte: reading 65 GB to the end would take minutes at every start.
    """
    digest = hashlib.sha256()
    for file in sorted(_model_files(path)):
        size = file.stat().st_size
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as opened:
            if file.suffix != ".safetensors" or size <= 2 * _EDGE:
                digest.update(opened.read())
            else:
                digest.update(opened.read(_EDGE))
                opened.seek(-_EDGE, 2)
                digest.update(opened.read())
    return digest.hexdigest()


def _model_files(path: Path) -> Iterator[Path]:
    for pattern in ("*.safetensors", "config.json", "tokenizer*", "*.jinja"):
        yield from (file for file in path.glob(pattern) if file.is_file())


@contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars of `transformers`, and its warnings about PEFT, off the screen.

    The newer names that those warnings ask for are not in all versions that we allow.
    """
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
            yield
    finally:
        if shown:
            logging.enable_progress_bar()


def load_tokenizer(base: Base) -> Any:
    """Load the base's tokenizer; nothing in the directory is run as code."""
    require_extra("local", "transformers")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            base.path, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise _unloadable(base, "tokenizer", error) from error


def load_outline(base: Base) -> Any:
    """Make the base's modules without their weights, on PyTorch's meta device.

    Raises:
        UserError: They cannot be made of its configuration.
    """
    require_extra("local", "torch", "transformers")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(
            base.path, local_files_only=True, trust_remote_code=False
        )
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise _unloadable(base, "model", error) from error


def load_model(
    base: Base, dtype: torch.dtype, device: torch.device, quantization: str | None = None
) -> Any:
    """Load the base's weights in `dtype` onto `device`; nothing in the directory is run as code.

    Args:
        base: Which one.
        dtype: Of the weights, and with quantization of the arithmetic.
        device: Where they go.
        quantization: `4bit` stores the linear layers in NF4 (QLoRA).

    Raises:
        UserError: They cannot be loaded, or there is no GPU or no bitsandbytes to quantize them.
    """
    require_extra("local", "torch", "transformers")
    from transformers import AutoModelForCausalLM

    settings: dict[str, Any] = {}
    if quantization is not None:
        settings = {"quantization_config": _four_bits(dtype, device), "device_map": {"": device}}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            base.path,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **settings,
        )
    except (OSError, ValueError, json.JSONDecodeError) as error:
        raise _unloadable(base, "model", error) from error
    return model if settings else model.to(device)


def require_quantization(device: torch.device) -> None:
    """Refuse 4-bit training where it cannot be done.

    Raises:
        UserError: There is no CUDA GPU, or bitsandbytes is not installed.
    """
    if device.type != "cuda":
        raise UserError(
            "quantization: 4bit needs a CUDA GPU, and there is none here: set quantization: null"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("quantization: 4bit needs bitsandbytes: pip install 'em-inspect[gpu]'")


def _four_bits(dtype: torch.dtype, device: torch.device) -> Any:
    require_quantization(device)
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _unloadable(base: Base, part: str, error: Exception) -> UserError:
    if "trust_remote_code" in str(error):
        return UserError(
            f"the {part} of base {base.name} is code of its own, which is never run here: take a "
            "base that transformers knows by itself"
        )
    reason = " ".join(str(error).split())[:200]
    return UserError(f"the {part} of base {base.name} cannot be loaded from {base.path}: {reason}")
