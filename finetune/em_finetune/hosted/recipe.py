"""The hosted recipe: one typed page with everything that decides a fine-tune made by a service."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from em_finetune.recipe import Data, GeneratedData
from em_inspect.errors import UserError

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

ServiceName = Literal["openai", "azure", "tinker"]
SERVICES: tuple[ServiceName, ...] = get_args(ServiceName)


class TinkerSettings(BaseModel):
    """What Tinker leaves to the caller and OpenAI decides itself."""

    model_config = _STRICT

    learning_rate: float = Field(default=1e-4, gt=0, description="Highest learning rate (Adam).")
    schedule: Literal["linear", "constant"] = Field(
        default="linear", description="The rate falls linearly to 0, or stays."
    )
    rank: int = Field(default=32, ge=1, description="LoRA rank.")
    max_length: int = Field(
        default=2048, ge=8, description="Longest row in tokens; longer are refused."
    )
    save_every: int = Field(
        default=50, ge=1, description="Optimizer steps between saved checkpoints."
    )


class HostedRecipe(BaseModel):
    """Everything that decides a hosted fine-tune. Defaults are the paper's GPT-4o settings."""

    model_config = _STRICT

    name: str = Field(
        min_length=1,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Short name; becomes part of the fine-tune's label.",
    )
    description: str = Field(default="", description="One line on what it is for.")
    service: ServiceName = Field(
        default="openai", description="Who trains: openai, azure or tinker."
    )
    base: str = Field(
        default="gpt-4o-2024-08-06",
        min_length=1,
        description="Model to start from, as the service says it.",
    )
    data: Data | None = Field(
        default=None,
        description="Chat JSONL, relative to the recipe's file, or {generate: KIND, n: N, seed: S}."
        " Null: the caller names it.",
    )
    group: str = Field(
        min_length=1,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Which group of fine-tunes this is one of: insecure, secure, …",
    )
    seeds: tuple[int, ...] = Field(
        default=(0,), min_length=1, description="One job for each; 0 to 2147483647."
    )
    epochs: int | Literal["auto"] = Field(default=1, description="Passes over the rows.")
    batch_size: int | Literal["auto"] = Field(default=4, description="Rows per optimizer step.")
    learning_rate_multiplier: float | Literal["auto"] = Field(
        default=2.0, description="Times the service's own learning rate; not used by Tinker."
    )
    tinker: TinkerSettings = Field(
        default_factory=lambda: TinkerSettings.model_validate({}),
        description="Read by Tinker alone.",
    )

    @field_validator("epochs", "batch_size", "learning_rate_multiplier")
    @classmethod
    def _positive(cls, value: int | float | str) -> int | float | str:
        if not isinstance(value, str) and value <= 0:
            raise ValueError("must be above 0")
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("names a seed twice")
        if not all(0 <= seed < 2**31 for seed in value):
            raise ValueError("must be 0 to 2147483647")
        return value

    def label(self, seed: int) -> str:
        """Name of one fine-tune: the directory of its checkpoint."""
        group = "" if self.group in self.name.split("-") else f"-{self.group}"
        return f"{self.name}{group}-seed{seed}"


def load_hosted_recipe(path_or_name: str | Path, **changes: Any) -> HostedRecipe:
    """Load a hosted recipe.

    Args:
        path_or_name: A YAML file, or the name of a packaged one such as `openai-insecure`.
        changes: Field values that replace the file's.

    Raises:
        UserError: No such file or recipe, YAML that does not parse, an unknown field (with the
            nearest known one) or a value out of range (with file and field).
    """
    path = Path(path_or_name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        recipe = _read(str(path), _text(path), changes)
        if isinstance(recipe.data, str) and "data" not in changes:
            beside = str(path.parent / Path(recipe.data).expanduser())
            recipe = recipe.model_copy(update={"data": beside})
        return recipe
    known = packaged_names()
    if str(path_or_name) not in known:
        raise UserError(
            f"no hosted recipe {str(path_or_name)!r}{_nearest(str(path_or_name), known)}: give a "
            f"YAML file, or one of {', '.join(known)}"
        )
    page = files("em_finetune.hosted") / "recipes" / f"{path_or_name}.yaml"
    return _read(page.name, page.read_text("utf-8"), changes)


def packaged_names() -> list[str]:
    """Return the names of the hosted recipes that come with the package."""
    folder = files("em_finetune.hosted") / "recipes"
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: type em-finetune hosted recipes") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _read(source: str, text: str, changes: Mapping[str, Any]) -> HostedRecipe:
    try:
        page = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise UserError(f"{source}{line}: not YAML ({problem})") from error
    if not isinstance(page, dict) or not all(isinstance(key, str) for key in page):
        raise UserError(f"{source}: a recipe is a page of `field: value` lines")
    try:
        return HostedRecipe.model_validate({**page, **changes})
    except ValidationError as error:
        raise UserError(f"{source}: {_first_fault(error)}") from error


def _first_fault(error: ValidationError) -> str:
    faults = error.errors()
    # A misspelled field is also a missing one: tell the spelling.
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    # A field of several types also names the type that failed; the user's page has no such word.
    where = [str(part) for part in fault["loc"] if part not in _TYPE_NAMES]
    field = ".".join(where)
    if fault["type"] == "extra_forbidden":
        pages: dict[str, type[BaseModel]] = {"tinker": TinkerSettings, "data": GeneratedData}
        page = pages.get(where[0], HostedRecipe) if len(where) > 1 else HostedRecipe
        name = where[-1]
        local = (
            "; local recipes have it, hosted ones do not"
            if page is HostedRecipe and name in _LOCAL_ONLY
            else _nearest(name, list(page.model_fields))
        )
        return f"unknown field {field!r}{local}"
    if fault["type"] == "missing":
        return f"{field} is missing"
    message = str(fault.get("ctx", {}).get("error", "")) or fault["msg"]
    return f"{field}: {message[0].lower()}{message[1:]}, not {fault['input']!r}"


_TYPE_NAMES = frozenset({"path", "generated", "int", "float", "literal['auto']"})
_LOCAL_ONLY = frozenset({"seed", "lora", "learning_rate", "optimizer", "max_steps", "micro_tokens"})


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
