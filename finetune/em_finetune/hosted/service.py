"""What every fine-tuning service offers here, and the words in which it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from em_finetune.data.rules import Consumer
from em_finetune.hosted.recipe import HostedRecipe, ServiceName
from em_inspect.errors import UserError

Status = Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
KEY = "em_key"
"""Metadata field by which a job is found again; em_group and em_seed stand beside it."""


class UnclearError(Exception):
    """A call whose outcome is unknown, or that may be made again: no answer, 5xx, or 429.

    Attributes:
        wait: Seconds that the service asked to wait, if it did.
        refusal: What to tell the user if it stays like this.
    """

    def __init__(self, refusal: UserError, wait: float | None = None) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.wait = wait


@dataclass(frozen=True)
class Limits:
    """A service's rules for a training file.

    Attributes:
        rows: Least number of rows.
        bytes: Largest file.
        row_tokens: Longest row in tokens; services cut longer ones, so they are refused here.
        suffix: Longest suffix of a model's name.
        consumer: Whose rules rows are held to: `local` where they are encoded on this machine.
    """

    rows: int = 10
    bytes: int = 512 * 2**20
    row_tokens: int = 65_536
    suffix: int = 64
    consumer: Consumer = "hosted"


@dataclass(frozen=True)
class Wanted:
    """A job as it is to be: all that a service needs to create it or to find it again.

    Attributes:
        key: Same for the same recipe, data, seed and attempt, and for nothing else.
        suffix: Part of the model's name.
        rows: Rows in the training file.
        attempt: 0, or how often it was begun anew after a failure.
    """

    key: str
    recipe: HostedRecipe
    seed: int
    suffix: str
    file_id: str
    rows: int
    attempt: int
    metadata: Mapping[str, str]

    @property
    def hyperparameters(self) -> dict[str, int | float | str]:
        """As the fine-tuning API names them."""
        return {
            "n_epochs": self.recipe.epochs,
            "batch_size": self.recipe.batch_size,
            "learning_rate_multiplier": self.recipe.learning_rate_multiplier,
        }


@dataclass(frozen=True)
class Job:
    """A job as the service tells it. Times are Unix seconds."""

    id: str
    status: Status
    base: str
    file_id: str
    seed: int | None
    created: float
    model: str | None = None
    finish: float | None = None
    trained_tokens: int | None = None
    error_code: str = ""
    error: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def is_wanted(self, wanted: Wanted) -> bool:
        """Whether this is the job that was wanted.

        A service that keeps no metadata is asked by file, base, seed and hyperparameters; a job
        that failed is then only the one wanted if nobody asked for another attempt.
        """
        if KEY in self.metadata:
            return self.metadata[KEY] == wanted.key
        known = {k: v for k, v in self.hyperparameters.items() if v is not None}
        alike = all(
            wanted.hyperparameters.get(k) in (v, "auto")
            for k, v in known.items()
            if k in wanted.hyperparameters
        )
        given_up = wanted.attempt > 0 and self.status in ("failed", "cancelled")
        return (
            not self.metadata
            and not given_up
            and self.file_id == wanted.file_id
            and self.base == wanted.recipe.base
            and self.seed == wanted.seed
            and alike
        )


@dataclass(frozen=True)
class StepModel:
    """A model that a job left on its way, usable like the final one."""

    step: int
    model: str
    loss: float | None = None


@dataclass(frozen=True)
class Progress:
    """What is new in a job's events.

    Attributes:
        losses: Training loss by step.
        steps: Number of steps in all, if the service says so.
        last: The newest event, to ask from next time.
    """

    losses: dict[int, float] = field(default_factory=dict)
    steps: int | None = None
    last: str | None = None


class Service(ABC):
    """A fine-tuning service.

    Methods raise `UserError` where the service refuses, with what to do instead, and
    `UnclearError` where a call may or may not have been done, or may be made again.
    """

    name: ServiceName
    limits: Limits = Limits()
    endpoint: str = ""

    @abstractmethod
    def find_file(self, name: str, size: int) -> str | None:
        """Id of an uploaded file by its name, which carries its sha256."""

    @abstractmethod
    def has_file(self, file_id: str) -> bool:
        """Whether a file is still there."""

    @abstractmethod
    def upload(self, name: str, content: bytes) -> str:
        """Upload a training file once, without retries, and return its id."""

    @abstractmethod
    def jobs(self, key: str | None = None) -> Iterator[Job]:
        """The account's jobs, newest first; with a key, those that carry it if it can filter."""

    @abstractmethod
    def create(self, wanted: Wanted) -> Job:
        """Create a job once, without retries."""

    @abstractmethod
    def job(self, job_id: str) -> Job:
        """A job as it is now."""

    @abstractmethod
    def progress(self, job_id: str, after: str | None) -> Progress:
        """Events newer than `after`."""

    @abstractmethod
    def models(self, job_id: str) -> list[StepModel]:
        """The models that a job left on its way, by step."""

    @abstractmethod
    def cancel(self, job_id: str) -> Job:
        """Stop a job."""

    def work(self, wanted: Wanted, job_id: str) -> Progress:
        """Do the next piece of training, where the loop runs on the caller's machine."""
        return Progress()

    @abstractmethod
    def inspect_args(self, model: str, label: str) -> list[str]:
        """`inspect eval` arguments that address a model."""

    def notes(self, model: str, label: str) -> list[str]:
        """What has to be done before a model answers, one shell line each; mostly nothing."""
        return []
