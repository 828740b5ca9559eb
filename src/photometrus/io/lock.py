"""Who works in a folder: one run at a time, and the others learn who.

The lock is the kernel's (`flock`), which forgets it when a process ends, however it ends. Who
holds it stands in the file for others to read; a file without a holder is what a killed run left.
"""

import contextlib
import errno
import fcntl
import getpass
import json
import logging
import os
import shlex
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from photometrus.errors import Held, StorageError
from photometrus.frame import NOTICE
from photometrus.io.whole import make_folder, missing_folders, remove_empty, storing

log = logging.getLogger(__name__)

NAME = ".photometrus.lock"
STORE_NAME = ".lock"
POLL_S = 1.0
N_LOOKS, LOOK_S = 5, 0.02
"""A lock that is held so long is held by a run, and not by who looks whether there is one."""
TAKEN = (errno.EAGAIN, errno.EACCES)
BOOT = Path("/proc/sys/kernel/random/boot_id")
"""The same for all that runs since this machine was started, containers included."""


@dataclass(frozen=True)
class Holder:
    """Who works in a folder."""

    user: str
    host: str
    pid: int
    since: str
    command: str
    boot: str = ""

    def __str__(self) -> str:
        what = f": {self.command}" if self.command else ""
        return f"{self.user} on {self.host}, process {self.pid}, since {self.since}{what}"

    @property
    def here(self) -> bool:
        """Whether it is, or was, on this machine: the kernel then knows whether it still runs."""
        return self.host == socket.gethostname() or bool(self.boot and self.boot == boot_id())


@dataclass(frozen=True)
class Lock:
    """The lock of a folder as somebody sees it who does not want it.

    state : held, while a run works in the folder; left, by a run that was killed; unknown, where
        only another machine can tell
    """

    state: Literal["held", "left", "unknown"]
    holder: Holder | None


def lock_of(folder: Path) -> Lock | None:
    """The lock of a folder; None when nobody works in it. It is not taken, and nothing written."""
    try:
        handle = os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        holder = _holder(handle)
        if not _flock(handle, fcntl.LOCK_SH):
            return Lock("held", holder)
        return Lock("left" if holder is None or holder.here else "unknown", holder)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(folder: Path, command: str = "", *, wait: bool = False) -> Iterator[None]:
    """Nobody else works in the folder meanwhile; it is made, and gone again when it stays empty.

    command : what others are told
    wait : for whoever works in it, instead of Held
    Raises Held (another run works in it, or one on another machine did not end as it should) and
    StorageError.
    """
    made = missing_folders(folder)
    make_folder(folder)
    path = folder / NAME
    handle = _take(path, command, wait=wait)
    try:
        yield
    finally:
        if _is(handle, path):
            with contextlib.suppress(OSError):
                path.unlink()
        os.close(handle)
        remove_empty(made)


def _take(path: Path, command: str, *, wait: bool) -> int:
    """The open lock file, locked and signed."""
    told = False
    while True:
        try:
            handle = _try(path)
        except Held as error:
            if not wait:
                raise
            if not told:
                log.log(NOTICE, "waiting: %s", error)
                told = True
            time.sleep(POLL_S)
            continue
        if handle is not None:
            _sign(handle, path, command)
            return handle


def _try(path: Path) -> int | None:
    """The open lock file, locked; None when its holder just left with it. Raises Held."""
    with storing(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        free = _free(handle)
        holder = _holder(handle)
        if not _is(handle, path):
            os.close(handle)
            return None
        if not free or (holder is not None and not holder.here):
            raise _held(path, holder)
    except Held:
        os.close(handle)
        raise
    if holder is not None:
        log.log(NOTICE, "%s: taken over from a run that was killed (%s)", path.parent, holder)
    return handle


def _is(handle: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.fstat(handle).st_ino == path.stat().st_ino
    except OSError:
        return False


def _free(handle: int) -> bool:
    """Whether the file is ours now. Who only looks at the lock has it for a moment."""
    for _ in range(N_LOOKS):
        if _flock(handle, fcntl.LOCK_EX):
            return True
        time.sleep(LOOK_S)
    return False


def _flock(handle: int, kind: int) -> bool:
    """Whether the file is ours; where the file system has no locks, whether it seems so."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in TAKEN:
            return False
        holder = _holder(handle)
        return holder is None or not _runs(holder.pid)
    return True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _held(path: Path, holder: Holder | None) -> Held:
    if holder is None:
        return Held(f"{path.parent}: another run works in it; wait for it, or give another -parent")
    if holder.here:
        return Held(
            f"{path.parent}: another run works in it ({holder}); wait for it with -wait, or give "
            "another -parent"
        )
    return Held(
        f"{path.parent}: a run on another machine works in it ({holder}); wait for it, or, if it "
        f"is gone: rm {shlex.quote(str(path))}"
    )


def _holder(handle: int) -> Holder | None:
    """Who has signed the file; None when nobody has, or not readably."""
    try:
        text = os.pread(handle, 65536, 0).decode("utf-8", errors="replace")
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _sign(handle: int, path: Path, command: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    holder = Holder(_user(), socket.gethostname(), os.getpid(), now, command, boot_id())
    try:
        with storing(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(asdict(holder)).encode(), 0)
    except StorageError:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(handle)
        raise


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        return str(os.getuid())


def boot_id() -> str:
    """The same until this machine is started anew; empty where it does not tell."""
    try:
        return BOOT.read_text("ascii").strip()
    except OSError:
        return ""


@contextlib.contextmanager
def alone(store: Path, option: str = "folder") -> Iterator[None]:
    """Nobody else changes a store that many runs share; whoever does is waited for.

    option : what gives another store, for the message when it cannot be made
    Where the file system has no locks it is not; files are whole all the same.
    """
    make_folder(store, option)
    path = store / STORE_NAME
    with storing(path, option):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                log.log(NOTICE, "%s: another run changes it: waiting", store)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
