"""What a zero point is, and how fluxes become magnitudes with it."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Table

from photometrus.errors import CalibrationRefused, UsageError

Array = Any  # float64 array, or one number
MAG = 2.5 / np.log(10.0)
"""1.0857: the error of a magnitude over the relative error of its flux (Pogson 1856)."""
SYSTEMS = ("AB", "Vega", "native")


@dataclass(frozen=True)
class Field:
    """How a zero point varies over the chip: a polynomial that is 0 at the chip's centre.

    degree : total degree; 0 for none
    coefficients : magnitudes, of `powers(degree)`
    centre, half_pix : u = (x - x0) / half_pix, v = (y - y0) / half_pix
    """

    degree: int
    coefficients: tuple[float, ...]
    centre: tuple[float, float]
    half_pix: float

    def terms(self, x: Array, y: Array, degree: int) -> Array:
        """The monomials u**i v**j up to a total degree, the constant left out; float64 (n, k)."""
        u = (np.asarray(x, float) - self.centre[0]) / self.half_pix
        v = (np.asarray(y, float) - self.centre[1]) / self.half_pix
        columns = [u**i * v**j for i, j in powers(degree)]
        return np.stack(columns, axis=-1) if columns else np.zeros((*u.shape, 0))

    def at(self, x: Array, y: Array) -> Array:
        """Magnitudes to add to the zero point at the centre."""
        return self.terms(x, y, self.degree) @ np.asarray(self.coefficients)


def powers(degree: int) -> list[tuple[int, int]]:
    """Exponents of u and v of all terms of total degree 1 to `degree`."""
    return [(n - j, j) for n in range(1, degree + 1) for j in range(n + 1)]


@dataclass(frozen=True, eq=False)
class ZeroPoint:
    """The magnitude at which a total flux is 1 ADU, and how well it is known.

    value : in the catalogue's own system, for a star of the pivot's colour at the chip's centre
    err_stat : 1 sigma, from the scatter of the stars; err_sys : 1 sigma, root of the sum of the
        squares of `systematics`
    n_matched : sources with a counterpart; n_chance : expected of a wrong field; n_stars : used
    excluded : reason: how many matched sources for it, each counted once
    scatter : rms of the used stars (magnitudes); extra_scatter : beyond what the errors explain
    color_term : magnitudes per magnitude of colour; 0 when the stars do not support one
    gains : term: part of the cross-validated variance that it takes away, used or not
    slope, slope_err : of the residuals, magnitudes per magnitude; intercept, intercept_err : at
        `pivot_mag`. Linearity is when the slope is 0.
    to_ab, to_vega : to be added to a native magnitude
    refused : why it cannot be trusted; empty when it can
    stars : the matched stars: ra_deg, dec_deg, x, y, mag, mag_err, instrumental, color, residual,
        sigma (of the residual), used, reason
    """

    band: str
    flux: str
    """Which flux: psf, aper or auto."""
    stars: Table
    n_matched: int
    n_chance: float
    excluded: Mapping[str, int]
    mag_low: float
    mag_high: float
    survey: str
    source: str
    mag_system: str
    to_ab: float
    to_vega: float
    color_name: str
    field: Field
    n_stars: int = 0
    value: float = math.nan
    err_stat: float = math.nan
    systematics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    scatter: float = math.nan
    extra_scatter: float = math.nan
    color_term: float = 0.0
    color_term_err: float = math.nan
    color_pivot: float = math.nan
    gains: Mapping[str, float] = dataclasses.field(default_factory=dict)
    slope: float = math.nan
    slope_err: float = math.nan
    intercept: float = math.nan
    intercept_err: float = math.nan
    pivot_mag: float = math.nan
    notes: tuple[str, ...] = ()
    refused: str = ""

    @property
    def trusted(self) -> bool:
        """Whether magnitudes may be published with it."""
        return not self.refused

    @property
    def err_sys(self) -> float:
        """Of all systematic errors together."""
        return float(np.sqrt(sum(error**2 for error in self.systematics.values())))

    @property
    def err(self) -> float:
        """Statistical and systematic error together."""
        return float(np.hypot(self.err_stat, self.err_sys))

    def offset(self, system: str) -> float:
        """What takes a native magnitude to a system: "AB", "Vega" or "native"."""
        if system not in SYSTEMS:
            raise UsageError(f"magnitude system {system!r}: known are {', '.join(SYSTEMS)}")
        return {"AB": self.to_ab, "Vega": self.to_vega, "native": 0.0}[system]

    def at(self, x: Array, y: Array, system: str = "native") -> Array:
        """The zero point at 0-based pixels. Raises CalibrationRefused when it is not trusted."""
        if self.refused:
            raise CalibrationRefused(f"{self.band} zero point: {self.refused}")
        return self.value + self.offset(system) + self.field.at(x, y)

    def magnitudes(
        self, flux: Array, flux_err: Array, x: Array, y: Array, system: str = "AB"
    ) -> tuple[Array, Array]:
        """Magnitudes with the errors of their fluxes; NaN where the flux is not positive.

        flux, flux_err : ADU, (n,); x, y : 0-based pixels. The zero point's own error is not in it:
        it moves all magnitudes together.
        """
        flux = np.where(np.asarray(flux, float) > 0, flux, np.nan)
        mag = self.at(x, y, system) - 2.5 * np.log10(flux)
        return mag, MAG * np.asarray(flux_err, float) / flux

    def flux_to_limit(
        self, flux_err: Array, x: Array, y: Array, n_sigma: float, system: str = "AB"
    ) -> Array:
        """The magnitude of a source whose flux is `n_sigma` times an error in ADU."""
        return self.magnitudes(n_sigma * np.asarray(flux_err, float), flux_err, x, y, system)[0]

    def microjansky(self, flux: Array, x: Array, y: Array) -> Array:
        """Flux density of fluxes (or of their errors) in ADU; AB 23.9 is 1 microjansky."""
        return np.asarray(flux, float) * 10 ** (0.4 * (23.9 - self.at(x, y, "AB")))
