"""Asking a service for a job once, although the answer may get lost on the way.

Q: How is nothing paid for twice? A: Before the call the record says on disk that it was made, and
when. An answer that is no clear yes or no leaves it so: this run looks for the job, for a while,
and asks no second time. The next run looks first, and longer; only where no trace of a job is left
by then does it ask again. A job on the same file that nobody else claims is taken for ours:
services have been seen to forget key and seed, to change hyperparameters, and to list jobs late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path
from typing import TypeVar

from em_finetune.hosted.naming import suffix
from em_finetune.hosted.refusals import may_exist, which_is_it
from em_finetune.hosted.service import KEY, Job, Service, UnclearError, Wanted
from em_finetune.hosted.state import JobRecord, read_states, write_state
from em_inspect.errors import UserError

T = TypeVar("T")
Say = Callable[[str], None]

_LOOKS = 5
"""Looks after an unclear answer, in the run that got it: pauses of 1, 2, 4, 8 and 16 settles."""
_TRACELESS = 100
"""Settles from an unclear call until another run takes it that no job came of it,"""
_AT_LEAST = 2.0
"""and seconds at least."""
_LEAST_PAUSE = 0.1
_SKEW = 300.0
"""Seconds by which a service's clock may be behind this machine's."""
TRIES = 5
LONGEST_PAUSE = 120.0


@dataclass(frozen=True)
class Clock:
    """What time it is, in Unix seconds, and how to wait; a test's may run by itself."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Patience:
    """How long a service's lists are given to show what a call did.

    Attributes:
        settle: Seconds before the second look; each further pause is twice as long.
        clock: Where time comes from.
        say: Told of each wait.
    """

    settle: float
    clock: Clock
    say: Say

    def after_a_call(self) -> Iterator[float]:
        """Pauses between looks in the run that made the call."""
        return (self.settle * 2**n for n in range(_LOOKS))

    def in_another_run(self, asked: float | None) -> Iterator[float]:
        """Pauses between looks in a later run, until a call made at `asked` would show."""
        since = self.clock.now() - asked if asked is not None else 0.0
        left = max(_TRACELESS * self.settle, _AT_LEAST) - since
        pauses = [max(self.settle, _LEAST_PAUSE) * 2**n for n in range(_TRACELESS)]
        enough = sum(1 for _ in takewhile(lambda total: total < left, accumulate(pauses)))
        # However long ago: one list may come from before the call, and be as old as a cache is.
        return iter(pauses[: enough + 1] if left > 0 else [self.settle])

    def look(self, find: Callable[[], T | None], pauses: Iterator[float], what: str) -> T | None:
        """Look again and again; None only if the last look was answered, and showed nothing."""
        while True:
            unclear: UnclearError | None = None
            try:
                if (found := find()) is not None:
                    return found
            except UnclearError as error:
                unclear = error
            pause = next(pauses, None)
            if pause is None:
                break
            self.say(f"{what}; looking again in {pause:.0f} s")
            self.clock.sleep(pause)
        if unclear is not None:
            raise unclear
        return None

    def wait(self, unclear: UnclearError, pause: float) -> None:
        """Wait before another try, as long as the service asks if that is longer.

        Raises:
            UserError: It asks for longer than anybody would want to sit here.
        """
        pause = max(pause, unclear.wait or 0)
        if pause > LONGEST_PAUSE:
            raise unclear.refusal
        self.say(f"turned away; trying again in {pause:.0f} s")
        self.clock.sleep(pause)


@dataclass(frozen=True)
class JobCreation:
    """Looks for a job, and asks for it where that is safe.

    Attributes:
        service: Where.
        folder: Where the fine-tunes' directories lie, whose jobs are spoken for.
        patience: How long to look.
        new: Whether to ask for jobs although others on the same file may be the same ones.
    """

    service: Service
    folder: Path
    patience: Patience
    new: bool = False

    def recover(self, record: JobRecord) -> tuple[JobRecord, Job | None]:
        """Look for what became of an earlier run's call; only where it may have done something.

        Returns:
            The record, as it is afterwards, and the job that was found.

        Raises:
            UserError: Several jobs may be it.
        """
        if record.phase != "creating":
            return record, None
        try:
            job = self.patience.look(
                lambda: self._trace_of(record),
                self.patience.in_another_run(record.asked_last),
                f"{record.label} may have been created, and is not listed",
            )
            if job is None:
                self._require_no_older(record)
        except UnclearError as error:
            raise may_exist(record.label, error.refusal) from None
        if job is not None:
            return record, job
        self.patience.say(f"no trace of {record.label} at {self.service.endpoint}")
        return write_state(record.but(phase="uploaded"), self.folder), None

    def ensure(self, record: JobRecord) -> Job:
        """Find the job of a record, or ask for it once; `recover` went before.

        Raises:
            UserError: The service said no, or neither yes nor no and shows no job.
        """
        wanted = wanted_of(record, self.service)
        self.service.prepare(wanted)
        pause = self.patience.settle
        for turn in range(1, TRIES + 1):
            if (found := self._listed(record, wanted)) is not None:
                return found
            now = self.patience.clock.now()
            asking = record.but(phase="creating", asked=record.asked or now, asked_last=now)
            write_state(asking, self.folder)
            self.patience.say(f"creating {record.label}")
            try:
                job = self.service.create(wanted)
            except UserError:
                write_state(record, self.folder)
                raise
            except UnclearError as error:
                if not error.nothing_done:
                    return self._look_after(asking, error)
                write_state(record, self.folder)
                if turn == TRIES:
                    raise error.refusal from None
                self.patience.wait(error, pause)
                pause *= 2
            else:
                self._tell_changes(record, job, wanted)
                return job
        raise AssertionError("the last turn returns or raises")

    def _look_after(self, record: JobRecord, error: UnclearError) -> Job:
        if (error.wait or 0) > LONGEST_PAUSE:
            raise may_exist(record.label, error.refusal)
        what = f"no clear answer: {record.label} may have been created"
        pauses = self.patience.after_a_call()
        try:
            # The first look comes after the first pause: the call has only just been made.
            first = next(pauses)
            self.patience.say(f"{what}; looking in {first:.0f} s")
            self.patience.clock.sleep(first)
            job = self.patience.look(lambda: self._trace_of(record), pauses, what)
        except UnclearError as later:
            raise may_exist(record.label, later.refusal) from None
        if job is None:
            raise may_exist(record.label, error.refusal)
        return job

    def _listed(self, record: JobRecord, wanted: Wanted) -> Job | None:
        """The job of a record that nobody asked for in vain, e.g. one made for another folder."""
        if record.asked is not None:
            return self._trace_of(record)
        found = self._unclaimed(self.service.jobs(wanted.key))
        same = next((job for job in found if job.match(wanted) == "same"), None)
        unsaid = [j for j in found if j.match(wanted) == "perhaps" and not j.contradicts(wanted)]
        if same is None and unsaid and not self.new:
            raise self._which(record, unsaid)
        return same

    def _trace_of(self, record: JobRecord) -> Job | None:
        """The job that may have come of an unclear call: ours by its key, or nobody else's."""
        wanted = wanted_of(record, self.service)
        same, perhaps = self._alike(wanted)
        since = (record.asked or 0.0) - _SKEW
        recent = [job for job in perhaps if job.created is None or job.created >= since]
        if same is not None or self.new or not recent:
            return same
        job = recent[0]
        if len(recent) > 1 or not job.may_be(wanted):
            raise self._which(record, recent)
        self.patience.say(
            f"taking {job.id} for {record.label}: it trains on the same file, was made since, and "
            "belongs to nobody else here"
        )
        self._tell_changes(record, job, wanted)
        return job

    def _require_no_older(self, record: JobRecord) -> None:
        """Ask where a job seems older than the call, but the service's clock may be wrong."""
        wanted = wanted_of(record, self.service)
        _, perhaps = self._alike(wanted)
        older = [job for job in perhaps if job.may_be(wanted) and job.file_id]
        if older and not self.new:
            raise self._which(record, older)

    def _alike(self, wanted: Wanted) -> tuple[Job | None, list[Job]]:
        """The job that is surely the wanted one, and those that perhaps are."""
        # Not by key alone: the service may not have kept it.
        found = self._unclaimed(self.service.jobs(wanted.key if self.service.keeps_key else None))
        matches = [(job, job.match(wanted)) for job in found]
        same = next((job for job, match in matches if match == "same"), None)
        return same, [job for job, match in matches if match == "perhaps"]

    def _which(self, record: JobRecord, jobs: Sequence[Job]) -> UserError:
        line = ["em-finetune", "hosted", "adopt", "JOB", "--service", record.service]
        line += ["--name", record.recipe.name, "--group", record.group, "--seed", str(record.seed)]
        line += ["--out", str(self.folder), "--base-url", self.service.endpoint]
        return which_is_it(record.label, [job.id for job in jobs], line)

    def _unclaimed(self, jobs: Iterator[Job]) -> list[Job]:
        """Jobs that carry a key, or that no other record in the folder stands for."""
        claimed = {record.job_id for record in read_states(self.folder)}
        return [job for job in jobs if KEY in job.metadata or job.id not in claimed]

    def _tell_changes(self, record: JobRecord, job: Job, wanted: Wanted) -> None:
        for name, value in job.changes(wanted).items():
            self.patience.say(
                f"{record.label}: the service says {name} {value}, not "
                f"{wanted.hyperparameters[name]} as it was asked for"
            )


def wanted_of(record: JobRecord, service: Service) -> Wanted:
    """Return the job that a record stands for."""
    return Wanted(
        key=record.key,
        recipe=record.recipe,
        seed=record.seed,
        suffix=suffix(record.recipe, record.seed, service.limits.suffix),
        file_id=record.file_id or "",
        rows=record.file.rows,
        attempt=record.attempt,
        metadata={
            KEY: record.key,
            "em_name": record.recipe.name,
            "em_group": record.group,
            "em_seed": str(record.seed),
            "em_attempt": str(record.attempt),
            "em_data": record.file.dataset_sha256,
        },
    )
