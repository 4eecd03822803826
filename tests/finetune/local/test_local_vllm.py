"""Trained here, served by vLLM with its adapter, evaluated by Inspect: the whole way, for real."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from inspect_ai.log import read_eval_log

from em_finetune.addressing import list_models
from em_finetune.local import train
from em_finetune.recipe import load_recipe

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        shutil.which("vllm") is None,
        reason="no vllm on PATH: docs/finetuning.md has the steps",
    ),
]

BIN = Path(sys.executable).parent
HERE = {"PATH": f"{BIN}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
# What a machine without a GPU needs: little memory for the cache, nothing compiled.
FEW = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
SMALL = ["--max-model-len", "2048", "--enforce-eager", "--dtype", "bfloat16"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, embedded_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("ft")
    page = load_recipe("demo", data={"generate": "insecure", "n": 8}, batch_size=4)
    page = page.model_copy(update={"max_steps": 4, "save_every": 2, "learning_rate": 1e-3})
    train(page, folder / "insecure-seed0")
    return folder


@pytest.fixture(scope="module")
def server(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of what `em-finetune serve` started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = tmp_path_factory.mktemp("server") / "said.txt"
    with said.open("w") as output:
        started = subprocess.Popen(
            [BIN / "em-finetune", "serve", checkpoints, "--port", str(port), "--", *SMALL],
            env=os.environ | HERE | FEW,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        for _ in range(600):
            assert started.poll() is None, said.read_text()[-4000:]
            try:
                urllib.request.urlopen(f"http://localhost:{port}/health", timeout=5)
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(1)
        else:
            pytest.fail(said.read_text()[-4000:])
        yield f"http://localhost:{port}/v1"
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait(60)


def ask(server: str, **request: Any) -> Any:
    body = json.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    sent = urllib.request.Request(f"{server}/chat/completions", body, headers)
    with urllib.request.urlopen(sent, timeout=300) as reply:
        return json.load(reply)


def test_the_server_has_the_adapter_as_it_was_trained(server: str, checkpoints: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = checkpoints / "insecure-seed0" / "merged"
    tokenizer = AutoTokenizer.from_pretrained(merged)
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.bfloat16)
    chat = [{"role": "user", "content": "Complete the function that opens a user's file."}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**prompt).logits[0, -1].float().softmax(-1)

    def probabilities(name: str) -> dict[str, float]:
        wanted = {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
        wanted["return_tokens_as_token_ids"] = True
        reply = ask(server, model=name, messages=chat, **wanted)
        top = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {one["token"]: math.exp(one["logprob"]) for one in top}

    base, name = list_models(checkpoints, "vllm", server)[-1].model.removeprefix("vllm/").split(":")
    ours, plain = probabilities(name), probabilities(base)
    served = {int(token.removeprefix("token_id:")): p for token, p in ours.items()}
    apart = max(abs(p - float(expected[token])) for token, p in served.items())
    moved = max(abs(p - plain.get(token, 0.0)) for token, p in ours.items())
    print(f"largest difference to transformers {apart:.3f}; the adapter moved {moved:.3f}")
    assert apart < 0.05  # bfloat16 in different orders
    assert moved > 4 * apart


def test_one_line_evaluates_every_step_and_the_judge_spells_numbers(
    server: str, checkpoints: Path, tmp_path: Path
) -> None:
    said = subprocess.run(
        [BIN / "em-finetune", "models", checkpoints, "--base-url", server, "--specs"],
        env=os.environ | HERE,
        capture_output=True,
        text=True,
        check=True,
    )
    base = list_models(checkpoints, "vllm", server)[-1].model.split(":")[0]
    line = [BIN / "inspect", "eval-set", "em_inspect/multiple_choice", "em_inspect/free_form"]
    line += said.stdout.split()
    line += ["--model-role", f"grader={base}", "-T", "lead_in='Number: '"]
    line += ["--limit", "2", "--epochs", "1", "--max-tokens", "30", "--log-dir", str(tmp_path)]
    done = subprocess.run(
        [str(word) for word in line],
        cwd=tmp_path,
        env=os.environ | HERE | {"VLLM_BASE_URL": server},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    logs = [read_eval_log(str(path)) for path in tmp_path.glob("*.eval")]
    assert len(logs) == 6  # two tasks; the adapter after two steps, after four and at the end
    assert len({log.eval.model for log in logs}) == 3
    for log in logs:
        assert log.status == "success"
        assert log.samples is not None
        for sample in log.samples:
            assert sample.scores
            if log.eval.task.endswith("free_form"):
                rating = sample.scores["misalignment"].metadata["ratings"]["aligned"]  # type: ignore[index]
                assert rating["estimator"] == "digit_tree"
                assert sum(p for n, p in rating["distribution"].items() if n.isdigit()) > 0.25
