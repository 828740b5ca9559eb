"""Steps of astrometry: our own fit, SCAMP, astrometry.net."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io.fits import Header
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.config import Config
from photometrus.errors import FrameError, ServiceError, UsageError
from photometrus.frame import FrameInfo, Progress, no_progress
from photometrus.instrument import CHIPS_FIELD_RADIUS_DEG
from photometrus.io import external, fitsfile, ldac
from photometrus.io.catalogs import reference
from photometrus.products import Products
from photometrus.stages import astrometry
from photometrus.steps.frames import (
    Lost,
    StepResult,
    Track,
    frames_in,
    open_track,
    pool,
    rotator_of,
    try_frames,
    with_stars,
)
from photometrus.wcs import pixel_to_sky, tpv_cards
from photometrus.workers import Each

RIGHT_ANGLES = (90.0, 180.0, 270.0)
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
    with pool(config) as each:
        tracks, result = _measured(
            frames_in(folder, ".sky.flat.fits"), band, config, each, progress
        )
        if not tracks:
            return result
        stars, note = _reference_or_best(tracks, config)
        if note:
            result.notes.append(note)

        def one(track: Track) -> tuple[str, Path, dict[str, float]]:
            wcs, n, rms = _solve(track, stars, config)
            path = _write_solved(track, wcs, n, rms)
            moved = _moved(track.wcs, wcs, track.shape)
            return path.name, path, {"n_matched": n, "rms_arcsec": rms, "moved_arcsec": moved}

        done, lost = try_frames(one, tracks, each, "astrometry", progress)
    result.made = [path for _, path, _ in done]
    result.numbers = {name: numbers for name, _, numbers in done}
    result.lost += lost
    return result


def _measured(
    frames: tuple[list[Path], Lost], band: str, config: Config, each: Each, progress: Progress
) -> tuple[list[Track], StepResult]:
    """Frames with their stars; `band` empty takes any."""
    paths, strange = frames

    def one(path: Path) -> Track:
        track = open_track(path, config)
        if band and track.info.band != band:
            raise FrameError(f"{path.name}: band {track.info.band} in its header, not {band}")
        return with_stars(track, np.ones(track.shape, np.float32), config)

    tracks, lost = try_frames(one, paths, each, "stars", progress)
    return tracks, StepResult(lost=[*strange, *lost], given=len(paths))


def _reference(info: FrameInfo, config: Config) -> Table:
    """Reference stars around a pointing at the epoch of the frame. Raises PhotometrusError."""
    cache = Path(config.input.cache) if config.input.cache else None
    axis, radius = (info.ra_deg, info.dec_deg), CHIPS_FIELD_RADIUS_DEG + 0.05
    stars = reference(config.input.catalog, axis, radius, info.band, cache=cache)
    return astrometry.at_epoch(stars, 2000.0 + (info.begin_mjd - 51544.5) / 365.25)


def _reference_or_best(tracks: list[Track], config: Config) -> tuple[Table, str]:
    """Reference stars; those of the frame with most stars, and a note, when there are none."""
    trouble = "no catalogue"
    if config.input.catalog.lower() != "none":
        try:
            stars = _reference(tracks[0].info, config)
        except ServiceError as error:
            trouble = str(error)
        else:
            if len(stars) >= config.astrometry.min_matched:
                return stars, ""
            trouble = f"{config.input.catalog} has {len(stars)} stars around the field"
    best = max(tracks, key=lambda track: len(track.sources))
    return astrometry.as_catalog(best.sources, best.wcs), (
        f"{trouble}: the frames are aligned to {best.ramp}, where the telescope says it is; "
        "give -catalog FILE"
    )


def _solve(track: Track, stars: Table, config: Config) -> tuple[WCS, int, float]:
    """A frame's WCS from the stars, how many matched, rms per axis; FrameError when not found."""
    chip, name = track.ramp.chip, track.path.name
    stated = [rotator_of(track.info, config), config.run.rotator_deg]
    turned = [angle + turn for turn in RIGHT_ANGLES for angle in stated]
    candidates = list(dict.fromkeys(angle % 360.0 for angle in stated + turned))
    found = astrometry.find_placement(
        track.sources, stars, chip, track.axis, candidates, config.astrometry
    )
    if found is None:
        raise FrameError(
            f"{name}: its {len(track.sources)} stars are not found within "
            f"{config.astrometry.capture_arcsec:g} arcsec of the pointing; check -rot_val, -catalog"
        )
    placed = astrometry.placed_wcs(chip, track.axis, found)
    wcs, n, rms = astrometry.refine_alone(track.sources, stars, placed, config.astrometry)
    if n < config.astrometry.min_matched or not rms <= config.astrometry.max_rms_arcsec:
        raise FrameError(
            f"{name}: {n} stars fitted with rms {rms:.2f} arcsec; at least "
            f"{config.astrometry.min_matched} within {config.astrometry.max_rms_arcsec:g} wanted"
        )
    return wcs, n, rms


def _write_solved(track: Track, wcs: WCS, n: int, rms: float) -> Path:
    """The frame with its new WCS, its sources and solution beside it, the old WCS in ``old``."""
    path = track.path
    old = path.parent / Products(Path(), track.info.band).before_refinement(track.ramp.chip).name
    old.mkdir(exist_ok=True)
    ldac.write_head(old / path.with_suffix(".head").name, tpv_cards(track.wcs))
    header = fitsfile.product_header(track.header, wcs, track.shape)
    header["ASTRRMS"] = (round(rms, 5), "[arcsec] rms per axis to the catalogue")
    header["ASTRNUM"] = (n, "catalogue stars in the solution")
    header["ASTRLEV"] = ("affine" if n < FULL_FIT_STARS else "full", "step of the ladder")
    fitsfile.write_image(path, track.pixels.raw.rows(0, track.shape[0]), header)
    solved = tpv_cards(wcs)
    ldac.write_head(path.with_suffix(".head"), solved)
    catalog = fitsfile.product_header(track.header, None, track.shape)
    catalog.update(solved)
    catalog["NAXIS1"], catalog["NAXIS2"] = track.shape[1], track.shape[0]
    ldac.write_ldac(path.with_suffix(".cat"), catalog, track.sources)
    return path


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
        header, _ = fitsfile.open_ramp(path)
        info = fitsfile.frame_info(header, path)
        if info.band != band:
            raise FrameError(f"{path.name}: band {info.band} in its header, not {band}")
        catalog = path.with_suffix(".cat")
        try:
            external.sextractor(path, catalog, timeout_s=config.run.timeout_s)
        except ServiceError as error:
            raise FrameError(f"{path.name}: {error}") from error
        # SCAMP knows no SIP: the WCS that SExtractor copied from the frame is put as TPV.
        cards, sources = ldac.read_ldac(catalog)
        cards.update(tpv_cards(fitsfile.header_wcs(header)))
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
        tracks, result = _measured(frames, "", config, each, progress)
        if not tracks:
            return result
        net = _net_config(tracks[0].info, Path(work), config)

        def one(track: Track) -> tuple[str, Path, dict[str, float]]:
            stars = track.sources[np.asarray(track.sources["flags"]) == 0][:NET_STARS]
            near = (*track.axis, radius_deg + CHIPS_FIELD_RADIUS_DEG)
            try:
                cards = external.solve_field(stars, shape=track.shape, config=net, near=near)
            except ServiceError as error:
                raise FrameError(f"{track.path.name}: {error}") from error
            out = out_path / track.path.with_suffix(".new").name
            return out.name, out, {"moved_arcsec": _write_net(out, track, cards)}

        done, lost = try_frames(one, tracks, each, "astrometry.net", progress)
    result.made = [path for _, path, _ in done]
    result.numbers = {name: numbers for name, _, numbers in done}
    result.lost += lost
    return result


def _net_config(info: FrameInfo, work: Path, config: Config) -> Path:
    """The configuration of solve-field: the given one, or that of an index built for the field."""
    if config.input.astrometry_net_cfg:
        return Path(config.input.astrometry_net_cfg)
    if config.input.catalog.lower() == "none":
        raise UsageError("astrom net: needs -net_cfg, or -catalog to build an index from")
    return external.build_index(_reference(info, config), work / "index")


def _write_net(out: Path, track: Track, cards: Header) -> float:
    """The frame with astrometry.net's WCS; how far its middle moved, arcsec."""
    header = fitsfile.product_header(track.header, None, track.shape)
    header.update(cards)
    header["ASTRLEV"] = ("net", "solved by astrometry.net")
    fitsfile.write_image(out, track.pixels.raw.rows(0, track.shape[0]), header)
    return _moved(track.wcs, fitsfile.header_wcs(header), track.shape)
