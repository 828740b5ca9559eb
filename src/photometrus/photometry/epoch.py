"""One position on one stack: what a light curve is made of."""

import math
from pathlib import Path

import numpy as np

from photometrus.config import Config
from photometrus.errors import CalibrationRefused, PhotometrusError
from photometrus.frame import Progress, no_progress
from photometrus.lightcurve import EpochPoint
from photometrus.photometry.answers import at_position, pixel
from photometrus.photometry.recipe import StackRun
from photometrus.photometry.request import PhotometryRequest
from photometrus.photometry.sources import measure_sources
from photometrus.sighting import Target
from photometrus.stages.noise import true_weights
from photometrus.stages.psfphotometry import matched
from photometrus.workers import Each


def measure_epoch(
    path: Path,
    ra_deg: float,
    dec_deg: float,
    *,
    config: Config,
    each: Each = map,
    progress: Progress = no_progress,
) -> EpochPoint:
    """Forced photometry of a position (degrees) on a stack, and the stack's zero point.

    Raises PhotometrusError when the stack cannot be read, measured or calibrated, or when it has
    no value there.
    """
    request = PhotometryRequest(path)
    run = StackRun(request, config, each, progress)
    stack = run.open()
    stars, refused = run.find()
    if stars is None:
        raise PhotometrusError(f"not calibrated: {refused}")
    measured = measure_sources(true_weights(stack, config.noise), config, each, progress)
    zero = run.calibrate(measured, stars)
    if not zero.psf.trusted:
        raise CalibrationRefused(f"not calibrated: {zero.psf.refused}")
    target = Target("", ra_deg, dec_deg, 0.0)
    at = at_position(target, measured, zero, config)
    if not math.isfinite(at.flux):
        raise PhotometrusError("the stack has no value at the position")
    x, y = pixel(stack.wcs, target)
    weight = measured.stack.weight
    place = np.array([x]), np.array([y])
    _, empty = matched(measured.left, weight, place, measured.psf, config.psf_photometry)
    usual = float(np.median(weight[weight > 0]))
    return EpochPoint(
        path=path,
        info=stack.info,
        flux=at.flux,
        flux_err=at.flux_err,
        empty_err=float(empty[0]) * measured.noise_factor,
        x=x,
        y=y,
        weight_ratio=float(weight[round(y), round(x)]) / usual,
        zero_point=zero.psf,
    )
