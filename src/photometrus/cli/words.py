"""Text as it may be shown: in one line, without what steers a terminal, without passwords."""

import shlex
import unicodedata
from collections.abc import Sequence

from photometrus.passwords import without_password


def clean(text: object) -> str:
    """The text in one line, without anything that steers a terminal, and without passwords."""
    safe = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in str(text))
    return without_password(" ".join(safe.split()))


def retold(words: Sequence[str]) -> str:
    """The command as it was typed, for the record; without passwords."""
    return shlex.join(["photometrus", *map(without_password, words)])


def clock(seconds: float) -> str:
    """A time as ``0:07``, ``12:34`` or ``1:02:03``."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def rate(per_s: float) -> str:
    """How fast things go: ``4.2/s``, or ``12/min`` when they are slow."""
    return f"{per_s:.1f}/s" if per_s >= 1 else f"{60 * per_s:.0f}/min"
