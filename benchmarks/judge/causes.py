"""Why something is in the stack that is not in the sky: what its frames say."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from helpers import Array, robust_sigma
from judge.empty import glow_arcsec
from judge.scene import Scene
from judge.stack import read_image
from judge.truth import Truth

PERSISTENCE_PIX = 4.0
GLOW = 1.5
"""Of how far a saturated star's light reaches."""
ALONE_SIGMA = 4.0
"""A detection is one frame's when that one sees so much more of it than the median frame."""


@dataclass(frozen=True, eq=False)
class Look:
    """What one frame shows at some places of the sky.

    sigma : float (n,), signal to noise in an aperture of 0.7 FWHM radius
    x, y : float (n,), trimmed pixels of the places; saturated : float (m, 2), of saturated stars
    """

    name: str
    sigma: Array
    x: Array
    y: Array
    saturated: Array


def causes(
    scene: Scene, parent: Path, truth_dir: Path, frames: list[str], px: Array, py: Array
) -> list[str]:
    """The likely cause of each detection at pixels (px, py) of the stack; a list of words."""
    truth = scene.truth
    if len(px) == 0:
        return []
    ra, dec = scene.stack.wcs.all_pix2world(px, py, 0)
    looks = []
    for exposure in truth.exposures:
        path = parent / f"C{truth.chip}_sub" / f"{truth.name(exposure)}.sky.flat.fits"
        if path.is_file():
            looks.append(look(scene, truth.name(exposure), path, np.asarray(ra), np.asarray(dec)))
    stacked = [one for one in looks if one.name in frames]
    if not stacked:
        return ["unknown"] * len(px)
    trails = {truth.name(e) for e in truth.exposures if e.get("satellite")}
    bad = bad_pixels(truth_dir, truth)
    sigma = np.array([one.sigma for one in stacked])
    strongest = np.argmax(sigma, axis=0)
    alone = sigma.max(axis=0) - np.median(sigma, axis=0) > ALONE_SIGMA
    bright = np.flatnonzero(truth.mag < truth.saturation_mag)
    reach = GLOW * glow_arcsec(truth.mag[bright]) / scene.stack.pixel_arcsec
    found = []
    for i in range(len(px)):
        frame = stacked[strongest[i]]
        gap = np.hypot(scene.x[bright] - px[i], scene.y[bright] - py[i])
        if alone[i] and frame.name in trails:
            found.append("satellite")
        elif afterglow(looks, frame, i):
            found.append("persistence")
        elif alone[i] and bad is not None and near_bad(bad, frame.x[i], frame.y[i]):
            found.append("bad pixel")
        elif (gap < reach).any():
            found.append("saturated star")
        else:
            found.append("one frame" if alone[i] else "all frames")
    return found


def look(scene: Scene, name: str, path: Path, ra: Array, dec: Array) -> Look:
    """A frame at places of the sky."""
    image, header = read_image(path)
    wcs, truth = WCS(header), scene.truth
    x, y = (np.asarray(a) for a in wcs.all_world2pix(ra, dec, 0, quiet=True))
    radius = 0.7 * scene.fwhm_pix
    flux, _, _ = sep.sum_circle(image, np.nan_to_num(x, nan=-99), np.nan_to_num(y, nan=-99), radius)
    noise = robust_sigma(image[::5, ::7].ravel()) * np.sqrt(np.pi) * radius
    saturated = truth.mag < truth.saturation_mag
    stars = np.asarray(truth.table["RA"])[saturated], np.asarray(truth.table["DEC"])[saturated]
    at = np.stack([np.asarray(a) for a in wcs.all_world2pix(*stars, 0, quiet=True)], axis=1)
    return Look(name, np.nan_to_num(flux / noise), x, y, at[np.isfinite(at).all(axis=1)])


def afterglow(looks: list[Look], frame: Look, i: int) -> bool:
    """Whether a saturated star stood on the detector's same pixel in an earlier frame."""
    place = np.array([frame.x[i], frame.y[i]])
    earlier = [one.saturated for one in looks if one.name < frame.name and len(one.saturated)]
    if not earlier or not np.isfinite(place).all():
        return False
    return bool(cKDTree(np.concatenate(earlier)).query(place)[0] < PERSISTENCE_PIX)


def bad_pixels(truth_dir: Path, truth: Truth) -> Array | None:
    """The true bad pixels of the trimmed chip, bool (ny, nx); None when there is no such map."""
    path = truth_dir / f"badpix_C{truth.chip}.fits.fz"
    if not path.is_file():
        return None
    return read_image(path)[0][4:-4, 4:-4] != 0


def near_bad(bad: Array, x: float, y: float) -> bool:
    """Whether a bad pixel is next to a place."""
    if not (np.isfinite(x) and np.isfinite(y)):
        return False
    column, row = max(0, round(x)), max(0, round(y))
    return bool(bad[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].any())
