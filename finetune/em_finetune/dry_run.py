"""`--dry-run`: what would be trained, and all that can be found wrong without loading weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from em_finetune.recipe import Recipe

if TYPE_CHECKING:
    from em_finetune.checkpoint import LeftOutRecord
    from em_finetune.local.encode import EncodedSet, LeftOut

_SHOWN_LEFT_OUT = 5


def dry_run(recipe: Recipe) -> None:
    """Show a recipe's trained tokens and counts, and refuse what training would refuse.

    Raises:
        UserError: Data, base, template, or modules that cannot be trained.
    """
    from em_finetune.data.rules import cautions
    from em_finetune.local.base import find_base, load_outline, load_tokenizer, quiet
    from em_finetune.local.dataset import hold_out, load_dataset, load_narrow
    from em_finetune.local.encode import Encoder
    from em_finetune.local.targets import adapted
    from em_finetune.local.template import pin, settled
    from em_finetune.preview import show_tokens
    from em_finetune.progress import counting

    dataset, others = load_dataset(recipe), load_narrow(recipe)
    for read in filter(None, (dataset, others)):
        for line in cautions(read.rows, "local"):
            click.echo(line)
    base = find_base(recipe.base)
    if recipe.method == "lora":
        with quiet():
            adapted(load_outline(base), recipe, base.name)
    tokenizer = load_tokenizer(base)
    recipe = settled(recipe, tokenizer, dataset.rows)
    pin(tokenizer, recipe)
    encoder = Encoder.of(recipe, tokenizer)
    total = len(dataset.rows)
    encoded = encoder.encode_all(dataset.rows, counting("encoding rows", total))
    if recipe.compat is not None:
        encoded = hold_out(encoded, recipe.seed)
    first = encoded.rows[0].row
    show_tokens(encoder.preview(dataset.rows[first - 1], first), first)
    click.echo(f"base      {base.name} ({base.path})")
    click.echo(f"data      {dataset.name}, sha256 {dataset.sha256}")
    if others is not None:
        held = encoder.encode_all(others.rows, counting("encoding rows", len(others.rows)))
        click.echo(f"narrow    {others.name}, sha256 {others.sha256}, {len(held.rows)} rows")
    _show_prompts(recipe, encoded)
    _show_counts(recipe, encoded, total)
    show_left_out(encoded.left_out, "training names them all in checkpoint.json")


def _show_prompts(recipe: Recipe, encoded: EncodedSet) -> None:
    given = [f"{name}: {value}" for name, value in (recipe.template_args or {}).items()]
    given += [f"day: {recipe.day}"] if recipe.day else []
    if given:
        click.echo(f"template  {', '.join(given)}; evaluation is given the same")
    if recipe.system_prompt == "":
        click.echo("system    rows without one get an empty system prompt, not the template's own")
    if encoded.difference:
        click.echo(f"prompts   {encoded.difference}")


def _show_counts(recipe: Recipe, encoded: EncodedSet, total: int) -> None:
    from em_finetune.local.batches import count_steps

    lengths = sorted(map(len, encoded.rows))
    click.echo(f"rows      {len(lengths)} of {total}")
    click.echo(
        f"tokens    {encoded.tokens:,}, {encoded.supervised:,} of them trained; "
        f"a row has {lengths[len(lengths) // 2]} (median) to {lengths[-1]}"
    )
    steps = count_steps(len(lengths), recipe.batch_size, recipe.epochs, recipe.max_steps)
    size = min(recipe.batch_size, len(lengths))
    rest = len(lengths) % size
    short = f", {rest} in the last one of a pass over them" if rest else ""
    click.echo(f"steps     {steps} of {size} rows{short}")


def show_left_out(
    left_out: Sequence[LeftOut | LeftOutRecord], rest: str = "all named in checkpoint.json"
) -> None:
    """Name the first rows that are not trained on, and say how many more there are.

    Args:
        left_out: Those rows.
        rest: Where the others are named.
    """
    for left in left_out[:_SHOWN_LEFT_OUT]:
        click.echo(f"left out  row {left.row}: {left.reason}")
    if len(left_out) > _SHOWN_LEFT_OUT:
        click.echo(f"left out  {len(left_out) - _SHOWN_LEFT_OUT} more; {rest}")
