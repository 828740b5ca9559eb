"""Numbers as words and columns as arrays; what is not known is a dash and a NaN."""

from typing import Any

import numpy as np
from astropy.table import Table

Array = Any  # float64 array

UNKNOWN = "–"


def column(table: Table, name: str) -> Array:
    """A column of numbers: float64 (n,), NaN where it is masked."""
    return np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan)


def finite(values: Array) -> Array:
    """The values that are known: float (m,)."""
    return values[np.isfinite(values)]


def number(value: float, digits: int, unit: str = "") -> str:
    """20.84, with a minus that is as wide as a digit."""
    return f"{value:.{digits}f}{unit}".replace("-", "−") if np.isfinite(value) else UNKNOWN


def signed(value: float, digits: int) -> str:
    """+0.034; a value that rounds to zero has a plus."""
    rounded = round(value, digits) + 0.0 if np.isfinite(value) else value
    return f"{rounded:+.{digits}f}".replace("-", "−") if np.isfinite(value) else UNKNOWN


def within(value: float, *errors: float, digits: int, sign: bool = False) -> str:
    """20.84 ± 0.03; what is not known is left out, a small error gets a digit more."""
    known = [err for err in errors if np.isfinite(err)]
    if any(0 < err < 0.95 * 10**-digits for err in known):
        digits += 1
    words = signed(value, digits) if sign else number(value, digits)
    return " ± ".join([words, *(f"{err:.{digits}f}" for err in known)])


def shortened(text: str, letters: int) -> str:
    """The text, or its beginning when it has more letters."""
    return text if len(text) <= letters else text[: letters - 1] + "…"
