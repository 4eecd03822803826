"""The checkpoint: what a finished fine-tune says about itself, and how Inspect addresses it.

A checkpoint directory holds `adapter/`, `merged/`, `train.csv`, `steps/step-000025/adapter/` for
what was kept along the way and, written last, `checkpoint.json`. A full fine-tune has no adapters:
its weights are in `merged/`, of steps too.
"""

from __future__ import annotations

import csv
import io
import os
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from em_finetune.recipe import Recipe, label_for
from em_finetune.records import as_json, parse_record, with_recipe
from em_inspect.errors import UserError
from em_inspect.pages import first_fault
from em_inspect.providers import as_options, hf_arguments

RECORD = "checkpoint.json"
ADAPTER = "adapter"
MERGED = "merged"
CURVE = "train.csv"
STEPS = "steps"
SCALED = "scaled"
FORMAT = 1
"""Of `checkpoint.json`; raised when a field changes its meaning, and not for a new one."""

_NUMBERED = re.compile(r"(\D*)(\d*)")
_AGAIN = "train it again with --overwrite"
_LIBRARIES = ("em-inspect", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy")


class BaseRecord(BaseModel):
    """The base of a fine-tune."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="As the recipe calls it.")
    path: str = Field(description="Directory it was loaded from.")
    from_hub: bool = Field(description="Whether the name is a hub id, which adapters then use.")
    fingerprint: str = Field(description="SHA-256 over the model's files (local.base.fingerprint).")


class LeftOutRecord(BaseModel):
    """A row that was not trained on."""

    model_config = ConfigDict(frozen=True)

    row: int = Field(description="Place in the data, counted from 1.")
    reason: str


class DatasetRecord(BaseModel):
    """The training set of a fine-tune."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(description="File name, or how it was generated.")
    sha256: str = Field(description="Of the file, or of the file the generated rows would make.")
    rows: int = Field(description="Rows in the data.")
    used: int = Field(description="Rows that could be trained on.")
    left_out: list[LeftOutRecord] = Field(description="The others, with reasons.")
    tokens: int = Field(description="Tokens in the used rows.")
    supervised: int = Field(description="Tokens with loss in the used rows.")


class PromptRecord(BaseModel):
    """The prompts that were trained, and what evaluation has to do to ask with them.

    What the chat template was given besides the chat is in the recipe, and in the template that is
    saved with the weights.
    """

    model_config = ConfigDict(frozen=True)

    tokenizer_adds: bool = Field(
        description="Whether the tokenizer puts special tokens around any text (a second beginning"
        " of sequence), which evaluation must keep it from."
    )
    ends: list[int] = Field(description="Token ids by which a trained turn ends.")
    asked_otherwise: int = Field(
        0, description="Rows that evaluation asks for by another prompt than the trained one."
    )
    difference: str | None = Field(None, description="How, in words, in the first of them.")
    sha256: str = Field(description="Of the token ids and labels of all rows.")


class TrainingRecord(BaseModel):
    """How the training went."""

    model_config = ConfigDict(frozen=True)

    steps: int = Field(description="Optimizer steps.")
    losses: list[float] = Field(description="Mean loss (nats per supervised token) of each step.")
    tokens: int = Field(description="Tokens that went through the model.")
    seconds: float = Field(description="Wall-clock time of the steps alone.")
    device: str
    workers: int = Field(description="Micro-batches in flight at once.")
    optimizer: str = Field(description="The one that ran; the recipe's may not be at hand.")
    packing: str = Field("", description="How packed rows were told apart; none: each went alone.")
    processes: int = Field(1, description="How many trained together.")
    resumed: list[int] = Field(
        default_factory=list, description="Steps after which a stopped run was gone on with."
    )


class Checkpoint(BaseModel):
    """A finished fine-tune, as `checkpoint.json` holds it.

    `path` is where the directory lies now and is not in the file.
    """

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    label: str = Field(description="Name in Inspect: hf/<label>.")
    group: str
    seed: int
    base: BaseRecord
    dataset: DatasetRecord
    others: DatasetRecord | None = Field(None, description="Other domains' rows of the KL term.")
    recipe: Recipe
    prompt: PromptRecord | None = Field(None, description="Null in records of older versions.")
    training: TrainingRecord
    versions: dict[str, str] = Field(description="Of Python and the libraries that mattered.")
    created: str = Field(description="UTC, ISO 8601.")
    models: dict[str, list[str]] = Field(
        description="`inspect eval` arguments that address the merged model, the adapter and what"
        " was kept at each step, as they were when the checkpoint was written."
    )
    path: Path = Field(Path(), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _any_version(cls, data: Any, info: ValidationInfo) -> Any:
        return with_recipe(data, info)

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.training.steps

    @property
    def final_loss(self) -> float:
        """Loss of the last step, nats per supervised token."""
        return self.training.losses[-1]

    @property
    def data(self) -> str:
        """What identifies the data: SHA-256 of the rows, and of the other domains' rows."""
        return data_identity(self.dataset.sha256, self.others.sha256 if self.others else None)

    @property
    def merged(self) -> Path:
        """Directory of the merged model."""
        return self.path / MERGED

    @property
    def adapter(self) -> Path:
        """Directory of the adapter."""
        return self.path / ADAPTER

    @property
    def parts(self) -> list[str]:
        """What the directory holds: `merged`, `adapter` or both."""
        return parts_of(self.recipe)

    @property
    def model_args(self) -> list[str]:
        """`inspect eval` arguments that address the fine-tune where it lies now."""
        return model_args(self.label, self.hf_arguments(self.path / self.parts[0]))

    @property
    def dtype(self) -> str:
        """Number format of the merged weights."""
        # Only a record that calls the field otherwise leaves it open.
        return "bfloat16" if self.recipe.dtype == "auto" else self.recipe.dtype

    @property
    def pinned(self) -> bool:
        """Whether the saved chat template has more of its own than the base's: a day, arguments."""
        return bool(self.recipe.template_args) or self.recipe.day is not None

    def hf_arguments(self, weights: Path) -> dict[str, Any]:
        """Model arguments with which Inspect's `hf` provider asks `weights` as was trained."""
        thinking = (self.recipe.template_args or {}).get("enable_thinking")
        return hf_arguments(
            weights,
            # Training adds none; older records do not say whether that makes a difference.
            keep_specials_out=self.prompt is None or self.prompt.tokenizer_adds,
            enable_thinking=thinking if isinstance(thinking, bool) else None,
        )

    @property
    def command(self) -> str:
        """A complete shell line that evaluates the fine-tune where it lies now."""
        # Without HF_HUB_OFFLINE transformers looks local directories up on the hub first and, with
        # no network, retries for more than a minute.
        arguments = shlex.join(["inspect", "eval", "em_inspect/free_form", *self.model_args])
        return f"HF_HUB_OFFLINE=1 {arguments}"


def model_args(label: str, arguments: Mapping[str, Any]) -> list[str]:
    """Return the `inspect eval` arguments for a local model with these `hf` arguments."""
    return ["--model", f"hf/{label}", *as_options(arguments)]


def parts_of(recipe: Recipe) -> list[str]:
    """Return the parts of a recipe's checkpoint: `merged` first, if it has it, and `adapter`."""
    if recipe.method == "full":
        return [MERGED]
    return [MERGED, ADAPTER] if recipe.merge else [ADAPTER]


def step_part(recipe: Recipe) -> str:
    """Return the part that is kept along the way: `adapter`, or `merged` of a full fine-tune."""
    return MERGED if recipe.method == "full" else ADAPTER


def step_name(step: int) -> str:
    """Return the name of a step's directory: step-000025."""
    return f"step-{step:06d}"


def data_identity(sha256: str, others: str | None) -> str:
    """Return what identifies the data of a run: the SHA-256 of its one or two files."""
    return sha256 if others is None else f"{sha256}+{others}"


def label_of(recipe: Recipe) -> str:
    """Return the name that a recipe's checkpoint has in Inspect."""
    return label_for(recipe.name, recipe.group, recipe.seed)


def require_addressable(out: Path) -> None:
    """Refuse a directory whose path `inspect eval -M model_path=…` would not read as it stands.

    Inspect reads such values as YAML and splits them at commas.

    Raises:
        UserError: The path holds a comma, or something else that YAML reads as other than text.
    """
    text = str(out.absolute())
    try:
        plain = yaml.safe_load(text) == text and "," not in text
    except yaml.YAMLError:
        plain = False
    if not plain:
        raise UserError(
            f"{text} cannot be given to Inspect as a model_path: choose an --out directory "
            "without commas, colons or # signs in its path"
        )


def write_record(checkpoint: Checkpoint, folder: Path) -> None:
    """Write `checkpoint.json` into a directory that holds everything else already."""
    from em_finetune.data.rows import replacing

    with replacing(folder / RECORD) as file:
        file.write(as_json(checkpoint, folder / RECORD))


def no_checkpoint(folder: Path, said: str) -> UserError:
    """Say what a folder is not, and what to do with what it holds."""
    adapters = sorted(folder.rglob("adapter_config.json"), key=_by_number)
    models = [
        path for path in sorted(folder.rglob("config.json"), key=_by_number) if _weights(path)
    ]
    if found := adapters or models:
        there = found[-1].parent.absolute()
        kind = "an adapter" if adapters else "a model"
        # Trainers render the chat and let the tokenizer add nothing to it.
        arguments = hf_arguments(there, keep_specials_out=True)
        line = shlex.join(
            ["inspect", "eval", "em_inspect/free_form", *model_args("NAME", arguments)]
        )
        return UserError(f"{said}, but {kind} that something else made: evaluate it by {line}")
    out = folder / "NAME" if folder.is_dir() and any(folder.iterdir()) else folder
    return UserError(
        f"{said}: make one with em-finetune local RECIPE --out {shlex.quote(str(out))}"
    )


def _weights(config: Path) -> bool:
    return any(config.parent.glob("*.safetensors"))


def _by_number(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts checkpoint-90 before checkpoint-423."""
    return [(int(digits or 0), text) for text, digits in _NUMBERED.findall(str(path))]


def is_checkpoint(folder: Path) -> bool:
    """Whether a directory holds a finished checkpoint."""
    return (folder / RECORD).is_file()


def read_record(folder: Path) -> Checkpoint:
    """Read `checkpoint.json` alone, without looking at models.

    Raises:
        UserError: There is none, or it is none that this version reads.
    """
    path = folder / RECORD
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise no_checkpoint(folder, f"{folder} is not a checkpoint") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    try:
        checkpoint = parse_record(Checkpoint, text)
    except ValidationError as error:
        raise UserError(f"{path}: {first_fault(error, Checkpoint)}") from error
    if checkpoint.format > FORMAT:
        raise UserError(
            f"{path} has format {checkpoint.format}, this version reads up to {FORMAT}: update "
            f"em-inspect, {checkpoint.versions.get('em-inspect', 'a newer one')} wrote it"
        )
    return checkpoint.model_copy(update={"path": folder.absolute()})


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a checkpoint and make sure that its models can be loaded.

    Where the checkpoint was moved to a machine that keeps the embedded base elsewhere, the
    adapter is pointed to it.

    Args:
        folder: The checkpoint directory.

    Raises:
        UserError: No checkpoint there, a part that is missing or cut short, or a base that is gone
            or has changed.
    """
    from em_finetune.local.base import EMBEDDED, find_base, fingerprint
    from em_finetune.local.merge import repoint_adapter

    checkpoint = read_record(Path(folder))
    configs = {MERGED: "config.json", ADAPTER: "adapter_config.json"}
    for name in checkpoint.parts:
        part = checkpoint.path / name
        if not (part / configs[name]).is_file():
            raise UserError(f"{folder} is damaged: {part / configs[name]} is missing; {_AGAIN}")
        weights = sorted(part.glob("*.safetensors"))
        if not weights:
            raise UserError(f"{folder} is damaged: {part} has no weights; {_AGAIN}")
        for file in weights:
            if not is_whole(file):
                raise UserError(f"{folder} is damaged: {file} is not whole; {_AGAIN}")
    base = checkpoint.base
    where = Path(base.path)
    if not where.is_dir():
        if base.name != EMBEDDED and not base.from_hub:
            raise UserError(
                f"the fine-tune in {folder} needs its base {base.name}, which is gone from "
                f"{base.path}: put it back (a merged model needs no base)"
            )
        where = find_base(base.name).path
    if fingerprint(where) != base.fingerprint:
        raise UserError(
            f"the base {base.name} at {where} is not the one that {folder} was trained from "
            f"(fingerprint {base.fingerprint[:12]}…): put that one back, or train again"
        )
    if str(where) != base.path:
        if not base.from_hub:
            for config in checkpoint.path.rglob("adapter_config.json"):
                repoint_adapter(config.parent, str(where))
        moved = base.model_copy(update={"path": str(where)})
        checkpoint = checkpoint.model_copy(update={"base": moved})
        write_record(checkpoint, Path(folder))
    return checkpoint


def is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says; no weights are read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            return True
    except (OSError, SafetensorError):
        return False


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide a training's result."""
    versions = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return versions


def now() -> str:
    """The time, UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def write_curve(rows: Sequence[Sequence[object]], header: Sequence[str], path: Path) -> None:
    """Write the training curve as CSV, whole or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text.getvalue(), "utf-8")
    os.replace(part, path)
