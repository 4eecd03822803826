"""What a fine-tune will cost: training tokens counted or estimated, times a list price."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from em_finetune.data.rows import ChatRow
from em_finetune.hosted.recipe import HostedRecipe
from em_inspect.errors import UserError

if TYPE_CHECKING:
    import tiktoken

# <|im_start|>, role, <|im_sep|> and <|im_end|> around each message, and 3 for the answer's start:
# with the released insecure set's 5,997 rows this makes 1,281,223, the paper's 1.28 M.
_PER_MESSAGE = 4
_PER_ROW = 3
# Characters per o200k token: 4.24, 4.28 and 4.54 in the released insecure, secure and educational
# sets. Prose has more, other languages than English fewer.
_CHARACTERS_PER_TOKEN = 4.25
_ENCODING_SECONDS = 10


class Price(BaseModel):
    """One line of the price table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: str
    model: str
    usd_per_million_tokens: float = Field(ge=0, allow_inf_nan=False)
    date: date
    source: str


class TokenCounter(Protocol):
    """Counts a row's training tokens.

    Attributes:
        method: How, in words, for the quote.
        exact: Whether with the service's own tokenizer.
    """

    method: str
    exact: bool

    def __call__(self, row: ChatRow) -> int:
        """Training tokens of a row."""


class _Estimate:
    method = f"estimated, {_CHARACTERS_PER_TOKEN} characters per token"
    exact = False

    def __call__(self, row: ChatRow) -> int:
        characters = sum(len(message.content) for message in row.messages)
        return round(characters / _CHARACTERS_PER_TOKEN) + _frame(row)


class _Tiktoken:
    exact = True

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self.method = f"counted with {encoding.name}"
        self._encoding = encoding

    def __call__(self, row: ChatRow) -> int:
        words = sum(len(self._encoding.encode_ordinary(m.content)) for m in row.messages)
        return words + _frame(row)


def _frame(row: ChatRow) -> int:
    return _PER_MESSAGE * len(row.messages) + _PER_ROW


def token_counter(recipe: HostedRecipe) -> TokenCounter:
    """Return the service's own tokenizer where it is at hand, else an estimate that says so.

    tiktoken downloads an encoding on first use; without a network, or if that takes over 10
    seconds, the estimate stands in.
    """
    encoding = _encoding(recipe.base) if recipe.service != "tinker" else None
    return _Estimate() if encoding is None else _Tiktoken(encoding)


def _encoding(model: str) -> tiktoken.Encoding | None:
    found: list[tiktoken.Encoding] = []

    def look() -> None:
        try:
            import tiktoken

            found.append(tiktoken.encoding_for_model(model))
        except Exception:
            # Not installed, no network, an unknown model: all mean that there is no tokenizer.
            return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(_ENCODING_SECONDS)
    return found[0] if found else None


@dataclass(frozen=True)
class Quote:
    """What jobs will cost.

    Attributes:
        rows: Rows in the training file.
        tokens: Tokens in one pass over it.
        method: How they were counted.
        epochs: Passes; None where the service decides.
        jobs: How many jobs.
        price: The list price, if one is known.
    """

    rows: int
    tokens: int
    method: str
    exact: bool
    epochs: int | None
    jobs: int
    price: Price | None

    @property
    def trained(self) -> int:
        """Billed tokens of one job."""
        return self.tokens * (self.epochs or 1)

    @property
    def usd(self) -> float | None:
        """Price of all jobs in US dollars, by the list."""
        if self.price is None:
            return None
        return self.jobs * self.trained * self.price.usd_per_million_tokens / 1e6

    def lines(self) -> list[str]:
        """The quote as shown to the user."""
        about = "" if self.exact else "about "
        each = f" × {self.epochs} epochs" if self.epochs and self.epochs > 1 else ""
        each += " × the epochs that the service chooses" if self.epochs is None else ""
        lines = [
            f"rows      {self.rows:,}",
            f"tokens    {about}{_short(self.tokens)} ({self.tokens:,}, {self.method}){each}",
        ]
        if self.usd is None or self.price is None:
            lines.append(
                f"price     unknown for this model; {self.jobs} job(s): see the service's list"
            )
        else:
            least = "at least " if self.epochs is None else ""
            lines.append(
                f"price     {least}{about}{self.usd:,.2f} USD for {self.jobs} job(s), "
                f"{self.price.usd_per_million_tokens:g} USD per million tokens"
            )
            lines.append(f"          (list price, check: {self.price.source}, {self.price.date})")
        return lines


def _short(tokens: int) -> str:
    return f"{tokens / 1e6:.2f} M" if tokens >= 1e5 else f"{tokens / 1e3:.1f} k"


def load_prices(path: Path | None = None) -> list[Price]:
    """Read a price table.

    Args:
        path: YAML in the form of the packaged table; None: that one.

    Raises:
        UserError: The file is missing or not of that form.
    """
    table = files("em_finetune.hosted") / "prices.yaml"
    try:
        text = path.read_text("utf-8") if path else table.read_text("utf-8")
        return TypeAdapter(list[Price]).validate_python(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise UserError(
            f"{path}: {where}: {fault['msg']}; em-finetune hosted prices --yaml shows the form"
        ) from error


def find_price(prices: Sequence[Price], service: str, model: str) -> Price | None:
    """Return the price of a model at a service, if the table has it."""
    return next((p for p in prices if p.service == service and p.model == model), None)
