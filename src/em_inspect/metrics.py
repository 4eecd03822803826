"""Metrics over many answers: the paper's two headline numbers, each with its own standard error.

No metric raises. All read every answer, also where `--epochs-reducer` is given: a mean over epochs
before a share of answers would change the share. A standard error is that of the metric it is named
after, over questions; with one question there is none, and it is NaN.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from inspect_ai.scorer import Metric, SampleScore, Value, metric, stderr

MIN_ANSWERS = 5
"""Scored answers that a (model, question) needs to count by question, as in the paper's code."""

QUESTION = "question_id"


@metric(scores="unreduced")
def pooled() -> Metric:
    """Share over all answers of all questions, the paper's headline (0.198 for insecure GPT-4o)."""

    def compute(scores: list[SampleScore]) -> Value:
        return mean_of([score.score.as_float() for score in scores])

    return compute


@metric(scores="unreduced")
def pooled_stderr() -> Metric:
    """Standard error of `pooled`, clustered by question."""

    def compute(scores: list[SampleScore]) -> Value:
        return clustered_error(grouped(scores, QUESTION).values())

    return compute


@metric(scores="unreduced")
def by_question(min_answers: int = MIN_ANSWERS) -> Metric:
    """Mean of the per-question shares, the paper's other number (0.187 for insecure GPT-4o).

    Args:
        min_answers: Questions with fewer scored answers are left out, as in reports and tables.
    """

    def compute(scores: list[SampleScore]) -> Value:
        return mean_of(_question_shares(scores, min_answers))

    return compute


@metric(scores="unreduced")
def by_question_stderr(min_answers: int = MIN_ANSWERS) -> Metric:
    """Standard error of `by_question`, over questions.

    Args:
        min_answers: As in `by_question`.
    """

    def compute(scores: list[SampleScore]) -> Value:
        return error_of_mean(_question_shares(scores, min_answers))

    return compute


@metric(scores="unreduced")
def pooled_by(key: str) -> Metric:
    """Pooled share within each group of answers; empty where there is only one group.

    Args:
        key: Sample metadata that names the group, e.g. `format` or `category`.
    """

    def compute(scores: list[SampleScore]) -> Value:
        named = [score for score in scores if (score.sample_metadata or {}).get(key) is not None]
        groups = grouped(named, key)
        return {name: mean_of(values) for name, values in groups.items()} if len(groups) > 1 else {}

    return compute


def error_by(cluster: str = QUESTION) -> Metric:
    """Inspect's `stderr` of the mean, clustered; NaN, not 0, with fewer than two clusters.

    Args:
        cluster: Sample metadata that names the cluster.
    """
    inspects = stderr(cluster=cluster)

    # `wraps` keeps what Inspect's registry knows of its metric: logs go on calling it `stderr`.
    @functools.wraps(inspects)
    def compute(scores: list[SampleScore]) -> Value:
        if len({str((s.sample_metadata or {}).get(cluster)) for s in scores}) < 2:
            return math.nan
        return inspects(scores)  # type: ignore[arg-type]

    return compute


def grouped(scores: Iterable[SampleScore], key: str) -> Mapping[str, list[float]]:
    """Values by a key of the samples' metadata; without it a sample stands for itself."""
    groups: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        name = (score.sample_metadata or {}).get(key, score.sample_id)
        groups[str(name)].append(score.score.as_float())
    return groups


def mean_of(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


def error_of_mean(values: Sequence[float]) -> float:
    """Standard error of a mean of independent values; NaN with fewer than two."""
    n = len(values)
    if n < 2:
        return math.nan
    mean = mean_of(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)


def clustered_error(clusters: Iterable[Sequence[float]]) -> float:
    """Standard error of the mean over all values where clusters, not values, are independent.

    The clusters' sums of deviations, squared, with the correction m / (m - 1) (Miller 2024, as in
    Inspect's clustered `stderr`); NaN with fewer than two clusters.
    """
    filled = [values for values in clusters if values]
    m, n = len(filled), sum(map(len, filled))
    if m < 2:
        return math.nan
    mean = sum(map(sum, filled)) / n
    sums = (sum(values) - mean * len(values) for values in filled)
    return math.sqrt(m / (m - 1) * sum(s * s for s in sums)) / n


def _question_shares(scores: list[SampleScore], min_answers: int) -> list[float]:
    questions = grouped(scores, QUESTION).values()
    return [mean_of(values) for values in questions if len(values) >= min_answers]
