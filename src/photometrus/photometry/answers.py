"""The targets: what is at each position, measured there whether or not a source is."""

import math
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.config import Config
from photometrus.errors import PhotometrusError
from photometrus.frame import StackInfo
from photometrus.io.stackfile import ENDINGS, read_stack
from photometrus.photometry.calibrating import Zero, epoch_yr
from photometrus.photometry.sources import Measures, with_floor
from photometrus.sighting import NOT_COVERED, AtPosition, Sighting, Target
from photometrus.stages.counterparts import find_counterparts
from photometrus.stages.doubts import find_doubts
from photometrus.stages.psfphotometry import force_psf, matched, subtract_stars
from photometrus.stages.target import classify
from photometrus.wcs import sky_to_pixel

HALVES = ("alt1", "alt2")
"""The two stacks of every other frame."""


def pixel(wcs: WCS, target: Target) -> tuple[float, float]:
    """Where a target is in the stack, 0-based."""
    x, y = sky_to_pixel(wcs, target.ra_deg, target.dec_deg)
    return float(x), float(y)


def at_position(target: Target, measured: Measures, zero: Zero, config: Config) -> AtPosition:
    """Forced PSF flux at a position, its neighbours taken away, and the limits there."""
    x, y = pixel(measured.stack.wcs, target)
    ny, nx = measured.stack.data.shape
    if not (0 <= x <= nx - 1 and 0 <= y <= ny - 1):
        return NOT_COVERED
    forced = force_psf(
        measured.stack.data,
        measured.stack.weight,
        (np.array([x]), np.array([y])),
        measured.psf,
        measured.stack.info.gain_e_per_adu,
        measured.sources,
        config.psf_photometry,
    )
    flux = float(forced["flux_psf"][0])
    error = float(forced["flux_psf_err"][0]) * measured.noise_factor
    error = float(with_floor(flux, error, config.photometry.floor_mag))
    if not (math.isfinite(flux) and error > 0):
        return NOT_COVERED
    limits = [math.nan, math.nan]
    mag = mag_err = math.nan
    if zero.psf.trusted:
        places = np.array([x]), np.array([y])
        light = np.array([flux]), np.array([error])
        mag, mag_err = (float(v[0]) for v in zero.psf.magnitudes(*light, *places, zero.system))
        stack = measured.stack
        _, sky = matched(measured.left, stack.weight, places, measured.psf, config.psf_photometry)
        sky *= measured.noise_factor * measured.limit_factor
        limits = [
            float(zero.psf.flux_to_limit(sky, *places, n, zero.system)[0]) for n in (3.0, 5.0)
        ]
    return AtPosition(flux, error, mag, mag_err, limits[0], limits[1])


def judged(
    measured: Measures,
    zero: Zero,
    info: StackInfo,
    scale_arcsec: float,
    halves: Table | None,
    config: Config,
) -> Table:
    """The sources with what the catalogue says of each, and what speaks against it."""
    stars = zero.stars_in_system()
    epoch = epoch_yr(info)
    known = find_counterparts(
        measured.sources,
        stars,
        scale_arcsec=scale_arcsec,
        zero_point_err=zero.psf.err,
        depth_mag=float(stars.meta.get("depth", math.nan)) + zero.psf.offset(zero.system),
        epoch_yr=2000.0 if epoch is None else epoch,
        config=config.counterparts,
    )
    known["doubts"] = find_doubts(
        known,
        stars,
        scale_arcsec=scale_arcsec,
        n_frames=info.n_frames,
        halves=halves,
        config=config.doubts,
    )
    return known


def halves_beside(path: Path) -> list[Path]:
    """The two stacks of every other frame, as far as they are there."""
    return [half for part in HALVES if (half := _part(path, part)) is not None]


def halves_of(path: Path, measured: Measures, config: Config) -> Table | None:
    """Fluxes of all sources in the two stacks of every other frame; None without them."""
    fluxes = Table()
    for k, part in enumerate(HALVES, start=1):
        beside = _part(path, part)
        if beside is None:
            return None
        try:
            stack = read_stack(beside)
        except PhotometrusError:
            return None
        if stack.data.shape != measured.stack.data.shape:
            return None
        sources = measured.sources
        places = tuple(
            np.asarray(sources[name], float) + np.nan_to_num(np.asarray(sources[f"psf_d{name}"]))
            for name in ("x", "y")
        )
        # What the half has more or less than the whole stack says.
        left = subtract_stars(stack.data, sources, measured.psf)
        more, error = matched(left, stack.weight, places, measured.psf, config.psf_photometry)
        fluxes[f"flux{k}"] = np.asarray(sources["flux_psf"]) + more
        fluxes[f"flux{k}_err"] = error * measured.noise_factor
    return fluxes


def _part(path: Path, part: str) -> Path | None:
    """``coadd.….alt1.C3.fits.fz`` beside ``coadd.….C3.fits.fz``."""
    head, dot, chip = path.name.rpartition(".C")
    if not dot:
        return None
    stem = f"{head}.{part}.C{chip[:1]}"
    there = (path.with_name(stem + ending) for ending in ENDINGS)
    return next((one for one in there if one.exists()), None)


def answer(
    target: Target, sources: Table, measured: Measures, zero: Zero, config: Config
) -> Sighting:
    """What is known of one target."""
    at = at_position(target, measured, zero, config)
    x, y = pixel(measured.stack.wcs, target)
    return classify(target, sources, at, zero.brief(x, y), config.target)


def is_search(target: Target, config: Config) -> bool:
    """Whether a circle is so large that new sources are searched for in it."""
    return target.radius_arcsec > config.target.search_from_arcsec
