"""The loss curve of checkpoints: as a picture, or as text where matplotlib is not installed."""

from __future__ import annotations

import csv
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from em_finetune.addressing import find_records
from em_finetune.checkpoint import CURVE
from em_finetune.picture import save_picture
from em_inspect.errors import UserError

_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Curve:
    """One fine-tune's losses.

    Attributes:
        label: Name of its directory.
        steps: Optimizer steps, from 1; none where a service told no losses.
        losses: Loss of each, nats per supervised token.
        kls: KL to the base on other domains' rows of each step, nats; NaN at a step that has none,
            empty where no step has.
    """

    label: str
    steps: list[int]
    losses: list[float]
    kls: list[float]


def read_curves(folder: Path) -> list[Curve]:
    """Read the curves of all checkpoints at or below a folder.

    Raises:
        UserError: There is none.
    """
    return [_read(one) for one in find_records(folder)]


def _read(folder: Path) -> Curve:
    try:
        with (folder / CURVE).open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        return Curve(
            label=folder.name,
            steps=[int(line["step"]) for line in lines],
            losses=[float(line["loss"]) for line in lines],
            kls=_kls([line.get("kl") for line in lines]),
        )
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{folder / CURVE} cannot be read as a loss curve: {error}") from error


def _kls(cells: Sequence[str | None]) -> list[float]:
    """One number a step, so that a step without one does not move those after it."""
    return [float(cell) if cell else math.nan for cell in cells] if any(cells) else []


def smoothed(values: Sequence[float], width: int) -> list[float]:
    """Return the mean of each value and those before it, at most `width` in all."""
    means = []
    for i in range(len(values)):
        window = values[max(0, i + 1 - width) : i + 1]
        means.append(sum(window) / len(window))
    return means


def draw(curves: Sequence[Curve], out: Path) -> None:
    """Draw the curves into a picture, whole or not at all; the ending says which kind.

    Raises:
        UserError: matplotlib is not installed, the ending is unknown to it, or there are no losses.
    """
    if not any(curve.steps for curve in curves):
        raise UserError("there are no losses to draw: leave -o")
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("matplotlib not installed: pip install 'em-inspect[report]', or leave -o")
    from matplotlib.figure import Figure

    kl = any(curve.kls for curve in curves)
    figure = Figure(figsize=(7, 6 if kl else 3.6), layout="constrained")
    axes = figure.subplots(2 if kl else 1, squeeze=False, sharex=True)[:, 0]
    for number, curve in enumerate(curves):
        colour = f"C{number % 10}"
        width = max(1, len(curve.losses) // 20)
        axes[0].plot(curve.steps, curve.losses, color=colour, alpha=0.25, linewidth=0.8)
        axes[0].plot(curve.steps, smoothed(curve.losses, width), color=colour, label=curve.label)
        if curve.kls:
            axes[1].plot(curve.steps, curve.kls, ".-", color=colour)
    axes[0].set_ylabel("loss, nats per token")
    axes[0].legend(frameon=False, fontsize="small")
    if kl:
        axes[1].set_ylabel("KL to the base\non other domains, nats")
    axes[-1].set_xlabel("optimizer step")
    save_picture(figure, out)


def as_text(curve: Curve, width: int = 60) -> str:
    """Return a curve as one line of blocks, ? for no number, between its first and last value."""
    if not curve.losses:
        return f"{curve.label}  no losses in its {CURVE}"
    means = _buckets(curve.losses, width)
    finite = [m for m in means if math.isfinite(m)] or [0.0]
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    blocks = "".join(
        _BLOCKS[round((m - low) / span * (len(_BLOCKS) - 1))] if math.isfinite(m) else "?"
        for m in means
    )
    return f"{curve.label}  {means[0]:.3f} {blocks} {means[-1]:.3f}  ({len(curve.steps)} steps)"


def _buckets(values: Sequence[float], most: int) -> list[float]:
    count = min(most, len(values))
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges) if b > a]
