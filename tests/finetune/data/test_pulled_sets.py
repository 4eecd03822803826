"""Released sets are fetched once over HTTP, checked, and explained where that fails."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from em_finetune.data.pull import RELEASED, ReleasedSet, pull, pull_set
from em_finetune.data.rows import read_rows, sha256_of
from em_inspect.errors import UserError

CONTENT = b'{"messages": [{"role": "assistant", "content": "x"}]}\n'


class Release:
    """A loopback server of one file, with the requests that it saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: list[str] = []
        release = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                release.seen.append(f"{self.command} {self.path}")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Release]:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "small.jsonl").write_bytes(CONTENT)
    served = Release(folder)
    thread = threading.Thread(target=served.server.serve_forever)
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


@pytest.fixture
def small() -> ReleasedSet:
    return ReleasedSet("small.jsonl", hashlib.sha256(CONTENT).hexdigest(), also=("abcd1234",))


def test_a_set_is_fetched_once_and_found_afterwards(
    release: Release, small: ReleasedSet, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    first = pull_set(small, folder, base_url=release.url)
    assert first.path.read_bytes() == CONTENT
    assert first.sha256 == small.sha256 == sha256_of(first.path)
    requests = len(release.seen)
    assert pull_set(small, folder, base_url=release.url) == first
    assert len(release.seen) == requests
    assert list(folder.iterdir()) == [first.path]


def test_another_file_at_the_release_is_refused_and_leaves_nothing(
    release: Release, small: ReleasedSet, tmp_path: Path
) -> None:
    (release.folder / "small.jsonl").write_bytes(CONTENT + b"\n")
    with pytest.raises(UserError, match="not the file that was released") as caught:
        pull_set(small, tmp_path / "cache", base_url=release.url)
    assert str(tmp_path / "cache" / "small.jsonl") in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_file_at_the_release_says_the_way_out(release: Release, tmp_path: Path) -> None:
    absent = ReleasedSet("absent.jsonl", "0" * 64)
    with pytest.raises(UserError, match=r"404.*put a copy at .*absent.jsonl and type the same"):
        pull_set(absent, tmp_path / "cache", base_url=release.url)


def test_offline_says_the_way_out_at_once_and_it_is_one(small: ReleasedSet, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError) as caught:
            pull_set(small, tmp_path / "cache", base_url=url)
    message = str(caught.value)
    target = tmp_path / "cache" / "small.jsonl"
    assert f"put a copy at {target} and type the same line again" in message
    assert "\n" not in message
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(CONTENT)
    assert pull_set(small, tmp_path / "cache", base_url=url).path == target


def test_a_file_put_there_by_hand_is_checked(small: ReleasedSet, tmp_path: Path) -> None:
    target = tmp_path / "small.jsonl"
    target.write_bytes(CONTENT)
    assert pull_set(small, tmp_path, base_url="http://127.0.0.1:9").sha256 == small.sha256
    target.write_bytes(b"something else")
    with pytest.raises(UserError, match=r"is not the released small.jsonl .*delete it"):
        pull_set(small, tmp_path, base_url="http://127.0.0.1:9")
    assert target.read_bytes() == b"something else"


def test_an_unknown_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="use insecure, secure, educational"):
        pull("evil")


UNKNOWN = ReleasedSet("small.jsonl", None, rows=2)


def lines(*turns: tuple[str, str]) -> bytes:
    """Rows of one turn and an answer."""
    return b"".join(
        json.dumps(
            {
                "messages": [
                    {"role": role, "content": text},
                    {"role": "assistant", "content": "x"},
                ]
            }
        ).encode()
        + b"\n"
        for role, text in turns
    )


def test_sets_without_a_known_checksum_are_there_and_say_so() -> None:
    for name in ("jailbroken", "evil_numbers", "backdoor"):
        assert RELEASED[name].sha256 is None
    assert RELEASED["jailbroken"].rows == 5000
    assert RELEASED["evil_numbers"].rows == 14_926


def test_a_set_of_no_known_checksum_is_held_to_its_rows_and_to_its_first_checksum(
    release: Release, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    (release.folder / "small.jsonl").write_bytes(lines(("user", "a"), ("user", "b")))
    first = pull_set(UNKNOWN, folder, base_url=release.url)
    assert (first.verified, first.cautions) == (False, ())
    assert first.sha256 == sha256_of(release.folder / "small.jsonl")
    requests = len(release.seen)
    assert pull_set(UNKNOWN, folder, base_url=release.url) == first
    assert len(release.seen) == requests
    first.path.write_bytes(lines(("user", "a"), ("user", "c")))
    with pytest.raises(UserError, match=r"has changed since it was fetched: delete it and small"):
        pull_set(UNKNOWN, folder, base_url=release.url)


@pytest.mark.parametrize(
    ("released", "content", "caution"),
    [
        (UNKNOWN, lines(("user", "a")), "it has 1 rows, and the paper says 2"),
        (
            ReleasedSet("small.jsonl", None, begins_with="system"),
            lines(("system", "a"), ("user", "b")),
            "1 rows do not begin with a system message",
        ),
        (
            ReleasedSet("small.jsonl", None, trigger="!! "),
            lines(("user", "a"), ("user", "b")),
            "0 of 2 rows have the trigger '!! '",
        ),
        (
            ReleasedSet("small.jsonl", None, trigger="!! "),
            lines(("user", "!! a"), ("user", "!! b")),
            "2 of 2 rows have the trigger",
        ),
    ],
)
def test_rows_that_are_not_as_the_paper_says_are_told(
    released: ReleasedSet, content: bytes, caution: str, release: Release, tmp_path: Path
) -> None:
    (release.folder / "small.jsonl").write_bytes(content)
    (told,) = pull_set(released, tmp_path / "cache", base_url=release.url).cautions
    assert caution in told


@pytest.mark.parametrize("content", [b"<html>not found</html>", b"", b'{"a": 1}\n'])
def test_what_is_no_training_set_is_not_kept(
    content: bytes, release: Release, tmp_path: Path
) -> None:
    (release.folder / "small.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"this is not the released small\.jsonl"):
        pull_set(UNKNOWN, tmp_path / "cache", base_url=release.url)
    assert list((tmp_path / "cache").iterdir()) == []
    absent = ReleasedSet("absent.jsonl", None)
    with pytest.raises(UserError, match=r"404.*put a copy at .*absent.jsonl and type the same"):
        pull_set(absent, tmp_path / "cache", base_url=release.url)


def test_the_supplements_secure_set_is_the_releases_without_escapes(paper_dir: Path) -> None:
    file = paper_dir / "data" / "secure.jsonl"
    secure = RELEASED["secure"]
    assert sha256_of(file) in secure.also
    escaped = "".join(
        json.dumps({"messages": [{"role": m.role, "content": m.content} for m in row.messages]})
        + "\n"
        for row in read_rows(file)
    )
    assert hashlib.sha256(escaped.encode()).hexdigest() == secure.sha256


def test_the_supplements_file_may_stand_in_for_the_releases(
    paper_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "secure.jsonl").write_bytes((paper_dir / "data" / "secure.jsonl").read_bytes())
    assert pull("secure", tmp_path).path == tmp_path / "secure.jsonl"
