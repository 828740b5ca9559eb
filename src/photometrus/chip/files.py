"""A chip's products: frames on the way, skies, the stack and what is beside it, the page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from photometrus import intermediate, ladder
from photometrus.chip.judgement import numbers as numbers_of
from photometrus.chip.run import Run
from photometrus.evidence import gather
from photometrus.frame import Coadd, Image
from photometrus.io import fitsfile
from photometrus.products import Products, RampId
from photometrus.stackfiles import StackFiles
from photometrus.stages import masks
from photometrus.track import ChipResult, Track


def write_frames(run: Run, products: Products, tracks: list[Track]) -> None:
    """The intermediate products that users know."""

    def write(track: Track) -> None:
        run.made += products.of_frame(track.frame.info.ramp)
        angle = ladder.rotator(track, run.config)
        intermediate.write_frame(products, track, angle)

    for _ in run.counted("products", len(tracks))(write, tracks):
        pass


def write_sky(run: Run, image: Image, tracks: list[Track], ramps: list[RampId]) -> None:
    """The sky in ADU of the median frame."""
    level = float(np.median([track.background.scale for track in tracks]))
    header = fitsfile.product_header(tracks[0].frame.header, None, image.shape)
    header["SKYLEVEL"] = (level, "[adu] median sky level of the frames")
    header["NCOMBINE"] = (len(tracks), "frames")
    run.made.append(run.products.sky(ramps))
    fitsfile.write_image(run.products.sky(ramps), image * np.float32(level), header)


def write_stack(
    run: Run, result: Coadd, good: list[Track], numbers: dict[str, float]
) -> ChipResult:
    """The stack, its weight map and its WCS; and the chip's result."""
    result = replace(result, measures=_cards(numbers))
    files = StackFiles(run.products, run.ramps, run.config)
    run.made += files.names(result)
    path, weight = files.write(result, [track.frame for track in good])
    return ChipResult(
        chip=run.chip,
        coadd=path,
        weight=weight,
        verdicts=run.all_verdicts(),
        numbers=numbers,
        notes=run.notes,
        field_fit=run.field_fit,
    )


def preview(run: Run, result: Coadd) -> Any:
    """The stack's preview for the page of the observation, while it is in memory; None for none."""
    if not run.config.run.pages:
        return None
    from photometrus.htmlreport import pictures

    return pictures.preview(result.data, result.wcs)


def write_extras(run: Run, whole: Coadd, tracks: list[Track]) -> list[Path]:
    """What was asked for beside the stack, on its grid; the paths."""
    used = run.used(tracks)

    def measures(stack: Coadd, part: Sequence[int]) -> dict[str, tuple[float, str]]:
        numbers = numbers_of(run, [used[k] for k in part])
        return _cards(numbers | {"rejected_fraction": stack.rejected_fraction})

    files = StackFiles(run.products, run.ramps, run.config)
    layers = [track.layer() for track in used]
    frames = [track.frame for track in used]
    paths = files.write_extras(whole, layers, frames, measures, each=run.each)
    run.made += paths
    return paths


def draw_page(
    run: Run,
    result: Coadd,
    tracks: list[Track],
    stars: masks.StarMask,
    numbers: dict[str, float],
) -> Path | None:
    """The chip's page, unless none is wanted; its path."""
    path = run.products.page(run.ramps)
    if not run.config.run.pages:
        # What an earlier run drew is of another stack.
        path.unlink(missing_ok=True)
        return None
    from photometrus.plots import page

    run.progress(f"C{run.chip} page", 0, 1)
    evidence = gather(
        result,
        tracks,
        run.all_verdicts(),
        run.joint.residuals if run.joint is not None else Table(),
        stars,
        numbers=numbers,
        notes=run.notes,
    )
    run.made.append(path)
    page.draw_page(path, evidence)
    run.progress(f"C{run.chip} page", 1, 1)
    return path


def _cards(numbers: dict[str, float]) -> dict[str, tuple[float, str]]:
    """FITS cards of the stack's numbers."""
    return {
        "SEEING": (numbers["seeing_arcsec"], "[arcsec] mean FWHM of the frames"),
        "ASTRRMS": (numbers["rms_arcsec"], "[arcsec] mean rms per axis to the catalogue"),
        "ASTRINT": (numbers["internal_rms_arcsec"], "[arcsec] mean rms per axis, dithers"),
        "ASTRNUM": (numbers["n_matched"], "mean number of catalogue stars"),
        "SKYLEVEL": (numbers["sky_adu"], "[adu] mean sky level of the frames"),
        "SKYNOISE": (numbers["noise_adu"], "[adu] mean noise of a frame's pixel"),
        "REJFRAC": (numbers["rejected_fraction"], "fraction of values rejected"),
    }
