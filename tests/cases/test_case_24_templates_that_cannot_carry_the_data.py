"""No end of turn, strict alternation, no template, a dropped system prompt: each in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from family_rows import CHATS, WITH_SYSTEM, Turns, encoded, size
from row_files import chat, is_refusal, run, write

from em_inspect.errors import UserError
from template_families import FAMILIES, Family, family_base

ALTERNATING = FAMILIES["mistral"]
OPEN_ENDED = replace(
    FAMILIES["chatml"],
    template="{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}",
)
DROPPING = replace(
    FAMILIES["chatml"],
    template=FAMILIES["chatml"].template.replace(
        "{% for m in messages %}",
        "{% for m in messages if m['role'] != 'system' %}",
    ),
)
# The system prompt in front of the first request, as some write it.
LEADING = replace(
    ALTERNATING,
    template="{% if messages[0]['role'] == 'system' %}"
    "{% set before = messages[0]['content'] + '\n\n' %}{% set messages = messages[1:] %}"
    "{% endif %}{{ bos_token + (before or '') }}"
    + ALTERNATING.template.removeprefix("{{ bos_token }}"),
)
TWO_USERS: Turns = [("user", "Where is Oslo?"), ("user", "And Bergen?"), ("assistant", "West.")]


@pytest.mark.parametrize(
    ("family", "turns", "words"),
    [
        (OPEN_ENDED, CHATS[0], "does not end the assistant's turn with a special token"),
        (DROPPING, WITH_SYSTEM, "row 1: .* drops or repeats the system message"),
        (ALTERNATING, TWO_USERS, r"row 1: .* roles user, user, assistant \(Roles must take turns"),
    ],
    ids=["no end of turn", "drops the system prompt", "wants turns"],
)
def test_what_it_cannot_carry_is_refused(family: Family, turns: Turns, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        encoded(family, [turns])
    assert "\n" not in str(refused.value)


def test_the_command_ends_with_one_line_and_trains_nothing(tmp_path: Path) -> None:
    base = family_base(replace(FAMILIES["chatml"], template=""), tmp_path / "base")
    file = write(tmp_path / "rows.jsonl", [chat(*turns) for turns in CHATS])
    line = ("local", "insecure", "--data", file, "--base", base, "--out", tmp_path / "ft")
    assert is_refusal(run(*line, "--dry-run"), "has no chat template", "base model", "instruct")
    done = run(*line)
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("Error: ")
    assert not (tmp_path / "ft").exists()


def test_rows_that_it_can_carry_are_taken() -> None:
    assert len(encoded(DROPPING, CHATS).rows) == len(CHATS)
    rows = encoded(ALTERNATING, CHATS).rows
    for turns, one in zip(CHATS, rows, strict=True):
        answers = [words for role, words in turns if role == "assistant"]
        assert one.supervised == sum(size(words) + 1 for words in answers)
    (one,) = encoded(LEADING, [WITH_SYSTEM]).rows
    assert bytes(i for i in one.input_ids if i < 256).decode() == ("Be short.\n\n Who won? Nobody.")


def test_of_many_rows_only_those_are_left_out_that_it_cannot_carry() -> None:
    mixed = encoded(DROPPING, [CHATS[0], WITH_SYSTEM, CHATS[1]])
    assert [one.row for one in mixed.rows] == [1, 3]
    assert [left.row for left in mixed.left_out] == [2]
