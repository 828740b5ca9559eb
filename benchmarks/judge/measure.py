"""All numbers of one chip."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from helpers import Numbers, plain
from judge.astrometry import against_reference, astrometry, draw_residuals
from judge.background import background
from judge.causes import causes
from judge.clipping import clipping
from judge.depth import depth
from judge.empty import not_empty, significance, truth_mask
from judge.frames import frame_numbers, frame_verdicts, frames_used
from judge.photometry import photometry
from judge.scene import build_scene
from judge.shape import sharpness
from judge.spurious import spurious
from judge.stack import read_stack
from judge.total import total_flux
from judge.transient import transient
from judge.truth import read_truth


def measure(
    parent: Path | str,
    truth_dir: Path | str,
    chip: int,
    reference: Path | str | None = None,
    plot: Path | str | None = None,
    unclipped: Path | str | None = None,
) -> Numbers:
    """Every number of one chip of a product tree, as nested dicts that JSON can hold.

    parent : the product tree; truth_dir : folder of ``truth.fits`` and ``meta.json``
    reference : catalogue with RAJ2000, DEJ2000; plot : PNG of the astrometric residuals to write
    unclipped : product tree of the same frames stacked without clipping

    Raises MissingInput when the coadd, its weight map or the truth is absent, or when no constant
    offset brings them together.
    """
    parent, truth = Path(parent), read_truth(Path(truth_dir), chip)
    scene = build_scene(read_stack(parent, chip), truth)
    verdicts = frame_verdicts(parent, chip)
    used = frames_used(scene.stack, truth, verdicts)
    sharp = sharpness(scene, parent, used, verdicts)
    if np.isfinite(sharp["stack_arcsec"]):
        better = sharp["stack_arcsec"] / scene.stack.pixel_arcsec
        scene = replace(scene, fwhm_pix=better)
    lit = truth_mask(scene)
    ratio = significance(scene, lit)
    mask = not_empty(scene, lit, ratio)
    sky = background(scene, mask)
    limits = depth(scene, mask, used)
    why = partial(causes, scene, parent, Path(truth_dir), used)
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
        "background": sky,
        "total_flux": total_flux(scene, sky.get("median_adu", 0.0), used),
        "transient": transient(scene),
        "frames": frame_numbers(truth, verdicts, used),
        "spurious": spurious(scene, ratio, lit, why),
    }
    if reference is not None:
        numbers["reference"] = against_reference(scene, Path(reference))
    if unclipped is not None:
        numbers["clipping"] = clipping(scene, Path(unclipped))
    if plot is not None:
        draw_residuals(scene, Path(plot))
    return plain(numbers)
