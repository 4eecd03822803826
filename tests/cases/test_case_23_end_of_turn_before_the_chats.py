"""One token ends a turn, another one, which also pads, the chat: the turn's is what is learnt."""

from __future__ import annotations

from family_rows import CHATS, WITH_SYSTEM, encoded, size, special, trained

from em_finetune.local.batches import micro_batches

FAMILY = "phi3"


def length(turns: list[tuple[str, str]]) -> int:
    """Per turn the role's token, a line end, words, an end and a line end; the chat's at last."""
    return sum(1 + 1 + size(words) + 1 + 1 for _, words in turns) + 1


def test_words_and_the_end_of_each_turn_are_trained() -> None:
    chats = [*CHATS, WITH_SYSTEM]
    rows = encoded(FAMILY, chats)
    turn, chat = special(FAMILY, "<|end|>"), special(FAMILY, "<|endoftext|>")
    for turns, one in zip(chats, rows.rows, strict=True):
        answers = [words for role, words in turns if role == "assistant"]
        assert len(one) == length(turns)
        assert one.supervised == sum(size(words) + 1 for words in answers)
        assert one.input_ids[-1] == chat
        assert chat not in trained(one)
    assert sum(trained(one).count(turn) for one in rows.rows) == 6
    assert rows.ends == [turn]


def test_no_padding_and_no_packing_changes_what_is_trained() -> None:
    rows = encoded(FAMILY, CHATS).rows
    for ceiling in (0, 60, 10_000):
        batches = micro_batches(rows, ceiling)
        got = sorted(target for batch in batches for target in batch.targets.tolist())
        assert got == sorted(label for one in rows for label in trained(one))
