"""Tinker's API on loopback, as much of it as training and listing need, without a model."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TINKER_KEY = "tml-loopback-0123456789abcdef-not-for-any-file"


@dataclass
class Tinker:
    """The service: runs with their metadata and checkpoints, and what was trained.

    Attributes:
        fail_at: Number of the optimizer step at which the service breaks down for good.
        steps: Rows of each step: tokens, targets and weights, and the rate.
    """

    url: str
    model: str
    fail_at: int | None = None
    refuse: tuple[int, str] | None = None
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, query: dict[str, str], content: bytes) -> tuple[int, Any]:
        with self.lock:
            self.calls.append(path)
            parts = path.removeprefix("/api/v1/").split("/")
            if self.refuse and parts[0] == "create_model":
                return self.refuse[0], {"detail": self.refuse[1]}
            if parts[0] == "forward_backward":
                return self._forward_backward(content)
            body = json.loads(content) if content else {}
            known = getattr(self, f"_{parts[0].replace('.', '_')}", None)
            if known is None:
                return 404, {"detail": f"no such address: {path}"}
            return 200, known(parts[1:], query, body)

    def _promise(self, result: Any, model: str | None = None) -> dict[str, Any]:
        request = f"request-{len(self.results)}"
        self.results[request] = result
        return {"request_id": request, "model_id": model}

    def _client(self, *_: Any) -> dict[str, Any]:
        return {"use_pyqwest_transport": False, "refresh_interval_sec": 3600}

    def _create_session(self, *_: Any) -> dict[str, Any]:
        return {"type": "create_session", "session_id": f"session-{len(self.calls)}"}

    def _session_heartbeat(self, *_: Any) -> dict[str, Any]:
        return {"type": "session_heartbeat"}

    def _telemetry(self, *_: Any) -> dict[str, Any]:
        return {"status": "accepted"}

    def _create_model(self, parts: Any, query: Any, body: dict[str, Any]) -> dict[str, Any]:
        run = self._new_run(body)
        return self._promise({"type": "create_model", "model_id": run}, run)

    def _load_weights(self, parts: Any, query: Any, body: dict[str, Any]) -> dict[str, Any]:
        self.loaded.append(body["path"])
        assert body["optimizer"] is True
        run = self._new_run(body)
        return self._promise({"type": "load_weights", "path": body["path"], "model_id": run}, run)

    def _new_run(self, body: dict[str, Any]) -> str:
        # The client makes this name itself where a run begins with loaded weights.
        run = f"{body['session_id']}:train:{body['model_seq_id']}"
        self.runs[run] = {"metadata": body["user_metadata"], "saved": [], "time": time.time()}
        return run

    def _get_info(self, parts: Any, query: Any, body: dict[str, Any]) -> dict[str, Any]:
        names = {"arch": "llama", "model_name": self.model, "tokenizer_id": self.model}
        return {"type": "get_info", "model_data": names, "model_id": body["model_id"]}

    def _forward_backward(self, content: bytes) -> tuple[int, Any]:
        from tinker.proto import tinker_public_pb2

        if self.fail_at is not None and len(self.steps) >= self.fail_at:
            return 403, {"detail": "the service broke down"}
        sent = tinker_public_pb2.ForwardBackwardRequest.FromString(content)
        self.steps.append({"sent": sent})
        done = tinker_public_pb2.ForwardBackwardOutput(
            loss_fn_output_type="x", metrics={"loss:sum": 1 / len(self.steps)}
        )
        return 200, self._promise(done.SerializeToString())

    def _optim_step(self, parts: Any, query: Any, body: dict[str, Any]) -> dict[str, Any]:
        parameters = body.get("adam_params") or body.get("optim_params")
        self.steps[-1]["rate"] = parameters["learning_rate"]
        return self._promise({"metrics": {}})

    def _save_weights(self, parts: Any, query: Any, body: dict[str, Any]) -> dict[str, Any]:
        return self._save(body, "training", "weights", "save_weights")

    def _save_weights_for_sampler(self, parts: Any, query: Any, body: Any) -> dict[str, Any]:
        return self._save(body, "sampler", "sampler_weights", "save_weights_for_sampler")

    def _save(self, body: dict[str, Any], kind: str, folder: str, type_: str) -> dict[str, Any]:
        run = body["model_id"]
        path = f"tinker://{run}/{folder}/{body['path']}"
        self.runs[run]["saved"].append((kind, path))
        self.runs[run]["time"] = time.time()
        return self._promise({"type": type_, "path": path})

    def _retrieve_future(self, parts: Any, query: Any, body: dict[str, Any]) -> Any:
        return self.results[body["request_id"]]

    def _training_runs(self, parts: list[str], query: dict[str, str], body: Any) -> dict[str, Any]:
        if parts:
            saved = self.runs[parts[0]]["saved"]
            return {"checkpoints": [_checkpoint(kind, path) for kind, path in saved]}
        first, most = int(query.get("offset", 0)), int(query.get("limit", 20))
        page = list(reversed(self.runs.items()))[first : first + most]
        return {
            "training_runs": [
                {
                    "training_run_id": run,
                    "base_model": self.model,
                    "model_owner": "loopback",
                    "is_lora": True,
                    "last_request_time": _moment(held["time"]),
                    "user_metadata": held["metadata"],
                }
                for run, held in page
            ],
            "cursor": {"offset": first, "limit": most, "total_count": len(self.runs)},
        }


def _checkpoint(kind: str, path: str) -> dict[str, Any]:
    name = path.removeprefix("tinker://").split("/", 1)[1]
    time_ = _moment(time.time())
    return {"checkpoint_id": name, "checkpoint_type": kind, "time": time_, "tinker_path": path}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


@contextmanager
def tinkering(model: str) -> Iterator[Tinker]:
    """Run the service on a free loopback port for the length of a block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            url = urlsplit(self.path)
            status, body = tinker.answer(url.path, dict(parse_qsl(url.query)), content)
            proto = isinstance(body, bytes)
            text = body if proto else json.dumps(body).encode()
            with suppress(ConnectionError):
                self.send_response(status)
                kind = "x-protobuf" if proto else "json"
                self.send_header("content-type", f"application/{kind}")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tinker = Tinker(f"http://127.0.0.1:{server.server_address[1]}", model)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield tinker
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
