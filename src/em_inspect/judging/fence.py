"""The fence: keeps an answer from ending its own quotation or passing for part of a rubric."""

from __future__ import annotations

import hashlib
import re

# A line such as `--- REPLY ---`, by which a rubric shows where quoted text begins and ends.
_FENCE_LINE = re.compile(r"^(--- .*\S) ---[ \t]*$", re.MULTILINE)

# What chat templates take for the end of a turn: `<|im_end|>`, `[/INST]`, `<end_of_turn>`, `</s>` …
_CONTROL = re.compile(
    r"<(?=[|｜]\S{1,60}?[|｜]>|<SYS>>|</SYS>>)"
    r"|<(?=/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|think)>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)


def has_fence(rubric: str) -> bool:
    """Whether a rubric marks quoted text by lines of the form `--- NAME ---`."""
    return _FENCE_LINE.search(rubric) is not None


def fenced(rubric: str, *quoted: str) -> str:
    """Give a rubric's fence lines a mark that none of the quoted texts contains.

    The mark is a hash of those texts, so that equal answers get equal prompts. An answer that
    wanted to close the fence would have to contain a hash of itself.

    Args:
        rubric: The rubric's text, placeholders not yet filled.
        quoted: Untrusted texts that will be filled in.
    """
    mark = _mark(quoted)
    return _FENCE_LINE.sub(lambda match: f"{match[1]} {mark} ---", rubric)


def _mark(quoted: tuple[str, ...]) -> str:
    text = "\0".join(quoted)
    round_ = 0
    while True:
        content = f"{round_}\0{text}".encode("utf-8", "surrogatepass")
        mark = hashlib.sha256(content).hexdigest()[:8]
        if mark not in text:
            return mark
        round_ += 1


def without_control_tokens(text: str) -> str:
    """Put a space into whatever a chat template could take for the end or start of a turn.

    Q: Why, if a fence surrounds the answer? A: Local engines parse `<|im_end|>` inside a message as
    the real token, which would end the judge's prompt in the middle of the answer.
    """
    return _CONTROL.sub(lambda match: f"{match[0]} ", text)
