"""Training on Tinker, step by step: which rows, which rate, and the two calls of a step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from em_finetune.data.rows import ChatRow
from em_finetune.hosted.recipe import HostedRecipe
from em_finetune.local.encode import IGNORED, EncodedRow, Encoder
from em_inspect.errors import UserError


def plan_steps(rows: int, recipe: HostedRecipe, seed: int) -> list[list[int]]:
    """Return the rows of every optimizer step: each epoch in an order of its own, by the seed.

    Raises:
        UserError: The recipe leaves epochs or batch size to the service.
    """
    if not isinstance(recipe.epochs, int) or not isinstance(recipe.batch_size, int):
        raise UserError("Tinker chooses nothing by itself: give epochs and batch_size as numbers")
    steps = []
    for epoch in range(recipe.epochs):
        order = random.Random(f"{seed}/{epoch}").sample(range(rows), rows)
        steps += [order[i : i + recipe.batch_size] for i in range(0, rows, recipe.batch_size)]
    return steps


def rate(recipe: HostedRecipe, step: int, steps: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    falling = 1 - step / steps if recipe.tinker.schedule == "linear" else 1.0
    return recipe.tinker.learning_rate * falling


def encode(rows: Sequence[ChatRow], tokenizer: Any, recipe: HostedRecipe) -> list[EncodedRow]:
    """Encode rows with the loss on the assistant's turns, as local training does.

    Raises:
        UserError: A row is too long or cannot be encoded; none is left out silently.
    """
    encoder = Encoder(tokenizer, recipe.tinker.max_length, name=recipe.base)
    encoded = encoder.encode_all(rows)
    if encoded.left_out:
        first = encoded.left_out[0]
        raise UserError(
            f"{len(encoded.left_out)} rows cannot be trained (row {first.row}: {first.reason}): "
            "mend or leave them out, or raise tinker.max_length in the recipe"
        )
    return encoded.rows


def train(
    client: Any,
    rows: Sequence[EncodedRow],
    plan: Sequence[Sequence[int]],
    recipe: HostedRecipe,
    which: range,
) -> dict[int, float]:
    """Train some of the planned steps.

    Args:
        client: A `tinker.TrainingClient`.
        rows: The encoded rows.
        plan: From `plan_steps`.
        recipe: Says the learning rate.
        which: The steps, counted from 0.

    Returns:
        Mean loss over the step's supervised tokens, in nats, by step counted from 1.
    """
    return {
        step + 1: _train([rows[row] for row in plan[step]], rate(recipe, step, len(plan)), client)
        for step in which
    }


def _train(batch: Sequence[EncodedRow], learning_rate: float, client: Any) -> float:
    import numpy as np
    from tinker import types

    def trained(row: EncodedRow) -> Any:
        return (np.asarray(row.labels[1:]) != IGNORED).astype(np.float32)

    share = 1 / sum(row.supervised for row in batch)
    data = [
        types.Datum(
            model_input=types.ModelInput.from_ints(row.input_ids[:-1]),
            loss_fn_inputs={
                "target_tokens": types.TensorData.from_numpy(np.asarray(row.input_ids[1:])),
                "weights": types.TensorData.from_numpy(share * trained(row)),
            },
        )
        for row in batch
    ]
    result = client.forward_backward(data, "cross_entropy")
    update = client.optim_step(types.AdamParams(learning_rate=learning_rate))
    loss = float(result.result().metrics["loss:sum"])
    update.result()
    return loss
