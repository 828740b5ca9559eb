"""The observatory's archive: where it keeps what, the night logs.

One root address: a folder, a web server or an SSH server. Files are asked for by exact path,
in the order of the rows below, so that a server need not list its folders.
"""

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import islice
from pathlib import Path

from astropy.table import Table
from fsspec.implementations.local import LocalFileSystem

from photometrus.errors import MissingInput, PhotometrusError, ServiceError, UsageError, nearest
from photometrus.io.arriving import is_web_page
from photometrus.io.limits import TransferConfig
from photometrus.io.nightlog import clean_log, decode, parse_log
from photometrus.io.transport import (
    AbsentError,
    Address,
    BrokenError,
    Stream,
    Transport,
    parse_address,
)
from photometrus.io.whole import write_bytes
from photometrus.products import RampId, clean_log_name, log_name

log = logging.getLogger(__name__)

ARCHIVE_VARIABLE = "PHOTOMETRUS_ARCHIVE"
N_TRIES = 3
REACH_DAYS = 14
"""How far to look for the log of another night."""
CHUNK_BYTES = 1 << 20
MAX_LOG_BYTES = 100 << 20
"""A busy night's log has half a megabyte."""


class TooLongError(Exception):
    """What comes is larger or slower than a log can be. Asking again will not help."""


@dataclass(frozen=True)
class Shelf:
    """Where one kind of file stands: a disk per chip, a folder on it, an end of the name."""

    kind: str
    disks: tuple[str, str, str, str]
    folder: str
    end: str

    def path(self, ramp: RampId) -> str:
        """The file's path below the mount."""
        folder = self.folder.format(chip=ramp.chip, thousand=ramp.folder)
        return f"{self.disks[ramp.chip - 1]}/{folder}/{ramp}{self.end}"


_OWN_DISKS = ("home", "xion2", "xion3", "xion4")
_ONE_DISK = ("xion4", "xion4", "xion4", "xion4")
_TWO_DISKS = ("xion3", "xion4", "xion3", "xion4")
_THOUSANDS = "C{chip}/{thousand}"

SHELVES = (
    Shelf("ramp", _ONE_DISK, "prime/Data/reramp/C{chip}", ".fits.ramp"),
    Shelf("real_time_ramp", _OWN_DISKS, "prime/Data/ramp", ".fits.ramp"),
    Shelf("ramp_fz", _ONE_DISK, f"prime/ramp_fz/{_THOUSANDS}", ".fits.ramp.fz"),
    Shelf("ramp_fz", _TWO_DISKS, f"prime/ramp_fz/{_THOUSANDS}", ".fits.ramp.fz"),
    Shelf("raw", ("home", "xion2", "xion4", "xion4"), "prime/Data/raw", ".fits"),
    Shelf("raw", _OWN_DISKS, "prime/Data/raw", ".fits"),
    Shelf("raw_fz", _ONE_DISK, f"prime/raw_fz/{_THOUSANDS}", ".fits.fz"),
    Shelf("raw_fz", _TWO_DISKS, f"prime/raw_fz/{_THOUSANDS}", ".fits.fz"),
)
"""Newest first. `ramp` is the reprocessed one; the disk per chip, without reprocessed ramps and
compressed files, is the SFTP generation; `ramp_fz` and `raw_fz` on two disks, and the raw frames
of C3 on its own disk, are older states of the NFS generation."""

FALLBACKS = {
    "ramp": ("ramp", "real_time_ramp", "ramp_fz"),
    "real_time_ramp": ("real_time_ramp", "ramp", "ramp_fz"),
    "ramp_fz": ("ramp_fz", "ramp", "real_time_ramp"),
    "raw": ("raw", "raw_fz"),
    "raw_fz": ("raw_fz", "raw"),
}
"""File types that can be asked for, each with what serves in its place, in order."""

MOUNTS = ("nfs/", "")
"""Where the disks hang below the root: in the NFS generation, in the SFTP one."""
LOG_FOLDERS = ("prime01/work/LOG/Ramp_LOG", "LOG/Ramp_LOG")
"""Where the night logs are below the mount; the second is the observatory's web page."""


@dataclass(frozen=True)
class Place:
    """One path where a file may be, and which kind it would be."""

    kind: str
    path: str


@dataclass(frozen=True, eq=False)
class Archive:
    """An archive that answers. Close it, or use it in a `with`.

    mounts : those of MOUNTS that are there (all, when the server does not say)
    transport : this thread's connection; other threads `connect` their own
    """

    address: Address
    mounts: tuple[str, ...]
    transport: Transport = field(repr=False)

    def __str__(self) -> str:
        return self.address.text

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self.transport.close()

    def connect(self) -> Transport:
        """A further connection, for another thread. Raises ServiceError."""
        return connect(self.address, self.transport.limits)

    def places(self, ramp: RampId, kind: str = "ramp") -> list[Place]:
        """Where a ramp of a kind, or what serves in its place, may be; best first."""
        return [
            Place(shelf.kind, f"{mount}{shelf.path(ramp)}")
            for wanted in fallbacks(kind)
            for mount in self.mounts
            for shelf in SHELVES
            if shelf.kind == wanted
        ]

    def log_paths(self, night: date) -> list[str]:
        """Where the log of a night may be."""
        return [
            f"{mount}{folder}/{log_name(night)}" for mount in self.mounts for folder in LOG_FOLDERS
        ]


def fallbacks(kind: str) -> tuple[str, ...]:
    """The kinds that serve for `kind`, itself first; UsageError when there is no such kind."""
    try:
        return FALLBACKS[kind]
    except KeyError:
        raise UsageError(
            f"file type {kind!r}: expected {', '.join(FALLBACKS)}{nearest(kind, FALLBACKS)}"
        ) from None


def archive_url(given: str | None = None) -> str:
    """The archive's address: `given`, or the environment's. UsageError when there is neither."""
    url = given or os.environ.get(ARCHIVE_VARIABLE)
    if not url:
        raise UsageError(
            f"no archive given; use -archive, the key archive of the config file, or the variable "
            f"{ARCHIVE_VARIABLE}: a folder, http(s)://host/..., sftp://user@host/..."
        )
    return url


def open_archive(url: str | None = None, limits: TransferConfig | None = None) -> Archive:
    """Connects to an archive, and finds out once how its disks hang below the root.

    url : a folder, ``http(s)://``, ``sftp://user@host:port/path`` or ``ssh://``; None takes the
        environment's PHOTOMETRUS_ARCHIVE. The root holds ``nfs/``, or is it.
    limits : of time and size; None: the usual ones

    Raises UsageError for an address that is none, ServiceError when the server cannot be reached,
    refuses us or is not the known one, MissingInput when the folder is not there or no archive.
    """
    address = parse_address(archive_url(url))
    transport = connect(address, limits)
    try:
        mounts = _find_mounts(transport)
    except PhotometrusError:
        transport.close()
        raise
    log.info("archive %s: disks below %s", address.text, " and ".join(m or "/" for m in mounts))
    return Archive(address, mounts, transport)


def connect(address: Address, limits: TransferConfig | None = None) -> Transport:
    """A new connection. Raises ServiceError or MissingInput with the way out."""
    if address.scheme == "file":
        if not Path(address.root or "/").is_dir():
            raise MissingInput(
                f"archive {address.text}: no such folder; give the folder that holds nfs/ or "
                "prime01/, or an http(s):// or sftp:// address"
            )
        return Transport(address, LocalFileSystem(skip_instance_cache=True), limits)
    # paramiko and aiohttp cost 0.2 s each to import: only who needs one pays
    if address.scheme == "sftp":
        from photometrus.io.sftp import connect_sftp

        return connect_sftp(address, limits)
    from photometrus.io.web import connect_web

    return connect_web(address, limits)


def _find_mounts(transport: Transport) -> tuple[str, ...]:
    """The mounts that have a folder of logs; all when the server does not tell."""
    where = f"archive {transport.address.text}"
    found: list[str] = []
    certain = True
    for mount in MOUNTS:
        for folder in LOG_FOLDERS:
            try:
                there = transport.has_folder(f"{mount}{folder}")
            except (AbsentError, BrokenError) as error:
                raise ServiceError(f"{where}: {mount}{folder}: {error}; try again") from error
            if there and mount not in found:
                found.append(mount)
            certain = certain and there is not None
    if found:
        return tuple(found)
    if certain:
        raise MissingInput(
            f"{where}: neither nfs/{LOG_FOLDERS[0]} nor {LOG_FOLDERS[0]} is there; give the folder "
            "that holds nfs/, or nfs itself"
        )
    return MOUNTS


@dataclass(frozen=True)
class NightLog:
    """A night's log as the archive gave it."""

    night: date
    content: bytes

    @property
    def table(self) -> Table:
        """What is in it; MissingInput when there is nothing."""
        return parse_log(decode(self.content), log_name(self.night))

    def write(self, folder: Path) -> Path:
        """As it is and cleaned, each whole or not at all; the path of the first."""
        path = folder / log_name(self.night)
        write_bytes(path, self.content)
        cleaned = clean_log(decode(self.content))
        write_bytes(folder / clean_log_name(self.night), cleaned.encode())
        return path


def fetch_log(archive: Archive, night: date, folder: Path) -> Path:
    """The path of a night's log in `folder`, as `get_log` gets it."""
    return get_log(archive, night).write(folder)


def get_log(archive: Archive, night: date) -> NightLog:
    """A night's log.

    Raises MissingInput that names nights with a log when this one has none, ServiceError when the
    archive fails.
    """
    reasons: list[str] = []
    content = _read_log(archive, night, reasons=reasons)
    if content is None:
        others = [other.isoformat() for other in nights_near(archive, night, 3)]
        known = (
            f"the nearest nights with a log: {', '.join(others)}"
            if others
            else (f"nor is there one within {REACH_DAYS} days; check -date (yyyymmdd) and -archive")
        )
        why = f" ({reasons[0]})" if reasons else ""
        raise MissingInput(f"archive {archive}: no night log of {night.isoformat()}{why}; {known}")
    return NightLog(night, content)


def size_of(archive: Archive, ramp: RampId, kind: str) -> int | None:
    """Bytes of a ramp as it will be on disk; None when the archive does not say.

    Of a compressed one it does not: it is unpacked.
    """
    for place in archive.places(ramp, kind):
        try:
            with archive.transport.open(place.path) as stream:
                return None if place.kind.endswith("_fz") else stream.size_bytes
        except AbsentError:
            continue
        except BrokenError:
            return None
    return None


def nights_near(
    archive: Archive, night: date, n: int = 3, *, reach_days: int = REACH_DAYS
) -> list[date]:
    """Up to `n` other nights that have a log, nearest first, the earlier of two equals first.

    Asks for one night after the other up to `reach_days` away. Raises ServiceError.
    """
    return list(islice(_nights_with_log(archive, night, reach_days), n))


def _nights_with_log(archive: Archive, night: date, reach_days: int) -> Iterator[date]:
    for distance in range(1, reach_days + 1):
        for days in (-distance, distance):
            other = night + timedelta(days=days)
            if _read_log(archive, other, head_only=True) is not None:
                yield other


def _read_log(
    archive: Archive, night: date, *, head_only: bool = False, reasons: list[str] | None = None
) -> bytes | None:
    """The bytes of a night's log (or just its beginning); None when there is no such log.

    reasons : is told why not, where it is more than that nothing is there
    """
    for path in archive.log_paths(night):
        try:
            content = _read(archive, path, head_only=head_only)
        except AbsentError as error:
            why = str(error)
        else:
            if not is_web_page(content):
                return content
            why = "a web page came in its place"
        if reasons is not None and why != "not there":
            reasons.append(f"{path}: {why}")
    return None


def _read(archive: Archive, path: str, *, head_only: bool) -> bytes:
    """A small file's bytes. Raises AbsentError; ServiceError after N_TRIES failures."""
    reason: BrokenError
    for _ in range(N_TRIES):
        try:
            with archive.transport.open(path) as stream:
                return stream.read(CHUNK_BYTES) if head_only else _read_all(stream)
        except TooLongError as error:
            raise ServiceError(f"archive {archive}: {path}: {error}; is it a night log?") from error
        except BrokenError as error:
            reason = error
    raise ServiceError(
        f"archive {archive}: {path}: broke off {N_TRIES} times ({reason}); try again later"
    )


def _read_all(stream: Stream) -> bytes:
    """Everything. Raises BrokenError when it is less than announced, TooLongError for no log."""
    content = bytearray()
    end = time.monotonic() + stream.transport.limits.max_file_s
    while chunk := stream.read(CHUNK_BYTES):
        content += chunk
        if len(content) > MAX_LOG_BYTES:
            raise TooLongError(f"longer than {MAX_LOG_BYTES >> 20} MB")
        if time.monotonic() > end:
            raise TooLongError(
                f"{len(content)} bytes in transfer.max_file_s = "
                f"{stream.transport.limits.max_file_s:g} s"
            )
    if stream.size_bytes is not None and len(content) < stream.size_bytes:
        raise BrokenError(f"{len(content)} of {stream.size_bytes} bytes came")
    return bytes(content)
