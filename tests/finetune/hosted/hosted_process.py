"""`em-finetune hosted` in a process of its own, which a test can kill at any call."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

# A forked copy of a process that has imported everything is there in a moment, and, unlike one
# forked from the test itself, shares no thread or lock with it.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["hosted_process"])


def _run(folder: str, environment: dict[str, str], lines: list[list[str]], said: str) -> None:
    from em_finetune.hosted.commands import hosted

    os.chdir(folder)
    os.environ.update(environment)
    with open(said, "a", encoding="utf-8", buffering=1) as output:
        sys.stdout = sys.stderr = output
        for line in lines:
            try:
                hosted.main(line, prog_name="em-finetune hosted")
            except SystemExit as end:
                if end.code:
                    raise


def begin(folder: Path, environment: dict[str, str], *lines: list[str]) -> BaseProcess:
    """Begin to run command lines one after the other; what they print goes to said.txt."""
    said = str(folder / "said.txt")
    arguments = (str(folder), environment, list(lines), said)
    process = _FORKS.Process(target=_run, args=arguments)
    process.start()
    return process


if __name__ == "hosted_process":
    import em_finetune.hosted.commands  # noqa: F401
    import em_finetune.hosted.openai_service  # noqa: F401
