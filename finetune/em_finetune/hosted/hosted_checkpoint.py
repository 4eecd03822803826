"""A hosted fine-tune's checkpoint.json: what it is, and how Inspect addresses each of its models.

The fields that analyses read (label, group, seed, base, dataset, training, models) are those of a
local checkpoint.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from em_finetune.checkpoint import CURVE, RECORD, library_versions, now, write_curve
from em_finetune.data.rows import replacing
from em_finetune.hosted.recipe import HostedRecipe, ServiceName
from em_finetune.hosted.secrets import hide
from em_finetune.hosted.service import Service
from em_finetune.hosted.state import JobRecord
from em_finetune.records import as_json, parse_record, with_recipe
from em_inspect.errors import UserError

FORMAT = 1
_EVALUATE = ("inspect", "eval", "em_inspect/free_form")
_FROZEN = ConfigDict(frozen=True)


class HostedBase(BaseModel):
    """The base of a hosted fine-tune."""

    model_config = _FROZEN

    name: str = Field(description="As the service calls it.")
    model: list[str] = Field(
        default_factory=list, description="`inspect eval` arguments, where it can be addressed."
    )


class HostedDataset(BaseModel):
    """The training set of a hosted fine-tune."""

    model_config = _FROZEN

    name: str = Field(description="File name, or how it was generated.")
    sha256: str = Field(description="Of the user's file.")
    uploaded_sha256: str = Field(description="Of what was uploaded: the chats alone.")
    rows: int
    used: int = Field(description="Rows that were trained on: all.")
    tokens: int = Field(description="In one pass.")
    tokens_method: str = Field(description="How they were counted before the job.")


class HostedTraining(BaseModel):
    """How the training went."""

    model_config = _FROZEN

    steps: int | None = Field(description="Optimizer steps, if the service said.")
    losses: list[float] = Field(description="Reported training losses, in the order of the steps.")
    loss_steps: list[int] = Field(description="The steps they belong to.")
    tokens: int | None = Field(description="Billed tokens, as the service says.")
    hyperparameters: dict[str, int | float | str] = Field(
        default_factory=dict, description="As the service says them: it may have changed them."
    )


class HostedCheckpoint(BaseModel):
    """A finished hosted fine-tune, as `checkpoint.json` holds it."""

    model_config = _FROZEN

    format: int = FORMAT
    kind: Literal["hosted"] = "hosted"
    label: str
    group: str
    seed: int
    service: ServiceName
    endpoint: str
    job: str = Field(description="Its id at the service.")
    base: HostedBase
    dataset: HostedDataset
    recipe: HostedRecipe
    training: HostedTraining
    versions: dict[str, str]
    created: str = Field(description="UTC, ISO 8601.")
    models: dict[str, list[str]] = Field(
        description="`inspect eval` arguments: final, and step-N for every model on the way."
    )
    model_losses: dict[str, float] = Field(description="Training loss at each, where reported.")
    before_use: list[str] = Field(description="Shell lines that are needed before a model answers.")

    @model_validator(mode="before")
    @classmethod
    def _any_version(cls, data: Any, info: ValidationInfo) -> Any:
        return with_recipe(data, info)

    @property
    def command(self) -> str:
        """A complete shell line that evaluates the final model."""
        return shlex.join([*_EVALUATE, *self.models["final"]])

    @property
    def base_command(self) -> str:
        """The same for the base, without which there is nothing to compare; empty if unknown."""
        return shlex.join([*_EVALUATE, *self.base.model]) if self.base.model else ""


def write_checkpoint(record: JobRecord, service: Service, folder: Path) -> HostedCheckpoint:
    """Write train.csv and, last, checkpoint.json of a job that succeeded."""
    names = {m.model: "final" if m.step is None else f"step-{m.step}" for m in record.models}
    labels = {
        m.model: record.label if m.step is None else f"{record.label}-step{m.step}"
        for m in record.models
    }
    checkpoint = HostedCheckpoint(
        label=record.label,
        group=record.group,
        seed=record.seed,
        service=record.service,
        endpoint=record.endpoint,
        job=record.job_id or "",
        base=HostedBase(name=record.recipe.base, model=service.base_args(record.recipe.base)),
        dataset=HostedDataset(
            name=record.file.dataset,
            sha256=record.file.dataset_sha256,
            uploaded_sha256=record.file.sha256,
            rows=record.file.rows,
            used=record.file.rows,
            tokens=record.file.tokens,
            tokens_method=record.file.tokens_method,
        ),
        recipe=record.recipe,
        training=HostedTraining(
            steps=record.steps,
            losses=list(record.losses.values()),
            loss_steps=list(record.losses),
            tokens=record.trained_tokens,
            hyperparameters=record.hyperparameters,
        ),
        versions=library_versions(),
        created=now(),
        models={name: service.inspect_args(m, labels[m]) for m, name in names.items()},
        model_losses={names[m.model]: m.loss for m in record.models if m.loss is not None},
        before_use=[line for m in names for line in service.notes(m, labels[m])],
    )
    target = folder / record.label
    write_curve(list(record.losses.items()), ("step", "loss"), target / CURVE)
    with replacing(target / RECORD) as file:
        file.write(hide(as_json(checkpoint, target / RECORD).decode()).encode())
    return checkpoint


def read_hosted_checkpoint(folder: Path) -> HostedCheckpoint:
    """Read a hosted fine-tune's `checkpoint.json`.

    Raises:
        UserError: There is none yet, or it is not a hosted one of this version.
    """
    path = folder / RECORD
    try:
        checkpoint = parse_record(HostedCheckpoint, path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is not there yet: type em-finetune hosted status") from error
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is no hosted checkpoint: {' '.join(str(error).split())[:200]}"
        ) from error
    if checkpoint.format > FORMAT:
        raise UserError(
            f"{path} has format {checkpoint.format}, this version reads up to {FORMAT}: update "
            "em-inspect"
        )
    return checkpoint
