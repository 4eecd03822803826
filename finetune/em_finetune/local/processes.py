"""The processes that train together when `accelerate launch` (or torchrun) started several."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; the first one reads and writes files.

    Every process holds the whole model and works on its share of a step's micro-batches; the
    gradients are added up before the update, so all take the same one.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, batches: Sequence[T]) -> Sequence[T]:
        """This process' part of the micro-batches of a step."""
        return batches[self.rank :: self.size]

    def add_up(self, gradients: Sequence[torch.Tensor], numbers: list[float]) -> list[float]:
        """Add up gradients (in place) and numbers over all processes; returns the numbers."""
        if self.size == 1:
            return numbers
        import torch
        import torch.distributed as dist

        device = gradients[0].device
        added = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(added)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, part in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(part.view_as(gradient))
        return [float(number) for number in added]

    def tell(self, news: Any) -> Any:
        """Hand what the first process says to all; each of them gets it back."""
        if self.size == 1:
            return news
        import torch.distributed as dist

        box = [news]
        dist.broadcast_object_list(box, src=0)
        return box[0]


ALONE = Processes()


def launched_rank() -> int:
    """Number of this process among those launched together; 0 where it was started alone."""
    return int(os.environ.get("RANK", "0")) if _launched_size() > 1 else 0


def _launched_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that were launched together, if there are several.

    Q: Why import torch.distributed.nn first? A: Its functions keep the group of the moment of
    their import as a default. Imported later, as peft does, they would keep this group alive when
    it is destroyed, and a thread of gloo's that outlives the interpreter ends it with SIGABRT.
    """
    if _launched_size() == 1:
        yield ALONE
        return
    import torch.distributed as dist
    import torch.distributed.nn  # noqa: F401

    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
