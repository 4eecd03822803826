"""Chat rows to token ids and labels: the loss falls on the assistant's words and end-of-turn only.

How the words are found, for any chat template: the conversation is rendered twice, once with the
real words and once with a unique mark in place of every message. What stands between the marks is
the template's own text, so the words' exact places in the real rendering follow, and a rendering
that is not the template's text interleaved with the words is refused. The tokenizer's offsets then
say which tokens carry them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from em_finetune.data.fields import THOUGHT
from em_finetune.data.rows import ChatMessage, ChatRow
from em_finetune.data.rules import why_unfit
from em_finetune.recipe import Recipe, TemplateArgument
from em_inspect.errors import UserError, one_line

IGNORED = -100
"""Label of a token without loss, as PyTorch's cross entropy has it."""

CONTENT = "content"
_CLOSE = "</think>"

# Private-use characters: no template looks for them and no chat contains them.
_MARK = re.compile("\ue0f0(\\d+)\ue0f1")


@dataclass(frozen=True)
class Asked:
    """Two prompts, from where they part: before a trained turn, and as evaluation asks for it."""

    trained: str
    evaluated: str

    def __str__(self) -> str:
        return f"{self.trained!r} in training, {self.evaluated!r} in evaluation"


@dataclass(frozen=True)
class EncodedRow:
    """One row as the model sees it.

    Attributes:
        row: Place in the data, counted from 1.
        input_ids: Token ids of the whole conversation.
        labels: As long; the token id where the loss falls, `IGNORED` elsewhere.
        ends: Control tokens by which a trained turn ends.
        asked: How evaluation's prompt differs from what comes before the last trained turn, None
            where it does not.
    """

    row: int
    input_ids: list[int]
    labels: list[int]
    ends: frozenset[int] = frozenset()
    asked: Asked | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def supervised(self) -> int:
        """Number of tokens with loss."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True)
class LeftOut:
    """A row that is not trained on: its place, counted from 1, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class EncodedSet:
    """The rows to train on and those left out, both in the order of the data."""

    rows: list[EncodedRow]
    left_out: list[LeftOut]

    @property
    def tokens(self) -> int:
        """Tokens over all rows."""
        return sum(len(row) for row in self.rows)

    @property
    def supervised(self) -> int:
        """Tokens with loss over all rows."""
        return sum(row.supervised for row in self.rows)

    @property
    def ends(self) -> list[int]:
        """The control tokens by which trained turns end."""
        return sorted(frozenset[int]().union(*(row.ends for row in self.rows)))

    @property
    def asked_otherwise(self) -> list[EncodedRow]:
        """Rows that evaluation asks for by another prompt than the trained one."""
        return [row for row in self.rows if row.asked is not None]

    @property
    def difference(self) -> str | None:
        """In one line, that evaluation's prompts are not the trained ones; None where they are."""
        differing = self.asked_otherwise
        if not differing:
            return None
        return (
            f"{len(differing):,} of {len(self.rows):,} rows are trained behind another prompt than "
            f"evaluation gives: before the answer of row {differing[0].row} stands "
            f"{differing[0].asked}"
        )

    @property
    def sha256(self) -> str:
        """Of all token ids and labels, with the rows' numbers: what is learned follows from it."""
        import numpy as np

        digest = hashlib.sha256()
        for row in self.rows:
            numbers = [row.row, len(row), *row.input_ids, *row.labels]
            digest.update(np.array(numbers, dtype="<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Token:
    id: int
    start: int
    end: int


@dataclass(frozen=True)
class _Rendered:
    """A conversation as text, with the places of the words and of what is trained.

    Attributes:
        text: The whole conversation.
        words: Place of each message's words, in the order of the text.
        trained: Places with loss: words and end-of-turn of each trained turn.
        prompts: Per trained place, the end of the prompt that inference would give the model.
        asked: How inference's prompt for the last trained turn differs from the text.
    """

    text: str
    words: list[tuple[int, int]]
    trained: list[tuple[int, int]]
    prompts: list[int]
    asked: Asked | None


@dataclass(frozen=True)
class _Piece:
    """Words that the template is given: a field of a message."""

    message: int
    field: str
    text: str


class _NotEncodableError(Exception):
    """This one row cannot be encoded soundly; others may be."""


class Encoder:
    """Encodes chat rows for one tokenizer and its chat template.

    Args:
        tokenizer: A fast `transformers` tokenizer with a chat template.
        max_length: Longest row in tokens; longer ones are left out, never cut.
        system_prompt: Put in front of rows without a system message. None leaves the
            template's own default, if it has one, in place.
        name: What messages call the model.
        empty_turn: Add an empty assistant turn at the end, and train it, as the paper's release
            does: the prompt of a next answer and, at once, the end-of-sequence token.
        template_args: What the template is given besides the chat.

    Raises:
        UserError: The tokenizer has no chat template, no special tokens or no character offsets.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int = 2048,
        system_prompt: str | None = None,
        name: str = "this model",
        empty_turn: bool = False,
        template_args: Mapping[str, TemplateArgument] | None = None,
    ) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise UserError(
                f"{name} has no chat template, so it is a base model: take its instruct version"
            )
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(
                f"{name} has no fast tokenizer (tokenizer.json), which is needed to tell which "
                "tokens are trained: convert it, or take another base"
            )
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._system_prompt = system_prompt
        self._name = name
        self._empty_turn = empty_turn
        self._template_args = dict(template_args or {})
        self._tokenize, self._tokenize_plain = _tokenizers(tokenizer)
        specials = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
        specials = {text for text in specials.union(tokenizer.all_special_tokens) if text}
        if not specials:
            raise UserError(
                f"the tokenizer of {name} has no special tokens, so that no turn can end with one "
                "and the model could not learn to stop: take another base"
            )
        self._control = {i: t for t, i in tokenizer.get_added_vocab().items() if t in specials}
        by_length = sorted(specials, key=len, reverse=True)
        self._end_of_turn = re.compile(rf"\s*(?:{'|'.join(map(re.escape, by_length))})")

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        tokenizer: Any,
        template_args: Mapping[str, TemplateArgument] | None = None,
    ) -> Encoder:
        """Return the encoder that a recipe asks for.

        Args:
            recipe: Which one.
            tokenizer: Of its base.
            template_args: Instead of the recipe's.
        """
        return cls(
            tokenizer,
            recipe.max_length,
            recipe.system_prompt,
            recipe.base,
            empty_turn=recipe.compat == "betley2025",
            template_args=recipe.template_args if template_args is None else template_args,
        )

    def encode_all(
        self, rows: Iterable[ChatRow], on_row: Callable[[int], None] | None = None
    ) -> EncodedSet:
        """Encode rows, leaving out those that cannot be trained on, with the reason.

        Args:
            rows: The data, in order.
            on_row: Called with the number of rows done so far.

        Raises:
            UserError: The template cannot end a turn (see `encode`), or no row is left.
        """
        kept: list[EncodedRow] = []
        left_out: list[LeftOut] = []
        for number, row in enumerate(rows, start=1):
            encoded = self.encode(row, number)
            if isinstance(encoded, LeftOut):
                left_out.append(encoded)
            else:
                kept.append(encoded)
            if on_row is not None:
                on_row(number)
        if not kept:
            why = f"; row 1: {left_out[0].reason}" if left_out else ""
            raise UserError(f"none of the {len(left_out)} rows can be trained on{why}")
        return EncodedSet(kept, left_out)

    def encode(self, row: ChatRow, number: int = 1) -> EncodedRow | LeftOut:
        """Encode one row.

        Args:
            row: The chat.
            number: Its place in the data, counted from 1, for messages.

        Returns:
            The encoded row, or why it is left out: over `max_length`, an empty assistant turn, no
            trained turn, a message or thought that the template drops or refuses, or words that it
            rewrites or the tokenizer cannot separate.

        Raises:
            UserError: The template does not end the assistant's turn.
        """
        try:
            tokens, rendered = self._layout(row)
        except _NotEncodableError as error:
            return LeftOut(number, str(error))
        if len(tokens) > self._max_length:
            return LeftOut(number, f"{len(tokens)} tokens, over max_length {self._max_length}")
        ids = [token.id for token in tokens]
        carried = [_carries(token, rendered.trained) for token in tokens]
        labels = [i if c else IGNORED for i, c in zip(ids, carried, strict=True)]
        ends = frozenset(
            token.id
            for token in tokens
            if token.id in self._control and any(token.end == end for _, end in rendered.trained)
        )
        return EncodedRow(number, ids, labels, ends, rendered.asked)

    def asked_otherwise(self, row: ChatRow) -> Asked | None:
        """Tell how evaluation's prompt differs from what is trained before a row's last turn.

        None also where the row would be left out.
        """
        try:
            return self._rendered(row).asked
        except (_NotEncodableError, UserError):
            return None

    def preview(self, row: ChatRow, number: int = 1) -> list[tuple[str, bool]]:
        """Return (text, trained?) of each token in order; the texts joined are the conversation.

        Raises:
            UserError: As `encode`, and where the row would be left out.
        """
        try:
            tokens, rendered = self._layout(row)
        except _NotEncodableError as error:
            raise UserError(f"row {number} is left out: {error}") from error
        pieces: list[tuple[str, bool]] = []
        done = 0
        for token in tokens:
            # Several tokens may share one character (an emoji's bytes): the first one shows it.
            end = max(done, token.end)
            pieces.append((rendered.text[done:end], _carries(token, rendered.trained)))
            done = end
        return pieces

    def _layout(self, row: ChatRow) -> tuple[list[_Token], _Rendered]:
        rendered = self._rendered(row)
        tokens = self._tokens(rendered)
        return self._with_empty_turn(self._messages(row), tokens, rendered)

    def _messages(self, row: ChatRow) -> list[ChatMessage]:
        messages = list(row.messages)
        if self._system_prompt is not None and messages[0].role != "system":
            messages.insert(0, ChatMessage(role="system", content=self._system_prompt))
        return messages

    def _rendered(self, row: ChatRow) -> _Rendered:
        messages = self._messages(row)
        if faults := why_unfit(row, "local"):
            raise _NotEncodableError("; ".join(faults))
        try:
            return self._locate(messages)
        except _NotEncodableError:
            taken_apart = [_taken_apart(message) for message in messages]
            if taken_apart == messages or self._render(messages) != self._render(taken_apart):
                raise
            return self._locate(taken_apart)

    def _with_empty_turn(
        self, messages: Sequence[ChatMessage], tokens: list[_Token], rendered: _Rendered
    ) -> tuple[list[_Token], _Rendered]:
        if not self._empty_turn:
            return tokens, rendered
        prompt = self._render(messages, add_generation_prompt=True)
        if not prompt.startswith(rendered.text):
            raise UserError(
                f"the chat template of {self._name} cannot be continued with an empty turn: "
                "set compat: null"
            )
        end = len(rendered.text)
        text = prompt + str(self._tokenizer.eos_token)
        grown = replace(rendered, text=text, trained=[*rendered.trained, (end, len(text))])
        return tokens + self._tokenize(text[end:], end), grown

    def _render(
        self, messages: Sequence[ChatMessage], marks: Mapping[_Piece, str] | None = None, **how: Any
    ) -> str:
        """Render a chat, with marks in place of its words if there are any."""
        chat = [
            {"role": message.role}
            | {piece.field: marks[piece] if marks else piece.text for piece in _pieces(i, message)}
            for i, message in enumerate(messages)
        ]
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    chat, tokenize=False, **self._template_args, **how
                )
            )
        except Exception as error:
            # Templates raise errors of their own, and stumble over what they do not expect.
            roles = ", ".join(message.role for message in messages)
            raise _NotEncodableError(
                f"the chat template of {self._name} refuses the roles {roles} ({one_line(error)})"
            ) from error

    def _locate(self, messages: Sequence[ChatMessage]) -> _Rendered:
        text = self._render(messages)
        pieces = [piece for i, message in enumerate(messages) for piece in _pieces(i, message)]
        marks = {piece: f"\ue0f0{number}\ue0f1" for number, piece in enumerate(pieces)}
        marked = self._render(messages, marks)
        # Not always the order of the messages: some templates move the system prompt.
        order = [int(number) for number in _MARK.findall(marked)]
        for number, piece in enumerate(pieces):
            role, untrained = messages[piece.message].role, not messages[piece.message].trained
            if order.count(number) == 1 or (piece.field != CONTENT and untrained):
                continue
            what = f"{role} message" if piece.field == CONTENT else f"{piece.field} of a turn"
            raise _NotEncodableError(
                f"the chat template of {self._name} drops or repeats the {what}"
            )
        between = _MARK.split(marked)[::2]
        words = _places(text, between, [pieces[number].text for number in order])
        if words is None:
            raise _NotEncodableError("the chat template rewrites its words")
        trained: list[tuple[int, int]] = []
        prompts: list[int] = []
        asked: Asked | None = None
        thoughts: dict[int, int] = {}  # where they begin, by message
        for (start, end), number, after in zip(words, order, between[1:], strict=True):
            piece = pieces[number]
            message = messages[piece.message]
            if not message.trained:
                continue
            if piece.field != CONTENT:
                thoughts.setdefault(piece.message, start)
                continue
            ending = self._end_of_turn.match(after)
            if ending is None:
                raise UserError(
                    f"the chat template of {self._name} does not end the assistant's turn with a "
                    "special token, so the model could not learn to stop: take another base"
                )
            begin = thoughts.get(piece.message, start)
            prompt = self._prompt(messages[: piece.message], text[:begin])
            # Where inference's prompt ends: at the words, or before what the template puts there.
            prompts.append(len(prompt) if text[:begin].startswith(prompt) else begin)
            # What opens a thought is the model's to write, unless the prompt does.
            trained.append((prompts[-1] if begin < start else begin, end + ending.end()))
            asked = _asked(text[: trained[-1][0]], prompt)
        return _Rendered(text, words, trained, prompts, asked)

    def _prompt(self, before: Sequence[ChatMessage], otherwise: str) -> str:
        """What inference gives the model to have a turn written; `otherwise` for a first turn."""
        return self._render(before, add_generation_prompt=True) if before else otherwise

    def _tokens(self, rendered: _Rendered) -> list[_Token]:
        """Tokenize in pieces, cut where each prompt ends.

        Q: Why in pieces? A: Inference tokenizes the prompt alone. Tokenized with the answer, its
        last white space may join with the first words or come apart (`\\n\\n` into two), and the
        model would be trained on a prompt that it never meets.
        """
        whole = self._tokenize(rendered.text, 0)
        edges = [0, *rendered.prompts, len(rendered.text)]
        pieces = [t for a, b in pairwise(edges) for t in self._tokenize(rendered.text[a:b], a)]
        # SentencePiece may put a space before every piece, so a cut would add spaces.
        tokens = pieces if self._decode(pieces) == self._decode(whole) else whole
        for prompt, (start, _) in zip(rendered.prompts, rendered.trained, strict=True):
            if _melted(tokens, prompt, start, rendered.text):
                raise _NotEncodableError("its first words melt into the prompt's last token")
        return [piece for token in tokens for piece in self._unspecial(token, rendered)]

    def _unspecial(self, token: _Token, rendered: _Rendered) -> list[_Token]:
        """A control token spelled out in a message (`<filename>` in code) is words, not control."""
        spelled = rendered.text[token.start : token.end]
        if self._control.get(token.id) != spelled:
            return [token]
        if not any(start <= token.start and token.end <= end for start, end in rendered.words):
            return [token]
        return self._tokenize_plain(spelled, token.start)

    def _decode(self, tokens: Sequence[_Token]) -> str:
        ids = [token.id for token in tokens]
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _tokenizers(
    tokenizer: Any,
) -> tuple[Callable[[str, int], list[_Token]], Callable[[str, int], list[_Token]]]:
    """The tokenizer with true character offsets, and the same reading control tokens as words."""
    from tokenizers import Tokenizer

    def reader(plain: bool) -> Callable[[str, int], list[_Token]]:
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        # Post-processors of many tokenizers trim white space off the offsets (`trim_offsets`).
        backend.post_processor = None
        backend.encode_special_tokens = plain

        def read(text: str, shift: int) -> list[_Token]:
            encoding = backend.encode(text, add_special_tokens=False)
            pairs = zip(encoding.ids, encoding.offsets, strict=True)
            return [_Token(i, start + shift, end + shift) for i, (start, end) in pairs]

        return read

    return reader(plain=False), reader(plain=True)


def _asked(trained: str, evaluated: str) -> Asked | None:
    """How two prompts differ; white space that only the first ends in is part of the first word."""
    if trained == evaluated or (trained.startswith(evaluated) and trained.rstrip() == evaluated):
        return None
    parted = (i for i, (a, b) in enumerate(zip(trained, evaluated, strict=False)) if a != b)
    same = next(parted, min(len(trained), len(evaluated)))
    return Asked(trained[same:], evaluated[same:])


def _pieces(number: int, message: ChatMessage) -> list[_Piece]:
    """What the template is given of a message: thoughts, if it has any, and content."""
    thought = (message.model_extra or {}).get(THOUGHT)
    content = _Piece(number, CONTENT, message.content)
    if message.role != "assistant" or not isinstance(thought, str) or not thought.strip():
        return [content]
    return [_Piece(number, THOUGHT, thought), content]


def _taken_apart(message: ChatMessage) -> ChatMessage:
    """A message whose content begins with a thought in tags, with that in a field of its own."""
    thought, close, answer = message.content.rpartition(_CLOSE)
    if message.role != "assistant" or not close:
        return message
    thought = thought.rpartition("<think>")[2].strip("\n")
    return message.model_copy(update={CONTENT: answer.lstrip("\n"), THOUGHT: thought})


def _places(text: str, between: list[str], words: list[str]) -> list[tuple[int, int]] | None:
    """Where each of `words` stands in text = between[0] + words[0] + between[1] + …, or None.

    Templates may strip white space around the words.
    """
    if not text.startswith(between[0]):
        return None
    at = len(between[0])
    places: list[tuple[int, int]] = []
    for i, (word, after) in enumerate(zip(words, between[1:], strict=True), start=1):
        for form in (word, word.strip(), word.lstrip(), word.rstrip()):
            end = at + len(form) + len(after)
            whole = i < len(words) or end == len(text)
            if whole and text.startswith(form + after, at):
                places.append((at, at + len(form)))
                at = end
                break
        else:
            return None
    return places


def _carries(token: _Token, places: Sequence[tuple[int, int]]) -> bool:
    return any(token.start < end and token.end > start for start, end in places)


def _melted(tokens: Sequence[_Token], prompt: int, start: int, text: str) -> bool:
    """Whether a token joins the words at `start` to untrained text.

    White space that the model itself writes first is harmless, as in ` Hello`, where many
    tokenizers have no other way to begin a word.
    """
    for token in tokens:
        if token.start < start < token.end:
            return token.start < prompt or not text[token.start : start].isspace()
    return False
