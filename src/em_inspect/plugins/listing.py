"""Every installed task of em-inspect and of the packages built on it, with what a run asks."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points, requires
from types import ModuleType
from typing import Any

from em_inspect.errors import one_line

GROUP = "inspect_ai"
_CHECK = "check_judge"


@dataclass(frozen=True)
class InstalledTask:
    """A task as it would run with its defaults.

    Attributes:
        name: What `inspect eval` takes, e.g. `em_inspect/free_form`.
        summary: First line of its documentation.
        arguments: Default by name; what has none is an empty string.
        version: The task's version.
        rows: Rows of its dataset, or None where it cannot be made with its defaults.
        epochs: Samples of each row.
        judge_calls: How often a judge is asked in the run; None where the task does not say.
        problem: Why it cannot be made with its defaults, or None.
    """

    name: str
    summary: str
    arguments: dict[str, str]
    version: str = ""
    rows: int | None = None
    epochs: int = 1
    judge_calls: int | None = None
    problem: str | None = None

    @property
    def answers(self) -> int | None:
        """How many answers a run generates."""
        return None if self.rows is None else self.rows * self.epochs


def installed_tasks(everything: bool = False) -> list[InstalledTask]:
    """List the tasks of em-inspect and of packages that require it.

    Args:
        everything: List the tasks of all of Inspect's plugins.
    """
    points = sorted(entry_points(group=GROUP), key=lambda p: (p.name != "em_inspect", p.name))
    found: list[InstalledTask] = []
    for point in points:
        if everything or _is_ours(point):
            found += _tasks_of(point)
    return found


def _is_ours(point: EntryPoint) -> bool:
    if point.name == "em_inspect":
        return True
    needed = requires(point.dist.name) if point.dist else None
    return any(re.match(r"em[-_.]inspect\b", line, re.IGNORECASE) for line in needed or ())


def _tasks_of(point: EntryPoint) -> Iterator[InstalledTask]:
    try:
        module: ModuleType = point.load()
    except Exception as error:  # somebody else's package
        yield InstalledTask(f"{point.name}/…", "", {}, problem=f"not importable: {one_line(error)}")
        return
    for thing in vars(module).values():
        name = _task_name(thing)
        if name:
            yield _described(name, thing)


def _task_name(thing: Any) -> str | None:
    from inspect_ai.util import registry_info

    try:
        info = registry_info(thing)
    except Exception:  # not one of Inspect's objects
        return None
    return info.name if info.type == "task" else None


def _listed_with(make: Any) -> dict[str, Any]:
    """Arguments under which a task wants to be listed: `@task(listed_with={…})`."""
    from inspect_ai.util import registry_info

    attributes = registry_info(make).metadata.get("attribs") or {}
    return dict(attributes.get("listed_with") or {})


def _described(name: str, make: Any) -> InstalledTask:
    parameters = inspect.signature(make).parameters
    arguments = {
        key: "" if parameter.default is parameter.empty else repr(parameter.default)
        for key, parameter in parameters.items()
    }
    summary = (inspect.getdoc(make) or "").split("\n")[0]
    given = _listed_with(make) | ({_CHECK: False} if _CHECK in parameters else {})
    try:
        task = make(**given)
    except Exception as error:  # a required argument, or somebody else's code
        return InstalledTask(name, summary, arguments, problem=one_line(error))
    epochs, rows = task.epochs or 1, len(task.dataset)
    calls = (task.metadata or {}).get("judge_calls_per_answer")
    return InstalledTask(
        name=name,
        summary=summary,
        arguments=arguments,
        version=str(task.version),
        rows=rows,
        epochs=epochs,
        judge_calls=None if calls is None else calls * rows * epochs,
    )
