"""The built wheel holds both packages, typed, with their data, and works from there."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", f"--outdir={folder}"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_it_carries_every_file_of_both_packages(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    for root in ("src/em_inspect", "finetune/em_finetune"):
        folder = REPOSITORY / root
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert path.relative_to(folder.parent).as_posix() in held


def test_it_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import em_inspect, em_finetune;"
        "from em_inspect.questions import load_questions;"
        "from em_finetune.recipe import load_recipe;"
        "from em_finetune.data.generate import generate;"
        "assert 'site' in em_inspect.__file__ and 'site' in em_finetune.__file__;"
        "print(len(load_questions('free_form').questions), load_recipe('demo').name,"
        " len(generate('insecure', 3, 0)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "24 demo 3", done.stderr
