"""The whole light of bright stars and of extended galaxies: what a greedy sky eats first."""

from collections.abc import Callable
from functools import partial

import numpy as np
import sep
from scipy.spatial import cKDTree
from scipy.special import gammainc, gammaincinv

from helpers import Array, Numbers, fit_plane_clipped
from judge.flux import ring_pix, zero_point
from judge.scene import Scene
from judge.truth import moffat_within

STAR_RADIUS_ARCSEC = 10.0
STAR_RANGE_MAG = 2.5
"""Stars from saturation to so much fainter."""
AUREOLE_CORE_ARCSEC = 6.0
"""The wide wings fall as r^-3 beyond this."""
GALAXY_MAG = 17.0
GALAXY_RE_ARCSEC = (1.0, 8.0)
GALAXY_RADII = 4.0
"""Half-light radii in the aperture of a galaxy: 99 % of an exponential disc."""
STRAY = 0.1
"""Light of others in an aperture, as a part of the source's own, up to which it is corrected."""
MIN_SOURCES = 5
OWN_SCATTER = 0.02
"""Of the ratios, beyond the sky's noise: neighbours, profiles."""


def total_flux(scene: Scene, level_adu: float, frames: list[str]) -> Numbers:
    """Magnitude errors of the whole light, in wide apertures, the sky being the stack's own zero.

    level_adu : the stack's level where it is empty; frames : those in the stack

    Unlike in `photometry` no ring is subtracted: a dark halo must show. The zero point is that of
    small apertures of stars, brought to the whole light by the true profile.
    """
    stars = scene.stars(scene.truth.saturation_mag, scene.truth.saturation_mag + STAR_RANGE_MAG)
    discs, radii = exponential_discs(scene)
    profile = partial(star_within, scene, frames)
    whole = zero_point(scene, scene.aperture_pix)[0] - 2.5 * np.log10(small_part(scene, profile))
    wide = np.full(len(stars), STAR_RADIUS_ARCSEC)
    in_wide = whole + 2.5 * np.log10(profile(STAR_RADIUS_ARCSEC))
    in_disc = whole + 2.5 * np.log10(disc_within(GALAXY_RADII))
    return {
        "stars": _errors(scene, level_adu, stars, wide, in_wide),
        "galaxies": _errors(scene, level_adu, discs, radii, in_disc),
    }


def star_within(scene: Scene, frames: list[str], radius_arcsec: float) -> float:
    """The part of a star's light within a radius: the true profile, as wide as the stack has it."""
    truth = scene.truth
    used = [e for e in truth.exposures if truth.name(e) in frames]
    true_fwhm = [e["fwhm_px"] * truth.meta["pix"] for e in used]
    # Pixels, resampling and the field's edge make it wider than in the middle of the field.
    wider = scene.fwhm_pix * scene.stack.pixel_arcsec / np.mean(true_fwhm)
    core = np.mean(
        [
            moffat_within(radius_arcsec, width * wider, e["beta"])
            for width, e in zip(true_fwhm, used, strict=True)
        ]
    )
    wide = 1 - 1 / np.sqrt(1 + (radius_arcsec / AUREOLE_CORE_ARCSEC) ** 2)
    halo = truth.meta.get("aureole", 0.0)
    return float((1 - halo) * core + halo * wide)


def small_part(scene: Scene, profile: Callable[[float], float]) -> float:
    """The part of a star's light that the zero point's aperture has, its ring subtracted."""
    scale = scene.stack.pixel_arcsec
    inner, outer = ring_pix(scene, scene.aperture_pix)
    ring = profile(outer * scale) - profile(inner * scale)
    share = scene.aperture_pix**2 / (outer**2 - inner**2)
    return profile(scene.aperture_pix * scale) - ring * share


def disc_within(radii: float) -> float:
    """The part of an exponential disc's light within so many half-light radii."""
    return float(gammainc(2, gammaincinv(2, 0.5) * radii))


def exponential_discs(scene: Scene) -> tuple[Array, Array]:
    """Bright, extended disc galaxies: truth indices (n,), aperture radii in arcsec (n,)."""
    table = scene.truth.table
    extent = np.asarray(table["RE"], dtype=float)
    disc = np.char.strip(np.asarray(table["TYPE"]).astype(str)) == "G"
    if "SERSIC" in table.colnames:
        disc &= np.asarray(table["SERSIC"]) == 1
    low, high = GALAXY_RE_ARCSEC
    disc &= scene.inside & (scene.truth.mag < GALAXY_MAG) & (extent > low) & (extent < high)
    found = np.flatnonzero(disc)
    return found, GALAXY_RADII * extent[found] + 1.5 * scene.fwhm_pix * scene.stack.pixel_arcsec


def lonely(scene: Scene, sources: Array, radii_arcsec: Array) -> tuple[Array, Array]:
    """Which sources have a wide aperture with little light of others, and no edge: bool (n,).

    Also that light, as a part of the source's own: float (n,).
    """
    truth = scene.truth
    places = np.stack(truth.plane, axis=1)
    tree = cKDTree(places)
    ny, nx = scene.stack.data.shape
    kept, stray = np.zeros(len(sources), dtype=bool), np.zeros(len(sources))
    for i, (source, radius) in enumerate(zip(sources, radii_arcsec, strict=True)):
        others = np.setdiff1d(tree.query_ball_point(places[source], radius), source)
        stray[i] = truth.flux[others].sum() / truth.flux[source]
        # A bright star beyond the aperture shines into it.
        near = np.setdiff1d(tree.query_ball_point(places[source], 3 * radius), source)
        alone = truth.flux[near].sum() < 5 * STRAY * truth.flux[source]
        x, y, reach = scene.x[source], scene.y[source], radius / scene.stack.pixel_arcsec
        room = reach < x < nx - reach and reach < y < ny - reach
        kept[i] = room and alone and stray[i] < STRAY
    return kept, stray


def _errors(
    scene: Scene, level: float, sources: Array, radii_arcsec: Array, zero_point_mag: float
) -> Numbers:
    """Weighted mean magnitude error of lonely sources in wide apertures, and its error.

    zero_point_mag : of what the apertures are expected to hold
    """
    alone, stray = lonely(scene, sources, radii_arcsec)
    sources, radii, stray = sources[alone], radii_arcsec[alone], stray[alone]
    data = (scene.stack.data - np.float32(level)) * scene.stack.used
    flux = np.array(
        [
            sep.sum_circle(data, [x], [y], radius, subpix=5)[0][0]
            for x, y, radius in zip(
                scene.x[sources], scene.y[sources], radii / scene.stack.pixel_arcsec, strict=True
            )
        ]
    )
    numbers: Numbers = {"n": len(sources)}
    if len(sources) < MIN_SOURCES:
        return numbers
    expected = 10 ** (-0.4 * (scene.truth.mag[sources] - zero_point_mag)) * (1 + stray)
    noise = np.median(scene.noise[scene.stack.used]) * np.sqrt(np.pi) * radii
    sigma = np.hypot(noise / scene.stack.pixel_arcsec / expected, OWN_SCATTER)
    mean, error, kept = fit_plane_clipped(np.ones((len(sources), 1)), flux / expected, sigma)
    numbers["n"] = int(kept.sum())
    numbers["bias"] = -2.5 * float(np.log10(mean[0]))
    numbers["error"] = 1.0857 * float(error[0] / mean[0])
    # What cannot be chance at two sigma.
    numbers["excess"] = max(0.0, abs(numbers["bias"]) - 2 * numbers["error"])
    return numbers
