"""Ctrl-C and other wishes to end: an orderly end within two seconds, whatever runs.

The first signal raises `Stopped` in the main thread, and everything that is open is closed on its
way up; then the process ends. A thread or a process that does not come to an end in time is not
waited for: files are written whole or not at all, so nothing is lost that was finished. A second
signal ends at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

GRACE_S, HUSH_S = 1.5, 0.3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOW_CURSOR = "\x1b[?25h"


class Stopped(KeyboardInterrupt):
    """Somebody wants us to end."""


class Stopping:
    """What is done when a signal comes.

    words : for the user, who is told them once
    hush : stops what moves on the terminal; to be set by who begins it
    """

    def __init__(self, words: str) -> None:
        self.words = words
        self.hush: Callable[[], None] = _do_nothing
        self._stream = sys.stderr  # as it is before anything is drawn on it
        self._told = threading.Lock()
        self._code = 0

    def __call__(self, number: int, _: FrameType | None) -> None:
        """A signal has come."""
        if self._code:
            self.leave()
        self._code = 128 + number
        clock = threading.Timer(GRACE_S, self.leave)
        clock.daemon = True
        clock.start()
        # In a thread: what was interrupted may hold a lock that is needed for it.
        hush = threading.Thread(target=self.hush, daemon=True)
        hush.start()
        hush.join(HUSH_S)
        raise Stopped

    def leave(self) -> NoReturn:
        """End without waiting for anything, with all processes that were started."""
        import psutil

        with suppress(OSError, ValueError):
            if self._stream.isatty():
                self._stream.write(SHOW_CURSOR)
            if self._told.acquire(blocking=False):
                self._stream.write(self.words)
            self._stream.flush()
            sys.stdout.flush()
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
        os._exit(self._code)


@contextmanager
def stoppable(words: str) -> Iterator[Stopping]:
    """While it lasts, signals end the process in good order; only in the main thread.

    words : what the user is told then
    """
    stopping = Stopping(words)
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup, or a job in the background: that is its wish
            signal.signal(number, stopping)
    hook, sys.unraisablehook = sys.unraisablehook, _quiet_about_stops(sys.unraisablehook)
    try:
        yield stopping
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _do_nothing() -> None:
    """Nothing moves."""


def _quiet_about_stops(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A stop that comes while Python clears something away is no news."""

    def tell(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Stopped):
            hook(unraisable)

    return tell
