"""Asking after jobs until they have ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

from em_finetune.checkpoint import RECORD
from em_finetune.hosted.connecting import open_service
from em_finetune.hosted.display import Show, queued_minutes, tell_waiting
from em_finetune.hosted.jobs import poll
from em_finetune.hosted.recipe import ServiceName
from em_finetune.hosted.service import FINAL, Service, UnclearError
from em_finetune.hosted.state import JobRecord, only_one, read_state

_FAILED_POLLS = 20
Clients = dict[tuple[ServiceName, str], Service]


def poll_all(
    records: Sequence[JobRecord],
    out: Path,
    base_url: str | None,
    timeout: float,
    drive: bool,
    clients: Clients | None = None,
) -> list[JobRecord]:
    """Ask after every job that has not ended, once, and return the records as they are then.

    Args:
        records: The jobs.
        out: Folder of the fine-tunes' directories.
        base_url: Address to ask instead of the recorded one.
        timeout: Seconds to wait for an answer.
        drive: Also go on training, where the loop runs on this machine.
        clients: Connections made so far, to be used again.

    Raises:
        UserError: A service refuses.
        UnclearError: A service did not answer.
    """
    polled = []
    clients = {} if clients is None else clients
    for record in records:
        if open_end(record, out):
            place = (record.service, base_url or record.endpoint)
            if place not in clients:
                clients[place] = open_service(*place, record.recipe, timeout)
            with only_one(out):
                # Read anew: another process may have gone on with it.
                record = poll(read_state(out, record.label) or record, clients[place], out, drive)
        polled.append(record)
    return polled


def open_end(record: JobRecord, out: Path) -> bool:
    """Whether there is something to ask about a job."""
    if record.job_id is None:
        return False
    unwritten = record.status == "succeeded" and not (out / record.label / RECORD).is_file()
    return unwritten or record.status not in FINAL


def follow(
    records: Sequence[JobRecord],
    out: Path,
    interval: float,
    base_url: str | None,
    timeout: float,
    show: Show,
) -> list[JobRecord]:
    """Ask after jobs until all have ended, through failures that pass.

    Args:
        records: The jobs.
        out: Folder of the fine-tunes' directories.
        interval: Seconds between two looks.
        base_url: Address to ask instead of the recorded one.
        timeout: Seconds to wait for an answer.
        show: Given all records after each look.

    Raises:
        UserError: A service refuses.
        UnclearError: A service did not answer 20 times running.
    """
    current = list(records)
    clients: Clients = {}
    failed = 0
    told: set[str] = set()
    while any(open_end(record, out) for record in current):
        try:
            current = poll_all(current, out, base_url, timeout, True, clients)
            failed = 0
        except UnclearError as error:
            failed += 1
            if failed >= _FAILED_POLLS:
                raise
            click.echo(f"no answer ({failed} of {_FAILED_POLLS}), asking again: {error}", err=True)
        show(current)
        tell_waiting([record for record in current if record.label not in told])
        told |= {record.label for record in current if queued_minutes(record) is not None}
        if any(open_end(record, out) for record in current):
            time.sleep(interval)
    return current
