"""The recipe of one chip, in the order of the science.

It holds handles, not pixels: every stage reads the rows it needs from the ramps, calibrated on the
way, so that memory does not grow with the number of ramps.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from threadpoolctl import threadpool_limits

from photometrus.allocator import kept_memory
from photometrus.chip import files, frames, judgement, marks, skies, solution, stacking, stars
from photometrus.chip.run import Reference, Run
from photometrus.config import Config
from photometrus.errors import PhotometrusError, StorageError
from photometrus.flats import Flats
from photometrus.frame import LISTED, Progress, no_progress
from photometrus.optics import FieldFit
from photometrus.products import Products, RampId
from photometrus.track import ChipResult
from photometrus.workers import Each, load_meanwhile, meanwhile

log = logging.getLogger(__name__)


def reduce_chip(
    products: Products,
    ramps: Sequence[RampId],
    config: Config,
    flats: Flats,
    reference: Reference,
    shared: FieldFit | None = None,
    *,
    each: Each = map,
    progress: Progress = no_progress,
) -> ChipResult:
    """Reduce one chip's ramps (all of the same chip) to a stack with weight map and products.

    shared : what all chips together say of scale, rotation and radial distortion; when given, the
        chip's own stars do not change it by much
    Nothing that can be explained is raised but StorageError: it is in the result, with all verdicts
    so far.
    """
    chip = ramps[0].chip
    run = Run(
        products,
        chip,
        config.for_chip(chip),
        flats,
        reference,
        each,
        progress,
        sorted(ramps),
        shared,
    )
    started = time.monotonic()
    try:
        # The matrices are small: a second BLAS thread costs more than it gives.
        with threadpool_limits(1, user_api="blas"), kept_memory(), run.scratch:
            result = reduce(run)
    except StorageError:
        raise  # the next chip would fare no better
    except PhotometrusError as error:
        log.error("C%d: %s", chip, error, extra=LISTED)  # noqa: TRY400 - explained, not a bug
        result = ChipResult(chip, verdicts=run.all_verdicts(), notes=run.notes, error=str(error))
    made = {path: path.stat().st_size for path in dict.fromkeys(run.made) if path.is_file()}
    result = replace(result, made=made)
    result.numbers["seconds"] = round(time.monotonic() - started, 2)
    progress(f"C{chip} {'failed' if result.error else 'finished'}", 1, 1)
    return result


def reduce(run: Run) -> ChipResult:
    """Everything, in order: the page of verbs."""
    opened = frames.open_frames(run)
    asked = meanwhile(partial(run.reference, solution.axis(opened)))
    tracks = frames.calibrate(run, opened, frames.choose_flat(run, opened))
    if run.config.run.pages:
        load_meanwhile("photometrus.plots.page")
    tracks = skies.first_sky(run, tracks)
    tracks = stars.find_stars(run, tracks)
    catalog = solution.reference_catalog(run, opened, asked)
    tracks, catalog = solution.solve(run, tracks, catalog)
    solution.choose_pixel_area(run, tracks, catalog)
    judgement.judge(run, tracks)
    tracks, hidden, shallow = stars.hide_stars(run, tracks)
    tracks = marks.mark_artifacts(run, tracks, shallow)
    tracks = skies.final_sky(run, tracks)
    if run.config.run.engine == "astromatic":
        result, numbers = stacking.stack_with_astromatic(run, tracks, catalog)
    else:
        if run.config.run.keep == "all":
            files.write_frames(run, run.products, tracks)
        result, numbers = stacking.stack(run, tracks), {}
    if run.config.run.astrometry_net:
        result = stacking.refine_with_astrometry_net(run, result, catalog)
    numbers = {
        **judgement.numbers(run, run.used(tracks)),
        **numbers,
        "rejected_fraction": result.rejected_fraction,
    }
    # The page is drawn while the stack is compressed.
    done, page, look = run.each(
        lambda make: make(),
        [
            lambda: files.write_stack(run, result, run.used(tracks), numbers),
            lambda: files.draw_page(run, result, tracks, hidden, numbers),
            lambda: files.preview(run, result),
        ],
    )
    extras = files.write_extras(run, result, tracks)
    return replace(done, page=page, look=look, extras=extras)
