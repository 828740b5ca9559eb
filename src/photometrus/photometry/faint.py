"""How faint the stack sees: the error of a star's flux all over it, and stars that are put in."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy.optimize import brentq
from scipy.stats import norm

from photometrus.config import Config
from photometrus.frame import Image, Stack
from photometrus.photometry.sources import Measures, with_hidden
from photometrus.stages.completeness import Completeness, inject
from photometrus.stages.detection import detect
from photometrus.stages.psfphotometry import matched, measure_psf
from photometrus.workers import Each

STEP_PIX = 64
LIMIT_SIGMA = 5.0
LIMIT_RANGE = (0.8, 3.0)
"""By what injected stars may correct the limit that the noise gives."""


@dataclass(frozen=True, eq=False)
class Faint:
    """The error of a faint star's PSF flux, ADU.

    errors : float32 (gy, gx), in cells of `side_pix` pixels, NaN where the stack has no value
    error_adu : that of the stack as a whole, see `usual_error`
    """

    errors: Image
    side_pix: int
    error_adu: float

    def times(self, factor: float) -> "Faint":
        """The same with larger or smaller errors."""
        return Faint(self.errors * np.float32(factor), self.side_pix, self.error_adu * factor)


def faintest(measured: Measures, config: Config) -> Faint:
    """What a PSF flux's error is where no star is, all over the stack."""
    stack = measured.stack
    ny, nx = stack.data.shape
    y, x = np.mgrid[STEP_PIX // 2 : ny : STEP_PIX, STEP_PIX // 2 : nx : STEP_PIX]
    places = x.ravel().astype(float), y.ravel().astype(float)
    _, errors = matched(measured.left, stack.weight, places, measured.psf, config.psf_photometry)
    errors = (errors * measured.noise_factor).reshape(x.shape).astype(np.float32)
    errors[stack.weight[y, x] <= 0] = np.nan
    known = errors[np.isfinite(errors)]
    return Faint(errors, STEP_PIX, usual_error(known))


def usual_error(errors: Image) -> float:
    """A fifth of the flux of which half the stars, anywhere on the stack, are seen at 5 sigma.

    It is the error itself where all are the same; a stack with shallow edges has a larger one than
    their median.
    """
    if not errors.size:
        return float("nan")
    errors = np.asarray(errors, float)

    def seen(flux: float) -> float:
        return float(np.mean(norm.cdf(flux / errors - LIMIT_SIGMA))) - 0.5

    ends = LIMIT_SIGMA * float(errors.min()), LIMIT_SIGMA * float(errors.max())
    if ends[1] <= ends[0] * (1 + 1e-9):
        return ends[0] / LIMIT_SIGMA
    return float(brentq(seen, *ends)) / LIMIT_SIGMA


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
        if measured.crowded:
            found = with_hidden(found, moved, config, crowded=True)
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
        out["flux_err"] = fluxes["flux_psf_err"] * measured.fit_factor
        return out

    return inject(
        measured.stack,
        known,
        measured.psf,
        LIMIT_SIGMA * faint.error_adu,
        measure,
        config.completeness,
        each,
    )


def proven(faint: Faint, put_in: Completeness) -> float:
    """What limits are to be multiplied by, so that half of the stars at them are recovered.

    Noise between the sources does not know of stars that fall on others, nor of what deblending
    loses. 1 where injection agrees with the noise within two of its errors, or tells nothing.
    """
    limit = LIMIT_SIGMA * faint.error_adu
    half, error = put_in.half_flux, put_in.half_flux_err
    if not (np.isfinite(half) and np.isfinite(error)) or abs(half - limit) <= 2 * error:
        return 1.0
    return float(np.clip(half / limit, *LIMIT_RANGE))
