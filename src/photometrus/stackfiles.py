"""The files of a stack: image and weight map, and what is made beside them on request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io.fits import Header

from photometrus.config import Config
from photometrus.errors import UsageError
from photometrus.frame import Coadd, Frame
from photometrus.io import fitsfile
from photometrus.products import Products, RampId
from photometrus.stages.coadd import Layer, coadd, common_grid
from photometrus.stages.maps import depth_map, exposure_map
from photometrus.substacks import substacks
from photometrus.wcs import sip_cards
from photometrus.workers import Each

Cards = dict[str, tuple[float, str]]
"""FITS keyword: (value, comment)."""


@dataclass(frozen=True, eq=False)
class StackFiles:
    """Where a stack goes, and how it is written.

    ramps : they name it; part : which of the frames it is of, ``inc005``, ``alt1``, empty for all
    """

    products: Products
    ramps: list[RampId]
    config: Config
    part: str = ""

    def names(self, stack: Coadd) -> list[Path]:
        """What `write` makes of a stack."""
        compressed = self.config.run.compress
        paths = [
            self.products.coadd(self.ramps, self.part, compressed=compressed),
            self.products.weight(self.ramps, self.part),
        ]
        if not self.part:
            paths.append(self.products.coadd_wcs(self.ramps))
            if stack.flags is not None:
                paths.append(self.products.stack_flags(self.ramps))
        return paths

    def write(self, stack: Coadd, frames: Sequence[Frame]) -> tuple[Path, Path]:
        """The stack of `frames` (in order of time) and its weight map; their paths.

        The stack of all frames has its WCS beside it.
        """
        header = _header(stack, frames)
        compress = self.config.run.compress
        path = self.products.coadd(self.ramps, self.part, compressed=compress)
        if compress:
            level = self.config.coadd.quantize_level
            fitsfile.write_compressed(path, stack.data, header, level, _least_noise(stack))
        else:
            fitsfile.write_image(path, stack.data, header)
        # One stack, not two: what an earlier run left in the other form is stale.
        other = self.products.coadd(self.ramps, self.part, compressed=not compress)
        other.unlink(missing_ok=True)
        header["BUNIT"] = ("adu-2", "inverse variance of the stack")
        if np.isfinite(stack.pixel_scatter):
            header["NOISECOR"] = (1.0, "noise of a sum / root of the sum of 1/weight")
            header["PIXSCAT"] = (round(stack.pixel_scatter, 4), "scatter of one pixel / the same")
        weight = self.products.weight(self.ramps, self.part)
        fitsfile.write_image(weight, stack.weight, header)
        if not self.part and stack.flags is not None:
            fitsfile.write_flags(self.products.stack_flags(self.ramps), stack.flags, header)
        if not self.part:
            wcs = sip_cards(stack.wcs, stack.data.shape)
            fitsfile.write_header(self.products.coadd_wcs(self.ramps), wcs)
        return path, weight

    def write_extras(
        self,
        stack: Coadd,
        layers: Sequence[Layer],
        frames: Sequence[Frame],
        measures: Callable[[Coadd, Sequence[int]], Cards],
        *,
        each: Each = map,
    ) -> list[Path]:
        """Growing and interleaved stacks, exposure and depth map, as far as asked for; their paths.

        stack : the whole one, whose grid and WCS all share
        layers, frames : of it, in order of time
        measures : the header's numbers of a stack of the frames with these numbers
        """
        config = self.config
        paths: list[Path] = []
        if not wants_extras(config):
            return paths
        shapes = [layer.shape for layer in layers]
        grid = common_grid([layer.wcs for layer in layers], shapes, config.coadd)
        for part in substacks(len(frames), config.substacks):
            some = coadd([layers[k] for k in part.frames], grid, config.coadd, each=each)
            some = replace(some, wcs=stack.wcs, measures=measures(some, part.frames))
            own = replace(self, part=part.name)
            paths += own.write(some, [frames[k] for k in part.frames])
        header = _header(replace(stack, measures=measures(stack, range(len(frames)))), frames)
        if config.run.exptime_map:
            header["BUNIT"] = ("s", "exposure of the frames with a good value")
            seconds = [frame.info.exposure_s for frame in frames]
            image = exposure_map(layers, seconds, grid, config.coadd, each=each)
            paths.append(self.products.exposure(self.ramps))
            fitsfile.write_image(paths[-1], image, header)
        if config.run.depth_map:
            header["BUNIT"] = ("adu", "5 sigma in an aperture of 1.5 arcsec radius")
            image, factor = depth_map(stack.data, stack.weight, config.coadd.pixel_scale_arcsec)
            header["NOISEFAC"] = (round(factor, 4), "noise of empty apertures / by the weights")
            paths.append(self.products.depth(self.ramps))
            fitsfile.write_image(paths[-1], image, header)
        return paths


def wants_extras(config: Config) -> bool:
    """Whether anything is to be made beside the stack."""
    run, parts = config.run, config.substacks
    return parts.growing or parts.alternating or run.exptime_map or run.depth_map


def check_extras(config: Config) -> None:
    """Raise UsageError when something is asked for beside a stack that cannot be made."""
    if wants_extras(config) and config.run.engine != "native":
        raise UsageError(
            f"engine {config.run.engine}: -increm, -alt, -exptime_map and -depth_map need "
            "-engine native; leave one or the other out"
        )


def _least_noise(stack: Coadd) -> float:
    """Noise of a pixel where the stack is deepest, in its unit; NaN when it has no weight."""
    some = stack.weight[::8, ::8]
    deep = some[some > 0]
    return float(1 / np.sqrt(np.percentile(deep, 98))) if deep.size else float("nan")


def _header(stack: Coadd, frames: Sequence[Frame]) -> Header:
    return fitsfile.coadd_header(
        stack, [frame.info for frame in frames], [frame.header for frame in frames]
    )
