"""How sharp the stack is, beside its frames."""

from pathlib import Path

import numpy as np
from astropy.wcs import WCS
from scipy.optimize import least_squares

from helpers import Array, Numbers, from_plane, median_of_finite, to_plane
from judge.astrometry import bright_stars
from judge.scene import Scene
from judge.stack import read_image


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
