"""Steps on pixels: first WCS, flat field, sky, sky subtraction."""

from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from astropy.wcs import WCS

from photometrus.config import Config
from photometrus.errors import FrameError, MissingInput, UsageError
from photometrus.flats import Flats, read_flat
from photometrus.frame import Flags, FrameInfo, Image, Progress, no_progress
from photometrus.instrument import BORDER_PIXELS
from photometrus.io import fitsfile
from photometrus.products import Products, RampId, parse_ramp
from photometrus.stages import astrometry, detrend, masks, sky
from photometrus.stages.coadd import Layer
from photometrus.steps.frames import (
    Lost,
    StepResult,
    Track,
    each_frame,
    frames_in,
    open_track,
    pointing_of,
    pool,
    rotator_of,
    try_frames,
    with_stars,
)
from photometrus.workers import Each

MJD_ZERO = date(1858, 11, 17)
NOON_UTC_DAYS = 0.44
"""Noon at the observatory, as a fraction of a day: the night before ends there."""


def place(
    in_path: Path, out_path: Path, config: Config, *, progress: Progress = no_progress
) -> StepResult:
    """``*.ramp.fits`` to ``*.ramp.new``: copies with the WCS of pointing, rotator and optics."""
    guessed: list[str] = []

    def one(path: Path) -> Path:
        header, raw = fitsfile.open_ramp(path)
        info = fitsfile.frame_info(header, path)
        if info.rotator_deg is None:
            guessed.append(info.name)
        wcs = pointing_of(info, config, trimmed=False)
        out = out_path / Products(Path(), info.band).placed(info.ramp).name
        out_header = fitsfile.product_header(header, wcs, raw.shape)
        fitsfile.write_image(out, raw.rows(0, raw.shape[0]), out_header)
        return out

    result = each_frame(one, frames_in(in_path, ".ramp.fits"), config, "first WCS", progress)
    if guessed:
        result.notes.append(
            f"ROTOFF is unreadable in {len(guessed)} of {result.given} frames: "
            f"{config.run.rotator_deg:g} degrees was taken (-rot_val)"
        )
    return result


def flatten(
    in_path: Path,
    out_path: Path,
    flat_path: Path,
    config: Config,
    *,
    progress: Progress = no_progress,
) -> StepResult:
    """``*.ramp.new`` (or ``*.ramp.fits``) to ``*.flat.fits``: trimmed, divided by a flat.

    flat_path : a master flat, or a folder of which the nearest in date is taken
    The WCS moves with the trim; bad pixels become NaN. Raises MissingInput without a flat.
    """
    paths, strange = frames_in(in_path, ".ramp.new", ".ramp.fits")

    def one(path: Path) -> Path:
        header, raw = fitsfile.open_ramp(path)
        info = fitsfile.frame_info(header, path)
        shape = (raw.shape[0] - 2 * BORDER_PIXELS, raw.shape[1] - 2 * BORDER_PIXELS)
        flat = read_flat(_flat_for(flat_path, info, config), shape, config.flat)
        data, bad = detrend.CalibratedPixels(raw, flat).rows(0, shape[0])
        data[bad != 0] = np.nan
        wcs = pointing_of(info, config)
        if "CTYPE1" in header:
            inside = slice(BORDER_PIXELS, -BORDER_PIXELS)
            wcs = fitsfile.header_wcs(header)[inside, inside]
        out_header = fitsfile.product_header(header, wcs, shape)
        out_header["FLATFILE"] = (flat.source[:60], "flat field")
        out = out_path / Products(Path(), info.band).flat_fielded(info.ramp).name
        fitsfile.write_image(out, data, out_header)
        return out

    return each_frame(one, (paths, strange), config, "flat field", progress)


def _flat_for(flat_path: Path, info: FrameInfo, config: Config) -> Path:
    """The flat itself, or the store's nearest to a frame; MissingInput when there is none."""
    if not flat_path.is_dir():
        return flat_path
    night = date.fromordinal(MJD_ZERO.toordinal() + int(info.begin_mjd - NOON_UTC_DAYS))
    found = Flats(flat_path, night).nearest(info.band, info.ramp.chip, config.flat.max_days_away)
    if found is None:
        raise MissingInput(
            f"{flat_path}: no mflat.{info.band}.<date>.C{info.ramp.chip}.fits within "
            f"{config.flat.max_days_away} days; make one with `photometrus process autoflat`"
        )
    return found


def make_sky(
    in_path: Path, sky_path: Path, config: Config, *, progress: Progress = no_progress
) -> StepResult:
    """``*.flat.fits`` of one chip to its sky, in ADU of the median frame.

    sky_path : the file, or a folder in which it gets its usual name
    Raises TooFewFrames when the frames that are left cannot tell stars from sky.
    """
    paths, lost = frames_in(in_path, ".flat.fits")
    config = config.for_chip(_chip_of(paths))
    with pool(config) as each:
        tracks = _lit(paths, config, each, progress, lost)
        bare = _sky_of(tracks, [sky.no_mask(track.shape) for track in tracks], config, each)
        image = sky.fill_sky(bare)
        tracks = [track.without_hot(bare, config) for track in tracks]
        find = partial(with_stars, image=image, config=config)
        tracks, dark = try_frames(find, tracks, each, "stars", progress)
        progress("sky", 0, 1)
        hide = _star_masks(tracks, image, config, each)
        image = sky.fill_sky(_sky_of(tracks, hide, config, each))
        progress("sky", 1, 1)
    level = float(np.median([track.background.scale for track in tracks]))
    out = sky_path
    if sky_path.suffix != ".fits":
        named = Products(Path(), tracks[0].info.band).sky([track.ramp for track in tracks])
        out = sky_path / named.name
    header = fitsfile.product_header(tracks[0].header, None, image.shape)
    header["SKYLEVEL"] = (level, "[adu] median sky level of the frames")
    header["NCOMBINE"] = (len(tracks), "frames")
    fitsfile.write_image(out, image * np.float32(level), header)
    return StepResult([out], lost + dark, given=len(paths))


def _lit(
    paths: list[Path], config: Config, each: Each, progress: Progress, lost: Lost
) -> list[Track]:
    """The frames with light, of the band and size that most have; the others go to `lost`."""

    def one(path: Path) -> Track:
        track = open_track(path, config)
        if not track.background.scale > 0:
            raise FrameError(
                f"{path.name}: sky level {track.background.scale:.3g} ADU; no light, no frame"
            )
        return track

    tracks, more = try_frames(one, paths, each, "frames", progress)
    lost += more
    kinds = [(track.info.band, track.shape) for track in tracks]
    usual = max(set(kinds), key=lambda kind: (kinds.count(kind), kind), default=None)
    for track, kind in zip(tracks, kinds, strict=True):
        if kind != usual:
            band, (ny, nx) = kind
            lost.append((track.path.name, f"band {band}, {nx} x {ny} pixels, unlike the others"))
    return [track for track, kind in zip(tracks, kinds, strict=True) if kind == usual]


def _sky_of(tracks: list[Track], hide: Sequence[sky.Mask], config: Config, each: Each) -> Image:
    return sky.make_sky(
        [track.pixels for track in tracks],
        [track.background for track in tracks],
        hide,
        config.sky,
        each=each,
    )


def _star_masks(tracks: list[Track], image: Image, config: Config, each: Each) -> list[sky.Mask]:
    """Where each frame sees stars: from a shallow stack of all, aligned to each other."""
    if not tracks:
        return []
    wcs = _aligned(tracks, config)

    def layer(track: Track, own: WCS) -> Layer:
        inverse = np.float32(1.0 / track.noise**2)

        def rows(y0: int, y1: int) -> tuple[Image, Flags, Image]:
            data, bad = track.pixels.rows(y0, y1)
            track.background.subtract(data, image, y0)
            return data, bad, np.full(data.shape, inverse, np.float32)

        return Layer(rows, track.shape, own)

    layers = [layer(track, own) for track, own in zip(tracks, wcs, strict=True)]
    mean, weight, grid = masks.shallow_stack(layers, config.coadd, each=each)
    found = masks.find_stars(mean, weight, grid, config.masks)
    return [found.seen_by(layer.wcs, layer.shape) for layer in layers]


def _aligned(tracks: list[Track], config: Config) -> list[WCS]:
    """The frames' WCSs, made to agree with that of the frame with most stars."""
    best = max(tracks, key=lambda track: len(track.sources))
    catalog = astrometry.as_catalog(best.sources, pointing_of(best.info, config))
    out = []
    for track in tracks:
        chip, rotator = track.ramp.chip, rotator_of(track.info, config)
        found = astrometry.find_placement(
            track.sources, catalog, chip, track.axis, [rotator], config.astrometry
        )
        wcs = astrometry.placed_wcs(chip, track.axis, found) if found else None
        out.append(wcs or pointing_of(track.info, config))
    return out


def subtract_sky(
    in_path: Path,
    out_path: Path,
    sky_path: Path,
    config: Config,
    *,
    progress: Progress = no_progress,
) -> StepResult:
    """``*.flat.fits`` of one chip to ``*.sky.flat.fits``: less the sky and a smooth residual.

    sky_path : the sky, or a folder that holds one of the frames' chip and band
    Raises MissingInput or UsageError when no sky, or more than one, fits.
    """
    paths, lost = frames_in(in_path, ".flat.fits")
    config = config.for_chip(_chip_of(paths))
    with pool(config) as each:
        tracks = _lit(paths, config, each, progress, lost)
        if not tracks:
            return StepResult(lost=lost, given=len(paths))
        source, image = _given_sky(sky_path, tracks[0])
        tracks = [track.without_hot(image, config) for track in tracks]
        find = partial(with_stars, image=image, config=config)
        tracks, dark = try_frames(find, tracks, each, "stars", progress)
        hide = _star_masks(tracks, image, config, each)
        masked: dict[RampId, sky.Mask] = {
            track.ramp: mask for track, mask in zip(tracks, hide, strict=True)
        }

        def one(track: Track) -> Path:
            background, noise = sky.fit_background(
                track.pixels, image, masked[track.ramp], track.background.scale, config.sky
            )
            data, bad = track.pixels.rows(0, track.shape[0])
            background.subtract(data, image, 0)
            data[bad != 0] = np.nan
            header = fitsfile.product_header(track.header, track.wcs, track.shape)
            header["SKYFILE"] = (source.name[:60], "sky that was subtracted")
            header["SKYLEVEL"] = (round(background.scale, 5), "[adu] its level here")
            header["SKYNOISE"] = (round(noise, 5), "[adu] scatter of a sky pixel")
            out = out_path / Products(Path(), track.info.band).sky_subtracted(track.ramp).name
            fitsfile.write_image(out, data, header)
            return out

        made, failed = try_frames(one, tracks, each, "sky subtraction", progress)
    return StepResult(made, [*lost, *dark, *failed], given=len(paths))


def _given_sky(sky_path: Path, track: Track) -> tuple[Path, Image]:
    """A sky from disk in units of its level; UsageError or MissingInput when it does not fit."""
    path = sky_path
    if sky_path.is_dir():
        pattern = f"sky.{Products(Path(), track.info.band).filters}.*.C{track.ramp.chip}.fits"
        found = sorted(sky_path.glob(pattern))
        if not found:
            raise MissingInput(f"{sky_path}: no {pattern}; `photometrus process gensky` makes it")
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UsageError(f"{sky_path}: {len(found)} skies fit ({names}); give one as -sky_path")
        path = found[0]
    image, _ = fitsfile.read_image(path)
    if image.shape != track.shape:
        (ny, nx), (own_ny, own_nx) = image.shape, track.shape
        raise MissingInput(f"{path}: {nx} x {ny} pixels, the frames have {own_nx} x {own_ny}")
    level = float(np.nanmedian(image))
    if not level > 0:
        raise MissingInput(f"{path}: its median is {level:.3g}; not a sky")
    return path, sky.fill_sky(image / np.float32(level))


def _chip_of(paths: list[Path]) -> int:
    """The one chip of some frames; UsageError when there are several."""
    found = {parse_ramp(path.name).chip for path in paths}
    if len(found) > 1:
        raise UsageError(
            f"{paths[0].parent}: frames of chips {', '.join(map(str, sorted(found)))}; "
            "a sky is of one chip, give a folder for each"
        )
    return found.pop()
