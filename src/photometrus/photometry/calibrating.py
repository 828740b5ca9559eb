"""Magnitudes: the stars to calibrate with, one zero point per kind of flux, the limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS

from photometrus.calibration import ZeroPoint
from photometrus.config import Config
from photometrus.errors import MissingInput, ServiceError
from photometrus.frame import StackInfo
from photometrus.instrument import ZERO_POINT_VEGA
from photometrus.io.catalogs import calibrators, choose_surveys
from photometrus.reference import at_epoch
from photometrus.sighting import Calibration
from photometrus.sourcetable import KINDS
from photometrus.stages.zeropoint import calibrate
from photometrus.wcs import pixel_scale_arcsec, pixel_to_sky

MARGIN_DEG = 0.01
MAX_CROP_SHARE = 1 / 12
"""Of the side of an image: a crop that leaves hardly anything serves nobody."""

INSTEAD = "was asked instead of"
"""In a note: the service of the survey that suits best did not answer."""


@dataclass(frozen=True, eq=False)
class Zero:
    """The zero points of a stack, one for each kind of flux, and the stars that they are of.

    stars : of the catalogue, at the stack's epoch, in its own system
    system : of the magnitudes: "AB" or "Vega"
    """

    stars: Table
    kinds: dict[str, ZeroPoint]
    system: str
    survey: str

    @property
    def psf(self) -> ZeroPoint:
        """That of PSF fluxes: the one that is published."""
        return self.kinds["psf"]

    def brief(self, x: float, y: float) -> Calibration:
        """What tables and reports say of it, at a place of the stack."""
        zp = self.psf
        value = float(zp.at(np.array(x), np.array(y), self.system)) if zp.trusted else math.nan
        return Calibration(
            band=zp.band,
            system=self.system,
            ab_minus_vega=zp.to_ab - zp.to_vega,
            survey=self.survey,
            n_stars=zp.n_stars,
            zero_point=value,
            stat_err=zp.err_stat,
            sys_err=zp.err_sys,
        )

    def stars_in_system(self) -> Table:
        """The catalogue's stars with magnitudes in `system`."""
        stars = self.stars.copy()
        stars["mag"] = np.asarray(stars["mag"], float) + self.psf.offset(self.system)
        return stars


def field_of(wcs: WCS, shape: tuple[int, int]) -> tuple[tuple[float, float], float]:
    """Middle (RA, Dec, degrees) and radius (degrees) of the circle around an image."""
    ny, nx = shape
    ra, dec = pixel_to_sky(wcs, np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))
    return (float(ra[0]), float(dec[0])), pixel_scale_arcsec(wcs) / 3600.0 * math.hypot(
        nx, ny
    ) / 2 + MARGIN_DEG


def find_stars(
    wcs: WCS, shape: tuple[int, int], band: str, config: Config, notes: list[str]
) -> Table:
    """The stars that calibrate: of the file, the survey, or the best survey that answers.

    Raises MissingInput, UsageError and ServiceError as `io.catalogs.calibrators`.
    """
    centre, radius = field_of(wcs, shape)
    cache = Path(config.input.cache) if config.input.cache else None
    asked: Sequence[str] = ()
    if config.photometry.catalog:
        asked = (config.photometry.catalog,)
    elif config.photometry.survey:
        asked = (config.photometry.survey,)
    else:
        asked = [choice.survey for choice in choose_surveys(band, *centre, radius)]
        if not asked:
            raise MissingInput(
                f"no survey that photometrus knows covers {centre[0]:.4f} {centre[1]:+.4f} in"
                f" {band}; give stars with -catalog FILE"
            )
    failures: list[str] = []
    for source in asked:
        try:
            stars = calibrators(source, centre, radius, band, cache=cache)
        except ServiceError as error:
            failures.append(str(error))
            continue
        if not len(stars) and len(asked) > 1:
            notes.append(f"{source} has no star here")
            continue
        if failures:
            notes.append(f"{source} {INSTEAD} {asked[0]}: {failures[0]}")
        return stars
    if not failures:
        raise MissingInput(
            f"none of {', '.join(asked)} has a star here; give stars with -catalog FILE"
        )
    if len(asked) == 1:
        raise ServiceError(failures[0])
    raise ServiceError(f"none of {', '.join(asked)} gave stars; the first said: {failures[0]}")


def epoch_yr(info: StackInfo) -> float | None:
    """When the stack was taken, Julian year; None when its header does not tell."""
    if not math.isfinite(info.middle_mjd):
        return None
    return float(Time(info.middle_mjd, format="mjd").jyear)


def zero_points(
    sources: Table, stars: Table, wcs: WCS, info: StackInfo, shape: tuple[int, int], config: Config
) -> Zero:
    """One zero point per kind of flux, from the same stars."""
    epoch = epoch_yr(info)
    if epoch is not None:
        stars = at_epoch(stars, epoch)
    inner = sources[_inside(sources, shape, config.photometry.crop_pix)]
    expected = ZERO_POINT_VEGA.get(info.band, math.nan) if info.chip else math.nan
    kinds = {
        kind: calibrate(
            inner, stars, wcs, info.band, config.zeropoint, flux=kind, expected_vega=expected
        )
        for kind in KINDS
    }
    survey = str(stars.meta.get("survey", "local"))
    system = config.photometry.magsys
    if system == "native":
        system = kinds["psf"].mag_system
    return Zero(stars, kinds, system, survey)


def _inside(sources: Table, shape: tuple[int, int], crop_pix: int) -> np.ndarray:
    ny, nx = shape
    cut = min(crop_pix, int(MAX_CROP_SHARE * min(ny, nx)))
    x, y = np.asarray(sources["x"]), np.asarray(sources["y"])
    return (x >= cut) & (x < nx - cut) & (y >= cut) & (y < ny - cut)


def add_magnitudes(sources: Table, zero: Zero) -> None:
    """Fill in mag_psf, mag_psf_err, ... of a table that is ours; nothing without a zero point."""
    x, y = np.asarray(sources["x"], float), np.asarray(sources["y"], float)
    for kind, zp in zero.kinds.items():
        if zp.trusted:
            flux, error = (np.asarray(sources[f"flux_{kind}{end}"], float) for end in ("", "_err"))
            mag, mag_err = zp.magnitudes(flux, error, x, y, zero.system)
            sources[f"mag_{kind}"], sources[f"mag_{kind}_err"] = mag, mag_err
