"""Ramps from the archive to the disk: in parallel, whole or not at all, what is there stays."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from photometrus.errors import FrameError, PhotometrusError, UsageError
from photometrus.frame import LISTED, Progress
from photometrus.io.archive import CHUNK_BYTES, N_TRIES, Archive, Place, fallbacks
from photometrus.io.arriving import Arriving
from photometrus.io.fz import fault, unpack
from photometrus.io.transport import AbsentError, BrokenError, Stream, Transport
from photometrus.io.whole import storing, write_bytes
from photometrus.products import RampId

log = logging.getLogger(__name__)

WORKERS = 4
RETRY_WAIT_S = 0.5
"""Before the second try; doubles with each further one."""
MAX_REFUSALS = 6
"""Refused connections in a row, none being open, after which the archive counts as gone."""
MAX_SERIAL = 99_999_999
NOT_FITS = "not a FITS file"

State = Literal["present", "bytes", "fetched", "missing"]


@dataclass(frozen=True)
class DownloadEvent:
    """What just happened to one ramp; for a progress bar.

    state : ``bytes`` while it comes, then one of ``fetched``, ``present``, ``missing``
    done_bytes, total_bytes : of the file that travels; total is None when the server keeps it back
    reason : why it is missing
    """

    ramp: RampId
    state: State
    done_bytes: int = 0
    total_bytes: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Downloads:
    """What became of the ramps that were asked for, each in the order of the request.

    fetched : now on disk; `sources` says from which path of the archive
    present : were on disk already, whole
    missing : with the reason
    """

    fetched: tuple[RampId, ...] = ()
    present: tuple[RampId, ...] = ()
    missing: tuple[tuple[RampId, str], ...] = ()
    sources: Mapping[RampId, Place] = field(default_factory=dict)


@dataclass(frozen=True)
class _Outcome:
    ramp: RampId
    state: State
    reason: str = ""
    place: Place | None = None


def download(
    archive: Archive,
    ramps: Sequence[RampId],
    destination: Callable[[RampId], Path],
    *,
    kind: str = "ramp",
    overwrite: bool = False,
    workers: int = WORKERS,
    progress: Callable[[DownloadEvent], None] | None = None,
) -> Downloads:
    """Fetches ramps in parallel; what cannot be had is listed and the rest goes on.

    destination : the path of a ramp on disk; its folder is made
    kind : one of archive.FALLBACKS; what serves in its place is taken where it is absent. For
        ``raw`` and ``raw_fz`` the ids are those of raw frames (`observed.raw_frames`)
    overwrite : fetch also what is there and whole
    workers : connections at a time
    progress : called with every event, from one thread at a time

    A compressed file is unpacked: its image is in the primary unit, float32 for ramps. A ramp that
    is cut off on the server is taken as it is. A transfer that breaks off is tried again.

    Raises UsageError for a file type or ramp that cannot be, PhotometrusError when the disk cannot
    be written. Files are complete when they have their name.
    """
    fallbacks(kind)
    wanted = list(dict.fromkeys(ramps))
    for ramp in wanted:
        if ramp.chip not in (1, 2, 3, 4) or not 0 <= ramp.serial <= MAX_SERIAL:
            raise UsageError(f"ramp {ramp}: expected a serial of 8 digits and chip 1, 2, 3 or 4")
    job = _Job(archive, destination, kind, overwrite, progress)
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="download") as pool:
        futures = [pool.submit(job.fetch, ramp) for ramp in wanted]
        try:
            outcomes = [future.result() for future in futures]
        finally:
            job.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            job.connections.close()
    return _gathered(outcomes)


def counted(progress: Progress, total: int) -> Callable[[DownloadEvent], None]:
    """Turns the events of a download of `total` ramps into "so many done"."""
    done = 0

    def tell(event: DownloadEvent) -> None:
        nonlocal done
        if event.state != "bytes":
            done += 1
            progress("download", done, total)

    return tell


def _gathered(outcomes: list[_Outcome]) -> Downloads:
    """The outcomes sorted by what they are."""
    return Downloads(
        fetched=tuple(o.ramp for o in outcomes if o.state == "fetched"),
        present=tuple(o.ramp for o in outcomes if o.state == "present"),
        missing=tuple((o.ramp, o.reason) for o in outcomes if o.state == "missing"),
        sources={o.ramp: o.place for o in outcomes if o.place is not None},
    )


def write_failed(path: Path, missing: Sequence[tuple[RampId, str]]) -> None:
    """Writes what is missing, one ramp per line with its reason; removes the file when nothing is.

    Raises PhotometrusError when the disk cannot be written.
    """
    if missing:
        write_bytes(path, "".join(f"{ramp} {reason}\n" for ramp, reason in missing).encode())
    else:
        path.unlink(missing_ok=True)


class _Job:
    """One call of `download`: its connections, its stop sign, its listener."""

    def __init__(
        self,
        archive: Archive,
        destination: Callable[[RampId], Path],
        kind: str,
        overwrite: bool,
        progress: Callable[[DownloadEvent], None] | None,
    ) -> None:
        self.archive = archive
        self.destination = destination
        self.kind = kind
        self.overwrite = overwrite
        self.progress = progress
        self.limits = archive.transport.limits
        self.stop = threading.Event()
        self._telling = threading.Lock()
        self.connections = _Connections(archive.connect)

    def fetch(self, ramp: RampId) -> _Outcome:
        """Gets one ramp. Raises PhotometrusError when the disk fails, CancelledError on stop."""
        path = self.destination(ramp)
        if not self.overwrite and path.is_file() and fault(path) is None:
            outcome = _Outcome(ramp, "present")
        else:
            outcome = self._fetch_from_any(ramp, path)
        if outcome.state == "missing":
            log.warning("%s: not downloaded: %s", ramp, outcome.reason, extra=LISTED)
        self._tell(DownloadEvent(ramp, outcome.state, reason=outcome.reason))
        return outcome

    def _tell(self, event: DownloadEvent) -> None:
        if self.progress is not None:
            with self._telling:
                self.progress(event)

    def _fetch_from_any(self, ramp: RampId, path: Path) -> _Outcome:
        """Tries the places of a ramp, best first."""
        reasons: dict[str, None] = {}
        kinds: dict[str, None] = {}
        for place in self.archive.places(ramp, self.kind):
            kinds[place.kind] = None
            try:
                self._fetch_patiently(ramp, place, path)
            except AbsentError as error:
                if str(error) != "not there":
                    reasons[f"{place.path}: {error}"] = None
                continue
            except BrokenError as error:
                # Not the next kind: a bad line must not decide how a ramp was reduced
                return _Outcome(ramp, "missing", f"{place.path}: broke off: {error}")
            if len(kinds) > 1:
                log.info("%s: %s instead of %s", ramp, place.kind, self.kind)
            return _Outcome(ramp, "fetched", place=place)
        nowhere = f"not in the archive as {', '.join(kinds)}"
        return _Outcome(ramp, "missing", "; ".join(reasons) or nowhere)

    def _fetch_patiently(self, ramp: RampId, place: Place, path: Path) -> None:
        """Tries one place until `N_TRIES` in a row bring nothing. Raises AbsentError, BrokenError.

        What came before a line broke is kept, and the next try goes on behind it.
        """
        source = f"{self.archive} {place.path}"
        arriving = Arriving(path, packed=place.kind.endswith("_fz"), source=source)
        if arriving.n_bytes:
            came = f"{ramp}: {place.path}: {arriving.n_bytes} bytes"
            log.info("%s of an earlier run are here: going on behind them", came)
        end = time.monotonic() + self.limits.max_file_s
        attempt, furthest = 0, arriving.n_bytes
        try:
            while True:
                try:
                    with self.connections.one() as transport:
                        self._copy(transport, place.path, arriving, ramp, end)
                    return self._settle(ramp, place, arriving)
                except BrokenError as error:
                    if time.monotonic() > end:
                        raise self._too_slow(arriving) from error
                    attempt = 1 if arriving.n_bytes > furthest else attempt + 1
                    furthest = max(furthest, arriving.n_bytes)
                    came = f"{ramp}: {place.path}: {arriving.n_bytes} bytes"
                    log.info("%s, try %d of %d: %s", came, attempt, N_TRIES, error)
                    if attempt == N_TRIES:
                        raise
                if self.stop.wait(RETRY_WAIT_S * 2 ** (attempt - 1)):
                    raise CancelledError
        finally:
            arriving.remove()

    def _settle(self, ramp: RampId, place: Place, arriving: Arriving) -> None:
        """Checks what came, unpacks it, and puts it in place. Raises AbsentError."""
        wrong = fault(arriving.path)
        if wrong == NOT_FITS or wrong == "empty":
            raise AbsentError("a web page, no FITS file" if arriving.is_web_page() else wrong)
        if arriving.packed:
            self._unpack(arriving)
        elif wrong:
            log.warning(
                "%s: %s is %s on the server, or still being written; taken as it is, and fetched "
                "again next time", ramp, place.path, wrong,
            )  # fmt: skip
        with _writing(arriving.goal):
            arriving.finish()

    def _copy(
        self, transport: Transport, path: str, arriving: Arriving, ramp: RampId, end: float
    ) -> None:
        """Copies in chunks, from where the last try broke off. Raises BrokenError, AbsentError.

        end : when it must be done, on the clock of time.monotonic
        """
        with (
            _closed_at(end, transport),
            transport.open(path, arriving.n_bytes, arriving.mark) as stream,
            _writing(arriving.goal),
            arriving.open(stream.begin, stream.mark) as file,
        ):
            self._copy_stream(stream, file, arriving, ramp, end)
        if stream.size_bytes is not None and arriving.n_bytes != stream.size_bytes:
            raise BrokenError(f"{arriving.n_bytes} of {stream.size_bytes} bytes came")

    def _copy_stream(
        self, stream: Stream, file: BinaryIO, arriving: Arriving, ramp: RampId, end: float
    ) -> None:
        """Copies up to the announced size: a file that grows meanwhile ends there."""
        while chunk := stream.read(arriving.still(stream.size_bytes, CHUNK_BYTES)):
            if self.stop.is_set():
                raise CancelledError
            file.write(chunk)
            arriving.n_bytes += len(chunk)
            stream.transport.check_size(arriving.n_bytes)
            self._tell(DownloadEvent(ramp, "bytes", arriving.n_bytes, stream.size_bytes))
            if time.monotonic() > end:
                raise self._too_slow(arriving)

    def _too_slow(self, arriving: Arriving) -> BrokenError:
        limit = f"transfer.max_file_s = {self.limits.max_file_s:g} s"
        return BrokenError(f"too slow, {arriving.n_bytes} bytes in {limit}")

    def _unpack(self, arriving: Arriving) -> None:
        """Unpacks what came. Raises AbsentError when it cannot be, PhotometrusError (disk)."""
        packed = arriving.path
        try:
            with _writing(arriving.part):
                unpack(
                    packed,
                    arriving.part,
                    as_float=self.kind not in ("raw", "raw_fz"),
                    max_bytes=self.limits.max_file_bytes,
                )
        except FrameError as error:
            raise AbsentError(str(error).removeprefix(f"{packed.name}: ")) from error


class _Connections:
    """The connections of one download: one per worker, fewer where the server allows fewer."""

    def __init__(self, connect: Callable[[], Transport]) -> None:
        self._connect = connect
        self._idle: deque[Transport] = deque()
        self._n_open = 0
        self._n_refused = 0
        self._changed = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[Transport]:
        """An idle connection or a new one; it is used again unless something broke on it."""
        transport = self._take()
        try:
            yield transport
        except AbsentError:
            self._give_back(transport)
            raise
        except BaseException:
            self._drop(transport)
            raise
        self._give_back(transport)

    def close(self) -> None:
        """Ends the idle ones: all, once nobody works."""
        while self._idle:
            self._idle.pop().close()

    def _take(self) -> Transport:
        """Raises BrokenError when there is no connection and none is to be had."""
        with self._changed:
            if self._idle:
                return self._idle.pop()
            if self._n_refused >= MAX_REFUSALS and not self._n_open:
                raise BrokenError(f"no connection after {self._n_refused} tries")
        try:
            transport = self._connect()
        except PhotometrusError as error:
            with self._changed:
                self._n_refused += 1
                # A server that allows no further connection still serves on those it has
                self._changed.wait_for(lambda: self._idle or not self._n_open)
                if self._idle:
                    return self._idle.pop()
            raise BrokenError(str(error)) from error
        with self._changed:
            self._n_open += 1
            self._n_refused = 0
        return transport

    def _give_back(self, transport: Transport) -> None:
        with self._changed:
            self._idle.append(transport)
            self._changed.notify_all()

    def _drop(self, transport: Transport) -> None:
        with self._changed:
            self._n_open -= 1
            self._changed.notify_all()
        transport.close()


@contextmanager
def _closed_at(end: float, transport: Transport) -> Iterator[None]:
    """Closes the connection when the time is up (of time.monotonic): a read may wait for longer."""
    watch = threading.Timer(max(0.0, end - time.monotonic()), transport.close)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns a failing disk into a StorageError, which ends the whole download."""
    with storing(path):
        yield
