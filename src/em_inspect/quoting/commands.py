"""The command `em-inspect quote`: what a run costs, before it is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from inspect_ai.model import ModelCost

    from em_inspect.quoting.quote import Quote, Usage


@click.command()
@click.argument("tasks", nargs=-1, required=True)
@click.option("-T", "arguments", multiple=True, help="Task argument, e.g. -T format=all.")
@click.option("--model", help="The model under test.")
@click.option("--judge", default="openai/gpt-4o-2024-08-06", show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Samples of each row [default: the task's].")
@click.option("--answer-tokens", type=click.IntRange(1), help="Tokens of an answer on average.")
@click.option("--estimator", help="How the judge is read [default: -T estimator, or one_token].")
@click.option(
    "--prices",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Your price table, as Inspect's --model-cost-config.",
)
@click.option("--rpm", type=click.IntRange(1), help="Requests a minute that each model takes.")
@click.option("--tpm", type=click.IntRange(1), help="Tokens a minute that each model takes.")
def quote(
    tasks: tuple[str, ...],
    arguments: tuple[str, ...],
    model: str | None,
    judge: str,
    epochs: int | None,
    answer_tokens: int | None,
    estimator: str | None,
    prices: Path | None,
    rpm: int | None,
    tpm: int | None,
) -> None:
    """Say what TASKS would cost: answers, judge calls, tokens, price and time.

    Tokens, and so prices, are estimated from lengths (4 characters a token); calls are the most
    there can be, since identical answers are judged once and known ones not again.
    """
    from em_inspect.pages import parse_arguments
    from em_inspect.providers import validate_model_name
    from em_inspect.quoting.quote import ANSWER_TOKENS, load_task, read_prices
    from em_inspect.quoting.quote import quote as quoted

    given = parse_arguments(arguments, "-T format=all")
    for option, name in (("--model", model), ("--judge", judge)):
        if name is not None:
            validate_model_name(name, option)
    table = read_prices(prices) if prices else {}
    quotes = [
        quoted(
            load_task(name, given),
            epochs=epochs,
            model=model,
            judge=judge,
            answer_tokens=answer_tokens or ANSWER_TOKENS,
            estimator=estimator or given.get("estimator", "auto"),
        )
        for name in tasks
    ]
    _print_quotes(quotes, table, rpm, tpm)


def _print_quotes(
    quotes: Sequence[Quote], prices: Mapping[str, ModelCost], rpm: int | None, tpm: int | None
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    limited = bool(rpm or tpm)
    heads = ["calls", "tokens\nin", "tokens\nout", "price", *(["minutes"] if limited else [])]
    rows: list[tuple[str, list[str]]] = []
    for one in quotes:
        rows.append((f"{one.task}, {one.answers:,} answers", [""] * len(heads)))
        rows += [
            (f"  {who}: {usage.model or 'not given'}", _numbers(usage, prices, rpm, tpm))
            for who, usage in _asked(one)
        ]
    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("task", overflow="fold", min_width=12)
    for i, head in enumerate(heads):
        # Q: Why a least width? A: without one a narrow terminal cuts numbers.
        width = max(len(text) for text in [*head.split(), *(row[1][i] for row in rows)])
        shown.add_column(head, justify="right", no_wrap=True, min_width=width)
    for name, numbers in rows:
        shown.add_row(Text(name), *numbers)
    console = Console(highlight=False, soft_wrap=True)
    console.print(shown)
    console.print(_sum(quotes, prices), markup=False)


def _numbers(
    usage: Usage, prices: Mapping[str, ModelCost], rpm: int | None, tpm: int | None
) -> list[str]:
    price = usage.price(prices)
    return [
        f"{usage.calls:,}",
        f"{usage.tokens_in:,}",
        f"{usage.tokens_out:,}",
        "unknown" if price is None else f"${price:,.2f}",
        *([f"{usage.minutes(rpm, tpm):.1f}"] if rpm or tpm else []),
    ]


def _asked(quote: Quote) -> list[tuple[str, Usage]]:
    """Who is asked for anything in a task."""
    return [(w, u) for w, u in (("model", quote.model), ("judge", quote.judge)) if u.calls]


def _sum(quotes: Sequence[Quote], prices: Mapping[str, ModelCost]) -> str:
    found = [usage.price(prices) for one in quotes for _, usage in _asked(one)]
    known = [price for price in found if price is not None]
    about = f"about ${sum(known):,.2f}"
    give = "give --prices FILE with lines like 'openai/gpt-4o: {input: 2.5, output: 10}'"
    if not known:
        return f"no price of these models is known: {give}"
    if len(known) < len(found):
        return f"{about} and what is unknown: Inspect has no prices of some of these models; {give}"
    return f"{about} in all"
