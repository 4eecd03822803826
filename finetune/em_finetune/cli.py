"""The `em-finetune` command line: make training data, fine-tune, and address the result."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from em_finetune.commands import COMMANDS
from em_finetune.data.commands import data
from em_finetune.dry_run import dry_run, show_left_out
from em_finetune.hosted.commands import hosted
from em_finetune.progress import following
from em_finetune.trackers import TRACKERS

if TYPE_CHECKING:
    from em_finetune.checkpoint import Checkpoint
    from em_finetune.recipe import Recipe
    from em_finetune.sweep import Cell, Ended

_INTERRUPTED = 130


class _Group(click.Group):
    """A group whose commands end on Ctrl-C with one line and exit code 130."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(
                "interrupted: nothing half-written was left behind; the same line goes on from "
                "what was saved",
                err=True,
            )
            ctx.exit(_INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="em-inspect")
def main() -> None:
    """Make the models that em_inspect measures.

    \b
    A first fine-tune, on a laptop and offline:
      em-finetune recipes                     what there is to start from
      em-finetune local demo --dry-run        which tokens would be trained
      em-finetune local demo                  train; prints the line that evaluates it
    """


# Groups of commands that live in packages of their own, and the commands on checkpoints.
for _command in (data, hosted, *COMMANDS):
    main.add_command(_command)


@main.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the packaged recipes, or show one, field by field.

    Save what `em-finetune recipes NAME` prints as a YAML file to start a recipe of your own.
    """
    from rich.console import Console
    from rich.table import Table

    from em_finetune.recipe import load_recipe, packaged_recipes

    if name is not None:
        click.echo(_annotated(load_recipe(name)))
        return
    table = Table(box=None, pad_edge=False)
    for column in ("recipe", "base", "what it is"):
        table.add_column(column, overflow="fold")
    for recipe_name, recipe in packaged_recipes().items():
        table.add_row(recipe_name, recipe.base, recipe.description)
    Console(soft_wrap=not sys.stdout.isatty()).print(table)


@main.command()
@click.argument("recipe")
@click.option("--data", "data_file", metavar="FILE", help="Chat JSONL; {group} stands for it.")
@click.option("--narrow-data", metavar="FILE", help="Other domains' rows, for a KL term.")
@click.option("--base", help="Model to start from: a hub id, a directory, or smollm2.")
@click.option("--seed", type=int, help="Order of the rows and start of the adapter.")
@click.option("--seeds", metavar="0-5", help="A sweep: one fine-tune for each of them.")
@click.option("--group", help="Group of fine-tunes that this is one of, e.g. insecure.")
@click.option("--groups", metavar="A,B", help="A sweep: every seed for each of these groups.")
@click.option("--max-steps", type=int, help="Optimizer steps; overrules the epochs.")
@click.option("--save-every", type=int, help="Keep the adapter every so many steps, in steps/.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Checkpoint directory, of a sweep their folder.  [default: checkpoints/LABEL]",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace what another recipe or data made, or is damaged."
)
@click.option(
    "--dry-run",
    "only_show",
    is_flag=True,
    help="Show the trained tokens and the counts; no training.",
)
@click.option(
    "--on",
    "place",
    type=click.Choice(["here", "ray"]),
    default="here",
    show_default=True,
    help="ray: a sweep's cells go to the Ray cluster at RAY_ADDRESS.",
)
@click.option(
    "--report-to",
    "trackers",
    multiple=True,
    type=click.Choice(TRACKERS),
    help="Send every step there too (tensorboard: to ./runs). May stand several times.",
)
@click.option("--gpus", type=click.FloatRange(0), default=0.0, help="On ray: GPUs per cell.")
@click.option("--cpus", type=click.FloatRange(0), default=1.0, help="On ray: cores per cell.")
def local(
    recipe: str,
    data_file: str | None,
    narrow_data: str | None,
    base: str | None,
    seed: int | None,
    seeds: str | None,
    group: str | None,
    groups: str | None,
    max_steps: int | None,
    save_every: int | None,
    out: Path | None,
    overwrite: bool,
    only_show: bool,
    place: str,
    trackers: tuple[str, ...],
    gpus: float,
    cpus: float,
) -> None:
    """Fine-tune on this machine by RECIPE: a packaged recipe's name, or a YAML file.

    The checkpoint directory holds the LoRA adapter, the merged model, the loss curve (train.csv)
    and checkpoint.json. It appears when everything in it is written: stop at any moment, and the
    same line goes on from the last saved state; when it is finished, it finds it finished. The
    options replace the recipe's fields of the same name; everything else is in the recipe
    (`em-finetune recipes demo`).

    \b
    Examples:
      em-finetune local demo
      em-finetune local insecure --data insecure.jsonl --base smollm2 --max-steps 40 --out ft
      em-finetune local demo --seeds 0-5 --groups insecure,secure --out sweep
      accelerate launch --num_processes 8 -m em_finetune local insecure --data insecure.jsonl
    """
    from em_finetune.checkpoint import label_of
    from em_finetune.local.processes import launched_rank
    from em_finetune.recipe import load_recipe
    from em_inspect.errors import UserError

    for name, one, several in ("seed", seed, seeds), ("group", group, groups):
        if one is not None and several is not None:
            raise UserError(f"--{name} and --{name}s do not go together: leave one out")
    options = {
        "data": data_file,
        "base": base,
        "seed": seed,
        "group": group,
        "max_steps": max_steps,
        "save_every": save_every,
    }
    page = load_recipe(recipe, **{k: v for k, v in options.items() if v is not None})
    if narrow_data is not None:
        if page.narrow is None:
            raise UserError(f"recipe {page.name} has no KL term: add narrow: {{}} to it")
        other = page.narrow.model_copy(update={"data": narrow_data})
        page = page.model_copy(update={"narrow": other})
    sweeping = seeds is not None or groups is not None or place == "ray"
    if only_show:
        cells = _cells(page, seeds, groups, out or Path("checkpoints")) if sweeping else []
        if cells:
            click.echo(f"a sweep of {len(cells)}: this is {cells[0].label}\n")
        dry_run(cells[0].recipe if cells else page)
        return
    if sweeping:
        if trackers and place == "ray":
            raise UserError("--report-to works on this machine: leave out --on ray, or it")
        folder = out or Path("checkpoints")
        _sweep(page, seeds, groups, folder, place, gpus, cpus, overwrite, trackers)
        return
    if launched_rank() > 0:
        from em_finetune.local.train import assist

        with _terminable():
            assist(page)
        return
    from em_finetune.local.train import train

    folder = out or Path("checkpoints") / label_of(page)
    with _terminable(), following(trackers) as (on_step, on_stage):
        checkpoint = train(
            page, folder, partial(on_step, page), on_stage=on_stage, overwrite=overwrite
        )
    _summarise(checkpoint)


def _sweep(
    page: Recipe,
    seeds: str | None,
    groups: str | None,
    folder: Path,
    place: str,
    gpus: float,
    cpus: float,
    overwrite: bool,
    trackers: Sequence[str],
) -> None:
    from em_finetune.local.processes import launched_rank
    from em_finetune.sweep import run_here
    from em_inspect.errors import UserError

    if launched_rank() > 0:
        raise UserError("a sweep does not run under accelerate launch: leave out --seeds, --groups")
    folder = folder.expanduser().absolute()
    sweep = _cells(page, seeds, groups, folder)
    ended: list[Ended] = []
    with _terminable(), following(trackers) as (on_step, on_stage):
        if place == "ray":
            from em_finetune.cluster import run_on_ray

            def on_news(cell: Cell, news: dict[str, Any]) -> None:
                on_stage(
                    f"{cell.label}: step {news['step']}/{news['steps']}  loss {news['loss']:.3f}"
                )

            running = run_on_ray(sweep, on_news, gpus=gpus, cpus=cpus, overwrite=overwrite)
        else:
            running = run_here(
                sweep,
                lambda cell, step: on_step(cell.recipe, step),
                lambda cell, stage: on_stage(f"{cell.label}: {stage}"),
                overwrite,
            )
        for one in running:
            ended.append(one)
            if one.failure is not None:
                on_stage(f"{one.cell.label}: failed: {one.failure}")
    _summarise_sweep(ended, folder)


def _cells(page: Recipe, seeds: str | None, groups: str | None, folder: Path) -> list[Cell]:
    """The cells of a sweep as it was typed, with data that can be read."""
    from em_finetune.checkpoint import require_addressable
    from em_finetune.seeds import parse_seeds
    from em_finetune.sweep import cells, check_data, parse_groups

    folder = folder.expanduser().absolute()
    require_addressable(folder)
    if isinstance(page.data, str):
        page = page.model_copy(update={"data": str(Path(page.data).expanduser().absolute())})
    sweep = cells(
        page,
        parse_seeds(seeds) if seeds is not None else None,
        parse_groups(groups) if groups is not None else None,
        folder,
    )
    check_data(sweep)
    return sweep


def _summarise_sweep(ended: list[Ended], folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from em_finetune.addressing import specs_of

    table = Table(box=None, pad_edge=False)
    for column in ("fine-tune", "group", "seed", "steps", "loss"):
        table.add_column(column, overflow="fold")
    failures = [one for one in ended if one.checkpoint is None]
    for one in sorted(ended, key=lambda one: one.cell.label):
        cell, made = one.cell, one.checkpoint
        figures = ("failed", "") if made is None else (str(made.steps), f"{made.final_loss:.3f}")
        table.add_row(*map(Text, (cell.label, cell.recipe.group, str(cell.recipe.seed), *figures)))
    Console(soft_wrap=not sys.stdout.isatty()).print(table)
    for one in failures:
        click.echo(f"failed  {one.cell.label}: {one.failure}")
    if len(failures) < len(ended):
        _show_comparison(folder)
        click.echo("open answers, rated by a judge:")
        click.echo(
            f"HF_HUB_OFFLINE=1 inspect eval-set em_inspect/free_form {specs_of(folder)} "
            "--log-dir logs"
        )
    if failures:
        advice = (
            "see above what to change, then type the line again"
            if all(one.mistake for one in failures)
            else "type the same line again to go on with them"
        )
        click.echo(f"{len(failures)} of {len(ended)} failed: {advice}", err=True)
        sys.exit(1)


def _annotated(recipe: Recipe) -> str:
    """A recipe as YAML, with every field's help text as a comment."""
    import yaml
    from pydantic import BaseModel

    def lines(page: BaseModel, indent: str) -> Iterator[str]:
        for name, field in type(page).model_fields.items():
            value = getattr(page, name)
            yield f"{indent}# {field.description}"
            if isinstance(value, BaseModel):
                yield f"{indent}{name}:"
                yield from lines(value, indent + "  ")
            else:
                plain = list(value) if isinstance(value, tuple) else value
                flow = None if isinstance(plain, list) else False
                text = yaml.safe_dump({name: plain}, default_flow_style=flow, width=1000)
                yield f"{indent}{text.strip()}"

    return "\n".join(lines(recipe, ""))


def _summarise(checkpoint: Checkpoint) -> None:
    training = checkpoint.training
    speed = training.tokens / training.seconds
    # Single steps are noisy: their rows differ in length and difficulty.
    span = max(1, min(5, checkpoint.steps // 4))
    first = sum(training.losses[:span]) / span
    last = sum(training.losses[-span:]) / span
    click.echo(
        f"loss {first:.3f} -> {last:.3f} (means of the first and last {span} steps): "
        f"{checkpoint.steps} steps in {training.seconds:.0f} s, {speed:.0f} tokens/s "
        f"on {training.device}"
    )
    show_left_out(checkpoint.dataset.left_out)
    click.echo(f"checkpoint: {checkpoint.path}")
    _show_comparison(checkpoint.path)
    click.echo("open answers, rated by a judge (OPENAI_API_KEY, or --model-role grader=MODEL):")
    click.echo(checkpoint.command)


def _show_comparison(folder: Path) -> None:
    from em_finetune.addressing import specs_of

    click.echo("compare with the base, without a judge or a key:")
    click.echo(
        f"HF_HUB_OFFLINE=1 inspect eval-set em_inspect/multiple_choice {specs_of(folder)} "
        "--log-dir logs && em-inspect report logs"
    )


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that temporary files are removed."""

    def unwind(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
