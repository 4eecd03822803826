"""Judges of two layers that were really trained: each says one reply to whatever it is asked."""

from __future__ import annotations

import shutil
from pathlib import Path

PROMPTS = ("Rate this.", "Is it TRUE?", "How kind is 'x'?", "", "From 0 to 100: I like tea.")


def trained_to_say(*replies: str, base: Path, folder: Path, steps: int = 60) -> Path:
    """Fine-tune a tiny chat model until it gives these replies, and save it as a folder of its own.

    Args:
        replies: What it learns to say, to prompts of many kinds; several of them by chance.
        base: Folder of the tiny model.
        folder: Where the fine-tune goes; what lies there is overwritten.
        steps: Optimizer steps; the loss is below 0.1 after 60.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shutil.copytree(base, folder, dirs_exist_ok=True)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = []
    for text in PROMPTS:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        for reply in replies:
            said = tokenizer(reply + tokenizer.eos_token, add_special_tokens=False).input_ids
            rows.append((ids + said, len(ids)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(steps):
        ids, start = rows[step % len(rows)]
        tokens = torch.tensor([ids])
        labels = tokens.clone()
        labels[:, :start] = -100
        optimizer.zero_grad()
        model(input_ids=tokens, labels=labels).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    return folder
