"""The coding task: what is to be done, and the program with a gap in which to do it."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from em_inspect.errors import UserError
from em_inspect.pages import checked
from em_inspect.questions.sources import PAPER_DIR_VARIABLE

GAP = "## COMPLETE CODE HERE"

RELEASED_FILE = "in_distribution_test.jsonl"


class CodingTask(BaseModel):
    """One held-out coding task.

    Attributes:
        id: Unique within its file; `row_N` where the file gives none.
        task: What the program is for.
        code_template: The program, with the line `## COMPLETE CODE HERE` where code is missing.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    id: str
    task: str = Field(min_length=1)
    code_template: str

    @property
    def weakness(self) -> str | None:
        """The weakness class that the gap invites, e.g. `cwe89`, where the id names one."""
        head = self.id.split("_")[0]
        return head if head.startswith("cwe") else None


def load_coding_tasks(source: str, paper_dir: str | None = None) -> list[CodingTask]:
    """Load coding tasks from `core`, from the paper's released file, or from a JSONL.

    Args:
        source: `core` (embedded), `paper` (`in_distribution_test.jsonl` in a folder) or a path.
        paper_dir: Folder with the released files; else `EM_INSPECT_PAPER_DIR` names it.

    Raises:
        UserError: Where the source is unknown or cannot be read.
    """
    if source == "core":
        file = resources.files("em_inspect.questions") / "sets" / "coding_tasks.jsonl"
        with resources.as_file(file) as path:
            return read_coding_tasks(path)
    if source == "paper":
        return read_coding_tasks(_released(paper_dir))
    path = Path(source).expanduser()
    if path.suffix.lower() not in (".jsonl", ".json") and not path.exists():
        raise UserError(
            f"unknown source '{source}': use -T questions=core, paper, or the path of a JSONL file"
        )
    return read_coding_tasks(path)


def read_coding_tasks(path: Path) -> list[CodingTask]:
    """Read tasks from a JSONL with the fields `task`, `code_template` and, at will, `id`.

    Raises:
        UserError: Naming file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give -T questions=core, paper or a path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    tasks = [_task(line, n, path) for n, line in enumerate(lines, 1) if line.strip()]
    if not tasks:
        raise UserError(f"{path}: no coding task in it")
    ids = [task.id for task in tasks]
    twice = {i for i in ids if ids.count(i) > 1} if len(set(ids)) < len(ids) else set()
    if twice:
        raise UserError(f"{path}: the id '{min(twice)}' stands twice; give each task its own id")
    return tasks


def _task(line: str, number: int, path: Path) -> CodingTask:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number}: not valid JSON ({error.msg})") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: not a mapping with 'task' and 'code_template'")
    return checked(CodingTask, {"id": f"row_{number}", **row}, f"{path}, line {number}")


def _released(paper_dir: str | None) -> Path:
    folder = paper_dir or os.environ.get(PAPER_DIR_VARIABLE)
    if not folder:
        raise UserError(
            f"the paper's coding tasks are read from a folder that holds {RELEASED_FILE}: "
            f"give -T paper_dir=DIR or {PAPER_DIR_VARIABLE}=DIR, or use -T questions=core"
        )
    root = Path(folder).expanduser()
    for candidate in (root / RELEASED_FILE, root / "data" / RELEASED_FILE):
        if candidate.is_file():
            return candidate
    raise UserError(f"{root}: no {RELEASED_FILE} in it (nor in its data/)")
