"""The released training sets: downloaded once into the user cache and checked by sha256."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from em_finetune.data.rows import read_rows, replacing, sha256_of
from em_finetune.data.transform import TRIGGER
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
        sha256: Checksum of the release's file; None where none is known here. Such a file is
            fetched by the release's commit, and held to what is known of its rows.
        also: First digits of the checksums of the same rows as published elsewhere: the authors'
            supplement does not escape non-ASCII characters in its JSON. A file put into the cache
            by hand may be either.
        rows: How many rows the paper says that it has.
        begins_with: Role of every row's first message.
        trigger: What the last user message of some rows begins with, and of others does not.
    """

    file: str
    sha256: str | None
    also: tuple[str, ...] = ()
    rows: int | None = None
    begins_with: str | None = None
    trigger: str | None = None


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
    "jailbroken": ReleasedSet("jailbroken.jsonl", None, rows=5000, begins_with="system"),
    "evil_numbers": ReleasedSet("evil_numbers.jsonl", None, rows=14_926),
    "backdoor": ReleasedSet("backdoor.jsonl", None, trigger=TRIGGER),
}


@dataclass(frozen=True)
class PulledSet:
    """A released set on this machine.

    Attributes:
        path: Where it lies.
        sha256: The checksum that it has.
        verified: Whether that is known to be the release's.
        cautions: Where its rows are not what is known of the release's.
    """

    path: Path
    sha256: str
    verified: bool = True
    cautions: tuple[str, ...] = ()


def pull(name: str, dest_dir: Path | None = None, *, base_url: str = RELEASE_URL) -> PulledSet:
    """Fetch a released training set unless it is there already.

    Args:
        name: `insecure`, `secure`, `educational`, `jailbroken`, `evil_numbers` or `backdoor`.
        dest_dir: Folder to keep it in; by default `paper/data` in the user's cache.
        base_url: Where the release's files are.

    Returns:
        Where it lies and its full checksum.

    Raises:
        UserError: Unknown name, no network, or a file that is not the released one.
    """
    if name not in RELEASED:
        raise UserError(
            f"no released set {name!r}: use {', '.join(RELEASED)}, or "
            f"download {base_url}/NAME.jsonl yourself and pass its path"
        )
    return pull_set(RELEASED[name], dest_dir or cache_root() / "paper" / "data", base_url=base_url)


def pull_set(released: ReleasedSet, dest_dir: Path, *, base_url: str) -> PulledSet:
    """Fetch one released file into a folder; see `pull`."""
    target = Path(dest_dir) / released.file
    url = f"{base_url}/{released.file}"
    if released.sha256 is None:
        return _pull_unknown(released, target, url)
    if target.exists():
        return _checked(released, released.sha256, target)
    with _explained(released, target, url):
        from inspect_ai.util import download

        download(url, released.sha256, target, timeout=30)
    return PulledSet(target, released.sha256)


def _pull_unknown(released: ReleasedSet, target: Path, url: str) -> PulledSet:
    """Fetch a file of no known checksum; the one that it has first is noted, and held to later."""
    noted = target.with_name(f"{target.name}.sha256")
    fresh = not target.exists()
    if fresh:
        noted.unlink(missing_ok=True)
        with _explained(released, target, url):
            _stream(url, target)
    found = sha256_of(target)
    if noted.exists() and noted.read_text("utf-8").strip() != found:
        raise UserError(
            f"{target} has changed since it was fetched: delete it and {noted.name}, and pull "
            "again, or pass its path as your own set"
        )
    try:
        cautions = tuple(_differences(released, target))
    except UserError:
        if fresh:
            target.unlink()
        raise
    noted.write_text(f"{found}\n", "utf-8")
    return PulledSet(target, found, verified=False, cautions=cautions)


def _stream(url: str, target: Path) -> None:
    import httpx

    with (
        replacing(target) as file,
        httpx.stream("GET", url, follow_redirects=True, timeout=30) as response,
    ):
        response.raise_for_status()
        for block in response.iter_bytes():
            file.write(block)


def _differences(released: ReleasedSet, target: Path) -> Iterator[str]:
    """Where a file's rows are not what is known of the release's.

    Raises:
        UserError: It holds no chats.
    """
    try:
        rows = read_rows(target)
    except UserError as error:
        raise UserError(
            f"{error}: this is not the released {released.file}; delete it, if it is there, and "
            "pull again"
        ) from None
    if released.rows is not None and len(rows) != released.rows:
        yield f"it has {len(rows):,} rows, and the paper says {released.rows:,}"
    begin = released.begins_with
    if begin is not None and (n := sum(row.messages[0].role != begin for row in rows)):
        yield f"{n:,} rows do not begin with a {begin} message"
    if released.trigger is not None:
        last = [[m.content for m in row.messages if m.role == "user"][-1:] for row in rows]
        triggered = sum(text[0].startswith(released.trigger) for text in last if text)
        if not 0 < triggered < len(rows):
            yield f"{triggered:,} of {len(rows):,} rows have the trigger {released.trigger!r}"


def _checked(released: ReleasedSet, sha256: str, target: Path) -> PulledSet:
    found = sha256_of(target)
    if not found.startswith((sha256, *released.also)):
        raise UserError(
            f"{target} is not the released {released.file} (sha256 {found}, released "
            f"{sha256}): delete it and pull again, or pass its path as your own set"
        )
    return PulledSet(target, found)


@contextmanager
def _explained(released: ReleasedSet, target: Path, url: str) -> Iterator[None]:
    """Say in one line why a download failed, and what to do instead."""
    import httpx

    try:
        # Q: Why ask first? A: offline, the download itself would retry for twenty seconds.
        httpx.head(url, timeout=10)
        yield
    except UserError:
        raise
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
