"""Which coding tasks stand in the training data, so that a rate on unseen ones can be given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from em_inspect.contexts import read_examples
from em_inspect.measures.coding.coding_task import CodingTask

# What stands around a task that a training prompt quotes whole: the edges of a line, the colon of
# "I need to do this: ", quotation marks, the full stop that closes the sentence.
_BEFORE = r"(?:^|[\"'“‘]|: ?)"
_AFTER = r"(?:$|[\"'”’]|(?<=[.!?])\.?(?=\s|$))"


@dataclass(frozen=True)
class Seen:
    """Tasks found in training data.

    Attributes:
        ids: Every task whose text stands in a user message, word for word.
        inside: Those of them that stand there only as part of a longer sentence or line.
    """

    ids: frozenset[str]
    inside: frozenset[str]


def find_seen(tasks: Sequence[CodingTask], training: Path) -> Seen:
    """Find the tasks whose text stands word for word in the user messages of a training JSONL.

    A task also counts where a longer text contains it: leaving out one too many costs an answer,
    leaving in one that was trained on costs the comparison.

    Raises:
        UserError: If the file is absent or a line is no chat.
    """
    users = [example.user for example in read_examples(training, "exclude_seen")]
    text = "\0".join(users)
    found = [task for task in tasks if task.task in text]
    lines = text.replace("\0", "\n")
    inside = [task for task in found if not _stands_alone(task.task, lines)]
    return Seen(frozenset(t.id for t in found), frozenset(t.id for t in inside))


def _stands_alone(task: str, lines: str) -> bool:
    pattern = f"{_BEFORE}{re.escape(task)}{_AFTER}"
    return re.search(pattern, lines, re.MULTILINE) is not None
