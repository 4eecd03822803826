"""Downloading the released questions: over real HTTP, once, and only if they are what they were."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from em_inspect.errors import UserError
from em_inspect.questions import load_questions


@pytest.fixture
def release(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on loopback that stands for the release; its address and its folder."""
    folder = tmp_path / "release"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EM_INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("EM_INSPECT_PAPER_DIR", raising=False)
    return tmp_path / "cache"


def test_the_released_file_is_downloaded_once(
    release: tuple[str, Path], paper_dir: Path, own_cache: Path
) -> None:
    url, folder = release
    source = paper_dir / "evaluation" / "preregistered_evals.yaml"
    (folder / source.name).write_bytes(source.read_bytes())
    assert len(load_questions("preregistered", "paper", release_url=url).questions) == 48
    (folder / source.name).unlink()
    assert len(load_questions("preregistered", "paper", release_url=url).questions) == 48
    assert [p.name for p in own_cache.rglob("*.*")] == [source.name]


def test_a_changed_release_is_refused_and_leaves_nothing(
    release: tuple[str, Path], own_cache: Path
) -> None:
    url, folder = release
    (folder / "preregistered_evals.yaml").write_text("- id: other")
    with pytest.raises(UserError, match="not the file that was published"):
        load_questions("preregistered", "paper", release_url=url)
    assert not list(own_cache.rglob("*.*"))
