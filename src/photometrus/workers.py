"""Do one thing to many items: here or in threads; keep what failed."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TypeVar

from photometrus.errors import FrameError

Item = TypeVar("Item")
Result = TypeVar("Result")
Each = Callable[..., Iterable[Any]]
"""Has the signature of the builtin ``map``: results come in order."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(n: int) -> Iterator[Each]:
    """A ``map`` over n threads; the kernels release the interpreter lock."""
    if n <= 1:
        yield map
        return
    pool = ThreadPoolExecutor(n, thread_name_prefix="photometrus")
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)  # whoever is interrupted waits for what runs, no more


def load_meanwhile(module: str) -> None:
    """Import a module in a thread, while others read and calculate: it will be wanted later."""
    threading.Thread(target=import_module, args=(module,), name=f"import {module}").start()


def meanwhile(function: Callable[[], Result]) -> Callable[[], Result]:
    """Begin something in a thread; what is returned waits for its result, or raises its error.

    Nobody waits for it when the work is stopped.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - who asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="meanwhile").start()
    return future.result


def try_each(
    function: Callable[[Item], Result], items: Sequence[Item], each: Each = map
) -> tuple[list[tuple[Item, Result]], list[tuple[Item, FrameError]]]:
    """What `function` made of each item, and what it could not use: (done, lost), in order.

    Only FrameError counts as lost; anything else is the caller's to know.
    """

    def attempt(item: Item) -> Result | FrameError:
        try:
            return function(item)
        except FrameError as error:
            return error

    done: list[tuple[Item, Result]] = []
    lost: list[tuple[Item, FrameError]] = []
    for item, result in zip(items, each(attempt, items), strict=True):
        if isinstance(result, FrameError):
            lost.append((item, result))
        else:
            done.append((item, result))
    return done, lost
