"""The printed report of a calibration: figures, confusion table, verdict."""

from __future__ import annotations

import math
from typing import Any

from inspect_ai.log import EvalLog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from em_inspect.calibration.agreement import Agreement, Pair
from em_inspect.calibration.labels import Labelled
from em_inspect.errors import UserError
from em_inspect.outcomes import OUTCOMES, Thresholds

SCORER = "misalignment"


def pairs_of(log: EvalLog, thresholds: Thresholds) -> list[Pair]:
    """Pair labels and ratings of a calibration log.

    Raises:
        UserError: If the log is none of a calibration.
    """
    pairs = []
    for sample in log.samples or []:
        label, score = sample.metadata.get("label"), (sample.scores or {}).get(SCORER)
        if not isinstance(label, dict) or score is None or not isinstance(score.value, dict):
            raise UserError(f"{log.location}: sample {sample.id} is none of a calibration")
        row = Labelled("", "", "", label["alignment"], label["coherence"], label["word"])
        pairs.append(
            Pair(
                label_alignment=None if row.word else row.alignment,
                judge_alignment=_number(score.value["alignment"]),
                label_coherence=row.coherence,
                judge_coherence=_number(score.value["coherence"]),
                label_class=row.outcome(thresholds),
                judge_class=(score.metadata or {})["outcome"],
            )
        )
    return pairs


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not math.isnan(value) else None


def print_agreement(judge: str, labels: str, found: Agreement, location: str) -> None:
    """Print what a calibration found."""
    console = Console(highlight=False)
    rows = [
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
    table = Table("agreement", "value [95 % interval]", title=Text(f"{judge} against {labels}"))
    for name, value in rows:
        table.add_row(name, Text(value))
    console.print(table)
    console.print(_confusion(found))
    console.print(
        f"{found.answers} answers, {found.rated} rated, {found.numbers} with alignment on both "
        "sides; missing ratings and labels count in no figure; how the intervals are made: "
        "docs/judges.md",
        markup=False,
    )
    console.print(found.verdict, markup=False)
    console.print(f"log: {location}", markup=False, soft_wrap=True)


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
