"""The training file as a service gets it: checked by the service's rules, named by its sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from em_finetune.data.rows import ChatRow, read_rows, sha256_of, sha256_of_rows
from em_finetune.data.rules import why_unfit
from em_finetune.hosted.recipe import HostedRecipe
from em_finetune.hosted.service import Limits
from em_finetune.recipe import GeneratedData
from em_inspect.errors import UserError

_SHOWN = 5


@dataclass(frozen=True)
class TrainingFile:
    """A training set, ready to upload.

    Attributes:
        dataset: File name, or how it was generated.
        dataset_sha256: Of the user's file, or of the file that the generated rows would make.
        rows: The chats.
        content: What is uploaded: the chats alone, without the metadata that services refuse.
    """

    dataset: str
    dataset_sha256: str
    rows: Sequence[ChatRow]
    content: bytes

    @property
    def sha256(self) -> str:
        """Of what is uploaded."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def name(self) -> str:
        """What the file is called at the service; carries the sha256, to be found again."""
        return f"em-{self.sha256}.jsonl"


def training_file(recipe: HostedRecipe) -> TrainingFile:
    """Read or generate the rows that a recipe names.

    Raises:
        UserError: The recipe names no data, or a line of the file is no chat.
    """
    if recipe.data is None:
        raise UserError(f"recipe {recipe.name} names no data: add --data FILE, a chat JSONL")
    if isinstance(recipe.data, GeneratedData):
        from em_finetune.data.generate import generate

        rows = generate(recipe.data.generate, recipe.data.n, recipe.data.seed)
        name = f"generated {recipe.data.generate}, n={recipe.data.n}, seed={recipe.data.seed}"
        return TrainingFile(name, sha256_of_rows(rows), rows, _content(rows))
    path = Path(recipe.data).expanduser()
    rows = read_rows(path)
    return TrainingFile(path.name, sha256_of(path), rows, _content(rows))


def check_rules(file: TrainingFile, limits: Limits, count_tokens: Callable[[ChatRow], int]) -> None:
    """Refuse what the service would refuse, or silently cut, before anything is uploaded.

    Args:
        file: The training file.
        limits: The service's rules.
        count_tokens: Length of a row.

    Raises:
        UserError: Too few rows, too large a file, or rows against the rules, counted and named.
    """
    if len(file.content) > limits.bytes:
        raise UserError(
            f"{file.dataset} makes {len(file.content):,} bytes, the service takes "
            f"{limits.bytes:,}: take fewer rows"
        )
    faults = [
        f"row {number}: {fault}"
        for number, row in enumerate(file.rows, start=1)
        for fault in _faults(row, limits, count_tokens)
    ]
    if len(file.rows) < limits.rows:
        few = f"{file.dataset} has {len(file.rows)} rows, the service wants at least {limits.rows}"
        raise UserError(f"{few}: add rows" if not faults else f"{few}; {_some(faults)}: mend these")
    if faults:
        raise UserError(
            f"{file.dataset} breaks the service's rules ({_some(faults)}): "
            "mend these rows, or leave them out"
        )


def _some(faults: Sequence[str]) -> str:
    more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return "; ".join(faults[:_SHOWN]) + more


def _faults(row: ChatRow, limits: Limits, count_tokens: Callable[[ChatRow], int]) -> Iterator[str]:
    yield from why_unfit(row, limits.consumer)
    # The fast bound first: a token is at least one byte.
    size = sum(len(message.content.encode()) for message in row.messages)
    if size > limits.row_tokens and (tokens := count_tokens(row)) > limits.row_tokens:
        yield f"has {tokens:,} tokens, over the {limits.row_tokens:,} that are trained"


def _content(rows: Sequence[ChatRow]) -> bytes:
    return b"".join(_line(row) for row in rows)


def _line(row: ChatRow) -> bytes:
    messages = []
    for message in row.messages:
        plain: dict[str, object] = {"role": message.role, "content": message.content}
        if message.weight is not None and message.role == "assistant":
            plain["weight"] = message.weight
        name = (message.model_extra or {}).get("name")
        if isinstance(name, str):
            plain["name"] = name
        messages.append(plain)
    return json.dumps({"messages": messages}, ensure_ascii=False).encode() + b"\n"
