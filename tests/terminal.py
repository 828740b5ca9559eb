"""A command on a real pseudo-terminal, and what a person would see there."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pyte


class Terminal:
    """``photometrus`` with some words, on a terminal of so many columns and rows.

    raw : all bytes that came; screen : pyte's picture of them; frames : all pictures so far
    """

    def __init__(
        self, words: Sequence[str], columns: int = 80, rows: int = 30,
        env: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.frames: list[str] = []
        self.lock = threading.Lock()
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        clean = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "photometrus", *words],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=clean | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | dict(env or {}),
            preexec_fn=_take_terminal,
        )  # fmt: skip
        os.close(slave)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                return
            with self.lock:
                self.raw += data
                self.stream.feed(data)
                self.frames.append(self._picture())

    def _picture(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def text(self) -> str:
        """What is on the screen now, without empty lines at the end."""
        with self.lock:
            return self._picture()

    def until(self, seen: Callable[[str], bool], timeout_s: float = 240.0) -> str:
        """The first screen that is as it should be."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            text = self.text()
            if seen(text):
                return text
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"never seen; at last:\n{self.text()}")

    def type(self, keys: bytes) -> None:
        """Keys: Ctrl-C is 0x03, for which the terminal sends SIGINT to all in front of it."""
        os.write(self.master, keys)

    def wait(self, timeout_s: float = 240.0) -> int:
        """The exit code."""
        code = self.process.wait(timeout_s)
        self.reader.join(5)
        return code

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.reader.join(5)
        os.close(self.master)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
