"""A chip's stack: of our own, or by the programs of Astromatic; perhaps refined."""

from dataclasses import replace

import numpy as np
from astropy.table import Table

from photometrus import astromatic
from photometrus.chip.files import write_frames
from photometrus.chip.run import Run
from photometrus.errors import PhotometrusError
from photometrus.frame import Coadd
from photometrus.netrefine import refine_coadd
from photometrus.stages import crowding
from photometrus.stages.coadd import coadd, common_grid
from photometrus.track import Track


def stack(run: Run, tracks: list[Track]) -> Coadd:
    """The coadd of the frames whose verdict is good."""
    layers = [track.layer() for track in run.used(tracks)]
    grid = common_grid([one.wcs for one in layers], [one.shape for one in layers], run.config.coadd)
    run.progress(f"C{run.chip} coadd", 0, 1)
    result = coadd(layers, grid, run.config.coadd, each=run.each)
    run.progress(f"C{run.chip} coadd", 1, 1)
    if run.measured["masked_fraction"] < run.config.crowding.from_fraction:
        return result
    levels = crowding.zero_level(result.data, result.weight, run.config.crowding)
    run.measured["crowded_zero_adu"] = float(np.median(levels))
    data = crowding.subtract_zero(result.data, result.weight, levels, run.config.crowding)
    return replace(result, data=data)


def stack_with_astromatic(
    run: Run, tracks: list[Track], catalog: Table | None
) -> tuple[Coadd, dict[str, float]]:
    """The coadd by SExtractor, SCAMP and SWarp, which work on the frames on disk.

    With ``-keep final`` those are in a folder that vanishes afterwards.
    """
    keep = run.config.run.keep == "all"
    products = run.products
    if not keep:
        products = replace(products, root=run.scratch_folder("astromatic"))
    write_frames(run, products, tracks)
    run.progress(f"C{run.chip} astromatic", 0, 1)
    done = astromatic.stack(products, run.used(tracks), catalog, run.config, run.each)
    run.progress(f"C{run.chip} astromatic", 1, 1)
    return done


def refine_with_astrometry_net(run: Run, result: Coadd, catalog: Table | None) -> Coadd:
    """The stack with astrometry.net's WCS if that is the better one; a note either way."""
    try:
        wcs, note = refine_coadd(result, catalog, run.config)
    except PhotometrusError as error:
        run.note(f"astrometry.net: {error}; the solution before it is kept")
        return result
    run.note(note)
    return replace(result, wcs=wcs)
