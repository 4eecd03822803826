"""Power: how many seeds and samples it takes to see a difference, by simulating the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.interval import clustered, difference, mean_share
from em_inspect.analysis.series import PLAIN, with_series
from em_inspect.analysis.statistics import cells
from em_inspect.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

SPREAD = 0.6
"""Standard deviation of the seeds' true shares over their mean, where nobody knows better.

The paper's .198 ± .071 over ten seeds implies about this, read as half a 95 % interval.
"""

EXPERIMENTS = 400


@dataclass(frozen=True)
class Assumptions:
    """What a design is judged under.

    Attributes:
        share: True share of the fine-tunes, mean over seeds, 0 to 1.
        reference: True share of the base, 0 to 1.
        spread: Standard deviation of the seeds' true shares over their mean, 0 or more.
        questions: Number of questions.
        scored: Share of answers that are scored (coherent, with a rating), above 0, at most 1.
    """

    share: float
    reference: float = 0.0
    spread: float = SPREAD
    questions: int = 8
    scored: float = 0.9

    def __post_init__(self) -> None:
        for name in ("share", "reference"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name):g} is no share: give 0 to 1")
        if not 0 < self.scored <= 1:
            raise UserError(f"scored {self.scored:g} is no share: give a number above 0 up to 1")
        if self.spread < 0 or self.questions < 1:
            raise UserError("spread must be 0 or more, and questions 1 or more")
        if self.share == self.reference:
            raise UserError("share and reference are equal: there is no difference to find")


def power(
    assumptions: Assumptions,
    seeds: int,
    samples: int,
    *,
    experiments: int = EXPERIMENTS,
    seed: int = 0,
) -> float:
    """Share of simulated experiments in which the report would say that the share differs.

    Each seed's true share is Gamma distributed around the mean, its answers are binomial; the base
    is one model with as many answers as a seed. The report's rule decides: with several seeds the
    interval of the difference for new seeds excludes zero, with one seed that for this very model.

    Args:
        assumptions: The truth to be found.
        seeds: Fine-tunes, 1 or more.
        samples: Answers per question and model, 1 or more.
        experiments: Simulated experiments; the error of 0.8 is 0.02 at 400.
        seed: Of the simulation.
    """
    rng = np.random.default_rng([seed, seeds, samples])
    n = max(1, round(assumptions.questions * samples * assumptions.scored))
    found = 0
    for _ in range(experiments):
        shape = (assumptions.spread or 1) ** -2
        factors = rng.gamma(shape, 1 / shape, seeds) if assumptions.spread else np.ones(seeds)
        hits = rng.binomial(n, np.minimum(1, assumptions.share * factors))
        base = mean_share([rng.binomial(n, assumptions.reference)], [n])
        counts = np.full(seeds, n)
        side = clustered(hits, counts, "seeds") if seeds > 1 else mean_share(hits, counts)
        between = difference(side, base)
        higher = assumptions.share > assumptions.reference
        found += between.low > 0 if higher else between.high < 0
    return found / experiments


def power_table(
    assumptions: Assumptions,
    seeds: Sequence[int],
    samples: Sequence[int],
    report: Callable[[], None] = lambda: None,
) -> dict[tuple[int, int], float]:
    """Simulate every design; `report` is called after each."""
    found = {}
    for k in seeds:
        for n in samples:
            found[k, n] = power(assumptions, k, n)
            report()
    return found


def smallest(
    table: dict[tuple[int, int], float], wanted: float, *, several: bool = True
) -> tuple[int, int] | None:
    """The design with the fewest answers that reaches a power, fewer seeds where equal.

    Args:
        table: Power by (seeds, samples).
        wanted: Power, 0 to 1.
        several: Whether to look at designs with two seeds or more alone.
    """
    enough = [d for d, p in table.items() if p >= wanted and (d[0] > 1 or not several)]
    return min(enough, key=lambda d: (d[0] * d[1], d[0]), default=None)


def from_pilot(
    frame: DataFrame, group: str, reference: str, criterion: Criterion
) -> tuple[Assumptions, list[str]]:
    """Estimate assumptions from pilot answers given under one condition.

    The spread is the variance between fine-tunes' pooled shares less their binomial variance
    (method of moments), and the default where there are fewer than two fine-tunes or no excess is
    seen. A seed's checkpoints are no further seeds, and a model with a trigger and without is no
    one share: such a pilot is refused unless a series of it is named.

    Args:
        frame: The pilot's answers.
        group: What was fine-tuned on, e.g. `insecure`, or one of its series as the report names
            them, e.g. `insecure · step 25`.
        reference: What it is compared with, likewise.
        criterion: When an answer is misaligned.

    Returns:
        The assumptions, and what had to be assumed instead of estimated.

    Raises:
        UserError: If a group has no answers or several conditions, or the pilot shows no
            difference.
    """
    marked = with_series(frame, by_format=True)
    sides = [
        _series(marked, name, option)
        for name, option in ((group, "group"), (reference, "reference"))
    ]
    columns = ["answers", "scored", "misaligned"]
    counts = cells(criterion.apply(marked))
    models, base_models = (
        counts[counts["group"] == side].groupby("fine_tune")[columns].sum() for side in sides
    )
    base = base_models.sum()
    models = models[models["scored"] > 0]
    if not len(models) or not base["scored"]:
        raise UserError("the pilot has no scored answers: give --share and --reference-share")
    shares = (models["misaligned"] / models["scored"]).to_numpy(float)
    mean = float(shares.mean())
    spread, notes = SPREAD, []
    if len(shares) < 2 or mean == 0:
        why = "the pilot has one model" if len(shares) < 2 else "none of its answers is misaligned"
        notes.append(f"spread between seeds assumed ({SPREAD:g}): {why}")
    else:
        within = float(np.mean(shares * (1 - shares) / models["scored"]))
        excess = float(shares.var(ddof=1)) - within
        spread = math.sqrt(excess) / mean if excess > 0 else SPREAD
        if excess <= 0:
            said = f"the pilot's {len(shares)} models differ no more than by chance"
            notes.append(f"spread between seeds assumed ({SPREAD:g}): {said}")
        elif len(shares) < 6:
            notes.append(f"spread between seeds ({spread:.2f}) estimated from {len(shares)} models")
    if base["misaligned"] and not base_models.index.intersection(models.index).empty:
        notes.append(
            "both sides are the same models: the report pairs them by seed, these designs do not, "
            "so that their power is too low where a model's two shares rise and fall together"
        )
    of_group = counts[counts["group"] == sides[0]]
    assumptions = Assumptions(
        share=mean,
        reference=float(base["misaligned"] / base["scored"]),
        spread=spread,
        questions=int(of_group["question_id"].nunique()),
        scored=float(of_group["scored"].sum() / of_group["answers"].sum()),
    )
    return assumptions, notes


def _series(frame: DataFrame, name: str, option: str) -> str:
    """The one series that is named, or is all there is of the group that is named."""
    series = set(map(str, frame["group"].unique()))
    of_name = frame[frame["trained"].astype("str") == name]
    own = sorted(map(str, set(of_name["group"])))
    if len(own) == 1:
        return own[0]
    if name in series and not own:
        return name
    others = of_name[of_name["group"].astype("str") != name]["format"].astype("str")
    if name in own and not others.isin(PLAIN).any():
        return name  # the plain questions go by the group's own name, other formats by theirs
    if not own:
        known = " or ".join(f"'{one}'" if " " in one else one for one in sorted(series))
        raise UserError(f"no group '{name}' in the pilot: use --{option} {known}")
    shown = ", ".join(f"'{one}'" for one in own[:6]) + (" …" if len(own) > 6 else "")
    raise UserError(
        f"the pilot asked {name} under {len(own)} conditions, which have no one share: name one "
        f"with --{option} ({shown})"
    )
