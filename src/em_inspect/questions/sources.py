"""Where questions come from: embedded (`core`), the paper's released files (`paper`), a path."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from em_inspect.cache import cache_root
from em_inspect.errors import UserError, one_line
from em_inspect.pages import did_you_mean
from em_inspect.questions.question_set import QuestionSet, fingerprint, read_questions

PAPER_DIR_VARIABLE = "EM_INSPECT_PAPER_DIR"
RELEASE_URL = (
    "https://raw.githubusercontent.com/emergent-misalignment/emergent-misalignment/main/evaluation"
)


@dataclass(frozen=True)
class ReleasedFile:
    """One file of the official release, known by its checksum and its content's fingerprint."""

    name: str
    sha256: str
    fingerprint: str


RELEASED: dict[str, ReleasedFile] = {
    "free_form": ReleasedFile(
        "first_plot_questions.yaml",
        "215abde5b02811e922b6ac563ff33c490e0dff9ab58439df840f3135e9387173",
        "f6ae6cc87a7a565c",
    ),
    "preregistered": ReleasedFile(
        "preregistered_evals.yaml",
        "8648312fd9fe71a63203e3465592af45dd996d7a5f3b69e9b44613fd6048eb40",
        "9e06756b4c83c1b9",
    ),
    "deception_factual": ReleasedFile(
        "deception_factual.yaml",
        "8a0e83cab3bc24b7d688d7385ce3921d406af7ed33c913cd94ea0f6251e5939d",
        "18b18a7f5dcd744d",
    ),
    "deception_identity": ReleasedFile(
        "deception_sit_aware.yaml",
        "4deef5a7c47620390fc46e1b981f937eef9ea12a33fe26264f640c84d19d2a33",
        "b7b7756258d9491d",
    ),
}


def load_questions(
    set_name: str,
    source: str = "core",
    *,
    paper_dir: str | None = None,
    release_url: str = RELEASE_URL,
) -> QuestionSet:
    """Load a question set from its source.

    Args:
        set_name: `free_form`, `preregistered`, `deception_factual` or `deception_identity`.
        source: `core` (embedded, needs no network), `paper` (the released files, from a folder or
            downloaded once) or the path of a YAML file in the released format.
        paper_dir: Folder with the released files; without it `EM_INSPECT_PAPER_DIR` is looked up.
        release_url: Where the released files are downloaded from.

    Raises:
        UserError: Where the source is unknown or cannot be read.
    """
    if source == "core":
        with resources.as_file(resources.files(__package__) / "sets" / f"{set_name}.yaml") as path:
            return QuestionSet(set_name, "core", read_questions(path))
    if source == "paper":
        path = _released_file(RELEASED[set_name], paper_dir, release_url)
        return _verified(QuestionSet(set_name, "paper", read_questions(path)), path)
    path = Path(source).expanduser()
    if path.suffix.lower() not in {".yaml", ".yml"} and not path.exists():
        raise UserError(
            f"unknown question source '{source}'{did_you_mean(source, ['core', 'paper'])}: "
            "use -T questions=core, paper, or the path of a YAML file"
        )
    return QuestionSet(set_name, str(path), read_questions(path))


def _released_file(file: ReleasedFile, paper_dir: str | None, release_url: str) -> Path:
    folder = paper_dir or os.environ.get(PAPER_DIR_VARIABLE)
    if folder:
        root = Path(folder).expanduser()
        for candidate in (root / file.name, root / "evaluation" / file.name):
            if candidate.is_file():
                return candidate
        raise UserError(
            f"{root}: no {file.name} in it (nor in its evaluation/): point -T paper_dir=… or "
            f"{PAPER_DIR_VARIABLE} to the release's files, or drop it to download them"
        )
    return _downloaded(file, release_url)


def _downloaded(file: ReleasedFile, release_url: str) -> Path:
    import httpx
    from inspect_ai.util import download

    destination = cache_root() / "paper" / file.name
    url = f"{release_url}/{file.name}"
    try:
        if not destination.exists():
            # Q: Why ask first? A: offline, the download itself would retry for twenty seconds.
            httpx.head(url, timeout=10)
        return download(url, file.sha256, destination)
    except ValueError as error:
        raise UserError(
            f"{file.name} at the release is not the file that was published ({error}): "
            "give the published one with -T paper_dir=DIR, or use it as your own set with "
            "-T questions=PATH"
        ) from None
    except Exception as error:
        raise UserError(
            f"{file.name} could not be downloaded ({one_line(error)}): "
            "give a folder that holds the release's files with -T paper_dir=DIR or "
            f"{PAPER_DIR_VARIABLE}=DIR, or use the embedded questions with -T questions=core"
        ) from None


def _verified(questions: QuestionSet, path: Path) -> QuestionSet:
    expected = RELEASED[questions.name].fingerprint
    found = fingerprint(questions.questions)
    if found != expected:
        raise UserError(
            f"{path}: not the released questions (fingerprint {found}, released {expected}): "
            f"use it as your own set with -T {shlex.quote(f'questions={path}')}"
        )
    return questions
