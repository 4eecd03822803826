"""Start-up: the plugin is found by Inspect and costs next to nothing to import."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

HEAVY = ("torch", "transformers", "pandas", "peft", "scipy", "matplotlib", "plotly")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_inspect_finds_the_plugin_by_its_entry_point() -> None:
    (point,) = entry_points(group="inspect_ai", name="em_inspect")
    assert point.value == "em_inspect._registry"


def test_the_registry_pulls_in_nothing_heavy() -> None:
    loaded = python(
        "import sys, em_inspect._registry;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert loaded == "[]"


def test_the_registry_adds_little_to_inspects_own_start_up() -> None:
    """Measured against Inspect's own imports on the same machine, however slow it is."""
    code = (
        "import time; start = time.process_time();"
        "import inspect_ai._cli.main, inspect_ai.model, inspect_ai.scorer;"
        "inspects = time.process_time() - start; start = time.process_time();"
        "import em_inspect._registry; print((time.process_time() - start) / inspects)"
    )
    assert min(float(python(code)) for _ in range(3)) < 0.25
