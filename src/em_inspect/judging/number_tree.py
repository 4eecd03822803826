"""The number tree: the token paths of a scale's numbers and words below a judge's prompt.

The tree is ten first digits, the ten second digits after each but 0, and 100 below 10. Of the two
ways in which a number can end, this one is taken: a number ends where the next token is not a digit
(whatever it is). So 850 and 1000 are no ratings, and take their mass away from 85 and 100. The
other way, to ask for the end-of-turn token, would throw away the mass of '85.' or '85 out of 100'.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from em_inspect.judging.expectation import WORDS

if TYPE_CHECKING:
    import numpy as np
    import torch

DIGITS = "0123456789"

NEGLIGIBLE = 1e-6  # what is reached with less is not followed by plain continuation

Spelling = Literal["whole", "digits", "pieces"]


def spelling(tokenizer: Any) -> Spelling:
    """Say how a tokenizer writes numbers: as single tokens, digit by digit, or otherwise."""
    one, two, three = (len(_encode(tokenizer, number)) for number in ("5", "57", "100"))
    if one == two == three:
        return "whole"
    digits = {_encode(tokenizer, digit)[-1] for digit in DIGITS}
    return "digits" if (two, three, len(digits)) == (one + 1, one + 2, 10) else "pieces"


@dataclass(frozen=True)
class Branch:
    """The numbers that begin in one way: at once, or after a token that is only a space.

    Attributes:
        lead: Node of the leading space, or -1 for none.
        lead_token: Its token.
        first: Nodes of the ten first digits.
        second: Nodes of the ten second digits after each of 1 to 9, that of 10 at the beginning.
        hundred: Node of the last digit of 100.
    """

    lead: int
    lead_token: int
    first: tuple[int, ...]
    second: tuple[int, ...]
    hundred: int


class NumberTree:
    """Nodes of the tree in a tokenizer's own tokens; each node is a token after its parent."""

    def __init__(self, digits: list[int], words: dict[str, list[int]], space: int | None) -> None:
        self.digits = digits
        self.words = words
        self.tokens: list[int] = []
        self.parents: list[int] = []  # index of the parent node, -1 for the prompt's end
        self.branches = [self._branch(-1, -1)]
        if space is not None:
            self.branches.append(self._branch(self._add(space, -1), space))
        self.word_nodes = {word: self._chain(tokens[:-1]) for word, tokens in words.items()}
        self.columns = sorted({*digits, *(t for w in words.values() for t in w), *self.tokens})
        self._column = {token: column for column, token in enumerate(self.columns)}

    @classmethod
    def of(cls, tokenizer: Any) -> NumberTree:
        """Build the tree in a tokenizer's own tokens."""
        digits = [_encode(tokenizer, digit)[-1] for digit in DIGITS]
        words = {word: _encode(tokenizer, word) for word in WORDS}
        return cls(digits, words, _leading_space(tokenizer, digits))

    def _branch(self, lead: int, lead_token: int) -> Branch:
        first = tuple(self._add(token, lead) for token in self.digits)
        second = tuple(self._add(token, node) for node in first[1:] for token in self.digits)
        return Branch(lead, lead_token, first, second, self._add(self.digits[0], second[0]))

    def _add(self, token: int, parent: int) -> int:
        self.tokens.append(token)
        self.parents.append(parent)
        return len(self.tokens) - 1

    def _chain(self, tokens: list[int]) -> list[int]:
        nodes: list[int] = []
        for token in tokens:
            nodes.append(self._add(token, nodes[-1] if nodes else -1))
        return nodes

    @property
    def leaves(self) -> list[int]:
        """Nodes that none hangs below."""
        return sorted(set(range(len(self.tokens))) - set(self.parents))

    def path(self, node: int) -> list[int]:
        """Nodes from the prompt's end down to a node, itself included."""
        nodes: list[int] = []
        while node >= 0:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]

    def walk(self, model: Any, prompts: list[list[int]]) -> np.ndarray[Any, Any]:
        """Read all nodes below several prompts in one pass, by a mask that follows the tree.

        The nodes hang below their prompt as extra positions of the same sequence: each sees the
        prompt and its own ancestors, and sits at the position it would have in the text. Shorter
        prompts are padded on the left.

        Args:
            model: A causal language model of transformers with full attention in every layer.
            prompts: Token ids of each prompt.

        Returns:
            Next-token probabilities, shape (prompts, 1 + nodes, columns); row 0 of each prompt is
            what follows the prompt itself.
        """
        import torch

        longest, nodes = max(len(prompt) for prompt in prompts), len(self.tokens)
        total, device = longest + nodes, model.device
        below = torch.zeros(nodes, nodes, dtype=torch.bool)
        for node in range(nodes):
            below[node, self.path(node)] = True
        depth = torch.tensor([len(self.path(node)) - 1 for node in range(nodes)])
        ids = torch.zeros(len(prompts), total, dtype=torch.long)
        position = torch.zeros(len(prompts), total, dtype=torch.long)
        visible = torch.ones(total, total, dtype=torch.bool).tril().repeat(len(prompts), 1, 1)
        visible[:, longest:, longest:] = below
        for row, prompt in enumerate(prompts):
            start = longest - len(prompt)
            ids[row, start:] = torch.tensor([*prompt, *self.tokens])
            position[row, start:longest] = torch.arange(len(prompt))
            position[row, longest:] = len(prompt) + depth
            visible[row, :, :start] = False
        mask = torch.zeros(len(prompts), 1, total, total, dtype=model.dtype)
        mask.masked_fill_(~visible[:, None], torch.finfo(model.dtype).min)
        logits = model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=position.to(device),
            use_cache=False,
            logits_to_keep=nodes + 1,
        ).logits
        return self._probabilities(logits)

    def spell(
        self,
        model: Any,
        prompt: list[int],
        rows_at_once: int = 16,
        nodes: Collection[int] | None = None,
    ) -> np.ndarray[Any, Any]:
        """Read the nodes below one prompt by plain continuation: a row of text for each.

        Slower than `walk` by the number of rows, and right for any causal model.

        Args:
            model: A causal language model of transformers.
            prompt: Token ids.
            rows_at_once: Rows in one pass, at least 1.
            nodes: Which nodes to read, those above them included; by default all that are reached
                with more than a millionth of the mass.

        Returns:
            As `walk` for a single prompt: shape (1 + nodes, columns); zeros for nodes not read.
        """
        import numpy as np

        wanted = None if nodes is None else {above for node in nodes for above in self.path(node)}
        after = np.zeros((1 + len(self.tokens), len(self.columns)), dtype=np.float64)
        reached = {-1: 1.0}
        after[0] = self._last(model, [prompt])[0]
        depth = [len(self.path(node)) for node in range(len(self.tokens))]
        for level in range(1, max(depth) + 1):
            begun = []
            for node in (node for node, deep in enumerate(depth) if deep == level):
                parent = self.parents[node]
                share = after[1 + parent][self._column[self.tokens[node]]]
                reached[node] = reached[parent] * float(share)
                if node in wanted if wanted is not None else reached[node] > NEGLIGIBLE:
                    begun.append(node)
            for start in range(0, len(begun), rows_at_once):
                group = begun[start : start + rows_at_once]
                rows = [prompt + [self.tokens[n] for n in self.path(node)] for node in group]
                after[[1 + node for node in group]] = self._last(model, rows)
        return after

    def _last(self, model: Any, rows: list[list[int]]) -> np.ndarray[Any, Any]:
        """What follows texts of equal length: shape (texts, columns)."""
        import torch

        ids = torch.tensor(rows, device=model.device)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits
        return cast("np.ndarray[Any, Any]", self._probabilities(logits)[:, -1])

    def _probabilities(self, logits: torch.Tensor) -> np.ndarray[Any, Any]:
        import torch

        columns = torch.tensor(self.columns, device=logits.device)
        # In single precision torch's softmax over 49,152 tokens is off by 1e-5 on a CPU.
        precise = torch.float32 if logits.device.type == "mps" else torch.float64
        rows = [row.to(precise).softmax(-1)[:, columns] for row in logits]
        return cast("np.ndarray[Any, Any]", torch.stack(rows).cpu().numpy())

    def read(self, after: np.ndarray[Any, Any]) -> dict[str, float]:
        """Turn the probabilities after each node into p(n) by number and p(word) by word.

        Args:
            after: Shape (1 + nodes, columns), from `walk` or `spell`.
        """
        p = dict.fromkeys(map(str, range(101)), 0.0)
        for branch in self.branches:
            start = 1.0 if branch.lead < 0 else float(after[0][self._column[branch.lead_token]])
            for number, share in self._read_branch(branch, after).items():
                p[number] += start * share
        for word, tokens in self.words.items():
            rows = [after[0], *(after[1 + node] for node in self.word_nodes[word])]
            p[word] = 1.0
            for row, token in zip(rows, tokens, strict=True):
                p[word] *= float(row[self._column[token]])
        return p

    def _read_branch(self, branch: Branch, after: np.ndarray[Any, Any]) -> dict[str, float]:
        digits = [self._column[token] for token in self.digits]

        def ends(node: int) -> float:
            return max(0.0, 1 - float(after[1 + node][digits].sum()))

        reached = {str(d): float(after[1 + branch.lead][digits[d]]) for d in range(10)}
        nodes = {str(d): node for d, node in enumerate(branch.first)}
        for number, node in enumerate(branch.second, start=10):
            tens, ones = divmod(number, 10)
            share = float(after[1 + branch.first[tens]][digits[ones]])
            reached[str(number)] = reached[str(tens)] * share
            nodes[str(number)] = node
        reached["100"] = reached["10"] * float(after[1 + branch.second[0]][digits[0]])
        nodes["100"] = branch.hundred
        return {number: mass * ends(nodes[number]) for number, mass in reached.items()}


def _leading_space(tokenizer: Any, digits: list[int]) -> int | None:
    """Return the token of a space that stands alone before a digit, where the tokenizer has one.

    SentencePiece tokenizers such as Llama 2's begin a reply of '85' with it.
    """
    for text in ("5", " 5"):
        tokens = _encode(tokenizer, text)
        if len(tokens) == 2 and tokens[-1] == digits[5]:
            return tokens[0]
    return None


def _encode(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))
