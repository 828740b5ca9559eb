"""What can go wrong, and who must act.

PhotometrusError            the command prints one line and exits with 1
├── UsageError              asked for something impossible; exit 2
├── MissingInput            a file, a flat or a night log is not there
├── FrameError              ONE frame is unusable: dropped, counted, reported
├── TooFewFrames            what is left cannot make the product
├── CalibrationRefused      a zero point cannot be trusted: no magnitudes with it
├── StorageError            the disk is full or refuses: ends the whole run
├── Held                    another run works in the folder
└── ServiceError            an archive, a catalogue or an external program failed

A message names the thing, its value, the limit and the way out.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PhotometrusError(Exception):
    """Anything that photometrus can explain; every other exception is a bug."""


class UsageError(PhotometrusError):
    """The user asked for something that cannot be: a band, a key, an empty selection."""


class MissingInput(PhotometrusError):  # noqa: N818 - reads as a sentence where it is raised
    """A file, a flat or a night log is not where it was looked for."""


class FrameError(PhotometrusError):
    """One frame is unusable. It costs that frame and nothing else."""


class TooFewFrames(PhotometrusError):  # noqa: N818
    """The frames that are left cannot make the product."""


class CalibrationRefused(PhotometrusError):  # noqa: N818
    """A zero point cannot be trusted: no magnitudes are given with it."""


class StorageError(PhotometrusError):
    """The disk is full, over quota, read-only or refuses: nothing more can be made on it."""


class Held(PhotometrusError):  # noqa: N818 - reads as a sentence where it is raised
    """Another run works in the folder."""


class ServiceError(PhotometrusError):
    """An archive, a catalogue service or an external program failed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the known word nearest to `word`, or an empty string."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
