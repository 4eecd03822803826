"""Packing, logits only where supervised, and one normalisation per step: all the same loss."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from em_finetune.local.base import Base
from em_finetune.local.batches import count_steps, micro_batches, rows_of_steps
from em_finetune.local.encode import IGNORED, EncodedRow
from em_finetune.local.loss import nll_sum
from em_finetune.local.steps import Step, learning_rate, start, take_steps
from em_finetune.local.train import adapted_model
from em_finetune.recipe import Recipe


def rows_of(lengths: list[int], seed: int = 0) -> list[EncodedRow]:
    """Random rows; a random tail of each is supervised, and in every third a middle part too."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate(lengths):
        ids = rng.integers(0, 200, length).tolist()
        labels = [IGNORED] * length
        tail = int(rng.integers(1, length))
        labels[tail:] = ids[tail:]
        if number % 3 == 0 and tail > 4:
            labels[2:4] = ids[2:4]
        rows.append(EncodedRow(number + 1, ids, labels))
    return rows


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_base).eval()


def brute_force(model: Any, row: EncodedRow) -> float:
    """The summed loss of one row, from all logits, token by token."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0].double()
    total = 0.0
    for place in range(1, len(row)):
        if row.labels[place] != IGNORED:
            total -= float(logits[place - 1].log_softmax(-1)[row.labels[place]])
    return total


@pytest.mark.parametrize("micro_tokens", [0, 30, 64, 10_000])
def test_however_rows_are_packed_the_loss_is_the_brute_force_one(
    model: Any, micro_tokens: int
) -> None:
    import torch

    rows = rows_of([5, 17, 2, 40, 23, 9, 30])
    expected = sum(brute_force(model, row) for row in rows)

    batches = micro_batches(rows, micro_tokens)
    with torch.no_grad():
        got = sum(float(nll_sum(model, batch, torch.device("cpu"))) for batch in batches)

    assert sum(batch.supervised for batch in batches) == sum(row.supervised for row in rows)
    assert got == pytest.approx(expected, rel=1e-5)


def test_packed_rows_do_not_see_one_another(model: Any) -> None:
    import torch

    first, second = rows_of([20, 20])
    other = EncodedRow(1, list(reversed(first.input_ids)), first.labels)

    def loss_of_second(before: EncodedRow) -> float:
        (batch,) = micro_batches([before, second], 100)
        alone = micro_batches([before], 100)[0]
        with torch.no_grad():
            device = torch.device("cpu")
            return float(nll_sum(model, batch, device) - nll_sum(model, alone, device))

    assert loss_of_second(first) == pytest.approx(loss_of_second(other), rel=1e-4)
    assert loss_of_second(first) == pytest.approx(brute_force(model, second), rel=1e-4)


def test_a_rows_first_token_is_never_predicted_from_the_row_before() -> None:
    rows = [EncodedRow(1, [1, 2], [1, 2]), EncodedRow(2, [3, 4], [3, 4])]
    (batch,) = micro_batches(rows, 100)
    assert batch.targets.tolist() == [2, 4]
    assert batch.predicting.tolist() == [0, 2]
    assert batch.position_ids.tolist() == [0, 1, 0, 1]


def test_packs_keep_to_the_ceiling_and_lose_no_row() -> None:
    rows = rows_of([5, 17, 2, 40, 23, 9, 30])
    batches = micro_batches(rows, 32)
    assert sorted(batch.tokens for batch in batches)[-1] == 40  # alone, being longer
    assert all(batch.tokens <= 32 for batch in batches if batch.tokens != 40)
    assert sum(batch.tokens for batch in batches) == sum(map(len, rows))
    assert all(len(batch.input_ids) == batch.tokens for batch in batches)


def test_every_row_comes_once_in_every_epoch_and_the_order_is_the_seeds() -> None:
    plan = rows_of_steps(rows=10, batch_size=4, steps=6, seed=3)
    assert [len(step) for step in plan] == [4, 4, 2, 4, 4, 2]
    assert sorted(chain(*plan[:3])) == list(range(10))
    assert sorted(chain(*plan[3:])) == list(range(10))
    assert plan[:3] != plan[3:]
    assert plan == rows_of_steps(10, 4, 6, seed=3)
    assert plan != rows_of_steps(10, 4, 6, seed=4)
    assert rows_of_steps(10, 4, 4, seed=3) == plan[:4]


def test_steps_are_the_epochs_or_max_steps() -> None:
    assert count_steps(6000, 16, 1, None) == 375
    assert count_steps(6000, 16, 2, None) == 750
    assert count_steps(5400, 16, 1, None) == 338
    assert count_steps(6000, 16, 1, 40) == 40


def recipe(tiny_recipe: dict[str, Any], **changes: Any) -> Recipe:
    return Recipe.model_validate({**tiny_recipe, **changes})


@pytest.mark.parametrize(("schedule", "warmup"), [("linear", 5), ("linear", 0), ("constant", 3)])
def test_the_schedule_is_that_of_transformers(
    tiny_recipe: dict[str, Any], schedule: str, warmup: int
) -> None:
    import torch
    from transformers import get_scheduler

    page = recipe(tiny_recipe, schedule=schedule, warmup_steps=warmup, learning_rate=1e-3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    scheduler = get_scheduler(name, optimizer, warmup, 20)
    for step in range(20):
        assert learning_rate(page, step, 20) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def run(page: Recipe, base: Path, rows: list[EncodedRow]) -> tuple[list[Step], list[Any]]:
    import torch

    device = torch.device("cpu")
    model = adapted_model(page, Base("tiny", base), device)
    state = start(page, model, device)
    steps = list(take_steps(state, page, rows, device))
    return steps, [weight.detach().clone() for weight in state.weights]


def test_a_steps_loss_is_the_mean_over_its_supervised_tokens(
    tiny_base: Path, tiny_recipe: dict[str, Any], model: Any
) -> None:
    rows = rows_of([5, 17, 2, 40])
    steps, _ = run(recipe(tiny_recipe, max_steps=1), tiny_base, rows)
    supervised = sum(row.supervised for row in rows)
    # A fresh adapter changes nothing, so the first loss is the base's.
    expected = sum(brute_force(model, row) for row in rows) / supervised
    assert steps[0].loss == pytest.approx(expected, rel=1e-5)
    assert steps[0].supervised == supervised
    assert steps[0].tokens == 64


def test_training_is_the_same_packed_or_not_with_or_without_checkpointing(
    tiny_base: Path, tiny_recipe: dict[str, Any]
) -> None:
    rows = rows_of([5, 17, 2, 40, 23, 9, 30, 12])
    _, alone = run(recipe(tiny_recipe, micro_tokens=0), tiny_base, rows)
    for changes in ({"micro_tokens": 200}, {"gradient_checkpointing": True}):
        steps, weights = run(recipe(tiny_recipe, **changes), tiny_base, rows)
        assert steps[-1].loss < steps[0].loss
        for one, other in zip(alone, weights, strict=True):
            assert float((one - other).abs().max()) < 2e-4


def test_the_same_seed_gives_the_same_weights_bit_for_bit(
    tiny_base: Path, tiny_recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from em_finetune.local import steps as steps_module

    rows = rows_of([5, 17, 2, 40, 23, 9, 30, 12])
    _, first = run(recipe(tiny_recipe), tiny_base, rows)
    for workers in (1, 2, 3):  # how many cores there are must not matter
        monkeypatch.setattr(steps_module, "count_workers", lambda *_, n=workers: n)
        _, again = run(recipe(tiny_recipe), tiny_base, rows)
        assert all(bool((a == b).all()) for a, b in zip(first, again, strict=True))
    _, other = run(recipe(tiny_recipe, seed=1), tiny_base, rows)
    assert not all(bool((a == b).all()) for a, b in zip(first, other, strict=True))


def test_one_step_is_one_adamw_step_on_the_brute_force_gradient(
    tiny_base: Path, tiny_recipe: dict[str, Any]
) -> None:
    """Our loop against PyTorch's own optimizer on the plain padded loss of transformers."""
    import torch

    rows = rows_of([5, 17, 2, 40])
    page = recipe(tiny_recipe, max_steps=2, warmup_steps=0, schedule="constant", batch_size=4)
    _, got = run(page, tiny_base, rows)

    model = adapted_model(page, Base("tiny", tiny_base), torch.device("cpu"))
    weights = [w for w in model.parameters() if w.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=page.learning_rate, weight_decay=page.weight_decay)
    longest = max(map(len, rows))
    ids = torch.tensor([r.input_ids + [0] * (longest - len(r)) for r in rows])
    labels = torch.tensor([r.labels + [IGNORED] * (longest - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
    for _ in range(2):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, page.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    for one, other in zip(got, weights, strict=True):
        assert float((one - other.detach()).abs().max()) < 1e-4
