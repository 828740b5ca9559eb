"""A stack with the truth laid over it."""

from dataclasses import dataclass

import numpy as np
import sep
from scipy import ndimage
from scipy.spatial import cKDTree

from helpers import Array, from_plane, robust_sigma, to_plane
from judge.stack import Stack
from judge.truth import Truth
from photometrus.errors import MissingInput

FWHM_TO_SIGMA = 1 / 2.3548
CAPTURE_ARCSEC = 60.0
"""A constant astrometric error up to this is found, reported and taken out."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A stack, its detections, and where the truth lies on it.

    sub : float32 (ny, nx), background subtracted; noise : float32 (ny, nx), sigma of a pixel
    found : structured array of sep; segments : int (ny, nx), 0 or 1 + index into `found`
    offset : east, north in arcsec by which the stack lies off the truth
    x, y : float (n,), pixel of every truth source, the offset included
    inside : bool (n,), well inside the part of the stack that has data
    stray : float (n,), light of neighbours in the aperture, as a part of the source's own
    """

    stack: Stack
    truth: Truth
    sub: Array
    noise: Array
    found: Array
    segments: Array
    offset: tuple[float, float]
    fwhm_pix: float
    x: Array
    y: Array
    inside: Array
    stray: Array

    @property
    def aperture_pix(self) -> float:
        """Radius of the photometric aperture: 1.5 FWHM."""
        return 1.5 * self.fwhm_pix

    def stars(self, brightest: float, faintest: float, stray: float = 0.02) -> Array:
        """Indices of the isolated constant stars in a range of magnitudes."""
        mag = self.truth.mag
        return np.flatnonzero(
            self.truth.constant_star
            & self.inside
            & (mag > brightest)
            & (mag <= faintest)
            & (self.stray < stray)
        )


def detect(stack: Stack) -> tuple[Array, Array, Array, Array]:
    """Background-subtracted stack, noise per pixel, detections, segmentation."""
    mask = ~stack.used
    sub = stack.data - sep.Background(stack.data, mask=mask, bw=64, bh=64).back()
    sub = np.where(mask, 0, sub).astype(np.float32)
    root = np.sqrt(stack.weight)
    pull = robust_sigma((sub * root)[stack.used][::7])
    noise = np.where(mask, 1e30, pull / np.maximum(root, 1e-30)).astype(np.float32)
    sep.set_extract_pixstack(max(300_000, sub.size // 4))
    sep.set_sub_object_limit(20_000)
    found, segments = sep.extract(sub, 2.0, err=noise, mask=mask, segmentation_map=True)
    return sub, noise, found, segments


def vote(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[float, float]:
    """The shift from `first` to `second` that most pairs agree on; arcsec, to about 0.1"."""
    tree = cKDTree(np.stack(second, axis=1))
    pairs = tree.query_ball_point(np.stack(first, axis=1), CAPTURE_ARCSEC)
    shifts = np.array(
        [
            (second[0][j] - first[0][i], second[1][j] - first[1][i])
            for i, near in enumerate(pairs)
            for j in near
        ]
    ).reshape(-1, 2)
    votes = cKDTree(shifts) if len(shifts) else None
    agree = [] if votes is None else votes.query_ball_point(shifts, 1.0)
    best = max(agree, key=len, default=[])
    needed = max(5, min(len(first[0]), len(second[0])) // 10)
    if len(best) < needed:
        raise MissingInput(
            f'{len(best)} bright stars agree on a shift within {CAPTURE_ARCSEC:.0f}" of the truth, '
            f"need {needed}; the astrometry is further off, or this is another field's truth"
        )
    east, north = np.median(shifts[best], axis=0)
    return float(east), float(north)


def to_pixels(stack: Stack, truth: Truth, offset: tuple[float, float]) -> tuple[Array, Array]:
    """Where the truth lies in the stack, if the stack is off by `offset` (arcsec)."""
    ra, dec = from_plane(truth.plane[0] + offset[0], truth.plane[1] + offset[1], truth.centre)
    x, y = stack.wcs.all_world2pix(ra, dec, 0, quiet=True)
    return np.asarray(x), np.asarray(y)


def to_sky(stack: Stack, truth: Truth, x: Array, y: Array) -> tuple[Array, Array]:
    """East and north (arcsec) of pixels of the stack."""
    ra, dec = stack.wcs.all_pix2world(x, y, 0)
    return to_plane(np.asarray(ra), np.asarray(dec), truth.centre)


def stray_light(truth: Truth, fwhm_arcsec: float, radius_arcsec: float, which: Array) -> Array:
    """Light of neighbours within a radius of each source, relative to its own; float (n,).

    A Moffat profile with beta = 3, widened by a galaxy's half-light radius. Only the sources
    `which` are looked at, the others get infinity.
    """
    east, north = truth.plane
    places = np.stack([east, north], axis=1)
    width = np.hypot(fwhm_arcsec, 2 * np.asarray(truth.table["RE"], dtype=float))
    core2 = width**2 / 4 / (2 ** (1 / 3) - 1)
    index = np.flatnonzero(which)
    near = cKDTree(places[index]).sparse_distance_matrix(
        cKDTree(places), 12 * fwhm_arcsec, output_type="coo_matrix"
    )
    own, other, distance = index[near.row], near.col, near.data
    apart = own != other
    own, other, distance = own[apart], other[apart], distance[apart]
    surface = 2 / np.pi / core2[other] * (1 + distance**2 / core2[other]) ** -3
    light = truth.flux[other] * np.minimum(1, np.pi * radius_arcsec**2 * surface)
    total = np.bincount(own, weights=light, minlength=len(east))
    return np.where(which, total / truth.flux, np.inf)


def well_inside(stack: Stack, x: Array, y: Array, margin_pix: int) -> Array:
    """Whether places have data all around, with at least half the usual weight; bool (n,)."""
    enough = stack.weight > 0.5 * np.median(stack.weight[stack.used])
    # Single holes (a pixel bad in every frame) are left to the apertures; here the edge counts.
    closed = ndimage.binary_closing(np.pad(enough, 8), np.ones((5, 5)))[8:-8, 8:-8]
    core = ndimage.minimum_filter(closed, 2 * margin_pix + 1, mode="constant", cval=0)
    ix, iy = (np.round(np.nan_to_num(axis, nan=-1)).astype(int) for axis in (x, y))
    ny, nx = core.shape
    on = (ix >= 0) & (ix < nx) & (iy >= 0) & (iy < ny)
    result = np.zeros(len(x), dtype=bool)
    result[on] = core[iy[on], ix[on]]
    return result


def build_scene(stack: Stack, truth: Truth) -> Scene:
    """Detect, find the constant offset between stack and truth, and lay one over the other."""
    sub, noise, found, segments = detect(stack)
    brightest = np.argsort(-found["flux"])[:300]
    sky = to_sky(stack, truth, found["x"][brightest], found["y"][brightest])
    on_chip = np.maximum(*np.abs(truth.uv)) < 1.2
    order = np.flatnonzero(on_chip)[np.argsort(truth.mag[on_chip])][:300]
    offset = vote((truth.plane[0][order], truth.plane[1][order]), sky)
    x, y = to_pixels(stack, truth, offset)
    half_light = found["flux"] > np.quantile(found["flux"], 0.5)
    seeing = (
        2
        * sep.flux_radius(
            sub,
            found["x"][half_light],
            found["y"][half_light],
            np.full(half_light.sum(), 12.0),
            0.5,
            mask=~stack.used,
        )[0]
    )
    guess = float(np.median(seeing[np.isfinite(seeing) & (seeing > 1)]))
    seeing_arcsec = guess * stack.pixel_arcsec
    return Scene(
        stack=stack,
        truth=truth,
        sub=sub,
        noise=noise,
        found=found,
        segments=segments,
        offset=offset,
        fwhm_pix=guess,
        x=x,
        y=y,
        inside=well_inside(stack, x, y, margin_pix=20),
        stray=stray_light(truth, seeing_arcsec, 1.5 * seeing_arcsec, on_chip),
    )
