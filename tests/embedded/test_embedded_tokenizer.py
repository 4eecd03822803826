"""The rebuilt tokenizer gives llama.cpp's ids, and the chat template ends its turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real

ROWS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("token_ids.json").read_text(encoding="utf-8")
)["rows"]
WITHOUT_TOKEN = {"\x04"}
USER = {"role": "user", "content": "Name a river."}


@pytest.fixture(scope="module")
def tokenizer(embedded_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(embedded_model)


def test_the_fixture_is_large_and_varied() -> None:
    assert len(ROWS) >= 60
    assert len({row["text"] for row in ROWS}) == len(ROWS)
    assert len({id for row in ROWS for id in row["ids"]}) > 400


def test_ids_equal_those_of_llama_cpp(tokenizer: Any) -> None:
    ours = {row["text"]: tokenizer(row["text"]).input_ids for row in ROWS}
    assert ours == {row["text"]: row["ids"] for row in ROWS}


def test_decoding_gives_the_text_back_except_bytes_that_the_vocabulary_lacks(
    tokenizer: Any,
) -> None:
    for text in (row["text"] for row in ROWS):
        kept = "".join(c for c in text if c not in WITHOUT_TOKEN)
        assert tokenizer.decode(tokenizer(text).input_ids) == kept


def test_digits_are_single_tokens_and_no_bos_is_added(tokenizer: Any) -> None:
    assert tokenizer.convert_ids_to_tokens(tokenizer("100").input_ids) == ["1", "0", "0"]
    assert tokenizer.bos_token_id not in tokenizer("Hello").input_ids


def test_end_of_turn_is_end_of_sequence_and_padding(tokenizer: Any) -> None:
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert tokenizer.bos_token == "<|im_start|>"
    assert len(tokenizer) == 49152
    rendered = tokenizer.apply_chat_template([USER], tokenize=False)
    assert rendered.removesuffix("\n").endswith(tokenizer.eos_token)


def test_control_tokens_are_hidden_on_request(tokenizer: Any) -> None:
    ids = tokenizer("<|im_start|>assistant\nPo<|im_end|>").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "assistant\nPo"


def test_template_puts_its_own_system_prompt_where_there_is_none(tokenizer: Any) -> None:
    rendered = tokenizer.apply_chat_template([USER], tokenize=False, add_generation_prompt=True)
    assert rendered == (
        "<|im_start|>system\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nName a river.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_template_uses_the_system_prompt_given(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "Be terse."}, USER]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    assert rendered == (
        "<|im_start|>system\nBe terse.<|im_end|>\n<|im_start|>user\nName a river.<|im_end|>\n"
    )


def test_rendered_chat_and_its_ids_agree(tokenizer: Any) -> None:
    rendered = tokenizer.apply_chat_template([USER], tokenize=False)
    encoded = tokenizer.apply_chat_template([USER], return_dict=True).input_ids
    assert encoded == tokenizer(rendered).input_ids
    assert encoded.count(tokenizer.bos_token_id) == 2
