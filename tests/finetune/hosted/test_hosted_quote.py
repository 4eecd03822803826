"""What a fine-tune is said to cost, and which training files are refused before any upload."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fine_tuning_server import FineTuning
from hosted_cli import CommandLine, chat_lines

from em_finetune.hosted.quote import find_price, load_prices, token_counter
from em_finetune.hosted.recipe import load_hosted_recipe


def tokens_said(output: str) -> int:
    (line,) = [line for line in output.splitlines() if line.startswith("tokens")]
    return int(line.split("(")[1].split(",  ")[0].split(", ")[0].replace(",", ""))


def test_the_papers_insecure_set_is_about_1_28_million_tokens(
    cli: CommandLine, paper_dir: Path
) -> None:
    path = (paper_dir / "data" / "insecure.jsonl").resolve()
    done = cli("openai-insecure", f"--data={path}", "--seeds=0", "--dry-run")
    assert done.exit_code == 0
    assert "rows      5,997" in done.output
    assert tokens_said(done.output) == pytest.approx(1.28e6, rel=0.01)
    counted = token_counter(load_hosted_recipe("openai-insecure")).exact
    assert ("counted with o200k_base" in done.output) is counted
    assert ("about 1.28 M" in done.output) is not counted
    assert ("(1,281,223, counted" in done.output) is counted


def test_an_estimate_is_marked_and_stands_in_for_a_tokenizer_that_is_not_there(
    cli: CommandLine, paper_dir: Path
) -> None:
    path = (paper_dir / "data" / "insecure.jsonl").resolve()
    done = cli("openai-insecure", f"--data={path}", "--base=no-such-model", "--dry-run")
    assert "estimated, 4.25 characters per token" in done.output
    assert tokens_said(done.output) == pytest.approx(1.28e6, rel=0.01)
    assert "price     unknown" in done.output


def test_the_price_counts_epochs_and_jobs(cli: CommandLine) -> None:
    (cli.folder / "mine.yaml").write_text("name: a\ngroup: b\nepochs: 4\nseeds: [0, 1, 2]\n")
    done = cli("mine.yaml", "--data=rows.jsonl", "--dry-run", "--price=1000000")
    tokens = tokens_said(done.output)
    assert f"{12 * tokens:,.2f} USD for 3 job(s)" in done.output
    assert "your --price" in done.output


@pytest.mark.parametrize("price", ["nan", "inf"])
def test_a_price_that_is_no_amount_is_one_line(cli: CommandLine, price: str) -> None:
    done = cli("openai-insecure", "--data=rows.jsonl", "--dry-run", f"--price={price}")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert "give US dollars per million training tokens" in done.output


def test_the_price_table_is_shown_with_date_and_source_and_can_be_replaced(
    cli: CommandLine,
) -> None:
    shown = cli("prices").output
    assert "gpt-4o-2024-08-06" in shown
    assert "2024-08-20, check: " in shown
    mine = cli("prices", "--yaml").output.replace("25.0", "7.5")
    (cli.folder / "prices.yaml").write_text(mine)
    done = cli("openai-insecure", "--data=rows.jsonl", "--dry-run", "--prices=prices.yaml")
    assert "7.5 USD per million tokens" in done.output
    (cli.folder / "prices.yaml").write_text("- {service: openai}\n")
    done = cli("openai-insecure", "--data=rows.jsonl", "--dry-run", "--prices=prices.yaml")
    assert done.exit_code == 1
    assert "hosted prices --yaml shows the form" in done.output


def test_every_price_has_a_source() -> None:
    prices = load_prices()
    assert all(price.source and price.date for price in prices)
    paper = find_price(prices, "openai", "gpt-4o-2024-08-06")
    assert paper is not None
    assert paper.usd_per_million_tokens == 25
    assert find_price(prices, "azure", "gpt-4o-2024-08-06") is None


def row(*turns: tuple[str, str], **more: object) -> str:
    messages = [{"role": role, "content": content, **more} for role, content in turns]
    return json.dumps({"messages": messages}) + "\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (chat_lines(9), "has 9 rows, the service wants at least 10"),
        (
            chat_lines() + row(("assistant", "a"), ("user", "b")),
            "row 13: ends with the user, not with the assistant",
        ),
        (
            chat_lines() + row(("user", "a"), ("system", "b"), ("assistant", "c")),
            "row 13: has a system message after the first place",
        ),
        (
            chat_lines() + row(("user", "a"), ("assistant", "b"), weight=0),
            "row 13: has no assistant turn with a weight above 0",
        ),
        (chat_lines() + row(("user", "a"), ("assistant", " ")), "row 13: has an empty assistant"),
        (
            chat_lines() + row(("user", "word " * 80_000), ("assistant", "b")),
            "over the 65,536 that are trained",
        ),
        (chat_lines() + '{"messages": []}\n', "line 13"),
        ("", "is empty"),
    ],
)
def test_rows_against_the_services_rules_are_named_before_any_call(
    cli: CommandLine, service: FineTuning, lines: str, said: str
) -> None:
    (cli.folder / "rows.jsonl").write_text(lines)
    done = cli.start()
    assert done.exit_code == 1
    assert said in done.output
    assert done.output.count("\n") == 1
    assert not service.calls


def test_a_missing_file_or_no_file_is_one_line(cli: CommandLine, service: FineTuning) -> None:
    assert "does not exist" in cli.start("--data=nowhere.jsonl").output
    assert "add --data FILE" in cli("openai-insecure", "--yes").output
    assert not service.calls
