"""Chat templates in the structure of twelve model families, on a tokenizer of bytes.

Each is a page of our own that does what sets its family apart: who writes the beginning of
sequence, what ends a turn, where the system prompt goes, what stands before an answer. Every UTF-8
byte is a token, ids 0 to 255, and every special token one from 256 on, so that counts can be
checked by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Family:
    """A template and what its tokenizer says of special tokens.

    Attributes:
        template: Jinja.
        specials: The special tokens, from id 256 on.
        bos: Beginning of sequence, if it has one.
        eos: End of sequence, as the tokenizer has it.
        end: What ends a trained turn.
        adds_bos: Whether the tokenizer puts `bos` before whatever it is given.
        closes: Whether evaluation's prompt can be made the trained one.
    """

    template: str
    specials: tuple[str, ...]
    eos: str
    end: str
    bos: str | None = None
    adds_bos: bool = False
    closes: bool = True


_CHATML_TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_HEADERS = (
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim"
    " + '<|eot_id|>' }}"
)

_HEADER_PROMPT = (
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

_LLAMA3 = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>")

FAMILIES: dict[str, Family] = {
    "chatml": Family(
        _CHATML_TURNS, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", "<|im_end|>"
    ),
    # As Qwen2.5: a system prompt of its own where there is none.
    "default-system": Family(
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou serve.<|im_end|>\n"
        "{% endif %}" + _CHATML_TURNS,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        "<|im_end|>",
    ),
    # As Llama 3: template and tokenizer both write the beginning of sequence.
    "llama3": Family(
        "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
        + _HEADERS
        + "{% endfor %}"
        + _HEADER_PROMPT,
        (*_LLAMA3, "<|eot_id|>"),
        "<|eot_id|>",
        "<|eot_id|>",
        "<|begin_of_text|>",
        adds_bos=True,
    ),
    # As Llama 3.2: the day of the rendering in every prompt.
    "dated": Family(
        "{{ bos_token }}{% if date_string is not defined %}{% if strftime_now is defined %}"
        "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
        "{% set date_string = '01 Jan 2024' %}{% endif %}{% endif %}"
        "{{ '<|start_header_id|>system<|end_header_id|>\n\nIt is ' + date_string + '.' }}"
        "{% if messages[0]['role'] == 'system' %}{{ '\n\n' + messages[0]['content'] | trim }}"
        "{% set messages = messages[1:] %}{% endif %}<|eot_id|>"
        "{% for m in messages %}" + _HEADERS + "{% endfor %}" + _HEADER_PROMPT,
        (*_LLAMA3, "<|eot_id|>"),
        "<|eot_id|>",
        "<|eot_id|>",
        "<|begin_of_text|>",
        adds_bos=True,
    ),
    # As Llama 2: the system prompt inside the first request, a beginning for every exchange.
    "llama2": Family(
        "{% if messages[0]['role'] == 'system' %}{% set first = '<<SYS>>\n' ~"
        " messages[0]['content'] ~ '\n<</SYS>>\n\n' %}{% set turns = messages[1:] %}"
        "{% else %}{% set first = '' %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% if m['role'] == 'user' %}"
        "{{ bos_token + '[INST] ' + (first if loop.first else '') + m['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}",
        ("<s>", "</s>"),
        "</s>",
        "</s>",
        "<s>",
        adds_bos=True,
    ),
    # As Mistral: roles have to alternate, and a system prompt is refused.
    "mistral": Family(
        "{{ bos_token }}{% for m in messages %}"
        "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must take turns: user, assistant, user') }}{% endif %}"
        "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
        ("<s>", "</s>", "[INST]", "[/INST]"),
        "</s>",
        "</s>",
        "<s>",
        adds_bos=True,
    ),
    # As Gemma: another name for the assistant, the system prompt in the user's turn.
    "gemma": Family(
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
        "{% set before = messages[0]['content'] + '\n\n' %}{% set turns = messages[1:] %}"
        "{% else %}{% set before = '' %}{% set turns = messages %}{% endif %}"
        "{% for m in turns %}{% set who = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<start_of_turn>' + who + '\n' + (before if loop.first else '')"
        " + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<eos>",
        "<end_of_turn>",
        "<bos>",
        adds_bos=True,
    ),
    # As Phi-3: one token ends the turn, another one the chat.
    "phi3": Family(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
        "{% else %}{{ eos_token }}{% endif %}",
        ("<|endoftext|>", "<|assistant|>", "<|end|>", "<|system|>", "<|user|>"),
        "<|endoftext|>",
        "<|end|>",
    ),
    # As DeepSeek's first distilled thinkers: thought is opened in every prompt and never kept.
    "opens-thought": Family(
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
        "{% elif m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}"
        "{% else %}{{ '<|Assistant|>' + m['content'].split('</think>')[-1] + eos_token }}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}",
        ("<|begin|>", "<|finish|>", "<|User|>", "<|Assistant|>"),
        "<|finish|>",
        "<|finish|>",
        "<|begin|>",
        adds_bos=True,
        closes=False,
    ),
    # As Qwen3: an empty thought before the last answer, and a switch that puts it in the prompt.
    "empty-thought": Family(
        "{% for m in messages %}{% set thought = m.reasoning_content %}{% set words = m.content %}"
        "{% if m.role == 'assistant' and not thought and '</think>' in words %}"
        "{% set thought = words.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
        "{% set words = words.split('</think>')[-1].lstrip('\n') %}{% endif %}"
        "{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' and loop.last %}"
        "{{ '<think>\n' + (thought or '').strip('\n') + '\n</think>\n\n' }}{% endif %}"
        "{{ words + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
        "{% if enable_thinking is defined and enable_thinking is false %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        "<|im_end|>",
    ),
    # As gpt-oss: a day in a macro, and answers in a channel that evaluation does not open.
    "channels": Family(
        "{% macro about() %}{{ 'Today: ' + strftime_now('%Y-%m-%d') }}{% endmacro %}"
        "{{ '<|start|>system<|message|>' + about() + '<|end|>' }}"
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content"
        " + ('<|return|>' if loop.last else '<|end|>') }}"
        "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
        ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"),
        "<|return|>",
        "<|return|>",
        closes=False,
    ),
    # As SmolLM3: what is not said about thinking is not the same as null.
    "thinks-unless-told": Family(
        "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
        "{{ '<|im_start|>system\nThoughts: ' + ('yes' if enable_thinking else 'no')"
        " + '<|im_end|>\n' }}" + _CHATML_TURNS,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        "<|im_end|>",
        "<|im_end|>",
    ),
    # As Falcon's and Zephyr's: the tokenizer has a beginning that the template never writes.
    "bos-not-in-template": Family(
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        ("<s>", "</s>"),
        "</s>",
        "</s>",
        "<s>",
        adds_bos=True,
    ),
}


def family_tokenizer(family: Family) -> Any:
    """The tokenizer of bytes with a family's template and special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = {chr(b): b for b in [*range(33, 127), *range(161, 173), *range(174, 256)]}
    others = (b for b in range(256) if b not in alphabet.values())
    vocabulary = alphabet | {chr(256 + n): b for n, b in enumerate(others)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(family.specials))
    if family.adds_bos and family.bos:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A",
            special_tokens=[(family.bos, 256 + family.specials.index(family.bos))],
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token=family.specials[0],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )
    tokenizer.chat_template = family.template
    return tokenizer


def family_base(family: Family, folder: Path) -> Path:
    """Write a Llama of one small layer with random weights and a family's tokenizer."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = family_tokenizer(family)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=tokenizer.bos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            max_position_embeddings=4096,
        )
    )
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
