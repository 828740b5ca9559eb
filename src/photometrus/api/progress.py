"""How far a call is: in a notebook, on a terminal, or told to a function."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from photometrus.cli.show import Screen
from photometrus.frame import Progress, no_progress

EVERY_S = 0.2
"""Between two updates of a notebook's cell."""
Tell = bool | Progress
"""True: shown where there is somebody to see it; False: silent; or a function (step, done, of)."""


@contextmanager
def shown(tell: Tell) -> Iterator[Progress]:
    """A function (step, done, of) for the recipes, while it lasts.

    What they log meanwhile is beside the bars of a terminal. Elsewhere it goes where the caller's
    logging sends it, and nowhere without that: what matters of it is in the results' notes.
    """
    if callable(tell):
        yield tell
        return
    display = notebook_display() if tell else None
    screen = Screen()
    if display is not None:
        with _no_last_resort(), Cell(display) as cell:
            yield cell.tell
    elif tell and screen.err.is_terminal:
        with screen.listening(), screen.progress(listed=False) as progress:
            yield progress
    else:
        with _no_last_resort():
            yield no_progress


def notebook_display() -> Callable[..., Any] | None:
    """The notebook's own function that shows things; None outside of one."""
    try:
        from IPython import get_ipython  # there when a notebook is
        from IPython.display import display
    except ImportError:
        return None
    shell = get_ipython()
    return display if getattr(shell, "kernel", None) is not None else None


@contextmanager
def _no_last_resort() -> Iterator[None]:
    """Without a handler Python would write warnings to the standard error."""
    logger = logging.getLogger("photometrus")
    silent = logging.NullHandler()
    logger.addHandler(silent)
    try:
        yield
    finally:
        logger.removeHandler(silent)


class Shown:
    """A piece of HTML, with its words for whoever shows none."""

    def __init__(self, html: str, text: str) -> None:
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


class Cell:
    """The steps that go on, a bar each, below a notebook's cell; told from any thread."""

    def __init__(self, display: Callable[..., Any]) -> None:
        self.steps: dict[str, tuple[int, int]] = {}
        self.lock = threading.Lock()
        self.begun = self.last = time.monotonic()
        self.handle = display(Shown("", ""), display_id=True)

    def __enter__(self) -> "Cell":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        word = "done in" if kind is None else "stopped after"
        text = f"{word} {time.monotonic() - self.begun:.1f} s"
        self.handle.update(Shown(f"<small>{text}</small>", text))

    def tell(self, step: str, done: int, of: int) -> None:
        """Move the bar of a step; a finished one goes away."""
        with self.lock:
            self.steps[step] = (done, of)
            now = time.monotonic()
            if now - self.last >= EVERY_S:
                self.last = now
                self.handle.update(self._now())
            if done >= of:
                del self.steps[step]

    def _now(self) -> Shown:
        bars = [
            f'<div><progress value="{done}" max="{max(of, 1)}"></progress> '
            f"<small>{escape(step)} {done}/{of}</small></div>"
            for step, (done, of) in self.steps.items()
        ]
        text = ", ".join(f"{step} {done}/{of}" for step, (done, of) in self.steps.items())
        return Shown("".join(bars), text)
