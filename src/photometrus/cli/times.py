"""Moments as people write them."""

from datetime import UTC, datetime

MJD_OF_JD = 2400000.5
EARLIEST_MJD, LATEST_MJD = 40000.0, 100000.0
"""1968 to 2132: between them a number is a date."""


def moment(text: str) -> float:
    """MJD (UTC) from ISO (``2024-06-06T18:00:00.5``, blank or Z allowed), MJD or JD."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        return _from_iso(text)
    mjd = number - MJD_OF_JD if number > 2_000_000 else number
    if not EARLIEST_MJD <= mjd <= LATEST_MJD:
        raise ValueError("as a number expected MJD or JD, for example 60467.75 or 2460468.25")
    return mjd


def _from_iso(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expected UTC, for example 2024-06-06T18:00:00, or MJD") from None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    mjd = (at - datetime(1858, 11, 17, tzinfo=UTC)).total_seconds() / 86400.0
    if not EARLIEST_MJD <= mjd <= LATEST_MJD:
        raise ValueError("expected a moment between 1968 and 2132, for example 2024-06-06T18:00:00")
    return mjd
