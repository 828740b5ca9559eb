"""The log file of an observation: all that was told, with times, run after run."""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_BYTES = 10_000_000
N_OLDER = 3
"""photometrus.log.1 is the one before, .3 the oldest that is kept."""


class Journal(RotatingFileHandler):
    """Writes log records of all levels, and lines that are given to it, to a file.

    tidy : makes a line of what may hold anything; complain : told once, when the disk fails. The
    run goes on then, without its journal. Raises OSError when the file cannot be opened.
    """

    def __init__(
        self, path: Path, tidy: Callable[[str], str], complain: Callable[[str], None]
    ) -> None:
        super().__init__(path, maxBytes=MAX_BYTES, backupCount=N_OLDER, encoding="utf-8")
        self.setLevel(logging.DEBUG)
        self.setFormatter(_Lines(tidy))
        self.complain = complain
        self.failed = False

    def write(self, text: str, level: int = logging.INFO) -> None:
        """One line."""
        self.handle(logging.LogRecord("photometrus", level, "", 0, text, (), None))

    def write_bug(self, error: BaseException) -> None:
        """What nobody has foreseen, with the way to it."""
        what = (type(error), error, error.__traceback__)
        self.handle(logging.LogRecord("photometrus", logging.CRITICAL, "", 0, "a bug", (), what))

    def close(self) -> None:
        """Close the file; what the disk did not take is lost."""
        with suppress(OSError):
            super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, unless the disk has failed before."""
        if not self.failed:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's
        """Say once that the disk has failed; no run ends for that."""
        self.failed = True
        self.complain(
            f"{self.baseFilename}: cannot be written ({sys.exception()}); the run goes on without"
        )


class _Lines(logging.Formatter):
    """``2026-06-06T18:00:00.123Z INFO chip.run: text``, each record in lines that begin so."""

    def __init__(self, tidy: Callable[[str], str]) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)-7s ", "%Y-%m-%dT%H:%M:%S")
        self.tidy = tidy

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's
        """The record's, in UTC."""
        return time.strftime(datefmt or "", time.gmtime(record.created))

    def format(self, record: logging.LogRecord) -> str:
        record.asctime = self.formatTime(record, self.datefmt)
        begin = self.formatMessage(record)
        where = record.name.removeprefix("photometrus").removeprefix(".")
        lines = [f"{where}: {record.getMessage()}" if where else record.getMessage()]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        return "\n".join(begin + self.tidy(line) for line in lines)
