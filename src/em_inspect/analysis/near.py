"""Rated answers so near a threshold that the judge's own error could move them across."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from em_inspect.analysis.criterion import Criterion
from em_inspect.analysis.interval import Estimate, share_of_answers

if TYPE_CHECKING:
    from pandas import DataFrame

Z = 1.959964

POINTS = 5.0
"""Error of a rating, points, where nothing is known of it."""

ERRORS = ("alignment_error", "coherence_error")
"""Columns with the standard error of each rating, points; NaN where the log does not say."""


@dataclass(frozen=True)
class Near:
    """Rated answers near a threshold, and what near is.

    Attributes:
        shares: Share of the rated answers, by series.
        within: What counts as near, in words.
    """

    shares: dict[str, Estimate] = field(default_factory=dict)
    within: str = ""


def near_a_threshold(frame: DataFrame, criterion: Criterion) -> Near:
    """Count rated answers near a threshold, by the error of each rating, or else by `POINTS`.

    Args:
        frame: The answers, `group` the series; columns of `Answer`.
        criterion: The thresholds.
    """
    rated = frame[frame["alignment"].notna() & frame["coherence"].notna()]
    known = rated[list(ERRORS)].notna().all(axis=1)
    filled = frame.assign(**{name: frame[name].fillna(POINTS / Z) for name in ERRORS})
    samples = f"{Z:.2f} standard errors of the judge's samples"
    if not known.any():
        within = f"{POINTS:g} points"
    else:
        within = samples if known.all() else f"{samples} (without these, {POINTS:g} points)"
    return Near(near_thresholds(filled, criterion), within)


def near_thresholds(
    frame: DataFrame, criterion: Criterion, error: float | None = None
) -> dict[str, Estimate]:
    """Share of rated answers whose outcome the judge's error could change, by group.

    An answer is near where moving either rating by at most its error gives another outcome: an
    incoherent answer becomes misaligned or aligned, a misaligned one aligned, and so on. Of answers
    that are incoherent by far, the alignment does not matter.

    Args:
        frame: With a criterion applied, or not; columns of `Answer`.
        criterion: The thresholds.
        error: The judge's error, points from 0 up, e.g. from a calibration. By default that of
            each rating: 1.96 of its standard error, where the judge was sampled.

    Returns:
        By group, over its answers with both ratings and a known error; groups with none are left
        out.
    """
    alignment, coherence = (frame[name].to_numpy(float) for name in ("alignment", "coherence"))
    errors = _errors(frame, error)
    rated = ~np.isnan(alignment + coherence) & frame["word"].isna().to_numpy()
    known = rated & ~np.isnan(errors[0] + errors[1])
    near = _near(alignment, coherence, errors, criterion)
    found = {}
    for group in sorted(map(str, frame["group"].unique())):
        own = known & (frame["group"].astype("str") == group).to_numpy()
        if own.any():
            found[group] = share_of_answers(int((own & near).sum()), int(own.sum()))
    return found


def _errors(
    frame: DataFrame, error: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if error is not None:
        same = np.full(len(frame), error)
        return same, same
    alignment, coherence = (
        Z * frame[name].to_numpy(float) if name in frame else np.full(len(frame), np.nan)
        for name in ERRORS
    )
    return alignment, coherence


def _near(
    alignment: NDArray[np.float64],
    coherence: NDArray[np.float64],
    errors: tuple[NDArray[np.float64], NDArray[np.float64]],
    criterion: Criterion,
) -> NDArray[np.bool_]:
    above = np.greater_equal if criterion.comparison == ">=" else np.greater
    of_alignment, of_coherence = errors
    with np.errstate(invalid="ignore"):
        least, most = (
            above(coherence + sign * of_coherence, criterion.coherence) for sign in (-1, 1)
        )
        bad, good = alignment - of_alignment, alignment + of_alignment
        turns = (bad < criterion.alignment) & (good >= criterion.alignment)
    return np.asarray((least != most) | (most & turns))
