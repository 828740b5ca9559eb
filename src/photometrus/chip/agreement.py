"""Whether a chip's frames belong together: what most of them say is right, who differs is lost."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from photometrus.frame import Frame, FrameInfo
from photometrus.instrument import DETECTOR_PIXELS, PIXEL_SCALE_ARCSEC
from photometrus.wcs import unit_vectors

MAX_APART_DEG = 2**0.5 * DETECTOR_PIXELS * PIXEL_SCALE_ARCSEC / 3600.0
"""A chip's diagonal: frames that point further apart have no pixel in common."""
ALONE_DAYS = 0.5
"""A frame that no other one is so near in time to is not of their night."""
FINGERPRINT_ROWS = 8
"""Rows by which two files are known to hold the same image."""

Doubt = tuple[Frame, str]
"""A frame that does not belong to the others, and why."""
Check = Callable[[Sequence[Frame]], Iterator[Doubt]]


def strangers(frames: Sequence[Frame]) -> list[Doubt]:
    """The frames that do not belong to most of the others, each with the first reason found."""
    left, found = list(frames), []
    checks: tuple[Check, ...] = (other_sizes, same_pixels, far_away, other_nights)
    for check in checks:
        doubts = list(check(left))
        found += doubts
        gone = {id(frame) for frame, _ in doubts}
        left = [frame for frame in left if id(frame) not in gone]
    return found


def other_sizes(frames: Sequence[Frame]) -> Iterator[Doubt]:
    """Frames of another size than most."""
    shapes = Counter(frame.pixels.shape for frame in frames)
    for frame in frames:
        (ny, nx), usual = frame.pixels.shape, shapes.most_common(1)[0][0]
        if (ny, nx) != usual:
            yield frame, f"{nx} x {ny} pixels, the others {usual[1]} x {usual[0]}"


def same_pixels(frames: Sequence[Frame]) -> Iterator[Doubt]:
    """Frames with the very pixels of an earlier one, whatever their headers say."""
    seen: dict[bytes, str] = {}
    for frame in frames:
        mark = fingerprint(frame)
        if mark is None:
            continue
        first = seen.setdefault(mark, frame.name)
        if first != frame.name:
            yield frame, f"a duplicate: its pixels are those of {first}"


def fingerprint(frame: Frame) -> bytes | None:
    """What tells two images apart: noise is never the same twice. None for one without any."""
    ny = frame.pixels.shape[0]
    step = max(1, ny // FINGERPRINT_ROWS)
    rows = [frame.pixels.rows(y, y + 1) for y in range(step // 2, ny, step)]
    data = np.concatenate([row[bad == 0] for row, bad in rows])
    if data.size == 0 or data.min() == data.max():
        return None
    return hashlib.blake2b(data.tobytes(), digest_size=16).digest()


def far_away(frames: Sequence[Frame]) -> Iterator[Doubt]:
    """Frames that point so far from where most do that they have no pixel in common."""
    if not frames:
        return
    apart = _apart([frame.info for frame in frames])
    middle = _middle(apart)
    for k, frame in enumerate(frames):
        if apart[k, middle] > MAX_APART_DEG:
            reason = (
                f"points {apart[k, middle]:.1f} deg from the others, at most "
                f"{MAX_APART_DEG:.1f} allowed: another field, or a wrong RA or DEC"
            )
            yield frame, reason


def central(infos: Sequence[FrameInfo]) -> FrameInfo:
    """The frame near which most others point, and of these the one in the middle."""
    return infos[_middle(_apart(infos))]


def _apart(infos: Sequence[FrameInfo]) -> NDArray[Any]:
    """The angle between any two pointings, degrees: float64 (n, n)."""
    places = [(info.ra_deg, info.dec_deg) for info in infos]
    vectors = unit_vectors(*np.transpose(places))
    return np.degrees(np.arccos(np.clip(vectors @ vectors.T, -1.0, 1.0)))


def _middle(apart: NDArray[Any]) -> int:
    near = apart <= MAX_APART_DEG
    reach = np.where(near, apart, 0.0).sum(axis=1) / MAX_APART_DEG  # below the number of neighbours
    return int(np.argmax(near.sum(axis=1) - reach / apart.shape[0]))


def other_nights(frames: Sequence[Frame]) -> Iterator[Doubt]:
    """Frames alone in their night while most are of another: their clocks jumped.

    frames : in order of time
    """
    begins = np.array([frame.info.begin_mjd for frame in frames])
    nights = np.split(np.arange(begins.size), np.flatnonzero(np.diff(begins) > ALONE_DAYS) + 1)
    main = max(nights, key=len)
    if 2 * len(main) <= begins.size:
        return
    usual = float(np.median(begins[main]))
    for night in nights:
        if len(night) == 1:
            (k,) = night
            days = begins[k] - usual
            when = "after" if days > 0 else "before"
            yield (
                frames[k],
                f"its clock says {_date(begins[k])}, {abs(days):.1f} days {when} the others",
            )


def _date(mjd: float) -> str:
    return f"{datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=float(mjd)):%Y-%m-%d}"


def odd_clocks(frames: Sequence[Frame]) -> list[str]:
    """What is odd about the frames' clocks though none is lost for it.

    frames : in order of time
    """
    notes = []
    again = [b for a, b in zip(frames, frames[1:], strict=False) if _begin(a) == _begin(b)]
    if again:
        notes.append(
            f"clock: {again[0].name} {_more(again)}at the very time of the frame before, "
            "with other pixels"
        )
    back = [
        b
        for a, b in zip(frames, frames[1:], strict=False)
        if b.info.ramp.serial < a.info.ramp.serial
    ]
    if back:
        notes.append(
            f"clock: {back[0].name} {_more(back)}later by the clock than by the number; "
            "the frames are taken in the clock's order"
        )
    return notes


def _begin(frame: Frame) -> float:
    return frame.info.begin_mjd


def _more(frames: Sequence[Frame]) -> str:
    return "begins " if len(frames) == 1 else f"and {len(frames) - 1} more begin "
