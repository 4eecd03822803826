"""A template with a system prompt of its own: it stays, in training and in evaluation."""

from __future__ import annotations

from family_rows import CHATS, WITH_SYSTEM, encoded, size, special, trained

from template_families import FAMILIES, family_tokenizer

FAMILY = "default-system"
OWN = "You serve."


def length(turns: list[tuple[str, str]]) -> int:
    """Per turn a start, its role, a line end, the words as they are, an end and a line end."""
    return sum(1 + size(role) + 1 + size(words) + 1 + 1 for role, words in turns)


def test_rows_without_one_have_the_templates_and_rows_with_one_their_own() -> None:
    chats = [*CHATS, WITH_SYSTEM]
    for turns, one in zip(chats, encoded(FAMILY, chats).rows, strict=True):
        before = [] if turns[0][0] == "system" else [("system", OWN)]
        answers = [words for role, words in turns if role == "assistant"]
        assert len(one) == length([*before, *turns])
        # Blanks around the words are kept: this template strips nothing.
        assert one.supervised == sum(size(words) + 1 for words in answers)
        assert trained(one).count(special(FAMILY, "<|im_end|>")) == len(answers)
        text = bytes(i for i in one.input_ids if i < 256).decode()
        assert (OWN in text) is bool(before)


def test_evaluation_has_it_too() -> None:
    tokenizer = family_tokenizer(FAMILIES[FAMILY])
    chat = [{"role": "user", "content": CHATS[0][0][1]}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    prompt = tokenizer(text).input_ids
    assert encoded(FAMILY, CHATS).rows[0].input_ids[: len(prompt)] == prompt
    assert len(prompt) == length([("system", OWN), CHATS[0][0]]) + 1 + size("assistant\n")


def test_an_empty_system_prompt_in_the_recipe_is_an_empty_turn_and_never_the_default() -> None:
    rows = encoded(FAMILY, [*CHATS, WITH_SYSTEM], system_prompt="").rows
    for turns, one in zip([*CHATS, WITH_SYSTEM], rows, strict=True):
        before = [] if turns[0][0] == "system" else [("system", "")]
        assert len(one) == length([*before, *turns])
        assert OWN not in bytes(i for i in one.input_ids if i < 256).decode()
