"""What is known of each job, on disk: written before and after every call that changes things."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from em_finetune.data.rows import replacing
from em_finetune.hosted.recipe import HostedRecipe, ServiceName
from em_finetune.hosted.secrets import hide
from em_finetune.records import as_json, parse_record, with_recipe
from em_inspect.errors import UserError
from em_inspect.pages import first_fault

RECORD = "hosted.json"
LOCK = ".hosted.lock"
FORMAT = 1
"""Of `hosted.json`; raised when a field changes its meaning, and not for a new one."""

Phase = Literal["planned", "uploading", "uploaded", "creating", "created"]


class FileRecord(BaseModel):
    """The training file of a job."""

    model_config = ConfigDict(frozen=True)

    dataset: str = Field(description="File name, or how it was generated.")
    dataset_sha256: str = Field(description="Of the user's file.")
    sha256: str = Field(description="Of what was uploaded: the chats alone.")
    rows: int
    tokens: int = Field(description="In one pass.")
    tokens_method: str = Field(description="How they were counted.")


class ModelRecord(BaseModel):
    """A model that the job left."""

    model_config = ConfigDict(frozen=True)

    step: int | None = Field(description="Null: the final one.")
    model: str
    loss: float | None = None


class JobRecord(BaseModel):
    """One job, as `hosted.json` holds it in the fine-tune's directory. No key is ever in it."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    label: str
    service: ServiceName
    endpoint: str
    recipe: HostedRecipe
    group: str
    seed: int
    attempt: int = 0
    key: str = Field(description="The job carries it as metadata.")
    file: FileRecord
    phase: Phase = "planned"
    asked: float | None = Field(
        default=None,
        description="When the job was first asked for without a clear answer, Unix seconds.",
    )
    asked_last: float | None = Field(default=None, description="And when last.")
    adopted: bool = False
    file_id: str | None = None
    job_id: str | None = None
    status: str = "not started"
    created: float | None = Field(default=None, description="Of the job, Unix seconds.")
    finish: float | None = Field(default=None, description="Estimated end, Unix seconds.")
    error_code: str = Field(default="", description="Why it failed, in the service's code,")
    error: str = Field(default="", description="and in its words.")
    trained_tokens: int | None = None
    hyperparameters: dict[str, int | float | str] = Field(
        default_factory=dict, description="As the service says them."
    )
    steps: int | None = Field(default=None, description="Optimizer steps in all.")
    losses: dict[int, float] = Field(default_factory=dict, description="Training loss by step.")
    last_event: str | None = None
    models: list[ModelRecord] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _any_version(cls, data: Any, info: ValidationInfo) -> Any:
        return with_recipe(data, info)

    def but(self, **changes: object) -> JobRecord:
        """A copy with other values."""
        return self.model_copy(update=changes)


def write_state(record: JobRecord, folder: Path) -> JobRecord:
    """Write a job's `hosted.json`, whole or not at all, and return the record."""
    with replacing(folder / record.label / RECORD) as file:
        file.write(hide(as_json(record, folder / record.label / RECORD).decode()).encode())
    return record


def read_state(folder: Path, label: str) -> JobRecord | None:
    """Read a job's record; None if there is none.

    Raises:
        UserError: It is damaged, or of another version.
    """
    path = folder / label / RECORD
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    try:
        record = parse_record(JobRecord, text)
    except ValidationError as error:
        raise UserError(
            f"{path}: {first_fault(error, JobRecord)}; move it away, and em-finetune hosted adopt "
            "JOB takes the job in again"
        ) from error
    if record.format > FORMAT:
        raise UserError(
            f"{path} has format {record.format}, this version reads up to {FORMAT}: update "
            "em-inspect"
        )
    return record


def read_states(folder: Path) -> list[JobRecord]:
    """Read all jobs recorded under a folder, by label."""
    labels = sorted(path.parent.name for path in folder.glob(f"*/{RECORD}"))
    return [record for label in labels if (record := read_state(folder, label)) is not None]


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time work on a folder's jobs; a second one says so and waits."""
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            click.echo(f"another em-finetune hosted works in {folder}: waiting for it", err=True)
            lock.acquire()
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
