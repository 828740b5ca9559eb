"""Steps of astrometry: our own fit, SCAMP, astrometry.net."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.table import Table
from astropy.wcs import WCS

from photometrus import ladder
from photometrus.config import Config
from photometrus.errors import FrameError, ServiceError, UsageError
from photometrus.frame import FrameInfo, Progress, no_progress
from photometrus.instrument import CHIPS_FIELD_RADIUS_DEG
from photometrus.io import external, fitsfile, headfile, ldac, rampfile
from photometrus.io.catalogs import reference
from photometrus.products import Products
from photometrus.reference import as_catalog, at_epoch
from photometrus.stages import alone
from photometrus.steps.frames import (
    Lost,
    Product,
    StepResult,
    frames_in,
    open_product,
    pool,
    try_frames,
    with_stars,
)
from photometrus.wcs import pixel_to_sky, tpv_cards
from photometrus.workers import Each

FULL_FIT_STARS = 20
"""Fewer do not determine the distortion: the template's holds."""
NET_STARS = 1000
"""Sources that astrometry.net gets: more only slow it down."""


def shift(
    folder: Path, band: str, config: Config, *, progress: Progress = no_progress
) -> StepResult:
    """Find each ``*.sky.flat.fits`` among the reference stars and fit its WCS to them.

    The frame's header is rewritten; ``.cat`` and ``.head`` go beside it, the WCS of before to
    ``old/*.head``. Frames that are not found stay as they are. Without a catalogue the frames are
    aligned to the one with most stars, and a note says so.
    """
    frames = frames_in(folder, ".sky.flat.fits")
    with pool(config) as each:
        products, result = _measured(frames, band, config, each, progress)
        if not products:
            return result
        stars, note = _reference_or_best(products, config)
        placed, notes = ladder.place(products, stars, config)
        result.notes += [*filter(None, [note]), *notes]

        def one(product: Product) -> Fitted:
            wcs, n, rms = _fit(product, stars, config)
            _write_solved(product, wcs, n, rms)
            moved = _moved(product.frame.wcs, wcs, product.shape)
            numbers = {"n_matched": n, "rms_arcsec": rms, "moved_arcsec": moved}
            return Fitted(product.path, numbers)

        done, lost = try_frames(one, placed, each, "astrometry", progress)
    return _with_fits(result, done, lost)


@dataclass(frozen=True)
class Fitted:
    """A frame that was solved, and the numbers of its solution."""

    path: Path
    numbers: dict[str, float]


def _with_fits(result: StepResult, done: list[Fitted], lost: Lost) -> StepResult:
    result.made = [fitted.path for fitted in done]
    result.numbers = {fitted.path.name: fitted.numbers for fitted in done}
    result.lost += lost
    return result


def _measured(
    frames: tuple[list[Path], Lost], band: str, config: Config, each: Each, progress: Progress
) -> tuple[list[Product], StepResult]:
    """Frames with their stars; `band` empty takes any."""
    paths, strange = frames

    def one(path: Path) -> Product:
        product = open_product(path, config)
        found = product.frame.info.band
        if band and found != band:
            raise FrameError(f"{path.name}: band {found} in its header, not {band}")
        return with_stars(product, np.ones(product.shape, np.float32), config)

    products, lost = try_frames(one, paths, each, "stars", progress)
    return products, StepResult(lost=[*strange, *lost], given=len(paths))


def _reference(info: FrameInfo, config: Config) -> Table:
    """Reference stars around a pointing at the epoch of the frame. Raises PhotometrusError."""
    cache = Path(config.input.cache) if config.input.cache else None
    axis, radius = (info.ra_deg, info.dec_deg), CHIPS_FIELD_RADIUS_DEG + 0.05
    stars = reference(config.input.catalog, axis, radius, info.band, cache=cache)
    return at_epoch(stars, 2000.0 + (info.begin_mjd - 51544.5) / 365.25)


def _reference_or_best(products: list[Product], config: Config) -> tuple[Table, str]:
    """Reference stars; those of the frame with most stars, and a note, when there are none."""
    trouble = "no catalogue"
    if config.input.catalog.lower() != "none":
        try:
            stars = _reference(products[0].frame.info, config)
        except ServiceError as error:
            trouble = str(error)
        else:
            if len(stars) >= config.astrometry.min_matched:
                return stars, ""
            trouble = f"{config.input.catalog} has {len(stars)} stars around the field"
    best = max(products, key=ladder.n_stars)
    return as_catalog(best.sources, best.frame.wcs), (
        f"{trouble}: the frames are aligned to {best.name}, where the telescope says it is; "
        "give -catalog FILE"
    )


def _fit(product: Product, stars: Table, config: Config) -> tuple[WCS, int, float]:
    """A placed frame's WCS, how many stars matched, rms per axis; FrameError when it has none."""
    name, limits = product.path.name, config.astrometry
    if product.placement is None:
        raise FrameError(
            f"{name}: its {len(product.sources)} stars are not found within "
            f"{config.placement.capture_arcsec:g} arcsec of the pointing; check -rot_val and "
            "-catalog"
        )
    base = ladder.placed_wcs(product)
    wcs, n, rms = alone.refine_alone(product.sources, stars, base, product.ramp.chip, limits)
    if n < limits.min_matched or not rms <= limits.max_rms_arcsec:
        raise FrameError(
            f"{name}: {n} stars fitted with rms {rms:.2f} arcsec; at least "
            f"{limits.min_matched} within {limits.max_rms_arcsec:g} arcsec wanted"
        )
    return wcs, n, rms


def _write_solved(product: Product, wcs: WCS, n: int, rms: float) -> None:
    """The frame with its new WCS, its sources and solution beside it, the old WCS in ``old``."""
    path, frame, shape = product.path, product.frame, product.shape
    old = path.parent / Products(Path(), frame.info.band).before_refinement(product.ramp.chip).name
    old.mkdir(exist_ok=True)
    headfile.write_head(old / path.with_suffix(".head").name, tpv_cards(frame.wcs))
    header = fitsfile.product_header(frame.header, wcs, shape)
    header["ASTRRMS"] = (round(rms, 5), "[arcsec] rms per axis to the catalogue")
    header["ASTRNUM"] = (n, "catalogue stars in the solution")
    header["ASTRLEV"] = ("affine" if n < FULL_FIT_STARS else "full", "step of the ladder")
    fitsfile.write_image(path, product.stored.raw.rows(0, shape[0]), header)
    solved = tpv_cards(wcs)
    headfile.write_head(path.with_suffix(".head"), solved)
    catalog = fitsfile.product_header(frame.header, None, shape)
    catalog.update(solved)
    catalog["NAXIS1"], catalog["NAXIS2"] = shape[1], shape[0]
    ldac.write_ldac(path.with_suffix(".cat"), catalog, product.sources)


def _moved(before: WCS, after: WCS, shape: tuple[int, int]) -> float:
    """How far the frame's middle moved on the sky, arcsec."""
    x, y = np.float64(shape[1] / 2), np.float64(shape[0] / 2)
    one, two = (SkyCoord(*pixel_to_sky(wcs, x, y), unit="deg") for wcs in (before, after))
    return float(one.separation(two).arcsec)


@dataclass(frozen=True)
class _Extracted:
    """A frame's catalogue by SExtractor."""

    path: Path
    catalog: Path
    info: FrameInfo


def scamp(
    folder: Path, band: str, config: Config, *, progress: Progress = no_progress
) -> StepResult:
    """The real SExtractor and SCAMP on ``*.sky.flat.fits``: ``.cat`` and ``.head`` beside each.

    Raises ServiceError when they are not installed.
    """
    for names in (("source-extractor", "sextractor", "sex"), ("scamp",)):
        external.find_program(*names)
    paths, strange = frames_in(folder, ".sky.flat.fits")

    def extract(path: Path) -> _Extracted:
        header, _ = rampfile.open_ramp(path)
        info = rampfile.frame_info(header, path)
        if info.band != band:
            raise FrameError(f"{path.name}: band {info.band} in its header, not {band}")
        catalog = path.with_suffix(".cat")
        try:
            external.sextractor(path, catalog, timeout_s=config.run.timeout_s)
        except ServiceError as error:
            raise FrameError(f"{path.name}: {error}") from error
        # SCAMP knows no SIP: the WCS that SExtractor copied from the frame is put as TPV.
        cards, sources = ldac.read_ldac(catalog)
        cards.update(tpv_cards(fitsfile.header_wcs(header, path.name)))
        ldac.write_ldac(catalog, cards, sources)
        return _Extracted(path, catalog, info)

    with pool(config) as each:
        done, lost = try_frames(extract, paths, each, "SExtractor", progress)
    result = StepResult(lost=[*strange, *lost], given=len(paths))
    if not done:
        return result
    stars = None if config.input.catalog.lower() == "none" else _reference(done[0].info, config)
    progress("SCAMP", 0, 1)
    catalogs = [item.catalog for item in done]
    solutions = external.scamp(catalogs, stars, timeout_s=config.run.timeout_s)
    progress("SCAMP", 1, 1)
    for item, solution in zip(done, solutions, strict=True):
        name = item.path.name
        if not solution.trusted:
            solution.head.unlink(missing_ok=True)
            contrast = min(solution.contrasts)
            result.lost.append((name, f"SCAMP's match may be chance (contrast {contrast:.1f})"))
            continue
        result.made.append(solution.head)
        rms = float(np.hypot(*solution.rms_arcsec) / np.sqrt(2))
        result.numbers[name] = {"n_matched": solution.n_matched, "rms_arcsec": rms}
    return result


def solve_field(
    in_path: Path,
    out_path: Path,
    config: Config,
    *,
    radius_deg: float = 1.0,
    progress: Progress = no_progress,
) -> StepResult:
    """Copies of the frames (``*.new``) with the WCS that the real ``solve-field`` finds.

    Index files come from the configuration's `astrometry_net_cfg`, or are built from the
    reference catalogue. Raises ServiceError when astrometry.net is not installed.
    """
    external.find_program("solve-field")
    frames = frames_in(in_path, ".sky.flat.fits", ".flat.fits")
    with pool(config) as each, tempfile.TemporaryDirectory(prefix="photometrus-") as work:
        products, result = _measured(frames, "", config, each, progress)
        if not products:
            return result
        net = _net_config(products[0].frame.info, Path(work), config)

        def one(product: Product) -> Fitted:
            info = product.frame.info
            near = (info.ra_deg, info.dec_deg, radius_deg + CHIPS_FIELD_RADIUS_DEG)
            stars = product.sources[np.asarray(product.sources["flags"]) == 0][:NET_STARS]
            try:
                cards = external.solve_field(stars, shape=product.shape, config=net, near=near)
            except ServiceError as error:
                raise FrameError(f"{product.path.name}: {error}") from error
            out = out_path / product.path.with_suffix(".new").name
            return Fitted(out, {"moved_arcsec": _write_net(out, product, cards)})

        done, lost = try_frames(one, products, each, "astrometry.net", progress)
    return _with_fits(result, done, lost)


def _net_config(info: FrameInfo, work: Path, config: Config) -> Path:
    """The configuration of solve-field: the given one, or that of an index built for the field."""
    if config.input.astrometry_net_cfg:
        return Path(config.input.astrometry_net_cfg)
    if config.input.catalog.lower() == "none":
        raise UsageError("astrom net: needs -net_cfg, or -catalog to build an index from")
    return external.build_index(_reference(info, config), work / "index")


def _write_net(out: Path, product: Product, cards: Header) -> float:
    """The frame with astrometry.net's WCS; how far its middle moved, arcsec."""
    header = fitsfile.product_header(product.frame.header, None, product.shape)
    header.update(cards)
    header["ASTRLEV"] = ("net", "solved by astrometry.net")
    fitsfile.write_image(out, product.stored.raw.rows(0, product.shape[0]), header)
    return _moved(product.frame.wcs, fitsfile.header_wcs(header), product.shape)
