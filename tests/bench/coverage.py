"""Coverage of every interval on offer, by simulation; writes the table into docs/statistics.md.

Run: python tests/bench/coverage.py [--write docs/statistics.md] [--experiments 2000]
"""

from __future__ import annotations

import argparse
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from em_inspect.analysis.interval import (
    Estimate,
    bootstrap,
    clustered,
    difference,
    mean_of,
    mean_share,
    two_way,
    weighted_mean,
)

SHARES = (0.002, 0.02, 0.2)
SEEDS = (1, 2, 3, 6, 10)
SPREADS = (0.0, 0.3, 0.6)
"""Standard deviation of the seeds' true shares over their mean; 0.6 is about the paper's."""

QUESTIONS, QUESTION_SPREAD, SAMPLES = 8, 0.7, 100

ITEMS, ORDERS = 30, 4
CENTRES = (0.01, 0.3)
"""Probability on misaligned letters of a model and an item in the middle."""
LOGIT_SPREADS = (0.0, 0.5)
"""Standard deviation of the seeds' log odds."""
ITEM_SPREAD, ORDER_SPREAD = 1.5, 1.0
"""Standard deviations of log odds: between items, and between the orders of an item's choices."""

MARKS = ("<!-- coverage: begin -->", "<!-- coverage: end -->")

Array = NDArray[np.float64]
Held = tuple[str, Estimate, float]
"""An interval's name, the interval, and the truth that it is about."""
Simulate = Callable[[np.random.Generator, float, int, float], Iterator[Held]]
Found = dict[tuple[str, float], dict[tuple[float, int], tuple[float, float]]]


_NODES, _AREAS = np.polynomial.hermite_e.hermegauss(61)
_WEIGHTS = _AREAS / _AREAS.sum()


def factors(rng: np.random.Generator, spread: float, size: int) -> Array:
    """Factors of mean 1 and the given standard deviation, Gamma distributed."""
    if spread == 0:
        return np.ones(size)
    return np.asarray(rng.gamma(1 / spread**2, spread**2, size))


def simulate_shares(
    rng: np.random.Generator, share: float, seeds: int, spread: float
) -> Iterator[Held]:
    """One experiment whose answers are counted."""
    many_seeds, many_questions = factors(rng, spread, 4000), factors(rng, QUESTION_SPREAD, 4000)
    a, b = factors(rng, spread, seeds), factors(rng, QUESTION_SPREAD, QUESTIONS)
    p = np.minimum(1, share * np.outer(a, b))
    n = np.full(p.shape, SAMPLES)
    hits = rng.binomial(n, p)
    by_seed, n_seed = hits.sum(1), n.sum(1)
    these = float(p.mean())
    new_seeds = float(np.minimum(1, share * np.outer(many_seeds, b)).mean())
    new_questions = float(np.minimum(1, share * np.outer(a, many_questions)).mean())
    both = float(np.minimum(1, share * many_seeds * many_questions).mean())
    answers = mean_share(by_seed, n_seed)
    yield "answers (Wilson), for these models and questions", answers, these
    yield "answers (Wilson), read as if for new seeds", answers, new_seeds
    shares = list(by_seed / n_seed)
    if seeds > 1:
        over_seeds = clustered(by_seed, n_seed, "seeds")
        yield "seeds (Korn–Graubard), for new seeds", over_seeds, new_seeds
        yield "paper (percentile bootstrap), for new seeds", bootstrap(shares, 1), new_seeds
        yield "seeds and questions (two-way), for both new", two_way(hits, n), both
    over_questions = clustered(hits.sum(0), n.sum(0), "questions")
    yield "questions (Korn–Graubard), for new questions", over_questions, new_questions
    between = paired(rng, p, hits)
    yield "paired difference (t), for new questions", between, 0.9 * new_questions
    base = rng.binomial(QUESTIONS * SAMPLES, share / 10)
    reference = mean_share([base], [QUESTIONS * SAMPLES])
    best = clustered(by_seed, n_seed, "seeds") if seeds > 1 else answers
    truth = (new_seeds if seeds > 1 else these) - share / 10
    yield "difference from a base (Newcombe)", difference(best, reference), truth


def paired(rng: np.random.Generator, p: Array, hits: Array) -> Estimate:
    """The mean paired difference from a base a tenth as bad, as the comparison estimates it."""
    total = np.full(QUESTIONS, hits.shape[0] * SAMPLES)
    base = rng.binomial(SAMPLES, p.mean(0) / 10)
    found = mean_of(hits.sum(0) / total - base / SAMPLES)
    if found.low < found.high:
        return found
    sides = (
        clustered(hits.sum(0), total, "questions"),
        clustered(base, [SAMPLES] * QUESTIONS, "questions"),
    )
    return difference(*sides)


def expected(log_odds: Array, *spreads: float) -> float:
    """Mean probability where normal effects of these spreads are added (Gauss-Hermite)."""
    effects = math.hypot(*spreads) * _NODES
    return float((1 / (1 + np.exp(-log_odds[..., None] - effects)) @ _WEIGHTS).mean())


def simulate_masses(
    rng: np.random.Generator, centre: float, seeds: int, spread: float
) -> Iterator[Held]:
    """One experiment that measures a probability per answer: every item in a few orders.

    Log odds are the sum of normal effects: of the seed, the item, both together (half the seeds'
    spread), and the order.
    """
    middle, both = math.log(centre / (1 - centre)), spread / 2
    seed = middle + rng.normal(0, spread, (seeds, 1))
    item = rng.normal(0, ITEM_SPREAD, ITEMS)
    cells = seed + item + rng.normal(0, both, (seeds, ITEMS))
    n = np.full(cells.shape, ORDERS)
    p = 1 / (1 + np.exp(-cells[..., None] - rng.normal(0, ORDER_SPREAD, (*cells.shape, ORDERS))))
    sums, squares = p.sum(2), (p**2).sum(2)
    weights = np.full(sums.size, 1 / sums.size)
    these = weighted_mean(sums.ravel(), squares.ravel(), n.ravel(), weights, "answers")
    yield "rows (t), for these models and items", these, expected(cells, ORDER_SPREAD)
    if seeds > 1:
        by_seed = clustered(sums.sum(1), n.sum(1), "seeds", counted=False)
        new_seeds = expected(middle + item, spread, both, ORDER_SPREAD)
        yield "seeds (t), for new seeds", by_seed, new_seeds
        new = expected(np.array([middle]), spread, both, ITEM_SPREAD, ORDER_SPREAD)
        yield "seeds and items (two-way, t), for both new", two_way(sums, n, counted=False), new
    by_item = clustered(sums.sum(0), n.sum(0), "questions", counted=False)
    new_items = expected(seed, both, ITEM_SPREAD, ORDER_SPREAD)
    yield "items (t), for new items", by_item, new_items
    base = middle - math.log(2)  # half the odds
    q = 1 / (1 + np.exp(-base - item[:, None] - rng.normal(0, ORDER_SPREAD, (ITEMS, ORDERS))))
    paired = mean_of((sums / n).mean(0) - q.mean(1))
    truth = new_items - expected(np.array([base]), ITEM_SPREAD, ORDER_SPREAD)
    yield "paired difference (t), for new items", paired, truth


def coverage(
    simulate: Simulate, spreads: Sequence[float], shares: Sequence[float], experiments: int
) -> Found:
    """Share of experiments whose interval holds the truth, and the interval's mean width."""
    found: Found = defaultdict(dict)
    for spread in spreads:
        for share in shares:
            for seeds in SEEDS:
                rng = np.random.default_rng([0, int(spread * 10), int(share * 1000), seeds])
                held: dict[str, list[bool]] = defaultdict(list)
                width: dict[str, list[float]] = defaultdict(list)
                for _ in range(experiments):
                    for name, estimate, truth in simulate(rng, share, seeds, spread):
                        if not estimate.bounded:
                            continue
                        held[name].append(estimate.low <= truth <= estimate.high)
                        width[name].append(estimate.high - estimate.low)
                for name, values in held.items():
                    cell = (float(np.mean(values)), float(np.mean(width[name])))
                    found[name, spread][share, seeds] = cell
    return found


def report(experiments: int) -> str:
    """The result as Markdown: one row per interval and spread, coverage in percent."""
    error = 100 * math.sqrt(0.95 * 0.05 / experiments)
    shares = coverage(simulate_shares, SPREADS, SHARES, experiments)
    masses = coverage(simulate_masses, LOGIT_SPREADS, CENTRES, experiments)
    lines = [
        f"Coverage in percent of nominal 95 % intervals; {experiments:,} simulated experiments per "
        f"cell (Monte-Carlo error ±{error:.1f} at 95). **Bold**: under-covers (below 93). In "
        "brackets: mean width in percentage points.",
        "",
        "### Shares",
        "",
        f"{QUESTIONS} questions × {SAMPLES} answers per model, questions' true shares spread by "
        f"{QUESTION_SPREAD:g} of their mean.",
        "",
        *_table(shares, "True share", SHARES, SPREADS),
        *_verdicts(shares, "share"),
        "",
        "### Means of probabilities",
        "",
        f"{ITEMS} items × {ORDERS} orders per model; log odds are normal, their standard deviation "
        f"{ITEM_SPREAD:g} between items and {ORDER_SPREAD:g} between orders. The base of the "
        "paired difference has half the odds.",
        "",
        *_table(masses, "Probability in the middle", CENTRES, LOGIT_SPREADS),
        *_verdicts(masses, "probability"),
    ]
    return "\n".join(lines)


def _table(
    found: Found, title: str, shares: Sequence[float], spreads: Sequence[float]
) -> Iterator[str]:
    for share in shares:
        yield from (
            f"{title} {share:g}:",
            "",
            "| interval | spread of seeds | "
            + " | ".join(f"{seeds} seed{'s' * (seeds > 1)}" for seeds in SEEDS)
            + " |",
            "| --- | --- |" + " --- |" * len(SEEDS),
        )
        for name in dict.fromkeys(name for name, _ in found):
            for spread in spreads:
                cells = [found[name, spread].get((share, seeds)) for seeds in SEEDS]
                yield f"| {name} | {spread:g} | {' | '.join(map(_cell, cells))} |"
        yield ""


def _cell(cell: tuple[float, float] | None) -> str:
    if cell is None:
        return "–"
    held, width = cell
    shown = f"{100 * held:.1f}"
    return f"{f'**{shown}**' if held < 0.93 else shown} ({100 * width:.2g})"


def _verdicts(found: Found, what: str) -> Iterator[str]:
    yield "Worst cell of each interval, over all designs above:"
    yield ""
    for name in dict.fromkeys(name for name, _ in found):
        cells = [
            (held, spread, share, seeds)
            for (other, spread), designs in found.items()
            if other == name
            for (share, seeds), (held, _) in designs.items()
        ]
        held, spread, share, seeds = min(cells)
        bad = sum(cell[0] < 0.93 for cell in cells)
        said = f"under-covers in {bad} of {len(cells)} designs" if bad else "does not under-cover"
        yield (
            f"- {name}: {said}; worst {100 * held:.1f} % "
            f"({what} {share:g}, {seeds} seed{'s' * (seeds > 1)}, spread {spread:g})."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="page with the two marks to write between")
    parser.add_argument("--experiments", type=int, default=2000)
    arguments = parser.parse_args()
    text = report(arguments.experiments)
    print(text)
    if arguments.write:
        page = arguments.write.read_text(encoding="utf-8")
        before, _, rest = page.partition(MARKS[0])
        _, _, after = rest.partition(MARKS[1])
        part = arguments.write.with_suffix(".part")
        part.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")
        os.replace(part, arguments.write)


if __name__ == "__main__":
    main()
