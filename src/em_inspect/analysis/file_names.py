"""Names for files and models: as short as they can be while no two of them are called alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Name every file by its own name, with as many of its folders as tell it from the others.

    Args:
        paths: Different files; a path given twice is one.
    """
    absolute = {path: path.absolute().as_posix() for path in paths}
    short = tails(absolute.values())
    return {path: short[name] for path, name in absolute.items()}


def tails(names: Iterable[str]) -> dict[str, str]:
    """Shorten names to the least of their last parts, as `/` divides them, that tells them apart.

    Args:
        names: Paths, or names of models; one given twice is one.
    """
    parts = {name: name.split("/") for name in names}
    short = {name: own[-1] for name, own in parts.items()}
    for depth in range(2, max(map(len, parts.values()), default=0) + 1):
        count = Counter(short.values())
        alike = [name for name, said in short.items() if count[said] > 1]
        if not alike:
            break
        short.update({name: "/".join(parts[name][-depth:]) for name in alike})
    return short
