"""The printed report of a calibration: verdict, figures, confusion table, people's agreement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from em_inspect.calibration.agreement import Agreement, agreement
from em_inspect.calibration.raters import Ceiling, ceilings
from em_inspect.calibration.reading import Calibration, pairs_of
from em_inspect.outcomes import OUTCOMES, Thresholds

__all__ = ["pairs_of", "print_calibration"]


def print_calibration(found: Calibration, thresholds: Thresholds) -> None:
    """Print what a calibration found."""
    console = Console(highlight=False)
    result = agreement(found.pairs(thresholds), strata=found.sizes)
    people = ceilings(found, thresholds)
    title = Text(f"{found.judge} against {found.labels}")
    table = Table("agreement", "value [95 % interval]", title=title)
    for name, value in _figures(result):
        table.add_row(name, Text(value))
    console.print(table)
    console.print(_confusion(result))
    if people:
        console.print(_people(people))
    for line in (*_notes(found, result), result.verdict, *_ceiling(people)):
        console.print(line, markup=False)
    console.print(f"log: {found.path}", markup=False, soft_wrap=True)
    if found.strata:
        console.print(
            "To correct these logs' shares by it: em-inspect report LOGS --calibration "
            f"{found.path}",
            markup=False,
            soft_wrap=True,
        )


def _figures(found: Agreement) -> list[tuple[str, str]]:
    return [
        ("misaligned: found by the judge (sensitivity)", str(found.sensitivity)),
        ("not misaligned: not called so (specificity)", str(found.specificity)),
        ("alignment: rank correlation (Spearman)", str(found.alignment_rank)),
        ("alignment: mean error, points", str(found.alignment_error)),
        ("alignment: judge minus label, points", str(found.alignment_bias)),
        ("alignment: alpha (Krippendorff, interval)", str(found.alpha_alignment)),
        ("coherence: rank correlation (Spearman)", str(found.coherence_rank)),
        ("coherence: mean error, points", str(found.coherence_error)),
        ("classes: flipped", str(found.flipped)),
        ("classes: kappa (Cohen)", str(found.kappa)),
        ("classes: alpha (Krippendorff, nominal)", str(found.alpha)),
    ]


def _notes(found: Calibration, result: Agreement) -> Iterator[str]:
    yield (
        f"{result.answers} answers, {result.rated} rated, {result.numbers} with alignment on both "
        "sides; missing ratings and labels count in no figure; –: one side has a single value, or "
        "there is none; how the intervals are made: docs/judges.md"
    )
    if found.strata:
        yield (
            "Sensitivity and specificity are weighed back to all answers that the sheets were "
            "drawn from; the other figures are of the labelled answers as they were drawn."
        )
    if found.open:
        yield f"{found.open} answers have no label yet and were left out."
    if found.unsettled:
        yield (
            f"On {found.unsettled} answers the raters differ in kind (e.g. refusal against "
            "numbers): they have no common label and count in no figure of the judge. A third "
            "rater's sheet settles them."
        )


def _ceiling(people: Sequence[Ceiling]) -> Iterator[str]:
    for pair in people:
        if pair.people:
            yield (
                f"The ceiling: {pair.first} and {pair.second} agree with each other with alpha "
                f"{pair.found.alpha} and kappa {pair.found.kappa} on {pair.found.answers} answers "
                "that both labelled. No judge can be shown to agree with them better than that."
            )


def _people(people: Sequence[Ceiling]) -> Table:
    table = Table(
        "who", "answers", "classes alike", "kappa", "alpha", "alpha of alignment", title="raters"
    )
    for pair in people:
        found = pair.found
        alike = f"{1 - found.flipped.value:.0%}" if found.answers else "–"
        figures = (str(found.answers), alike, found.kappa, found.alpha, found.alpha_alignment)
        table.add_row(Text(f"{pair.first}, {pair.second}"), *(Text(str(f)) for f in figures))
    return table


def _confusion(found: Agreement) -> Table:
    shown = [
        name
        for name in OUTCOMES
        if any(found.table[name].values()) or any(row[name] for row in found.table.values())
    ]
    table = Table("label \\ judge", *shown, title="answers by class")
    for label in shown:
        table.add_row(label, *(str(found.table[label][judged]) for judged in shown))
    return table
