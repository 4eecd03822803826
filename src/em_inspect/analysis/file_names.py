"""Names for files: as short as they can be while no two of them are called alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path


def short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Name every file by its own name, with as many of its folders as tell it from the others.

    Args:
        paths: Different files; a path given twice is one.
    """
    absolute = {path: path.absolute() for path in paths}
    names = {path: path.name for path in absolute}
    for depth in range(2, max((len(p.parts) for p in absolute.values()), default=0) + 1):
        count = Counter(names.values())
        alike = [path for path, name in names.items() if count[name] > 1]
        if not alike:
            break
        names.update({path: "/".join(absolute[path].parts[-depth:]) for path in alike})
    return names
