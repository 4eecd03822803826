"""What every fine-tuning service offers here, and the words in which it answers."""

from __future__ import annotations

import re
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
    """A call without a clear yes or no: no answer, an answer that is none, 5xx, or 429.

    Attributes:
        refusal: What to tell the user if it stays like this.
        wait: Seconds that the service asked to wait, if it did.
        nothing_done: The call certainly changed nothing: it was turned away (429), or never left.
    """

    def __init__(
        self, refusal: UserError, wait: float | None = None, nothing_done: bool = False
    ) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal
        self.wait = wait
        self.nothing_done = nothing_done


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


Match = Literal["same", "perhaps", "other"]


@dataclass(frozen=True)
class Job:
    """A job as the service tells it. Times are Unix seconds.

    Services differ in what they tell: only id and status are always there.
    """

    id: str
    status: Status
    base: str = ""
    file_id: str = ""
    seed: int | None = None
    created: float | None = None
    model: str | None = None
    finish: float | None = None
    trained_tokens: int | None = None
    error_code: str = ""
    error: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str) -> int | None:
        """A whole number of 0 to 2147483647 in the metadata; None if it holds none of the name.

        Anybody may have written it: no number is refused by the caller, not read as another.
        """
        told = self.metadata.get(name, "")
        number = int(told) if re.fullmatch(r"\d{1,10}", told, re.ASCII) else 2**31
        return number if number < 2**31 else None

    def match(self, wanted: Wanted) -> Match:
        """Whether this is the job that was wanted.

        The key decides where a service keeps it. Else file, base, seed and hyperparameters do, as
        far as they are told; a job that does not tell its file or seed, or tells other settings, is
        perhaps ours: services have been seen to change what they were sent. A job that failed is
        not the one wanted if somebody asked for another attempt.
        """
        if KEY in self.metadata:
            return "same" if self.metadata[KEY] == wanted.key else "other"
        given_up = wanted.attempt > 0 and self.status in ("failed", "cancelled")
        if self.file_id not in ("", wanted.file_id) or given_up:
            return "other"
        told = (self.file_id, self.base, self.seed)
        alike = told == (wanted.file_id, wanted.recipe.base, wanted.seed)
        return "same" if alike and not self.changes(wanted) else "perhaps"

    def contradicts(self, wanted: Wanted) -> bool:
        """Whether the job tells no file, or another base, seed or setting than was asked for.

        Such a job is not taken for one that was asked for nowhere but in another folder.
        """
        seed = self.seed not in (None, wanted.seed)
        base = self.base not in ("", wanted.recipe.base)
        return seed or base or not self.file_id or bool(self.changes(wanted))

    def may_be(self, wanted: Wanted) -> bool:
        """Whether base and seed allow that this is the job; settings may have been changed."""
        asked, told = wanted.recipe.base, self.base
        # An alias comes back as the dated snapshot that it stands for, or the other way round.
        base = told == "" or told.startswith(asked) or asked.startswith(told)
        return base and self.seed in (None, wanted.seed)

    def changes(self, wanted: Wanted) -> dict[str, Any]:
        """Hyperparameters that the job tells otherwise than they were asked for."""
        return {
            name: value
            for name, value in self.hyperparameters.items()
            if value is not None and wanted.hyperparameters.get(name, value) not in (value, "auto")
        }


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
    keeps_key: bool = False
    """Whether every job is certain to carry the key that it was created with."""

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

    def prepare(self, wanted: Wanted) -> None:
        """Do what has to be done before a job can be created; may be done again."""
        return

    @abstractmethod
    def create(self, wanted: Wanted) -> Job:
        """Create a job with a single call, without retries.

        Raises:
            UserError: The service said no; there is no job.
            UnclearError: It said neither yes nor no.
        """

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

    def base_args(self, base: str) -> list[str]:
        """`inspect eval` arguments that address the base; none where more than a name is needed."""
        return []

    def notes(self, model: str, label: str) -> list[str]:
        """What has to be done before a model answers, one shell line each; mostly nothing."""
        return []
