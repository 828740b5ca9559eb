"""The command line: words to values, values to ONE call of a recipe; the only room that prints."""

import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from photometrus import __version__
from photometrus.allocator import share_one_pool
from photometrus.cli import parser
from photometrus.cli.command import DONE, FAILED, USAGE
from photometrus.cli.stopping import Stopped, Stopping, stoppable
from photometrus.cli.words import clean, retold
from photometrus.errors import PhotometrusError, UsageError
from photometrus.passwords import refuse_password

STOPPED = "stopped; what is finished is kept. To go on:\n  {}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of `argv` (default: the process's); its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 is no reason to fail
    with stoppable(STOPPED.format(clean(retold(words)))) as stopping:
        try:
            return _run(words, stopping)
        except PhotometrusError as error:
            sys.stderr.write(f"{clean(error)}\n")
            return USAGE if isinstance(error, UsageError) else FAILED
        except Stopped:
            stopping.leave()
        except BrokenPipeError:
            # Whoever reads us, head for example, has enough; Python's own last flush must not fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED


def _run(words: list[str], stopping: Stopping) -> int:
    if not words:
        sys.stdout.write(parser.short_help())
        return DONE
    if words[0].lstrip("-") in ("h", "help"):
        if not words[1:]:
            sys.stdout.write(parser.long_help(__version__))
            return DONE
        words = [*words[1:], "-h"]  # `photometrus help pipeline`
    if words[0] in ("-version", "--version", "-V", "version"):
        sys.stdout.write(f"photometrus {__version__}\n")
        return DONE
    for word in words:
        refuse_password(word, "on the command line, where everyone on this machine can read it")
    command, rest = parser.find_command(words)
    try:
        given = parser.parse(command, rest)
    except SystemExit:  # argparse has printed the help
        return DONE
    share_one_pool()
    # What does the work takes a second to import: not before it is clear that there is work.
    with _without_collecting():
        from photometrus.cli.order import Order
        from photometrus.cli.show import Screen

    _hush_libraries()
    screen = Screen(quiet="quiet" in given, verbose="verbose" in given)
    stopping.hush = screen.hush
    with screen.listening():
        code = command.run(Order(command, given, screen, retold(words)))
        screen.end(code)
        return code


@contextmanager
def _without_collecting() -> Iterator[None]:
    """While modules are imported nothing is garbage: to look for it takes a tenth of a second."""
    usual = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if usual:
            gc.enable()


def _hush_libraries() -> None:
    """Keep Python from printing, raw and with tracebacks, what libraries log of what we explain."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.NullHandler())
