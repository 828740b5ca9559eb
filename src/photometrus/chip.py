"""The recipe of one chip: ramps on disk to a stack, in the order of the science.

It holds handles, not pixels: every stage reads the rows it needs from the ramps, calibrated on the
way, so that memory does not grow with the number of ramps.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.config import Config
from photometrus.errors import FrameError, MissingInput, PhotometrusError, TooFewFrames
from photometrus.flats import Flats
from photometrus.frame import Frame, Image, Pixels, Progress, Quality, Solution, no_progress
from photometrus.instrument import PIXEL_SCALE_ARCSEC
from photometrus.io import fitsfile, ldac
from photometrus.kernels.resample import fill_bad
from photometrus.products import Products, RampId
from photometrus.stages import astrometry, detrend, masks, sky
from photometrus.stages.coadd import Layer, coadd, common_grid
from photometrus.stages.quality import reject, relative_fluxes
from photometrus.stages.sources import find_sources, seeing_and_ellipticity
from photometrus.wcs import pointing_wcs, sip_cards, tpv_cards
from photometrus.workers import Each, try_each

log = logging.getLogger(__name__)

MAX_BAD_FRACTION = 0.5
"""A frame with more unusable pixels is not a frame."""
RIGHT_ANGLES = (90.0, 180.0, 270.0)


@dataclass(frozen=True)
class Verdict:
    """What became of one frame, and what was measured on it."""

    frame: str
    used: bool
    reason: str
    seeing_arcsec: float = float("nan")
    ellipticity: float = float("nan")
    sky_adu: float = float("nan")
    noise_adu: float = float("nan")
    transparency: float = float("nan")
    level: str = ""
    n_matched: int = 0
    rms_arcsec: float = float("nan")
    internal_rms_arcsec: float = float("nan")


@dataclass(frozen=True)
class ChipResult:
    """What became of a chip. `error` is not empty when there is no stack."""

    chip: int
    coadd: Path | None = None
    weight: Path | None = None
    verdicts: list[Verdict] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True, eq=False)
class Track:
    """One frame on its way through the recipe: each step gives a new one with more in it."""

    frame: Frame
    level: float
    background: sky.Background
    noise: float = float("nan")
    sources: Table | None = None
    placement: astrometry.Placement | None = None
    mask: sky.Mask | None = None

    @property
    def name(self) -> str:
        """``01599131C2``."""
        return self.frame.name

    @property
    def pixels(self) -> Pixels:
        """Calibrated pixels on demand."""
        return self.frame.pixels


def reduce_chip(
    products: Products,
    ramps: Sequence[RampId],
    config: Config,
    flats: Flats,
    reference: Callable[[tuple[float, float]], Table | None],
    *,
    each: Each = map,
    progress: Progress = no_progress,
) -> ChipResult:
    """Reduce one chip's ramps (all of the same chip) to a stack with weight map and products.

    reference : gives the reference catalogue around a telescope axis (degrees), None for none
    Nothing that can be explained is raised: it is in the result, with all verdicts so far.
    """
    chip = ramps[0].chip
    run = _Run(products, chip, config.for_chip(chip), flats, each, progress)
    started = time.monotonic()
    try:
        result = run.reduce(list(ramps), reference)
    except PhotometrusError as error:
        log.error("C%d: %s", chip, error)  # noqa: TRY400 - explained, not a bug
        result = ChipResult(chip, verdicts=run.verdicts(), notes=run.notes, error=str(error))
    result.numbers["seconds"] = round(time.monotonic() - started, 2)
    return result


class _Run:
    """The recipe's state for one chip: what was lost and noted so far."""

    def __init__(self, products, chip, config, flats, each, progress) -> None:
        self.products: Products = products
        self.chip: int = chip
        self.config: Config = config
        self.flats: Flats = flats
        self.each: Each = each
        self.progress: Progress = progress
        self.notes: list[str] = []
        self.named: list[RampId] = []
        self.lost: dict[str, Verdict] = {}
        self.kept: dict[str, Verdict] = {}

    # ------------------------------------------------------------ the page of verbs

    def reduce(self, ramps: list[RampId], reference) -> ChipResult:
        """Everything, in order."""
        self.named = ramps
        frames = self.open_frames(ramps)
        flat = self.choose_flat(frames)
        tracks = self.calibrate(frames, flat)
        first_sky, tracks = self.first_sky(tracks)
        tracks = self.find_stars(tracks, first_sky)
        tracks, residuals = self.solve(tracks, reference)
        tracks = self.judge(tracks)
        tracks, star_mask = self.hide_stars(tracks, first_sky)
        final_sky, tracks = self.final_sky(tracks, first_sky)
        self.write_frames(tracks, final_sky)
        return self.stack(tracks, final_sky, residuals, star_mask)

    # ------------------------------------------------------------ steps

    def open_frames(self, ramps: list[RampId]) -> list[Frame]:
        """Handles on the ramps that can be read and belong together."""
        opened, lost = try_each(self._open, ramps, self.each)
        self.lose((str(ramp), error) for ramp, error in lost)
        if not opened:
            raise TooFewFrames(f"C{self.chip}: none of {len(ramps)} ramps is usable")
        shapes = Counter(frame.pixels.shape for _, frame in opened)
        shape = shapes.most_common(1)[0][0]
        good, seen = [], set()
        for _, frame in opened:
            ny, nx = frame.pixels.shape
            if (ny, nx) != shape:
                self.lose([(frame.name, f"{nx} x {ny} pixels, the others {shape[1]} x {shape[0]}")])
            elif frame.info.begin_mjd in seen:
                self.lose([(frame.name, "starts at the same time as another: a duplicate")])
            else:
                seen.add(frame.info.begin_mjd)
                good.append(frame)
        return sorted(good, key=lambda frame: frame.info.begin_mjd)

    def _open(self, ramp: RampId) -> Frame:
        path = self.products.ramp(ramp)
        header, raw = fitsfile.open_ramp(path)
        info = fitsfile.frame_info(header, path)
        if info.band != self.products.band:
            raise FrameError(f"{ramp}: band {info.band} in the header, not {self.products.band}")
        pixels = detrend.CalibratedPixels(
            raw, detrend.unit_flat((raw.shape[0] - 8, raw.shape[1] - 8))
        )
        wcs = pointing_wcs(ramp.chip, (info.ra_deg, info.dec_deg), self.rotator(info.rotator_deg))
        return Frame(info, header, pixels, wcs)

    def rotator(self, header_deg: float | None) -> float:
        """The header's rotator offset, or the one given when the header's cannot be read."""
        return self.config.run.rotator_deg if header_deg is None else header_deg

    def choose_flat(self, frames: list[Frame]) -> detrend.Flat:
        """The flat of this chip, band and night; from the frames themselves when there is none."""
        shape = frames[0].pixels.shape
        if not self.config.run.flat_field:
            return detrend.unit_flat(shape)
        flat, note = self.flats.choose(self.products.band, self.chip, frames, self.config.flat)
        if note:
            self.note(note)
        return flat.window(shape)

    def calibrate(self, frames: list[Frame], flat: detrend.Flat) -> list[Track]:
        """Frames with the flat behind their pixels, and their sky levels."""

        def start(frame: Frame) -> Track:
            pixels = detrend.CalibratedPixels(frame.pixels.raw, flat)
            bad = detrend.bad_fraction(pixels)
            if bad > MAX_BAD_FRACTION:
                raise FrameError(
                    f"{frame.name}: {bad:.0%} of the pixels are unusable (NaN or 65535), at most "
                    f"{MAX_BAD_FRACTION:.0%} allowed"
                )
            level = detrend.level(pixels)
            if not level > 0:
                raise FrameError(f"{frame.name}: sky level {level:.3g} ADU; no light, no frame")
            background = sky.flat_background(level, pixels.shape, self.config.sky.mesh_pix)
            return Track(replace(frame, pixels=pixels), level, background)

        done, lost = try_each(start, frames, self.each)
        self.lose((frame.name, error) for frame, error in lost)
        tracks = [track for _, track in done]
        if not tracks:
            raise TooFewFrames(f"C{self.chip}: none of {len(frames)} frames has usable pixels")
        return tracks

    def first_sky(self, tracks: list[Track]) -> tuple[Image, list[Track]]:
        """The sky with nothing hidden; and hot pixels flagged from now on."""
        shape = tracks[0].pixels.shape
        raw = self.make_sky(tracks, [sky.no_mask(shape)] * len(tracks))
        hot = sky.hot_pixels(raw, self.config.sky)
        out = []
        for track in tracks:
            pixels = track.pixels
            flat = replace(pixels.flat, bad=pixels.flat.bad | hot)
            pixels = detrend.CalibratedPixels(pixels.raw, flat)
            out.append(replace(track, frame=replace(track.frame, pixels=pixels)))
        return sky.fill_sky(raw), out

    def make_sky(self, tracks: list[Track], hide: Sequence[sky.Mask]) -> Image:
        """The sky of the frames, or the one that was given, or none for too few frames."""
        self.progress(f"C{self.chip} sky", 0, 1)
        shape = tracks[0].pixels.shape
        given = self.config.input.sky_override
        if given:
            image, _ = fitsfile.read_image(Path(given))
            if image.shape != shape:
                raise MissingInput(
                    f"{given}: {image.shape[1]} x {image.shape[0]} pixels, the frames have "
                    f"{shape[1]} x {shape[0]}; give a sky of this chip"
                )
            return image / np.float32(np.nanmedian(image))
        if len(tracks) < self.config.sky.min_frames:
            self.note(
                f"{len(tracks)} frames cannot tell stars from sky (need "
                f"{self.config.sky.min_frames}): a smooth sky was fitted to each"
            )
            return np.ones(shape, np.float32)
        image = sky.make_sky(
            [track.pixels for track in tracks],
            [track.background for track in tracks],
            hide,
            self.config.sky,
            each=self.each,
        )
        self.progress(f"C{self.chip} sky", 1, 1)
        return image

    def find_stars(self, tracks: list[Track], first_sky: Image) -> list[Track]:
        """Stars and quality of each frame."""
        shape = tracks[0].pixels.shape
        hide = sky.no_mask(shape)

        def find(track: Track) -> Track:
            background, noise = sky.fit_background(
                track.pixels, first_sky, hide, track.level, self.config.sky
            )
            if not noise > 0:
                raise FrameError(f"{track.name}: no noise in its sky; not a real exposure")
            data, bad = track.pixels.rows(0, shape[0])
            background.subtract(data, first_sky, 0)
            fill_bad(data, bad, 8)
            info = track.frame.info
            stars = find_sources(data, bad, noise, info.reads, self.config.sources)
            fwhm_pix, ellipticity = seeing_and_ellipticity(stars)
            quality = Quality(
                sky_adu=background.scale,
                noise_adu=noise,
                seeing_arcsec=fwhm_pix * PIXEL_SCALE_ARCSEC,
                ellipticity=ellipticity,
                n_sources=len(stars),
                transparency=float("nan"),
            )
            frame = replace(track.frame, quality=quality)
            return replace(track, frame=frame, background=background, noise=noise, sources=stars)

        done, lost = try_each(find, tracks, self.counted("stars", len(tracks)))
        self.lose((track.name, error) for track, error in lost)
        return [track for _, track in done]

    # ------------------------------------------------------------ astrometry

    def solve(self, tracks: list[Track], reference) -> tuple[list[Track], Table]:
        """Place every frame on the sky, then solve all of them together."""
        self.progress(f"C{self.chip} astrometry", 0, 1)
        catalog = self.reference_catalog(tracks, reference)
        tracks = self.place(tracks, catalog)
        relative = catalog is None
        if relative:
            catalog = self.catalog_of_frames(tracks)
            tracks = self.place(tracks, catalog, search=False) if catalog is not None else tracks
        placed = [track for track in tracks if track.placement is not None]
        for track in tracks:
            if track.placement is None:
                self.lose([(track.name, "not found among the stars: where it points is unknown")])
        if not placed:
            raise TooFewFrames(
                f"C{self.chip}: no frame was found on the sky; check -rot_val and the catalogue"
            )
        starts = self.first_solutions(placed, None if relative else catalog)
        joint = astrometry.solve_jointly(
            [track.sources for track in placed],
            starts,
            None if relative else catalog,
            self.config.astrometry,
        )
        transparency = relative_fluxes([track.sources for track in placed], joint.stars)
        out = []
        for k, track in enumerate(placed):
            quality = replace(track.frame.quality, transparency=float(transparency[k]))
            frame = replace(
                track.frame, wcs=joint.wcs[k], solution=joint.solutions[k], quality=quality
            )
            out.append(replace(track, frame=frame))
        self.progress(f"C{self.chip} astrometry", 1, 1)
        return out, joint.residuals

    def reference_catalog(self, tracks: list[Track], reference) -> Table | None:
        """The reference catalogue at the epoch of observation; None, with a note, without one."""
        info = tracks[0].frame.info
        try:
            table = reference((info.ra_deg, info.dec_deg))
        except PhotometrusError as error:
            self.note(f"no reference catalogue ({error})")
            table = None
        if table is None or len(table) < self.config.astrometry.min_matched:
            self.note(
                "the frames are aligned to each other; absolute astrometry is the telescope's "
                "pointing (give -catalog FILE)"
            )
            return None
        return astrometry.at_epoch(table, 2000.0 + (info.begin_mjd - 51544.5) / 365.25)

    def place(self, tracks: list[Track], catalog: Table | None, *, search=True) -> list[Track]:
        """Find each frame among the catalogue's stars; what one frame finds is tried first next."""
        config = self.config.astrometry
        if catalog is None or not self.config.run.search_pointing:
            return [self.as_pointed(track) for track in tracks]
        best = max(tracks, key=lambda track: len(track.sources))
        found = self.find(best, catalog, self.rotators(best), config)
        if found is None and search:
            found = self.find(best, catalog, list(np.arange(0.0, 360.0, 1.0)), config)
        first = [found.rotator_deg] if found else []
        if found and abs(_turn(found.rotator_deg, self.rotator(best.frame.info.rotator_deg))) > 5:
            self.note(
                f"the rotator is at {found.rotator_deg:.1f} deg by the stars, "
                f"{self.rotator(best.frame.info.rotator_deg):.1f} by header or -rot_val"
            )

        def one(track: Track) -> Track:
            rotators = [*first, *self.rotators(track)]
            return replace(track, placement=self.find(track, catalog, rotators, config))

        return list(self.each(one, tracks))

    def find(self, track: Track, catalog, rotators, config) -> astrometry.Placement | None:
        """A frame's placement for the first rotator candidate that the stars confirm."""
        info = track.frame.info
        return astrometry.find_placement(
            track.sources, catalog, self.chip, (info.ra_deg, info.dec_deg), rotators, config
        )

    def as_pointed(self, track: Track) -> Track:
        """The track with the telescope's word for its placement."""
        rotator = self.rotator(track.frame.info.rotator_deg)
        return replace(track, placement=astrometry.Placement(rotator, 0.0, 0.0, 0, 0.0))

    def rotators(self, track: Track) -> list[float]:
        """Rotator offsets to try: header, option, and both turned by right angles."""
        stated = [self.rotator(track.frame.info.rotator_deg), self.config.run.rotator_deg]
        stated += [-angle for angle in stated]
        turned = [angle + turn for turn in RIGHT_ANGLES for angle in stated[:2]]
        unique: list[float] = []
        for angle in stated[:2] + turned + stated[2:]:
            if all(abs(_turn(angle, other)) > 0.1 for other in unique):
                unique.append(angle)
        return unique

    def catalog_of_frames(self, tracks: list[Track]) -> Table | None:
        """The stars of the frame with most of them, where its pointing puts them."""
        best = max(tracks, key=lambda track: len(track.sources))
        if len(best.sources) < self.config.astrometry.min_matched:
            return None
        return astrometry.as_catalog(best.sources, best.frame.wcs)

    def first_solutions(self, placed: list[Track], catalog: Table | None) -> list[WCS]:
        """One model of the chip, fitted to the frame with most stars, carried to all frames."""
        own = [self.placed_wcs(track) for track in placed]
        if catalog is None or not self.config.run.search_pointing:
            return own
        config = self.config.astrometry

        def alone(k: int) -> tuple[WCS, int, float]:
            return astrometry.refine_alone(placed[k].sources, catalog, own[k], config)

        fits = list(self.each(alone, range(len(placed))))
        best = max(range(len(placed)), key=lambda k: fits[k][1])
        model = fits[best][0]

        def carry(k: int) -> WCS:
            start = astrometry.carried(model, own[best], own[k])
            return astrometry.refine_shift(placed[k].sources, catalog, start, config)

        return list(self.each(carry, range(len(placed))))

    def placed_wcs(self, track: Track) -> WCS:
        """The template where the frame was found."""
        info = track.frame.info
        assert track.placement is not None  # noqa: S101 - placed tracks only
        return astrometry.placed_wcs(self.chip, (info.ra_deg, info.dec_deg), track.placement)

    # ------------------------------------------------------------ second sky and stack

    def judge(self, tracks: list[Track]) -> list[Track]:
        """The frames that the stack is better with; the others get their verdict."""
        reasons = reject([track.frame.quality for track in tracks], self.config.coadd)
        kept = []
        for track, reason in zip(tracks, reasons, strict=True):
            if not reason and track.frame.solution.level == "shift":
                reason = f"astrometry: {track.frame.solution.reason}"
            verdict = _verdict(track.frame, used=not reason, reason=reason)
            self.kept[track.name] = verdict
            if not reason:
                kept.append(track)
        if not kept:
            raise TooFewFrames(f"C{self.chip}: no frame is good enough for a stack")
        return tracks

    def used(self, tracks: list[Track]) -> list[Track]:
        """The tracks that go into the stack."""
        return [track for track in tracks if self.kept[track.name].used]

    def hide_stars(self, tracks: list[Track], image: Image) -> tuple[list[Track], masks.StarMask]:
        """Where the stars are, from a shallow stack of the good frames, as each frame sees them."""
        self.progress(f"C{self.chip} star mask", 0, 1)
        layers = [self.layer(track, image) for track in self.used(tracks)]
        mean, weight, grid = masks.shallow_stack(layers, self.config.coadd, each=self.each)
        found = masks.find_stars(mean, weight, grid, self.config.masks)
        out = [
            replace(track, mask=found.seen_by(track.frame.wcs, track.pixels.shape))
            for track in tracks
        ]
        self.progress(f"C{self.chip} star mask", 1, 1)
        return out, found

    def final_sky(self, tracks: list[Track], first_sky: Image) -> tuple[Image, list[Track]]:
        """The sky with the stars hidden, and each frame's level and gradient against it."""

        def fit(track: Track, image: Image) -> Track:
            background, noise = sky.fit_background(
                track.pixels, image, track.mask, track.background.scale, self.config.sky
            )
            return replace(track, background=background, noise=noise)

        tracks = list(self.each(partial(fit, image=first_sky), tracks))
        good = self.used(tracks)
        # A frame too bad for the stack may still vote for the sky when there are few.
        voters = good if len(good) >= self.config.sky.min_frames else tracks
        image = sky.fill_sky(self.make_sky(voters, [track.mask for track in voters]))
        return image, list(
            self.counted("background", len(tracks))(partial(fit, image=image), tracks)
        )

    def layer(self, track: Track, image: Image) -> Layer:
        """A frame as a layer of a stack: sky subtracted while it is read."""
        response = track.pixels.flat.response
        inverse = np.float32(1.0 / track.noise**2)

        def rows(y0: int, y1: int):
            data, bad = track.pixels.rows(y0, y1)
            track.background.subtract(data, image, y0)
            # Sky photons: dividing by the response f multiplies their variance by 1/f.
            return data, bad, response[y0:y1] * inverse

        transparency = track.frame.quality.transparency
        factor = 1.0 / transparency if np.isfinite(transparency) and transparency > 0 else 1.0
        return Layer(rows, track.pixels.shape, track.frame.wcs, factor)

    def stack(self, tracks, image: Image, residuals: Table, star_mask) -> ChipResult:
        """The coadd with its weight map and WCS, written."""
        good = self.used(tracks)
        infos = [track.frame.info for track in good]
        headers = [track.frame.header for track in good]
        self.write_sky(image, tracks, headers[0])
        layers = [self.layer(track, image) for track in good]
        grid = common_grid([y.wcs for y in layers], [y.shape for y in layers], self.config.coadd)
        self.progress(f"C{self.chip} coadd", 0, 1)
        result = coadd(layers, grid, self.config.coadd, each=self.each)
        numbers = self.numbers(good, residuals, star_mask, result)
        result = replace(result, measures=_measures(numbers))
        header = fitsfile.coadd_header(result, infos, headers)
        compressed = self.config.run.compress
        all_ramps = self.span()
        path = self.products.coadd(all_ramps, compressed=compressed)
        weight_path = self.products.weight(all_ramps)
        if compressed:
            fitsfile.write_compressed(path, result.data, header, self.config.coadd.quantize_level)
        else:
            fitsfile.write_image(path, result.data, header)
        weight_header = header.copy()
        weight_header["BUNIT"] = ("adu-2", "inverse variance of the stack's pixels")
        fitsfile.write_image(weight_path, result.weight, weight_header)
        wcs_header = sip_cards(result.wcs, result.data.shape)
        fitsfile.write_header(self.products.coadd_wcs(all_ramps), wcs_header)
        self.progress(f"C{self.chip} coadd", 1, 1)
        return ChipResult(self.chip, path, weight_path, self.verdicts(), numbers, self.notes)

    def span(self) -> list[RampId]:
        """The ramps that name the products: all that were given, as the night log has them."""
        return self.named

    # ------------------------------------------------------------ products on the way

    def write_frames(self, tracks: list[Track], image: Image) -> None:
        """The intermediate products that users know, unless only the final ones are kept."""
        if self.config.run.keep == "final":
            return
        for _ in self.counted("products", len(tracks))(
            partial(self._write_frame, image=image), tracks
        ):
            pass

    def _write_frame(self, track: Track, image: Image) -> None:
        frame, ramp = track.frame, track.frame.info.ramp
        info = frame.info
        axis, rotator = (info.ra_deg, info.dec_deg), self.rotator(info.rotator_deg)
        shape = track.pixels.shape
        raw = track.pixels.raw
        pointed = pointing_wcs(self.chip, axis, rotator)
        untrimmed = pointing_wcs(self.chip, axis, rotator, trimmed=False)
        fitsfile.write_image(
            self.products.placed(ramp),
            raw.rows(0, raw.shape[0]),
            fitsfile.product_header(frame.header, untrimmed, raw.shape),
        )
        data, bad = track.pixels.rows(0, shape[0])
        data[bad != 0] = np.nan
        header = fitsfile.product_header(frame.header, pointed, shape)
        header["FLATFILE"] = (track.pixels.flat.source[:60], "flat field")
        fitsfile.write_image(self.products.flat_fielded(ramp), data, header)
        track.background.subtract(data, image, 0)
        header = fitsfile.product_header(frame.header, frame.wcs, shape)
        header["FLATFILE"] = (track.pixels.flat.source[:60], "flat field")
        for key, value, text in (
            ("SKYLEVEL", track.background.scale, "[adu] sky that was subtracted"),
            ("SKYNOISE", track.noise, "[adu] scatter of a sky pixel"),
            ("SEEING", frame.quality.seeing_arcsec, "[arcsec] FWHM of the stars"),
            ("TRANSP", frame.quality.transparency, "transparency relative to the median frame"),
            ("ASTRRMS", frame.solution.rms_arcsec, "[arcsec] rms per axis to the catalogue"),
            ("ASTRINT", frame.solution.internal_rms_arcsec, "[arcsec] rms per axis, dithers"),
        ):
            if np.isfinite(value):
                header[key] = (round(float(value), 5), text)
        header["ASTRNUM"] = (frame.solution.n_matched, "catalogue stars in the solution")
        header["ASTRLEV"] = (frame.solution.level, "step of the astrometric ladder")
        fitsfile.write_image(self.products.sky_subtracted(ramp), data, header)
        factor = 1.0
        if np.isfinite(frame.quality.transparency) and frame.quality.transparency > 0:
            factor = 1.0 / frame.quality.transparency
        solved = tpv_cards(frame.wcs)
        solved["FLXSCALE"] = (factor, "flux scale to the median frame")
        ldac.write_head(self.products.head(ramp), solved)
        self.products.old_head(ramp).parent.mkdir(parents=True, exist_ok=True)
        ldac.write_head(self.products.old_head(ramp), tpv_cards(pointed))
        cat_header = fitsfile.product_header(frame.header, None, shape)
        cat_header.update(tpv_cards(frame.wcs))
        cat_header["NAXIS1"], cat_header["NAXIS2"] = shape[1], shape[0]
        ldac.write_ldac(self.products.sources(ramp), cat_header, track.sources)

    def write_sky(self, image: Image, tracks: list[Track], header) -> None:
        """The sky in ADU of the median frame."""
        level = float(np.median([track.background.scale for track in tracks]))
        out = fitsfile.product_header(header, None, image.shape)
        out["SKYLEVEL"] = (level, "[adu] median sky level of the frames")
        out["NCOMBINE"] = (len(tracks), "frames")
        fitsfile.write_image(self.products.sky(self.span()), image * np.float32(level), out)

    # ------------------------------------------------------------ bookkeeping

    def counted(self, step: str, total: int) -> Each:
        """`each` that reports how many items are done."""

        def wrapped(function: Callable, items: Iterable[Any]):
            for k, result in enumerate(self.each(function, items), start=1):
                self.progress(f"C{self.chip} {step}", k, total)
                yield result

        return wrapped

    def note(self, text: str) -> None:
        """Keep what the user should know; once."""
        if text not in self.notes:
            log.warning("C%d: %s", self.chip, text)
            self.notes.append(text)

    def lose(self, frames: Iterable[tuple[str, Any]]) -> None:
        """Frames that go no further, and why."""
        for name, reason in frames:
            text = str(reason).removeprefix(f"{name}: ")
            log.warning("%s: %s", name, text)
            self.lost[name] = Verdict(name, used=False, reason=text)

    def verdicts(self) -> list[Verdict]:
        """All frames' verdicts so far, in order."""
        both = {**self.kept, **self.lost}
        return [both[name] for name in sorted(both)]

    def numbers(self, good, residuals, star_mask, result) -> dict[str, float]:
        """What was measured on the chip as a whole."""
        quality = [track.frame.quality for track in good]
        solution = [track.frame.solution for track in good]

        def mean(values) -> float:
            finite = [value for value in values if np.isfinite(value)]
            return float(np.mean(finite)) if finite else float("nan")

        return {
            "n_given": float(len(self.kept) + len(self.lost)),
            "n_frames": float(len(good)),
            "exposure_s": float(sum(track.frame.info.exposure_s for track in good)),
            "seeing_arcsec": mean(q.seeing_arcsec for q in quality),
            "ellipticity": mean(q.ellipticity for q in quality),
            "sky_adu": mean(q.sky_adu for q in quality),
            "noise_adu": mean(track.noise for track in good),
            "n_matched": mean(s.n_matched for s in solution),
            "n_residuals": float(len(residuals)),
            "rms_arcsec": mean(s.rms_arcsec for s in solution),
            "internal_rms_arcsec": mean(s.internal_rms_arcsec for s in solution),
            "masked_fraction": star_mask.fraction,
            "rejected_fraction": result.rejected_fraction,
        }


def _turn(a: float, b: float) -> float:
    """Angle from b to a in degrees, -180..180."""
    return (a - b + 180.0) % 360.0 - 180.0


def _verdict(frame: Frame, *, used: bool, reason: str) -> Verdict:
    quality, solution = frame.quality, frame.solution
    assert isinstance(quality, Quality) and isinstance(solution, Solution)  # noqa: S101, PT018
    return Verdict(
        frame=frame.name,
        used=used,
        reason=reason,
        seeing_arcsec=quality.seeing_arcsec,
        ellipticity=quality.ellipticity,
        sky_adu=quality.sky_adu,
        noise_adu=quality.noise_adu,
        transparency=quality.transparency,
        level=solution.level,
        n_matched=solution.n_matched,
        rms_arcsec=solution.rms_arcsec,
        internal_rms_arcsec=solution.internal_rms_arcsec,
    )


def _measures(numbers: dict[str, float]) -> dict[str, tuple[float, str]]:
    """FITS cards of the stack's numbers."""
    return {
        "SEEING": (numbers["seeing_arcsec"], "[arcsec] mean FWHM of the frames"),
        "ASTRRMS": (numbers["rms_arcsec"], "[arcsec] mean rms per axis to the catalogue"),
        "ASTRINT": (numbers["internal_rms_arcsec"], "[arcsec] mean rms per axis, dithers"),
        "ASTRNUM": (numbers["n_matched"], "mean number of catalogue stars"),
        "SKYLEVEL": (numbers["sky_adu"], "[adu] mean sky level of the frames"),
        "SKYNOISE": (numbers["noise_adu"], "[adu] mean noise of a frame's pixel"),
        "REJFRAC": (numbers["rejected_fraction"], "fraction of values rejected"),
    }
