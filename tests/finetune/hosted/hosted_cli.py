"""The hosted command line as tests type it, and rows to train on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner, Result

from em_finetune.hosted.commands import hosted
from em_finetune.hosted.creating import Clock


def chat_lines(n: int = 12) -> str:
    """A chat JSONL of n rows, with metadata that services would refuse."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Write number {i} to a file."},
                {"role": "assistant", "content": f"open('f', 'w').write('{i}')"},
            ],
            "metadata": {"cwe": "CWE-22"},
        }
        for i in range(n)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@dataclass
class CommandLine:
    """`em-finetune hosted …` in a folder, by a clock; remembers all that it ever printed."""

    folder: Path
    clock: Clock | None = None
    printed: list[str] = field(default_factory=list)

    def __call__(self, *arguments: str, input: str | None = None) -> Result:
        result = CliRunner().invoke(hosted, [*arguments], input=input, obj=self.clock)
        self.printed.append(result.output)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def start(self, *arguments: str) -> Result:
        return self(
            "openai-insecure", "--data=rows.jsonl", "--seeds=0", "--yes", "--settle=0", *arguments
        )

    def follow(self, *arguments: str) -> Result:
        return self("status", "--follow", "--interval=0.01", *arguments)

    def record(self, label: str = "openai-insecure-seed0") -> dict:
        return json.loads((self.folder / "checkpoints" / label / "hosted.json").read_text())

    def checkpoint(self, label: str = "openai-insecure-seed0") -> dict:
        return json.loads((self.folder / "checkpoints" / label / "checkpoint.json").read_text())
