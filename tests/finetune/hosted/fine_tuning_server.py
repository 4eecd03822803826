"""A fine-tuning service on loopback: files, jobs, events, checkpoints and chat, over real HTTP."""

from __future__ import annotations

import email
import email.policy
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from openai_server import answer_for, completion, distribution_for

KEY = "sk-loopback-0123456789abcdef-not-for-any-file"


@dataclass
class Call:
    """One HTTP request as the server saw it."""

    number: int
    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def name(self) -> str:
        """Method and path, ids left out."""
        path = re.sub(r"(file|ftjob)-\w+", "ID", self.path)
        return f"{self.method} {path}"


@dataclass
class Answer:
    """What the server says; `drop` closes the connection instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


Fault = Callable[[Call], Answer | None]


def failing(status: int, message: str, code: str | None = None, **headers: str) -> Answer:
    """An error as the API words it."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Answer(status, {"error": error}, headers)


@dataclass
class FineTuning:
    """The service: what it holds, and how it is to misbehave.

    Attributes:
        before: Says no before anything is done.
        after: Spoils the answer of what was done.
        arrived, answered: Told of each call, before it is done and before its answer is sent.
        life: Statuses that a job goes through, one for each look at it.
        page: Most entries that a list gives at once.
        metadata: Whether jobs keep it.
        lag: Seconds until a job is listed.
        told: A job as the service tells it, e.g. without its seed.
        now: The service's clock.
    """

    url: str
    before: Fault = lambda call: None
    after: Fault = lambda call: None
    arrived: Callable[[Call], None] = lambda call: None
    answered: Callable[[Call], None] = lambda call: None
    life: tuple[str, ...] = ("validating_files", "running", "running", "succeeded")
    error: dict[str, Any] | None = None
    page: int = 2
    metadata: bool = True
    age: float = 0.0
    lag: float = 0.0
    told: Callable[[dict[str, Any]], dict[str, Any]] = lambda job: job
    now: Callable[[], float] = time.time
    file_life: tuple[str, ...] = ("processed",)
    calls: list[Call] = field(default_factory=list)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def environment(self) -> dict[str, str]:
        """The variables that bring the client and Inspect here."""
        return {"OPENAI_BASE_URL": self.url, "OPENAI_API_KEY": KEY}

    def count(self, name: str) -> int:
        """How often a call was made, e.g. `POST /v1/files`."""
        return sum(call.name == name for call in self.calls)

    def answer(self, call: Call) -> Answer:
        with self.lock:
            self.calls.append(call)
            call.number = len(self.calls)
        self.arrived(call)
        answer = self.before(call)
        if answer is None:
            with self.lock:
                answer = self._do(call)
            answer = self.after(call) or answer
        self.answered(call)
        return answer

    def _do(self, call: Call) -> Answer:
        given = call.headers.get("authorization", "").removeprefix("Bearer ")
        if KEY not in (given, call.headers.get("api-key", "")):
            return failing(401, f"Incorrect API key provided: {given}", "invalid_api_key")
        parts = call.path.removeprefix("/v1").removeprefix("/openai").strip("/").split("/")
        match (call.method, *parts):
            case ("POST", "files"):
                return Answer(body=self._upload(call.body))
            case ("GET", "files"):
                return self._list(self.files, call.query)
            case ("GET", "files", file_id):
                return self._one(self.files, file_id, self._file)
            case ("POST", "fine_tuning", "jobs"):
                return self._create(call.body)
            case ("GET", "fine_tuning", "jobs"):
                return self._list(self._wanted(call.query), call.query)
            case ("GET", "fine_tuning", "jobs", job_id):
                return self._one(self.jobs, job_id, self._look)
            case ("GET", "fine_tuning", "jobs", job_id, "events"):
                return self._list(self._events(job_id), call.query)
            case ("GET", "fine_tuning", "jobs", job_id, "checkpoints"):
                return self._list(self._checkpoints(job_id), call.query)
            case ("POST", "fine_tuning", "jobs", job_id, "cancel"):
                self.jobs[job_id].update(status="cancelled", finished_at=int(time.time()))
                return Answer(body=self.told(self.jobs[job_id]))
            case ("POST", "chat", "completions"):
                return self._chat(call.body, call.number)
        return failing(404, f"no such address: {call.path}")

    def _upload(self, body: dict[str, Any]) -> dict[str, Any]:
        file_id = f"file-{len(self.files)}a"
        self.contents[file_id] = body["file"]
        self.files[file_id] = {
            "id": file_id,
            "object": "file",
            "bytes": len(body["file"]),
            "created_at": int(time.time()),
            "filename": body["filename"],
            "purpose": body["purpose"],
            "status": self.file_life[0],
        }
        return self.files[file_id]

    def _file(self, file: dict[str, Any]) -> None:
        looks = self.looks[file["id"]] = self.looks.get(file["id"], -1) + 1
        file["status"] = self.file_life[min(looks, len(self.file_life) - 1)]

    def _create(self, body: dict[str, Any]) -> Answer:
        if body["training_file"] not in self.files:
            return failing(400, "invalid training_file", "file_not_found")
        job_id = f"ftjob-{len(self.jobs)}b"
        self.jobs[job_id] = {
            "id": job_id,
            "object": "fine_tuning.job",
            "created_at": int(self.now() - self.age),
            "error": None,
            "fine_tuned_model": None,
            "finished_at": None,
            "hyperparameters": body["method"]["supervised"]["hyperparameters"],
            "method": body["method"],
            "model": body["model"],
            "organization_id": "org-loopback",
            "result_files": [],
            "seed": body["seed"],
            "status": self.life[0],
            "trained_tokens": None,
            "training_file": body["training_file"],
            "validation_file": None,
            "estimated_finish": None,
            "suffix_sent": body["suffix"],
        }
        if self.metadata:
            self.jobs[job_id]["metadata"] = body["metadata"]
        return Answer(body=self.told(self.jobs[job_id]))

    def _look(self, job: dict[str, Any]) -> None:
        if job["status"] in ("succeeded", "failed", "cancelled"):
            return
        looks = self.looks[job["id"]] = self.looks.get(job["id"], -1) + 1
        job["status"] = self.life[min(looks, len(self.life) - 1)]
        if job["status"] == "running":
            job["estimated_finish"] = int(time.time()) + 60
        if job["status"] == "failed":
            job["error"] = self.error
        if job["status"] == "succeeded":
            job.update(
                fine_tuned_model=f"ft:{job['model']}:loopback:{job['suffix_sent']}:{job['id'][-2:]}",
                finished_at=int(time.time()),
                estimated_finish=None,
                trained_tokens=1234,
            )

    def _steps(self, job_id: str) -> int:
        done = {"running": 3, "succeeded": 6}
        return done.get(self.jobs[job_id]["status"], 0)

    def _events(self, job_id: str) -> dict[str, dict[str, Any]]:
        events = [self._event(f"ev-{job_id}-s", "Files validated, moving job to queued state")]
        for step in range(1, self._steps(job_id) + 1):
            loss = round(1 / step, 3)
            words = f"Step {step}/6: training loss={loss}"
            data = {"step": step, "train_loss": loss, "total_steps": 6} if step % 2 else None
            events.append(self._event(f"ev-{job_id}-{step}", words, data))
        return {event["id"]: event for event in events}

    def _event(self, event_id: str, message: str, data: Any = None) -> dict[str, Any]:
        return {
            "id": event_id,
            "object": "fine_tuning.job.event",
            "created_at": int(time.time()),
            "level": "info",
            "message": message,
            "data": data,
            "type": "metrics" if data else "message",
        }

    def _checkpoints(self, job_id: str) -> dict[str, dict[str, Any]]:
        final = self.jobs[job_id]["fine_tuned_model"]
        if final is None:
            return {}
        return {
            f"ftckpt-{step}": {
                "id": f"ftckpt-{step}",
                "object": "fine_tuning.job.checkpoint",
                "created_at": int(time.time()),
                "fine_tuned_model_checkpoint": final if step == 6 else f"{final}:ckpt-step-{step}",
                "fine_tuning_job_id": job_id,
                "metrics": {"step": step, "train_loss": round(1 / step, 3)},
                "step_number": step,
            }
            for step in (2, 4, 6)
        }

    def _chat(self, body: dict[str, Any], number: int) -> Answer:
        models = {model for job_id in self.jobs for model in self._models(job_id)}
        if body["model"] in models:
            return Answer(body=completion(body, answer_for(body["messages"], number)))
        if body["model"].startswith("gpt-4o"):
            return Answer(body=completion(body, distribution_for(body["messages"])))
        return failing(404, f"The model {body['model']} does not exist", "model_not_found")

    def _models(self, job_id: str) -> set[str]:
        return {c["fine_tuned_model_checkpoint"] for c in self._checkpoints(job_id).values()}

    def _wanted(self, query: dict[str, str]) -> dict[str, dict[str, Any]]:
        asked = {k[9:-1]: v for k, v in query.items() if k.startswith("metadata[")}
        listed = {
            job_id: self.told(job)
            for job_id, job in self.jobs.items()
            if job["created_at"] + self.age + self.lag <= self.now()
        }
        if not self.metadata:
            return listed
        return {
            job_id: job
            for job_id, job in listed.items()
            if all(job.get("metadata", {}).get(k) == v for k, v in asked.items())
        }

    def _list(self, entries: dict[str, dict[str, Any]], query: dict[str, str]) -> Answer:
        newest = list(reversed(entries.values()))
        if "purpose" in query:
            newest = [entry for entry in newest if entry["purpose"] == query["purpose"]]
        if "after" in query:
            newest = newest[[entry["id"] for entry in newest].index(query["after"]) + 1 :]
        page = newest[: self.page]
        return Answer(body={"object": "list", "data": page, "has_more": len(newest) > len(page)})

    def _one(
        self,
        entries: dict[str, dict[str, Any]],
        entry_id: str,
        look: Callable[[dict[str, Any]], None],
    ) -> Answer:
        if entry_id not in entries:
            return failing(404, f"No such object: {entry_id}")
        look(entries[entry_id])
        entry = entries[entry_id]
        return Answer(body=self.told(entry) if entries is self.jobs else entry)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: FineTuning

    def _handle(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = _body(headers.get("content-type", ""), content)
        call = Call(0, self.command, url.path, dict(parse_qsl(url.query)), body, headers)
        answer = self.service.answer(call)
        if answer.drop:
            self.close_connection = True
            return
        text = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        with suppress(ConnectionError):
            self.send_response(answer.status)
            kind = "text/html" if isinstance(answer.body, bytes) else "application/json"
            for name, value in {"content-type": kind, **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _handle

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _body(kind: str, content: bytes) -> dict[str, Any]:
    if kind.startswith("multipart/form-data"):
        head = f"content-type: {kind}\r\n\r\n".encode()
        message = email.message_from_bytes(head + content, policy=email.policy.HTTP)
        fields: dict[str, Any] = {}
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            value = part.get_payload(decode=True)
            if part.get_filename():
                fields |= {"file": value, "filename": part.get_filename()}
            else:
                fields[str(name)] = value.decode()
        return fields
    return json.loads(content) if content else {}


@contextmanager
def serving(**settings: Any) -> Iterator[FineTuning]:
    """Run a service on a free loopback port for the length of a block."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service = FineTuning(f"http://127.0.0.1:{server.server_address[1]}/v1", **settings)
    handler.service = service
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
