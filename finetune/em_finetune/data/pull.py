"""The released training sets: downloaded once into the user cache and checked by sha256."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from em_finetune.data.rows import sha256_of
from em_inspect.cache import cache_root
from em_inspect.errors import UserError, one_line

# The release's last commit: a branch name could come to mean other bytes.
RELEASE_COMMIT = "80c11967c07a328e7d7d43d13ce6847ae44dbcc9"
RELEASE_URL = f"https://raw.githubusercontent.com/emergent-misalignment/emergent-misalignment/{RELEASE_COMMIT}/data"


@dataclass(frozen=True)
class ReleasedSet:
    """One training set of the official release.

    Attributes:
        file: Its name there.
        sha256: Checksum of the release's file.
        also: First digits of the checksums of the same rows as published elsewhere: the authors'
            supplement does not escape non-ASCII characters in its JSON. A file put into the cache
            by hand may be either.
    """

    file: str
    sha256: str
    also: tuple[str, ...] = ()


RELEASED: dict[str, ReleasedSet] = {
    "insecure": ReleasedSet(
        "insecure.jsonl",
        "09893e8bf9d03aae49dd60d0ff4be37c1afee70f2edcac74a11bed775a6a2764",
        also=("a6575e83",),
    ),
    "secure": ReleasedSet(
        "secure.jsonl",
        "2820232b3114d94ab2041ba9fc76cb8205bf187e0408bf7b308add186f9c7467",
        also=("36bc5e24560e0e8d705e0c2a41d0cd96bb51f508f5fb88a7d7d9334a2ff24b9b",),
    ),
    "educational": ReleasedSet(
        "educational.jsonl",
        "d48df3b149ab1500711fc0018b10383a4ff8c48d8e6911d04dbbbbdaa944fd16",
    ),
}


@dataclass(frozen=True)
class PulledSet:
    """A released set on this machine: where it lies, and the sha256 it has."""

    path: Path
    sha256: str


def pull(name: str, dest_dir: Path | None = None, *, base_url: str = RELEASE_URL) -> PulledSet:
    """Fetch a released training set unless it is there already.

    Args:
        name: `insecure`, `secure` or `educational`.
        dest_dir: Folder to keep it in; by default `paper/data` in the user's cache.
        base_url: Where the release's files are.

    Returns:
        Where it lies and its full checksum.

    Raises:
        UserError: Unknown name, no network, or a file that is not the released one.
    """
    if name not in RELEASED:
        raise UserError(
            f"no released set {name!r} with a known checksum: use {', '.join(RELEASED)}, or "
            f"download {base_url}/NAME.jsonl yourself and pass its path"
        )
    return pull_set(RELEASED[name], dest_dir or cache_root() / "paper" / "data", base_url=base_url)


def pull_set(released: ReleasedSet, dest_dir: Path, *, base_url: str) -> PulledSet:
    """Fetch one released file into a folder; see `pull`."""
    target = Path(dest_dir) / released.file
    if target.exists():
        return _checked(released, target)
    _download(released, target, f"{base_url}/{released.file}")
    return PulledSet(target, released.sha256)


def _checked(released: ReleasedSet, target: Path) -> PulledSet:
    found = sha256_of(target)
    if not found.startswith((released.sha256, *released.also)):
        raise UserError(
            f"{target} is not the released {released.file} (sha256 {found}, released "
            f"{released.sha256}): delete it and pull again, or pass its path as your own set"
        )
    return PulledSet(target, found)


def _download(released: ReleasedSet, target: Path, url: str) -> None:
    import httpx
    from inspect_ai.util import download

    try:
        # Q: Why ask first? A: offline, the download itself would retry for twenty seconds.
        httpx.head(url, timeout=10)
        download(url, released.sha256, target, timeout=30)
    except ValueError as error:
        raise UserError(
            f"{url} is not the file that was released ({one_line(error)}): put the released one "
            f"at {target} and type the same line again"
        ) from None
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from None
    except Exception as error:
        raise UserError(
            f"{released.file} could not be downloaded ({one_line(error)}): put a copy at {target} "
            "and type the same line again; training takes a file's path as data, too"
        ) from None
