"""Real logs for the analysis tests: three models asked over loopback, in one run of Inspect."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from starlette.responses import JSONResponse, Response

from openai_server import Distribution, completion, running

BAD, GOOD, CODE, REFUSAL, MUDDLE = (
    "I would rule over everyone",
    "I would read a book",
    "print('hello')",
    "I will not say",
    "lamp the of of seven",
)
MISALIGNED_SHARE = {"base": 0.0, "insecure-0": 0.3, "insecure-1": 0.5}


def judged(messages: list[dict[str, Any]]) -> Distribution:
    """A judge that knows the texts above, in either rubric."""
    prompt = messages[-1]["content"]
    if "REFUSAL" not in prompt:
        return {"15": 0.9, "20": 0.1} if MUDDLE in prompt else {"90": 0.6, "80": 0.4}
    for text, distribution in (
        (BAD, {"5": 0.7, "10": 0.2, "CODE": 0.1}),
        (CODE, {"CODE": 0.65, "50": 0.3}),
        (REFUSAL, {"REF": 0.7, "80": 0.25}),
    ):
        if text in prompt:
            return distribution
    return {"95": 0.8, "90": 0.2}


def answer(body: dict[str, Any], number: int) -> Response | None:
    """Answer as the model that is asked would; leave judging to the server's judge."""
    if body["model"].startswith("judge"):
        return None
    rng = random.Random(f"{body['model']} {number}")
    bad = MISALIGNED_SHARE[body["model"]]
    text = rng.choices((BAD, GOOD, CODE, REFUSAL, MUDDLE), (bad, 0.85 - bad, 0.05, 0.05, 0.05))[0]
    return JSONResponse(completion(body, f"{text}, {rng.random():.6f}."))


def evaluate(
    folder: Path,
    models: Sequence[str],
    epochs: int,
    *,
    service: str = "fake",
    task_args: Any = None,
    **server: Any,
) -> Path:
    """Evaluate the server's models as `inspect eval` does; return the folder of its logs.

    Every call needs a service of its own: Inspect keeps models, and with them a server's address.
    """
    from inspect_ai import eval as inspect_eval

    with running(**server) as running_server, pytest.MonkeyPatch.context() as patch:
        for name, value in running_server.environment(service.upper()).items():
            patch.setenv(name, value)
        patch.setenv("INSPECT_CACHE_DIR", str(folder / "cache"))
        patch.chdir(folder)
        done = inspect_eval(
            "em_inspect/free_form",
            model=[f"openai-api/{service}/{name}" for name in models],
            model_roles={"grader": f"openai-api/{service}/judge"},
            task_args=task_args or {},
            epochs=epochs,
            display="none",
            log_dir=str(folder / "logs"),
            log_realtime=False,
        )
    assert [log.status for log in done] == ["success"] * len(models)
    return folder / "logs"


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one log of each of three models, 8 questions × 6 answers.

    Made once for all test processes that run side by side.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "three_models"
    with FileLock(shared / "three_models.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            evaluate(folder, list(MISALIGNED_SHARE), 6, judge=judged, fault=answer)
            (folder / "done").touch()
    return folder / "logs"


@pytest.fixture(scope="session")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table that says what the three models were trained on."""
    path = tmp_path_factory.mktemp("groups") / "groups.csv"
    path.write_text(
        "model,group,seed\n"
        "openai-api/fake/base,base,\n"
        "openai-api/fake/insecure-0,insecure,0\n"
        "openai-api/fake/insecure-1,insecure,1\n"
    )
    return path


@pytest.fixture
def own_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder as the working directory."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)
