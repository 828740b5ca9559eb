"""How faint the stack sees: the error of a star's flux all over it, and stars that are put in."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from photometrus.config import Config
from photometrus.frame import Image, Stack
from photometrus.kernels.groupfit import matched_fluxes
from photometrus.photometry.sources import Measures
from photometrus.pointspread import Psf
from photometrus.stages.completeness import Completeness, inject
from photometrus.stages.detection import detect
from photometrus.stages.psfphotometry import measure_psf
from photometrus.workers import Each

STEP_PIX = 64


@dataclass(frozen=True, eq=False)
class Faint:
    """The error of a faint star's PSF flux, ADU.

    errors : float32 (gy, gx), in cells of `side_pix` pixels, NaN where the stack has no value
    error_adu : their median
    """

    errors: Image
    side_pix: int
    error_adu: float


def matched(
    left: Image, weight: Image, places: tuple[Image, ...], psf: Psf, config: Config
) -> tuple[Image, Image]:
    """The PSF's flux at places of an image without stars, and its formal error: float64 (n,), ADU.

    Where there is hardly a good pixel both are NaN.
    """
    x, y = places
    out = np.empty((x.size, 2))
    radius = config.psf_photometry.radius_fwhm * psf.fwhm_pix
    matched_fluxes(left, weight, psf.cube, psf.step, psf.frame, x, y, radius, out)
    return out[:, 0], out[:, 1]


def faintest(measured: Measures, config: Config) -> Faint:
    """What a PSF flux's error is where no star is, all over the stack."""
    stack = measured.stack
    ny, nx = stack.data.shape
    y, x = np.mgrid[STEP_PIX // 2 : ny : STEP_PIX, STEP_PIX // 2 : nx : STEP_PIX]
    places = x.ravel().astype(float), y.ravel().astype(float)
    _, errors = matched(measured.left, stack.weight, places, measured.psf, config)
    errors = (errors * measured.noise_factor).reshape(x.shape).astype(np.float32)
    errors[stack.weight[y, x] <= 0] = np.nan
    known = errors[np.isfinite(errors)]
    return Faint(errors, STEP_PIX, float(np.median(known)) if known.size else float("nan"))


def injected(measured: Measures, faint: Faint, config: Config, each: Each) -> Completeness:
    """Stars around the limit put into the stack, found and measured like all others."""
    known = Table(
        {
            "x": measured.sources["x"],
            "y": measured.sources["y"],
            "flux": np.nan_to_num(np.asarray(measured.sources["flux_psf"], float)),
            "flux_err": np.nan_to_num(
                np.asarray(measured.sources["flux_psf_err"], float), nan=1e30
            ),
        }
    )

    def measure(tile: Stack, corner: tuple[int, int]) -> Table:
        found = detect(tile, config.detection)
        moved = measured.psf.moved(*corner)
        fluxes = measure_psf(
            found.stack.data,
            tile.weight,
            found.table,
            moved,
            tile.info.gain_e_per_adu,
            config.psf_photometry,
        )
        out = found.table["x", "y"].copy()
        out["flux"] = fluxes["flux_psf"]
        out["flux_err"] = fluxes["flux_psf_err"] * measured.noise_factor
        return out

    return inject(
        measured.stack,
        known,
        measured.psf,
        5.0 * faint.error_adu,
        measure,
        config.completeness,
        each,
    )
