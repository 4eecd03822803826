"""The command `em-inspect quote`: what a run costs, before it is started."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("tasks", nargs=-1, required=True)
@click.option("-T", "arguments", multiple=True, help="Task argument, e.g. -T format=all.")
@click.option("--model", help="The model under test.")
@click.option("--judge", default="openai/gpt-4o-2024-08-06", show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Samples of each row [default: the task's].")
@click.option("--answer-tokens", type=click.IntRange(1), help="Tokens of an answer on average.")
@click.option("--estimator", default="one_token", show_default=True)
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
    estimator: str,
    prices: Path | None,
    rpm: int | None,
    tpm: int | None,
) -> None:
    """Say what TASKS would cost: answers, judge calls, tokens, price and time.

    Tokens are estimated from lengths (4 characters a token); calls are the most there can be, since
    identical answers are judged once and known ones not again.
    """
    from rich.console import Console
    from rich.table import Table

    from em_inspect.pages import parse_arguments
    from em_inspect.quoting.quote import ANSWER_TOKENS, Usage, load_task, read_prices
    from em_inspect.quoting.quote import quote as quoted

    given = parse_arguments(arguments, "-T format=all")
    table = read_prices(prices) if prices else {}
    quotes = [
        quoted(
            load_task(name, given),
            epochs=epochs,
            model=model,
            judge=judge,
            answer_tokens=answer_tokens or ANSWER_TOKENS,
            estimator=estimator,
        )
        for name in tasks
    ]
    shown = Table("task", "asked", "calls", "tokens in", "tokens out", "price", "minutes")
    total, known = 0.0, True

    def row(task: str, who: str, usage: Usage) -> None:
        nonlocal total, known
        price = usage.price(table)
        total, known = total + (price or 0.0), known and price is not None
        shown.add_row(
            task,
            f"{who} {usage.model or '(not given)'}",
            f"{usage.calls:,}",
            f"{usage.tokens_in:,}",
            f"{usage.tokens_out:,}",
            "unknown" if price is None else f"${price:,.2f}",
            f"{usage.minutes(rpm, tpm):.1f}" if rpm or tpm else "no limits given",
        )

    for one in quotes:
        row(f"{one.task}, {one.answers:,} answers", "model", one.model)
        row("", "judge", one.judge)
    console = Console(highlight=False, width=None if Console().is_terminal else 160)
    console.print(shown)
    if known:
        console.print(f"at most ${total:,.2f} in all")
    else:
        console.print(
            f"at most ${total:,.2f} and what is unknown: Inspect has no prices of these models; "
            "give --prices FILE with lines like 'openai/gpt-4o: {input: 2.5, output: 10}'"
        )
