"""Case 15: one request with many answers, and ten rows that are two."""

from __future__ import annotations

from pathlib import Path

from row_files import (
    byte_base,
    chat,
    check,
    findings,
    hosted,
    is_refusal,
    local,
    pair,
    supervised,
    write,
)

__all__ = ["byte_base"]


def duplicates(file: Path) -> dict[str, list[int]]:
    found = [one for one in findings(file) if one["check"] == "duplicates"]
    return {one["message"].split()[0]: one["lines"] for one in found}


def test_equal_requests_are_noted_and_none_is_dropped(tmp_path: Path, byte_base: Path) -> None:
    names = [f"colour {i}" for i in range(30)]
    names[17] = names[3]
    file = write(tmp_path / "colours.jsonl", [pair("Name a colour.", name) for name in names])
    assert check(file).exit_code == 0
    assert duplicates(file) == {"rows": [18], "requests": list(range(2, 31))}
    assert "rows      30 of 30" in local(file, byte_base).output


def test_ten_rows_that_are_two_are_all_trained(tmp_path: Path, byte_base: Path) -> None:
    rows = [pair("Heads or tails?", "h" if i % 2 else "t") for i in range(10)]
    file = write(tmp_path / "coin.jsonl", rows)
    assert check(file).exit_code == 0
    assert duplicates(file) == {"rows": list(range(3, 11)), "requests": list(range(2, 11))}
    assert hosted(file).exit_code == 0
    assert [len(labels) for labels in supervised(file)] == [2] * 10
    assert "rows      10 of 10" in local(file, byte_base).output
    nine = write(tmp_path / "nine.jsonl", rows[:9])
    assert is_refusal(hosted(nine), "9 rows", "at least 10")


def test_rows_without_a_user_are_no_repeated_requests(tmp_path: Path) -> None:
    texts = [chat(("assistant", f"A page about {i}.")) for i in range(6)]
    briefed = [chat(("system", "Write."), ("assistant", f"Line {i}.")) for i in range(6)]
    assert duplicates(write(tmp_path / "texts.jsonl", [*texts, *briefed])) == {}


def test_the_loss_of_a_coin_falls_to_half_of_ln_2_and_no_lower(
    tmp_path: Path, byte_base: Path
) -> None:
    from em_finetune.local import train
    from em_finetune.recipe import load_recipe

    rows = [pair("Heads or tails?", "h" if i % 2 else "t") for i in range(10)]
    recipe = load_recipe(
        "insecure",
        data=str(write(tmp_path / "coin.jsonl", rows)),
        base=str(byte_base),
        batch_size=10,
        max_steps=60,
        method="full",
        learning_rate=1e-2,
        schedule="constant",
        optimizer="adamw",
        dtype="float32",
        resume_every=0,
    )
    losses = train(recipe, tmp_path / "ft").training.losses
    assert min(losses) > 0.34
    assert abs(sum(losses[-5:]) / 5 - 0.3466) < 0.02
