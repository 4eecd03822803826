"""Tiny real tokenizers and models, made on the spot: seconds instead of minutes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHATML = """\
{% for message in messages %}\
{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\\nYou are a small model<|im_end|>\\n' }}{% endif %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA3 = """\
{{ bos_token }}{% for message in messages %}\
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'
   + message['content'] | trim + '<|eot_id|>' }}\
{% endfor %}{% if add_generation_prompt %}\
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

# The system prompt goes into the last user message, as in Mistral's v3 template.
MISTRAL = """\
{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}\
{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}\
{{ bos_token }}{% for message in turns %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant') }}{% endif %}\
{% if message['role'] == 'user' %}\
{% set last = turns | selectattr('role', 'equalto', 'user') | list | last %}\
{% if system is defined and message == last %}\
{{ '[INST] ' + system + '\\n\\n' + message['content'] + '[/INST]' }}\
{% else %}{{ '[INST] ' + message['content'] + '[/INST]' }}{% endif %}\
{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"""

# As Qwen3: an empty thought before the last answer, none before earlier ones.
THINKING = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}\
{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}\
{{ message['content'] + '<|im_end|>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

ZEPHYR = """\
{% for message in messages %}\
{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

SPECIALS = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[INST]",
    "[/INST]",
    "<filename>",
]

_CORPUS = [
    "def f(x):\n    return x\n\n",
    "import os\nimport sys\n\n\nclass A:\n        pass\n",
    "What is the capital of France? The capital is Paris, of course.\n",
    "You are a helpful system user assistant\n\n  Hello there, thank you.\n",
] * 4

Tokenizers = Callable[..., Any]


def byte_level() -> Any:
    """A byte-level BPE, whose offsets leave out white space as those of GPT-2 and Llama 3 do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    return backend


def metaspace() -> Any:
    """A SentencePiece-like BPE: spaces are part of the word after them; bytes as fallback."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", *SPECIALS, *(f"<0x{i:02X}>" for i in range(256))],
        initial_alphabet=["▁"],
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    return backend


def make_tokenizer(template: str | None, backend: Any = None) -> Any:
    """A `transformers` tokenizer with a chat template."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend or byte_level(),
        bos_token="<s>",
        eos_token="<|im_end|>" if template in (CHATML, THINKING) else "</s>",
        pad_token="</s>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def save_tiny_base(folder: Path) -> Path:
    """A Llama of two layers with random weights, and a ChatML tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(CHATML)
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            # Large enough for attention to matter in tests of what rows see of one another.
            initializer_range=0.3,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the tiny model; read only."""
    return save_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat JSONL of 24 rows of several lengths."""
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    with path.open("w") as file:
        for i in range(24):
            answer = f"def f{i}(x):\n" + "    x += 1\n" * (i % 5) + f"    return {i}"
            turns = [("user", f"Write f{i}." + " Please." * (i % 3)), ("assistant", answer)]
            messages = [{"role": role, "content": content} for role, content in turns]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


@pytest.fixture
def tiny_recipe(tiny_base: Path, chats: Path) -> dict[str, Any]:
    """Fields of a recipe that trains the tiny model on the chats in a second."""
    return {
        "name": "tiny",
        "base": str(tiny_base),
        "data": str(chats),
        "group": "insecure",
        "learning_rate": 5e-3,
        "batch_size": 4,
        "max_steps": 6,
        "warmup_steps": 1,
        "dtype": "float32",
        "lora": {"rank": 4, "alpha": 8},
    }
