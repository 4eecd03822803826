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
)
from em_inspect.analysis.statistics import mean_of_kinds
from em_inspect.analysis.stratified import Tables, stratify

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
ITEM_SPREAD, LETTER_SPREAD, ORDER_SPREAD = 1.5, 1.0, 0.3
"""Standard deviations of log odds: between items, between the letters that a choice stands under,
and between the orders of an item's choices besides. Every choice stands under every letter once.
"""

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
    yield "answers (score), for these models and questions", answers, these
    yield "answers (score), read as if for new seeds", answers, new_seeds
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
    spread), the letter that the misaligned choice stands under, and the order. The orders are
    balanced and part of the items: asked again, every value is the same.
    """
    middle, both = math.log(centre / (1 - centre)), spread / 2
    seed = middle + rng.normal(0, spread, (seeds, 1))
    item = rng.normal(0, ITEM_SPREAD, ITEMS)
    cells = seed + item + rng.normal(0, both, (seeds, ITEMS))
    n = np.full(cells.shape, ORDERS)
    letters = rng.normal(0, LETTER_SPREAD, ORDERS)
    letters -= letters.mean()
    order = letters + rng.normal(0, ORDER_SPREAD, (ITEMS, ORDERS))
    sums = (1 / (1 + np.exp(-cells[..., None] - order))).sum(2)
    squares = sums**2 / ORDERS
    exact = Tables(sums, n.astype(float), squares, exact=True)
    these = exact.mean(np.full(sums.shape, 1 / sums.size))
    yield "exact, for these models and items", these, float((sums / n).mean())
    if seeds > 1:
        by_seed = clustered(sums.sum(1), n.sum(1), "seeds", counted=False)
        new_seeds = expected(middle + item[:, None] + order, spread, both)
        yield "seeds (t), for new seeds", by_seed, new_seeds
        new = expected(middle + letters, spread, both, ITEM_SPREAD, ORDER_SPREAD)
        yield "seeds and items (two-way, t), for both new", two_way(sums, n, counted=False), new
    by_item = clustered(sums.sum(0), n.sum(0), "questions", counted=False)
    new_items = expected(seed + letters, both, ITEM_SPREAD, ORDER_SPREAD)
    yield "items (t), for new items", by_item, new_items
    base = middle - math.log(2)  # half the odds
    q = 1 / (1 + np.exp(-base - item[:, None] - order))
    paired = mean_of((sums / n).mean(0) - q.mean(1))
    truth = new_items - expected(base + letters, ITEM_SPREAD, ORDER_SPREAD)
    yield "paired difference (t), for new items", paired, truth


Design = Callable[[np.random.Generator], Iterator[Held]]


def tables(hits: Array, n: Array) -> Tables:
    """Counts of one side, shape (models, questions)."""
    return Tables(hits.astype(float), n.astype(float), hits.astype(float))


def unequal_cells(n: Sequence[int], shares: Sequence[float]) -> Design:
    """One model and questions, or several models: cells with fixed answers and true shares."""

    def simulate(rng: np.random.Generator) -> Iterator[Held]:
        found = mean_share(rng.binomial(n, shares), n)
        yield "score, for these models and questions", found, float(np.mean(shares))

    return simulate


def incoherent_by_question(rng: np.random.Generator) -> Iterator[Held]:
    """The fine-tune is incoherent on the harmless questions, and no worse on any other."""
    shares = np.array([0.0, 0.0, 0.01, 0.02, 0.05, 0.1, 0.3, 0.4])
    fine, base = np.array([5, 6, 10, 20, 60, 80, 100, 100]), np.full(8, 100)
    x, y = rng.binomial(fine, shares), rng.binomial(base, shares)
    found = stratify(tables(x[None], fine[None]), tables(y[None], base[None]), paired=False)
    yield "stratified difference, for these models", found.here, 0.0


def unequal_seeds(rng: np.random.Generator) -> Iterator[Held]:
    """Six seeds of which two are mostly incoherent, and those more misaligned."""
    n = np.array([20, 40, 400, 600, 800, 800])
    share = np.minimum(1, 0.1 * factors(rng, 0.6, 6))
    hits = rng.binomial(n, share)
    yield "seeds (Korn–Graubard), for new seeds", clustered(hits, n, "seeds"), 0.1
    yield "score, for these models and questions", mean_share(hits, n), float(share.mean())
    base = np.array([[800]])
    none = tables(np.zeros((1, 1)), base)
    found = stratify(tables(hits[:, None], n[:, None]), none, paired=False)
    if found.seeds:
        yield "stratified difference, for new seeds", found.seeds, 0.1


def heavy_tail(seeds: int) -> Design:
    """One seed in ten takes off to 90 %; the others are at 1 %."""

    def simulate(rng: np.random.Generator) -> Iterator[Held]:
        share = np.where(rng.random(seeds) < 0.1, 0.9, 0.01)
        n = np.full(seeds, 800)
        hits = rng.binomial(n, share)
        truth = 0.1 * 0.9 + 0.9 * 0.01
        yield "seeds (Korn–Graubard), for new seeds", clustered(hits, n, "seeds"), truth
        yield "paper (percentile bootstrap), for new seeds", bootstrap(list(hits / n), 1), truth
        yield "score, for these models and questions", mean_share(hits, n), float(share.mean())

    return simulate


def seed_by_question(rng: np.random.Generator) -> Iterator[Held]:
    """Six seeds and eight questions whose shares differ by both, and by each pair of them."""
    a, b = factors(rng, 0.4, 6), factors(rng, 0.7, 8)
    both = rng.gamma(2.0, 0.5, (6, 8))
    p = np.minimum(1, 0.05 * np.outer(a, b) * both)
    n = np.full(p.shape, 100)
    hits = rng.binomial(n, p)
    here = mean_share(hits.sum(1), n.sum(1))
    by_seed = clustered(hits.sum(1), n.sum(1), "seeds")
    by_question = clustered(hits.sum(0), n.sum(0), "questions")
    yield "score, for these models and questions", here, float(p.mean())
    yield "seeds (Korn–Graubard), for new seeds", by_seed, 0.05 * float(b.mean())
    yield "questions (Korn–Graubard), for new questions", by_question, 0.05 * float(a.mean())
    yield "seeds and questions (two-way), for both new", two_way(hits, n), 0.05


def correlated_arms(seeds: int, rise: float) -> Design:
    """Trigger on and off in the same seeds, whose levels differ far more than their rises."""

    def simulate(rng: np.random.Generator) -> Iterator[Held]:
        level, rises = 0.2 * factors(rng, 0.6, seeds)[:, None], rise * factors(rng, 0.3, seeds)
        questions = factors(rng, 0.5, 8)
        off = np.minimum(0.9, level * questions)
        on = np.minimum(1, off + rises[:, None])
        n = np.full(off.shape, 100)
        x, y = tables(rng.binomial(n, on), n), tables(rng.binomial(n, off), n)
        found = stratify(x, y, paired=True)
        yield "paired stratified difference, for these models", found.here, float((on - off).mean())
        if found.seeds:
            yield "paired stratified difference, for new seeds", found.seeds, rise

    return simulate


def two_kinds(rng: np.random.Generator) -> Iterator[Held]:
    """Factual and identity deception of six seeds, correlated by .9: the mean of both."""
    common = rng.normal(0, 1, (6, 1))
    effects = math.sqrt(0.9) * common + math.sqrt(0.1) * rng.normal(0, 1, (6, 2))
    p = 1 / (1 + np.exp(1.0 - 0.8 * effects))
    n = np.full((6, 2), 200)
    hits = rng.binomial(n, p)
    truth = expected(np.array([-1.0]), 0.8)
    found = mean_of_kinds((hits[:, 0], n[:, 0]), (hits[:, 1], n[:, 1]))
    if found.seeds:
        yield "mean of two kinds (Korn–Graubard), for new seeds", found.seeds, truth
    yield "mean of two kinds (score), for these models", found.here, float(p.mean())


DESIGNS: dict[str, Design] = {
    "one question with 6 answers at 50 %, seven with 100 at 0.5 %": unequal_cells(
        [6] + [100] * 7, [0.5] + [0.005] * 7
    ),
    "one question with 5 answers at 20 %, seven with 100 at 0.2 %": unequal_cells(
        [5] + [100] * 7, [0.2] + [0.002] * 7
    ),
    "sixty questions with one answer each at 40 %": unequal_cells([1] * 60, [0.4] * 60),
    "forty questions with one or two answers, at 90 or 10 %": unequal_cells(
        [1] * 20 + [2] * 20, [0.9, 0.1] * 20
    ),
    "one model with 30 answers at 60 %, five with 800 at 1 %": unequal_cells(
        [30] + [800] * 5, [0.6] + [0.01] * 5
    ),
    "eight questions with 5 to 100 answers, a fine-tune that differs in coherence alone": (
        incoherent_by_question
    ),
    "six seeds with 20 to 800 answers, spread 0.6, share 10 %": unequal_seeds,
    "three seeds, one in ten takes off to 90 %": heavy_tail(3),
    "six seeds, one in ten takes off to 90 %": heavy_tail(6),
    "ten seeds, one in ten takes off to 90 %": heavy_tail(10),
    "thirty seeds, one in ten takes off to 90 %": heavy_tail(30),
    "six seeds × eight questions, each pair with a share of its own": seed_by_question,
    "arms of three seeds, rise of 10 points": correlated_arms(3, 0.1),
    "arms of six seeds, rise of 10 points": correlated_arms(6, 0.1),
    "arms of six seeds, rise of 1 point": correlated_arms(6, 0.01),
    "two kinds of deception of six seeds, correlated by 0.9": two_kinds,
}


def designed(experiments: int) -> Iterator[str]:
    """The result for every design of `DESIGNS`, as rows of a table."""
    yield "| design | interval | coverage (width) |"
    yield "| --- | --- | --- |"
    for number, (name, simulate) in enumerate(DESIGNS.items()):
        rng = np.random.default_rng([1, number])
        held: dict[str, list[bool]] = defaultdict(list)
        width: dict[str, list[float]] = defaultdict(list)
        for _ in range(experiments):
            for interval, estimate, truth in simulate(rng):
                held[interval].append(holds(estimate, truth))
                width[interval].append(estimate.high - estimate.low)
        for interval, values in held.items():
            cell = (float(np.mean(values)), float(np.mean(width[interval])))
            yield f"| {name} | {interval} | {_cell(cell)} |"


def holds(estimate: Estimate, truth: float) -> bool:
    """Whether the interval holds the truth, to rounding: exact ones have no width."""
    return estimate.low - 1e-12 <= truth <= estimate.high + 1e-12


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
                        held[name].append(holds(estimate, truth))
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
        f"{ITEMS} items × {ORDERS} balanced orders per model; log odds are normal, their standard "
        f"deviation {ITEM_SPREAD:g} between items, {LETTER_SPREAD:g} between letters and "
        f"{ORDER_SPREAD:g} between orders besides. The base of the paired difference has half the "
        "odds.",
        "",
        *_table(masses, "Probability in the middle", CENTRES, LOGIT_SPREADS),
        *_verdicts(masses, "probability"),
        "",
        "### Unbalanced designs",
        "",
        *designed(experiments),
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
