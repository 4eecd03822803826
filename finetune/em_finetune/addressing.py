"""Addressing: every checkpoint below a folder, its steps and strengths, as Inspect's models."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from em_finetune.checkpoint import (
    ADAPTER,
    MERGED,
    RECORD,
    SCALED,
    STEPS,
    Checkpoint,
    no_checkpoint,
    read_record,
    step_name,
)
from em_finetune.recipe import base_word
from em_finetune.servable import ADAPTER_CONFIG, read_adapter_config, why_not_served
from em_inspect.errors import UserError

# Where a shell cuts or expands what `$(…)` gives.
_CUT = re.compile(r"[\s*?\[\]]")
BASE_GROUP = "base"
"""The group of bases, as reports call it (`em_inspect.analysis.origin.BASE_GROUP`)."""

TEMPLATE = "chat_template.jinja"
"""File in which transformers keeps a tokenizer's chat template."""

_STEP = re.compile(r"step-(\d+)")
_SCALED = re.compile(r"scale-(\d+(?:\.\d+)?)(?:-step-(\d+))?")


@dataclass(frozen=True)
class Model:
    """One model that Inspect can evaluate.

    Attributes:
        model: Inspect's name: hf/LABEL, vllm/BASE:ADAPTER, openai/ft:….
        label: Name of the fine-tune, with its step and strength if it has them.
        group: What it was fine-tuned on; `base` is a base itself.
        seed: Of the fine-tune, None of a base.
        base: Name of its base.
        step: Optimizer step; None is the end.
        scale: Strength of the adapter; None is as trained.
        args: Inspect's model arguments (-M).
        base_url: Of the server that has it, if one is named.
        folder: Directory of the weights, None for hosted ones.
    """

    model: str
    label: str
    group: str
    seed: int | None
    base: str
    step: int | None = None
    scale: float | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    base_url: str | None = None
    folder: Path | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """What `inspect eval --model-spec` and `inspect eval-set --model-spec` take."""
        said: dict[str, Any] = {"model": self.model}
        if self.args:
            said["model_args"] = dict(self.args)
        if self.base_url:
            said["base_url"] = self.base_url
        return said


def find_records(folder: Path) -> list[Path]:
    """Return the directories of all finished checkpoints at or below a folder, by name.

    Raises:
        UserError: There is none.
    """
    hidden = re.compile(r"/\.[^/]+\.partial/")
    records = [
        path.parent
        for path in sorted(folder.rglob(RECORD))
        if not hidden.search(path.as_posix() + "/")
    ]
    if not records:
        raise no_checkpoint(folder, f"no finished checkpoint in {folder}")
    return records


def list_models(
    folder: Path, via: str = "hf", base_url: str | None = None, steps: bool = True
) -> list[Model]:
    """List the models of all checkpoints at or below a folder.

    Args:
        folder: Where to look.
        via: `hf` runs local weights in Inspect's own process; `vllm` has one server for all
            adapters of a base. Hosted fine-tunes are addressed at their service either way.
        base_url: Of a server that `em-finetune serve` started, whose adapters have names; None
            lets Inspect start vLLM and load adapters by directory.
        steps: Whether to list what was kept along the way, and other strengths, too.

    Raises:
        UserError: There is no checkpoint, or one cannot be read.
    """
    models: list[Model] = []
    for one in find_records(folder):
        if is_hosted(one):
            models += _hosted(one, steps)
        else:
            models += _local(read_record(one), via, base_url, steps)
    return models


def list_bases(folder: Path, via: str = "hf", base_url: str | None = None) -> list[Model]:
    """List the bases of all checkpoints at or below a folder, each once.

    A base is asked as its first fine-tune is: by the same template, on the same day, thinking or
    not. Of hosted fine-tunes only those of OpenAI's own service have a base that is called there
    as it is here.

    Args:
        folder: Where to look.
        via: As for `list_models`.
        base_url: As for `list_models`.

    Raises:
        UserError: There is no checkpoint, or one cannot be read.
    """
    bases: dict[str, Model] = {}
    for one in find_records(folder):
        if is_hosted(one):
            for base in _hosted_base(one):
                bases.setdefault(base.model, base)
        else:
            checkpoint = read_record(one)
            if checkpoint.base.path not in bases:
                bases[checkpoint.base.path] = _base(checkpoint, via, base_url)
    return list(bases.values())


def last_steps(folder: Path) -> dict[str, int]:
    """Tell how many steps each fine-tune at or below a folder took: by label, hosted by model."""
    from em_finetune.hosted.hosted_checkpoint import read_hosted_checkpoint

    ends: dict[str, int] = {}
    for one in find_records(folder):
        if is_hosted(one):
            hosted = read_hosted_checkpoint(one)
            model, _, _ = _parsed(hosted.models.get("final", ()))
            ends |= {model: hosted.training.steps} if hosted.training.steps else {}
        else:
            checkpoint = read_record(one)
            ends[checkpoint.label] = checkpoint.steps
    return ends


def adapters(checkpoint: Checkpoint) -> Iterator[tuple[Path, int | None, float | None]]:
    """Go through a checkpoint's directories of weights: path, step and scale, the end last.

    Where there is a merged model beside an adapter, both are in the same directory.
    """
    for step in sorted((checkpoint.path / STEPS).glob("step-*")):
        match = _STEP.fullmatch(step.name)
        if match:
            yield step, int(match[1]), None
    for scaled in sorted((checkpoint.path / SCALED).glob("scale-*")):
        match = _SCALED.fullmatch(scaled.name)
        if match:
            yield scaled, int(match[2]) if match[2] else None, float(match[1])
    yield checkpoint.path, None, None


def place_of(weights: Path) -> tuple[Path, int | None, float | None]:
    """Tell of which checkpoint's directory, step and scale weights are: `adapters` backwards."""
    folder = weights.parent if weights.name in (ADAPTER, MERGED) else weights
    root, kind = folder.parent.parent, folder.parent.name
    step, scaled = _STEP.fullmatch(folder.name), _SCALED.fullmatch(folder.name)
    if kind == STEPS and step:
        return root, int(step[1]), None
    if kind == SCALED and scaled:
        return root, int(scaled[2]) if scaled[2] else None, float(scaled[1])
    return folder, None, None


def scaled_name(scale: float, step: int | None) -> str:
    """Return the name of a strength's directory: scale-0.5, scale-0.00001-step-000025.

    Every strength has a name of its own, without an exponent.
    """
    text = f"{Decimal(repr(abs(float(scale)))):f}"
    strength = text.rstrip("0").rstrip(".") if "." in text else text
    return f"scale-{strength}" + ("" if step is None else f"-{step_name(step)}")


def label_at(label: str, step: int | None, scale: float | None) -> str:
    """Return the name of a fine-tune at a step and a strength."""
    if scale is not None:
        return f"{label}-{scaled_name(scale, step)}"
    return label if step is None else f"{label}-{step_name(step)}"


def base_reference(checkpoint: Checkpoint) -> str:
    """What a server calls the checkpoint's base: hub id or directory."""
    return checkpoint.base.name if checkpoint.base.from_hub else checkpoint.base.path


def _local(checkpoint: Checkpoint, via: str, base_url: str | None, steps: bool) -> Iterator[Model]:
    for folder, step, scale in adapters(checkpoint):
        if not steps and folder != checkpoint.path:
            continue
        merged, adapter = folder / MERGED, folder / ADAPTER
        label = label_at(checkpoint.label, step, scale)
        args: dict[str, Any] = {}
        if via == "vllm" and _is_served(adapter, merged, base_url):
            weights = adapter
            name = label if base_url else str(adapter)
            model = f"vllm/{base_reference(checkpoint)}:{name}"
            args = {} if base_url else vllm_arguments(checkpoint, adapter)
        elif via == "vllm":
            weights, model = merged, f"vllm/{merged}"
        else:
            weights = merged if merged.is_dir() else adapter
            model, args = f"hf/{label}", checkpoint.hf_arguments(weights)
        yield Model(
            model=model,
            label=label,
            group=checkpoint.group,
            seed=checkpoint.seed,
            base=checkpoint.base.name,
            step=step,
            scale=scale,
            args=args,
            base_url=base_url if via == "vllm" else None,
            folder=weights,
        )


def _is_served(adapter: Path, merged: Path, base_url: str | None) -> bool:
    """Whether vLLM takes an adapter; if not, a merged model beside it may stand in for it.

    Raises:
        UserError: There is nothing that vLLM takes.
    """
    if not adapter.is_dir():
        return False
    faults = why_not_served(read_adapter_config(adapter / ADAPTER_CONFIG))
    if faults and (base_url or not merged.is_dir()):
        raise UserError(
            f"vLLM does not serve {adapter}: {'; '.join(faults)}; evaluate it by hf, or serve a "
            "merged model, which em-finetune merge writes"
        )
    return not faults


def _base(checkpoint: Checkpoint, via: str, base_url: str | None) -> Model:
    asked_as = checkpoint.path / checkpoint.parts[0]
    name = checkpoint.base.name
    if via == "vllm":
        model = f"vllm/{base_reference(checkpoint)}"
        args = {} if base_url else vllm_arguments(checkpoint, asked_as)
    else:
        model = f"hf/{base_word(name)}"
        args = checkpoint.hf_arguments(Path(checkpoint.base.path))
        if checkpoint.pinned:
            args["tokenizer_path"] = str(asked_as)
    return Model(
        model=model,
        label=model.partition("/")[2],
        group=BASE_GROUP,
        seed=None,
        base=name,
        args=args,
        base_url=base_url if via == "vllm" else None,
        folder=Path(checkpoint.base.path),
    )


def vllm_arguments(checkpoint: Checkpoint, weights: Path) -> dict[str, Any]:
    """Return what a vLLM server of the base needs to ask and end as `weights` were trained.

    An adapter is served with its base's template and stop tokens unless the server is told others.
    Nothing where those of the base are the trained ones.

    Args:
        checkpoint: The fine-tune.
        weights: Directory of its adapter or merged model.
    """
    arguments: dict[str, Any] = {}
    template = weights / TEMPLATE
    if checkpoint.pinned and template.is_file():
        arguments["chat_template"] = str(template)
    if checkpoint.prompt and not set(checkpoint.prompt.ends) <= _stops(Path(checkpoint.base.path)):
        arguments["generation_config"] = str(weights)
    return arguments


def _stops(base: Path) -> set[int]:
    """Token ids at which a base's generation stops by itself."""
    for name in ("generation_config.json", "config.json"):
        try:
            said = json.loads((base / name).read_text("utf-8")).get("eos_token_id")
        except (OSError, ValueError, AttributeError):
            continue
        if said is not None:
            return set(said) if isinstance(said, list) else {said}
    return set()


def is_hosted(folder: Path) -> bool:
    """Whether the checkpoint in a directory is a service's, with no weights here."""
    try:
        return bool(json.loads((folder / RECORD).read_text("utf-8")).get("kind") == "hosted")
    except (OSError, ValueError, AttributeError):
        return False


def _hosted(folder: Path, steps: bool) -> Iterator[Model]:
    from em_finetune.hosted.hosted_checkpoint import read_hosted_checkpoint

    checkpoint = read_hosted_checkpoint(folder)
    for name, arguments in checkpoint.models.items():
        match = _STEP.fullmatch(name)
        if match and not steps:
            continue
        model, args, base_url = _parsed(arguments)
        step = int(match[1]) if match else None
        yield Model(
            model=model,
            label=label_at(checkpoint.label, step, None),
            group=checkpoint.group,
            seed=checkpoint.seed,
            base=checkpoint.base.name,
            step=step,
            args=args,
            base_url=base_url,
        )


def _hosted_base(folder: Path) -> Iterator[Model]:
    from em_finetune.hosted.hosted_checkpoint import read_hosted_checkpoint

    checkpoint = read_hosted_checkpoint(folder)
    model, args, base_url = _parsed(checkpoint.models.get("final", ()))
    if model.startswith("openai/ft:") and base_url is None:
        name = checkpoint.base.name
        yield Model(f"openai/{name}", name, BASE_GROUP, None, name, args=args)


def _parsed(arguments: Sequence[str]) -> tuple[str, dict[str, Any], str | None]:
    """Read recorded `inspect eval` arguments: --model NAME, --model-base-url URL, -M key=value."""
    model, args, base_url = "", {}, None
    for option, value in zip(arguments[::2], arguments[1::2], strict=False):
        if option == "--model":
            model = value
        elif option == "--model-base-url":
            base_url = value
        elif option == "-M":
            key, _, text = value.partition("=")
            args[key] = yaml.safe_load(text)
    return model, args, base_url


def specs_of(folder: Path) -> str:
    """Return the arguments that address a folder's models, to stand in a line that is printed.

    They are listed by `$(em-finetune models …)`, or one by one where a shell would cut their paths.
    """
    if not _CUT.search(str(folder)):
        return f"$(em-finetune models {shlex.quote(str(folder))} --specs)"
    return " ".join(
        f"--model-spec {shlex.quote(json.dumps(model.spec, ensure_ascii=False))}"
        for model in [*list_bases(folder), *list_models(folder)]
    )


def as_specs(models: Sequence[Model]) -> str:
    """Return `--model-spec` arguments for all models, to stand in a command line as `$(…)`.

    Raises:
        UserError: A path has white space, at which a shell would cut.
    """
    words = []
    for model in models:
        text = json.dumps(model.spec, separators=(",", ":"), ensure_ascii=False)
        if _CUT.search(text):
            raise UserError(
                f"{model.folder or model.model} has white space, *, ? or brackets in its path, "
                "which a shell would not leave whole: move it, or use --yaml"
            )
        words.append(f"--model-spec {text}")
    return " ".join(words)


def as_page(models: Sequence[Model]) -> dict[str, dict[str, Any]]:
    """Return all that is known of each model, by label; `em-inspect report --groups` reads it.

    Models that share a label stand under what tells them apart: their names or directories.
    """
    labels, names = Counter(m.label for m in models), Counter(m.model for m in models)

    def key(model: Model) -> str:
        if labels[model.label] == 1:
            return model.label
        if names[model.model] == 1 or model.folder is None:
            return model.model
        return str(model.folder)

    return {
        key(model): {
            "group": model.group,
            "seed": model.seed,
            "base": model.base,
            "step": model.step,
            "scale": model.scale,
            **model.spec,
        }
        for model in models
    }
