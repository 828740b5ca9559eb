"""What damaged files do to those who read them, made an error of ours."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from astropy.io.fits.hdu.compressed._compression import CfitsioException
from astropy.io.fits.verify import VerifyError

from photometrus.errors import PhotometrusError

UNREADABLE = (OSError, VerifyError, CfitsioException, ValueError, TypeError, LookupError,
              ArithmeticError, AttributeError, AssertionError, RuntimeError, MemoryError,
              NotImplementedError, zlib.error, struct.error)  # fmt: skip
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


def one_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind when it says nothing."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
