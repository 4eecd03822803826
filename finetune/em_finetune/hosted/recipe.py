"""The hosted recipe: one typed page with everything that decides a fine-tune made by a service."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from em_finetune.recipe import Data, label_for, read_page, require_own_kind
from em_finetune.records import is_record
from em_inspect.errors import UserError
from em_inspect.pages import did_you_mean, read_text

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

ServiceName = Literal["openai", "azure", "tinker"]
_LOCAL_ONLY = frozenset({"seed", "lora", "learning_rate", "optimizer", "max_steps", "micro_tokens"})
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

    @model_validator(mode="before")
    @classmethod
    def _of_a_service(cls, page: Any) -> Any:
        local = sorted(_LOCAL_ONLY.intersection(page)) if isinstance(page, Mapping) else []
        if local:
            raise ValueError(
                f"unknown field '{local[0]}': local recipes have it, hosted ones do not"
            )
        return page

    @model_validator(mode="after")
    def _of_its_kind(self, info: ValidationInfo) -> HostedRecipe:
        if not is_record(info):
            require_own_kind(self.group, self.data)
        return self

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
        return label_for(self.name, self.group, seed)


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
        text = read_text(path, "type em-finetune hosted recipes to see what there is")
        recipe = read_page(HostedRecipe, str(path), text, changes)
        if isinstance(recipe.data, str) and "data" not in changes:
            beside = str(path.parent / Path(recipe.data).expanduser())
            recipe = recipe.model_copy(update={"data": beside})
        return recipe
    known = packaged_names()
    if str(path_or_name) not in known:
        raise UserError(
            f"no hosted recipe {str(path_or_name)!r}{did_you_mean(str(path_or_name), known)}: "
            f"give a YAML file, or one of {', '.join(known)}"
        )
    page = files("em_finetune.hosted") / "recipes" / f"{path_or_name}.yaml"
    return read_page(HostedRecipe, page.name, page.read_text("utf-8"), changes)


def packaged_names() -> list[str]:
    """Return the names of the hosted recipes that come with the package."""
    folder = files("em_finetune.hosted") / "recipes"
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))
