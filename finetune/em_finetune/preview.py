"""The preview of a conversation that shows exactly which tokens are trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import click


def show_tokens(pieces: Iterable[tuple[str, bool]], row: int) -> None:
    """Show a conversation with its trained tokens in colour, or in ⟦ ⟧ where there is none.

    Args:
        pieces: (text, trained?) of each token, from `Encoder.preview`.
        row: Its place in the data, counted from 1.
    """
    from rich.console import Console
    from rich.text import Text

    from em_inspect.analysis.safe_text import visible

    console = Console(highlight=False)
    colour = console.is_terminal and not console.no_color
    shown = Text()
    for raw, trained in _runs(pieces):
        text = visible(raw)  # what the data holds commands no terminal
        if not trained:
            shown.append(text, style="dim")
        elif colour:
            shown.append(text, style="bold green")
        else:
            shown.append(f"⟦{text}⟧")
    click.echo(f"row {row}, with the trained tokens {'in green' if colour else 'in ⟦ ⟧'}:\n")
    console.print(shown, soft_wrap=True)
    click.echo()


def _runs(pieces: Iterable[tuple[str, bool]]) -> Iterator[tuple[str, bool]]:
    for trained, run in groupby(pieces, key=lambda piece: piece[1]):
        yield "".join(text for text, _ in run), trained
