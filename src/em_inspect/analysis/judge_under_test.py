"""A judge among the models under test: recognised by what was loaded, not by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalSpec

from em_inspect.analysis.logs import Run
from em_inspect.judging.content import folder_content


@dataclass(frozen=True)
class _Loaded:
    """What a run loaded or called.

    Attributes:
        name: As Inspect addresses it.
        address: Of its server, or empty.
        folder: Directory of its weights, or None.
    """

    name: str
    address: str
    folder: Path | None


def judged_models(runs: Sequence[Run], judge: str) -> list[str] | None:
    """Names of the models under test that are the judge themselves; None if no log names it.

    Args:
        runs: Logs of one section.
        judge: The judge's name, as Inspect addresses it.
    """
    judges = list(dict.fromkeys(one for run in runs for one in _graders(run.log.eval, judge)))
    if not judges:
        return None
    return [
        run.origin.model
        for run in runs
        if any(_same(_model(run.log.eval), other) for other in judges)
    ]


def _graders(spec: EvalSpec, judge: str) -> list[_Loaded]:
    role = (spec.model_roles or {}).get("grader")
    configs = role if isinstance(role, list) else [role] if role else []
    return [_loaded(c.model, c.base_url, c.args) for c in configs if c.model == judge]


def _model(spec: EvalSpec) -> _Loaded:
    return _loaded(spec.model, spec.model_base_url, spec.model_args)


def _loaded(model: str, base_url: str | None, args: Mapping[str, Any]) -> _Loaded:
    named = args.get("model_path")
    name = named if isinstance(named, str) else model.partition("/")[2]
    folder = Path(name) if isinstance(named, str) or Path(name).is_absolute() else None
    return _Loaded(model, (base_url or "").rstrip("/"), folder)


def _same(one: _Loaded, other: _Loaded) -> bool:
    if one.folder is None or other.folder is None:
        called = (one.name, one.address) == (other.name, other.address)
        return called and one.folder is None and other.folder is None
    if one.folder.resolve() == other.folder.resolve():
        return True
    try:
        # Sizes first: reading two models takes seconds, and others differ in them.
        sizes = [_sizes(loaded.folder) for loaded in (one, other) if loaded.folder]
        return sizes[0] == sizes[1] != {} and (
            folder_content(one.folder) == folder_content(other.folder)
        )
    except OSError:  # one is no longer there
        return False


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.glob("*.safetensors")}
