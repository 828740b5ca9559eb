"""Steps on pixels: first WCS, flat field, sky, sky subtraction."""

from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from astropy.wcs import WCS

from photometrus import ladder
from photometrus.config import Config
from photometrus.errors import FrameError, MissingInput, UsageError
from photometrus.flats import Flats, read_flat
from photometrus.frame import Flags, FrameInfo, Image, Progress, no_progress
from photometrus.instrument import BORDER_PIXELS
from photometrus.io import fitsfile, rampfile
from photometrus.products import Products
from photometrus.stages import detrend, masks, sky
from photometrus.stages.background import fit_background
from photometrus.stages.coadd import Layer
from photometrus.steps.frames import (
    Lost,
    Product,
    StepResult,
    chip_of,
    chosen,
    each_frame,
    frames_in,
    open_product,
    pointing_of,
    pool,
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
        header, raw = rampfile.open_ramp(path)
        info = rampfile.frame_info(header, path)
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
        header, raw = rampfile.open_ramp(path)
        info = rampfile.frame_info(header, path)
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
    config = config.for_chip(chip_of(paths))
    taken, choice = chosen(paths, config)
    with pool(config) as each:
        frames = _lit(taken, config, each, progress, lost)
        bare = _sky_of(frames, config, each)
        image = sky.fill_sky(bare)
        frames = [frame.without_hot(bare, config) for frame in frames]
        find = partial(with_stars, image=image, config=config)
        frames, dark = try_frames(find, frames, each, "stars", progress)
        progress("sky", 0, 1)
        frames = _with_masks(frames, image, config, each)
        image = sky.fill_sky(_sky_of(frames, config, each))
        progress("sky", 1, 1)
    level = float(np.median([frame.background.scale for frame in frames]))
    first = frames[0].frame
    out = sky_path
    if sky_path.suffix != ".fits":
        named = Products(Path(), first.info.band).sky([frame.ramp for frame in frames])
        out = sky_path / named.name
    header = fitsfile.product_header(first.header, None, image.shape)
    header["SKYLEVEL"] = (level, "[adu] median sky level of the frames")
    header["NCOMBINE"] = (len(frames), "frames")
    fitsfile.write_image(out, image * np.float32(level), header)
    left_out = [(str(ramp), reason) for ramp, reason in choice.left_out.items()]
    return StepResult([out], lost + dark, choice.notes, given=len(paths), left_out=left_out)


def _lit(
    paths: list[Path], config: Config, each: Each, progress: Progress, lost: Lost
) -> list[Product]:
    """The frames with light, of the band and size that most have; the others go to `lost`."""

    def one(path: Path) -> Product:
        product = open_product(path, config)
        level = product.background.scale
        if not level > 0:
            raise FrameError(f"{path.name}: sky level {level:.3g} ADU; no light, no frame")
        return replace(product, mask=sky.no_mask(product.shape))

    frames, more = try_frames(one, paths, each, "frames", progress)
    lost += more
    kinds = [(frame.frame.info.band, frame.shape) for frame in frames]
    usual = max(set(kinds), key=lambda kind: (kinds.count(kind), kind), default=None)
    for frame, kind in zip(frames, kinds, strict=True):
        if kind != usual:
            band, (ny, nx) = kind
            lost.append((frame.path.name, f"band {band}, {nx} x {ny} pixels, unlike the others"))
    return [frame for frame, kind in zip(frames, kinds, strict=True) if kind == usual]


def _sky_of(frames: list[Product], config: Config, each: Each) -> Image:
    """The sky of the frames, with what their masks hide left out."""
    votes = sky.make_sky(
        [frame.frame.pixels for frame in frames],
        [frame.background for frame in frames],
        [frame.mask for frame in frames],
        config.sky,
        each=each,
    )
    return votes.image


def _with_masks(frames: list[Product], image: Image, config: Config, each: Each) -> list[Product]:
    """The frames with their stars hidden: from a shallow stack of all, aligned to each other."""
    if not frames:
        return []
    placed, _ = ladder.place(frames, ladder.catalog_of(frames, config), config)
    wcs = [
        ladder.placed_wcs(track) if track.placement else pointing_of(track.frame.info, config)
        for track in placed
    ]

    def layer(frame: Product, own: WCS) -> Layer:
        def rows(y0: int, y1: int) -> tuple[Image, Flags, Image]:
            data, bad = frame.frame.pixels.rows(y0, y1)
            frame.background.subtract(data, image, y0)
            return data, bad, np.ones(data.shape, np.float32)

        return Layer(rows, frame.shape, own, inverse_variance=1.0 / frame.noise**2)

    layers = [layer(frame, own) for frame, own in zip(frames, wcs, strict=True)]
    found = masks.find_stars(masks.shallow_stack(layers, config.coadd, each=each), config.masks)
    return [
        replace(frame, mask=found.seen_by(own, frame.shape))
        for frame, own in zip(frames, wcs, strict=True)
    ]


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
    config = config.for_chip(chip_of(paths))
    with pool(config) as each:
        frames = _lit(paths, config, each, progress, lost)
        if not frames:
            return StepResult(lost=lost, given=len(paths))
        source, image = _given_sky(sky_path, frames[0])
        frames = [frame.without_hot(image, config) for frame in frames]
        find = partial(with_stars, image=image, config=config)
        frames, dark = try_frames(find, frames, each, "stars", progress)
        frames = _with_masks(frames, image, config, each)

        def one(product: Product) -> Path:
            frame, pixels = product.frame, product.frame.pixels
            background, noise = fit_background(
                pixels, image, product.mask, product.background.scale, config.background
            )
            data, bad = pixels.rows(0, product.shape[0])
            background.subtract(data, image, 0)
            data[bad != 0] = np.nan
            header = fitsfile.product_header(frame.header, frame.wcs, product.shape)
            header["SKYFILE"] = (source.name[:60], "sky that was subtracted")
            header["SKYLEVEL"] = (round(background.scale, 5), "[adu] its level here")
            header["SKYNOISE"] = (round(noise, 5), "[adu] scatter of a sky pixel")
            out = out_path / Products(Path(), frame.info.band).sky_subtracted(product.ramp).name
            fitsfile.write_image(out, data, header)
            return out

        made, failed = try_frames(one, frames, each, "sky subtraction", progress)
    return StepResult(made, [*lost, *dark, *failed], given=len(paths))


def _given_sky(sky_path: Path, product: Product) -> tuple[Path, Image]:
    """A sky from disk in units of its level; UsageError or MissingInput when it does not fit."""
    path = sky_path
    if sky_path.is_dir():
        filters = Products(Path(), product.frame.info.band).filters
        pattern = f"sky.{filters}.*.C{product.ramp.chip}.fits"
        found = sorted(sky_path.glob(pattern))
        if not found:
            raise MissingInput(f"{sky_path}: no {pattern}; `photometrus process gensky` makes it")
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UsageError(f"{sky_path}: {len(found)} skies fit ({names}); give one as -sky_path")
        path = found[0]
    image, _ = fitsfile.read_image(path)
    if image.shape != product.shape:
        (ny, nx), (own_ny, own_nx) = image.shape, product.shape
        raise MissingInput(
            f"{path}: {nx} x {ny} pixels, the frames have {own_nx} x {own_ny}; give this chip's"
        )
    level = float(np.nanmedian(image))
    if not level > 0:
        raise MissingInput(f"{path}: its median is {level:.3g}; not a sky")
    return path, sky.fill_sky(image / np.float32(level))
