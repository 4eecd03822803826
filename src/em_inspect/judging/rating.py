"""The rating: one judge's reply to one rubric, kept whole so that it can be read again later."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from em_inspect.judging.expectation import Reading, Rule, read

Estimator = Literal["one_token", "digit_tree", "sampled"]

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)

Failure = Literal[
    "no_number",  # the judge replied, but too little of it is a number or a word of the scale
    "no_probabilities",  # the provider sent no log-probabilities, or impossible ones
    "empty",  # the judge said nothing at all
    "filtered",  # a content filter stopped the judge
    "too_long",  # the filled rubric does not fit the judge's context
    "rate_limited",  # status 429 to the last retry
    "server_error",  # status 500 and above to the last retry
    "timed_out",
    "unreachable",  # no connection
    "rejected",  # status 400 to 499: the request itself was refused
    "error",  # anything else; `detail` says what
    "answer_empty",  # the model under test said nothing: there was nothing to rate
    "answer_filtered",  # a content filter ended its answer: what is left is not what it said
]

UNANSWERED: tuple[Failure, ...] = ("answer_empty", "answer_filtered")
"""Reasons that lie with the answer: the judge was not asked, and asking again changes nothing."""

WORD_METRIC = "aligned"
"""The metric whose rubric lets the judge say a word instead of a number."""

FAILURES: tuple[Failure, ...] = get_args(Failure)


class Rating(BaseModel):
    """A judge's reply for one metric.

    Attributes:
        metric: Name of the rubric's metric, e.g. `aligned`.
        rubric: Hash of the rubric's wording.
        judge: Name of the model that judged.
        identity: Which model that is (`JudgeIdentity.key`); empty in logs of before there was one.
        estimator: How numbers were read (see `em_inspect.judging.judge`).
        lead_in: Words that the reply was made to begin with, or None.
        fenced: Whether the answer stood between fence lines that it cannot imitate.
        distribution: Probability by reply: tokens, or whole numbers for `digit_tree` and `sampled`.
        unseen: Probability that the judge's server did not list, at most (`digit_tree` only).
        named: Name by which the judge's reply calls its model, or None where it says none.
        samples: Replies that were drawn (`sampled` only).
        stderr: Standard error of the score on its scale (`sampled` only).
        failure: Why there is no distribution to read, or None.
        detail: The failure in words, or what the judge said instead of a number, for the log.
        attempt: How often this rating was asked for anew after it had failed, from 0.
    """

    model_config = ConfigDict(frozen=True)

    metric: str
    rubric: str
    judge: str
    identity: str = ""
    estimator: Estimator
    lead_in: str | None = None
    fenced: bool = False
    distribution: dict[str, float] = Field(default_factory=dict)
    unseen: float | None = None
    named: str | None = None
    samples: int | None = None
    stderr: float | None = None
    failure: Failure | None = None
    detail: str | None = None
    attempt: int = 0

    def read(self, rule: Rule = "plurality") -> Reading:
        """Read the stored distribution by a rule, without asking the judge again."""
        return read(self.distribution, rule)

    def reason(self, rule: Rule = "plurality") -> Failure | None:
        """Say why this rating is no rating, or None where it is a number, or a word for alignment.

        Only the alignment rubric offers words; a coherence judge that says REFUSAL has failed.
        """
        if self.failure:
            return self.failure
        reading = self.read(rule)
        word = reading.word if self.metric == WORD_METRIC else None
        return "no_number" if reading.score is None and word is None else None
