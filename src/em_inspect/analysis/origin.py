"""The origin of a model: base, group, seed and step, from `checkpoint.json`, the log or a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from inspect_ai.log import EvalSpec

from em_inspect.analysis.csv_file import read_csv_file
from em_inspect.errors import UserError
from em_inspect.pages import did_you_mean

RECORD = "checkpoint.json"
BASE_GROUP = "base"

# The last three are what `em-finetune models --yaml` says besides.
_FIELDS = ("model", "group", "seed", "base", "step", "scale", "model_args", "base_url")

_SCALE = re.compile(r"scale-(\d+(?:\.\d+)?)(?:-step-\d+)?$")
_STEP = re.compile(r"(?:ckpt-step|checkpoint|step)[-_]?(\d+)$")


@dataclass(frozen=True)
class Origin:
    """Where a model comes from.

    Attributes:
        model: Name to show.
        key: What tells it from other models of the same name: its path, or its name.
        label: Name of the fine-tune in its record, or empty.
        base: Name of the model it was fine-tuned from, or None.
        family: The same under one name for all its spellings, and for that model itself; None
            where nobody says.
        base_path: Directory of that model, or None.
        group: What it was fine-tuned on, or None where nobody says.
        seed: Seed of the fine-tune, or None.
        step: Optimizer step, or None for the fine-tune's end.
        scale: Strength of the adapter, or None where it is as trained.
        record: What `checkpoint.json` says, for the methods section.
        folder: Directory of the checkpoint, or None.
    """

    model: str
    key: str
    label: str = ""
    base: str | None = None
    family: str | None = None
    base_path: str | None = None
    group: str | None = None
    seed: int | None = None
    step: int | None = None
    scale: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict, repr=False)
    folder: Path | None = None


Groups = Mapping[str, Mapping[str, Any]]


def read_groups(path: Path) -> Groups:
    """Read a user's own table of models: `model`, and any of `group`, `seed`, `base`, `step`.

    Args:
        path: A CSV with those columns, or a YAML mapping of model to those fields, such as
            `em-finetune models DIR --yaml` prints.

    Raises:
        UserError: If it cannot be read, names no model or one twice, has an unknown column, or a
            seed or step is no number.
    """
    named = _yaml(path) if path.suffix.lower() in {".yaml", ".yml"} else _table(path)
    if not named:
        raise UserError(f"{path}: names no model: give model,group,seed")
    rows: dict[str, Mapping[str, Any]] = {}
    for model, row in named:
        if model in rows:
            raise UserError(f"{path}: the model {model} stands twice: give it one group")
        _check(path, model, row)
        rows[model] = row
    return rows


def _table(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    file = read_csv_file(path)
    if "model" not in file.columns:
        raise UserError(f"{path}: no column 'model': give model,group,seed")
    if file.bad:
        raise UserError(f"{path}: line {file.bad[0].line}: {file.bad[0].fault}")
    return [(row.cells["model"], row.cells) for row in file.rows]


def _yaml(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
        return [(str(k), dict(v or {})) for k, v in said.items()]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, TypeError, ValueError):
        raise UserError(
            f"{path}: not a table of models: a CSV with the columns model,group,seed, "
            "or YAML like 'hf/mine: {group: insecure, seed: 0}'"
        ) from None


def _check(path: Path, model: str, row: Mapping[str, Any]) -> None:
    for name in row:
        if name not in _FIELDS:
            hint = did_you_mean(str(name), _FIELDS) or f": give {', '.join(_FIELDS[:5])}"
            raise UserError(f"{path}: unknown column '{name}'{hint}")
    for name in ("seed", "step"):
        if row.get(name) not in (None, "") and _integer(row[name]) is None:
            raise UserError(f"{path}: {model}: {name} '{row[name]}' is no whole number")


def unmatched(groups: Groups, found: Iterable[tuple[EvalSpec, Origin]]) -> list[str]:
    """Models of a user's table that no log is of."""
    names = {name for spec, one in found for name in _names(spec, one.label)}
    return [key for key, row in groups.items() if not {key, row.get("model")} & names]


def _names(spec: EvalSpec, label: str) -> tuple[str, ...]:
    """What a table may call a model: as Inspect addresses it, its path, or its label."""
    path = _path(spec)
    return tuple(name for name in (spec.model, str(path) if path else "", label) if name)


def origin(spec: EvalSpec, groups: Groups | None = None, log: Path | None = None) -> Origin:
    """Work out where the model of a log comes from.

    The user's own table comes first, then the log's metadata, then the `checkpoint.json` in or
    above the directory the model was loaded from.

    Args:
        spec: The log's `eval` section.
        groups: The user's table (see `read_groups`), keyed by model as Inspect addresses it, its
            path, or its label.
        log: Where the log lies: a relative path of the model may be meant from above it.
    """
    path = _path(spec)
    place = _found(path, log) if path else None
    folder, record = _record(place)
    label = str(record.get("label") or "")
    said = _told(spec)
    for name in _names(spec, label):
        said.update({k: v for k, v in _row(groups or {}, name).items() if v not in (None, "")})
    base = record.get("base")
    base = base if isinstance(base, Mapping) else {"name": base}
    step = said.get("step", _step(place, folder) if place else _step_of(spec.model))
    scale = _real(said.get("scale", _scale(place) if place else None))
    shown = label or spec.model
    if label:
        shown += "" if scale is None else f" strength {scale!r}".removesuffix(".0")
        shown += "" if step is None else f" step {step}"
    return Origin(
        model=shown,
        key=str(place.resolve() if place.is_dir() else place) if place else spec.model,
        label=label,
        base=_text(said.get("base")) or _text(base.get("name")),
        base_path=_text(base.get("path")),
        group=_text(said.get("group")) or _text(record.get("group")),
        seed=_integer(said.get("seed", record.get("seed"))),
        step=_integer(step),
        scale=scale,
        record=record,
        folder=folder,
    )


def _told(spec: EvalSpec) -> dict[str, Any]:
    """What the log's metadata says of the model; a task's own seed is of its examples or orders."""
    said = spec.metadata or {}
    told: dict[str, Any] = {
        k: said[k] for k in ("group", "seed", "base", "step", "scale") if k in said
    }
    if "seed" in told and str(told["seed"]) == str((spec.task_args or {}).get("seed")):
        del told["seed"]
    return told


def _row(groups: Groups, name: str) -> Mapping[str, Any]:
    """A model's row by its key, or else by its field `model`."""
    return groups.get(name) or next(
        (row for row in groups.values() if row.get("model") == name), {}
    )


def with_bases(origins: Mapping[str, Origin]) -> dict[str, Origin]:
    """Recognise the bases among the models, and tell models of the same name apart.

    A model from whose name or directory another one was fine-tuned is in the group `base`; a model
    that nobody assigned to a group is a group of its own. Every base and what was fine-tuned from
    it are one family.

    Args:
        origins: By log.
    """
    claims = [o for o in origins.values() if o.base or o.base_path]
    keys: dict[str, set[str]] = {}
    for o in origins.values():
        keys.setdefault(o.model, set()).add(o.key)
    settled = {}
    for log, o in origins.items():
        # Two directories behind one name, e.g. `hf/demo`, are two models.
        model = f"{o.model} ({_short(o.key)})" if len(keys[o.model]) > 1 else o.model
        is_base = o.group is None and any(_is_base(o, claim) for claim in claims)
        group = BASE_GROUP if is_base else o.group or model
        settled[log] = replace(o, model=model, group=group)
    families = _families(settled)
    return {log: replace(o, family=families[log]) for log, o in settled.items()}


def _is_base(o: Origin, claim: Origin) -> bool:
    """Whether a model is the one that another says it was fine-tuned from."""
    if o.key == claim.key:
        return False
    if claim.base_path is not None and o.key == _resolved(claim.base_path):
        return True
    # Two directories may be called alike: there the path decides.
    apart = claim.base_path is not None and Path(o.key).is_absolute()
    if claim.base is None or (apart and not _is_public(claim.base)):
        return False
    return same_model(o.model, claim.base) or o.key == claim.base


def _is_public(name: str) -> bool:
    """Whether a name is one of a hub, and so of one model wherever it lies."""
    return "/" in name and not Path(name).is_absolute()


def same_model(model: str, name: str) -> bool:
    """Whether a model as Inspect addresses it is the one of a name, e.g. on the hub."""
    return model == name or model.endswith(f"/{name}")


def _families(settled: Mapping[str, Origin]) -> dict[str, str | None]:
    """One name for every base however it is spelled: by name, by directory, as a log's model."""
    first: dict[str, str] = {}

    def root(name: str) -> str:
        while first.setdefault(name, name) != name:
            name = first[name]
        return name

    claims = [o for o in settled.values() if o.base or o.base_path]
    paths: dict[str, set[str]] = {}
    for claim in claims:
        if claim.base and claim.base_path:
            paths.setdefault(claim.base, set()).add(_resolved(claim.base_path))
    for name, known in paths.items():
        if _is_public(name) or len(known) == 1:
            for path in known:
                first[root(path)] = root(name)
    for o in settled.values():
        if o.group == BASE_GROUP:
            for claim in claims:
                if _is_base(o, claim):
                    first[root(o.key)] = root(_claimed(claim, paths))
    return {
        log: root(o.key)
        if o.group == BASE_GROUP
        else root(_claimed(o, paths))
        if o.base or o.base_path
        else None
        for log, o in settled.items()
    }


def _claimed(claim: Origin, paths: Mapping[str, set[str]]) -> str:
    """What identifies the base that a model says it has: its path where names are alike."""
    if claim.base and (not claim.base_path or _is_public(claim.base)):
        return claim.base
    if claim.base and len(paths[claim.base]) == 1:
        return claim.base
    return _resolved(claim.base_path or "")


def _resolved(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def _path(spec: EvalSpec) -> Path | None:
    named = (spec.model_args or {}).get("model_path")
    if isinstance(named, str):
        return Path(named)
    # vllm/base:adapter, where the adapter is a directory
    provider, _, rest = spec.model.partition("/")
    adapter = rest.partition(":")[2]
    return Path(adapter) if provider == "vllm" and "/" in adapter else None


def _record(path: Path | None) -> tuple[Path | None, Mapping[str, Any]]:
    for folder in (path, *list(path.parents)[:3]) if path else ():
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict):
            return folder, record
    return None, {}


def _found(path: Path, log: Path | None) -> Path:
    """A relative path from the working directory, or else from a folder that the log lies in."""
    places = [] if path.is_absolute() or log is None else [*log.absolute().parents][:6]
    return next((p / path for p in (Path(), *places) if (p / path).is_dir()), path)


def _scale(path: Path) -> float | None:
    return next((float(m[1]) for part in path.parts[-3:] if (m := _SCALE.match(part))), None)


def _step(path: Path, folder: Path | None) -> int | None:
    below = path.relative_to(folder).parts if folder else path.parts[-1:]
    return next((s for part in below if (s := _step_of(part)) is not None), None)


def _step_of(name: str) -> int | None:
    match = _STEP.search(name)
    return int(match[1]) if match else None


def _integer(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None


def _real(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _text(value: object) -> str | None:
    return str(value) if value not in (None, "") else None


def _short(key: str) -> str:
    return "/".join(Path(key).parts[-2:])
