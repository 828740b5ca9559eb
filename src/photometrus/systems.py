"""Magnitude systems: what to add for AB or Vega, and how one survey's stars look in another's.

Every number has its source beside it; a transform whose coefficients could not be verified in
print is not here. Pure: arrays in, arrays out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from photometrus.errors import UsageError, nearest

Mags = NDArray[np.float64]

AB_FLUX_JY = 3631.0
"""Flux density of magnitude 0 in the AB system (Oke & Gunn 1983)."""


@dataclass(frozen=True)
class System:
    """A photometric system whose zero is Vega: per band what makes AB of its magnitudes."""

    name: str
    to_ab: Mapping[str, float]
    reference: str


SYSTEMS = {
    system.name: system
    for system in (
        System(
            "VISTA",
            {"Z": 0.502, "Y": 0.600, "J": 0.916, "H": 1.366, "K": 1.827},
            "González-Fernández et al. 2018, MNRAS 474, 5459, eq. D2-D6",
        ),
        System(
            "UKIDSS",
            {"Z": 0.528, "Y": 0.634, "J": 0.938, "H": 1.379, "K": 1.900},
            "Hewett et al. 2006, MNRAS 367, 454, table 7",
        ),
        System(
            "2MASS",  # fluxes of magnitude 0: 1594, 1024 and 666.7 Jy
            {
                band: 2.5 * float(np.log10(AB_FLUX_JY / zero_jy))
                for band, zero_jy in (("J", 1594.0), ("H", 1024.0), ("K", 666.7))
            },
            "Cohen, Wheaton & Megeath 2003, AJ 126, 1090, table 2",
        ),
    )
}
DEFAULT = "VISTA"
"""For Vega magnitudes of nobody knows which system; its filters are the nearest to PRIME's."""


@dataclass(frozen=True)
class Transform:
    """A band that a system lacks: ``base + coefficient * (first - second)``.

    coefficient_err : 1 sigma as published; residual : scatter that colour does not explain, mag
    """

    system: str
    into: str
    band: str
    base: str
    color: tuple[str, str]
    coefficient: float
    coefficient_err: float
    residual: float
    reference: str

    def __str__(self) -> str:
        first, second = self.color
        return (
            f"{self.band}({self.into}) = {self.base} {self.coefficient:+g} ({first} - {second})"
            f" of {self.system}"
        )


_GF18 = "González-Fernández et al. 2018, MNRAS 474, 5459, eq. 5-6 (low reddening)"
TRANSFORMS = (
    # The paper quotes VISTA's photometry as good to 2 %: taken as what a colour leaves over.
    Transform("2MASS", "VISTA", "Z", "J", ("J", "K"), 0.86, 0.08, 0.02, _GF18),
    Transform("2MASS", "VISTA", "Y", "J", ("J", "K"), 0.46, 0.02, 0.02, _GF18),
)


def offset(system: str, band: str, into: str) -> float:
    """What to add to a magnitude of `system` ("AB", or a name of `SYSTEMS`) in `band`.

    into : "AB" or "Vega". AB magnitudes become Vega ones of the `DEFAULT` system.

    Raises UsageError for a system or a band of it that has no published offset.
    """
    if into not in ("AB", "Vega"):
        raise UsageError(f"magnitude system {into!r}: known are AB and Vega")
    if system == "AB":
        return 0.0 if into == "AB" else -_to_ab(DEFAULT, band)
    return _to_ab(system, band) if into == "AB" else 0.0


def _to_ab(system: str, band: str) -> float:
    if system not in SYSTEMS:
        known = ["AB", *SYSTEMS]
        raise UsageError(
            f"magnitude system {system!r}: known are {', '.join(known)}{nearest(system, known)}"
        )
    if band not in SYSTEMS[system].to_ab:
        bands = ", ".join(SYSTEMS[system].to_ab)
        raise UsageError(f"{system} has no band {band!r}: its AB offsets are for {bands}")
    return SYSTEMS[system].to_ab[band]


def transform_for(system: str, band: str) -> Transform | None:
    """The published transform that gives `band` from the bands of `system`, if there is one."""
    return next((t for t in TRANSFORMS if t.system == system and t.band == band), None)


def transformed(
    transform: Transform, mags: Mapping[str, Mags], errors: Mapping[str, Mags]
) -> tuple[Mags, Mags, float]:
    """Magnitudes in the band of `transform`, their errors, and the error that all share.

    mags, errors : per band of the system, float64 (n,), NaN where unknown

    The statistical error is that of the linear combination, the base band taking part twice. The
    common one is what the coefficient's own error makes of the median colour, with the residual.
    """
    first, second = transform.color
    c = transform.coefficient
    color = mags[first] - mags[second]
    weights: dict[str, float] = {}
    for name, weight in ((transform.base, 1.0), (first, c), (second, -c)):
        weights[name] = weights.get(name, 0.0) + weight
    variance = sum((w * errors[name]) ** 2 for name, w in weights.items())
    known = color[np.isfinite(color)]
    typical = abs(float(np.median(known))) if known.size else 0.0
    common = float(np.hypot(transform.coefficient_err * typical, transform.residual))
    return mags[transform.base] + c * color, np.sqrt(variance), common
