"""A judge among the models under test: recognised by what was loaded, not by its name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalSpec

from em_inspect.analysis.logs import Run

Weights = tuple[str, ...]
"""What tells one model from another, whatever it is called."""


def judged_models(runs: Sequence[Run], judge: str) -> list[str]:
    """Names of the models under test that are the judge themselves.

    Args:
        runs: Logs of one section.
        judge: The judge's name, as Inspect addresses it.
    """
    judges = {weights for run in runs for weights in _graders(run.log.eval, judge)}
    return [run.origin.model for run in runs if _model(run.log.eval) in judges]


def _graders(spec: EvalSpec, judge: str) -> Iterator[Weights]:
    role = (spec.model_roles or {}).get("grader")
    for config in role if isinstance(role, list) else [role] if role else []:
        if config.model == judge:
            yield _weights(config.model, config.base_url, config.args)


def _model(spec: EvalSpec) -> Weights:
    return _weights(spec.model, spec.model_base_url, spec.model_args)


def _weights(model: str, base_url: str | None, args: Mapping[str, Any]) -> Weights:
    """A folder by its path, links followed; else provider, name and address."""
    named = args.get("model_path")
    name = named if isinstance(named, str) else model.partition("/")[2]
    if isinstance(named, str) or Path(name).is_absolute():
        return ("folder", os.path.realpath(name))
    return ("address", model, (base_url or "").rstrip("/"))
