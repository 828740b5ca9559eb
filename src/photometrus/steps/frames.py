"""What the steps share: a folder's frames, their pixels and stars, the count of the lost."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from astropy.wcs import WCS

from photometrus.config import Config
from photometrus.errors import FrameError, MissingInput, UsageError
from photometrus.frame import Bad, Flags, Frame, FrameInfo, Image, Progress
from photometrus.io import fitsfile, rampfile
from photometrus.products import RAMP_NAME, RampId, parse_ramp
from photometrus.selection import Choice, choose
from photometrus.stages import detrend, sky
from photometrus.stages.background import fit_background, flat_background
from photometrus.stages.sources import find_sources
from photometrus.track import Track
from photometrus.wcs import pointing_wcs
from photometrus.workers import Each, cores, threads, try_each

MAX_THREADS = 4
"""Each thread holds a whole frame and its product."""

Lost = list[tuple[str, str]]
"""(file or frame, reason) of what could not be used."""


@dataclass
class StepResult:
    """What a step made, what it could not use and why, what it measured on each frame."""

    made: list[Path] = field(default_factory=list)
    lost: Lost = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    given: int = 0
    left_out: Lost = field(default_factory=list)
    """What the user did not want: no loss."""


@dataclass(frozen=True, eq=False)
class ProductPixels:
    """The pixels of a product on demand: NaN means bad, and so does what is known to be hot."""

    raw: rampfile.RawRows
    hot: Flags | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.raw.shape

    def rows(self, y0: int, y1: int) -> tuple[Image, Flags]:
        """Rows y0 to y1, float32, 0 where bad, and their flags."""
        data = self.raw.rows(y0, y1)
        bad = np.where(np.isfinite(data), 0, Bad.UNSOLVED).astype(np.uint8)
        if self.hot is not None:
            bad |= self.hot[y0:y1]
        data[bad != 0] = 0
        return data, bad


@dataclass(frozen=True, eq=False)
class Product(Track):
    """A product on disk on its way through a step."""

    path: Path = Path()

    @property
    def ramp(self) -> RampId:
        """Which ramp it was."""
        return self.frame.info.ramp

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.frame.pixels.shape

    @property
    def stored(self) -> ProductPixels:
        """Its pixels on disk."""
        return cast(ProductPixels, self.frame.pixels)

    def without_hot(self, image: Image, config: Config) -> "Product":
        """The same with the hot pixels of a sky flagged."""
        pixels = replace(self.stored, hot=sky.hot_pixels(image, config.sky))
        return replace(self, frame=replace(self.frame, pixels=pixels))


def open_product(path: Path, config: Config) -> Product:
    """A handle on a trimmed product; its level is the start of its background.

    Raises FrameError when it cannot be read or has no good pixels.
    """
    header, raw = rampfile.open_ramp(path)
    info = rampfile.frame_info(header, path)
    pixels = ProductPixels(raw)
    level = detrend.level(pixels)
    if not np.isfinite(level):
        raise FrameError(f"{path.name}: no good pixels (NaN) in it")
    wcs = (
        fitsfile.header_wcs(header, path.name) if "CTYPE1" in header else pointing_of(info, config)
    )
    background = flat_background(level, pixels.shape, config.background.mesh_pix)
    return Product(Frame(info, header, pixels, wcs), background, path=path)


def with_stars(product: Product, image: Image, config: Config) -> Product:
    """The product with its background against a sky, and its stars; FrameError without noise."""
    pixels, info = product.frame.pixels, product.frame.info
    background, noise = fit_background(
        pixels, image, sky.no_mask(product.shape), product.background.scale, config.background
    )
    if not noise > 0:
        raise FrameError(f"{product.path.name}: no noise in its sky; not a real exposure")
    data, bad = pixels.rows(0, product.shape[0])
    background.subtract(data, image, 0)
    data[bad != 0] = 0
    stars = find_sources(data, bad, noise, info.reads, config.sources)
    return replace(product, background=background, noise=noise, sources=stars)


def pointing_of(info: FrameInfo, config: Config, *, trimmed: bool = True) -> WCS:
    """The WCS that the telescope's pointing gives, with -rot_val where the header has no angle."""
    rotator_deg = config.run.rotator_deg if info.rotator_deg is None else info.rotator_deg
    axis = (info.ra_deg, info.dec_deg)
    return pointing_wcs(info.ramp.chip, axis, rotator_deg, trimmed=trimmed)


def frames_in(folder: Path, *ends: str) -> tuple[list[Path], Lost]:
    """The frames of a folder whose names end so, and what only looks like one.

    Of several files of a ramp the one with the first of the endings is taken. MissingInput when
    there is none.
    """
    if not folder.is_dir():
        raise MissingInput(
            f"{folder}: no such folder; check its name, or make it with the step before"
        )
    found: dict[RampId, Path] = {}
    strange: Lost = []
    for end in ends:
        for path in sorted(folder.glob(f"*{end}")):
            match = RAMP_NAME.match(path.name)
            if match is None:
                strange.append((path.name, "not a ramp's name: 8 digits, C, chip: 01599131C1..."))
            elif path.name[match.end() :] == end:
                found.setdefault(parse_ramp(path.name), path)
    if not found:
        wanted = " or ".join(f"*{end}" for end in ends)
        raise MissingInput(f"{folder}: no {wanted} there; -h says which step comes before")
    return [found[ramp] for ramp in sorted(found)], strange


def chip_of(paths: Sequence[Path]) -> int:
    """The one chip of some frames; UsageError when there are several."""
    found = {parse_ramp(path.name).chip for path in paths}
    if len(found) > 1:
        raise UsageError(
            f"{paths[0].parent}: frames of chips {', '.join(map(str, sorted(found)))}; "
            "a sky or a stack is of one chip, give a folder for each"
        )
    return found.pop()


def chosen(paths: Sequence[Path], config: Config) -> tuple[list[Path], Choice]:
    """Of the frames of one chip those that -rampnum and -exclude leave, and why not the others."""
    chip = chip_of(paths)
    ramps = {parse_ramp(path.name): path for path in paths}
    choice = choose({chip: sorted(ramps)}, {chip: config.select})
    return [ramps[ramp] for ramp in choice.ramps[chip]], choice


def pool(config: Config) -> AbstractContextManager[Each]:
    """A ``map`` over as many threads as the configuration says."""
    return threads(config.run.threads or min(cores(), MAX_THREADS))


def try_frames(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    each: Each,
    step: str,
    progress: Progress,
) -> tuple[list[Any], Lost]:
    """What `function` made of each path or product, and those that it could not use."""

    def counted(call: Callable[..., Any], things: Iterable[Any]) -> Iterable[Any]:
        for k, outcome in enumerate(each(call, things), start=1):
            progress(step, k, len(items))
            yield outcome

    done, lost = try_each(function, items, counted)
    reasons: Lost = []
    for item, error in lost:
        name = (item if isinstance(item, Path) else item.path).name
        text = str(error)
        for start in (name, name.partition(".")[0]):
            text = text.removeprefix(f"{start}: ")
        reasons.append((name, text))
    return [result for _, result in done], reasons


def each_frame(
    function: Callable[[Path], Path],
    frames: tuple[list[Path], Lost],
    config: Config,
    step: str,
    progress: Progress,
) -> StepResult:
    """One product from each frame."""
    paths, strange = frames
    with pool(config) as each:
        made, lost = try_frames(function, paths, each, step, progress)
    return StepResult(made, [*strange, *lost], given=len(paths))
