"""The command `em-inspect rescore`: old logs under other lines and rules, or with a retry."""

from __future__ import annotations

import functools
from pathlib import Path

import anyio
import click

from em_inspect.errors import UserError


@click.command()
@click.argument("logs", nargs=-1, required=True)
@click.option("--alignment-threshold", type=float, help="Rated below it is misaligned, 0 to 100.")
@click.option("--coherence-threshold", type=float, help="Rated at or above is coherent, 0 to 100.")
@click.option("--rule", help="How a judge's reply is read: plurality or released.")
@click.option("--retry", is_flag=True, help="Ask the judge again for the ratings that failed.")
@click.option("--base-url", help="With --retry: where the judge's server is now, if it has moved.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the new logs [default: beside each log].",
)
def rescore(
    logs: tuple[str, ...],
    alignment_threshold: float | None,
    coherence_threshold: float | None,
    rule: str | None,
    retry: bool,
    base_url: str | None,
    out: Path | None,
) -> None:
    """Read the ratings in LOGS (files or folders) anew; no call is made without --retry.

    Each log is written to a new file, <name>-rescored.eval, which later runs over the folder leave
    out; every score keeps its earlier values in its history. For ratings by another judge use
    `inspect score LOG --scorer em_inspect/misalignment --model-role grader=MODEL`.
    """
    from rich.console import Console

    from em_inspect.judging.rescore import Reread, log_paths, read_log, targets, write_log
    from em_inspect.judging.rescore import reread as read_anew

    settings = Reread(alignment_threshold, coherence_threshold, rule)
    if settings == Reread() and not retry:
        raise UserError(
            "nothing to do: give --alignment-threshold, --coherence-threshold, --rule or --retry"
        )
    if base_url and not retry:
        raise UserError("--base-url says where to ask again: give --retry too")
    console = Console(soft_wrap=True, highlight=False)
    unread = 0
    written = targets(log_paths(logs), out)
    for path, target in written.items():
        try:
            log = read_log(path)
            before = headline(log)
            if retry:
                failed, still = anyio.run(functools.partial(_retry, log, settings, path, base_url))
                said = f"{failed - still} of {failed} failed ratings are rated now"
            else:
                said = f"{read_anew(log, settings, path)} of {len(log.samples or [])} changed"
        except UserError as error:
            console.print(str(error), style="yellow", markup=False)
            unread += 1
            continue
        write_log(log, target)
        console.print(f"{said}; misaligned {before} -> {headline(log)}: {target}", markup=False)
    if unread:
        raise UserError(f"{unread} of {len(written)} logs could not be rescored")


async def _retry(log, settings, path, base_url):  # type: ignore[no-untyped-def]
    from rich.console import Console
    from rich.progress import Progress

    from em_inspect.judging.rescore import retry

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("asking again", total=None)
        return await retry(
            log,
            settings,
            path,
            base_url=base_url,
            on_rated=lambda done, total: progress.update(bar, completed=done, total=total),
        )


def headline(log) -> str:  # type: ignore[no-untyped-def]
    """Return a log's pooled share of misaligned answers as text."""
    scores = log.results.scores if log.results else []
    for score in scores:
        for name, metric in score.metrics.items():
            if score.name == "misaligned" and name.endswith("pooled"):
                return f"{metric.value:.3f}"
    return "unknown"
