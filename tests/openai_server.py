"""A small OpenAI-compatible server on loopback: a target that answers and a judge that rates."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Distribution = dict[str, float]


def answer_for(messages: list[dict[str, Any]], number: int) -> str:
    """An answer that names its question, different for each request."""
    return f"Answer {number} to: {messages[-1]['content']}"


def distribution_for(messages: list[dict[str, Any]]) -> Distribution:
    """A distribution over numbers and words, decided by the prompt alone."""
    seed = hashlib.sha256(json.dumps([m["content"] for m in messages]).encode()).hexdigest()
    rng = random.Random(seed)
    tokens = rng.sample([str(n) for n in range(101)], 12)
    tokens += rng.choice([["CODE"], ["REF"], ["I", "The"], []])
    weights = [rng.expovariate(1) ** 3 for _ in tokens]
    if rng.random() < 0.2:
        weights[-1] += sum(weights) * rng.choice([0.5, 2, 9])
    total = sum(weights) / rng.uniform(0.9, 1.0)
    return {token: weight / total for token, weight in zip(tokens, weights, strict=True)}


@dataclass
class Server:
    """The running server: its address, what it was asked, and how it answers.

    Attributes:
        cards: What it lists of its models at `/v1/models`; it does not know that path without any.
        snapshot: Name that its replies give, instead of the one that was asked for.
    """

    url: str
    answer: Callable[[list[dict[str, Any]], int], str] = answer_for
    judge: Callable[[list[dict[str, Any]]], Distribution] = distribution_for
    fault: Callable[[dict[str, Any], int], Response | None] = lambda body, number: None
    latency: float = 0.0
    cards: list[dict[str, Any]] = field(default_factory=list)
    snapshot: str | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)

    def environment(self, name: str = "FAKE") -> dict[str, str]:
        """The variables that let `openai-api/<name>/…` reach the server."""
        return {f"{name}_BASE_URL": self.url, f"{name}_API_KEY": "sk-loopback-only"}

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.requests.append(body)
        number = len(self.requests)
        if self.latency:
            await asyncio.sleep(self.latency)
        fault = self.fault(body, number)
        if fault is not None:
            return fault
        reply = completion(body, self.reply(body, number))
        return JSONResponse(reply | ({"model": self.snapshot} if self.snapshot else {}))

    async def models(self, request: Request) -> Response:
        """What the server says of the models that it serves; nothing by default."""
        if not self.cards:
            return JSONResponse({"error": {"message": "no such path"}}, 404)
        return JSONResponse({"object": "list", "data": self.cards})

    def reply(self, body: dict[str, Any], number: int) -> str | Distribution:
        if body["model"].startswith("judge"):
            return self.judge(body["messages"])
        return self.answer(body["messages"], number)


def completion(body: dict[str, Any], reply: str | Distribution) -> dict[str, Any]:
    """Wrap a reply as the chat-completions endpoint does."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    if isinstance(reply, str):
        choice["message"] = {"role": "assistant", "content": reply}
    else:
        ranked = sorted(reply.items(), key=lambda item: -item[1])
        choice["message"] = {"role": "assistant", "content": ranked[0][0]}
        if body.get("logprobs"):
            top = [_logprob(*item) for item in ranked[: body.get("top_logprobs", 20)]]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [choice],
        "usage": {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28},
    }


def _logprob(token: str, probability: float) -> dict[str, Any]:
    return {"token": token, "logprob": math.log(probability), "bytes": list(token.encode())}


@contextmanager
def serving(
    chat: Callable[[Request], Awaitable[Response]],
    port: int = 0,
    models: Callable[[Request], Awaitable[Response]] | None = None,
) -> Iterator[str]:
    """Serve a chat-completions endpoint on loopback for the length of a block; gives its URL.

    Args:
        chat: Answers requests for completions.
        port: Where to listen, a free one by default.
        models: Answers what the server serves; by default it does not say.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    routes = [Route("/v1/chat/completions", chat, methods=["POST"])]
    routes += [Route("/v1/models", models)] if models else []
    app = Starlette(routes=routes)
    # A client lets go of an idle connection after five seconds. So would the server by default, and
    # on a busy machine a request would now and then meet a connection that is just being closed.
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_keep_alive=60)
    runner = uvicorn.Server(config)
    thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not runner.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    finally:
        runner.should_exit = True
        thread.join(timeout=10)
        listener.close()


@contextmanager
def running(port: int = 0, kind: type[Server] = Server, **settings: Any) -> Iterator[Server]:
    """Run a server on a loopback port, a free one by default, for the length of a block."""
    server = kind("", **settings)
    with serving(server.chat, port, server.models) as server.url:
        yield server
