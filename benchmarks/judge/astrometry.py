"""Where the stars of the stack lie, against the truth and against the catalogue."""

from pathlib import Path

import numpy as np
import sep
from astropy.table import Table
from scipy.spatial import cKDTree

from helpers import Array, Numbers, fit_plane_clipped, to_plane, within
from judge.scene import FWHM_TO_SIGMA, Scene, to_sky

BRIGHT_SNR = 100.0
"""Stars for astrometry, in the aperture of 1.5 FWHM: photon noise moves them by 20 mas or less."""
CORNER = 0.15
"""A corner of the chip: the outer 15 % in x and in y."""


MATCH_ARCSEC = 1.5
DEFAULT_ERROR_MAS = 100.0
"""Of a catalogue that gives no errMaj."""


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
    """The stack, and the truth, against a reference catalogue, in mas.

    path : catalogue with RAJ2000, DEJ2000; brought to the epoch of observation where it has
        proper motions (pmRA, pmDE, mas per year, and EPOCH), weighted by its errors (errMaj, mas)

    `catalog_*` is the catalogue's own offset from the truth, all of its stars on the stack
    counted: a reduction tied to the catalogue inherits it. `beyond_catalog_*` is what the
    reduction added, and `..._error_mas` how well it is known.
    """
    truth = scene.truth
    table = Table.read(path)
    ra, dec = at_epoch(table, truth.epoch_yr)
    around = np.nan_to_num(np.stack(to_plane(ra, dec, truth.centre), axis=1), nan=1e9)
    stars = np.flatnonzero(truth.constant_star & scene.inside)
    true = np.stack([axis[stars] for axis in truth.plane], axis=1)
    near, which = cKDTree(around).query(true)
    # A faint neighbour of a catalogue star is not that star.
    order = np.lexsort((truth.mag[stars], which))
    first = np.unique(which[order], return_index=True)[1]
    chosen = order[first][near[order[first]] < MATCH_ARCSEC]
    own = (around[which[chosen]] - true[chosen]) * 1000
    errors = np.full(len(table), DEFAULT_ERROR_MAS)
    if "errMaj" in table.colnames:
        errors = np.asarray(table["errMaj"], dtype=float)
    sigma = np.maximum(errors[which[chosen]], 1.0)
    _, *stack = residuals(scene)
    numbers: Numbers = {"n_stars": len(chosen)}
    for name, catalog, measured in zip(("ra", "dec"), own.T, stack, strict=True):
        mean, mean_error, kept = fit_plane_clipped(np.ones((len(catalog), 1)), catalog, sigma)
        stacked = measured[within(measured, 5.0)]
        numbers[f"catalog_mean_{name}_mas"] = float(mean[0])
        numbers[f"catalog_rms_{name}_mas"] = float(np.std(catalog[kept]))
        added = float(np.mean(stacked) - mean[0])
        error = float(np.hypot(mean_error[0], np.std(stacked) / np.sqrt(len(stacked))))
        numbers[f"beyond_catalog_{name}_mas"] = added
        numbers[f"beyond_catalog_{name}_error_mas"] = error
        # What cannot be chance at two sigma.
        numbers[f"beyond_catalog_{name}_excess_mas"] = max(0.0, abs(added) - 2 * error)
    return numbers


def at_epoch(table: Table, epoch_yr: float) -> tuple[Array, Array]:
    """RA and Dec of a catalogue in degrees, moved to an epoch where it gives proper motions."""
    ra, dec = (np.asarray(table[key], dtype=float) for key in ("RAJ2000", "DEJ2000"))
    if not {"pmRA", "pmDE", "EPOCH"} <= set(table.colnames):
        return ra, dec
    pm_ra, pm_dec = (np.nan_to_num(np.asarray(table[k], dtype=float)) for k in ("pmRA", "pmDE"))
    years = epoch_yr - np.asarray(table["EPOCH"], dtype=float)
    return ra + years * pm_ra / 3.6e6 / np.cos(np.radians(dec)), dec + years * pm_dec / 3.6e6


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
