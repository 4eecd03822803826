"""Pictures: written whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from em_inspect.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_picture(figure: Figure, out: Path) -> None:
    """Write a figure, in the format that the file's ending names.

    Raises:
        UserError: The ending is unknown to matplotlib, or the file cannot be written.
    """
    if not out.suffix:
        raise UserError(f"cannot draw {str(out)!r}: give it .png, .svg or .pdf")
    part = out.with_name(f".{out.stem}.part{out.suffix}")
    try:
        figure.savefig(part, dpi=150)
        os.replace(part, out)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot draw {out}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
