"""What travels through the pipeline: frames, their pixels on demand, the stack."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Any, Protocol

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS
from numpy.typing import NDArray

from photometrus.cards import card, figure
from photometrus.products import RampId

Image = NDArray[Any]  # float32 (ny, nx)
Flags = NDArray[Any]  # uint8 (ny, nx), bits of Bad


class Bad(IntFlag):
    """Why a pixel must not be used; 0 = good. The one registry of flags."""

    DEAD = 1
    """No or odd response in the flat."""
    HOT = 2
    """Signal far from its neighbours', in the sky of the whole sequence or in many frames."""
    UNSOLVED = 4
    """The ramp could not be fitted: 65535 or NaN."""
    SATURATED = 8
    """A star's saturated core, and the pixels around it that its charge reaches."""
    COSMIC = 16
    """A cosmic ray: far above what the other frames say; with one frame: sharper than a star."""
    TRAIL = 32
    """On the trail of a satellite."""
    PERSISTENCE = 64
    """Still glows from a star that saturated it in an earlier frame."""
    EDGE = 128
    """In a stack: no frame reaches here."""


ON_BAD, EXTENDED = 1, 2
"""Flags of a source: its core is on bad pixels; it is longer than a star (a trail, a galaxy)."""


@dataclass(frozen=True, eq=False)
class Marks:
    """Flags of a few pixels of a frame: flat indices, int64, sorted; and their flags, uint8."""

    index: NDArray[Any]
    flags: NDArray[Any]

    def add_to(self, bad: Flags, y0: int) -> None:
        """Set them in rows y0... of a frame's flags, in place."""
        nx = bad.shape[1]
        first, last = np.searchsorted(self.index, [y0 * nx, (y0 + bad.shape[0]) * nx])
        bad.reshape(-1)[self.index[first:last] - y0 * nx] |= self.flags[first:last]

    def __or__(self, other: "Marks") -> "Marks":
        index = np.union1d(self.index, other.index)
        flags = np.zeros(index.size, np.uint8)
        for marks in (self, other):
            flags[np.searchsorted(index, marks.index)] |= marks.flags
        return Marks(index, flags)

    def count(self, flag: Bad) -> int:
        """How many pixels have a flag."""
        return int(np.count_nonzero(self.flags & flag))


NO_MARKS = Marks(np.empty(0, np.int64), np.empty(0, np.uint8))


class Pixels(Protocol):
    """Pixels on demand: rows of a calibrated frame, wherever they come from.

    ``rows(y0, y1)`` returns new arrays: float32 (y1 - y0, nx) in ADU per frame, finite everywhere,
    and uint8 flags of the same shape.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the trimmed image."""
        ...

    def rows(self, y0: int, y1: int) -> tuple[Image, Flags]:
        """Calibrated rows y0 to y1 and their flags."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayPixels:
    """Pixels that are already in memory."""

    data: Image
    bad: Flags

    def __post_init__(self) -> None:
        if self.data.dtype != np.float32 or self.bad.dtype != np.uint8:
            raise TypeError(f"want float32 and uint8, got {self.data.dtype} and {self.bad.dtype}")
        if self.data.ndim != 2 or self.data.shape != self.bad.shape:
            raise ValueError(f"data {self.data.shape} and flags {self.bad.shape} do not fit")

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.data.shape

    def rows(self, y0: int, y1: int) -> tuple[Image, Flags]:
        """Copies of rows y0 to y1 and of their flags."""
        return self.data[y0:y1].copy(), self.bad[y0:y1].copy()


class BorrowedPixels(ArrayPixels):
    """Pixels in memory for somebody who only looks at them."""

    def rows(self, y0: int, y1: int) -> tuple[Image, Flags]:
        """Rows y0 to y1 and their flags themselves: not to be written to."""
        return self.data[y0:y1], self.bad[y0:y1]


@dataclass(frozen=True)
class FrameInfo:
    """What the header says, in our words and units."""

    ramp: RampId
    band: str
    ra_deg: float
    dec_deg: float
    rotator_deg: float | None
    """None: the header has no readable rotator offset."""
    exposure_s: float
    """Slope baseline, EXPTIMEE."""
    begin_mjd: float
    end_mjd: float
    reads: int
    dither_radius_arcsec: float

    @property
    def name(self) -> str:
        """``01599131C2``."""
        return str(self.ramp)

    @property
    def middle_mjd(self) -> float:
        """Mid-exposure, UTC."""
        return 0.5 * (self.begin_mjd + self.end_mjd)


@dataclass(frozen=True)
class Solution:
    """How well a frame's astrometry is known, and by which step of the ladder."""

    level: str
    """The ladder, from the top: ``full``, a distortion by the chip's own stars; ``affine``, too few
    for that, the stored one or the template's is held; ``shift``, too few for the frame's linear
    terms; ``relative``, against the other frames, without a catalogue; ``pointing``, its stars do
    not confirm where it is: it does not enter the stack."""
    n_matched: int
    rms_arcsec: float
    """Per axis, against the reference catalogue; NaN without one."""
    internal_rms_arcsec: float
    """Per axis, against the same stars in the other frames; NaN for a single frame."""
    reason: str
    """Why the ladder ended here."""


@dataclass(frozen=True)
class Quality:
    """What was measured on one frame."""

    sky_adu: float
    noise_adu: float
    """Scatter of one sky pixel."""
    seeing_arcsec: float
    ellipticity: float
    n_sources: int
    transparency: float
    """Flux of its stars relative to the median frame; NaN until it is known."""


NOT_MEASURED = Quality(
    sky_adu=float("nan"),
    noise_adu=float("nan"),
    seeing_arcsec=float("nan"),
    ellipticity=float("nan"),
    n_sources=0,
    transparency=float("nan"),
)
NOT_SOLVED = Solution("", 0, float("nan"), float("nan"), "not tried")


@dataclass(frozen=True, eq=False)
class Frame:
    """A handle on one calibrated ramp: small; pixels come when they are asked for."""

    info: FrameInfo
    header: Header
    pixels: Pixels
    wcs: WCS
    quality: Quality = NOT_MEASURED
    solution: Solution = NOT_SOLVED

    @property
    def name(self) -> str:
        """``01599131C2``."""
        return self.info.name


@dataclass(frozen=True, eq=False)
class Coadd:
    """A stack: float32 image in ADU per frame of the reference frame, inverse variance, WCS."""

    data: Image
    weight: Image
    wcs: WCS
    n_frames: int
    rejected_fraction: float
    measures: dict[str, tuple[float, str]] = field(default_factory=dict)
    """FITS keyword: (value, comment)."""
    rejected: Image | None = None
    """Share of the values, by weight, rejected in blocks of `rejected_side` pixels: float32, NaN
    where there was no value; None when nobody counted."""
    rejected_side: int = 1
    flags: Flags | None = None
    """Bits of Bad that some frame has at each pixel; EDGE where none reaches; None when unknown."""
    pixel_scatter: float = float("nan")
    """Scatter of one pixel in units of what its weight says; NaN when unknown. Resampling averages
    neighbours: sums over many pixels scatter as the weights say, one pixel by less."""


@dataclass(frozen=True)
class StackInfo:
    """What the header of a stack says, in our words and units; NaN or empty where it is silent."""

    name: str
    """Of the file, without endings: ``coadd.Open-J.01599131-01599173.C3``."""
    target: str
    band: str
    chip: int
    """0: not one of PRIME's."""
    begin_mjd: float
    middle_mjd: float
    end_mjd: float
    exposure_s: float
    """Summed over the frames."""
    n_frames: int
    gain_e_per_adu: float
    """Electrons of the whole stack per ADU of the stack: all reads of all frames."""
    saturation_adu: float
    pixel_scatter: float
    """See `Coadd.pixel_scatter`."""


@dataclass(frozen=True, eq=False)
class Stack:
    """A stack on disk that is to be measured.

    data : float32 (ny, nx), ADU; finite: 0 where there is no value
    weight : float32 (ny, nx), inverse variance, 1/ADU^2; 0 where there is no value
    flags : uint8 (ny, nx), bits of Bad
    wcs : of the image
    """

    data: Image
    weight: Image
    flags: Flags
    wcs: WCS
    info: StackInfo

    def __repr__(self) -> str:
        ny, nx = self.data.shape
        return f"<Stack {self.info.name}: {self.info.band}, {nx} x {ny} pixels>"

    def _repr_html_(self) -> str:
        """In a notebook: what it is, instead of its pixels."""
        ny, nx = self.data.shape
        info = self.info
        columns = ("target", "band", "chip ", "frames ", "exposure s ", "pixels ")
        cells = (info.target, info.band, info.chip, info.n_frames, figure(info.exposure_s, 1),
                 f"{nx} x {ny}")  # fmt: skip
        return card(info.name, columns, [cells])


NOTICE = 25
"""Level of log records that everybody should see though nothing is wrong: INFO < it < WARNING."""
LISTED = {"listed": True}
"""`extra` of a log record about what is in the result, too: who shows that says it once."""

Progress = Callable[[str, int, int], None]
"""Told what is going on: (step, done, of)."""


def no_progress(step: str, done: int, of: int) -> None:
    """Say nothing."""
