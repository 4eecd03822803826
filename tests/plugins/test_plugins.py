"""Packages of one's own: written, installed into a fresh environment, run, and their log opened."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from inspect_ai.log import read_eval_log

from em_inspect.plugins.commands import new_plugin, tasks
from em_inspect.plugins.listing import installed_tasks
from openai_server import running

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "plugin"
TASKS = [
    "backdoor",
    "deception",
    "deception_factual",
    "deception_identity",
    "evil_numbers",
    "free_form",
    "in_context",
    "insecure_code",
    "multiple_choice",
    "preregistered",
    "reasoning",
]


def test_every_task_is_listed_with_what_its_run_asks() -> None:
    found = {t.name.removeprefix("em_inspect/"): t for t in installed_tasks()}
    assert set(TASKS) <= set(found)
    assert [found[name].problem for name in TASKS] == [None] * len(TASKS)
    counts = {name: (t.rows, t.epochs, t.answers, t.judge_calls) for name, t in found.items()}
    assert counts["free_form"] == (8, 100, 800, 1600)
    assert counts["preregistered"] == (48, 100, 4800, 9600)
    assert counts["backdoor"] == (16, 100, 1600, 3200)
    assert counts["deception_factual"] == (100, 5, 500, 500)
    assert counts["multiple_choice"] == (120, 1, 120, 0)
    assert found["free_form"].arguments["questions"] == "'core'"


def test_the_command_prints_them_all() -> None:
    done = CliRunner().invoke(tasks, [])
    assert done.exit_code == 0, done.output
    for name in TASKS:
        assert f"em_inspect/{name}  " in done.output
    assert "8 rows × 100 epochs = 800 answers, 1,600 judge calls" in done.output
    listed = json.loads(CliRunner().invoke(tasks, ["--json", "multiple_choice"]).output)
    assert [task["answers"] for task in listed] == [120]


def test_an_unknown_task_is_said() -> None:
    done = CliRunner().invoke(tasks, ["free_from"])
    assert done.exit_code == 1
    assert "no task named free_from" in done.output


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("1st", "no package name"),
        ("class", "no package name"),
        ("../up", "no package name"),
        ("em_inspect", "is taken"),
        ("json", "is taken"),
    ],
)
def test_a_wrong_name_is_said_and_nothing_is_written(tmp_path: Path, name: str, said: str) -> None:
    done = CliRunner().invoke(new_plugin, [name, "--into", str(tmp_path)])
    assert done.exit_code == 1
    assert said in done.output
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "my-evals").mkdir()
    done = CliRunner().invoke(new_plugin, ["my_evals", "--into", str(tmp_path)])
    assert done.exit_code == 1
    assert "is there already" in done.output
    assert not list((tmp_path / "my-evals").iterdir())


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)
    }


def test_the_example_is_what_new_plugin_writes(tmp_path: Path) -> None:
    done = CliRunner().invoke(new_plugin, ["em_bad_advice", "--into", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert files(tmp_path / "em-bad-advice") == files(EXAMPLE)
    assert "inspect eval em_bad_advice/everyday_advice" in done.output


def fresh_environment(folder: Path) -> Path:
    """A new virtual environment that sees this one's packages too, so that it needs no network."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    code = "import site; print(site.getsitepackages()[0])"
    packages = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    seen = "\n".join(f"import site; site.addsitedir({path!r})" for path in site.getsitepackages())
    (Path(packages.stdout.strip()) / "parent.pth").write_text(seen)
    return python


def test_a_generated_package_is_installed_into_a_fresh_environment_run_and_its_log_opened(
    tmp_path: Path,
) -> None:
    CliRunner().invoke(new_plugin, ["em_bad_advice", "--into", str(tmp_path)])
    python = fresh_environment(tmp_path / "env")
    arguments = ("--quiet", "--no-deps", "--no-build-isolation", "-e")
    subprocess.run(
        [python, "-m", "pip", "install", *arguments, str(tmp_path / "em-bad-advice")],
        check=True,
        cwd=tmp_path,
    )
    listing = "from em_inspect.plugins.commands import tasks; tasks()"
    listed = subprocess.run(
        [python, "-c", listing], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert "em_bad_advice/everyday_advice  " in listed.stdout
    assert "6 rows × 100 epochs = 600 answers, 1,200 judge calls" in listed.stdout
    with running() as server:
        done = subprocess.run(
            [
                *(python, "-m", "inspect_ai", "eval"),
                *("em_bad_advice/everyday_advice", "em_bad_advice/hurried_advice"),
                "--model=openai-api/fake/target",
                "--model-role=grader=openai-api/fake/judge",
                *("--epochs=2", "--display=plain"),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                **server.environment(),
                "INSPECT_CACHE_DIR": str(tmp_path / "cache"),
            },
            capture_output=True,
            text=True,
            timeout=900,
        )
        asked = [r["messages"] for r in server.requests if r["model"] == "target"]
    assert done.returncode == 0, done.stdout + done.stderr
    logs = {
        log.eval.task: log
        for log in (read_eval_log(str(path)) for path in (tmp_path / "logs").glob("*.eval"))
    }
    assert set(logs) == {"em_bad_advice/everyday_advice", "em_bad_advice/hurried_advice"}
    for log in logs.values():
        assert log.status == "success"
        assert log.samples
        assert len(log.samples) == 6 * 2
        assert all((s.scores or {})["misalignment"].value for s in log.samples)
    fingerprints = {(log.eval.metadata or {})["fingerprint"] for log in logs.values()}
    assert len(fingerprints) == 2  # the stricter rubric is another set
    assert sum(chat[0]["role"] == "system" for chat in asked) == 12
