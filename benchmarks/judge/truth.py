"""What was put into the simulation, and what follows from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.time import Time

from helpers import Array, polynomial, to_plane
from photometrus.errors import MissingInput

SATURATION_SAFETY = 0.6
"""Of the full well that the brightest pixel of a star may fill: the PSF varies over the chip."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What was put into the simulation: sources, exposures, detector."""

    table: Table
    meta: Mapping[str, Any]
    chip: int

    @property
    def args(self) -> Mapping[str, Any]:
        """What the simulation was asked for."""
        return self.meta["args"]

    @property
    def exposures(self) -> list[Mapping[str, Any]]:
        """The chip's exposures in order of time."""
        return self.meta["chips"][str(self.chip)]["exposures"]

    @property
    def band(self) -> str:
        """The filter."""
        return self.exposures[0]["band"]

    @property
    def epoch_yr(self) -> float:
        """Of the observation, Julian year."""
        return float(Time(self.exposures[0]["date"]).jyear)

    @cached_property
    def mag(self) -> Array:
        """Magnitude of every source in this band."""
        return np.asarray(self.table[f"{self.band}mag"], dtype=float)

    @cached_property
    def flux(self) -> Array:
        """Flux of every source, 1 at magnitude 0."""
        return 10 ** (-0.4 * self.mag)

    @cached_property
    def constant_star(self) -> Array:
        """Point sources other than the transient; bool (n,)."""
        star = np.char.strip(np.asarray(self.table["TYPE"]).astype(str)) == "S"
        return star & (np.asarray(self.table["VAR"]) == 0)

    @cached_property
    def centre(self) -> tuple[float, float]:
        """RA and Dec (degrees) near the middle of the chip: where the plane touches the sky."""
        order = np.hypot(*self.uv)
        nearest = int(np.argmin(order))
        return float(self.table["RA"][nearest]), float(self.table["DEC"][nearest])

    @cached_property
    def plane(self) -> tuple[Array, Array]:
        """East and north of every source, arcsec from `centre`."""
        return to_plane(np.asarray(self.table["RA"]), np.asarray(self.table["DEC"]), self.centre)

    @cached_property
    def uv(self) -> tuple[Array, Array]:
        """Place on the detector, both axes from -1 to 1 over the chip."""
        half = self.args["size"] / 2
        return tuple(
            (np.asarray(self.table[f"{axis}_C{self.chip}"], dtype=float) + 0.5) / half - 1
            for axis in "XY"
        )

    @cached_property
    def pixel_density(self) -> Array:
        """Detector pixels per area of sky at every source, in magnitudes, middle of the chip 0."""
        on = np.maximum(*np.abs(self.uv)) < 1.2
        e, n = (axis / 1000 for axis in self.plane)
        cubic = polynomial(e[on], n[on], 3)
        x, y = (np.linalg.lstsq(cubic, axis[on], rcond=None)[0] for axis in self.uv)
        step = 1e-3

        def slope(coeff: Array, de: float, dn: float) -> Array:
            ahead, back = polynomial(e + de, n + dn, 3), polynomial(e - de, n - dn, 3)
            return (ahead - back) @ coeff

        area = slope(x, step, 0) * slope(y, 0, step) - slope(x, 0, step) * slope(y, step, 0)
        density = 2.5 * np.log10(np.maximum(np.abs(area), 1e-12))
        return density - np.median(density[on])

    @cached_property
    def saturation_mag(self) -> float:
        """The brightest star whose peak stays clear of the full well in every exposure."""
        limits = []
        for exposure in self.exposures:
            peak = moffat_peak(exposure["fwhm_px"], exposure["beta"])
            room = SATURATION_SAFETY * self.args.get("fullwell", 90000.0) - exposure["sky_e"]
            clear = exposure["zp_e"] - exposure["extinction"]
            limits.append(clear - 2.5 * np.log10(max(room, 1.0) / peak))
        return max(limits)

    def seen(self, exposure: Mapping[str, Any]) -> tuple[float, float]:
        """Electrons of a star of magnitude 0 in a ramp, and the variance of a sky pixel in them.

        Slopes are unweighted straight lines through n reads (Rauscher et al. 2007, PASP 119, 768):
        read noise r gives 12 n r^2 / (n^2 - 1). Where the simulation lets photons accumulate from
        read to read, they give 6/5 (n^2 + 1) / (n^2 - 1) of what counting them would.
        """
        n = max(int(exposure["nframes"]), 2)
        response = self.meta["chips"][str(self.chip)].get("response_median", 1.0)
        reads = self.args["readnoise"] ** 2 * 12 * n / (n**2 - 1)
        photons = 1.2 * (n**2 + 1) / (n**2 - 1) if self.accumulates else 1.0
        star = 10 ** (0.4 * (exposure["zp_e"] - exposure["extinction"]))
        return response * star, photons * response * exposure["sky_e"] + reads

    @property
    def accumulates(self) -> bool:
        """Whether reads of a ramp share their photons: so in photometrus' own simulator."""
        return "photometrus" in str(self.meta.get("flat", ""))

    def name(self, exposure: Mapping[str, Any]) -> str:
        """The ramp of an exposure: ``01599131C3``."""
        return f"{exposure['num']:08d}C{self.chip}"


def moffat_peak(fwhm: float, beta: float) -> float:
    """The part of a star's light in its central unit of area (unit of `fwhm`, squared)."""
    core2 = fwhm**2 / 4 / (2 ** (1 / beta) - 1)
    return (beta - 1) / np.pi / core2


def moffat_within(radius: float, fwhm: float, beta: float) -> float:
    """The part of a star's light within `radius` (same unit as `fwhm`)."""
    core2 = fwhm**2 / 4 / (2 ** (1 / beta) - 1)
    return 1 - (1 + radius**2 / core2) ** (1 - beta)


def read_truth(folder: Path, chip: int) -> Truth:
    """The truth of one chip; MissingInput when the simulation had no such chip."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if str(chip) not in meta["chips"]:
        raise MissingInput(f"{folder}: no chip {chip}; it has {', '.join(meta['chips'])}")
    return Truth(Table.read(folder / "truth.fits"), meta, chip)
