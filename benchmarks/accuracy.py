"""Measure a finished reduction against the truth of the simulation it came from.

Usage: ``python benchmarks/accuracy.py PARENT TRUTH_DIR [--chip 3] [--reference refcat.fits]``

This is a judge: it shares no algorithm with the pipeline. It reads products (stack, weight map,
sky-subtracted frames, run.json) and truth (``truth.fits``, ``meta.json``) and nothing else.
Pixels are 0-based ``[row, column]``; ``east``, ``north`` are arcsec from the middle of the chip.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import sep
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from scipy import ndimage
from scipy.optimize import least_squares
from scipy.spatial import cKDTree

from helpers import (
    MEDIAN_ERROR,
    Array,
    fit_plane_clipped,
    flatten,
    from_plane,
    median_of_finite,
    plain,
    polynomial,
    robust_sigma,
    to_plane,
    within,
)
from photometrus.errors import MissingInput

Numbers = dict[str, Any]

FWHM_TO_SIGMA = 1 / 2.3548
CAPTURE_ARCSEC = 60.0
"""A constant astrometric error up to this is found, reported and taken out."""
CORNER = 0.15
"""A corner of the chip: the outer 15 % in x and in y."""
DEPTH_RADIUS_ARCSEC = 1.5
BRIGHT_SNR = 100.0
"""Stars for astrometry, in the aperture of 1.5 FWHM: photon noise moves them by 20 mas or less."""
ZERO_POINT_MAG = 15.5
MID_MAG = (16.0, 18.0)
SATURATION_SAFETY = 0.6
"""Of the full well that the brightest pixel of a star may fill: the PSF varies over the chip."""


# --- what is read --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Stack:
    """A coadd with its weights.

    data : float32 (ny, nx), ADU/frame; weight : float32 (ny, nx), 1 / ADU^2, 0 without data
    """

    path: Path
    data: Array
    weight: Array
    header: fits.Header

    @cached_property
    def wcs(self) -> WCS:
        """The WCS of the coadd."""
        return WCS(self.header)

    @cached_property
    def pixel_arcsec(self) -> float:
        """Side of a pixel of the coadd."""
        return float(np.mean(proj_plane_pixel_scales(self.wcs.celestial)) * 3600)

    @cached_property
    def used(self) -> Array:
        """Pixels with data; bool (ny, nx)."""
        return self.weight > 0


@dataclass(frozen=True, eq=False)
class Truth:
    """What was put into the simulation: sources, exposures, detector."""

    table: Table
    meta: Mapping[str, Any]
    chip: int

    @property
    def args(self) -> Mapping[str, Any]:
        """What the simulation was asked for."""
        return self.meta["args"]

    @property
    def exposures(self) -> list[Mapping[str, Any]]:
        """The chip's exposures in order of time."""
        return self.meta["chips"][str(self.chip)]["exposures"]

    @property
    def band(self) -> str:
        """The filter."""
        return self.exposures[0]["band"]

    @cached_property
    def mag(self) -> Array:
        """Magnitude of every source in this band."""
        return np.asarray(self.table[f"{self.band}mag"], dtype=float)

    @cached_property
    def flux(self) -> Array:
        """Flux of every source, 1 at magnitude 0."""
        return 10 ** (-0.4 * self.mag)

    @cached_property
    def constant_star(self) -> Array:
        """Point sources other than the transient; bool (n,)."""
        star = np.char.strip(np.asarray(self.table["TYPE"]).astype(str)) == "S"
        return star & (np.asarray(self.table["VAR"]) == 0)

    @cached_property
    def centre(self) -> tuple[float, float]:
        """RA and Dec (degrees) near the middle of the chip: where the plane touches the sky."""
        order = np.hypot(*self.uv)
        nearest = int(np.argmin(order))
        return float(self.table["RA"][nearest]), float(self.table["DEC"][nearest])

    @cached_property
    def plane(self) -> tuple[Array, Array]:
        """East and north of every source, arcsec from `centre`."""
        return to_plane(np.asarray(self.table["RA"]), np.asarray(self.table["DEC"]), self.centre)

    @cached_property
    def uv(self) -> tuple[Array, Array]:
        """Place on the detector, both axes from -1 to 1 over the chip."""
        half = self.args["size"] / 2
        return tuple(
            (np.asarray(self.table[f"{axis}_C{self.chip}"], dtype=float) + 0.5) / half - 1
            for axis in "XY"
        )

    @cached_property
    def pixel_density(self) -> Array:
        """Detector pixels per area of sky at every source, in magnitudes, middle of the chip 0."""
        on = np.maximum(*np.abs(self.uv)) < 1.2
        e, n = (axis / 1000 for axis in self.plane)
        cubic = polynomial(e[on], n[on], 3)
        x, y = (np.linalg.lstsq(cubic, axis[on], rcond=None)[0] for axis in self.uv)
        step = 1e-3

        def slope(coeff: Array, de: float, dn: float) -> Array:
            ahead, back = polynomial(e + de, n + dn, 3), polynomial(e - de, n - dn, 3)
            return (ahead - back) @ coeff

        area = slope(x, step, 0) * slope(y, 0, step) - slope(x, 0, step) * slope(y, step, 0)
        density = 2.5 * np.log10(np.maximum(np.abs(area), 1e-12))
        return density - np.median(density[on])

    @cached_property
    def saturation_mag(self) -> float:
        """The brightest star whose peak stays clear of the full well in every exposure."""
        limits = []
        for exposure in self.exposures:
            peak = moffat_peak(exposure["fwhm_px"], exposure["beta"])
            room = SATURATION_SAFETY * self.args.get("fullwell", 90000.0) - exposure["sky_e"]
            clear = exposure["zp_e"] - exposure["extinction"]
            limits.append(clear - 2.5 * np.log10(max(room, 1.0) / peak))
        return max(limits)

    def name(self, exposure: Mapping[str, Any]) -> str:
        """The ramp of an exposure: ``01599131C3``."""
        return f"{exposure['num']:08d}C{self.chip}"


def moffat_peak(fwhm: float, beta: float) -> float:
    """The part of a star's light in its central unit of area (unit of `fwhm`, squared)."""
    core2 = fwhm**2 / 4 / (2 ** (1 / beta) - 1)
    return (beta - 1) / np.pi / core2


def moffat_within(radius: float, fwhm: float, beta: float) -> float:
    """The part of a star's light within `radius` (same unit as `fwhm`)."""
    core2 = fwhm**2 / 4 / (2 ** (1 / beta) - 1)
    return 1 - (1 + radius**2 / core2) ** (1 - beta)


def read_image(path: Path) -> tuple[Array, fits.Header]:
    """The first image of a FITS file: float32 (ny, nx) native and contiguous, and its header."""
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            if hdu.data is not None and hdu.is_image and hdu.data.ndim == 2:
                return np.ascontiguousarray(hdu.data, dtype=np.float32), hdu.header.copy()
    raise MissingInput(f"{path}: no two-dimensional image in any HDU")


def read_stack(parent: Path, chip: int) -> Stack:
    """The coadd of a chip with its weight map; MissingInput when one of them is absent."""
    folder = parent / "stack"
    found = [p for p in sorted(folder.glob(f"coadd.*.C{chip}.fits*")) if p.suffix != ".part"]
    if not found:
        raise MissingInput(f"{folder}: no coadd.*.C{chip}.fits.fz; reduce the chip first")
    path = found[-1]
    stem = path.name.removesuffix(".fz").replace("coadd.", "weight.", 1)
    weights = [folder / stem, folder / f"{stem}.fz"]
    weight_path = next((p for p in weights if p.is_file()), None)
    if weight_path is None:
        raise MissingInput(f"{weights[0]}: the weight map of {path.name} is not there")
    data, header = read_image(path)
    weight, _ = read_image(weight_path)
    good = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    return Stack(path, np.where(good, data, 0), np.where(good, weight, 0), header)


def read_truth(folder: Path, chip: int) -> Truth:
    """The truth of one chip; MissingInput when the simulation had no such chip."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if str(chip) not in meta["chips"]:
        raise MissingInput(f"{folder}: no chip {chip}; it has {', '.join(meta['chips'])}")
    return Truth(Table.read(folder / "truth.fits"), meta, chip)


# --- the scene: the stack with the truth laid over it --------------------------------------------


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


# --- 1. astrometry -------------------------------------------------------------------------------


def bright_stars(scene: Scene) -> tuple[Array, Array, Array]:
    """Isolated, unsaturated stars with a good signal, and their windowed centroids.

    returns truth indices (n,), and x, y of the centroids in the stack (n,)
    """
    stars = scene.stars(scene.truth.saturation_mag, 99.0, stray=0.005)
    radius = scene.aperture_pix
    flux, _, _ = sep.sum_circle(scene.sub, scene.x[stars], scene.y[stars], radius, subpix=0)
    error = np.median(scene.noise[scene.stack.used]) * np.sqrt(np.pi) * radius
    stars = stars[flux > BRIGHT_SNR * error]
    detected = cKDTree(np.stack([scene.found["x"], scene.found["y"]], axis=1))
    near, which = detected.query(np.stack([scene.x[stars], scene.y[stars]], axis=1))
    kept = near * scene.stack.pixel_arcsec < 1.5
    stars, which = stars[kept], which[kept]
    x, y, flag = sep.winpos(
        scene.sub,
        scene.found["x"][which],
        scene.found["y"][which],
        scene.fwhm_pix * FWHM_TO_SIGMA,
        mask=~scene.stack.used,
    )
    done = np.isfinite(x) & np.isfinite(y) & ((flag & sep.APER_ALLMASKED) == 0)
    return stars[done], x[done], y[done]


def residuals(scene: Scene) -> tuple[Array, Array, Array]:
    """Stars (truth indices) and stack minus truth, east and north, in mas; all (n,)."""
    stars, x, y = bright_stars(scene)
    east, north = to_sky(scene.stack, scene.truth, x, y)
    true_east, true_north = (axis[stars] for axis in scene.truth.plane)
    return stars, (east - true_east) * 1000, (north - true_north) * 1000


def rms(values: Array) -> float:
    """Root mean square about zero; NaN for an empty array."""
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def astrometry(scene: Scene) -> Numbers:
    """Scatter about the mean offset, over the chip and in its corners, in mas per axis."""
    stars, east, north = residuals(scene)
    kept = within(east, 5.0) & within(north, 5.0)
    mean = float(np.mean(east[kept])), float(np.mean(north[kept]))
    de, dn = east - mean[0], north - mean[1]
    u, v = (axis[stars] for axis in scene.truth.uv)
    far = 1 - 2 * CORNER
    numbers: Numbers = {
        "n_stars": int(kept.sum()),
        "n_clipped": int((~kept).sum()),
        "mean_ra_mas": mean[0],
        "mean_dec_mas": mean[1],
        "rms_ra_mas": rms(de[kept]),
        "rms_dec_mas": rms(dn[kept]),
        "worst_mas": float(np.max(np.hypot(de, dn)[kept], initial=0.0)),
    }
    corner = kept & (np.abs(u) > far) & (np.abs(v) > far)
    numbers["corners"] = {
        "n_stars": int(corner.sum()),
        "rms_ra_mas": rms(de[corner]),
        "rms_dec_mas": rms(dn[corner]),
    }
    for name, here in {
        "low_x_low_y": (u < 0) & (v < 0),
        "high_x_low_y": (u > 0) & (v < 0),
        "low_x_high_y": (u < 0) & (v > 0),
        "high_x_high_y": (u > 0) & (v > 0),
    }.items():
        this = corner & here
        numbers["corners"][name] = {
            "n_stars": int(this.sum()),
            "rms_ra_mas": rms(de[this]),
            "rms_dec_mas": rms(dn[this]),
        }
    return numbers


def against_reference(scene: Scene, path: Path) -> Numbers:
    """The stack, and the truth, against a reference catalogue (columns RAJ2000, DEJ2000), in mas.

    `catalog_*` is the catalogue's own mean offset from the truth (its epoch included): a
    reduction tied to the catalogue inherits it. `beyond_catalog_*` is what the reduction added.
    """
    table = Table.read(path)
    ra, dec = np.asarray(table["RAJ2000"], float), np.asarray(table["DEJ2000"], float)
    around = to_plane(ra, dec, scene.truth.centre)
    tree = cKDTree(np.nan_to_num(np.stack(around, axis=1), nan=1e9))
    stars, east, north = residuals(scene)
    true = np.stack([axis[stars] for axis in scene.truth.plane], axis=1)
    near, which = tree.query(true)
    matched = near < 1.5
    own = (np.stack(around, axis=1)[which] - true) * 1000
    stack = np.stack([east, north], axis=1)
    numbers: Numbers = {"n_stars": int(matched.sum())}
    for i, axis in enumerate(("ra", "dec")):
        catalog, measured = own[matched, i], stack[matched, i]
        kept = within(catalog, 5.0) & within(measured, 5.0)
        if not kept.any():
            continue
        difference = (measured - catalog)[kept]
        numbers[f"catalog_mean_{axis}_mas"] = float(np.mean(catalog[kept]))
        numbers[f"catalog_rms_{axis}_mas"] = float(np.std(catalog[kept]))
        numbers[f"stack_minus_catalog_rms_{axis}_mas"] = float(np.std(difference))
        numbers[f"beyond_catalog_{axis}_mas"] = float(np.mean(difference))
        numbers[f"beyond_catalog_{axis}_error_mas"] = float(
            np.std(difference) / np.sqrt(len(difference))
        )
    return numbers


# --- 2. photometry -------------------------------------------------------------------------------


def annulus_background(scene: Scene, x: Array, y: Array, radius_pix: float) -> Array:
    """Clipped median of the raw stack in a ring around apertures; ADU, float (n,).

    The ring begins 1 FWHM outside the aperture, at least at 3 FWHM, and is 2.5 FWHM wide.
    Pixels of other detected objects, and those without data, are left out.
    """
    inner = max(3 * scene.fwhm_pix, radius_pix + scene.fwhm_pix)
    outer = inner + 2.5 * scene.fwhm_pix
    reach = int(np.ceil(outer))
    oy, ox = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    ring = (np.hypot(ox, oy) >= inner) & (np.hypot(ox, oy) <= outer)
    oy, ox = oy[ring], ox[ring]
    ny, nx = scene.sub.shape
    result = np.empty(len(x))
    for start in range(0, len(x), 2000):
        part = slice(start, start + 2000)
        cx, cy = np.round(x[part]).astype(int), np.round(y[part]).astype(int)
        px = np.clip(cx[:, None] + ox, 0, nx - 1)
        py = np.clip(cy[:, None] + oy, 0, ny - 1)
        own = scene.segments[np.clip(cy, 0, ny - 1), np.clip(cx, 0, nx - 1)]
        label = scene.segments[py, px]
        free = ((label == 0) | (label == own[:, None])) & scene.stack.used[py, px]
        values = np.where(free, scene.stack.data[py, px], np.nan).astype(float)
        values[~free.any(axis=1), 0] = 0.0
        for _ in range(3):
            middle = np.nanmedian(values, axis=1)[:, None]
            spread = 1.4826 * np.nanmedian(np.abs(values - middle), axis=1)[:, None]
            values[np.abs(values - middle) > 3 * spread + 1e-12] = np.nan
        result[part] = np.nanmedian(values, axis=1)
    return result


def aperture_flux(scene: Scene, stars: Array, radius_pix: float) -> tuple[Array, Array]:
    """Flux at the true places, local background removed, in ADU; and whether it is whole."""
    x, y = scene.x[stars], scene.y[stars]
    flux, _, _ = sep.sum_circle(scene.stack.data, x, y, radius_pix, subpix=0)
    holes = (~scene.stack.used).astype(np.float32)
    missing, _, _ = sep.sum_circle(holes, x, y, radius_pix, subpix=0)
    area = np.pi * radius_pix**2
    return flux - annulus_background(scene, x, y, radius_pix) * area, missing < 1e-3


def zero_point(scene: Scene, radius_pix: float) -> tuple[float, float, int]:
    """Magnitude of 1 ADU/frame in an aperture, from the bright stars; its error; their number."""
    bright, faint = scene.truth.saturation_mag, ZERO_POINT_MAG
    stars = scene.stars(bright, faint)
    while len(stars) < 10 and faint < 18:
        faint += 0.5
        stars = scene.stars(bright, faint)
    flux, whole = aperture_flux(scene, stars, radius_pix)
    good = whole & (flux > 0)
    values = scene.truth.mag[stars][good] + 2.5 * np.log10(flux[good])
    values = values[within(values, 5.0)]
    if len(values) == 0:
        return float("nan"), float("nan"), 0
    error = MEDIAN_ERROR * robust_sigma(values) / np.sqrt(len(values))
    return float(np.median(values)), error, len(values)


def bias(ratio: Array) -> tuple[float, float]:
    """Median magnitude error of measured / true fluxes (positive: too faint), and its error."""
    middle = float(np.median(ratio))
    if middle <= 0:
        return float("inf"), float("inf")
    spread = MEDIAN_ERROR * robust_sigma(ratio) / np.sqrt(len(ratio))
    return -2.5 * float(np.log10(middle)), 1.0857 * spread / middle


def magnitude_bins(mag: Array, ratio: Array, limit: float) -> list[Numbers]:
    """Median (mag - truth - zero point) in half-magnitude bins down to `limit`."""
    bins = []
    for low in np.arange(np.floor(2 * mag.min()) / 2, min(limit, mag.max()), 0.5):
        here = ratio[(mag >= low) & (mag < low + 0.5)]
        if len(here) < 5:
            continue
        middle, error = bias(here)
        bins.append(
            {
                "mag": low + 0.25,
                "n": len(here),
                "bias": middle,
                "error": error,
                "scatter": 1.0857 * robust_sigma(here) / max(float(np.median(here)), 1e-9),
            }
        )
    return bins


def photometry(scene: Scene, limit_mag: float) -> Numbers:
    """Zero point, magnitude errors by brightness, and by place on the chip."""
    radius = scene.aperture_pix
    zp, zp_error, n_zp = zero_point(scene, radius)
    stars = scene.stars(scene.truth.saturation_mag, min(limit_mag, 99.0))
    flux, whole = aperture_flux(scene, stars, radius)
    stars, flux = stars[whole], flux[whole]
    mag = scene.truth.mag[stars]
    ratio = flux / 10 ** (-0.4 * (mag - zp))
    bins = magnitude_bins(mag, ratio, limit_mag)
    numbers: Numbers = {
        "aperture_arcsec": radius * scene.stack.pixel_arcsec,
        "zero_point": zp,
        "zero_point_error": zp_error,
        "n_zero_point": n_zp,
        "brightest_mag": scene.truth.saturation_mag,
        "bins": bins,
    }
    low, high = MID_MAG[0], min(MID_MAG[1], limit_mag - 0.5)
    middle = (mag >= low) & (mag < high)
    if middle.sum() >= 5:
        numbers["mid_faintest_mag"] = high
        numbers["mid_bias"], numbers["mid_error"] = bias(ratio[middle])
        # What cannot be chance at two sigma: for windows that hold too few stars.
        sure = abs(numbers["mid_bias"]) - 2 * np.hypot(numbers["mid_error"], zp_error)
        numbers["mid_excess"] = max(0.0, float(sure))
        numbers["n_mid"] = int(middle.sum())
        worst = [b["bias"] for b in bins if low <= b["mag"] <= high]
        numbers["mid_worst_bin"] = max(worst, key=abs, default=float("nan"))
    numbers["place"] = by_place(scene)
    return numbers


def by_place(scene: Scene) -> Numbers:
    """How the magnitude error depends on the place: corners, a quadratic, the pixel area.

    The aperture is wide (3 FWHM), so that a PSF that widens towards the edge costs < 0.1 %.
    `area_slope` is d(mag error) / d(2.5 log10 of detector pixels per sky area): 0 when flux is
    right everywhere, +1 when the stack kept surface brightness although the flat does not hold
    the pixel area, -1 when it is corrected twice.
    """
    truth, radius = scene.truth, 3 * scene.fwhm_pix
    stars = scene.stars(truth.saturation_mag, 18.0)
    seeing = scene.fwhm_pix * scene.stack.pixel_arcsec
    chosen = np.zeros(len(truth.mag), dtype=bool)
    chosen[stars] = True
    stars = stars[stray_light(truth, seeing, 3 * seeing, chosen)[stars] < 0.02]
    flux, whole = aperture_flux(scene, stars, radius)
    whole &= flux > 0
    stars, flux = stars[whole], flux[whole]
    noise = np.median(scene.noise[scene.stack.used]) * np.sqrt(np.pi) * radius
    sigma = np.hypot(1.0857 * noise / flux, 0.01)
    use = sigma < 0.05
    if use.sum() < 30:
        return {"n_stars": int(use.sum())}
    stars, sigma = stars[use], sigma[use]
    error = -2.5 * np.log10(flux[use]) - truth.mag[stars]
    error -= np.median(error)
    u, v = (axis[stars] for axis in truth.uv)
    coeff, _, kept = fit_plane_clipped(polynomial(u, v, 2), error, sigma)
    grid = np.linspace(-1, 1, 21)
    surface = polynomial(*(axis.ravel() for axis in np.meshgrid(grid, grid)), 2) @ coeff
    numbers: Numbers = {
        "n_stars": int(kept.sum()),
        "aperture_arcsec": radius * scene.stack.pixel_arcsec,
        "polynomial_peak_to_peak": float(np.ptp(surface)),
        "polynomial_rms": float(np.std(surface)),
    }
    corner = kept & (np.abs(u) > 1 - 2 * CORNER) & (np.abs(v) > 1 - 2 * CORNER)
    centre = kept & (np.hypot(u, v) < 0.5)
    if corner.sum() >= 3 and centre.sum() >= 3:
        numbers["corner_minus_centre"] = float(np.median(error[corner]) - np.median(error[centre]))
        numbers["corner_minus_centre_error"] = MEDIAN_ERROR * float(
            np.hypot(*(robust_sigma(error[w]) / np.sqrt(w.sum()) for w in (corner, centre)))
        )
    density = truth.pixel_density[stars]
    if np.ptp(density) > 0.01:  # the window of a small chip hardly has any
        terms = np.stack([np.ones(len(density)), density], axis=1)
        slope, slope_error, _ = fit_plane_clipped(terms, error, sigma)
        numbers["area_slope"] = float(slope[1])
        numbers["area_slope_error"] = float(slope_error[1])
    return numbers


# --- 3. sharpness --------------------------------------------------------------------------------


def moffat_fwhm(data: Array, x: float, y: float, guess_pix: float) -> float:
    """FWHM in pixels of a star near (x, y): a round Moffat with free exponent, NaN if it fails."""
    half = int(np.ceil(3 * guess_pix))
    cx, cy = round(x), round(y)
    stamp = data[cy - half : cy + half + 1, cx - half : cx + half + 1].astype(float)
    if stamp.shape != (2 * half + 1, 2 * half + 1):
        return float("nan")
    py, px = np.mgrid[-half : half + 1, -half : half + 1]
    radius, valid = np.hypot(px, py), np.isfinite(stamp)
    if not valid[radius < 0.6 * guess_pix].all() or valid.mean() < 0.8:
        return float("nan")
    base, peak = float(np.median(stamp[valid & (radius > half - 1)])), float(stamp[half, half])
    if peak <= base:
        return float("nan")

    span = peak - base

    def model_minus_data(p: Array) -> Array:
        core2 = p[3] ** 2 / 4 / (2 ** (1 / p[4]) - 1)
        r2 = (px - p[1]) ** 2 + (py - p[2]) ** 2
        return (p[0] * (1 + r2 / core2) ** -p[4] + p[5] - stamp)[valid] / span

    start = [span, x - cx, y - cy, guess_pix, 3.0, base]
    low = [0, -3, -3, 0.5, 1.2, base - span]
    high = [20 * span, 3, 3, 4 * guess_pix, 20, base + span]
    # Soft loss: a cosmic ray or a bad pixel that was left in a frame must not set the width.
    fit = least_squares(
        model_minus_data,
        start,
        bounds=(low, high),
        x_scale=[span, 1, 1, 1, 1, span],
        loss="soft_l1",
        f_scale=0.03,
        max_nfev=60,
    )
    return float(fit.x[3]) if fit.success else float("nan")


def widths(image: Array, wcs: WCS, ra: Array, dec: Array, guess_arcsec: float) -> Array:
    """FWHM in arcsec of stars at known places, NaN where there is none to measure; float (n,)."""
    x, y = (np.asarray(a) for a in wcs.all_world2pix(ra, dec, 0, quiet=True))
    step = 20.0
    scale = np.full(len(ra), np.nan)
    good = np.isfinite(x) & np.isfinite(y)
    corners = [
        to_plane(*wcs.all_pix2world(x[good] + dx, y[good] + dy, 0), (ra.mean(), dec.mean()))
        for dx, dy in ((0, 0), (step, 0), (0, step))
    ]
    ax, ay = (corners[1][i] - corners[0][i] for i in (0, 1))
    bx, by = (corners[2][i] - corners[0][i] for i in (0, 1))
    scale[good] = np.sqrt(np.abs(ax * by - ay * bx)) / step
    result = np.full(len(ra), np.nan)
    for i in np.flatnonzero(good):
        result[i] = moffat_fwhm(image, x[i], y[i], guess_arcsec / scale[i]) * scale[i]
    return result


def sharpness(scene: Scene, parent: Path, frames: list[str]) -> Numbers:
    """FWHM of the stack and of the frames in it, from the same stars by the same fit."""
    truth, stack = scene.truth, scene.stack
    stars, _, _ = bright_stars(scene)
    if len(stars) > 80:  # spread evenly in brightness
        stars = stars[np.argsort(truth.mag[stars])][:: len(stars) // 80 + 1]
    ra, dec = from_plane(
        truth.plane[0][stars] + scene.offset[0],
        truth.plane[1][stars] + scene.offset[1],
        truth.centre,
    )
    guess = scene.fwhm_pix * stack.pixel_arcsec
    data = np.where(stack.used, stack.data, np.nan)
    stacked = widths(data, stack.wcs, ra, dec, guess)
    per_frame: Numbers = {}
    measured = []
    for name in frames:
        path = parent / f"C{truth.chip}_sub" / f"{name}.sky.flat.fits"
        if path.is_file():
            image, header = read_image(path)
            measured.append(widths(image, WCS(header), ra, dec, guess))
            per_frame[name] = median_of_finite(measured[-1])
    used = [e for e in truth.exposures if truth.name(e) in frames]
    numbers: Numbers = {
        "n_stars": int(np.isfinite(stacked).sum()),
        "stack_arcsec": median_of_finite(stacked),
        "frames": per_frame,
        "frames_mean_arcsec": float(np.mean(list(per_frame.values()))) if per_frame else None,
        "truth_mean_arcsec": float(np.mean([e["fwhm_px"] for e in used])) * truth.meta["pix"],
    }
    if measured:
        each = np.array(measured)
        whole = np.isfinite(each).all(axis=0) & np.isfinite(stacked)
        ratio = stacked[whole] / each[:, whole].mean(axis=0)
        numbers["n_ratio"] = int(whole.sum())
        numbers["ratio"] = float(np.median(ratio)) if len(ratio) else None
    return numbers


# --- 4. depth ------------------------------------------------------------------------------------


def glow_arcsec(mag: Array) -> Array:
    """How far a star's light reaches: 3" at magnitude 19, 12" at 13, at most 60"."""
    return np.clip(3 * 10 ** (0.1 * (19 - np.asarray(mag))), 2.0, 60.0)


def truth_mask(scene: Scene) -> Array:
    """Pixels that a true source may light up; bool (ny, nx)."""
    mask = np.zeros(scene.sub.shape, dtype=bool)
    ny, nx = mask.shape
    extent = glow_arcsec(scene.truth.mag) + 2 * np.asarray(scene.truth.table["RE"], dtype=float)
    for x, y, radius in zip(scene.x, scene.y, extent / scene.stack.pixel_arcsec, strict=True):
        reach = int(np.ceil(radius))
        if not (-reach < x < nx + reach and -reach < y < ny + reach):
            continue
        left, low = max(0, int(x) - reach), max(0, int(y) - reach)
        box = mask[low : int(y) + reach + 2, left : int(x) + reach + 2]
        row = np.arange(low, low + box.shape[0])[:, None] - y
        column = np.arange(left, left + box.shape[1])[None, :] - x
        box |= row**2 + column**2 <= radius**2
    return mask


def significance(scene: Scene, lit: Array) -> Array:
    """Matched-filter signal to noise, scaled to unit scatter where the sky is empty.

    lit : bool (ny, nx), pixels with light of true sources
    returns float32 (ny, nx)

    The scaling makes 5 sigma mean 5 sigma although resampling has correlated the noise of
    neighbouring pixels.
    """
    sigma = scene.fwhm_pix * FWHM_TO_SIGMA
    weight = scene.stack.weight
    signal = ndimage.gaussian_filter(scene.sub * weight, sigma)
    variance = ndimage.gaussian_filter(weight, sigma / np.sqrt(2)) / (4 * np.pi * sigma**2)
    ratio = np.where(scene.stack.used, signal / np.sqrt(np.maximum(variance, 1e-30)), 0)
    empty = scene.stack.used & ~lit
    return (ratio / robust_sigma(ratio[empty][::5])).astype(np.float32)


def not_empty(scene: Scene, lit: Array, ratio: Array) -> Array:
    """Pixels with light of a true source or of a 5-sigma detection, or without data; bool.

    Fainter detections stay: leaving out the positive half of the noise would flatter the depth.
    """
    detected = ndimage.maximum_filter((ratio > 5).astype(np.uint8), 9) > 0
    return lit | detected | ~scene.stack.used


def depth(scene: Scene, mask: Array, frames: list[str], n_apertures: int = 4000) -> Numbers:
    """5-sigma limit from empty apertures, the weight map's own claim, and what photons allow."""
    truth, stack = scene.truth, scene.stack
    radius = DEPTH_RADIUS_ARCSEC / stack.pixel_arcsec
    draw = np.random.RandomState(20240606)
    ny, nx = stack.data.shape
    x = draw.uniform(radius + 1, nx - radius - 2, 20 * n_apertures)
    y = draw.uniform(radius + 1, ny - radius - 2, 20 * n_apertures)
    full = stack.weight > 0.7 * np.median(stack.weight[stack.used])
    blocked, _, _ = sep.sum_circle((mask | ~full).astype(np.float32), x, y, radius + 1, subpix=1)
    x, y = x[blocked == 0][:n_apertures], y[blocked == 0][:n_apertures]
    numbers: Numbers = {"n_apertures": len(x)}
    if len(x) < 30:
        return numbers
    # Whole pixels (subpix=1): with parts of pixels the sum of variances is not that of the flux.
    flux, _, _ = sep.sum_circle(scene.sub, x, y, radius, subpix=1)
    variance = np.where(stack.used, 1 / np.where(stack.used, stack.weight, 1), 0)
    claimed, _, _ = sep.sum_circle(variance.astype(np.float32), x, y, radius, subpix=1)
    sigma = robust_sigma(flux)
    zp, _, _ = zero_point(scene, radius)
    numbers["sigma_adu"] = sigma
    numbers["limit_mag"] = zp - 2.5 * np.log10(5 * sigma)
    numbers["mean_flux_sigma"] = float(np.mean(flux[within(flux, 5.0)]) / sigma)
    numbers["sigma_over_weight_map"] = sigma / float(np.sqrt(np.median(claimed)))
    empty = ~mask & full
    numbers["pixel_sigma_over_weight_map"] = robust_sigma(
        (scene.sub * np.sqrt(stack.weight))[empty][::5]
    )
    numbers["expected_mag"] = expected_limit(truth, frames)
    numbers["lost_mag"] = numbers["expected_mag"] - numbers["limit_mag"]
    return numbers


def expected_limit(truth: Truth, frames: list[str]) -> float:
    """5-sigma limit of a 1.5" aperture from sky photons and read noise of the frames used.

    The frames are added with their best weights. The read noise of n reads of `readnoise`
    electrons in a fitted slope, in electrons of the whole ramp, is r sqrt(12 n / (n^2 - 1)).
    """
    signal_to_noise2 = 0.0
    pixel = truth.meta["pix"]
    area = np.pi * (DEPTH_RADIUS_ARCSEC / pixel) ** 2
    halo = truth.meta.get("aureole", 0.0)
    for exposure in (e for e in truth.exposures if truth.name(e) in frames):
        n = max(int(exposure["nframes"]), 2)
        reads = truth.args["readnoise"] ** 2 * 12 * n / (n**2 - 1)
        caught = moffat_within(
            DEPTH_RADIUS_ARCSEC, exposure["fwhm_px"] * pixel, exposure["beta"]
        ) * (1 - halo)
        electrons = caught * 10 ** (0.4 * (exposure["zp_e"] - exposure["extinction"]))
        signal_to_noise2 += electrons**2 / (area * (exposure["sky_e"] + reads))
    if signal_to_noise2 == 0:
        return float("nan")
    return -2.5 * float(np.log10(5 / np.sqrt(signal_to_noise2)))


# --- 5. background -------------------------------------------------------------------------------


def background(scene: Scene, mask: Array, bin_pix: int = 64) -> Numbers:
    """Scatter of the source-free stack in bins, beside what the pixel noise alone would leave."""
    stack = scene.stack
    full = stack.weight > 0.5 * np.median(stack.weight[stack.used])
    good = ~mask & full
    ny, nx = (n // bin_pix for n in good.shape)

    def sums(values: Array) -> Array:
        cut = values[: ny * bin_pix, : nx * bin_pix]
        return cut.reshape(ny, bin_pix, nx, bin_pix).sum(axis=(1, 3), dtype=float)

    count = sums(good)
    level = sums(np.where(good, stack.data, 0)) / np.maximum(count, 1)
    random = np.sqrt(sums(np.where(good, scene.noise.astype(float) ** 2, 0)))
    use = count > 0.3 * bin_pix**2
    if use.sum() < 4:
        return {"n_bins": int(use.sum())}
    exposure = scene.truth.exposures[0]
    sky = exposure["sky_e"] / scene.truth.args.get("gain", 2.0) / exposure["nframes"]
    values = level[use]
    numbers: Numbers = {
        "n_bins": int(use.sum()),
        "median_adu": float(np.median(values)),
        "rms_adu": float(np.std(values)),
        "robust_rms_adu": robust_sigma(values),
        "white_noise_adu": float(np.median((random / np.maximum(count, 1))[use])),
        "range_98_adu": float(np.ptp(np.quantile(values, [0.01, 0.99]))),
    }
    numbers["rms_of_sky"] = numbers["rms_adu"] / sky
    numbers["halo"] = halos(scene, numbers["median_adu"])
    return numbers


def halos(scene: Scene, level_adu: float, n_stars: int = 12) -> Numbers:
    """Mean profile of the brightest stars beyond 5 arcsec; holes are oversubtracted sky.

    `profile` holds (radius in arcsec, surface brightness per arcsec^2 in millionths of the star's
    flux, the same in sigma of one pixel of the stack).
    """
    truth, stack = scene.truth, scene.stack
    edges = np.array([5, 7, 10, 14, 20, 28, 40.0]) / stack.pixel_arcsec
    reach = int(np.ceil(edges[-1]))
    ny, nx = stack.data.shape
    room = (scene.x > reach) & (scene.x < nx - reach - 1)
    room &= (scene.y > reach) & (scene.y < ny - reach - 1) & scene.inside
    stars = np.flatnonzero(truth.constant_star & room & (truth.mag < 13))
    stars = stars[np.argsort(truth.mag[stars])][:n_stars]
    if len(stars) == 0:
        return {"n_stars": 0}
    zp, _, _ = zero_point(scene, scene.aperture_pix)
    oy, ox = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    profiles = []
    for star in stars:
        cx, cy = round(scene.x[star]), round(scene.y[star])
        cut = np.s_[cy - reach : cy + reach + 1, cx - reach : cx + reach + 1]
        radius = np.hypot(ox + cx - scene.x[star], oy + cy - scene.y[star])
        own = scene.segments[cy, cx]
        free = ((scene.segments[cut] == 0) | (scene.segments[cut] == own)) & stack.used[cut]
        rings = [stack.data[cut][free & (radius >= a) & (radius < b)] for a, b in pairwise(edges)]
        # A neighbour may cover a whole ring: that ring then says nothing.
        known = [np.median(ring) if ring.size else np.nan for ring in rings]
        profiles.append(np.array(known) - level_adu)
    adu = np.array(profiles)
    adu = adu[np.isfinite(adu).all(axis=1)]
    stars = stars[np.isfinite(np.array(profiles)).all(axis=1)]
    if len(stars) == 0:
        return {"n_stars": 0}
    flux = 10 ** (-0.4 * (truth.mag[stars] - zp))
    light = np.median(adu / flux[:, None], axis=0) / stack.pixel_arcsec**2 * 1e6
    sigma = float(np.median(scene.noise[stack.used]))
    middle = np.median(adu, axis=0) / sigma
    radii = np.sqrt(edges[1:] * edges[:-1]) * stack.pixel_arcsec
    return {
        "n_stars": len(stars),
        "deepest_sigma": float(middle.min()),
        "deepest_adu": float(np.median(adu, axis=0).min()),
        "profile": [list(row) for row in zip(radii, light, middle, strict=True)],
    }


# --- 6. the transient and the frames -------------------------------------------------------------


def transient(scene: Scene) -> Numbers:
    """Whether the injected transient is there, how far from its place, how far off in magnitude."""
    true = scene.truth.meta.get("transient")
    if not true or int(true.get("chip") or scene.truth.chip) != scene.truth.chip:
        return {"on_chip": False, "missed": False}
    ra, dec = (np.array([true[key]]) for key in ("ra", "dec"))
    east, north = to_plane(ra, dec, scene.truth.centre)
    there = from_plane(east + scene.offset[0], north + scene.offset[1], scene.truth.centre)
    x, y = (np.asarray(a) for a in scene.stack.wcs.all_world2pix(*there, 0, quiet=True))
    if not well_inside(scene.stack, x, y, 2)[0]:
        return {"on_chip": False, "missed": False}
    numbers: Numbers = {"on_chip": True}
    distance = np.hypot(scene.found["x"] - x[0], scene.found["y"] - y[0])
    nearest = int(np.argmin(distance))
    numbers["missed"] = bool(distance[nearest] * scene.stack.pixel_arcsec >= 1.0)
    if numbers["missed"]:
        return numbers
    sigma = scene.fwhm_pix * FWHM_TO_SIGMA
    wx, wy, _ = sep.winpos(
        scene.sub, scene.found["x"][[nearest]], scene.found["y"][[nearest]], sigma
    )
    off = np.array(to_sky(scene.stack, scene.truth, wx, wy)).ravel() - np.ravel([east, north])
    numbers["offset_ra_mas"], numbers["offset_dec_mas"] = (off * 1000).tolist()
    radius = scene.aperture_pix
    flux, _, _ = sep.sum_circle(scene.stack.data, x, y, radius, subpix=0)
    flux = flux - annulus_background(scene, x, y, radius) * np.pi * radius**2
    zp, _, _ = zero_point(scene, radius)
    numbers["mag"] = zp - 2.5 * float(np.log10(max(flux[0], 1e-9)))
    numbers["true_mag"] = float(true["mag"])
    numbers["mag_error"] = numbers["mag"] - numbers["true_mag"]
    return numbers


RAMP = re.compile(r"\d{8}C[1-4]")
DROPPED = re.compile(r"drop|reject|exclu|lost|unus|skip|fail|unsolved|\bbad\b", re.IGNORECASE)
VERDICT_KEYS = ("verdict", "status", "state", "decision", "result", "outcome")
USED_KEYS = ("used", "accepted", "stacked", "coadded", "in_coadd", "in_stack")
WEIGHT_KEYS = ("weight", "relative_weight", "coadd_weight", "stack_weight")


def frame_records(node: object, key: str = "") -> list[tuple[str, Mapping[str, Any]]]:
    """Every (ramp, record) in run.json, wherever it stands."""
    name = RAMP.search(key)
    if isinstance(node, str):
        return [(name[0], {"verdict": node})] if name else []
    if isinstance(node, list):
        return [record for item in node for record in frame_records(item, key)]
    if not isinstance(node, Mapping):
        return []
    texts = (RAMP.search(value) for value in node.values() if isinstance(value, str))
    name = name or next((text for text in texts if text), None)
    own = [(name[0], node)] if name else []
    return own + [record for k, v in node.items() for record in frame_records(v, k)]


def frame_verdicts(parent: Path, chip: int) -> dict[str, Numbers]:
    """What run.json says of each frame: dropped, weight, and its words; tolerant of its keys."""
    path = parent / "run.json"
    if not path.is_file():
        return {}
    verdicts: dict[str, Numbers] = {}
    for name, record in frame_records(json.loads(path.read_text(encoding="utf-8"))):
        if not name.endswith(f"C{chip}"):
            continue
        words = " ".join(str(record[k]) for k in VERDICT_KEYS if isinstance(record.get(k), str))
        used = next((record[k] for k in USED_KEYS if isinstance(record.get(k), bool)), None)
        weight = next(
            (float(record[k]) for k in WEIGHT_KEYS if isinstance(record.get(k), int | float)), None
        )
        if not words and used is None and weight is None:
            continue
        entry = verdicts.setdefault(name, {"dropped": False, "weight": None, "words": ""})
        gone = used is False or weight == 0 or (used is None and bool(DROPPED.search(words)))
        entry["dropped"] = entry["dropped"] or gone
        entry["weight"] = weight if weight is not None else entry["weight"]
        entry["words"] = words or entry["words"]
    return verdicts


def frames_used(stack: Stack, truth: Truth, verdicts: Mapping[str, Numbers]) -> list[str]:
    """The frames in the stack: by run.json, else by the coadd's header, else the good ones."""
    every = [truth.name(e) for e in truth.exposures]
    told = [name for name in every if name in verdicts]
    if len(told) >= len(every) / 2:
        return [name for name in told if not verdicts[name]["dropped"]]
    header = " ".join(str(card.value) for card in stack.header.cards)
    listed = [name for name in every if name in header]
    if len(listed) >= 2:
        return listed
    return [truth.name(e) for e in truth.exposures if not e["bad"]]


def frame_numbers(truth: Truth, verdicts: Mapping[str, Numbers], used: list[str]) -> Numbers:
    """Which frames were used, and whether the bad ones were recognised."""
    numbers: Numbers = {"n_exposures": len(truth.exposures), "n_used": len(used)}
    weights = [v["weight"] for v in verdicts.values() if v["weight"]]
    typical = float(np.median(weights)) if weights else None
    bad: list[Numbers] = []
    for exposure in (e for e in truth.exposures if e["bad"]):
        name = truth.name(exposure)
        verdict = verdicts.get(name, {})
        weight = verdict.get("weight")
        bad.append(
            {
                "name": name,
                "in_stack": name in used,
                "relative_weight": weight / typical if weight is not None and typical else None,
                "words": verdict.get("words", ""),
            }
        )
    numbers["bad"] = bad
    numbers["bad_recognised"] = all(
        not b["in_stack"] or (b["relative_weight"] is not None and b["relative_weight"] < 0.5)
        for b in bad
    )
    good = [truth.name(e) for e in truth.exposures if not e["bad"]]
    numbers["good_lost"] = len([name for name in good if name not in used])
    return numbers


# --- 7. what is not there ------------------------------------------------------------------------


def spurious(scene: Scene, ratio: Array, n_sigma: float = 5.0) -> Numbers:
    """Detections above `n_sigma` that no true source explains, and equally deep holes.

    ratio : float32 (ny, nx), signal to noise of the matched filter
    """
    scale = scene.stack.pixel_arcsec
    size = 2 * int(np.ceil(scene.fwhm_pix)) + 1
    near = scene.inside | (scene.truth.mag < 17)
    tree = cKDTree(np.stack([scene.x[near], scene.y[near]], axis=1))
    reach = (
        np.where(scene.truth.mag[near] < 17, glow_arcsec(scene.truth.mag[near]), 2.0)
        + 2 * np.asarray(scene.truth.table["RE"], dtype=float)[near]
    )
    numbers: Numbers = {}
    for name, sign in (("detections", 1), ("holes", -1)):
        image = sign * ratio
        peak = (image > n_sigma) & (image == ndimage.maximum_filter(image, size))
        py, px = np.nonzero(peak)
        here = well_inside(scene.stack, px, py, margin_pix=20)
        px, py = px[here], py[here]
        candidates = tree.query_ball_point(np.stack([px, py], axis=1), reach.max() / scale)
        explained = np.zeros(len(px), dtype=bool)
        for i, others in enumerate(candidates):
            gap = np.hypot(tree.data[others, 0] - px[i], tree.data[others, 1] - py[i]) * scale
            explained[i] = bool((gap < reach[others]).any())
        left = np.flatnonzero(~explained)
        left = left[np.argsort(-image[py[left], px[left]])]
        numbers[f"n_{name}"] = len(left)
        numbers[f"worst_{name}"] = [
            [int(px[i]), int(py[i]), float(image[py[i], px[i]])] for i in left[:20]
        ]
    area = (scene.stack.weight > 0.5 * np.median(scene.stack.weight[scene.stack.used])).sum()
    arcmin2 = float(area) * (scale / 60) ** 2
    numbers["area_arcmin2"] = arcmin2
    numbers["per_10_arcmin2"] = numbers["n_detections"] / arcmin2 * 10
    return numbers


# --- all of it -----------------------------------------------------------------------------------


def measure(
    parent: Path | str,
    truth_dir: Path | str,
    chip: int,
    reference: Path | str | None = None,
    plot: Path | str | None = None,
) -> Numbers:
    """Every number of one chip of a product tree, as nested dicts that JSON can hold.

    parent : the product tree; truth_dir : folder of ``truth.fits`` and ``meta.json``
    reference : catalogue with RAJ2000, DEJ2000; plot : PNG of the astrometric residuals to write

    Raises MissingInput when the coadd, its weight map or the truth is absent, or when no constant
    offset brings them together.
    """
    parent, truth = Path(parent), read_truth(Path(truth_dir), chip)
    scene = build_scene(read_stack(parent, chip), truth)
    verdicts = frame_verdicts(parent, chip)
    used = frames_used(scene.stack, truth, verdicts)
    sharp = sharpness(scene, parent, used)
    if np.isfinite(sharp["stack_arcsec"]):
        better = sharp["stack_arcsec"] / scene.stack.pixel_arcsec
        scene = replace(scene, fwhm_pix=better)
    lit = truth_mask(scene)
    ratio = significance(scene, lit)
    mask = not_empty(scene, lit, ratio)
    limits = depth(scene, mask, used)
    numbers: Numbers = {
        "coadd": scene.stack.path.name,
        "chip": chip,
        "size": truth.args["size"],
        "band": truth.band,
        "pixel_arcsec": scene.stack.pixel_arcsec,
        "astrometry": astrometry(scene),
        "photometry": photometry(scene, limits.get("limit_mag", 20.0)),
        "fwhm": sharp,
        "depth": limits,
        "background": background(scene, mask),
        "transient": transient(scene),
        "frames": frame_numbers(truth, verdicts, used),
        "spurious": spurious(scene, ratio),
    }
    if reference is not None:
        numbers["reference"] = against_reference(scene, Path(reference))
    if plot is not None:
        draw_residuals(scene, Path(plot))
    return plain(numbers)


Limits = Mapping[str, tuple[float | None, float | None]]

ACCEPTANCE: Limits = {
    "astrometry.rms_ra_mas": (None, 40.0),
    "astrometry.rms_dec_mas": (None, 40.0),
    "astrometry.corners.rms_ra_mas": (None, 50.0),
    "astrometry.corners.rms_dec_mas": (None, 50.0),
    "photometry.mid_bias": (-0.04, 0.04),
    "fwhm.ratio": (None, 1.05),
    "frames.bad_recognised": (1, None),
    "transient.missed": (None, 0),
}
"""Lowest and highest allowed value, by dotted name, for a full-size chip."""
WINDOW: Limits = {
    "astrometry.rms_ra_mas": (None, 40.0),
    "astrometry.rms_dec_mas": (None, 40.0),
    "photometry.mid_excess": (None, 0.04),
    "fwhm.ratio": (None, 1.05),
    "frames.bad_recognised": (1, None),
    "transient.missed": (None, 0),
}
"""The same for the window of a small chip, which holds some ten bright stars."""


def check(numbers: Mapping[str, Any], limits: Limits = ACCEPTANCE) -> list[str]:
    """One sentence for every number that is absent or outside its limits; empty when all is well.

    limits : dotted name -> (lowest, highest), both allowed, None for no limit; True counts as 1
    """
    leaves = dict(flatten(numbers))
    failures = []
    for name, (low, high) in limits.items():
        value = leaves.get(name)
        if value is None or isinstance(value, str):
            failures.append(f"{name} was not measured")
        elif low is not None and value < low:
            failures.append(f"{name} = {value:.4g}, at least {low:g} required")
        elif high is not None and value > high:
            failures.append(f"{name} = {value:.4g}, at most {high:g} allowed")
    return failures


def draw_residuals(scene: Scene, path: Path) -> None:
    """A PNG with one arrow per bright star: stack minus truth, the mean offset removed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    stars, east, north = residuals(scene)
    kept = within(east, 5.0) & within(north, 5.0)
    east, north = east[kept] - east[kept].mean(), north[kept] - north[kept].mean()
    x, y = (axis[stars][kept] / 60 for axis in scene.truth.plane)
    figure, axes = plt.subplots(figsize=(7, 7), layout="constrained")
    arrows = axes.quiver(x, y, east, north, angles="xy", scale=1000, width=0.002)
    axes.quiverkey(arrows, 0.9, 1.05, 50, "50 mas", labelpos="E")
    axes.set(aspect="equal", xlabel="east (arcmin)", ylabel="north (arcmin)")
    axes.invert_xaxis()
    axes.set_title(f"{len(x)} stars, rms {rms(east):.0f}, {rms(north):.0f} mas", loc="left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def show(numbers: Mapping[str, Any], failures: list[str]) -> None:
    """Print the numbers as a table, the magnitude bins as another, then what failed."""
    from rich.console import Console
    from rich.table import Table as Shown

    console = Console()
    table = Shown(title=str(numbers["coadd"]))
    table.add_column("number", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in flatten(numbers):
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)
    bins = Shown("mag", "stars", "bias", "+-", "scatter", title="magnitude - truth - zero point")
    for row in numbers["photometry"]["bins"]:
        bins.add_row(
            f"{row['mag']:.2f}",
            str(row["n"]),
            *(f"{row[key]:+.4f}" for key in ("bias", "error", "scatter")),
        )
    console.print(bins)
    for failure in failures:
        console.print(f"[red]beyond the limit:[/red] {failure}")


def main(argv: list[str] | None = None) -> int:
    """The command; 0 when all is within the limits of acceptance, 3 when something is not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parent", type=Path, help="product tree: stack/, C3_sub/, run.json")
    parser.add_argument("truth", type=Path, help="folder of truth.fits and meta.json")
    parser.add_argument("--chip", type=int, default=3)
    parser.add_argument("--reference", type=Path, help="catalogue with RAJ2000, DEJ2000")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--plot", type=Path, help="write a PNG of the astrometric residuals here")
    given = parser.parse_args(argv)
    numbers = measure(given.parent, given.truth, given.chip, given.reference, given.plot)
    failures = check(numbers, WINDOW if numbers["size"] < 2048 else ACCEPTANCE)
    show(numbers, failures)
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return 3 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
