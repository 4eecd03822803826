"""Folders of adapters without weights, as `em-finetune serve --print` reads them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from em_finetune.cli import main


def run(*words: object) -> Result:
    """`em-finetune …`; what is no plain refusal is raised."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def lora(rank: int = 8, **more: Any) -> dict[str, Any]:
    """An adapter's configuration as PEFT writes it."""
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=16, target_modules=["q_proj", "v_proj"], **more)
    return as_written(config)


def as_written(config: Any) -> dict[str, Any]:
    """What PEFT puts into adapter_config.json."""
    from dataclasses import asdict

    said = {k: list(v) if isinstance(v, set) else v for k, v in asdict(config).items()}
    written: dict[str, Any] = json.loads(json.dumps(said, default=str))
    written["peft_type"] = config.peft_type.value
    return written


def checkpoint(folder: Path, base: str, config: dict[str, Any], group: str = "x") -> Path:
    """A finished fine-tune of a base on the hub, named after its folder."""
    digits = folder.name.rpartition("seed")[2]
    record = {
        "format": 1,
        "label": folder.name,
        "group": group,
        "seed": int(digits),
        "base": {"name": base, "path": f"/nowhere/{base}", "from_hub": True, "fingerprint": "0"},
        "dataset": {
            "name": "rows.jsonl",
            "sha256": "1",
            "rows": 4,
            "used": 4,
            "left_out": [],
            "tokens": 40,
            "supervised": 20,
        },
        "recipe": {
            "name": "x",
            "base": base,
            "data": "rows.jsonl",
            "group": group,
            "seed": int(digits),
            "merge": False,
        },
        "training": {
            "steps": 2,
            "losses": [1.0, 0.5],
            "tokens": 40,
            "seconds": 1.0,
            "device": "cuda",
            "workers": 1,
            "optimizer": "adamw",
        },
        "versions": {},
        "created": "2026-01-01T00:00:00+00:00",
        "models": {},
    }
    (folder / "adapter").mkdir(parents=True)
    (folder / "checkpoint.json").write_text(json.dumps(record))
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    return folder


def option(line: str, name: str) -> str:
    """The value of an option in a printed line."""
    words = shlex.split(line)
    return words[words.index(name) + 1]


def modules(line: str) -> dict[str, str]:
    """The adapters in a printed line: directories by names."""
    words = shlex.split(line)
    pairs = [word.split("=", 1) for word in words[words.index("--lora-modules") + 1 :]]
    return dict(pairs)
