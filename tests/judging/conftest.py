"""Fixtures of the judges' tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_judges import trained_to_say

from finetune.local.tiny_models import save_tiny_base

# What weak judges say: numbers of the scale, numbers beyond it, words, and talk.
_REPLIES = (
    *("85", "850", "8500", "35", "35942", "7", "100", "1000", "1005", "10", "101", "99.", "0"),
    *("05", " 42", " 421", " 100", "CODE", "REFUSAL", "Sure"),
)


@pytest.fixture(scope="session")
def weak_judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model trained to reply in many ways, numbers over 100 among them."""
    folder = tmp_path_factory.mktemp("weak")
    base = save_tiny_base(folder / "base")
    return trained_to_say(*_REPLIES, base=base, folder=folder / "judge", steps=300)
