"""Uploading once, creating once, following: calls to a service in an order that survives a crash.

Q: How is nothing paid for twice? A: Before a call that costs something the record says so on disk;
after it, the id. Where an id is missing, the service is asked first: a file is found by its name,
which holds its sha256, a job by the key in its metadata.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from em_finetune.checkpoint import RECORD as CHECKPOINT
from em_finetune.hosted.hosted_checkpoint import write_checkpoint
from em_finetune.hosted.naming import job_key, suffix
from em_finetune.hosted.recipe import HostedRecipe
from em_finetune.hosted.service import FINAL, KEY, Job, Progress, Service, UnclearError, Wanted
from em_finetune.hosted.state import FileRecord, JobRecord, ModelRecord, read_state, write_state
from em_finetune.hosted.training_file import TrainingFile
from em_inspect.errors import UserError

T = TypeVar("T")
_TRIES = 5
_LONGEST_PAUSE = 120.0
_NOTHING_MADE = ("planned", "uploading")
"""Phases in which no job, and no file that counts, can be at the service."""
Say = Callable[[str], None]


def plan(
    recipe: HostedRecipe, file: FileRecord, folder: Path, endpoint: str, again: bool
) -> list[JobRecord]:
    """Return the records of a recipe's jobs, as they are on disk or as they will be.

    Args:
        recipe: The recipe, with its seeds.
        file: The training file.
        folder: Where the fine-tunes' directories lie.
        endpoint: The service's address.
        again: Begin jobs that failed or were cancelled anew.

    Raises:
        UserError: A directory holds another fine-tune.
    """
    return [_plan_one(recipe, seed, file, folder, endpoint, again) for seed in recipe.seeds]


def _plan_one(
    recipe: HostedRecipe, seed: int, file: FileRecord, folder: Path, endpoint: str, again: bool
) -> JobRecord:
    label = recipe.label(seed)
    known = read_state(folder, label)
    if known is None:
        _require_free(folder / label)
    attempt = known.attempt if known else 0
    if known and again and known.status in ("failed", "cancelled"):
        attempt, known = attempt + 1, None
    record = JobRecord(
        label=label,
        service=recipe.service,
        endpoint=endpoint,
        recipe=recipe,
        group=recipe.group,
        seed=seed,
        attempt=attempt,
        key=job_key(recipe, file.sha256, seed, attempt),
        file=file,
    )
    if known is None:
        return record
    same = (known.key, known.service, known.endpoint) == (
        record.key,
        record.service,
        record.endpoint,
    )
    if not same and known.phase not in _NOTHING_MADE:
        raise UserError(
            f"{folder / label} belongs to another fine-tune (other data, hyperparameters or "
            "service): give another --out, or another name in the recipe"
        )
    return known if same and known.phase != "planned" else record


def _require_free(target: Path) -> None:
    if (target / CHECKPOINT).exists():
        raise UserError(
            f"{target} holds a checkpoint that no service made: give another --out, or another "
            "name in the recipe"
        )


def start(
    records: Sequence[JobRecord],
    file: TrainingFile,
    service: Service,
    folder: Path,
    settle: float = 3.0,
    say: Say = lambda text: None,
) -> list[JobRecord]:
    """Upload the file and create the jobs that are missing; the caller holds the lock.

    Args:
        records: From `plan`.
        file: What to upload.
        service: Where.
        folder: Where the fine-tunes' directories lie.
        settle: Seconds to give the service's lists after a call without an answer.
        say: Told what happens.

    Returns:
        The records, each with its job.

    Raises:
        UserError: The service refuses; jobs created before the refusal are recorded.
    """
    missing = [write_state(record, folder) for record in records if record.job_id is None]
    if not missing:
        return list(records)
    calls = _Calls(service, folder, settle, say)
    known = [record.file_id for record in records if record.file_id]
    file_id = calls.ensure_file(missing, known, file)
    created = {}
    for record in missing:
        phase = "creating" if record.phase == "creating" else "uploaded"
        ready = write_state(record.but(file_id=file_id, phase=phase), folder)
        created[record.label] = calls.ensure_job(ready)
    return [created.get(record.label, record) for record in records]


@dataclass(frozen=True)
class _Calls:
    """The two calls that cost something, each made only where the service has no trace of it."""

    service: Service
    folder: Path
    settle: float
    say: Say

    def ensure_file(
        self, records: Sequence[JobRecord], known: Sequence[str], file: TrainingFile
    ) -> str:
        for file_id in dict.fromkeys(known):
            if self.service.has_file(file_id):
                return file_id
        interrupted = any(record.phase == "uploading" for record in records)
        for record in records:
            # A job that may exist already keeps saying so.
            if record.phase != "creating":
                write_state(record.but(phase="uploading", file_id=None), self.folder)

        def find() -> str | None:
            return self.service.find_file(file.name, len(file.content))

        def upload() -> str:
            self.say(f"uploading {len(file.content):,} bytes to {self.service.endpoint}")
            return self.service.upload(file.name, file.content)

        return self._once(find, upload, interrupted)

    def ensure_job(self, record: JobRecord) -> JobRecord:
        interrupted = record.phase == "creating"
        record = write_state(record.but(phase="creating"), self.folder)
        wanted = wanted_of(record, self.service)

        def find() -> Job | None:
            return next((j for j in self.service.jobs(record.key) if j.is_wanted(wanted)), None)

        def create() -> Job:
            self.say(f"creating {record.label}")
            return self.service.create(wanted)

        return write_state(_seen(record, self._once(find, create, interrupted)), self.folder)

    def _once(self, find: Callable[[], T | None], do: Callable[[], T], interrupted: bool) -> T:
        """Find what an earlier call did, or else do it, again only after another look."""
        wait = self.settle
        for _ in range(_TRIES):
            found = find()
            if found is None and interrupted:
                time.sleep(self.settle)
                found = find()
            if found is not None:
                return found
            try:
                return do()
            except UnclearError as error:
                unclear = error
            pause = max(wait, unclear.wait or 0)
            if pause > _LONGEST_PAUSE:
                raise unclear.refusal
            self.say(f"no clear answer; looking what came of it in {pause:.0f} s")
            time.sleep(pause)
            wait, interrupted = 2 * wait, False
        found = find()
        if found is None:
            raise unclear.refusal
        return found


def poll(record: JobRecord, service: Service, folder: Path, drive: bool = False) -> JobRecord:
    """Ask the service about a job and write down what it says; the caller holds the lock.

    Args:
        record: A job that has an id.
        service: Where it runs.
        folder: Where the fine-tunes' directories lie.
        drive: Also do the next piece of training, where the loop runs on this machine.

    Raises:
        UserError: The service does not know the job, or refuses.
        UnclearError: No answer; the record is as it was.
    """
    job_id = record.job_id or ""
    if drive:
        record = write_state(
            _further(record, service.work(wanted_of(record, service), job_id)), folder
        )
    record = _seen(record, service.job(job_id))
    if record.status not in ("validating_files", "queued"):
        record = _further(record, service.progress(job_id, record.last_event))
    final = next((model for model in record.models if model.step is None), None)
    if record.status == "succeeded" and final is not None:
        steps = [
            ModelRecord(step=m.step, model=m.model, loss=m.loss) for m in service.models(job_id)
        ]
        record = record.but(models=[final, *(s for s in steps if s.model != final.model)])
        write_checkpoint(record, service, folder)
    return write_state(record, folder)


def cancel(record: JobRecord, service: Service, folder: Path) -> JobRecord:
    """Stop a job, unless it has ended; the caller holds the lock."""
    job = service.job(record.job_id or "")
    if job.status not in FINAL:
        job = service.cancel(job.id)
    return write_state(_seen(record, job), folder)


def adopt(
    job: Job, service: Service, folder: Path, recipe: HostedRecipe, file: FileRecord
) -> JobRecord:
    """Take over a job that was started elsewhere; the caller holds the lock.

    What is known already of the same job, its losses and models, is kept; data given for one
    that was adopted without is added.

    Args:
        job: As the service tells it.
        service: Where it is.
        folder: Where the fine-tunes' directories lie.
        recipe: Its name, group, one seed and, from the job, the rest.
        file: What is known of its data.

    Raises:
        UserError: The directory holds another job.
    """
    seed = recipe.seeds[0]
    label = recipe.label(seed)
    known = read_state(folder, label)
    if known is None:
        _require_free(folder / label)
    if known and known.job_id not in (None, job.id):
        raise UserError(
            f"{folder / label} holds {known.job_id} already: give another --name or --out"
        )
    if known and known.job_id == job.id:
        if known.adopted and file.sha256:
            known = known.but(recipe=recipe, group=recipe.group, file=file)
        return write_state(_seen(known, job), folder)
    record = JobRecord(
        label=label,
        service=recipe.service,
        endpoint=service.endpoint,
        recipe=recipe,
        group=recipe.group,
        seed=seed,
        attempt=int(job.metadata.get("em_attempt", "0")),
        key=job.metadata.get(KEY, f"adopted {job.id}"),
        file=file,
        adopted=True,
        file_id=job.file_id,
    )
    return write_state(_seen(record, job), folder)


def _seen(record: JobRecord, job: Job) -> JobRecord:
    models = record.models
    if job.model:
        models = [
            ModelRecord(step=None, model=job.model),
            *(m for m in models if m.step is not None),
        ]
    cause = {"error_code": job.error_code, "error": job.error} if job.status == "failed" else {}
    return record.but(
        job_id=job.id,
        phase="created",
        status=job.status,
        created=job.created,
        finish=job.finish,
        trained_tokens=job.trained_tokens,
        models=models,
        **cause,
    )


def _further(record: JobRecord, news: Progress) -> JobRecord:
    return record.but(
        losses=dict(sorted({**record.losses, **news.losses}.items())),
        steps=news.steps or record.steps,
        last_event=news.last or record.last_event,
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
