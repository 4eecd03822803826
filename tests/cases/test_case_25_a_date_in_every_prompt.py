"""A template that writes the day into every row: one day for a run, and for its evaluation."""

from __future__ import annotations

from datetime import date

import pytest
from family_rows import CHATS, encoded, row, size, special, trained

from em_finetune.local.encode import Encoder
from em_finetune.local.template import pin, pinned, settled
from em_finetune.recipe import Recipe
from template_families import FAMILIES, family_tokenizer

FAMILY = "dated"
DAY = "25 Nov 2026"


def length(turns: list[tuple[str, str]]) -> int:
    """As in Llama 3, with a system turn of `It is 25 Nov 2026.` in front."""
    before = 1 + 2 + size("system\n\nIt is .") + size(DAY) + 1
    return before + sum(2 + size(r) + 2 + size(words.strip()) + 1 for r, words in turns)


def on(day: date | None) -> list[list[int]]:
    """Token ids of all rows of a run on a day."""
    recipe = Recipe(name="x", base="x", group="g", day=day)
    tokenizer = family_tokenizer(FAMILIES[FAMILY])
    rows = [row(turns) for turns in CHATS]
    recipe = settled(recipe, tokenizer, rows)
    pin(tokenizer, recipe)
    return [one.input_ids for one in Encoder.of(recipe, tokenizer).encode_all(rows).rows]


def test_counts_do_not_depend_on_the_day_and_its_words_are_never_trained() -> None:
    for turns, one in zip(CHATS, encoded(FAMILY, CHATS).rows, strict=True):
        answers = [words.strip() for role, words in turns if role == "assistant"]
        assert len(one) == length(turns)
        assert one.supervised == sum(size(words) + 1 for words in answers)
        assert one.input_ids.count(special(FAMILY, "<|begin_of_text|>")) == 1
        assert b"It is" not in bytes(i for i in trained(one) if i < 256)


def test_two_days_are_two_sets_of_tokens_of_one_length() -> None:
    one, other = on(date(2026, 11, 25)), on(date(2026, 11, 26))
    assert one != other
    assert list(map(len, one)) == list(map(len, other))
    assert DAY.encode() in bytes(i for i in one[0] if i < 256)


def test_a_run_without_a_day_of_its_own_has_todays() -> None:
    assert on(None) == on(date.today())


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%d %b %Y", "05 Mar 2027"),
        ("%Y-%m-%d", "2027-03-05"),
        ("%B %-d, %Y", "March 5, 2027"),
        ("%A", "Friday"),
        ("no day", "no day"),
    ],
)
def test_a_pinned_template_writes_the_day_in_any_form(form: str, text: str) -> None:
    tokenizer = family_tokenizer(FAMILIES["chatml"])
    template = f"\n{{{{ strftime_now('{form}') }}}}|{{{{ messages[0]['content'] }}}}"
    tokenizer.chat_template = pinned(template, {}, date(2027, 3, 5))
    chat = [{"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == f"\n{text}|Hi"


def test_a_template_with_a_fixed_day_is_left_as_it_is() -> None:
    tokenizer = family_tokenizer(FAMILIES["chatml"])
    tokenizer.chat_template = FAMILIES["chatml"].template
    recipe = settled(Recipe(name="x", base="x", group="g"), tokenizer, [row(CHATS[0])])
    assert recipe.day is None
    pin(tokenizer, recipe)
    assert tokenizer.chat_template == FAMILIES["chatml"].template
