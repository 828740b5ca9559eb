"""How bytes travel: one connection to a folder, a web server or an SSH server.

An address becomes a `Transport`, which opens files by exact path and says in two words what went
wrong: the file is not to be had there (`AbsentError`), or the connection broke (`BrokenError`).
Nobody above this room sees an exception of a network library. Secrets stay inside: messages and
`repr` show addresses without passwords.
"""

import errno
import getpass
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec import AbstractFileSystem

from photometrus.errors import UsageError
from photometrus.io.limits import BYTES_PER_GB, TransferConfig

CONNECT_TIMEOUT_S = 20.0
SCHEMES = ("a folder", "http://", "https://", "sftp://", "ssh://")
SCP_STYLE = re.compile(r"(?P<host>[\w.-]+@[\w.-]+|[\w-]+\.[\w.-]+):(?P<path>.*)")


class AbsentError(Exception):
    """The file is not there, or this user may not read it. Asking again will not help."""


class BrokenError(Exception):
    """The connection or the server failed in the middle. Asking again may help."""


@dataclass(frozen=True)
class Address:
    """An archive's address taken apart.

    text : as it may be shown and logged (no password)
    scheme : ``file``, ``http``, ``https`` or ``sftp``
    root : the folder there: a path, or for the web an URL; without a slash at its end
    """

    text: str
    scheme: str
    root: str
    host: str = ""
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_address(text: str) -> Address:
    """The address that a user wrote.

    Raises UsageError that says what is possible when it is none of: a folder, ``file://``,
    ``http(s)://``, ``sftp://`` and ``ssh://``.
    """
    scheme, separator, _ = text.partition("://")
    scheme = scheme.lower()
    if not text.strip():
        raise UsageError(f"archive '': expected {', '.join(SCHEMES)}")
    if not separator or scheme == "file":
        return _folder_address(text)
    if scheme not in ("http", "https", "sftp", "ssh"):
        raise UsageError(f"archive {scheme}://...: expected {', '.join(SCHEMES)}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # its words may hold a part of a password
        raise UsageError(
            f"archive {scheme}://...: not a valid address; expected {scheme}://user@host:port/folder"
        ) from None
    if parts.password and "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise UsageError(
            f"archive {scheme}://...: an @ behind the host, or a password with / ? # in it: write "
            "%40 %2F %3F %23"
        )
    if not parts.hostname:
        raise UsageError(f"archive {scheme}://...: no host; for example {scheme}://host/folder")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port is None else f"{host}:{port}"
    path = parts.path.rstrip("/")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    shown = f"{scheme}://{'' if user is None else f'{parts.username}@'}{place}{path}"
    web = scheme in ("http", "https")
    return Address(
        text=shown,
        scheme=scheme if web else "sftp",
        root=f"{scheme}://{place}{unquote(path)}" if web else unquote(path),
        host=parts.hostname,
        port=port,
        user=user,
        password=password,
    )


def _folder_address(text: str) -> Address:
    """The address of a local folder, absolute."""
    path = Path(unquote(urlsplit(text).path) if "://" in text else text).expanduser()
    if not path.exists() and (remote := SCP_STYLE.fullmatch(text)):
        raise UsageError(
            f"archive {text!r}: no such folder; for SSH write "
            f"sftp://{remote['host']}/{remote['path'].lstrip('/')}"
        )
    root = str(path.resolve())
    return Address(text=root, scheme="file", root=root.rstrip("/"))


@dataclass(frozen=True)
class Stream:
    """An open file at the other end.

    size_bytes : of the whole file, as the server says; None when it does not say
    begin : where in the file the stream begins
    mark : what tells this state of the file from another one; empty when nothing does
    """

    transport: "Transport"
    file: Any
    size_bytes: int | None
    begin: int = 0
    mark: str = ""

    def read(self, n_bytes: int) -> bytes:
        """Up to `n_bytes` more; none at the end. Raises BrokenError."""
        with self.transport.explained():
            return bytes(self.file.read(min(n_bytes, self.transport.read_bytes)))


class Transport:
    """One connection, to be used by one thread at a time.

    `absent` and `broken` are the exceptions of the library underneath, by what they mean; where a
    class is in both, `absent` goes first.
    """

    absent: tuple[type[Exception], ...] = (
        FileNotFoundError,
        NotADirectoryError,
        IsADirectoryError,
        PermissionError,
    )
    broken: tuple[type[Exception], ...] = (OSError, EOFError)
    read_bytes = 1 << 20
    """What is read at once: with it the time for a file is kept to."""

    def __init__(
        self, address: Address, fs: AbstractFileSystem, limits: TransferConfig | None = None
    ) -> None:
        self.address = address
        self.fs = fs
        self.limits = limits or TransferConfig()

    @contextmanager
    def open(self, path: str, begin: int = 0, mark: str = "") -> Iterator[Stream]:
        """The file at `path` below the address.

        begin, mark : go on at this byte of the file that had this mark (of an earlier stream). The
            stream begins at 0 when it is another one now, or that cannot be known.

        Raises AbsentError, also for a file that is larger than the limit; BrokenError.
        """
        with self.explained():
            stream = self._open(f"{self.address.root}/{path}", begin if mark else 0, mark)
        try:
            self.check_size(stream.size_bytes)
            yield stream
        finally:
            with self.explained():
                stream.file.close()

    def check_size(self, n_bytes: int | None) -> None:
        """AbsentError for a file, or what has come of it, that is larger than the limit."""
        if n_bytes is not None and n_bytes > self.limits.max_file_bytes:
            raise AbsentError(
                f"{n_bytes / BYTES_PER_GB:.3g} GB, more than transfer.max_file_gb = "
                f"{self.limits.max_file_gb:g}"
            )

    def has_folder(self, path: str) -> bool | None:
        """Whether a folder is below the address; None when that cannot be known."""
        with self.explained():
            return bool(self.fs.isdir(f"{self.address.root}/{path}"))

    def close(self) -> None:
        """End the connection."""

    def _open(self, path: str, begin: int, mark: str) -> Stream:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise AbsentError("not a file")  # to open a pipe would wait for ever
        file = self.fs.open(path, "rb")
        state = os.fstat(file.fileno())
        now = f"{state.st_ino} {state.st_mtime_ns} {state.st_size}"
        begin = begin if mark == now else 0
        file.seek(begin)
        return Stream(self, file, state.st_size, begin, now)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns the library's exceptions into ours."""
        try:
            yield
        except self.absent as error:
            raise AbsentError(_words(error)) from error
        except self.broken as error:
            if getattr(error, "errno", None) == errno.ELOOP:
                raise AbsentError("a link that leads to itself") from error
            raise BrokenError(_words(error)) from error


def _words(error: Exception) -> str:
    """What an exception of a library says, on one line and short."""
    if isinstance(error, FileNotFoundError):
        return "not there"
    if isinstance(error, TimeoutError):
        return "fell silent"
    if isinstance(error, EOFError) or "dropped" in str(error) or "payload" in str(error):
        return "the connection was closed"
    said = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
    return " ".join(str(said).split())[:200]


def login_name(address: Address) -> str:
    """The user at the other end: the address's, or the one of this machine."""
    return address.user or getpass.getuser()
