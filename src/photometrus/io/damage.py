"""What damaged files do to those who read them, made an error of ours."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from astropy.io import fits
from astropy.io.fits.hdu.compressed._compression import CfitsioException
from astropy.io.fits.verify import VerifyError

from photometrus.errors import PhotometrusError

UNREADABLE = (OSError, VerifyError, CfitsioException, ValueError, TypeError, LookupError,
              ArithmeticError, AttributeError, AssertionError, UnboundLocalError, RuntimeError,
              MemoryError, SyntaxError, zlib.error, struct.error)  # fmt: skip
"""What astropy raises on files that are broken: all of these were seen by benchmarks/fuzz.py."""


@contextmanager
def reading(path: object, what: str, raised: type[PhotometrusError]) -> Iterator[None]:
    """Turn what a library raises on a broken file into one sentence of ours; its warnings go.

    path : the name in the message; what : what the file should be, ``FITS``
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UNREADABLE as error:
        raise raised(f"{path}: not readable as {what} ({one_line(error)})") from error


def readable(header: fits.Header) -> fits.Header:
    """A copy without the cards that break the standard so that they cannot be read, or say nothing.

    Whoever asks for one of them later finds it missing, and need not know more.
    """
    good = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for card in header.cards:
            try:
                said = not isinstance(card.value, fits.card.Undefined) and card.comment is not None
            except UNREADABLE:
                continue
            if said:
                good.append(card)
    return fits.Header(good, copy=True)


def one_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind when it says nothing."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
