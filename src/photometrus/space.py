"""Whether the disk has room for what is to be made: an estimate, before anything is begun."""

import logging
from collections.abc import Iterable
from pathlib import Path

from photometrus.config import Config
from photometrus.errors import StorageError
from photometrus.frame import NOTICE
from photometrus.instrument import DETECTOR_PIXELS
from photometrus.io.whole import free_bytes
from photometrus.products import Products, RampId
from photometrus.substacks import substacks

log = logging.getLogger(__name__)

RAMP_BYTES = 4 * DETECTOR_PIXELS**2
"""Of a ramp of the whole detector as float32."""
GRID = 1.2
"""Pixels of a stack, of those of a frame: dithers of some arcminutes more."""
COMPRESSED = 0.35
"""Bytes of a stack as .fits.fz, of those as .fits; of full-size ones 0.25."""
SMALL = 0.06
"""Of a frame: its flags, sources and headers, its star mask while the chip is reduced."""
PAGES_BYTES = 4_000_000
"""A chip's page and its part of report.html and run.json."""


def check_room(
    products: Products,
    ramps: dict[int, list[RampId]],
    config: Config,
    *,
    coming: int = 0,
    ramp_bytes: int = RAMP_BYTES,
) -> None:
    """Tell what is needed; StorageError when it is more than there is room for.

    ramps : by chip; coming : how many of them are not on disk yet, ramp_bytes : of one of them
    What is there and will be replaced counts as room.
    """
    one = next((size for chip in ramps for size in _sizes(map(products.ramp, ramps[chip]))), 0)
    made = sum(_missing(products, ramps[chip], config, one or ramp_bytes) for chip in ramps)
    came = coming * ramp_bytes
    free = free_bytes(products.root)
    words = f"about {_shown(made + came)} needed ({_shown(came)} ramps, {_shown(made)} products)"
    if made + came > free:
        raise StorageError(
            f"{products.root}: {words}, {_shown(free)} free; free some space, choose another "
            f"-parent{_less(config)}"
        )
    if made + came:
        log.log(NOTICE, "disk: %s, %s free", words, _shown(free))


def _less(config: Config) -> str:
    return ", or keep less with -keep final" if config.run.keep == "all" else ""


def _missing(products: Products, ramps: list[RampId], config: Config, one: int) -> int:
    """Bytes of a chip's products that are not there."""
    if not ramps:
        return 0
    own = config.for_chip(ramps[0].chip)
    frames = own.run.keep == "all" or own.run.engine == "astromatic"
    per_frame = SMALL + (3.0 if frames else 0.0)
    image = GRID * (COMPRESSED if own.run.compress else 1.0)
    parts = len(substacks(len(ramps), own.substacks))
    maps = own.run.exptime_map + own.run.depth_map
    total = one * (
        len(ramps) * per_frame + 1.0 + (1 + parts) * (image + GRID) + GRID * (SMALL + maps)
    )
    there = [products.sky(ramps), products.weight(ramps)]
    there += [products.coadd(ramps, compressed=form) for form in (True, False)]
    if frames:
        there += [path for ramp in ramps for path in products.of_frame(ramp)]
    return max(0, int(total + PAGES_BYTES) - sum(_sizes(there)))


def _sizes(paths: Iterable[Path]) -> Iterable[int]:
    return (path.stat().st_size for path in paths if path.is_file())


def _shown(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.0f} MB"
