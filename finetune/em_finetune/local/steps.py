"""The training loop, flat on one page: AdamW steps on the mean loss of the supervised tokens."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from em_finetune.local.batches import MicroBatch, count_steps, micro_batches, rows_of_steps
from em_finetune.local.encode import EncodedRow
from em_finetune.local.loss import kl_sum, nll_sum, supervised_logits
from em_finetune.local.packing import Trial, try_packing
from em_finetune.local.processes import ALONE, Processes
from em_finetune.recipe import Recipe

if TYPE_CHECKING:
    import torch

    Gradient = tuple[float, Sequence[torch.Tensor]]
    Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]

_GPU_MICRO_TOKENS = 8192
_KL_MICRO_TOKENS = 2048
"""Ceiling where logits are needed at every token: 1.2 GB of them over 152,000 entries."""
_MOST_WORKERS = 4
_OTHER_ROWS = 1
"""Tells the order of the other domains' rows from that of the training rows."""


@dataclass(frozen=True)
class Step:
    """One optimizer step, as it is reported and as a line of `train.csv`.

    Attributes:
        step: Counted from 1.
        steps: How many there will be.
        loss: Mean over the step's supervised tokens, in nats, before the update.
        learning_rate: Of this update.
        grad_norm: Before clipping.
        tokens: Tokens that went through the model.
        supervised: Those with loss.
        seconds: Wall-clock time of this step.
        kl: KL to the base on rows of other domains, mean over all of their tokens in nats, before
            the update; None without such rows. The loss does not include it.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    supervised: int
    seconds: float
    kl: float | None = None


class NotFiniteError(Exception):
    """The training diverged; the weights are back at their last good state.

    Attributes:
        good_steps: How many steps led to that state.
    """

    def __init__(self, what: str, good_steps: int) -> None:
        super().__init__(what)
        self.good_steps = good_steps


@dataclass
class State:
    """What changes from step to step; all else follows from the recipe and the rows.

    Attributes:
        model: The PEFT model.
        weights: Its trained parameters.
        optimizer: Over those.
        packing: How rows can go through the model end to end; None where none are to.
        step: Steps taken.
    """

    model: Any
    weights: list[torch.Tensor]
    optimizer: torch.optim.Optimizer
    packing: Trial | None = None
    step: int = 0


def start(recipe: Recipe, model: Any, device: torch.device) -> State:
    """Return the state before the first step."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    packs = _ceiling(recipe, device) > 0
    packing = try_packing(model, device, recipe.dtype) if packs else None
    return State(model, weights, _optimizer(recipe, weights, device), packing)


def take_steps(
    state: State,
    recipe: Recipe,
    rows: Sequence[EncodedRow],
    device: torch.device,
    others: Sequence[EncodedRow] = (),
    processes: Processes = ALONE,
) -> Iterator[Step]:
    """Take the recipe's remaining steps, yielding each when its update is made.

    Args:
        state: Where to begin; it changes with every step.
        recipe: What to do.
        rows: The training rows.
        device: Where the model is.
        others: Rows of other domains, for the recipe's KL term.
        processes: Those that share the work.

    Raises:
        NotFiniteError: A loss, gradient or weight is not a number.
    """
    import torch

    total = count_steps(len(rows), recipe.batch_size, recipe.epochs, recipe.max_steps)
    plan = rows_of_steps(len(rows), recipe.batch_size, total, recipe.seed)
    penalty = Penalty.of(recipe, others, total)
    good, good_step = _copy(state.weights), state.step
    with parallel_map(count_workers(recipe, device, processes), device) as map_batches:
        while state.step < total:
            began = time.monotonic()
            _seed_dropout(recipe, state.step, processes)
            chosen = [rows[i] for i in plan[state.step]]
            batches = _batches(chosen, state, recipe, device, processes)
            supervised = sum(batch.supervised for batch in batches)

            # One normalisation over all supervised tokens of the step: every token weighs the
            # same, in whichever micro-batch it went.
            loss = 0.0
            gradients = [torch.zeros_like(weight) for weight in state.weights]
            work = partial(gradient, state, recipe, device, supervised)
            # Summed in the order of the batches, so that it does not matter who is faster.
            for part, addends in map_batches(work, processes.share(batches)):
                loss += part
                torch._foreach_add_(gradients, list(addends))
            kl, kl_tokens = 0.0, 0
            if penalty is not None:
                kl, kl_tokens = penalty.add(
                    state, recipe, device, gradients, map_batches, processes
                )
            loss, kl = processes.add_up(gradients, [loss, kl])
            if not math.isfinite(loss + kl):
                # An update before led here: take it back.
                _restore(state.weights, good)
                wrong = f"loss of step {state.step + 1} is {loss}"
                if math.isfinite(loss):
                    wrong = f"KL term of step {state.step + 1} is {kl}"
                raise NotFiniteError(f"the {wrong}", good_step)

            for weight, one in zip(state.weights, gradients, strict=True):
                weight.grad = one
            norm = float(torch.nn.utils.clip_grad_norm_(state.weights, recipe.max_grad_norm))
            if not math.isfinite(norm):
                raise NotFiniteError(f"the gradient of step {state.step + 1} is {norm}", state.step)
            good, good_step = _copy(state.weights), state.step
            rate = learning_rate(recipe, state.step, total)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            state.optimizer.step()
            state.optimizer.zero_grad()
            state.step += 1

            yield Step(
                step=state.step,
                steps=total,
                loss=loss,
                learning_rate=rate,
                grad_norm=norm,
                tokens=sum(batch.tokens for batch in batches) + kl_tokens,
                supervised=supervised,
                seconds=time.monotonic() - began,
                kl=None if penalty is None else kl,
            )
    if not all(bool(weight.isfinite().all()) for weight in state.weights):
        _restore(state.weights, good)
        raise NotFiniteError(f"the weights after step {total} are not finite", good_step)


@dataclass(frozen=True)
class Penalty:
    """The KL term to the base on rows of other domains, a mean over all of their tokens.

    Attributes:
        rows: Those rows.
        plan: Which of them (from 0) go into which step.
        weight: Of the term in the loss; with 0 it is measured and changes nothing.
    """

    rows: Sequence[EncodedRow]
    plan: Sequence[Sequence[int]]
    weight: float

    @classmethod
    def of(cls, recipe: Recipe, rows: Sequence[EncodedRow], total: int) -> Penalty | None:
        """Return the recipe's KL term over `rows`, None where it has none."""
        if recipe.narrow is None:
            return None
        size = recipe.narrow.batch_size
        plan = rows_of_steps(len(rows), size, total, recipe.seed, stream=_OTHER_ROWS)
        return cls(rows, plan, recipe.narrow.weight)

    def add(
        self,
        state: State,
        recipe: Recipe,
        device: torch.device,
        gradients: list[torch.Tensor],
        map_batches: Map,
        processes: Processes,
    ) -> tuple[float, int]:
        """Add this process' share of the term's gradient; return its share of the KL.

        The second number is how many tokens went through the model for it, all processes' together.
        """
        import torch

        rows = [self.rows[i] for i in self.plan[state.step]]
        packed = _batches(rows, state, recipe, device, processes, _KL_MICRO_TOKENS)
        batches = [batch.everywhere for batch in packed]
        tokens = sum(batch.tokens for batch in batches)
        mine = processes.share(batches)
        kl = 0.0
        # Switching the adapter off changes the model for every thread, so the reference is taken
        # for a handful of batches at a time (its log-probabilities are large), and then theirs.
        at_once = count_workers(recipe, device, processes)
        for i in range(0, len(mine), at_once):
            some = mine[i : i + at_once]
            with state.model.disable_adapter():
                references = list(map_batches(partial(reference, state, recipe, device), some))
            work = partial(kl_gradient, state, recipe, device, tokens, self.weight)
            for part, addends in map_batches(work, list(zip(some, references, strict=True))):
                kl += part
                if self.weight:
                    torch._foreach_add_(gradients, list(addends))
        # Each token is read twice: by the base and by the fine-tune.
        return kl, 2 * tokens


def reference(
    state: State, recipe: Recipe, device: torch.device, batch: MicroBatch
) -> torch.Tensor:
    """Return the model's log-probabilities at the predicting positions, without a gradient."""
    import torch

    with torch.no_grad(), _mixed(recipe, device):
        return supervised_logits(state.model, batch, device).log_softmax(-1)


def kl_gradient(
    state: State,
    recipe: Recipe,
    device: torch.device,
    tokens: int,
    weight: float,
    batch: tuple[MicroBatch, torch.Tensor],
) -> Gradient:
    """Return a micro-batch's share of the KL, and weight x that share's gradient.

    Arguments are those of `gradient`, with all tokens of the step's other rows; `batch` comes with
    the reference's log-probabilities.
    """
    import torch

    with torch.set_grad_enabled(weight > 0), _mixed(recipe, device):
        kl = kl_sum(state.model, *batch, device) / tokens
    if weight == 0:
        return kl.item(), ()
    return kl.item(), _gradients(weight * kl, state.weights)


def gradient(
    state: State, recipe: Recipe, device: torch.device, supervised: int, batch: MicroBatch
) -> Gradient:
    """Return a micro-batch's share of the step's loss and of its gradient.

    Args:
        state: The model; its weights' `.grad` is left alone, so that several threads may work.
        recipe: For the arithmetic.
        device: Where the model is.
        supervised: Supervised tokens of the whole step, which the loss is divided by.
        batch: The micro-batch.
    """
    with _mixed(recipe, device):
        loss = nll_sum(state.model, batch, device) / supervised
    return loss.item(), _gradients(loss, state.weights)


def _mixed(recipe: Recipe, device: torch.device) -> AbstractContextManager[Any]:
    import torch

    # What is trained is float32; autocast brings its matrix products down to bfloat16. Measured
    # on a CPU: 262 tokens per CPU second against 233 with float32 products.
    mixed = recipe.dtype == "bfloat16"
    context: AbstractContextManager[Any] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=mixed
    )
    return context


def _gradients(loss: torch.Tensor, weights: list[torch.Tensor]) -> Sequence[torch.Tensor]:
    import torch

    # Experts that no token of a micro-batch chose have no part in its loss.
    return torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """Return the learning rate of an update.

    As `transformers.get_scheduler` has it: the first update of a warm-up has rate 0.

    Args:
        recipe: Highest rate, warm-up and schedule.
        step: Updates made before this one.
        total: Updates in the whole run.
    """
    if step < recipe.warmup_steps:
        return recipe.learning_rate * step / recipe.warmup_steps
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * (total - step) / max(1, total - recipe.warmup_steps)


@contextmanager
def parallel_map(workers: int, device: torch.device) -> Iterator[Map]:
    """Give a `map` that keeps results in order; on a CPU it works on several batches at once.

    Q: Why threads over micro-batches, each with one OpenMP thread? A: bfloat16 on two OpenMP
    threads was erratic (48 to 260 tokens per second on a 135M model, two cores) and wasted a
    third of its CPU time waiting; one thread is steady (260), and two micro-batches at once use
    the second core fully.
    """
    import torch

    if device.type != "cpu":
        yield map
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if workers == 1:
            yield map
        else:
            pool = ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1))
            try:
                yield pool.map
            finally:
                # Whoever interrupts a step does not want to wait for all of its micro-batches.
                pool.shutdown(cancel_futures=True)
    finally:
        torch.set_num_threads(before)


def count_workers(recipe: Recipe, device: torch.device, processes: Processes = ALONE) -> int:
    """Return how many micro-batches are worked on at once."""
    # Dropout draws from one generator: threads would make its order a matter of chance.
    # A sharded base is put together and taken apart layer by layer, for one pass at a time.
    if device.type != "cpu" or recipe.lora.dropout > 0 or processes.sharded:
        return 1
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    return max(1, min(cores, _MOST_WORKERS, recipe.batch_size))


def _batches(
    rows: Sequence[EncodedRow],
    state: State,
    recipe: Recipe,
    device: torch.device,
    processes: Processes,
    most: int = sys.maxsize,
) -> list[MicroBatch]:
    packing = state.packing.packing if state.packing else "none"
    ceiling = min(most, _ceiling(recipe, device)) if packing != "none" else 0
    # Something to do for every process.
    ceiling = min(ceiling, math.ceil(sum(map(len, rows)) / processes.size))
    return micro_batches(rows, ceiling, packing == "by lengths")


def _ceiling(recipe: Recipe, device: torch.device) -> int:
    """Tokens that may go through the model at once, 0 for one row at a time."""
    default = _GPU_MICRO_TOKENS if device.type == "cuda" else 0
    return default if recipe.micro_tokens is None else recipe.micro_tokens


def _seed_dropout(recipe: Recipe, step: int, processes: Processes) -> None:
    """Random numbers follow from seed and step, so that a resumed run draws the same ones."""
    import torch

    if recipe.lora.dropout > 0 and recipe.method == "lora":
        torch.manual_seed(hash((recipe.seed, step, processes.rank)) % 2**63)


def _optimizer(
    recipe: Recipe, weights: list[torch.Tensor], device: torch.device
) -> torch.optim.Optimizer:
    import torch

    settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    eight_bit = recipe.optimizer == "adamw_8bit" and device.type == "cuda"
    if eight_bit and _has_bitsandbytes():
        from bitsandbytes.optim import AdamW8bit

        optimizer: torch.optim.Optimizer = AdamW8bit(weights, **settings)
        return optimizer
    return torch.optim.AdamW(weights, **settings)


def standing_in(recipe: Recipe, device: torch.device) -> str | None:
    """Say that another optimizer trains on a GPU than the recipe names, None where it does not."""
    wanted = recipe.optimizer == "adamw_8bit" and device.type == "cuda"
    if not wanted or _has_bitsandbytes():
        return None
    return (
        "adamw stands in for adamw_8bit, with 8 bytes of memory per trained weight instead of 2: "
        "pip install 'em-inspect[gpu]' for bitsandbytes, which is not installed"
    )


def _has_bitsandbytes() -> bool:
    import importlib.util

    return importlib.util.find_spec("bitsandbytes") is not None


def _copy(weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in weights]


def _restore(weights: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.detach().copy_(value)
