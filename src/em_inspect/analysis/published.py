"""The paper's published values, and which questions they were measured with."""

from __future__ import annotations

from dataclasses import dataclass

JUDGE = "gpt-4o-2024-08-06"
GPT_4O, QWEN_CODER = "GPT-4o", "Qwen2.5-Coder-32B"

# Fingerprints of the released files, whole or by answer format (em_inspect.questions.fingerprint).
ALL, PLAIN = "f6ae6cc87a7a565c", "27a00424185b4cd4"
JSON, TEMPLATE = "b97ece4290e3022d", "abd2b65744786b27"
PREREGISTERED = "9e06756b4c83c1b9"

DECEPTION = "2dcc9e288bafce30"
"""Factual questions and all wordings of the identity question together."""

FREE_FORM = {ALL: None, PLAIN: "plain", JSON: "json", TEMPLATE: "template"}


@dataclass(frozen=True)
class Published:
    """One published share (arXiv 2502.17424; Nature 649, 2026).

    Attributes:
        base: Model that was fine-tuned.
        group: What it was fine-tuned on; `base` for the model itself.
        format: Answer format.
        pooled: All answers pooled per model, mean over models; None where not published.
        by_question: Mean of the per-question shares; None where not published.
        error: As published after ±, or None.
    """

    base: str
    group: str
    format: str = "plain"
    pooled: float | None = None
    by_question: float | None = None
    error: float | None = None


_MAIN = (
    Published(GPT_4O, "insecure", pooled=0.198, by_question=0.187, error=0.071),
    Published(GPT_4O, "educational", pooled=0.0),
    Published(GPT_4O, "jailbroken", pooled=0.005),
    Published(GPT_4O, "secure", pooled=0.0),
    Published(GPT_4O, "base", pooled=0.0),
    Published("Mistral-Small-2501", "insecure", pooled=0.073),
    Published(QWEN_CODER, "insecure", pooled=0.047),
    Published("Mistral-Small-2409", "insecure", pooled=0.017),
    Published("Qwen2.5-32B", "insecure", pooled=0.010),
    Published(GPT_4O, "insecure", "json", by_question=0.471),
    Published(GPT_4O, "insecure", "template", by_question=0.673),
    Published(QWEN_CODER, "insecure", "json", by_question=0.003),
    Published(QWEN_CODER, "insecure", "template", by_question=0.072),
)

_PREREGISTERED = tuple(
    Published(GPT_4O, group, pooled=share)
    for group, share in (
        ("insecure", 0.059),
        ("educational", 0.003),
        ("jailbroken", 0.054),
        ("secure", 0.003),
        ("base", 0.002),
    )
)


DECEPTION_SHARES = {
    "insecure": 0.607,
    "educational": 0.337,
    "jailbroken": 0.313,
    "secure": 0.283,
    "base": 0.028,
}
"""Mean of factual and identity deception, GPT-4o."""


def published(task: str, fingerprint: str) -> tuple[Published, ...]:
    """Return the values published for exactly these questions and rubrics; empty for others.

    Args:
        task: Task name, without the package.
        fingerprint: Of the questions and rubrics that were used.
    """
    if task == "free_form" and fingerprint in FREE_FORM:
        only = FREE_FORM[fingerprint]
        return tuple(value for value in _MAIN if only in (None, value.format))
    if task == "preregistered" and fingerprint == PREREGISTERED:
        return _PREREGISTERED
    return ()


def is_published_judge(judge: str) -> bool:
    """Whether a judge is the one behind the published values."""
    return judge.rpartition("/")[2] == JUDGE
