"""How Inspect's providers are told to run models: the arguments of `-M`, specs and roles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from em_inspect.precision import fast_dtype


def hf_arguments(folder: Path) -> dict[str, Any]:
    """Return the model arguments with which Inspect's `hf` provider runs a directory's model.

    Args:
        folder: A whole model, or an adapter that names its base.
    """
    return {"model_path": str(folder.absolute()), "dtype": fast_dtype()}


def as_options(arguments: Mapping[str, Any]) -> list[str]:
    """Return model arguments as `-M` options of Inspect's command line, a word each."""
    return [
        word
        for name, value in arguments.items()
        for word in ("-M", f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    ]
