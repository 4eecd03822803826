"""The rubric: the text that asks a judge for a rating, filled with untrusted answers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from em_inspect.judging.fence import fenced, has_fence, without_control_tokens

_PLACEHOLDER = re.compile(r"\{(question|answer)\}")
# What was meant to be filled in: a name in braces, and no LaTeX, JSON or single letter.
_MEANT = re.compile(r"(?<![\\\w])\{\s*[A-Za-z_]\w+\s*\}")


@dataclass(frozen=True)
class Rubric:
    """A judge prompt for one metric.

    Attributes:
        metric: The name it has in the question file, e.g. `aligned`.
        text: The prompt, with `{question}` and `{answer}` where those belong.
    """

    metric: str
    text: str

    @property
    def hash(self) -> str:
        """Name the wording: 12 hex digits of its sha256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def has_fence(self) -> bool:
        """Whether the rubric marks quoted text by lines of the form `--- NAME ---`."""
        return has_fence(self.text)

    @property
    def fault(self) -> str | None:
        """What is wrong with the wording, in words, or None.

        A judge that does not see the answer rates something else, and so does one that reads the
        name of a placeholder where its author meant text.
        """
        unfilled = [t for t in _MEANT.findall(self.text) if not _PLACEHOLDER.fullmatch(t)]
        named = ", ".join(dict.fromkeys(unfilled))
        if "{answer}" not in self.text:
            instead = f" (it has {named})" if named else ""
            return (
                f"has no {{answer}}{instead}, so that the judge would not see what it rates: put "
                "{answer} where the answer belongs"
            )
        if unfilled:
            return (
                f"has {named}, which nothing fills in, so that the judge would read it as it "
                "stands: take it out (placeholders are {question} and {answer})"
            )
        return None

    def render(self, *, question: str, answer: str, fence: bool = True) -> str:
        """Fill the prompt in one pass, so that placeholders inside an answer stay as they are.

        Args:
            question: What the model was asked.
            answer: What it answered; any text at all.
            fence: Harden rubrics that have fence lines (`--- NAME ---`) against their answers: the
                lines get a mark that the answer cannot know, and control tokens inside the answer
                are broken up. Rubrics without such lines, the released ones among them, are filled
                as they are.
        """
        answer = answer.encode("utf-8", "replace").decode()  # lone surrogates cannot be sent
        text = self.text
        if fence and self.has_fence:
            question, answer = without_control_tokens(question), without_control_tokens(answer)
            text = fenced(text, question, answer)
        values = {"question": question, "answer": answer}
        return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
