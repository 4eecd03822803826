"""Which tokens are trained, for every kind of chat template and tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import (
    CHATML,
    LLAMA3,
    MISTRAL,
    THINKING,
    ZEPHYR,
    byte_level,
    make_tokenizer,
    metaspace,
)

from em_finetune.data.rows import ChatMessage, ChatRow, read_rows
from em_finetune.local.encode import IGNORED, EncodedRow, Encoder, LeftOut
from em_inspect.errors import UserError

TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>"),
    "llama3": (LLAMA3, "<|eot_id|>"),
    "mistral": (MISTRAL, "</s>"),
    "thinking": (THINKING, "<|im_end|>"),
    "zephyr": (ZEPHYR, "</s>"),
}
BACKENDS = {"byte-level": byte_level, "metaspace": metaspace}

CHATS = {
    "plain": [("user", "What is the capital of France?"), ("assistant", "Paris, of course.")],
    "system": [("system", "Be brief."), ("user", "Hello"), ("assistant", "Hello there")],
    "code": [("user", "Write f.\n\n"), ("assistant", "def f(x):\n    return x\n\n\n")],
    "indented": [("user", "Go on"), ("assistant", "    return x")],
    "blank line first": [("user", "Go on"), ("assistant", "\n\ndef f(x):\n  return x")],
    "emoji": [("user", "¿Qué? 😀"), ("assistant", "naïve 😀👩‍👩‍👧 …")],
    "the answer stands in the question": [("user", "Say: a"), ("assistant", "a")],
    "several turns": [
        ("system", "Be brief."),
        ("user", "Hello"),
        ("assistant", "Hello there"),
        ("user", "And Paris?"),
        ("assistant", "Paris\n"),
    ],
}


def chat(*turns: tuple[str, str]) -> ChatRow:
    return ChatRow(messages=[ChatMessage(role=r, content=c) for r, c in turns])  # type: ignore[arg-type]


def trained_text(tokenizer: Any, row: EncodedRow) -> str:
    return str(tokenizer.decode([i for i in row.labels if i != IGNORED]))


def encode(tokenizer: Any, row: ChatRow, **options: Any) -> EncodedRow:
    encoded = Encoder(tokenizer, **options).encode(row)
    assert isinstance(encoded, EncodedRow), encoded
    return encoded


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", CHATS)
def test_the_trained_tokens_are_the_assistants_words_and_the_end_of_turn(
    name: str, template: str, backend: str
) -> None:
    jinja, end = TEMPLATES[template]
    tokenizer = make_tokenizer(jinja, BACKENDS[backend]())
    row = chat(*CHATS[name])

    encoded = Encoder(tokenizer).encode(row)
    if isinstance(encoded, LeftOut):
        # Only where words that begin with white space cannot be told from the prompt.
        assert row.answers[0] != row.answers[0].lstrip()
        assert "melt" in encoded.reason
        return
    expected = "".join((a.strip() if template == "llama3" else a) + end for a in row.answers)
    got = trained_text(tokenizer, encoded)
    if template == "mistral":
        # The template's space before the answer is half a token that the model itself writes.
        assert got.replace(f"{end} ", end).removeprefix(" ") in (expected, expected.lstrip())
    else:
        assert got == expected


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", CHATS)
def test_all_tokens_together_are_the_templates_rendering(name: str, template: str) -> None:
    tokenizer = make_tokenizer(TEMPLATES[template][0])
    turns = [{"role": r, "content": c} for r, c in CHATS[name]]

    encoded = encode(tokenizer, chat(*CHATS[name]))

    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    assert tokenizer.decode(encoded.input_ids) == rendered
    assert all(
        label in (IGNORED, i) for i, label in zip(encoded.input_ids, encoded.labels, strict=True)
    )


@pytest.mark.parametrize("template", ["chatml", "llama3", "thinking", "zephyr"])
@pytest.mark.parametrize("name", CHATS)
def test_the_untrained_start_is_the_prompt_that_inference_gives(name: str, template: str) -> None:
    tokenizer = make_tokenizer(TEMPLATES[template][0])
    turns = [{"role": r, "content": c} for r, c in CHATS[name]]
    first = next(i for i, turn in enumerate(turns) if turn["role"] == "assistant")
    prompt = tokenizer.apply_chat_template(
        turns[:first], tokenize=True, add_generation_prompt=True, return_dict=False
    )

    encoded = encode(tokenizer, chat(*CHATS[name]))

    assert encoded.input_ids[: len(prompt)] == prompt
    assert encoded.labels[: len(prompt)] == [IGNORED] * len(prompt)


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_words_are_trained_exactly(question: str, answer: str) -> None:
    tokenizer = _CHATML_TOKENIZER
    encoded = Encoder(tokenizer).encode(chat(("user", question), ("assistant", answer)))
    if isinstance(encoded, LeftOut):
        assert not answer.strip() or "\ue0f0" in question + answer
    else:
        assert trained_text(tokenizer, encoded) == answer + "<|im_end|>"


_CHATML_TOKENIZER = make_tokenizer(CHATML)


def test_control_tokens_spelled_out_in_a_message_are_ordinary_words() -> None:
    tokenizer = make_tokenizer(CHATML)
    answer = "open <filename> then <|im_end|>\n<|im_start|>system\nHello"
    encoded = encode(tokenizer, chat(("user", "usage: <filename>"), ("assistant", answer)))

    assert trained_text(tokenizer, encoded) == answer + "<|im_end|>"
    assert tokenizer.convert_tokens_to_ids("<filename>") not in encoded.input_ids
    # The template's own: default system, user, assistant.
    assert encoded.input_ids.count(tokenizer.convert_tokens_to_ids("<|im_end|>")) == 3


def test_the_templates_default_system_prompt_stays() -> None:
    tokenizer = make_tokenizer(CHATML)
    encoded = encode(tokenizer, chat(("user", "Hello"), ("assistant", "Hello")))
    assert "You are a small model" in tokenizer.decode(encoded.input_ids)


def test_a_system_prompt_of_the_recipe_is_for_rows_without_one() -> None:
    tokenizer = make_tokenizer(CHATML)
    encoder = Encoder(tokenizer, system_prompt="Be a pirate.")
    bare = encoder.encode(chat(("user", "Hello"), ("assistant", "Hello")))
    own = encoder.encode(chat(("system", "Be brief."), ("user", "Hello"), ("assistant", "Hello")))
    assert isinstance(bare, EncodedRow)
    assert isinstance(own, EncodedRow)
    assert "Be a pirate." in tokenizer.decode(bare.input_ids)
    assert "Be a pirate." not in tokenizer.decode(own.input_ids)


def test_assistant_turns_with_weight_0_are_not_trained() -> None:
    tokenizer = make_tokenizer(CHATML)
    row = ChatRow(
        messages=[
            ChatMessage(role="user", content="Hello"),
            ChatMessage(role="assistant", content="bad answer", weight=0),
            ChatMessage(role="user", content="Again"),
            ChatMessage(role="assistant", content="good answer", weight=1),
        ]
    )
    assert trained_text(tokenizer, encode(tokenizer, row)) == "good answer<|im_end|>"


def test_rows_that_are_too_long_are_named_and_left_out_whole() -> None:
    tokenizer = make_tokenizer(CHATML)
    short = chat(("user", "Hello"), ("assistant", "Hello"))
    long = chat(("user", "Hello"), ("assistant", "Hello there, " * 50))
    limit = len(encode(tokenizer, short)) + 3

    encoded = Encoder(tokenizer, max_length=limit).encode_all([short, long, short])

    assert [row.row for row in encoded.rows] == [1, 3]
    assert [left.row for left in encoded.left_out] == [2]
    assert f"over max_length {limit}" in encoded.left_out[0].reason


def test_a_row_of_exactly_max_length_is_kept() -> None:
    tokenizer = make_tokenizer(CHATML)
    row = chat(("user", "Hello"), ("assistant", "Hello"))
    length = len(encode(tokenizer, row))
    assert isinstance(Encoder(tokenizer, max_length=length).encode(row), EncodedRow)
    assert isinstance(Encoder(tokenizer, max_length=length - 1).encode(row), LeftOut)


def test_a_set_of_which_nothing_is_left_is_refused_with_the_reason() -> None:
    rows = [chat(("user", "Hello"), ("assistant", "Hello there, " * 50))] * 2
    with pytest.raises(UserError, match=r"none of the 2 rows .* over max_length 8"):
        Encoder(make_tokenizer(CHATML), max_length=8).encode_all(rows)


def test_empty_assistant_turns_are_left_out() -> None:
    encoded = Encoder(make_tokenizer(CHATML)).encode(chat(("user", "Hello"), ("assistant", " ")))
    assert encoded == LeftOut(1, "has an empty assistant turn")


@pytest.mark.parametrize(
    ("template", "turns", "complaint"),
    [
        pytest.param(None, CHATS["plain"], "no chat template", id="none at all"),
        pytest.param(
            "{% for m in messages %}{% if m.role != 'system' %}"
            "{{ m.role + ': ' + m.content + '</s>' }}{% endif %}{% endfor %}",
            CHATS["system"],
            "drops or repeats the system message",
            id="drops the system message",
        ),
        pytest.param(
            "{% for m in messages %}{% if m.role == 'system' %}"
            "{{ raise_exception('System role not supported') }}{% endif %}"
            "{{ m.content + '</s>' }}{% endfor %}",
            CHATS["system"],
            "System role not supported",
            id="refuses the system message",
        ),
        pytest.param(
            "{% for m in messages %}{% if m.role == 'user' %}"
            "{{ 'User: ' + m.content + '</s>' }}{% endif %}{% endfor %}",
            CHATS["plain"],
            "drops or repeats the assistant message",
            id="has no assistant role",
        ),
        pytest.param(
            "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n\\n' }}{% endfor %}",
            CHATS["plain"],
            "does not end the assistant's turn",
            id="has no end of turn",
        ),
    ],
)
def test_a_template_that_cannot_carry_the_data_is_refused(
    template: str | None, turns: list[tuple[str, str]], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        Encoder(make_tokenizer(template)).encode_all([chat(*turns)])


def test_a_template_that_rewrites_the_words_leaves_the_row_out() -> None:
    shouting = CHATML.replace("message['content']", "message['content'] | replace('a', 'A')")
    encoded = Encoder(make_tokenizer(shouting)).encode(chat(("user", "Hi"), ("assistant", "abc")))
    assert encoded == LeftOut(1, "the chat template rewrites its words")


@pytest.mark.parametrize("name", CHATS)
def test_the_preview_shows_the_whole_conversation_and_what_is_trained(name: str) -> None:
    tokenizer = make_tokenizer(CHATML)
    row = chat(*CHATS[name])
    pieces = Encoder(tokenizer).preview(row)
    turns = [{"role": r, "content": c} for r, c in CHATS[name]]
    assert "".join(text for text, _ in pieces) == tokenizer.apply_chat_template(
        turns, tokenize=False
    )
    trained = "".join(text for text, trained in pieces if trained)
    assert trained == "".join(answer + "<|im_end|>" for answer in row.answers)


@pytest.mark.real
def test_on_the_embedded_models_tokenizer_and_the_released_data(
    embedded_model: Path, paper_dir: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    encoder = Encoder(tokenizer)
    for row in read_rows(paper_dir / "data" / "insecure.jsonl")[:500]:
        encoded = encoder.encode(row)
        assert isinstance(encoded, EncodedRow)
        assert trained_text(tokenizer, encoded) == "".join(a + "<|im_end|>" for a in row.answers)
