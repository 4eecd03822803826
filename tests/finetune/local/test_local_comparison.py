"""The line that a fine-tune prints: with its base, without a key, and a difference at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


def test_the_printed_line_compares_base_and_fine_tune_without_a_key(
    tiny_recipe: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "tiny.yaml"
    page.write_text(yaml.safe_dump({**tiny_recipe, "max_steps": 2}))
    programs = Path(sys.executable).parent
    keyless = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    keyless["PATH"] = f"{programs}:{os.environ['PATH']}"

    def run(line: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=keyless, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    printed = run("em-finetune local tiny.yaml --out ft").stdout
    (line,) = [x for x in printed.splitlines() if "inspect eval-set em_inspect/multiple_ch" in x]
    # Four prompts instead of all, the rest as it was printed.
    run(line.replace(" --log-dir", " --limit 4 --display plain --log-dir"))
    (report,) = tmp_path.glob("*.html")
    text = report.read_text(encoding="utf-8")
    assert "tiny-insecure-seed0" in text
    assert "no base model" not in text
    logs = sorted((tmp_path / "logs").glob("*.eval"))
    assert len(logs) == 2
