"""Ramps on disk: their rows on demand, and what their headers say in our words.

Whatever a file may be, it is a ramp or a FrameError that says why it is none.
"""

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.io.fits.verify import VerifyError
from astropy.time import Time

from photometrus.errors import FrameError, MissingInput
from photometrus.frame import FrameInfo, Image
from photometrus.instrument import DETECTOR_PIXELS, FRAME_TIME_S, band_of
from photometrus.io.damage import UNREADABLE, one_line, readable, reading
from photometrus.io.fitsfile import STRUCTURE
from photometrus.io.fz import beginning, open_fits
from photometrus.kernels.detrend import swap_bytes
from photometrus.products import parse_ramp

MIN_PIXELS = 64
"""Frames smaller than this on a side are no window of a detector."""
MAX_EXPOSURE_S = 1e4
"""No ramp is longer: what says so is wrong."""
FRAME_TIMES_S = (0.01, 1000.0)
"""Between these FRTIME is believed."""
MAX_READS = 10_000
MJD_LIMITS = (50000.0, 90000.0)
"""1995 to 2105: outside a clock is wrong."""
SAID_ONCE = ("CHIP", "FILTER1", "FILTER2", "RA-D", "DEC-D", "MJD-BEG", "EXPTIMEE", "NFRAMES")
"""Keywords of which a header must not say two things."""


@dataclass(frozen=True, eq=False)
class RawRows:
    """Rows of a ramp file, read when asked for: native float32, border included."""

    path: Path
    hdu: int
    shape: tuple[int, int]
    offset: int | None
    """Where plain big-endian float32 pixels begin; None: read through astropy."""

    def rows(self, y0: int, y1: int) -> Image:
        """float32 (y1 - y0, nx); FrameError when the file can no longer be read."""
        return next(self.strips(y0, y1, y1 - y0))

    def strips(self, y0: int, y1: int, height: int) -> Iterator[Image]:
        """The rows in strips of some rows, each of which is overwritten by the next.

        So they stay in the processor's cache. float32 (height or, the last, fewer, nx); FrameError
        as above.
        """
        try:
            if self.offset is not None:
                yield from self._plain(y0, y1, height)
            else:
                rows = self._decoded(y0, y1)
                yield from (rows[y : y + height] for y in range(0, y1 - y0, height))
        except UNREADABLE as error:
            raise FrameError(
                f"{self.path.name}: rows {y0} to {y1} cannot be read ({one_line(error)})"
            ) from error

    def _plain(self, y0: int, y1: int, height: int) -> Iterator[Image]:
        nx = self.shape[1]
        bits = np.empty(min(height, y1 - y0) * nx, np.uint32)
        with self.path.open("rb") as file:
            file.seek((self.offset or 0) + 4 * y0 * nx)
            for y in range(y0, y1, height):
                some = bits[: min(height, y1 - y) * nx]
                if file.readinto(some.data) != some.nbytes:
                    raise OSError("the file ends before them")
                if sys.byteorder == "little":
                    swap_bytes(some)
                yield some.view(np.float32).reshape(-1, nx)

    def _decoded(self, y0: int, y1: int) -> Image:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(self.path, memmap=False) as hdus:
                return np.ascontiguousarray(hdus[self.hdu].section[y0:y1], dtype=np.float32)


def open_ramp(path: Path) -> tuple[fits.Header, RawRows]:
    """The header of a ramp's image and its rows on demand.

    The image is the first two-dimensional one, in the primary HDU or an extension, compressed or
    not; an extension has the primary HDU's cards, too, where it does not say otherwise. Cards that
    cannot be read, or say nothing, are left out of the header.
    Raises MissingInput when there is no such file, FrameError when it is no ramp: not FITS,
    truncated, not a detector's size, pixels that cannot be decoded.
    """
    name = path.name
    if not path.exists():
        raise MissingInput(
            f"{path}: not there; check the name, or `photometrus getdata` fetches it"
        )
    with reading(name, "FITS", FrameError):
        wrong = beginning(path)
        if wrong:
            raise FrameError(f"{name}: not readable as FITS ({wrong})")
        # "File may have been truncated" is a warning: said below, as an error of ours.
        header, raw, end = _first_image(path)
        n_bytes = path.stat().st_size
        if n_bytes < end:
            raise FrameError(f"{name}: truncated, {n_bytes} bytes of {end}; download it again")
        if raw.offset is None:
            _check_pixels(raw)
    return header, raw


def _first_image(path: Path) -> tuple[fits.Header, RawRows, int]:
    """The header of the first image, its rows, and the byte at which the file may end."""
    name = path.name
    with open_fits(path, memmap=True) as hdus:
        axes = [int(hdu.header["NAXIS"]) if hdu.is_image else 0 for hdu in hdus]
        if 2 not in axes:
            found = f"; found {max(axes)} axes" if any(axes) else ""
            raise FrameError(f"{name}: no two-dimensional image in it{found}")
        index = axes.index(2)
        hdu = hdus[index]
        shape = (int(hdu.header["NAXIS2"]), int(hdu.header["NAXIS1"]))
        if not MIN_PIXELS <= min(shape) <= max(shape) <= DETECTOR_PIXELS:
            raise FrameError(
                f"{name}: {shape[1]} x {shape[0]} pixels; a ramp has {DETECTOR_PIXELS} or is a "
                f"window of at least {MIN_PIXELS}"
            )
        header = readable(hdu.header)
        if index > 0:
            header.extend(
                [card for card in readable(hdus[0].header).cards if card.keyword not in STRUCTURE],
                unique=True,
            )
        compressed = isinstance(hdu, fits.CompImageHDU)
        if compressed and max(hdu.tile_shape) > DETECTOR_PIXELS:
            raise FrameError(f"{name}: tiles of {hdu.tile_shape} pixels, larger than the image")
        plain = (
            not compressed
            and hdu.header["BITPIX"] == -32
            and hdu.header.get("BZERO", 0) == 0
            and hdu.header.get("BSCALE", 1) == 1
        )
        place = hdu.fileinfo()
    if not plain:
        return header, RawRows(path, index, shape, None), place["datLoc"] + place["datSpan"]
    offset = int(place["datLoc"])
    return header, RawRows(path, index, shape, offset), offset + 4 * shape[0] * shape[1]


def _check_pixels(raw: RawRows) -> None:
    """Decode all pixels once: a broken tile must not show itself in the middle of a reduction."""
    with fits.open(raw.path, memmap=False) as hdus:
        shape = np.shape(hdus[raw.hdu].data)
    if shape != raw.shape:
        raise FrameError(f"{raw.path.name}: its pixels are {shape}, its header says {raw.shape}")


def frame_info(header: fits.Header, path: Path) -> FrameInfo:
    """What a ramp's header says, in our words and units.

    Raises FrameError when what cannot be done without is missing, absurd or said twice: position,
    filters, time, exposure; or when the header's chip is not the name's.
    """
    ramp = parse_ramp(path.name)
    name = str(ramp)
    for key in SAID_ONCE:
        _check_said_once(header, key, name)
    chip = _number(header, "CHIP")
    if chip is not None and chip != ramp.chip:
        raise FrameError(f"{name}: header says chip {chip:g}, the name says {ramp.chip}")
    filters = (_text(header, "FILTER1"), _text(header, "FILTER2"))
    band = band_of(*filters)
    if band is None:
        raise FrameError(
            f"{name}: filters {filters[0][:20]!r} {filters[1][:20]!r} are no band of PRIME"
        )
    ra, dec = _position(header, name)
    frame_time = _within(_number(header, "FRTIME"), *FRAME_TIMES_S) or FRAME_TIME_S
    reads = int(_within(_number(header, "NFRAMES"), 2, MAX_READS) or 0)
    exposure = _number(header, "EXPTIMEE")
    if exposure is None and reads:
        exposure = (reads - 1) * frame_time
    if exposure is None or not 0 < exposure < MAX_EXPOSURE_S:
        said = _text(header, "EXPTIMEE")[:20]
        raise FrameError(f"{name}: no usable EXPTIMEE ({said!r}) or NFRAMES")
    if not reads:
        reads = round(exposure / frame_time) + 1
    begin, end = _times(header, name, reads * frame_time)
    return FrameInfo(
        ramp=ramp,
        band=band,
        ra_deg=ra,
        dec_deg=dec,
        rotator_deg=_rotator(header),
        exposure_s=float(exposure),
        begin_mjd=begin,
        end_mjd=end,
        reads=reads,
        dither_radius_arcsec=_number(header, "DITHRAD") or 0.0,
    )


def _check_said_once(header: fits.Header, key: str, name: str) -> None:
    """FrameError when a keyword is there more than once, with different values."""
    times = header.count(key) if key in header else 0
    values = list(dict.fromkeys(str(header[key, k]).strip() for k in range(times)))
    if len(values) > 1:
        said = " and ".join(repr(value[:20]) for value in values[:3])
        raise FrameError(f"{name}: the header says {key} more than once, {said}")


def _within(value: float | None, low: float, high: float) -> float | None:
    """The value, None when it is not between the limits."""
    return value if value is not None and low <= value <= high else None


def _number(header: fits.Header, key: str) -> float | None:
    """A keyword as a finite float; None when it is missing or is no number."""
    try:
        value = float(header[key])
    except (KeyError, ValueError, TypeError, OverflowError, VerifyError):
        return None
    return value if np.isfinite(value) else None


def _text(header: fits.Header, key: str) -> str:
    """A keyword as text; empty when it is missing or its card cannot be read."""
    try:
        return str(header.get(key, ""))
    except VerifyError:
        return ""


def _rotator(header: fits.Header) -> float | None:
    """ROTOFF in degrees (172800 is arcsec, as the planner writes it); None when unreadable."""
    value = _number(header, "ROTOFF")
    if value is not None and abs(value) > 360:
        value /= 3600.0
    return value if value is not None and abs(value) <= 360 else None


def _position(header: fits.Header, name: str) -> tuple[float, float]:
    """RA and Dec of the telescope axis, degrees: RA-D and DEC-D, else the sexagesimal strings."""
    ra, dec = _number(header, "RA-D"), _number(header, "DEC-D")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of 60 seconds, which are the next minute
            if ra is None:
                ra = Angle(_text(header, "RA"), unit="hourangle").degree
            if dec is None:
                # Angle keeps the sign of "-00:31:12", which int("-00") loses.
                dec = Angle(_text(header, "DEC"), unit="deg").degree
    except (ValueError, TypeError) as error:
        raise FrameError(f"{name}: no readable pointing in RA/DEC or RA-D/DEC-D") from error
    if not (-360 <= ra <= 720 and -90 <= dec <= 90):
        raise FrameError(f"{name}: pointing RA {ra} Dec {dec} is not on the sky")
    return float(ra) % 360.0, float(dec)


def _times(header: fits.Header, name: str, length_s: float) -> tuple[float, float]:
    """MJD (UTC) of the begin and the end of the ramp."""
    begin = _number(header, "MJD-BEG")
    if begin is None:
        for key in ("DATE-BEG", "DATE-OBS", "EXPSTART"):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of years whose leap seconds nobody knows
                    begin = float(Time(_text(header, key), format="isot", scale="utc").mjd)
                break
            except ValueError:
                continue
    if begin is None:
        raise FrameError(f"{name}: no usable time in MJD-BEG or DATE-BEG")
    if not MJD_LIMITS[0] < begin < MJD_LIMITS[1]:
        raise FrameError(f"{name}: no usable time in MJD-BEG or DATE-BEG: MJD {begin:g}")
    end = _number(header, "MJD-END")
    if end is None or not 0 <= (end - begin) * 86400 < 20 * length_s + 60:
        end = begin + length_s / 86400
    return begin, end
