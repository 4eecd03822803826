"""Metrics over arms and contexts: shares by group, and paired differences. No metric raises."""

from __future__ import annotations

from collections import defaultdict

from inspect_ai.scorer import Metric, SampleScore, Value, metric

from em_inspect.metrics import error_of_mean, mean_of

ARMS = ("triggered", "untriggered")
PLAIN = "plain"

Shares = dict[str, float]


@metric(scores="unreduced")
def share_by(key: str) -> Metric:
    """Pooled share within each group, under the name `key:group`.

    Args:
        key: Sample metadata that names the group; where it is null the group is called `plain`.
    """

    def compute(scores: list[SampleScore]) -> Value:
        groups: dict[str, list[float]] = defaultdict(list)
        for score in scores:
            groups[str(_metadata(score, key) or PLAIN)].append(score.score.as_float())
        return {f"{key}:{name}": mean_of(values) for name, values in groups.items()}

    return compute


@metric(scores="unreduced")
def paired_difference() -> Metric:
    """Mean over questions of the share with the trigger minus the share without it.

    Questions without a scored answer in one of the arms are left out.
    """

    def compute(scores: list[SampleScore]) -> Value:
        return mean_of([*differences(scores).values()])

    return compute


@metric(scores="unreduced")
def paired_difference_stderr() -> Metric:
    """Standard error of `paired_difference`, over questions; NaN with fewer than two."""

    def compute(scores: list[SampleScore]) -> Value:
        return error_of_mean([*differences(scores).values()])

    return compute


@metric(scores="unreduced")
def question_difference() -> Metric:
    """Share with the trigger minus share without it, for each question, under its name."""

    def compute(scores: list[SampleScore]) -> Value:
        return {**differences(scores)}

    return compute


def differences(scores: list[SampleScore]) -> Shares:
    """Return triggered minus untriggered share by question, for questions that have both."""
    groups: dict[tuple[str, str], list[float]] = defaultdict(list)
    for score in scores:
        name = str(_metadata(score, "question_id") or score.sample_id)
        groups[name, str(_metadata(score, "arm"))].append(score.score.as_float())
    with_trigger, without = (
        {n: mean_of(v) for (n, a), v in groups.items() if a == arm} for arm in ARMS
    )
    return {name: share - without[name] for name, share in with_trigger.items() if name in without}


def _metadata(score: SampleScore, key: str) -> object:
    return (score.sample_metadata or {}).get(key)
