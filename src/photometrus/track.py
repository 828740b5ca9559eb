"""One frame on its way through the recipe, and what became of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from astropy.table import Table

from photometrus.frame import Frame
from photometrus.optics import FieldFit
from photometrus.stages import sky
from photometrus.stages.detrend import CalibratedPixels
from photometrus.stages.placement import Placement


@dataclass(frozen=True)
class Verdict:
    """What became of one frame, and what was measured on it."""

    frame: str
    used: bool
    reason: str
    """Why it is not in the stack; empty for those that are."""
    lost: bool = False
    """It could not be used at all: unreadable, empty, of another band, not found on the sky.
    A frame that is not used and not lost was judged: the stack is better without it."""
    seeing_arcsec: float = float("nan")
    ellipticity: float = float("nan")
    sky_adu: float = float("nan")
    noise_adu: float = float("nan")
    transparency: float = float("nan")
    level: str = ""
    n_matched: int = 0
    rms_arcsec: float = float("nan")
    internal_rms_arcsec: float = float("nan")


@dataclass(frozen=True)
class ChipResult:
    """What became of a chip. `error` is not empty when there is no stack."""

    chip: int
    coadd: Path | None = None
    weight: Path | None = None
    page: Path | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    field_fit: FieldFit | None = None
    """What this chip's stars say of what all chips share; None without a catalogue."""


@dataclass(frozen=True, eq=False)
class Track:
    """One frame on its way through the recipe: each step gives a new one with more in it."""

    frame: Frame
    background: sky.Background = sky.flat_background(0.0, (1, 1), 1)
    noise: float = float("nan")
    sources: Table = field(default_factory=Table)
    placement: Placement | None = None
    mask: sky.Mask = field(default=sky.no_mask((0, 0)))

    @property
    def name(self) -> str:
        """``01599131C2``."""
        return self.frame.name

    @property
    def flux_factor(self) -> float:
        """What brings the frame to the flux scale of the median frame; 1 when it is not known."""
        transparency = self.frame.quality.transparency
        return 1.0 / transparency if transparency > 0 else 1.0

    @property
    def pixels(self) -> CalibratedPixels:
        """Calibrated pixels on demand."""
        return cast(CalibratedPixels, self.frame.pixels)


def judged(frame: Frame, *, used: bool, reason: str) -> Verdict:
    """The verdict on a frame that was measured and solved."""
    quality, solution = frame.quality, frame.solution
    return Verdict(
        frame=frame.name,
        used=used,
        reason=reason,
        seeing_arcsec=quality.seeing_arcsec,
        ellipticity=quality.ellipticity,
        sky_adu=quality.sky_adu,
        noise_adu=quality.noise_adu,
        transparency=quality.transparency,
        level=solution.level,
        n_matched=solution.n_matched,
        rms_arcsec=solution.rms_arcsec,
        internal_rms_arcsec=solution.internal_rms_arcsec,
    )
