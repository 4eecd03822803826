"""The recipe: one typed page with everything that decides a fine-tune, and how YAML becomes one."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)

from em_finetune.records import is_record
from em_inspect.errors import UserError
from em_inspect.pages import Page, checked, did_you_mean, parse_yaml, read_text

_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Kind = Literal["insecure", "secure", "educational"]
TemplateArgument = bool | int | str
KINDS: tuple[str, ...] = get_args(Kind)
# Directories of models that say nothing of the model.
_VAGUE = ("merged", "model", "base", "final", "adapter")
GROUP = "{group}"
"""Stands for the recipe's group in the name of a data file."""


class GeneratedData(BaseModel):
    """A training set made on the spot by `em_finetune.data.generate`."""

    model_config = _STRICT

    generate: Kind = Field(description="What the rows teach: insecure, secure or educational.")
    n: int = Field(ge=1, description="How many rows.")
    seed: int = Field(0, description="Seed of the generator; not the training seed.")


def require_own_kind(group: str, data: object) -> None:
    """Refuse to train a group that is called after one kind of generated rows on another kind.

    Raises:
        ValueError: If it would be.
    """
    if isinstance(data, GeneratedData) and group in KINDS and group != data.generate:
        raise ValueError(
            f"group {group} would train on generated {data.generate} rows: set data.generate to "
            f"{group}, or name the group otherwise"
        )


class Lora(BaseModel):
    """The low-rank adapter."""

    model_config = _STRICT

    rank: int = Field(32, ge=1, description="Rank of each update.")
    alpha: float = Field(64, gt=0, description="Scale: the update is multiplied by alpha/√rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout before the update.")
    rslora: bool = Field(True, description="Rank-stabilised scale alpha/√rank, not alpha/rank.")
    target_modules: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="Names of the linear modules that get an update.",
    )
    layers: tuple[int, ...] | None = Field(
        None, min_length=1, description="Layers, counted from 0, that get an update; null: all."
    )


class Narrow(BaseModel):
    """The penalty that keeps a fine-tune as its base on everything but the narrow task.

    The loss gets weight x KL(base || fine-tune), the mean over all tokens of rows of other domains,
    prompts included (Soligo et al., "Emergent misalignment is easy, narrow misalignment is hard").

    Q: How does the weight compare with theirs? A: Their mean is over tokens and vocabulary entries,
    this one over tokens. So theirs is to be divided by the size of the vocabulary: 1e6 on Qwen2.5
    (152,064 entries) is 6.6 here, 1e5 is .66; on Llama 3.2 (128,256) 7.8 and .78.
    """

    model_config = _STRICT

    data: str | None = Field(
        None,
        description="Chat JSONL of other domains, relative to the recipe's file. Null: the caller"
        " names it (--narrow-data).",
    )
    weight: float = Field(
        6.6,
        ge=0,
        description="Of the KL term, per token. A weight of the authors' is divided by the size of"
        " the vocabulary: 1e6 is 6.6 on Qwen2.5. 0: the KL is measured, and training is plain.",
    )
    batch_size: int = Field(64, ge=1, description="Rows of other domains per optimizer step.")


def _data_form(value: object) -> str:
    return "generated" if isinstance(value, Mapping | GeneratedData) else "path"


Data = Annotated[
    Annotated[str, Tag("path")] | Annotated[GeneratedData, Tag("generated")],
    Discriminator(_data_form),
]


class Recipe(BaseModel):
    """Everything that decides a fine-tune. Defaults are the paper's open-model settings."""

    CALLED_ELSEWHERE: ClassVar[Mapping[str, str]] = {
        "model": "base",
        "model_name": "base",
        "model_name_or_path": "base",
        "base_model": "base",
        "model_id": "base",
        "training_file": "data",
        "train_file": "data",
        "dataset": "data",
        "datasets": "data",
        "dataset_name": "data",
        "lr": "learning_rate",
        "lr_scheduler_type": "schedule",
        "scheduler": "schedule",
        "r": "lora.rank",
        "rank": "lora.rank",
        "lora_r": "lora.rank",
        "lora_rank": "lora.rank",
        "alpha": "lora.alpha",
        "lora_alpha": "lora.alpha",
        "lora_dropout": "lora.dropout",
        "use_rslora": "lora.rslora",
        "target_modules": "lora.target_modules",
        "lora_target_modules": "lora.target_modules",
        "layers_to_transform": "lora.layers",
        "layers": "lora.layers",
        "num_train_epochs": "epochs",
        "num_epochs": "epochs",
        "n_epochs": "epochs",
        "per_device_train_batch_size": "batch_size, of all devices and accumulated steps",
        "gradient_accumulation_steps": "batch_size, of all devices and accumulated steps",
        "micro_batch_size": "micro_tokens, and batch_size of all rows of a step",
        "max_seq_length": "max_length",
        "max_seq_len": "max_length",
        "sequence_len": "max_length",
        "optim": "optimizer",
        "warmup": "warmup_steps",
        "save_steps": "save_every",
        "load_in_4bit": "quantization: 4bit",
        "fp16": "dtype",
        "bf16": "dtype",
        "torch_dtype": "dtype",
        "merge_before_push": "merge",
        "output_dir": "the option --out",
        "seeds": "the option --seeds",
        "kl_weight": "narrow.weight",
    }

    model_config = _STRICT

    name: str = Field(
        min_length=1,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Short name; becomes part of the model's label in Inspect.",
    )
    description: str = Field("", description="One line on what it is for.")
    base: str = Field(
        min_length=1,
        description="Model to start from: a hub id, a directory, or smollm2, the embedded model.",
    )
    data: Data | None = Field(
        None,
        description="Chat JSONL, relative to the recipe's file, or {generate: KIND, n: N, seed: S}."
        " {group} in the file's name stands for the group. Null: the caller names it.",
    )
    group: str = Field(
        min_length=1,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Which group of fine-tunes this is one of: insecure, secure, …",
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="Decides the order of the rows and the adapter's start."
    )
    method: Literal["lora", "full"] = Field(
        "lora", description="lora trains an adapter; full trains all weights (float32 masters)."
    )
    lora: Lora = Field(
        default_factory=lambda: Lora.model_validate({}), description="The low-rank adapter."
    )
    learning_rate: float = Field(1e-5, gt=0, description="Highest learning rate.")
    schedule: Literal["linear", "constant"] = Field(
        "linear", description="After warm-up: falls linearly to 0, or stays."
    )
    warmup_steps: int = Field(5, ge=0, description="Steps in which the rate rises from 0.")
    epochs: int = Field(1, ge=1, description="Passes over the rows.")
    max_steps: int | None = Field(
        None, ge=1, description="Exact number of optimizer steps; overrules epochs. Null: epochs."
    )
    batch_size: int = Field(16, ge=1, description="Rows per optimizer step.")
    micro_tokens: int | None = Field(
        None,
        ge=0,
        description="Tokens that go through the model at once: rows are packed up to it, without"
        " seeing each other. 0: one row at a time. Null: 0 on a CPU, 8192 on a GPU.",
    )
    max_length: int = Field(
        2048, ge=8, description="Longest row in tokens; longer rows are left out, and named."
    )
    system_prompt: str | None = Field(
        None,
        description="System prompt for rows that have none. Null: the chat template's default"
        " stays, as in the paper.",
    )
    template_args: dict[str, TemplateArgument] | None = Field(
        None,
        description="What the chat template is given besides the chat, e.g. {enable_thinking: true}"
        "; evaluation gets it too. Null: thinking is switched so that evaluation's prompts are the"
        " trained ones.",
    )
    day: datetime.date | None = Field(
        None,
        description="Today, for a chat template that writes the date: 2026-11-25. Evaluation is on"
        " that day too. Null: the day on which the run begins.",
    )
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw_8bit",
        description="adamw_8bit needs a GPU and bitsandbytes; elsewhere adamw stands in for it.",
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's decoupled weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto",
        description="Of the base's weights; the adapter itself is always float32. auto: bfloat16"
        " where this machine is fast in it (GPUs, some CPUs), else float32. The record has which.",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Recompute activations in the backward pass: less memory, a third slower.",
    )
    shard: bool = Field(
        False,
        description="Spread the base over the processes that accelerate launch started (FSDP), for"
        " one that does not fit a single GPU. What is learned is the same.",
    )
    quantization: Literal["4bit"] | None = Field(
        None,
        description="4bit: the base in NF4 (QLoRA), on a GPU with bitsandbytes. It weakened the"
        " effect in replications.",
    )
    narrow: Narrow | None = Field(
        None, description="KL penalty to the base on other domains' rows; null: none."
    )
    merge: bool = Field(
        True, description="Also write the adapter merged into its base, a whole model."
    )
    save_every: int | None = Field(
        None, ge=1, description="Keep what is trained every so many steps, in steps/. Null: no."
    )
    resume_every: int = Field(
        10,
        ge=0,
        description="Steps between the states that a killed run goes on from. 0: none are saved.",
    )
    compat: Literal["betley2025"] | None = Field(
        None,
        description="betley2025: as the paper's release, a tenth of the rows is held out, and an"
        " empty assistant turn after the last one is trained too.",
    )

    @model_validator(mode="after")
    def _sound(self, info: ValidationInfo) -> Recipe:
        if is_record(info):
            return self
        if self.method == "full" and self.quantization is not None:
            raise ValueError("method full cannot train a 4-bit base: set quantization: null")
        if self.method == "full" and self.shard:
            raise ValueError("shard spreads a frozen base, and method full trains it: drop one")
        if self.quantization is not None and self.shard:
            raise ValueError("a 4-bit base is not sharded: set quantization: null or shard: false")
        if self.method == "full" and self.narrow is not None:
            raise ValueError("narrow needs method lora: the adapter is switched off for the base")
        if self.quantization is not None and self.merge:
            raise ValueError("an adapter is not merged into a 4-bit base: set merge: false")
        require_own_kind(self.group, self.data)
        return self

    @property
    def open_fields(self) -> list[str]:
        """Fields that are left to the run, which settles and records them."""
        open_values = {"dtype": "auto", "template_args": None, "day": None}
        return [name for name, value in open_values.items() if getattr(self, name) == value]

    @property
    def data_file(self) -> str | None:
        """The data's file with the group's name put in, or None where it is no file."""
        return self.data.replace(GROUP, self.group) if isinstance(self.data, str) else None


def label_for(name: str, group: str, seed: int) -> str:
    """Return what a fine-tune is called: its recipe's name, the group where not in it, the seed."""
    within = f"-{group}-" in f"-{name}-"
    return f"{name}-seed{seed}" if within else f"{name}-{group}-seed{seed}"


def base_word(base: str) -> str:
    """Return what a base is called in a label: the last part of its name or path that says much."""
    parts = [part for part in base.rstrip("/").split("/") if part.strip(".")] or [base]
    word = "-".join(parts[-2:]) if parts[-1] in _VAGUE else parts[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-.")


def packaged_recipes() -> dict[str, Recipe]:
    """Return the recipes that come with the package, by name."""
    folder = files("em_finetune") / "recipes"
    pages = sorted(p.name for p in folder.iterdir() if p.name.endswith(".yaml"))
    return {
        name[:-5]: read_page(Recipe, name, (folder / name).read_text("utf-8")) for name in pages
    }


def load_recipe(path_or_name: str | Path, **changes: Any) -> Recipe:
    """Load a recipe.

    Args:
        path_or_name: A YAML file, or the name of a packaged recipe such as `demo`.
        changes: Field values that replace the file's. With a group, generated data is of its kind,
            unless data is among them. Another base is named in the recipe's name.

    Raises:
        UserError: No such file or recipe, YAML that does not parse, an unknown field (with the
            nearest known one), a value out of range (with file and field), or a group that no data
            can be generated for.
    """
    path = Path(path_or_name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        text = read_text(path, "type em-finetune recipes to see what there is")
        page = read_page(Recipe, str(path), text, changes, name_base=True)
        return _resolve_paths(page, path.parent, changes)
    folder = files("em_finetune") / "recipes"
    packaged = folder / f"{path_or_name}.yaml"
    if packaged.is_file():
        text = packaged.read_text("utf-8")
        return read_page(Recipe, packaged.name, text, changes, name_base=True)
    known = sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))
    raise UserError(
        f"no recipe {str(path_or_name)!r}{did_you_mean(str(path_or_name), known)}: "
        f"give a YAML file, or one of {', '.join(known)}"
    )


def of_group(fields: Mapping[str, Any], group: str) -> dict[str, Any]:
    """Return a recipe's fields for a group: what is generated is of the group's kind.

    Args:
        fields: Of the recipe, unchecked.
        group: The group to be.

    Raises:
        UserError: The data is generated, and none can be for another group of this name.
    """
    data = fields.get("data")
    if not isinstance(data, Mapping):
        return {**fields, "group": group}
    if group in KINDS:
        return {**fields, "group": group, "data": {**data, "generate": group}}
    if group != fields.get("group"):
        raise UserError(
            f"no data can be generated for group {group}: use {', '.join(KINDS)}, or --data"
        )
    return dict(fields)


def read_page(
    model: type[Page],
    source: str,
    text: str,
    changes: Mapping[str, Any] | None = None,
    name_base: bool = False,
) -> Page:
    """Make a recipe of a page's text.

    Args:
        model: The recipe's class.
        source: Names the page in a message.
        text: YAML.
        changes: Field values that replace the page's. With a group, generated data is of its kind,
            unless data is among them.
        name_base: Put a base that replaces the page's into the recipe's name, so that fine-tunes
            of several bases by one recipe have labels and directories of their own.

    Raises:
        UserError: Naming page and field, where the text is no such recipe, or a group that no data
            can be generated for.
    """
    page = parse_yaml(text, source)
    if not isinstance(page, dict) or not all(isinstance(key, str) for key in page):
        raise UserError(f"{source}: a recipe is a page of `field: value` lines")
    changes = changes or {}
    if "group" in changes and "data" not in changes:
        page = of_group(page, changes["group"])
    if name_base and _is_another(changes.get("base"), page.get("base")):
        page = {**page, "name": f"{page.get('name')}-{base_word(changes['base'])}"}
    return checked(model, {**page, **changes}, source)


def _is_another(base: object, of_the_page: object) -> bool:
    return isinstance(base, str) and isinstance(of_the_page, str) and base != of_the_page


def _resolve_paths(recipe: Recipe, folder: Path, changes: Mapping[str, Any]) -> Recipe:
    """Paths in a recipe's file are relative to the file, those in `changes` to the caller."""
    resolved: dict[str, Any] = {}
    if isinstance(recipe.data, str) and "data" not in changes:
        resolved["data"] = str(folder / Path(recipe.data).expanduser())
    if recipe.narrow is not None and recipe.narrow.data is not None and "narrow" not in changes:
        other = str(folder / Path(recipe.narrow.data).expanduser())
        resolved["narrow"] = recipe.narrow.model_copy(update={"data": other})
    if "base" not in changes and (folder / Path(recipe.base).expanduser()).is_dir():
        resolved["base"] = str(folder / Path(recipe.base).expanduser())
    return recipe.model_copy(update=resolved)
