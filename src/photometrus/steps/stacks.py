"""The step from solved frames to their stack."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from photometrus.config import Config
from photometrus.errors import FrameError
from photometrus.frame import Coadd, Flags, Image, Progress, Quality, no_progress
from photometrus.products import Products, parse_ramp
from photometrus.selection import by_header
from photometrus.stackfiles import Cards, StackFiles, check_extras
from photometrus.stages.coadd import Layer, coadd, common_grid
from photometrus.steps.frames import (
    Lost,
    Product,
    StepResult,
    chip_of,
    chosen,
    frames_in,
    open_product,
    pool,
    try_frames,
)


def stack(
    in_path: Path, parent: Path, config: Config, *, progress: Progress = no_progress
) -> StepResult:
    """``*.sky.flat.fits`` of one chip to a stack with its weight map, in ``parent/stack``.

    Every frame with a solution is in it; nothing is judged. With the settings for it, also parts of
    the stack and maps. Raises UsageError when the selection leaves no frame.
    """
    check_extras(config)
    paths, lost = frames_in(in_path, ".sky.flat.fits")
    config = config.for_chip(chip_of(paths))
    taken, choice = chosen(paths, config)
    with pool(config) as each:
        frames, more = try_frames(partial(_solved, config=config), taken, each, "frames", progress)
        frames.sort(key=lambda frame: frame.frame.info.begin_mjd)
        frames, others = _of_one_band(frames)
        left_out = by_header({one.path.name: one.frame.header for one in frames}, config.select)
        frames = [one for one in frames if one.path.name not in left_out]
        result = StepResult(
            lost=[*lost, *more, *others],
            left_out=[
                *((str(ramp), why) for ramp, why in choice.left_out.items()),
                *left_out.items(),
            ],
            notes=choice.notes,
            given=len(paths),
        )
        if not frames:
            return result
        layers = [_layer(frame) for frame in frames]
        grid = common_grid([one.wcs for one in layers], [one.shape for one in layers], config.coadd)
        progress("stack", 0, 1)
        whole = coadd(layers, grid, config.coadd, each=each)
        progress("stack", 1, 1)
        measures = partial(_measures, frames)
        whole = replace(whole, measures=measures(whole, range(len(frames))))
        products = Products(parent, frames[0].frame.info.band)
        given = [parse_ramp(path.name) for path in taken if path.name not in left_out]
        files = StackFiles(products, given, config)
        solved = [frame.frame for frame in frames]
        result.made += files.write(whole, solved)
        result.made += files.write_extras(whole, layers, solved, measures, each=each)
    return result


def _solved(path: Path, config: Config) -> Product:
    """A sky-subtracted frame whose header tells where it is and how noisy; FrameError otherwise."""
    product = open_product(path, config)
    header = product.frame.header
    level, noise = str(header.get("ASTRLEV", "")), _number(header.get("SKYNOISE"))
    if level in ("", "shift"):
        raise FrameError(
            f"{path.name}: not solved (ASTRLEV {level!r} in its header); "
            "`photometrus astrom shift` comes before"
        )
    if not noise > 0:
        raise FrameError(f"{path.name}: SKYNOISE {noise} in its header; `process skysub` writes it")
    quality = Quality(
        sky_adu=_number(header.get("SKYLEVEL")),
        noise_adu=noise,
        seeing_arcsec=_number(header.get("SEEING")),
        ellipticity=_number(header.get("ELLIPT")),
        n_sources=0,
        transparency=_number(header.get("TRANSP")),
    )
    return replace(product, frame=replace(product.frame, quality=quality), noise=noise)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _of_one_band(frames: list[Product]) -> tuple[list[Product], Lost]:
    """The frames of the band that most have, and why not the others."""
    bands = [frame.frame.info.band for frame in frames]
    usual = max(set(bands), key=lambda band: (bands.count(band), band), default="")
    other = [
        (one.path.name, f"band {b}, the others {usual}")
        for one, b in zip(frames, bands, strict=True)
        if b != usual
    ]
    return [one for one in frames if one.frame.info.band == usual], other


def _layer(product: Product) -> Layer:
    """The frame as a layer of a stack; what is NaN in it has no value."""

    def rows(y0: int, y1: int) -> tuple[Image, Flags, Image]:
        data, bad = product.frame.pixels.rows(y0, y1)
        return data, bad, np.ones(data.shape, np.float32)

    return Layer(
        rows, product.shape, product.frame.wcs, product.flux_factor, 1.0 / product.noise**2
    )


def _measures(frames: Sequence[Product], stack: Coadd, part: Sequence[int]) -> Cards:
    """What the header says of a stack of these frames: means of what their own headers say."""
    quality = [frames[k].frame.quality for k in part]
    return {
        "SEEING": (_mean(one.seeing_arcsec for one in quality), "[arcsec] mean FWHM of the frames"),
        "SKYLEVEL": (_mean(one.sky_adu for one in quality), "[adu] mean sky level of the frames"),
        "SKYNOISE": (
            _mean(one.noise_adu for one in quality),
            "[adu] mean noise of a frame's pixel",
        ),
        "REJFRAC": (stack.rejected_fraction, "fraction of values rejected"),
    }


def _mean(values: Iterable[float]) -> float:
    """The mean of what is known; NaN, which no header takes, when nothing is."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
