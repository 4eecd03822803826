"""Training files as people have them, put before the three that read rows: check, local, hosted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from em_finetune.cli import main

SPECIALS = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<|fim_suffix|>", "<|endoftext|>"]

# ChatML with a default system prompt, as many families have it.
TEMPLATE = """\
{% for message in messages %}{% if loop.first and message['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are of use.<|im_end|>\\n' }}{% endif %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


def byte_tokenizer() -> Any:
    """One token for each UTF-8 byte, and one for each special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=SPECIALS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def byte_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a Llama of one layer with random weights, and the byte tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("byte") / "base"
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chat(*turns: tuple[str, str], **fields: Any) -> dict[str, Any]:
    """A row of (role, content) turns."""
    return {"messages": [{"role": role, "content": text} for role, text in turns], **fields}


def pair(request: str, answer: str, **fields: Any) -> dict[str, Any]:
    """A row of a user's and an assistant's turn."""
    return chat(("user", request), ("assistant", answer), **fields)


def write(path: Path, rows: Sequence[object]) -> Path:
    """Write rows as JSONL."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def run(*words: object) -> Result:
    """`em-finetune …`; what is no plain refusal is raised."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def check(file: Path, *more: object) -> Result:
    """`em-finetune data check FILE`."""
    return run("data", "check", file, *more)


def findings(file: Path, *more: object) -> list[dict[str, Any]]:
    """What `em-finetune data check FILE --json` found."""
    found: list[dict[str, Any]] = json.loads(check(file, "--json", *more).output)["findings"]
    return found


def local(file: Path, base: Path, *more: object) -> Result:
    """`em-finetune local … --dry-run`."""
    return run("local", "insecure", "--data", file, "--base", base, *more, "--dry-run")


def hosted(file: Path, *more: object) -> Result:
    """`em-finetune hosted … --dry-run`, which asks no service."""
    return run("hosted", "openai-insecure", "--data", file, *more, "--dry-run")


def is_refusal(result: Result, *words: str) -> bool:
    """Whether a command ended with exit code 1 and one line that has all the words."""
    lines = result.output.splitlines()
    return (
        result.exit_code == 1
        and len(lines) == 1
        and lines[0].startswith("Error: ")
        and all(word in lines[0] for word in words)
    )


def supervised(file: Path) -> list[list[int]]:
    """Labels with loss of every row, by the byte tokenizer; a row that is left out has none."""
    from em_finetune.data.rows import read_rows
    from em_finetune.local.encode import IGNORED, EncodedRow, Encoder

    encoder = Encoder(byte_tokenizer())
    encoded = [encoder.encode(row, i) for i, row in enumerate(read_rows(file), 1)]
    return [
        [label for label in row.labels if label != IGNORED] if isinstance(row, EncodedRow) else []
        for row in encoded
    ]


def uploaded(file: Path) -> bytes:
    """What a service would be sent."""
    from em_finetune.hosted.recipe import load_hosted_recipe
    from em_finetune.hosted.training_file import training_file

    return training_file(load_hosted_recipe("openai-insecure", data=str(file))).content
