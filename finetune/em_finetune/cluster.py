"""A sweep's cells as tasks on a Ray cluster that is already there."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from em_finetune.checkpoint import Checkpoint
from em_finetune.recipe import Recipe
from em_finetune.sweep import Cell, Ended, explain
from em_inspect.errors import UserError, one_line, require_extra

ATTEMPTS = 3
"""How often a cell is taken up again after its worker or machine was lost."""

_LOOK_EVERY = 0.5

OnProgress = Callable[[Cell, dict[str, Any]], None]


class Board:
    """What the workers report; an actor on the cluster, so that the caller sees it."""

    def __init__(self) -> None:
        self._news: dict[str, dict[str, Any]] = {}

    def put(self, label: str, news: dict[str, Any]) -> None:
        """Replace what is known of a cell."""
        self._news[label] = news

    def read(self) -> dict[str, dict[str, Any]]:
        """What is known of every cell."""
        return self._news


def run_on_ray(
    sweep: Sequence[Cell],
    on_progress: OnProgress,
    *,
    gpus: float = 0,
    cpus: float = 1,
    overwrite: bool = False,
) -> Iterator[Ended]:
    """Train cells on the cluster at RAY_ADDRESS, as many at once as it has room for.

    The machines need this package and, at the same paths, the data and the checkpoint folder. A
    cell whose worker is lost is taken up again, on whichever machine, from its last saved state;
    one that fails by itself is not.

    Args:
        sweep: The cells, with absolute paths.
        on_progress: Called with what a cell's worker last said: step, steps, loss, pid, node.
        gpus: GPUs per cell.
        cpus: CPU cores per cell.
        overwrite: As for `train`.

    Raises:
        UserError: Ray is not installed, no cluster answers, or it has no machine with so many GPUs.
    """
    require_extra("cluster", "ray")
    import ray

    _connect()
    _require_room(gpus, cpus)
    board = ray.remote(num_cpus=0)(Board).remote()
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=ATTEMPTS)(train_cell)
    running = {
        task.remote(cell.recipe.model_dump_json(), str(cell.out), cell.label, board, overwrite): (
            cell
        )
        for cell in sweep
    }
    shown: dict[str, dict[str, Any]] = {}
    try:
        while running:
            done, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_EVERY)
            for label, news in ray.get(board.read.remote()).items():
                if shown.get(label) != news:
                    shown[label] = news
                    on_progress(next(c for c in sweep if c.label == label), news)
            for reference in done:
                yield _ended(running.pop(reference), reference)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        ray.shutdown()


def _connect() -> None:
    import ray

    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"no Ray cluster at {address} ({one_line(error)}): start one with ray start --head, "
            "or set RAY_ADDRESS"
        ) from error


def _knock(address: str) -> None:
    """Fail soon where nobody listens: Ray itself tries for minutes, and then ends the process."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _require_room(gpus: float, cpus: float) -> None:
    """Refuse what would wait for ever."""
    import ray

    most = [node.get("Resources", {}) for node in ray.nodes() if node.get("Alive")]
    if not any(m.get("GPU", 0) >= gpus and m.get("CPU", 0) >= cpus for m in most):
        raise UserError(
            f"no machine of the Ray cluster has {gpus:g} GPUs and {cpus:g} CPU cores: set --gpus "
            "and --cpus to what ray status shows"
        )


def _ended(cell: Cell, reference: Any) -> Ended:
    import ray
    from ray.exceptions import RayError

    try:
        failure, record = ray.get(reference)
    except RayError as error:
        return Ended(cell, failure=f"lost {ATTEMPTS + 1} times: {one_line(error)}")
    if record is None:
        return Ended(cell, failure=failure)
    checkpoint = Checkpoint.model_validate_json(record)
    return Ended(cell, checkpoint.model_copy(update={"path": cell.out}))


def train_cell(
    recipe: str, out: str, label: str, board: Any, overwrite: bool
) -> tuple[str | None, str | None]:
    """Train one cell on a worker; returns why it failed, or its `checkpoint.json`."""
    import ray

    from em_finetune.local.train import train

    who = {"pid": os.getpid(), "node": ray.util.get_node_ip_address()}

    def on_step(step: Any) -> None:
        board.put.remote(label, {"step": step.step, "steps": step.steps, "loss": step.loss, **who})

    try:
        checkpoint = train(
            Recipe.model_validate_json(recipe), Path(out), on_step, overwrite=overwrite
        )
    except Exception as error:
        return explain(error), None
    return None, checkpoint.model_dump_json()
