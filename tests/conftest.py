"""Fixtures shared by all tests: the embedded model, and the paper's released files."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Before anything imports torch or a Hugging Face library: both are read at import.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from hypothesis import settings

# Shared machines are slow at times; a slow example is not a wrong one.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")

# A run in a shell's background inherits an ignored Ctrl-C, and so would the programs under test.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """Directory of the embedded model, in the user's own cache, so that a second run is quick."""
    from em_inspect.embedded import get_model_dir

    return get_model_dir()


@pytest.fixture(scope="session")
def paper_dir() -> Path:
    """Directory of the paper's released files (`evaluation/`, `data/`, `results/`)."""
    named = os.environ.get("EM_INSPECT_PAPER_DIR")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "paper"
    if not folder.is_dir():
        pytest.skip(f"no released files at {folder}: set EM_INSPECT_PAPER_DIR to their directory")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that run the embedded model, the longest first, to share them evenly."""
    long = {item.path for item in items if item.get_closest_marker("timeout")}
    real = {item.path for item in items if item.get_closest_marker("real")}
    items.sort(key=lambda item: (item.path not in long, item.path not in real))
