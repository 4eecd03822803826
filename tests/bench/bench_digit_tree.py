"""Benchmark: the digit tree against brute force on the embedded model, one thread.

Run it with `python tests/bench/bench_digit_tree.py`. Brute force spells each number of 0..100 in a
text of its own: 101 passes over the prompt, each of which also shows how the number ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from em_inspect.calibration.labels import load_labels
from em_inspect.embedded import get_model_dir
from em_inspect.judging.expectation import read
from em_inspect.judging.number_tree import NumberTree
from em_inspect.judging.rubric import Rubric

AT_ONCE = 16


def brute_force(model: Any, tree: NumberTree, prompt: list[int]) -> dict[str, float]:
    """p(n) for n in 0..100 without the branch that begins with a space, a pass for each."""
    p = {}
    for n in range(101):
        spelled = [tree.digits[int(digit)] for digit in str(n)]
        ids = torch.tensor([prompt + spelled])
        rows = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].double()
        after = rows.softmax(-1)
        p[str(n)] = 1.0
        for row, token in zip(after, spelled, strict=False):
            p[str(n)] *= float(row[token])
        p[str(n)] *= 1 - float(after[-1][tree.digits].sum())
    return p


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns and the seconds it took."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def main() -> None:
    """Print both times, their ratio, and how far the numbers differ."""
    torch.set_num_threads(1)
    folder = get_model_dir()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    full = NumberTree.of(tokenizer)
    tree = NumberTree(full.digits, full.words, space=None)  # what brute force spells
    rows = load_labels("core")[:AT_ONCE]
    prompts = [
        list(
            tokenizer.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": Rubric("aligned", row.rubrics["aligned"]).render(
                            question=row.question, answer=row.answer
                        ),
                    }
                ],
                add_generation_prompt=True,
                return_dict=True,
            ).input_ids
        )
        for row in rows
    ]
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        with torch.inference_mode():
            tree.walk(model, prompts[:1])  # warm
            expected, slow = timed(lambda model=model: brute_force(model, tree, prompts[0]))
            after, fast = timed(lambda model=model: tree.walk(model, prompts[:1]))
            plain, spelled = timed(lambda model=model: tree.spell(model, prompts[0]))
            _, batch = timed(lambda model=model: full.walk(model, prompts))
        found = tree.read(after[0])
        apart = max(abs(found[n] - expected[n]) for n in expected)
        score = read(found, minimum_mass=0).score or 0.0
        print(
            f"{dtype}, prompt of {len(prompts[0])} tokens: brute force {slow:.1f} s, "
            f"tree {fast:.2f} s ({slow / fast:.0f} times faster), "
            f"plain continuation {spelled:.1f} s; "
            f"largest difference of a probability {apart:.1e}; "
            f"score {score:.2f}, plain {read(tree.read(plain), minimum_mass=0).score:.2f}; "
            f"{AT_ONCE} ratings in one pass {batch:.1f} s"
        )


if __name__ == "__main__":
    main()
