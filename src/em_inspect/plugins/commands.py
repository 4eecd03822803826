"""The commands `em-inspect tasks` and `em-inspect new-plugin`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Tasks of all of Inspect's plugins.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tasks(names: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """List every installed task with its arguments, and what a run of it asks.

    With NAMES, those tasks alone (`free_form` or `em_inspect/free_form`). The counts are those of
    a run with the task's defaults; `--epochs` and `--limit` change them.
    """
    from em_inspect.errors import UserError
    from em_inspect.plugins.listing import installed_tasks

    found = installed_tasks(everything)
    wanted = [t for t in found if not names or {t.name, t.name.split("/")[-1]} & set(names)]
    if not wanted:
        raise UserError(f"no task named {', '.join(names)}: em-inspect tasks lists them")
    if as_json:
        click.echo(json.dumps([asdict(t) | {"answers": t.answers} for t in wanted], indent=2))
        return
    for task in wanted:
        click.secho(task.name, bold=True, nl=False)
        click.echo(f"  {task.summary}")
        if task.problem:
            click.echo(f"    {task.problem}")
        else:
            click.echo(f"    {_counts(task.rows, task.epochs, task.judge_calls)}")
        for line in _wrapped(task.arguments):
            click.echo(f"    {line}")
        click.echo()


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where the package's directory is made [default: here].",
)
def new_plugin(name: str, into: Path) -> None:
    """Write a package NAME with tasks, a solver, questions and rubrics of its own to begin with."""
    from em_inspect.plugins.new_plugin import write_plugin

    folder = write_plugin(name, into)
    click.echo(f"{folder} written. What to type next:")
    click.echo(f"  pip install -e {folder}")
    click.echo("  em-inspect tasks")
    click.echo(f"  inspect eval {name}/everyday_advice --model MODEL --epochs 5")


def _counts(rows: int | None, epochs: int, judge_calls: int | None) -> str:
    answers = (rows or 0) * epochs
    asked = f"{rows:,} rows × {epochs} epochs = {answers:,} answers"
    if judge_calls is None:
        return asked
    return f"{asked}, {f'{judge_calls:,} judge calls' if judge_calls else 'no judge'}"


def _wrapped(arguments: dict[str, str], width: int = 96) -> list[str]:
    lines = [""]
    for name, default in arguments.items():
        piece = f"{name}={default}"
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += f"{piece}  "
    return [line.rstrip() for line in lines if line]
