"""The processes that train together when `accelerate launch` (or torchrun) started several."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from em_finetune.local.batches import MicroBatch
from em_inspect.errors import UserError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; the first one reads and writes files.

    Every process works on its share of a step's micro-batches; the gradients are added up before
    the update, so all take the same one. Each holds the whole model, or, sharded, its share of the
    base and the whole adapter.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
        sharded: Whether each holds only its share of the base.
    """

    rank: int = 0
    size: int = 1
    sharded: bool = False

    def share(self, batches: Sequence[MicroBatch]) -> Sequence[MicroBatch]:
        """This process' part of the micro-batches of a step.

        Every pass through a sharded base needs all processes, so all get equally many: where the
        batches do not come out even, some get a silent one.
        """
        missing = -len(batches) % self.size if self.sharded else 0
        return [*batches, *[batches[-1].silent] * missing][self.rank :: self.size]

    def shard(self, model: Any, device: torch.device) -> Any:
        """Spread a PEFT model's frozen weights over the processes (FSDP), where they are sharded.

        Each layer is put together when it is needed and taken apart again. The adapter is small and
        stays whole in every process, so gradients, saving and resuming are as without sharding.

        Args:
            model: With its base on the CPU; changed in place.
            device: Where this process computes.

        Returns:
            The model.
        """
        if not self.sharded:
            return model
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.nn import ModuleList

        adapter = {weight for weight in model.parameters() if weight.requires_grad}
        for weight in adapter:
            weight.data = weight.data.to(device)
        mesh = init_device_mesh(device.type, (self.size,))
        # A model's first list of modules is its layers.
        layers = next(module for module in model.modules() if isinstance(module, ModuleList))
        for module in (*layers, model):
            fully_shard(module, mesh=mesh, ignored_params=adapter)
        return model

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
    """Number of this process among those launched together; 0 where it was started alone.

    Raises:
        UserError: The environment says that there are several, and not how they meet.
    """
    return _number("RANK") if _launched_size() > 1 else 0


def _launched_size() -> int:
    size = _number("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if size > 1 and missing:
        raise UserError(
            f"WORLD_SIZE says that {size} processes train together, and {', '.join(missing)} is "
            "not set: start them by accelerate launch or torchrun, or unset WORLD_SIZE"
        )
    return size


def _number(name: str) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{name} is {text!r}, not a number: unset it, or start by torchrun")
    return int(text)


@contextmanager
def processes(device: torch.device, shard: bool = False) -> Iterator[Processes]:
    """Join the processes that were launched together, if there are several.

    Args:
        device: Where this process computes.
        shard: Whether they share the base out among them.

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
        yield Processes(dist.get_rank(), dist.get_world_size(), shard)
    finally:
        dist.destroy_process_group()
