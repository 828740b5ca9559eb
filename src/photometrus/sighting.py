"""A target, what is known of it, and the calibration in which that is stated."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.table import Row, Table

from photometrus.sourcetable import Status

FOUND = {Status.NEW: "new", Status.DIFFERS: "changed", Status.BELOW_LIMIT: "faint"}
"""What a source of that status is called in the verdict."""


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
        """Flux density of magnitudes in this system, uJy: AB 23.9 is 1; NaN where not known."""
        ab = np.asarray(mag, float) + (0.0 if self.system == "AB" else self.ab_minus_vega)
        return 10.0 ** (0.4 * (23.9 - ab))


@dataclass(frozen=True)
class Target:
    """A position and the radius around it in which the transient is."""

    name: str
    ra_deg: float
    dec_deg: float
    radius_arcsec: float


@dataclass(frozen=True)
class AtPosition:
    """What was measured at the given position itself, whether or not a source is there.

    NaN everywhere where the stack has no value.
    """

    flux: float
    """Forced PSF fit, ADU."""
    flux_err: float
    mag: float
    """Of that flux; NaN when it is not positive."""
    mag_err: float
    limit_3sigma: float
    """Magnitude of a source of 3 sigma there."""
    limit_5sigma: float

    @property
    def snr(self) -> float:
        """Signal to noise of the forced flux."""
        return self.flux / self.flux_err if self.flux_err > 0 else math.nan


NOT_COVERED = AtPosition(*(math.nan,) * 6)


@dataclass(frozen=True, eq=False)
class Sighting:
    """What is known of one target.

    sources : those in the circle, the likeliest transient first; as they came in, and
        distance_arcsec, snr, chance (that so bright a source is so near by chance), reason (what
        speaks against it, empty: nothing)
    verdict : ``new``, ``changed`` (known, and brighter than that), ``faint`` (fainter than the
        catalogue goes), ``forced`` (light at the position, but no source), ``known`` (only known
        ones), ``doubtful`` (only what is probably spurious), ``limit`` (nothing), ``not covered``
    sentence : the verdict for a reader
    """

    target: Target
    at: AtPosition
    sources: Table
    verdict: str
    sentence: str

    @property
    def best(self) -> Row | None:
        """The transient's likely counterpart, None when there is none."""
        return self.sources[0] if self.verdict in FOUND.values() else None
