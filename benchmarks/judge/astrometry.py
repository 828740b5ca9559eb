"""Where the stars of the stack lie, against the truth and against the catalogue."""

from pathlib import Path

import numpy as np
import sep
from astropy.table import Table
from scipy.spatial import cKDTree

from helpers import Array, Numbers, to_plane, within
from judge.scene import FWHM_TO_SIGMA, Scene, to_sky

BRIGHT_SNR = 100.0
"""Stars for astrometry, in the aperture of 1.5 FWHM: photon noise moves them by 20 mas or less."""
CORNER = 0.15
"""A corner of the chip: the outer 15 % in x and in y."""


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
