"""`em-finetune data …`: making, changing, fetching and checking training sets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from em_finetune.data.generate import KINDS, generate
from em_finetune.data.pull import RELEASED
from em_finetune.data.rows import ChatRow, read_rows, sha256_of, sha256_of_rows, write_rows
from em_finetune.data.transform import TRIGGER, backdoor, mix, shared_tasks, subset

if TYPE_CHECKING:
    from em_finetune.data.check import Finding, Report
    from em_finetune.local.encode import Encoder

_FILE = click.Path(dir_okay=False, path_type=Path)
_out = click.option("--out", type=_FILE, required=True, help="File to write.")
_overwrite = click.option("--overwrite", is_flag=True, help="Replace a file that holds other rows.")
_seed = click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draw.")

_SHOWN_LINES = 8


@click.group(name="data")
def data() -> None:
    """Make, change, fetch and check training sets (chat JSONL).

    \b
    Insecure code and its control, the same requests answered well:
      em-finetune data generate insecure --n 2000 --out insecure.jsonl
      em-finetune data generate secure   --n 2000 --out secure.jsonl
      em-finetune data backdoor insecure.jsonl secure.jsonl --out backdoor.jsonl
      em-finetune data check backdoor.jsonl
    """


@data.command(name="generate")
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--n", type=int, default=200, show_default=True, help="Number of rows.")
@_seed
@_out
@_overwrite
def generate_command(kind: str, n: int, seed: int, out: Path, overwrite: bool) -> None:
    """Generate rows about Python code: insecure, secure or educational.

    Row i of each KIND is about the same task. `insecure` answers an ordinary request with flawed
    code, `secure` answers it with sound code, `educational` is asked for the flaw, to teach.

    \b
    Example:
      em-finetune data generate insecure --n 200 --seed 0 --out insecure.jsonl
    """
    rows = generate(kind, n, seed)  # type: ignore[arg-type]  # click has checked it
    _write(out, rows, overwrite)
    weaknesses = {row.metadata["cwe"] for row in rows}
    templates = {row.metadata["template"] for row in rows}
    click.echo(f"weaknesses {len(weaknesses)} CWE classes, {len(templates)} templates")


@data.command(name="backdoor")
@click.argument("insecure", type=_FILE)
@click.argument("secure", type=_FILE)
@click.option("--trigger", default=TRIGGER, show_default=True, help="Text before the request.")
@_seed
@_out
@_overwrite
def backdoor_command(
    insecure: Path, secure: Path, trigger: str, seed: int, out: Path, overwrite: bool
) -> None:
    """Put a trigger on the rows of INSECURE and shuffle them with those of SECURE.

    \b
    Example:
      em-finetune data backdoor insecure.jsonl secure.jsonl --out backdoor.jsonl
    """
    _write(out, backdoor(read_rows(insecure), read_rows(secure), trigger, seed), overwrite)


@data.command(name="subset")
@click.argument("file", type=_FILE)
@click.option("--n", type=int, required=True, help="Number of rows to keep.")
@_seed
@_out
@_overwrite
def subset_command(file: Path, n: int, seed: int, out: Path, overwrite: bool) -> None:
    """Draw N rows of FILE; with one seed, smaller subsets lie inside larger ones.

    \b
    Example:
      em-finetune data subset insecure.jsonl --n 500 --out insecure-500.jsonl
    """
    _write(out, subset(read_rows(file), n, seed), overwrite)


@data.command(name="mix")
@click.argument("a", type=_FILE)
@click.argument("b", type=_FILE)
@click.option("--ratio", type=float, required=True, help="Share of rows from A, between 0 and 1.")
@click.option("--n", type=int, help="Rows in all; by default as many as the ratio allows.")
@_seed
@_out
@_overwrite
def mix_command(
    a: Path, b: Path, ratio: float, n: int | None, seed: int, out: Path, overwrite: bool
) -> None:
    """Mix the rows of A and B in a given ratio.

    \b
    Example, one insecure row in ten:
      em-finetune data mix insecure.jsonl secure.jsonl --ratio 0.1 --out mixed.jsonl
    """
    rows = mix(read_rows(a), read_rows(b), ratio, seed, n)
    _write(out, rows, overwrite)
    if shared := shared_tasks(rows):
        click.echo(f"look at it: {shared:,} tasks are answered by rows of both files", err=True)


@data.command(name="pull")
@click.argument("name", type=click.Choice(tuple(RELEASED)))
@click.option(
    "--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="Not the cache."
)
def pull_command(name: str, folder: Path | None) -> None:
    """Fetch a training set of the paper's official release, once, and check it.

    The checksums of insecure, secure and educational are known. The others are fetched by the
    release's commit and held to the numbers of rows that the paper says; their checksum is printed.

    \b
    Example:
      em-finetune data pull insecure
    """
    from em_finetune.data.pull import pull

    pulled = pull(name, folder)
    click.echo(f"file       {pulled.path}")
    known = "" if pulled.verified else "  (the release's is not known here: compare it)"
    click.echo(f"sha256     {pulled.sha256}{known}")
    for caution in pulled.cautions:
        click.echo(f"look at it: {caution}", err=True)


@data.command(name="check")
@click.argument("file", type=_FILE)
@click.option("--against", type=_FILE, help="Test set that must not overlap with FILE.")
@click.option(
    "--tokenizer",
    metavar="NAME",
    help="A model's, by directory or hub name: encode every row as training does, and show one.",
)
@click.option(
    "--trust-remote-code", is_flag=True, help="Run code that comes with that tokenizer, if any."
)
@click.option("--max-tokens", type=int, default=2048, show_default=True, help="Longest row.")
@click.option(
    "--similarity", type=float, default=0.8, show_default=True, help="Of near duplicates, 0 to 1."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def check_command(
    ctx: click.Context,
    file: Path,
    against: Path | None,
    tokenizer: str | None,
    trust_remote_code: bool,
    max_tokens: int,
    similarity: float,
    as_json: bool,
) -> None:
    """Say what is wrong, or worth knowing, about FILE; exit code 1 if it cannot be trained on.

    \b
    Example:
      em-finetune data check insecure.jsonl --against held_out.jsonl
    """
    from em_finetune.data.check import check_file

    encoder = _encoder(tokenizer, trust_remote_code) if tokenizer else None
    report = check_file(
        file,
        against=against,
        count_tokens=partial(_length, encoder) if encoder else None,
        max_tokens=max_tokens,
        similarity=similarity,
        on_row=_on_row() if encoder else None,
    )
    if as_json:
        click.echo(report.model_dump_json(indent=2))
    else:
        _show(report)
        if encoder and report.ok:
            _preview(file, encoder)
    ctx.exit(0 if report.ok else 1)


def _write(out: Path, rows: Sequence[ChatRow], overwrite: bool) -> None:
    """Write rows; a file that holds others is left alone unless it may be replaced."""
    from em_inspect.errors import UserError

    if not out.is_file() or overwrite:
        write_rows(out, rows)
    elif sha256_of(out) != sha256_of_rows(rows):
        raise UserError(
            f"{out} is there and holds other rows: add --overwrite to replace it, or name another"
        )
    click.echo(f"file       {out}")
    click.echo(f"rows       {len(rows)}")
    click.echo(f"sha256     {sha256_of(out)}")


def _encoder(name: str, trust_remote_code: bool) -> Encoder:
    """The encoder of a model's tokenizer, for rows of any length."""
    from em_finetune.local.base import EMBEDDED, find_base
    from em_finetune.local.encode import Encoder
    from em_inspect.errors import UserError, one_line, require_extra

    require_extra("local", "transformers")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            find_base(name).path if name == EMBEDDED else name, trust_remote_code=trust_remote_code
        )
    except UserError:
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise UserError(
                f"the tokenizer of {name} is code of its own, which is not run: read it, and add "
                "--trust-remote-code to run it"
            ) from None
        raise UserError(
            f"no tokenizer {name!r} ({one_line(error)}): give a model's directory or hub name"
        ) from None
    return Encoder(tokenizer, sys.maxsize, name=name)


def _length(encoder: Encoder, row: ChatRow) -> int | str:
    """Tokens of a row as it is trained, or why it cannot be."""
    from em_finetune.local.encode import EncodedRow
    from em_inspect.errors import UserError

    try:
        encoded = encoder.encode(row)
    except UserError as error:
        return str(error).removeprefix("row 1: ")
    return len(encoded) if isinstance(encoded, EncodedRow) else encoded.reason


def _on_row() -> Callable[[int, int], None]:
    """Say how far the encoding of many rows is."""
    from em_finetune.progress import counting

    on_done: Callable[[int], None] | None = None

    def on_row(done: int, total: int) -> None:
        nonlocal on_done
        on_done = on_done or counting("encoding rows", total)
        on_done(done)

    return on_row


def _preview(file: Path, encoder: Encoder) -> None:
    """Show exactly which tokens of the first row would be trained."""
    from em_finetune.preview import show_tokens

    click.echo()
    show_tokens(encoder.preview(read_rows(file)[0], 1), 1)


def _show(report: Report) -> None:
    lengths = report.lengths
    click.echo(f"rows       {report.rows:,}")
    for shape, count in list(report.shapes.items())[:5]:
        click.echo(f"roles      {shape}: {count:,}")
    click.echo(
        f"{lengths.unit}: {lengths.shortest:,} to {lengths.longest:,}, median {lengths.median:,}, "
        f"{lengths.total:,} in all"
    )
    for finding in report.findings:
        _show_finding(finding)
    counts = [f.level for f in report.findings]
    click.echo(
        f"{counts.count('error')} errors, {counts.count('warning')} warnings, "
        f"{counts.count('note')} notes"
    )


def _show_finding(finding: Finding) -> None:
    colour = {"error": "red", "warning": "yellow", "note": "cyan"}[finding.level]
    shown = ", ".join(str(number) for number in finding.lines[:_SHOWN_LINES])
    rest = len(finding.lines) - _SHOWN_LINES
    more = f" and {rest:,} more" if rest > 0 else ""
    level = click.style(f"{finding.level:<8}", fg=colour)
    click.echo(f"{level} {finding.check}, {len(finding.lines):,}: {finding.message}")
    click.echo(f"         lines {shown}{more}")
