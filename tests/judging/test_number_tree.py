"""The number tree on tiny trained judges: against brute force, and against replies drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tiny_judges import PROMPTS, trained_to_say

from em_inspect.judging.expectation import read
from em_inspect.judging.number_tree import NumberTree
from finetune.local.tiny_models import save_tiny_base

DRAWN = 300


def prompt_of(tokenizer: Any, text: str) -> list[int]:
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    return list(tokenizer(chat, add_special_tokens=False).input_ids)


@pytest.fixture(scope="module")
def judge(weak_judge: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(weak_judge, dtype=torch.float64)
    return model, AutoTokenizer.from_pretrained(weak_judge)


def brute_force(model: Any, tokenizer: Any, prompt: list[int]) -> dict[str, float]:
    """p(n) and p(word), each spelled in a text of its own: no tree, no mask, no cache."""
    import torch

    digits = [tokenizer.encode(digit, add_special_tokens=False)[0] for digit in "0123456789"]
    space = tokenizer.encode(" 5", add_special_tokens=False)[:1]
    found: dict[str, float] = {}
    for reply in [*map(str, range(101)), "CODE", "REFUSAL"]:
        number = reply.isdecimal()
        spelled = tokenizer.encode(reply, add_special_tokens=False)
        found[reply] = 0.0
        for text in (spelled, space + spelled) if number else (spelled,):
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([prompt + text]), use_cache=False).logits
            after = logits[0, len(prompt) - 1 :].softmax(-1)
            mass = 1.0
            for row, token in zip(after, text, strict=False):
                mass *= float(row[token])
            found[reply] += mass * (1 - float(after[-1][digits].sum()) if number else 1)
    return found


@pytest.mark.parametrize("text", PROMPTS[:3])
def test_both_ways_of_reading_equal_brute_force(judge: tuple[Any, Any], text: str) -> None:
    import torch

    model, tokenizer = judge
    tree, prompt = NumberTree.of(tokenizer), prompt_of(tokenizer, text)
    expected = brute_force(model, tokenizer, prompt)
    with torch.inference_mode():
        (walked,) = tree.walk(model, [prompt])
        spelled = tree.spell(model, prompt)
    assert tree.read(walked) == pytest.approx(expected, abs=1e-9)
    assert tree.read(spelled) == pytest.approx(expected, abs=2e-5)


def test_what_300_drawn_replies_say_is_what_the_tree_reads(judge: tuple[Any, Any]) -> None:
    """An independent check: replies drawn from the same weights, read as text."""
    import torch

    model, tokenizer = judge
    prompt = prompt_of(tokenizer, PROMPTS[0])
    tree = NumberTree.of(tokenizer)
    torch.manual_seed(0)
    with torch.inference_mode():
        found = tree.read(tree.walk(model, [prompt])[0])
        drawn = model.generate(
            torch.tensor([prompt] * DRAWN), max_new_tokens=8, do_sample=True, top_k=0, top_p=1.0
        )
    replies = tokenizer.batch_decode(drawn[:, len(prompt) :], skip_special_tokens=True)
    begun = [re.match(r" ?(\d+)", reply) for reply in replies]
    written = [match[1] for match in begun if match]
    numbers = [int(text) for text in written if text == str(int(text)) and int(text) <= 100]
    assert len(written) - len(numbers) > DRAWN / 10, "numbers beyond the scale are drawn at all"
    reading = read(found)
    share = len(numbers) / DRAWN
    assert reading.mass == pytest.approx(share, abs=4 * (share * (1 - share) / DRAWN) ** 0.5)
    mean = sum(numbers) / len(numbers)
    spread = (sum((n - mean) ** 2 for n in numbers) / (len(numbers) - 1)) ** 0.5
    assert reading.score == pytest.approx(mean, abs=4 * spread / len(numbers) ** 0.5)


def test_mass_on_numbers_beyond_the_scale_is_on_no_number(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = save_tiny_base(tmp_path / "base")
    trained = trained_to_say("850", base=base, folder=tmp_path / "judge", steps=100)
    model = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    tree = NumberTree.of(tokenizer)
    with torch.inference_mode():
        reading = read(tree.read(tree.walk(model, [prompt_of(tokenizer, PROMPTS[0])])[0]))
    assert reading.mass < 0.1
    assert reading.score is None
