"""What is fetched of a base's repository, from a hub on loopback; how several processes meet."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from em_finetune.cli import main
from em_finetune.local.base import find_base
from em_finetune.local.processes import launched_rank
from em_inspect.errors import UserError

COMMIT = "a" * 40
NEEDED = [
    "config.json",
    "generation_config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "chat_template.jinja",
]
OTHERS = [
    "consolidated.safetensors",
    "consolidated.00.pth",
    "consolidated-00001-of-00002.safetensors",
    "pytorch_model.bin",
    "modeling_own.py",
    "original/params.json",
    "onnx/model.safetensors",
    "README.md",
]


class Hub(BaseHTTPRequestHandler):
    """One repository, org/small, whose files hold `{}`."""

    fetched: list[str]

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(b"{}")

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            files = [{"type": "file", "path": n, "size": 2, "oid": n} for n in NEEDED + OTHERS]
            self._answer(json.dumps(files).encode())
        elif self.path.startswith("/api/"):
            files = [{"rfilename": name} for name in NEEDED + OTHERS]
            self._answer(json.dumps({"id": "org/small", "sha": COMMIT, "siblings": files}).encode())
        else:
            self.fetched.append(self.path.partition(f"/resolve/{COMMIT}/")[2])
            self._answer(b"{}")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{self.path.count("/")}-{self.path.rpartition("/")[2]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that were fetched from the hub."""
    from huggingface_hub import constants

    names: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Hub,), {"fetched": names}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template[template.index("/{repo_id}") :]
    )
    yield names
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_once_and_neither_code_nor_pickles(fetched: list[str]) -> None:
    base = find_base("org/small")
    assert sorted(fetched) == sorted(NEEDED)
    assert sorted(path.name for path in base.path.iterdir()) == sorted(NEEDED)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WORLD_SIZE": "4"}, "RANK, MASTER_ADDR, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "4", "RANK": "1", "MASTER_PORT": "29500"}, "MASTER_ADDR is not set"),
        ({"WORLD_SIZE": "4", "RANK": "1", "MASTER_ADDR": "host"}, "MASTER_PORT is not set"),
        ({"WORLD_SIZE": "four"}, "WORLD_SIZE is 'four', not a number"),
        (
            {"WORLD_SIZE": "2", "RANK": "", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
            "RANK is '', not a number",
        ),
    ],
)
def test_half_a_launch_is_one_line(
    environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=words):
        launched_rank()
    done = CliRunner().invoke(main, ["local", "demo", "--out", str(tmp_path / "ft")])
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert words in done.output


@pytest.mark.parametrize("size", [None, "1"])
def test_one_process_needs_nothing(size: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    assert launched_rank() == 0
