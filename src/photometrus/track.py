"""One frame on its way through the recipe, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from photometrus.cards import Loss, card, figure
from photometrus.frame import Bad, Flags, Frame, Image
from photometrus.instrument import GAIN_E_PER_ADU
from photometrus.optics import FieldFit
from photometrus.origin import Origin
from photometrus.stages.background import Background, Mask, flat_background
from photometrus.stages.coadd import Layer
from photometrus.stages.detrend import CalibratedPixels
from photometrus.stages.placement import Placement
from photometrus.stages.sky import Sky, no_mask

CHIP_COLUMNS = ("chip", "frames ", 'seeing " ', "rms mas ", "dithers mas ", "sky ADU ", "stack")
FRAME_COLUMNS = ("frame", "", 'seeing " ', "ellipticity ", "sky ADU ", "transparency ", "rms mas ")
MAX_NAMES = 2
"""Frames with one fate that are named singly."""


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
    level_reason: str = ""
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
    extras: list[Path] = field(default_factory=list)
    """What was made on request beside the stack: sub-stacks and their weights, maps."""
    field_fit: FieldFit | None = None
    """What this chip's stars say of what all chips share; None without a catalogue."""
    look: Any = None
    """Its preview for the page of the observation, of `htmlreport.pictures`, and where that is on
    the sky; None: to be made of what is on disk."""
    made_from: Origin = field(default_factory=Origin)
    """Files, settings, versions."""
    made: dict[Path, int] = field(default_factory=dict)
    """Every file that was written for it, and its size in bytes."""

    @property
    def losses(self) -> list[Loss]:
        """What of it is not in the stack."""
        rows = [(f"C{self.chip}", "no stack", self.error)] if self.error else []
        fates = groupby(self.verdicts, lambda verdict: (verdict.used, verdict.lost, verdict.reason))
        for (used, lost, reason), same in fates:
            if not used:
                names = [verdict.frame for verdict in same]
                rows.append((_span(names), "lost" if lost else "left out", reason))
        return rows

    def row(self, parent: Path) -> tuple[str, ...]:
        """Its cells below CHIP_COLUMNS, the stack as seen from a folder."""
        numbers = self.numbers
        used = sum(verdict.used for verdict in self.verdicts)
        return (
            f"C{self.chip}",
            f"{used}/{len(self.verdicts)}",
            figure(numbers.get("seeing_arcsec"), 2),
            figure(numbers.get("rms_arcsec"), 0, 1000),
            figure(numbers.get("internal_rms_arcsec"), 0, 1000),
            figure(numbers.get("sky_adu"), 0),
            "failed" if self.coadd is None else str(below(self.coadd, parent)),
        )

    def __repr__(self) -> str:
        used = sum(verdict.used for verdict in self.verdicts)
        made = self.coadd or f"no stack: {self.error}"
        return f"<C{self.chip}: {used} of {len(self.verdicts)} frames, {made}>"

    def _repr_html_(self) -> str:
        """In a notebook: a row per frame."""
        rows = [
            (
                verdict.frame,
                "in the stack" if verdict.used else "lost" if verdict.lost else "left out",
                figure(verdict.seeing_arcsec, 2),
                figure(verdict.ellipticity, 2),
                figure(verdict.sky_adu, 0),
                figure(verdict.transparency, 2),
                figure(verdict.rms_arcsec, 0, 1000),
            )
            for verdict in self.verdicts
        ]
        title = f"C{self.chip}: {self.coadd or 'no stack'}"
        return card(title, FRAME_COLUMNS, rows, self.losses, self.notes)


def _span(names: list[str]) -> str:
    """Successive frames with one fate in one line: each name, or the ends and how many."""
    if len(names) <= MAX_NAMES:
        return " ".join(names)
    return f"{names[0]} ... {names[-1]} ({len(names)} frames)"


def below(path: Path, parent: Path) -> Path:
    """A path as seen from a folder that it is in."""
    return path.relative_to(parent) if path.is_relative_to(parent) else path


@dataclass(frozen=True, eq=False)
class Track:
    """One frame on its way through the recipe: each step gives a new one with more in it."""

    frame: Frame
    background: Background = flat_background(0.0, (1, 1), 1)
    noise: float = float("nan")
    sources: Table = field(default_factory=Table)
    placement: Placement | None = None
    mask: Mask = field(default=no_mask((0, 0)))
    cores: NDArray[Any] = field(default_factory=lambda: np.empty(0, np.int64))
    """Flat indices of the pixels that stars saturated."""
    n_trails: int = 0
    sky: Sky = field(default=Sky(np.ones((1, 1), np.float32)))
    """The sky that is subtracted from it, scaled by its background."""

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
    def gain(self) -> float:
        """Electrons per ADU: a slope per frame averages over all reads of the ramp."""
        return GAIN_E_PER_ADU * max(1, self.frame.info.reads - 1)

    def seconds_after(self, other: "Track") -> float:
        """Time between the end of another exposure and the middle of this one."""
        return (self.frame.info.middle_mjd - other.frame.info.end_mjd) * 86400.0

    def without_sky(self, y0: int, y1: int) -> tuple[Image, Flags]:
        """Rows y0 to y1, calibrated and sky-subtracted, ADU; and their flags."""
        data, bad = self.pixels.rows(y0, y1)
        self.subtract_sky(data, bad, y0)
        return data, bad

    def subtract_sky(self, data: Image, bad: Flags, y0: int) -> None:
        """Take the sky out of its calibrated rows y0..., in place (`data` is the caller's own)."""
        for top in range(0, data.shape[0], STRIP_ROWS):
            strip = slice(top, top + STRIP_ROWS)
            self.background.subtract(data[strip], self.sky.image, y0 + top)
            self.sky.give_back(data[strip], bad[strip], self.mask, y0 + top)

    def layer(self) -> Layer:
        """The frame as a layer of a stack: sky subtracted while it is read; inverse variance.

        Sky photons set the variance: dividing by the response f multiplies it by 1/f.
        """
        response = self.pixels.flat.response

        def rows(y0: int, y1: int) -> tuple[Image, Any, Image]:
            return *self.without_sky(y0, y1), response[y0:y1]

        return Layer(rows, self.pixels.shape, self.frame.wcs, self.flux_factor, 1.0 / self.noise**2)

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
        level_reason=solution.reason,
        n_matched=solution.n_matched,
        rms_arcsec=solution.rms_arcsec,
        internal_rms_arcsec=solution.internal_rms_arcsec,
    )


STRIP_ROWS = 64
"""Rows from which the sky is taken out at once: they stay in the cache."""
FLAG_ROWS = 600
"""Rows of all frames together in which flags are counted, about."""


def flagged_shares(tracks: Sequence[Track]) -> dict[str, float]:
    """The share of the frames' pixels with each flag, by the flag's name, from some of the rows."""
    ny = tracks[0].pixels.shape[0]
    every = max(8, ny * len(tracks) // FLAG_ROWS)
    count = np.zeros(256, np.int64)
    for track in tracks:
        for y in range(every // 2, ny, every):
            _, bad = track.pixels.rows(y, y + 1)
            count += np.bincount(bad.ravel(), minlength=256)
    flags = np.arange(256)
    return {
        str(flag.name).lower(): float(count[flags & flag != 0].sum() / count.sum())
        for flag in Bad
        if flag is not Bad.EDGE
    }
