"""Magnitudes: what a flux is worth, in which system, by whose stars."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[Any]  # float64 (n,)
MAG_PER_RELATIVE_FLUX = 2.5 / math.log(10.0)
AB_ZERO_UJY = 3631e6
"""Flux density of AB magnitude 0 (Oke & Gunn 1983, ApJ 266, 713), microjansky."""


@dataclass(frozen=True)
class Calibration:
    """The zero point of a stack in short, as every table and report states it."""

    band: str
    system: str
    """Of all magnitudes: ``AB`` or ``Vega``."""
    ab_minus_vega: float
    """AB magnitude minus Vega magnitude of any source in this band; NaN when unknown."""
    survey: str
    n_stars: int
    zero_point: float
    """Magnitude of a point source of 1 ADU, from the PSF fit, where it is asked for."""
    stat_err: float
    sys_err: float

    @property
    def err(self) -> float:
        """Statistical and systematic error of the zero point together, mag."""
        return math.hypot(self.stat_err, self.sys_err)

    @property
    def other_system(self) -> str:
        """The one of AB and Vega that the magnitudes are not in."""
        return "Vega" if self.system == "AB" else "AB"

    @property
    def to_other(self) -> float:
        """What is added to a magnitude to have it in the other system."""
        return -self.ab_minus_vega if self.system == "AB" else self.ab_minus_vega

    def microjansky(self, mag: Any) -> Any:
        """Flux density of magnitudes in this system, uJy; NaN where it is not known."""
        ab = np.asarray(mag, float) + (0.0 if self.system == "AB" else self.ab_minus_vega)
        return AB_ZERO_UJY * 10.0 ** (-0.4 * ab)


def magnitudes(flux: Values, flux_err: Values, zero_point: Any) -> tuple[Values, Values]:
    """Magnitudes and their errors of fluxes in ADU; NaN where the flux is not positive."""
    flux, flux_err = np.asarray(flux, float), np.asarray(flux_err, float)
    safe = np.where(flux > 0, flux, np.nan)
    return zero_point - 2.5 * np.log10(safe), MAG_PER_RELATIVE_FLUX * flux_err / safe
