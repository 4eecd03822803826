"""`em-finetune models`, `serve`, `merge`, `curve`, `trajectory`, `card` and `push`."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path

import click

_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


def _require_weights(checkpoint: Path) -> None:
    from em_finetune.addressing import is_hosted
    from em_inspect.errors import UserError

    if is_hosted(checkpoint):
        raise UserError(
            f"{checkpoint} is a hosted fine-tune, which has no weights here: evaluate it at its "
            f"service, see em-finetune models {shlex.quote(str(checkpoint))}"
        )


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--via",
    type=click.Choice(["hf", "vllm"]),
    default="hf",
    show_default=True,
    help="hf: in Inspect's process. vllm: one server for all adapters of a base.",
)
@click.option("--base-url", metavar="URL", help="Of a running em-finetune serve.")
@click.option("--steps/--no-steps", default=True, help="Also what was kept along the way.")
@click.option("--base/--no-base", "bases", default=True, help="Also the base itself, to compare.")
@click.option("--specs", is_flag=True, help="Arguments for inspect eval-set, to stand in $(…).")
@click.option("--yaml", "as_yaml", is_flag=True, help="All that is known, as YAML.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def models(
    folder: Path,
    via: str,
    base_url: str | None,
    steps: bool,
    bases: bool,
    specs: bool,
    as_yaml: bool,
    as_json: bool,
) -> None:
    """List the models in FOLDER and below: bases, checkpoints, their steps, hosted fine-tunes.

    \b
    Evaluate all of them, the base and every step, in one line, without a judge, and compare:
      inspect eval-set em_inspect/multiple_choice $(em-finetune models ft --specs) --log-dir logs
      em-inspect report logs
    Say what they are, for a report:
      em-finetune models ft --yaml > models.yaml
      em-inspect report logs --groups models.yaml
    """
    import json

    import yaml

    from em_finetune.addressing import as_page, as_specs, list_bases, list_models
    from em_inspect.providers import as_options

    folder, via = folder.absolute(), "vllm" if base_url else via
    found = list_bases(folder, via, base_url) if bases else []
    found += list_models(folder, via, base_url, steps)
    if specs:
        click.echo(as_specs(found))
    elif as_json:
        click.echo(json.dumps(as_page(found), indent=2))
    elif as_yaml:
        click.echo(yaml.safe_dump(as_page(found), sort_keys=False, width=1000), nl=False)
    else:
        for one in found:
            words = ["--model", one.model]
            words += ["--model-base-url", one.base_url] if one.base_url else []
            words += as_options(one.args)
            seed = "" if one.seed is None else f"seed {one.seed}  "
            click.echo(f"{one.group}  {seed}{shlex.join(words)}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("folder", type=_FOLDER)
@click.argument("more", nargs=-1, type=click.UNPROCESSED)
@click.option("--base", help="Which base, where FOLDER has fine-tunes of several.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen at; 0.0.0.0 lets other machines in.",
)
@click.option("--port", type=int, default=8000, show_default=True)
@click.option("--tensor-parallel", type=click.IntRange(1), default=1, help="GPUs per layer.")
@click.option("--pipeline-parallel", type=click.IntRange(1), default=1, help="Stages of layers.")
@click.option("--machines", is_flag=True, help="Over several machines, by vLLM's Ray backend.")
@click.option(
    "--runtime-loras", is_flag=True, help="Let those who reach it load adapters from its disk."
)
@click.option("--print", "only_print", is_flag=True, help="Show the line; start nothing.")
def serve(
    folder: Path,
    more: tuple[str, ...],
    base: str | None,
    host: str,
    port: int,
    tensor_parallel: int,
    pipeline_parallel: int,
    machines: bool,
    runtime_loras: bool,
    only_print: bool,
) -> None:
    """Serve a base and all its adapters in FOLDER with one vLLM server.

    MORE goes to `vllm serve` as it is. Address the adapters with
    `em-finetune models FOLDER --base-url http://localhost:8000/v1`.
    """
    from em_finetune.serve import as_line, reach, serve_command
    from em_finetune.serve import serve as start

    command = serve_command(
        folder.absolute(),
        base,
        host=host,
        port=port,
        tensor_parallel=tensor_parallel,
        pipeline_parallel=pipeline_parallel,
        machines=machines,
        more=more,
        on_caution=lambda line: click.echo(line, err=True),
    )
    if open_to := reach(host, more):
        click.echo(open_to, err=True)
    click.echo(as_line(command, runtime_loras), err=not only_print)
    if not only_print:
        start(command, runtime_loras)


@click.command()
@click.argument("checkpoint", type=_FOLDER)
@click.option("--step", type=click.IntRange(1), help="What was kept there.  [default: the end]")
@click.option(
    "--scale",
    "scales",
    type=float,
    multiple=True,
    help="Strength of the adapter, 1 as trained; may be given several times.",
)
@click.option("--adapter-only", is_flag=True, help="Do not write whole models.")
def merge(
    checkpoint: Path, step: int | None, scales: tuple[float, ...], adapter_only: bool
) -> None:
    """Merge the adapter of CHECKPOINT into its base, weaker or stronger with --scale.

    Results go into CHECKPOINT/scaled/scale-X and are listed by em-finetune models.

    \b
    A sweep of strengths:
      em-finetune merge ft --scale 0.25 --scale 0.5 --scale 2
    """
    from em_finetune.checkpoint import load_checkpoint
    from em_finetune.strength import scaled

    _require_weights(checkpoint)
    made = load_checkpoint(checkpoint)
    for scale in scales or (1.0,):
        where = scaled(made, scale, step, not adapter_only, partial(click.echo, err=True))
        click.echo(str(where))


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Picture.")
def curve(folder: Path, output: Path | None) -> None:
    """Show the loss curves of FOLDER's checkpoints, as text or as a picture (.png, .svg, .pdf)."""
    from em_finetune.curve import as_text, draw, read_curves

    curves = read_curves(folder)
    for one in curves:
        click.echo(as_text(one))
    if output is not None:
        draw(curves, output)
        click.echo(str(output))


@click.command()
@click.argument("logs", type=_FOLDER)
@click.option("--models", "folder", type=_FOLDER, help="Checkpoints, to know their last steps.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Picture.")
def trajectory(logs: Path, folder: Path | None, output: Path | None) -> None:
    """Show LOGS' headline figures over the steps of trainings, as a table or a picture.

    \b
      inspect eval-set em_inspect/multiple_choice $(em-finetune models ft --specs) --log-dir logs
      em-finetune trajectory logs --models ft -o trajectory.png
    """
    from em_finetune.addressing import last_steps
    from em_finetune.results import as_table, draw, read_results

    results = read_results(logs)
    click.echo(as_table(results))
    if output is not None:
        draw(results, last_steps(folder) if folder else {}, output)
        click.echo(f"\n{output}", err=True)


@click.command()
@click.argument("checkpoint", type=_FOLDER)
@click.option("--logs", type=_FOLDER, help="Inspect's logs: the checkpoint's results go in.")
def card(checkpoint: Path, logs: Path | None) -> None:
    """Write the model card of CHECKPOINT: a warning, data, recipe, and results."""
    from em_finetune.card import write_card
    from em_finetune.checkpoint import read_record

    _require_weights(checkpoint)
    click.echo(str(write_card(read_record(checkpoint), logs)))


@click.command()
@click.argument("checkpoint", type=_FOLDER)
@click.argument("repository")
@click.option("--part", type=click.Choice(["adapter", "merged"]), help="[default: adapter]")
@click.option("--public", is_flag=True, help="Let everyone see it; else it is private.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def push(checkpoint: Path, repository: str, part: str | None, public: bool, yes: bool) -> None:
    """Upload CHECKPOINT to REPOSITORY (organisation/name) of the Hugging Face hub, privately."""
    from em_finetune.card import push as upload
    from em_finetune.checkpoint import ADAPTER, load_checkpoint
    from em_inspect.errors import UserError

    _require_weights(checkpoint)
    made = load_checkpoint(checkpoint)
    chosen = part or (ADAPTER if ADAPTER in made.parts else made.parts[0])
    seen = "publicly, for everyone to see" if public else "privately"
    question = f"upload the {chosen} of {made.label} to {repository}, {seen}?"
    if not yes:
        if not sys.stdin.isatty():
            raise UserError(f"{question} add --yes")
        click.confirm(question, abort=True)
    click.echo(upload(made, repository, chosen, public))


COMMANDS = (models, serve, merge, curve, trajectory, card, push)
