"""`em-finetune hosted`: start, follow and take over fine-tunes that a service makes."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from em_finetune.data.rules import cautions
from em_finetune.hosted.connecting import open_service
from em_finetune.hosted.creating import Clock, JobCreation, Patience
from em_finetune.hosted.display import following, table, tell_ended, tell_models, tell_waiting
from em_finetune.hosted.following import follow as follow_jobs
from em_finetune.hosted.following import poll_all
from em_finetune.hosted.hosted_checkpoint import read_hosted_checkpoint
from em_finetune.hosted.jobs import adopt as adopt_job
from em_finetune.hosted.jobs import cancel as cancel_job
from em_finetune.hosted.jobs import may_have_a_job, plan, recover
from em_finetune.hosted.jobs import start as start_jobs
from em_finetune.hosted.quote import (
    Price,
    Quote,
    TokenCounter,
    find_price,
    load_prices,
    token_counter,
)
from em_finetune.hosted.recipe import (
    SERVICES,
    HostedRecipe,
    load_hosted_recipe,
    packaged_names,
)
from em_finetune.hosted.refusals import printable
from em_finetune.hosted.secrets import hide
from em_finetune.hosted.service import Job, Limits, Service, UnclearError
from em_finetune.hosted.state import FileRecord, JobRecord, only_one, read_states
from em_finetune.hosted.training_file import TrainingFile, check_rules, training_file
from em_finetune.seeds import parse_seeds
from em_inspect.errors import UserError
from em_inspect.pages import did_you_mean


class _HostedGroup(click.Group):
    """`hosted RECIPE` is `hosted start RECIPE`; what goes wrong is told without keys."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            near = did_you_mean(args[0], self.commands, cutoff=0.75)
            if near and not Path(args[0]).exists():
                raise UserError(f"no hosted recipe or command {args[0]!r}{near}")
            args = ["start", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UnclearError as error:
            raise UserError(hide(str(error.refusal))) from None
        except UserError as error:
            raise UserError(hide(str(error))) from None


_OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("checkpoints"),
    show_default=True,
    help="Folder of the fine-tunes' directories.",
)
_BASE_URL = click.option("--base-url", metavar="URL", help="A server that speaks the same API.")
_TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(0.1),
    default=60.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
_SERVICE = click.option("--service", help="Who trains: openai, azure or tinker.")


@click.group(cls=_HostedGroup)
def hosted() -> None:
    """Fine-tune at a service: OpenAI, Azure OpenAI, others with OpenAI's API, or Tinker.

    Keys come from the environment (OPENAI_API_KEY, AZURE_OPENAI_API_KEY, TINKER_API_KEY) and are
    stored nowhere. Whatever is interrupted is gone on with by the same line: nothing is uploaded,
    started or paid for twice.

    \b
      em-finetune hosted recipes                                what there is to start from
      em-finetune hosted openai-insecure --data insecure.jsonl --dry-run
      em-finetune hosted openai-insecure --data insecure.jsonl --seeds 0-5
      em-finetune hosted status --follow                        until all have ended
    """


@hosted.command()
@click.argument("recipe")
@_SERVICE
@click.option(
    "--seeds", metavar="0-5", help="One job for each: 3, 0-5 or 0,2,4.  [default: recipe's]"
)
@click.option("--data", metavar="FILE", help="Chat JSONL to train on.")
@click.option("--base", help="Model to start from, as the service calls it.")
@click.option("--group", help="Group of fine-tunes that this is one of, e.g. insecure.")
@_OUT
@click.option("--yes", is_flag=True, help="Do not ask before paying.")
@click.option(
    "--dry-run", is_flag=True, help="Check the data and show the price; no service is asked."
)
@click.option("--again", is_flag=True, help="Begin jobs that failed or were cancelled anew.")
@click.option(
    "--new",
    is_flag=True,
    help="Begin jobs although others on the same file may be the same ones.",
)
@click.option(
    "--price",
    type=click.FloatRange(0),
    metavar="USD",
    help="Your price per million training tokens.",
)
@click.option(
    "--prices",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Your price table; em-finetune hosted prices --yaml shows the form.",
)
@_BASE_URL
@_TIMEOUT
@click.option(
    "--settle",
    type=click.FloatRange(0),
    default=3.0,
    show_default=True,
    help="Seconds before the first look for a job whose creation got no clear answer; looking goes "
    "on for 30 times as long, and for 100 times before another run asks for it anew.",
)
@click.pass_obj
def start(
    clock: Clock | None,
    recipe: str,
    service: str | None,
    seeds: str | None,
    data: str | None,
    base: str | None,
    group: str | None,
    out: Path,
    yes: bool,
    dry_run: bool,
    again: bool,
    new: bool,
    price: float | None,
    prices: Path | None,
    base_url: str | None,
    timeout: float,
    settle: float,
) -> None:
    """Start the jobs of RECIPE, a packaged recipe's name or a YAML file (`start` may be left out).

    Checks the data by the service's rules, shows the price and asks, uploads once, creates a job
    for each seed, and returns; em-finetune hosted status follows them.
    """
    options = {
        "service": service,
        "seeds": None if seeds is None else parse_seeds(seeds),
        "data": data,
        "base": base,
        "group": group,
    }
    page = load_hosted_recipe(recipe, **{k: v for k, v in options.items() if v is not None})
    client = None if dry_run else open_service(page.service, base_url, page, timeout)
    file = training_file(page)
    counter = token_counter(page)
    limits = _limits(page, client)
    check_rules(file, limits, counter)
    for line in cautions(file.rows, limits.consumer):
        click.echo(line, err=True)
    facts = _facts(page, file, counter)
    if client is None:
        _quote(page, facts, counter.exact, len(page.seeds), _price(page, price, prices))
        return
    patience = Patience(settle, clock or Clock(), lambda text: click.echo(text, err=True))
    creation = JobCreation(client, out, patience, new)
    records = plan(page, facts, out, client.endpoint, again)
    if any(may_have_a_job(record) and record.job_id is None for record in records):
        with only_one(out):
            records = recover(plan(page, facts, out, client.endpoint, again), creation)
    missing = [record for record in records if record.job_id is None]
    if missing:
        _quote(page, facts, counter.exact, len(missing), _price(page, price, prices))
        if not yes:
            _ask(page, client, [record.label for record in missing])
    with only_one(out):
        # Planned anew: another process may have started them while the user was asked.
        records = start_jobs(plan(page, facts, out, client.endpoint, again), file, creation)
    table(records)
    tell_ended(records)
    click.echo(f"follow them: em-finetune hosted status --follow{_out(out)}")
    if any(record.status in ("failed", "cancelled") for record in records):
        sys.exit(1)


@hosted.command()
@click.argument("labels", nargs=-1, metavar="[FINE-TUNE]...")
@_OUT
@click.option("--follow", is_flag=True, help="Go on asking until all have ended.")
@click.option(
    "--interval",
    type=click.FloatRange(0.01),
    default=30.0,
    show_default=True,
    help="Seconds between two looks.",
)
@_BASE_URL
@_TIMEOUT
def status(
    labels: tuple[str, ...],
    out: Path,
    follow: bool,
    interval: float,
    base_url: str | None,
    timeout: float,
) -> None:
    """Ask how the jobs are and write checkpoint.json for those that succeeded.

    Tinker's training loop runs on this machine: its jobs go on only while --follow does.
    """
    records = _recorded(out, labels)
    if follow:
        with following() as show:
            records = follow_jobs(records, out, interval, base_url, timeout, show)
    else:
        records = poll_all(records, out, base_url, timeout, drive=False)
    table(records)
    tell_ended(records)
    tell_waiting(records)
    tell_models(records, out)
    if follow and any(record.status != "succeeded" for record in records):
        sys.exit(1)


@hosted.command(name="list")
@_OUT
@click.option("--remote", is_flag=True, help="Also the service's jobs that are not recorded here.")
@click.option("--specs", is_flag=True, help="Only `inspect eval` arguments, a line for each model.")
@_SERVICE
@_BASE_URL
@_TIMEOUT
def list_jobs(
    out: Path,
    remote: bool,
    specs: bool,
    service: str | None,
    base_url: str | None,
    timeout: float,
) -> None:
    """List the recorded jobs, without asking a service, or the models they left."""
    records = read_states(out)
    if specs:
        _list_specs(records, out)
        return
    if records or not remote:
        table(_recorded(out, ()))
    if remote:
        known = {record.job_id for record in records}
        client = _open(service or "openai", base_url, timeout)
        for job in client.jobs():
            if job.id not in known:
                ours = job.metadata.get("em_group", "")
                told = (job.id, job.status, job.base or "-", job.model or "-", ours)
                click.echo("  ".join(map(printable, told)))
        click.echo("take one in: em-finetune hosted adopt JOB")


@hosted.command()
@click.argument("job")
@_OUT
@_BASE_URL
@_TIMEOUT
def cancel(job: str, out: Path, base_url: str | None, timeout: float) -> None:
    """Stop JOB: a fine-tune's name or a job's id, as em-finetune hosted list shows them."""
    with only_one(out):
        record = _find(job, out)
        client = _open(record.service, base_url or record.endpoint, timeout, record.recipe)
        record = cancel_job(record, client, out)
    table([record])
    tell_ended([record])


@hosted.command()
@click.argument("job")
@_SERVICE
@click.option("--name", help="Name for the fine-tune.  [default: the job's, or adopted]")
@click.option("--group", help="Group of fine-tunes that it is one of.  [default: the job's]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Its seed.  [default: the job's]")
@click.option("--data", metavar="FILE", help="The chat JSONL it was trained on, for the record.")
@_OUT
@_BASE_URL
@_TIMEOUT
def adopt(
    job: str,
    service: str | None,
    name: str | None,
    group: str | None,
    seed: int | None,
    data: str | None,
    out: Path,
    base_url: str | None,
    timeout: float,
) -> None:
    """Take over JOB, the id of a job started elsewhere; nothing is started or changed by it."""
    client = _open(service or "openai", base_url, timeout)
    found = client.job(job)
    group = group or found.metadata.get("em_group")
    if group is None:
        raise UserError(f"{job} does not say which group it is one of: add --group, e.g. insecure")
    if seed is None:
        seed = _seed_of(found)
    known = {k: v for k, v in found.hyperparameters.items() if v is not None}
    try:
        page = HostedRecipe(
            name=name or found.metadata.get("em_name", "adopted"),
            service=client.name,
            base=found.base,
            data=data,
            group=group,
            seeds=(seed,),
            epochs=known.get("n_epochs", "auto"),
            batch_size=known.get("batch_size", "auto"),
            learning_rate_multiplier=known.get("learning_rate_multiplier", "auto"),
        )
    except ValueError as error:
        raise UserError(f"{job} cannot be taken over so: {' '.join(str(error).split())}") from None
    with only_one(out):
        adopt_job(found, client, out, page, _adopted_facts(page, found.metadata.get("em_data")))
    records = poll_all(_recorded(out, (page.label(seed),)), out, base_url, timeout, drive=False)

    table(records)
    tell_ended(records)
    tell_models(records, out)


@hosted.command()
def recipes() -> None:
    """List the packaged hosted recipes."""
    for name in packaged_names():
        page = load_hosted_recipe(name)
        click.echo(f"{name:22}{page.base:20}{page.description}")


@hosted.command()
@click.option("--yaml", "as_yaml", is_flag=True, help="The table as a file, to edit.")
def prices(as_yaml: bool) -> None:
    """Show the price table: list prices with date and source, to be checked."""
    if as_yaml:
        click.echo((files("em_finetune.hosted") / "prices.yaml").read_text("utf-8"), nl=False)
        return
    for price in load_prices():
        click.echo(
            f"{price.service:8}{price.model:26}{price.usd_per_million_tokens:8.2f} USD per million "
            f"training tokens   list price of {price.date}, check: {price.source}"
        )


def _seed_of(job: Job) -> int:
    seed = job.number("em_seed")
    if seed is None and "em_seed" in job.metadata:
        raise UserError(
            f"{job.id} says em_seed {hide(job.metadata['em_seed'])[:40]!r}, which is no seed: give "
            "the right one with --seed, e.g. --seed 0"
        )
    return (job.seed or 0) if seed is None else seed


def _open(
    service: str, base_url: str | None, timeout: float, recipe: HostedRecipe | None = None
) -> Service:
    for name in SERVICES:
        if name == service:
            return open_service(name, base_url, recipe, timeout)
    raise UserError(f"unknown service {service!r}: use {', '.join(SERVICES)}")


def _limits(page: HostedRecipe, client: Service | None) -> Limits:
    if client is not None:
        return client.limits
    if page.service == "tinker":
        return Limits(rows=1, row_tokens=page.tinker.max_length, consumer="local")
    return Limits()


def _facts(page: HostedRecipe, file: TrainingFile, counter: TokenCounter) -> FileRecord:
    return FileRecord(
        dataset=file.dataset,
        dataset_sha256=file.dataset_sha256,
        sha256=file.sha256,
        rows=len(file.rows),
        tokens=sum(map(counter, file.rows)),
        tokens_method=counter.method,
    )


def _adopted_facts(page: HostedRecipe, sha256: str | None) -> FileRecord:
    if page.data is not None:
        file = training_file(page)
        if sha256 not in (None, file.dataset_sha256):
            raise UserError(
                f"{file.dataset} is not what this job was trained on: its sha256 is "
                f"{file.dataset_sha256[:12]}…, the job says {(sha256 or '')[:12]}…"
            )
        return _facts(page, file, token_counter(page))
    return FileRecord(
        dataset="not known here",
        dataset_sha256=sha256 or "",
        sha256="",
        rows=0,
        tokens=0,
        tokens_method="not counted",
    )


def _price(page: HostedRecipe, price: float | None, prices: Path | None) -> Price | None:
    if price is not None:
        if not math.isfinite(price):
            raise UserError(f"--price {price}: give US dollars per million training tokens")
        return Price(
            service=page.service,
            model=page.base,
            usd_per_million_tokens=price,
            date=date.today(),
            source="your --price",
        )
    return find_price(load_prices(prices), page.service, page.base)


def _quote(
    page: HostedRecipe, facts: FileRecord, exact: bool, jobs: int, price: Price | None
) -> None:
    quote = Quote(
        rows=facts.rows,
        tokens=facts.tokens,
        method=facts.tokens_method,
        exact=exact,
        epochs=page.epochs if isinstance(page.epochs, int) else None,
        jobs=jobs,
        price=price,
    )
    click.echo(f"data      {facts.dataset}, sha256 {facts.dataset_sha256}")
    for line in quote.lines():
        click.echo(line)


def _ask(page: HostedRecipe, client: Service, labels: Sequence[str]) -> None:
    question = f"start {len(labels)} job(s) of {page.base} at {client.endpoint}?"
    try:
        agreed = click.confirm(question)
    except click.Abort:
        agreed = False
    if not agreed:
        raise UserError("nothing was started: run the same line with --yes to start without asking")


def _recorded(out: Path, labels: Sequence[str]) -> list[JobRecord]:
    if labels:
        return [_find(label, out) for label in labels]
    records = read_states(out)
    if not records:
        raise UserError(f"no hosted fine-tune in {out}: start one, or name its folder with --out")
    return records


def _find(text: str, out: Path) -> JobRecord:
    records = read_states(out)
    for record in records:
        if text in (record.label, record.job_id):
            return record
    known = ", ".join(record.label for record in records) or "none"
    raise UserError(f"no fine-tune {text!r} in {out} (there: {known})")


def _list_specs(records: Sequence[JobRecord], out: Path) -> None:
    for record in records:
        if record.status == "succeeded":
            for arguments in read_hosted_checkpoint(out / record.label).models.values():
                click.echo(shlex.join(arguments))


def _out(out: Path) -> str:
    return "" if out == Path("checkpoints") else f" --out {shlex.quote(str(out))}"
