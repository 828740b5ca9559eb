"""Where a chip's frames point, and what its stars say of its optics and its flat."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from astropy.table import Table

from photometrus import ladder
from photometrus.chip.agreement import central
from photometrus.chip.run import Run
from photometrus.distortion import Distortion
from photometrus.distortion_store import DistortionStore, store_folder
from photometrus.errors import PhotometrusError, TooFewFrames
from photometrus.frame import Frame
from photometrus.instrument import night_of
from photometrus.optics import field_fit, shared_factors
from photometrus.reference import at_epoch, match_catalog
from photometrus.stages import astrometry
from photometrus.stages.quality import area_slope, relative_fluxes
from photometrus.track import Track
from photometrus.wcs import pixel_areas

SURE_SIGMA = 3.0
"""What the stars say against the usual must be so significant."""


def solve(run: Run, tracks: list[Track], catalog: Table | None) -> tuple[list[Track], Table | None]:
    """Place every frame on the sky, then solve all of them together.

    catalog : of `reference_catalog`; it is given back when frames were found among its stars
    """
    run.progress(f"C{run.chip} astrometry", 0, 1)
    stars = ladder.catalog_of(tracks, run.config) if catalog is None else catalog
    tracks, notes = ladder.place(tracks, stars, run.config)
    if catalog is not None and all(track.placement is None for track in tracks):
        run.note(
            "no frame was found among the catalogue's stars: the frames are aligned to each "
            "other; absolute astrometry is the telescope's pointing"
        )
        catalog, stars = None, ladder.catalog_of(tracks, run.config)
        tracks, notes = ladder.place(tracks, stars, run.config)
    for note in notes:
        run.note(note)
    placed = [track for track in tracks if track.placement is not None]
    run.lose(
        (track.name, "not found among the stars: where it points is unknown")
        for track in tracks
        if track.placement is None
    )
    if not placed:
        raise TooFewFrames(
            "no frame was found on the sky; check -catalog and the headers' pointing, or believe it"
            " with -no_shift"
        )
    config = run.config
    if run.shared is not None:
        run.note(
            f"its own stars are few: scale, rotation and radial distortion are those of all "
            f"chips ({run.shared.n_reference} stars)"
        )
        config = replace(config, astrometry=astrometry.stiff(config.astrometry))
    bases = ladder.bases(placed, run.shared, config)
    first = ladder.first_solutions(placed, bases, stars, config, run.each)
    if catalog is not None:
        placed = ladder.refined(placed, first)
        bases = ladder.bases(placed, run.shared, config)
    store = distortion_store(run, placed)
    run.joint = joint = astrometry.solve_jointly(
        [track.sources for track in placed],
        first,
        bases,
        run.chip,
        catalog,
        config.astrometry,
        stored(run, store),
    )
    if joint.contradiction:
        run.note(f"the stored distortion was not used: {joint.contradiction}")
    if catalog is not None and placed[0].placement is not None:
        angle = placed[0].placement.rotator_deg
        run.field_fit = field_fit(run.chip, bases[0], *joint.correction, angle, joint.n_reference)
        if run.shared is None and astrometry.worth_keeping(joint, config.astrometry):
            store.keep(joint.distortion, joint.n_reference, alone=bool(joint.contradiction))
    transparency = relative_fluxes([track.sources for track in placed], joint.stars)
    out = []
    for k, track in enumerate(placed):
        quality = replace(track.frame.quality, transparency=float(transparency[k]))
        frame = replace(track.frame, wcs=joint.wcs[k], solution=joint.solutions[k], quality=quality)
        out.append(replace(track, frame=frame))
    run.progress(f"C{run.chip} astrometry", 1, 1)
    return out, catalog


def choose_pixel_area(run: Run, tracks: list[Track], catalog: Table | None) -> None:
    """Whether the flat holds the area of the pixels: by the stars, when they are sure."""
    if run.config.coadd.pixel_area != "auto" or catalog is None:
        return
    parts = []
    for k, track in enumerate(tracks):
        stars = track.sources[(track.sources["flags"] == 0) & (track.sources["snr"] > 20)]
        i, j = match_catalog(stars, catalog, track.frame.wcs, 1.0)
        x, y = np.asarray(stars["x"])[i], np.asarray(stars["y"])[i]
        mag, flux = np.asarray(catalog["mag"])[j], np.asarray(stars["flux"])[i]
        area = pixel_areas(track.frame.wcs, x, y)
        parts.append(np.stack([j, np.full(i.size, k), mag, flux, area]))
    star, frame, mag, flux, area = np.concatenate(parts, axis=1)
    known = np.isfinite(mag) & (flux > 0)
    slope, error = area_slope(
        star[known].astype(int), frame[known].astype(int), mag[known], flux[known], area[known]
    )
    run.measured["area_slope"], run.measured["area_slope_error"] = slope, error
    if slope + 0.5 > SURE_SIGMA * error:
        run.note(
            f"the stars' fluxes do not fall with the area of their pixels (slope {slope:.2f} "
            f"+- {error:.2f}, not -1): the flat does not hold it, resampling conserves flux"
        )
        coadd_config = replace(run.config.coadd, pixel_area="jacobian")
        run.config = replace(run.config, coadd=coadd_config)


def distortion_store(run: Run, tracks: list[Track]) -> DistortionStore:
    """What is stored of this chip's distortion, seen from these frames."""
    return DistortionStore(
        folder=store_folder(run.config.input.distortion_dir),
        band=run.products.band,
        chip=run.chip,
        night=night_of(tracks[0].frame.info.begin_mjd),
        ramps=tuple(track.name for track in tracks),
        degree=astrometry.degree(run.config.astrometry),
    )


def stored(run: Run, store: DistortionStore) -> Distortion | None:
    """What other nights say of the distortion, about the templates that are used."""
    found = store.stored()
    if found is None or run.shared is None:
        return found
    # The templates have what all chips share in them already.
    return found.relative_to(shared_factors(run.chip, run.shared))


def axis(frames: Sequence[Frame]) -> tuple[float, float]:
    """Where the telescope pointed, RA and Dec in degrees: around it a catalogue is asked for."""
    info = central([frame.info for frame in frames])
    return info.ra_deg, info.dec_deg


def reference_catalog(
    run: Run, frames: Sequence[Frame], asked: Callable[[], Table | None]
) -> Table | None:
    """The reference catalogue at the epoch of observation; None, with a note, without one.

    asked : gives what `run.reference` says of the frames' axis, when it is there
    """
    info = central([frame.info for frame in frames])
    why = "none was asked for"
    table = None
    try:
        table = asked()
    except PhotometrusError as error:
        why = str(error)
    if table is not None and len(table) < run.config.astrometry.min_matched:
        why = f"{len(table)} stars in it, need {run.config.astrometry.min_matched}"
        table = None
    if table is None:
        run.note(
            f"no reference catalogue ({why}): the frames are aligned to each other; absolute "
            "astrometry is the telescope's pointing; give -catalog FILE"
        )
        return None
    return at_epoch(table, 2000.0 + (info.begin_mjd - 51544.5) / 365.25)
