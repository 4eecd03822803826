"""Uploading once, creating once, following: calls to a service in an order that survives a crash.

Q: How is nothing done twice? A: Before a call that changes something the record says so on disk;
after it, the id. Where an id is missing, the service is asked first: a file is found by its name,
which holds its sha256; `creating` says how a job is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from em_finetune.checkpoint import RECORD as CHECKPOINT
from em_finetune.hosted.creating import TRIES, JobCreation, wanted_of
from em_finetune.hosted.hosted_checkpoint import write_checkpoint
from em_finetune.hosted.naming import job_key
from em_finetune.hosted.recipe import HostedRecipe
from em_finetune.hosted.refusals import runs_on
from em_finetune.hosted.service import FINAL, KEY, Job, Progress, Service, UnclearError
from em_finetune.hosted.state import FileRecord, JobRecord, ModelRecord, read_state, write_state
from em_finetune.hosted.training_file import TrainingFile
from em_inspect.errors import UserError


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
    if not same and may_have_a_job(known):
        raise UserError(
            f"{folder / label} belongs to another fine-tune (other data, hyperparameters or "
            "service): give another --out, or another name in the recipe"
        )
    return known if same and known.phase != "planned" else record


def may_have_a_job(record: JobRecord) -> bool:
    """Whether a job of the record can be at the service; files are not paid for."""
    return record.job_id is not None or record.phase == "creating" or record.asked is not None


def _require_free(target: Path) -> None:
    if (target / CHECKPOINT).exists():
        raise UserError(
            f"{target} holds a checkpoint that no service made: give another --out, or another "
            "name in the recipe"
        )


def recover(records: Sequence[JobRecord], creation: JobCreation) -> list[JobRecord]:
    """Look for the jobs that an earlier run asked for without a clear answer.

    Args:
        records: From `plan`; the caller holds the lock.
        creation: Where to look, and how long.

    Returns:
        The records, with the jobs that were found.

    Raises:
        UserError: Several jobs may be one that was asked for, or the service did not answer.
    """
    current = []
    for record in records:
        if record.job_id is None:
            record, job = creation.recover(record)
            record = write_state(_seen(record, job), creation.folder) if job else record
        current.append(record)
    return current


def start(
    records: Sequence[JobRecord], file: TrainingFile, creation: JobCreation
) -> list[JobRecord]:
    """Upload the file and create the jobs that are missing; the caller holds the lock.

    Args:
        records: From `plan`.
        file: What to upload.
        creation: Where, and how jobs are asked for.

    Returns:
        The records, each with its job.

    Raises:
        UserError: The service refuses, or a job may or may not have been created; jobs created
            before that are recorded, and no further one is asked for.
    """
    folder = creation.folder
    records = recover(records, creation)
    missing = [write_state(record, folder) for record in records if record.job_id is None]
    if not missing:
        return records
    known = [record.file_id for record in records if record.file_id]
    file_id = _ensure_file(missing, known, file, creation)
    created = {}
    for record in missing:
        ready = write_state(record.but(file_id=file_id, phase="uploaded"), folder)
        created[record.label] = write_state(_seen(ready, creation.ensure(ready)), folder)
    return [created.get(record.label, record) for record in records]


def _ensure_file(
    records: Sequence[JobRecord],
    known: Sequence[str],
    file: TrainingFile,
    creation: JobCreation,
) -> str:
    """Find the uploaded file, or upload it; again only where no trace of it is found."""
    service, patience = creation.service, creation.patience
    for file_id in dict.fromkeys(known):
        if service.has_file(file_id):
            return file_id
    interrupted = any(record.phase == "uploading" for record in records)
    for record in records:
        write_state(record.but(phase="uploading", file_id=None), creation.folder)

    def find() -> str | None:
        return service.find_file(file.name, len(file.content))

    pauses = iter([patience.settle] if interrupted else [])
    pause = patience.settle
    for turn in range(1, TRIES + 1):
        found = patience.look(find, pauses, "the file may have been uploaded")
        if found is not None:
            return found
        patience.say(f"uploading {len(file.content):,} bytes to {service.endpoint}")
        try:
            return service.upload(file.name, file.content)
        except UnclearError as error:
            if turn == TRIES:
                raise error.refusal from None
            patience.wait(error, pause)
            # An upload is not paid for: two tries are enough looking for one.
            pauses = iter([] if error.nothing_done else [2 * pause, 4 * pause])
            pause *= 2
    raise AssertionError("the last turn returns or raises")


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
    """Stop a job, unless it has ended; the caller holds the lock.

    Raises:
        UserError: The service refuses or does not answer: the job runs on, or may.
    """
    job = service.job(record.job_id or "")
    if job.status not in FINAL:
        try:
            job = service.cancel(job.id)
        except UnclearError as error:
            raise runs_on(record.label, error.refusal, certain=error.nothing_done) from None
        except UserError as error:
            raise runs_on(record.label, error, certain=True) from None
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
    if known and known.job_id is None and may_have_a_job(known) and known.file_id == job.file_id:
        # Asked for here, without a clear answer.
        return write_state(_seen(known, job), folder)
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
        attempt=job.number("em_attempt") or 0,
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
        asked=None,
        asked_last=None,
        status=job.status,
        created=job.created,
        finish=job.finish,
        trained_tokens=job.trained_tokens,
        hyperparameters={k: v for k, v in job.hyperparameters.items() if v is not None},
        models=models,
        **cause,
    )


def _further(record: JobRecord, news: Progress) -> JobRecord:
    return record.but(
        losses=dict(sorted({**record.losses, **news.losses}.items())),
        steps=news.steps or record.steps,
        last_event=news.last or record.last_event,
    )
