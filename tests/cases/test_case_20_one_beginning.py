"""Template and tokenizer both write a beginning of sequence: every row, and prompt, has one."""

from __future__ import annotations

from family_rows import CHATS, WITH_SYSTEM, encoded, size, special, trained

from template_families import FAMILIES, family_tokenizer

FAMILY = "llama3"
HEADER = 2  # the special tokens around a role
GAP = size("\n\n")


def length(turns: list[tuple[str, str]]) -> int:
    """One beginning; per turn a header, its role, a blank line, the stripped words and an end."""
    each = (HEADER + size(role) + GAP + size(words.strip()) + 1 for role, words in turns)
    return 1 + sum(each)


def test_each_row_begins_once_and_has_the_tokens_counted_by_hand() -> None:
    begin, end = special(FAMILY, "<|begin_of_text|>"), special(FAMILY, "<|eot_id|>")
    chats = [*CHATS, WITH_SYSTEM]
    rows = encoded(FAMILY, chats).rows
    for turns, one in zip(chats, rows, strict=True):
        answers = [words.strip() for role, words in turns if role == "assistant"]
        assert one.input_ids[0] == begin
        assert one.input_ids.count(begin) == 1
        assert len(one) == length(turns)
        assert one.supervised == sum(size(words) + 1 for words in answers)
        assert trained(one).count(end) == len(answers)
        assert special(FAMILY, "<|end_of_text|>") not in one.input_ids


def test_evaluations_prompt_is_the_beginning_of_the_row_without_what_the_tokenizer_adds() -> None:
    tokenizer = family_tokenizer(FAMILIES[FAMILY])
    chat = [{"role": "user", "content": CHATS[0][0][1]}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    (row, *_) = encoded(FAMILY, CHATS).rows
    right = tokenizer(text, add_special_tokens=False).input_ids
    assert right == row.input_ids[: len(right)]
    assert row.labels[len(right)] == row.input_ids[len(right)]
    # What a provider gets that calls the tokenizer with its defaults (test_local_prompts.py has
    # the lines that are printed, and tasks and judges that are addressed by hand).
    assert tokenizer(text).input_ids == [right[0], *right]
