"""The user's cache directory: downloaded question files and the embedded model."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_DIR_VARIABLE = "EM_INSPECT_CACHE_DIR"


def cache_root(cache_dir: Path | None = None) -> Path:
    """Return the absolute directory that em-inspect caches into; it need not exist.

    Args:
        cache_dir: The directory, where the caller was given one; else `EM_INSPECT_CACHE_DIR` names
            it, else it is the platform's own place for caches.
    """
    named = cache_dir or os.environ.get(CACHE_DIR_VARIABLE)
    folder = Path(named) if named else platformdirs.user_cache_path("em_inspect", appauthor=False)
    return folder.expanduser().absolute()
