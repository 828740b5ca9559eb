"""How sharp and how round the stack is, beside its frames."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.wcs import WCS
from scipy.optimize import least_squares

from helpers import Array, Numbers, from_plane, median_of_finite, to_plane
from judge.astrometry import bright_stars
from judge.frames import frame_weights
from judge.scene import Scene
from judge.stack import read_image

MAX_STARS = 100


def moffat_shape(data: Array, x: float, y: float, guess_pix: float) -> Array:
    """Shape of a star near (x, y): float (2, 2), pixels^2, NaN if there is none to measure.

    It is the matrix of the ellipse of half the peak, from a fit of an elliptical Moffat with free
    exponent; of a round star FWHM^2 / 4 times the unit matrix.
    """
    failed = np.full((2, 2), np.nan)
    half = int(np.ceil(3 * guess_pix))
    cx, cy = round(x), round(y)
    stamp = data[cy - half : cy + half + 1, cx - half : cx + half + 1].astype(float)
    if stamp.shape != (2 * half + 1, 2 * half + 1):
        return failed
    py, px = np.mgrid[-half : half + 1, -half : half + 1]
    radius, valid = np.hypot(px, py), np.isfinite(stamp)
    if not valid[radius < 0.6 * guess_pix].all() or valid.mean() < 0.8:
        return failed
    base, peak = float(np.median(stamp[valid & (radius > half - 1)])), float(stamp[half, half])
    if peak <= base:
        return failed

    span = peak - base

    def model_minus_data(p: Array) -> Array:
        core2 = p[3] ** 2 / 4 / (2 ** (1 / p[4]) - 1)
        dx, dy = px - p[1], py - p[2]
        e1, e2 = p[6], p[7]
        r2 = ((1 - e1) * dx**2 - 2 * e2 * dx * dy + (1 + e1) * dy**2) / np.sqrt(1 - e1**2 - e2**2)
        return (p[0] * (1 + r2 / core2) ** -p[4] + p[5] - stamp)[valid] / span

    start = [span, x - cx, y - cy, guess_pix, 3.0, base, 0.0, 0.0]
    low = [0, -3, -3, 0.5, 1.2, base - span, -0.6, -0.6]
    high = [20 * span, 3, 3, 4 * guess_pix, 20, base + span, 0.6, 0.6]
    # Soft loss: a cosmic ray or a bad pixel that was left in a frame must not set the width.
    fit = least_squares(
        model_minus_data,
        start,
        bounds=(low, high),
        x_scale=[span, 1, 1, 1, 1, span, 0.1, 0.1],
        loss="soft_l1",
        f_scale=0.03,
        max_nfev=60,
    )
    if not fit.success:
        return failed
    e1, e2 = fit.x[6:]
    ellipse = np.array([[1 + e1, e2], [e2, 1 - e1]]) / np.sqrt(1 - e1**2 - e2**2)
    return ellipse * fit.x[3] ** 2 / 4


def shapes(image: Array, wcs: WCS, ra: Array, dec: Array, guess_arcsec: float) -> Array:
    """Shapes on the sky of stars at known places: float (n, 2, 2), arcsec^2, axes east and north.

    NaN where there is none to measure.
    """
    x, y = (np.asarray(a) for a in wcs.all_world2pix(ra, dec, 0, quiet=True))
    step = 20.0
    result = np.full((len(ra), 2, 2), np.nan)
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    at, along_x, along_y = (
        np.stack(
            to_plane(*wcs.all_pix2world(x[good] + dx, y[good] + dy, 0), (ra.mean(), dec.mean()))
        )
        for dx, dy in ((0, 0), (step, 0), (0, step))
    )
    to_sky = np.stack([along_x - at, along_y - at], axis=1).transpose(2, 0, 1) / step
    for i, matrix in zip(good, to_sky, strict=True):
        scale = float(np.sqrt(np.abs(np.linalg.det(matrix))))
        shape = moffat_shape(image, x[i], y[i], guess_arcsec / scale)
        result[i] = matrix @ shape @ matrix.T
    return result


def fwhm(shape: Array) -> Array:
    """FWHM of a circle of the same area, arcsec; float (...), of shapes (..., 2, 2)."""
    area2 = shape[..., 0, 0] * shape[..., 1, 1] - shape[..., 0, 1] ** 2
    return 2 * area2**0.25


def ellipticity(shape: Array) -> Array:
    """(a^2 - b^2) / (a^2 + b^2) as components along north-south and its diagonal; (..., 2)."""
    xx, yy, xy = shape[..., 0, 0], shape[..., 1, 1], shape[..., 0, 1]
    return np.stack([xx - yy, 2 * xy], axis=-1) / (xx + yy)[..., None]


def sharpness(
    scene: Scene, parent: Path, frames: list[str], verdicts: Mapping[str, Numbers]
) -> Numbers:
    """FWHM and ellipticity of the stack and of the frames in it, from the same stars and fits.

    Frames count by their weight in the stack: the stack cannot be sharper than that mean, and what
    it is wider or more elongated than the mean of the frames' shapes comes from putting them
    together.
    """
    truth, stack = scene.truth, scene.stack
    stars, _, _ = bright_stars(scene)
    if len(stars) > MAX_STARS:  # spread evenly in brightness
        stars = stars[np.argsort(truth.mag[stars])][:: len(stars) // MAX_STARS + 1]
    ra, dec = from_plane(
        truth.plane[0][stars] + scene.offset[0],
        truth.plane[1][stars] + scene.offset[1],
        truth.centre,
    )
    guess = scene.fwhm_pix * stack.pixel_arcsec
    data = np.where(stack.used, stack.data, np.nan)
    stacked = shapes(data, stack.wcs, ra, dec, guess)
    per_frame = {}
    for name in frames:
        path = parent / f"C{truth.chip}_sub" / f"{name}.sky.flat.fits"
        if path.is_file():
            image, header = read_image(path)
            per_frame[name] = shapes(image, WCS(header), ra, dec, guess)
    used = [e for e in truth.exposures if truth.name(e) in frames]
    each = {name: median_of_finite(fwhm(shape)) for name, shape in per_frame.items()}
    numbers: Numbers = {
        "n_stars": int(np.isfinite(fwhm(stacked)).sum()),
        "stack_arcsec": median_of_finite(fwhm(stacked)),
        "frames": each,
        "frames_mean_arcsec": float(np.mean(list(each.values()))) if each else None,
        "truth_mean_arcsec": float(np.mean([e["fwhm_px"] for e in used])) * truth.meta["pix"],
    }
    if per_frame:
        weights = frame_weights(truth, verdicts, list(per_frame))
        numbers |= _beside(stacked, np.array(list(per_frame.values())), weights, truth.uv, stars)
    return numbers


def _beside(
    stacked: Array, each: Array, weights: Array, uv: tuple[Array, Array], stars: Array
) -> Numbers:
    """The stack's shapes (n, 2, 2) beside those of its frames (k, n, 2, 2)."""
    whole = np.isfinite(each).all(axis=(0, 2, 3)) & np.isfinite(stacked).all(axis=(1, 2))
    stacked, each, stars = stacked[whole], each[:, whole], stars[whole]
    numbers: Numbers = {"n_ratio": int(whole.sum())}
    if not whole.any():
        return {**numbers, "ratio": None}
    mean = np.average(each, axis=0, weights=weights)
    wide = np.average(fwhm(each), axis=0, weights=weights)
    numbers["ratio"] = float(np.median(fwhm(stacked) / wide))
    added = ellipticity(stacked) - ellipticity(mean)
    numbers["ellipticity_stack"] = _common(ellipticity(stacked))
    numbers["ellipticity_frames"] = _common(ellipticity(mean))
    numbers["ellipticity_added"] = _common(added)
    u, v = (axis[stars] for axis in uv)
    quarters = [added[(u * i > 0) & (v * j > 0)] for i in (-1, 1) for j in (-1, 1)]
    # Fewer than ten stars would measure their own noise.
    enough = [_common(part) for part in quarters if len(part) >= 10]
    numbers["ellipticity_added_worst_quarter"] = max(enough, default=None)
    return numbers


def _common(vectors: Array) -> float:
    """The ellipticity that stars share: length of the median of (n, 2)."""
    return float(np.hypot(*np.median(vectors, axis=0)))
