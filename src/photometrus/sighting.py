"""A target, and what is known of it: the transient, or how bright it can be at most."""

import math
from dataclasses import dataclass

from astropy.table import Row, Table

from photometrus.sourcetable import Status

FOUND = {Status.NEW: "new", Status.DIFFERS: "changed", Status.BELOW_LIMIT: "faint"}
"""What a source of that status is called in the verdict."""


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
    limit_3sigma: float
    """Magnitude of a source of 3 sigma there."""
    limit_5sigma: float

    @property
    def snr(self) -> float:
        """Signal to noise of the forced flux."""
        return self.flux / self.flux_err if self.flux_err > 0 else math.nan


NOT_COVERED = AtPosition(math.nan, math.nan, math.nan, math.nan)


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
    forced_mag: float
    forced_mag_err: float

    @property
    def best(self) -> Row | None:
        """The transient's likely counterpart, None when there is none."""
        return self.sources[0] if self.verdict in FOUND.values() else None
