"""One typed row per answer, and what could not be read, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from em_inspect.analysis.condition import Settings

MOST_FILES = 3
"""Files named of those that share a problem."""


class Answer(NamedTuple):
    """One answer of one model, as it was rated.

    Attributes:
        log: File it was read from.
        run: Identity of the run that gave it; a copied or re-scored log keeps it.
        uuid: Identity of the answer; the same in copies, retries and re-scored logs.
        task: Task name, without the package.
        model: Name of the model: its checkpoint's label, or as Inspect addresses it.
        base: Model it was fine-tuned from, or None.
        group: What it was fine-tuned on, `base` for a base, else the model's own name.
        seed: Seed of the fine-tune, or None.
        step: Optimizer step of the fine-tune, or None for its end.
        scale: Strength of its adapter where it is another than it was trained with, or None.
        question_id: Identity of the question.
        question: Its wording.
        format: Answer format it asks for: `plain`, `json` or `template`.
        category: Category of a pre-registered question, or None.
        context: Name of what surrounded the question, or None.
        arm: `triggered` or `untriggered`, or None where there was no trigger to compare.
        examples: Number of in-context examples, or None.
        epoch: Which of the answers to this wording, from 1.
        sample: Inspect's sample id, for links into the log viewer.
        answer: The text.
        alignment: Rating 0 to 100, NaN where there is none.
        coherence: Rating 0 to 100, NaN where there is none.
        alignment_mass: Probability that the alignment judge put on numbers, NaN if unknown.
        coherence_mass: Probability that the coherence judge put on numbers, NaN if unknown.
        refusal_mass: Probability on the word REFUSAL, NaN if unknown.
        code_mass: Probability on the word CODE, NaN if unknown.
        word: CODE or REFUSAL where the alignment judge said so, or None.
        label: A word that the judge sorted the answer under (tasks judged in words), or None.
        measure: What is counted: `misaligned` where answers are rated, else the task's own measure,
            e.g. `deceptive`.
        value: The task's own measure, 0 or 1 where answers are counted, else a probability; NaN for
            rated answers, and where there is none.
        reason: Why an answer has no rating, or None.
        judge: Model that rated.
        estimator: How its numbers were read.
        rule: How its replies were read (`plurality` or `released`).
        alignment_rubric: Hash of the alignment rubric.
        coherence_rubric: Hash of the coherence rubric.
        source: Where the questions came from: `core`, `paper` or a file.
        fingerprint: Fingerprint over all questions and rubrics of the task.
        judge_id: Key of the judge's identity; empty where its ratings say none, as in old logs.
        ending: How the model ended the answer, as Inspect names it: `stop`, `max_tokens`,
            `content_filter` …, or None where nobody says.
        length: Characters of the answer.
        family: Name of the base of its model, the same for all its spellings and for the base
            itself, or None where only `base` is known.
        fine_tune: Name of the trained model that this is a checkpoint or a strength of, or None
            where only `model` is known.
        settings: What the log was made with: task arguments and settings of generation. In the
            frame, columns named `setting_…`.
        draw: Which draw of examples, orders or wordings it was, or None without any.
        prompt: Hash of the chat that was sent, or empty where nobody knows.
        alignment_error: Standard error of the alignment rating where it is a mean of samples, NaN
            where nobody says.
        coherence_error: Likewise.
    """

    log: str
    run: str
    uuid: str
    task: str
    model: str
    base: str | None
    group: str
    seed: int | None
    step: int | None
    scale: float | None
    question_id: str
    question: str
    format: str
    category: str | None
    context: str | None
    arm: str | None
    examples: int | None
    epoch: int
    sample: str
    answer: str
    alignment: float
    coherence: float
    alignment_mass: float
    coherence_mass: float
    refusal_mass: float
    code_mass: float
    word: str | None
    label: str | None
    measure: str
    value: float
    reason: str | None
    judge: str
    estimator: str
    rule: str
    alignment_rubric: str
    coherence_rubric: str
    source: str
    fingerprint: str
    judge_id: str = ""
    ending: str | None = None
    length: int = 0
    family: str | None = None
    fine_tune: str | None = None
    settings: Settings = ()
    draw: str | None = None
    prompt: str = ""
    alignment_error: float = float("nan")
    coherence_error: float = float("nan")


class Problem(NamedTuple):
    """Something that was left out or needs a caveat.

    Attributes:
        name: The file, or the model, that it is about.
        message: What is the matter, and what was done about it.
    """

    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


def gathered(problems: Sequence[Problem]) -> list[Problem]:
    """Say what is the matter with several files once, with their names and number.

    In the order in which the messages were found first.
    """
    names: dict[str, list[str]] = {}
    for problem in problems:
        names.setdefault(problem.message, []).append(problem.name)
    return [
        Problem(_named(list(dict.fromkeys(files))), message) for message, files in names.items()
    ]


def _named(names: Sequence[str]) -> str:
    if len(names) <= MOST_FILES:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_FILES])} and {len(names) - MOST_FILES} more"
