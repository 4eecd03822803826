"""A chat-completions server on loopback that answers with a real model's weights, as vLLM does.

It continues a final assistant message where the request says so, gives log-probabilities and counts
prompt tokens. Nothing is made up: every probability comes from a forward pass.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from openai_server import serving


class Weights:
    """A loaded model behind `/v1/chat/completions`.

    Attributes:
        continues: Whether a final assistant message is continued; else a new turn is begun.
        max_logprobs: Most log-probabilities that are given; more are refused, as vLLM does.
    """

    def __init__(
        self, folder: Path, dtype: Any, *, continues: bool = True, max_logprobs: int = 100
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.continues = continues
        self.max_logprobs = max_logprobs
        self.requests: list[dict[str, Any]] = []
        self.url = ""
        self._one_at_a_time = threading.Lock()
        self._read: tuple[list[int], Any] = ([], None)

    async def chat(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.requests.append(body)
        if (body.get("top_logprobs") or 0) > self.max_logprobs:
            return JSONResponse({"error": {"message": "too many logprobs"}}, status_code=400)
        return JSONResponse(await anyio.to_thread.run_sync(self.complete, body))

    def prompt(self, body: dict[str, Any]) -> str:
        goes_on = self.continues and body.get("continue_final_message", False)
        return str(
            self.tokenizer.apply_chat_template(
                body["messages"],
                tokenize=False,
                add_generation_prompt=not goes_on,
                continue_final_message=goes_on,
            )
        )

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """The likeliest tokens, as many as are asked for, with their alternatives."""
        import torch

        prompt = list(self.tokenizer(self.prompt(body)).input_ids)
        ids, content = list(prompt), []
        with self._one_at_a_time, torch.inference_mode():
            for _ in range(min(body.get("max_tokens") or 1, 3)):
                top = (
                    self._after(list(ids))
                    .double()
                    .log_softmax(-1)
                    .topk(body.get("top_logprobs") or 1)
                )
                listed = [
                    {"token": self.tokenizer.decode([int(i)]), "logprob": float(p), "bytes": None}
                    for p, i in zip(top.values, top.indices, strict=True)
                ]
                content.append({**listed[0], "top_logprobs": listed})
                ids.append(int(top.indices[0]))
                if ids[-1] == self.tokenizer.eos_token_id:
                    break
        said = self.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True)
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "length",
                    "message": {"role": "assistant", "content": said},
                    "logprobs": {"content": content} if body.get("logprobs") else None,
                }
            ],
            "usage": {
                "prompt_tokens": len(prompt),
                "completion_tokens": len(content),
                "total_tokens": len(ids),
            },
        }

    def _after(self, ids: list[int]) -> Any:
        """Logits after a text; what it shares with the last one is not read again."""
        import torch
        from transformers import DynamicCache

        known, cache = self._read
        pairs = zip(known, ids[:-1], strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if cache is None or not shared:
            cache, shared = DynamicCache(), 0
        elif shared < len(known):
            cache.crop(shared - len(known))  # that many tokens less
        rest = torch.tensor([ids[shared:]])
        output = self.model(input_ids=rest, past_key_values=cache, logits_to_keep=1)
        self._read = (ids, cache)
        return output.logits[0, -1]


@contextmanager
def serving_weights(folder: Path, dtype: Any, **settings: Any) -> Iterator[Weights]:
    """Serve a model's weights on a free loopback port for the length of a block."""
    weights = Weights(folder, dtype, **settings)
    with serving(weights.chat) as weights.url:
        yield weights
