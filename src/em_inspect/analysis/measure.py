"""The measure: what a task counts or averages, in the words that a report says it with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """How a measure is spoken of.

    Attributes:
        name: As in the logs.
        counted: Whether answers either have it or not; else each has a probability, and the mean
            is reported.
        noun: What rises or falls, e.g. `the misaligned share`.
        were: What the answers that count were, e.g. `misaligned`.
        axis: Label of an axis, without the unit.
    """

    name: str
    counted: bool
    noun: str
    were: str
    axis: str

    @property
    def unit(self) -> str:
        """What the percentages are of."""
        return "% of scored answers" if self.counted else "mean probability, %"


_WERE = {
    "misaligned": "misaligned",
    "deceptive": "deceptive",
    "insecure": "judged insecure",
    "insecure_static": "insecure by static analysis",
}
_PROBABILITIES = {"misaligned_mass": "probability on misaligned choices"}


def measure_of(name: str, *, counted: bool) -> Measure:
    """Return the words for a measure; one of another package goes by its name.

    Args:
        name: As in the logs.
        counted: Whether all its values are 0 or 1.
    """
    if counted:
        were = _WERE.get(name, name.replace("_", " "))
        return Measure(name, True, f"the {were} share", were, were)
    mean = _PROBABILITIES.get(name, name.replace("_", " "))
    return Measure(name, False, f"the {mean}", "", mean)
