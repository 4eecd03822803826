"""The hidden directory beside a checkpoint in which it is made, and the rename at the end."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from em_finetune.checkpoint import STEPS, Checkpoint, is_checkpoint, load_checkpoint, read_record
from em_finetune.local.resume import Identity, Saved, read_saved
from em_finetune.recipe import Recipe
from em_inspect.errors import UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Fields that name things and do not change what is learned.
_NAMES = frozenset(
    {
        "name",
        "description",
        "data",
        "micro_tokens",
        "resume_every",
        "gradient_checkpointing",
        "shard",
    }
)


class Workspace:
    """A place to make a checkpoint in.

    Attributes:
        out: Where the checkpoint will be.
        folder: The hidden directory; only the process that holds its lock is in it.
        result: What will become `out`.
        steps: Directory in `result` of what is kept along the way.
        state: File of the state that a killed run goes on from.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out.parent / f".{out.name}.partial"
        self.result = self.folder / "result"
        self.steps = self.result / STEPS
        self.state = self.folder / "state.safetensors"
        self._replaced = self.folder / "replaced"

    def sweep(self) -> None:
        """Remove what a killed run left half done, keeping its state and what goes with it.

        A checkpoint that it was about to replace is put back.
        """
        if self._replaced.exists() and not self.out.exists():
            os.replace(self._replaced, self.out)
        shutil.rmtree(self._replaced, ignore_errors=True)
        for part in self.folder.glob(".*.part"):
            part.unlink()
        if not self.state.exists():
            shutil.rmtree(self.result, ignore_errors=True)
            return
        for left in self.result.iterdir() if self.result.is_dir() else ():
            if left != self.steps:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        for part in self.steps.glob(".*.part"):
            shutil.rmtree(part)

    def forget(self) -> None:
        """Drop the saved state."""
        self.state.unlink(missing_ok=True)

    @contextmanager
    def step(self, name: str) -> Iterator[Path]:
        """Give a directory to fill, which then becomes `steps/name`, whole or not at all."""
        part, target = self.steps / f".{name}.part", self.steps / name
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        # Left by a run that was killed after it and before its next state.
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)

    def finish(self) -> None:
        """See the result safely on the disk and give it its name."""
        self._move(self.out)
        self.forget()

    def keep(self, suffix: str) -> Path:
        """Keep an unfinished result beside `out` under another name, and return that."""
        target = self.out.with_name(f"{self.out.name}.{suffix}")
        shutil.rmtree(target, ignore_errors=True)
        self._move(target)
        self.forget()
        return target

    def _move(self, target: Path) -> None:
        for file in self.result.rglob("*"):
            if file.is_file():
                with file.open("rb+") as opened:
                    os.fsync(opened.fileno())
        if target.exists():
            os.replace(target, self._replaced)
        os.replace(self.result, target)
        shutil.rmtree(self._replaced, ignore_errors=True)


def finished(
    out: Path, recipe: Recipe, data: str, base_fingerprint: str, overwrite: bool
) -> Checkpoint | None:
    """Return the checkpoint in `out` if it is what is wanted, None if there is work to do.

    Raises:
        UserError: `out` holds something else or is damaged, and `overwrite` does not allow
            replacing it; or it cannot be looked at.
    """
    with _explained(out), _reached(out):
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return None
        if not is_checkpoint(out):
            raise UserError(f"{out} exists and is no checkpoint: choose another --out directory")
    try:
        there = read_record(out)
    except UserError as error:
        if overwrite:
            return None
        raise UserError(
            f"{error}: add --overwrite to replace it, or choose another --out directory"
        ) from error
    differing = _differences(there.recipe, recipe)
    differing += ["data"] * (there.data != data)
    differing += ["base"] * (there.base.fingerprint != base_fingerprint)
    if differing and overwrite:
        return None
    if differing:
        raise UserError(
            f"{out} holds a checkpoint with another {', '.join(dict.fromkeys(differing))}: "
            "add --overwrite to replace it, or choose another --out directory"
        )
    try:
        return load_checkpoint(out)
    except UserError:
        if overwrite:
            return None
        raise


def _differences(one: Recipe, other: Recipe) -> list[str]:
    """Fields in which `other`, which may leave some open, differs from what one run had."""
    ignored = {*_NAMES, "base", *other.open_fields}
    fields = [name for name in Recipe.model_fields if name not in ignored]
    differing = [name for name in fields if getattr(one, name) != getattr(other, name)]
    if one.narrow is not None and other.narrow is not None and "narrow" in differing:
        # The file may lie elsewhere now; what is in it is compared as data.
        same = one.narrow.model_copy(update={"data": None}) == other.narrow.model_copy(
            update={"data": None}
        )
        differing = [name for name in differing if name != "narrow" or not same]
    return differing


@contextmanager
def workspace(out: Path, room: int) -> Iterator[Workspace]:
    """Hold a workspace for `out`; afterwards it is gone, but for a state to go on from.

    A killed process cannot clean up: what it left is swept by the next run. The system lets go of
    the lock when its holder dies.

    Args:
        out: The checkpoint directory to be.
        room: Bytes of disk that will be needed.

    Raises:
        UserError: Another run is at work on `out`, there is no room or no permission, or no
            directory can be made there.
    """
    from filelock import FileLock, Timeout

    work = Workspace(out)
    with _explained(out):
        lock = FileLock(work.folder / "lock")
        try:
            with _reached(out):
                work.folder.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(
                f"another run is writing {out}: wait for it, or choose another --out directory"
            ) from error
        try:
            with _reached(out):
                work.sweep()
                _require_room(out, room)
                work.result.mkdir(exist_ok=True)
            yield work
        finally:
            work.sweep()
            if not work.state.exists():
                shutil.rmtree(work.folder, ignore_errors=True)
            lock.release()


def sweep_finished(out: Path) -> None:
    """Remove what a run left that was killed right after it had finished `out`."""
    from filelock import FileLock, Timeout

    folder = Workspace(out).folder
    if not folder.is_dir():
        return
    with suppress(Timeout), FileLock(folder / "lock", timeout=0):
        shutil.rmtree(folder, ignore_errors=True)


def saved_state(work: Workspace, identity: Identity, overwrite: bool) -> Saved | None:
    """Return the saved state that this run goes on from, None if it begins anew.

    Raises:
        UserError: A run of another recipe, data or base was left unfinished there, and `overwrite`
            does not allow dropping it.
    """
    if not work.state.exists():
        return None
    saved = read_saved(work.state)
    if saved is not None:
        differing = _differences(saved.identity.recipe, identity.recipe)
        differing += ["data"] * (saved.identity.data != identity.data)
        differing += ["base"] * (saved.identity.base != identity.base)
        differing += ["number of usable rows"] * (saved.identity.rows != identity.rows)
        known = saved.identity.tokens or identity.tokens
        # The same rows in other tokens: another library, or a template that changed its mind.
        differing += ["encoding of the rows"] * (known != identity.tokens and not differing)
        if not differing:
            return saved
        if not overwrite:
            raise UserError(
                f"a run with another {', '.join(dict.fromkeys(differing))} stopped in {work.out} "
                f"after step {saved.step}: add --overwrite to drop it, or choose another --out "
                "directory"
            )
    work.forget()
    work.sweep()
    work.result.mkdir(exist_ok=True)
    return None


def _require_room(out: Path, needed: int) -> None:
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise UserError(
            f"{out} needs {needed / 1e9:.1f} GB of disk and {free / 1e9:.1f} GB are free: make "
            "room, or choose an --out directory elsewhere"
        )


@contextmanager
def _reached(out: Path) -> Iterator[None]:
    """Say in one line that there can be no directory at `out`; what `_explained` says is left."""
    try:
        yield
    except OSError as error:
        # filelock's Timeout is an OSError without a number.
        if error.errno is None or error.errno in _NO_ROOM or isinstance(error, PermissionError):
            raise
        raise UserError(
            f"{shlex.quote(str(out))} cannot be made ({error.strerror}): choose another --out "
            "directory"
        ) from error


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    """Turn failures of the disk into one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno in _NO_ROOM
        if full or "os error 28" in str(error) or "os error 27" in str(error):
            raise UserError(
                f"the disk of {out} is full: make room and type the same line again, or choose "
                f"an --out directory elsewhere; nothing half-written was left behind"
            ) from error
        if isinstance(error, PermissionError):
            raise UserError(
                f"no permission to write {shlex.quote(str(out))}: choose another --out directory"
            ) from error
        raise
