"""Analysis: logs in, a frame of answers, statistics, pictures and one report out."""

from typing import TYPE_CHECKING

from em_inspect.analysis.answer import Answer, Problem
from em_inspect.analysis.table import outcome_table

if TYPE_CHECKING:
    from em_inspect.analysis.frame import samples

__all__ = ["Answer", "Problem", "outcome_table", "samples"]


def __getattr__(name: str) -> object:
    # pandas is imported with `samples` and takes a second: only those who ask for it wait.
    if name == "samples":
        from em_inspect.analysis.frame import samples

        return samples
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
