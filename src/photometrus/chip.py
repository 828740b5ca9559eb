"""The recipe of one chip: ramps on disk to a stack, in the order of the science.

It holds handles, not pixels: every stage reads the rows it needs from the ramps, calibrated on the
way, so that memory does not grow with the number of ramps.
"""

import logging
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from threadpoolctl import threadpool_limits

from photometrus import astromatic, intermediate, ladder
from photometrus.config import Config
from photometrus.distortion import Distortion
from photometrus.distortion_store import DistortionStore, store_folder
from photometrus.errors import FrameError, MissingInput, PhotometrusError, TooFewFrames
from photometrus.evidence import gather
from photometrus.flats import Flats
from photometrus.frame import Coadd, Frame, Image, Progress, Quality, no_progress
from photometrus.instrument import BORDER_PIXELS, PIXEL_SCALE_ARCSEC, night_of
from photometrus.io import fitsfile
from photometrus.io.spool import Spooled
from photometrus.kernels.resample import fill_bad
from photometrus.netrefine import refine_coadd
from photometrus.optics import FieldFit, field_fit, shared_factors
from photometrus.products import Products, RampId
from photometrus.reference import at_epoch, match_catalog
from photometrus.selection import by_header, is_included
from photometrus.stackfiles import StackFiles
from photometrus.stages import artifacts, astrometry, crowding, detrend, masks, sky
from photometrus.stages.background import Mask, fit_background, flat_background
from photometrus.stages.coadd import Layer, coadd, common_grid
from photometrus.stages.quality import area_slope, reject, relative_fluxes
from photometrus.stages.sources import find_sources, seeing_and_ellipticity
from photometrus.track import ChipResult, Track, Verdict, flagged_shares, judged
from photometrus.wcs import pixel_areas, pointing_wcs
from photometrus.workers import Each, try_each

log = logging.getLogger(__name__)

SURE_SIGMA = 3.0
"""What the stars say against the usual must be so significant."""
MAX_BAD_FRACTION = 0.5
"""A frame with more unusable pixels is not a frame."""

Reference = Callable[[tuple[float, float]], Table | None]
"""Gives the reference catalogue around a telescope axis (degrees), None for none."""


def reduce_chip(
    products: Products,
    ramps: Sequence[RampId],
    config: Config,
    flats: Flats,
    reference: Reference,
    shared: FieldFit | None = None,
    *,
    each: Each = map,
    progress: Progress = no_progress,
) -> ChipResult:
    """Reduce one chip's ramps (all of the same chip) to a stack with weight map and products.

    shared : what all chips together say of scale, rotation and radial distortion; when given, the
        chip's own stars do not change it by much
    Nothing that can be explained is raised: it is in the result, with all verdicts so far.
    """
    chip = ramps[0].chip
    run = ChipRun(
        products,
        chip,
        config.for_chip(chip),
        flats,
        reference,
        each,
        progress,
        sorted(ramps),
        shared,
    )
    started = time.monotonic()
    try:
        # The matrices are small: a second BLAS thread costs more than it gives.
        with threadpool_limits(1, user_api="blas"), run.scratch:
            result = run.reduce()
    except PhotometrusError as error:
        log.error("C%d: %s", chip, error)  # noqa: TRY400 - explained, not a bug
        result = ChipResult(chip, verdicts=run.all_verdicts(), notes=run.notes, error=str(error))
    result.numbers["seconds"] = round(time.monotonic() - started, 2)
    return result


@dataclass(eq=False)
class ChipRun:
    """The recipe at work on one chip: what it was given, and the verdicts and notes so far."""

    products: Products
    chip: int
    config: Config
    flats: Flats
    reference: Reference
    each: Each
    progress: Progress
    ramps: list[RampId]
    shared: FieldFit | None = None
    field_fit: FieldFit | None = None
    joint: astrometry.JointSolution | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    """Numbers of the chip, as they become known."""
    scratch: ExitStack = field(default_factory=ExitStack)
    """What is to be cleared away at the end."""

    def reduce(self) -> ChipResult:
        """Everything, in order: the page of verbs."""
        frames = self.open_frames()
        tracks = self.calibrate(frames, self.choose_flat(frames))
        tracks = self.first_sky(tracks)
        tracks = self.find_stars(tracks)
        tracks, catalog = self.solve(tracks)
        self.choose_pixel_area(tracks, catalog)
        self.judge(tracks)
        tracks, hidden, shallow = self.hide_stars(tracks)
        tracks = self.mark_artifacts(tracks, shallow)
        tracks = self.final_sky(tracks)
        if self.config.run.engine == "astromatic":
            result, numbers = self.stack_with_astromatic(tracks, catalog)
        else:
            if self.config.run.keep == "all":
                self.write_frames(self.products, tracks)
            result, numbers = self.stack(tracks), {}
        if self.config.run.astrometry_net:
            result = self.refine_with_astrometry_net(result, catalog)
        numbers = {**self.numbers(self.used(tracks)), **numbers}
        written = self.write_stack(result, self.used(tracks), numbers)
        written = replace(written, extras=self.write_extras(result, tracks))
        return self.draw_page(written, result, tracks, hidden)

    # ------------------------------------------------------------ frames

    def open_frames(self) -> list[Frame]:
        """Handles on the ramps that can be read and belong together, in order of time."""
        opened, lost = try_each(self.open_frame, self.ramps, self.each)
        self.lose((str(ramp), error) for ramp, error in lost)
        frames = sorted((frame for _, frame in opened), key=lambda f: f.info.begin_mjd)
        frames = self.take_by_header(frames)
        shapes = Counter(frame.pixels.shape for frame in frames)
        good: list[Frame] = []
        for frame in frames:
            ny, nx = frame.pixels.shape
            usual = shapes.most_common(1)[0][0]
            if (ny, nx) != usual:
                self.lose([(frame.name, f"{nx} x {ny} pixels, the others {usual[1]} x {usual[0]}")])
            elif good and frame.info.begin_mjd == good[-1].info.begin_mjd:
                self.lose([(frame.name, f"a duplicate: it starts when {good[-1].name} does")])
            else:
                good.append(frame)
        if not good:
            raise TooFewFrames(f"none of {len(self.ramps)} ramps is usable")
        return good

    def take_by_header(self, frames: list[Frame]) -> list[Frame]:
        """The frames whose headers say what the user wants; the others have their verdicts."""
        left_out = by_header({one.name: one.header for one in frames}, self.config.select)
        for name, reason in left_out.items():
            self.verdicts[name] = Verdict(name, used=False, reason=reason)
        self.ramps = [ramp for ramp in self.ramps if str(ramp) not in left_out]
        return [frame for frame in frames if frame.name not in left_out]

    def open_frame(self, ramp: RampId) -> Frame:
        """A handle on one ramp; FrameError when it cannot be one of this observation."""
        path = self.products.ramp(ramp)
        header, raw = fitsfile.open_ramp(path)
        info = fitsfile.frame_info(header, path)
        if info.band != self.products.band:
            raise FrameError(f"{ramp}: band {info.band} in the header, not {self.products.band}")
        shape = (raw.shape[0] - 2 * BORDER_PIXELS, raw.shape[1] - 2 * BORDER_PIXELS)
        pixels = detrend.CalibratedPixels(raw, detrend.unit_flat(shape))
        angle = self.config.run.rotator_deg if info.rotator_deg is None else info.rotator_deg
        wcs = pointing_wcs(ramp.chip, (info.ra_deg, info.dec_deg), angle)
        return Frame(info, header, pixels, wcs)

    def choose_flat(self, frames: list[Frame]) -> detrend.Flat:
        """The flat of this chip, band and night; from the frames themselves when there is none."""
        shape = frames[0].pixels.shape
        if not self.config.run.flat_field:
            return detrend.unit_flat(shape)
        flat, note = self.flats.choose(self.products.band, self.chip, frames, self.config.flat)
        if note:
            self.note(note)
        return flat

    def calibrate(self, frames: list[Frame], flat: detrend.Flat) -> list[Track]:
        """Frames with the flat behind their pixels, and their sky levels."""

        def start(frame: Frame) -> Track:
            pixels = detrend.CalibratedPixels(Track(frame).pixels.raw, flat)
            bad = detrend.bad_fraction(pixels)
            if bad > MAX_BAD_FRACTION:
                raise FrameError(
                    f"{frame.name}: {bad:.0%} of the pixels are unusable (NaN or 65535), at most "
                    f"{MAX_BAD_FRACTION:.0%} allowed"
                )
            level = detrend.level(pixels)
            if not level > 0:
                raise FrameError(f"{frame.name}: sky level {level:.3g} ADU; no light, no frame")
            background = flat_background(level, pixels.shape, self.config.background.mesh_pix)
            return Track(replace(frame, pixels=pixels), background)

        done, lost = try_each(start, frames, self.each)
        self.lose((frame.name, error) for frame, error in lost)
        if not done:
            raise TooFewFrames(f"none of {len(frames)} frames has usable pixels")
        return [track for _, track in done]

    # ------------------------------------------------------------ sky and stars

    def first_sky(self, tracks: list[Track]) -> list[Track]:
        """The tracks with the sky with nothing hidden; hot pixels are flagged from now on."""
        raw = self.make_sky(tracks, [sky.no_mask(tracks[0].pixels.shape)] * len(tracks)).image
        flat = tracks[0].pixels.flat
        flat = replace(flat, bad=flat.bad | sky.hot_pixels(raw, self.config.sky))
        first = sky.Sky(sky.fill_sky(raw, self.config.sky))
        out = []
        for track in tracks:
            pixels = detrend.CalibratedPixels(track.pixels.raw, flat)
            out.append(replace(track, frame=replace(track.frame, pixels=pixels), sky=first))
        return out

    def make_sky(
        self, tracks: list[Track], hide: Sequence[Mask], *, average: bool = False
    ) -> sky.Votes:
        """The sky of the frames, or the one that was given, or a constant for too few frames."""
        shape = tracks[0].pixels.shape
        nobody = np.zeros(shape, np.uint16)
        given = self.config.input.sky_override
        if given:
            image, _ = fitsfile.read_image(Path(given))
            if image.shape != shape:
                raise MissingInput(
                    f"{given}: {image.shape[1]} x {image.shape[0]} pixels, the frames have "
                    f"{shape[1]} x {shape[0]}; give a sky of this chip"
                )
            return sky.Votes(image / np.float32(np.nanmedian(image)), nobody, float("nan"))
        if len(tracks) < self.config.sky.min_frames:
            self.note(
                f"{len(tracks)} frames cannot tell stars from sky (need "
                f"{self.config.sky.min_frames}): a smooth sky was fitted to each"
            )
            return sky.Votes(np.ones(shape, np.float32), nobody, float("nan"))
        self.progress(f"C{self.chip} sky", 0, 1)
        votes = sky.make_sky(
            [track.pixels for track in tracks],
            [track.background for track in tracks],
            hide,
            self.config.sky,
            average=average,
            each=self.each,
        )
        self.progress(f"C{self.chip} sky", 1, 1)
        return votes

    def find_stars(self, tracks: list[Track]) -> list[Track]:
        """Stars and quality of each frame."""
        hide = sky.no_mask(tracks[0].pixels.shape)

        def find(track: Track) -> Track:
            track = self.fit(replace(track, mask=hide))
            noise = track.noise
            if not noise > 0:
                raise FrameError(f"{track.name}: no noise in its sky; not a real exposure")
            data, bad = track.without_sky(0, track.pixels.shape[0])
            cores = artifacts.find_cores(data, bad, noise, self.config.artifacts)
            fill_bad(data, bad, 8)
            stars = find_sources(data, bad, noise, track.frame.info.reads, self.config.sources)
            fwhm_pix, ellipticity = seeing_and_ellipticity(stars)
            quality = Quality(
                sky_adu=track.background.scale,
                noise_adu=noise,
                seeing_arcsec=fwhm_pix * PIXEL_SCALE_ARCSEC,
                ellipticity=ellipticity,
                n_sources=len(stars),
                transparency=float("nan"),
            )
            frame = replace(track.frame, quality=quality)
            return replace(track, frame=frame, sources=stars, cores=cores)

        done, lost = try_each(find, tracks, self.counted("stars", len(tracks)))
        self.lose((track.name, error) for track, error in lost)
        if not done:
            raise TooFewFrames(f"none of {len(tracks)} frames has a real sky")
        return [track for _, track in done]

    # ------------------------------------------------------------ astrometry

    def solve(self, tracks: list[Track]) -> tuple[list[Track], Table | None]:
        """Place every frame on the sky, then solve all of them together."""
        self.progress(f"C{self.chip} astrometry", 0, 1)
        catalog = self.reference_catalog(tracks)
        stars = ladder.catalog_of(tracks, self.config) if catalog is None else catalog
        tracks, notes = ladder.place(tracks, stars, self.config)
        if catalog is not None and all(track.placement is None for track in tracks):
            self.note(
                "no frame was found among the catalogue's stars: the frames are aligned to each "
                "other; absolute astrometry is the telescope's pointing"
            )
            catalog, stars = None, ladder.catalog_of(tracks, self.config)
            tracks, notes = ladder.place(tracks, stars, self.config)
        for note in notes:
            self.note(note)
        placed = [track for track in tracks if track.placement is not None]
        self.lose(
            (track.name, "not found among the stars: where it points is unknown")
            for track in tracks
            if track.placement is None
        )
        if not placed:
            raise TooFewFrames("no frame was found on the sky")
        config = self.config
        if self.shared is not None:
            self.note(
                f"its own stars are few: scale, rotation and radial distortion are those of all "
                f"chips ({self.shared.n_reference} stars)"
            )
            config = replace(config, astrometry=astrometry.stiff(config.astrometry))
        bases = ladder.bases(placed, self.shared, config)
        first = ladder.first_solutions(placed, bases, stars, config)
        if catalog is not None:
            placed = ladder.refined(placed, first)
            bases = ladder.bases(placed, self.shared, config)
        store = self.distortion_store(placed)
        self.joint = joint = astrometry.solve_jointly(
            [track.sources for track in placed],
            first,
            bases,
            self.chip,
            catalog,
            config.astrometry,
            self.stored(store),
        )
        if joint.contradiction:
            self.note(f"the stored distortion was not used: {joint.contradiction}")
        if catalog is not None and placed[0].placement is not None:
            angle = placed[0].placement.rotator_deg
            self.field_fit = field_fit(
                self.chip, bases[0], *joint.correction, angle, joint.n_reference
            )
            if self.shared is None and astrometry.worth_keeping(joint, config.astrometry):
                store.keep(joint.distortion, joint.n_reference, alone=bool(joint.contradiction))
        transparency = relative_fluxes([track.sources for track in placed], joint.stars)
        out = []
        for k, track in enumerate(placed):
            quality = replace(track.frame.quality, transparency=float(transparency[k]))
            frame = replace(
                track.frame, wcs=joint.wcs[k], solution=joint.solutions[k], quality=quality
            )
            out.append(replace(track, frame=frame))
        self.progress(f"C{self.chip} astrometry", 1, 1)
        return out, catalog

    def choose_pixel_area(self, tracks: list[Track], catalog: Table | None) -> None:
        """Whether the flat holds the area of the pixels: by the stars, when they are sure."""
        if self.config.coadd.pixel_area != "auto" or catalog is None:
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
        self.measured["area_slope"], self.measured["area_slope_error"] = slope, error
        if slope + 0.5 > SURE_SIGMA * error:
            self.note(
                f"the stars' fluxes do not fall with the area of their pixels (slope {slope:.2f} "
                f"+- {error:.2f}, not -1): the flat does not hold it, resampling conserves flux"
            )
            coadd_config = replace(self.config.coadd, pixel_area="jacobian")
            self.config = replace(self.config, coadd=coadd_config)

    def distortion_store(self, tracks: list[Track]) -> DistortionStore:
        """What is stored of this chip's distortion, seen from these frames."""
        return DistortionStore(
            folder=store_folder(self.config.input.distortion_dir),
            band=self.products.band,
            chip=self.chip,
            night=night_of(tracks[0].frame.info.begin_mjd),
            ramps=tuple(track.name for track in tracks),
            degree=astrometry.degree(self.config.astrometry),
        )

    def stored(self, store: DistortionStore) -> Distortion | None:
        """What other nights say of the distortion, about the templates that are used."""
        found = store.stored()
        if found is None or self.shared is None:
            return found
        # The templates have what all chips share in them already.
        return found.relative_to(shared_factors(self.chip, self.shared))

    def reference_catalog(self, tracks: list[Track]) -> Table | None:
        """The reference catalogue at the epoch of observation; None, with a note, without one."""
        info = tracks[0].frame.info
        why = "none was asked for"
        table = None
        try:
            table = self.reference((info.ra_deg, info.dec_deg))
        except PhotometrusError as error:
            why = str(error)
        if table is not None and len(table) < self.config.astrometry.min_matched:
            why = f"{len(table)} stars in it, need {self.config.astrometry.min_matched}"
            table = None
        if table is None:
            self.note(
                f"no reference catalogue ({why}): the frames are aligned to each other; absolute "
                "astrometry is the telescope's pointing; give -catalog FILE"
            )
            return None
        return at_epoch(table, 2000.0 + (info.begin_mjd - 51544.5) / 365.25)

    # ------------------------------------------------------------ second sky and stack

    def judge(self, tracks: list[Track]) -> None:
        """A verdict on every frame: is the stack better with it."""
        reasons = reject([track.frame.quality for track in tracks], self.config.coadd)
        for track, quality_reason in zip(tracks, reasons, strict=True):
            reason = quality_reason
            if reason and is_included(track.frame.info.ramp, self.config.select):
                self.note(f"{track.name} is in the stack, as -include wants, though {reason}")
                reason = ""
            lost = not reason and track.frame.solution.level == "pointing"
            if lost:
                reason = f"astrometry: {track.frame.solution.reason}"
            self.verdicts[track.name] = replace(
                judged(track.frame, used=not reason, reason=reason), lost=lost
            )
        if not self.used(tracks):
            raise TooFewFrames("no frame is good enough for a stack")

    def used(self, tracks: list[Track]) -> list[Track]:
        """The tracks that go into the stack."""
        return [track for track in tracks if self.verdicts[track.name].used]

    def hide_stars(self, tracks: list[Track]) -> tuple[list[Track], masks.StarMask, masks.Shallow]:
        """Where the stars are, from a shallow stack of the good frames, as each frame sees them."""
        self.progress(f"C{self.chip} star mask", 0, 1)
        layers = [layer(track) for track in self.used(tracks)]
        shallow = masks.shallow_stack(layers, self.config.coadd, each=self.each)
        found = masks.find_stars(shallow, self.config.masks)
        self.measured["masked_fraction"] = found.fraction
        self.progress(f"C{self.chip} star mask", 1, 1)
        return (
            [
                replace(track, mask=found.seen_by(track.frame.wcs, track.pixels.shape))
                for track in tracks
            ],
            found,
            shallow,
        )

    def mark_artifacts(self, tracks: list[Track], shallow: masks.Shallow) -> list[Track]:
        """Each frame against all together: cosmic rays, trails, afterglow, saturated cores.

        On the way each frame's background is fitted again, with the stars hidden.
        """
        config = self.config.artifacts
        n_stacked = len(self.used(tracks))
        alone = n_stacked < 2

        def find(k: int) -> tuple[Track, artifacts.Found]:
            track = self.fit(tracks[k])
            shape = track.pixels.shape
            data, bad = track.without_sky(0, shape[0])
            expected, spread = (
                (None, None)
                if alone
                else shallow.seen_by(track.frame.wcs, shape, track.flux_factor)
            )
            frame = artifacts.Compared(
                data,
                bad,
                expected,
                spread,
                track.mask(0, shape[0]),
                track.noise,
                track.gain,
                # The range of nine values of a stack of pixels of double size.
                floor=4 * track.noise / masks.BIN / np.sqrt(n_stacked),
            )
            earlier = [
                (j, seconds, tracks[j].cores)
                for j in range(k)
                if (seconds := track.seconds_after(tracks[j])) < config.persistence_s
            ]
            return track, artifacts.find_artifacts(frame, track.cores, earlier, config)

        counted = self.counted("artifacts", len(tracks))
        done = list(counted(find, range(len(tracks))))
        found = [one for _, one in done]
        glow = [point[1:] for one in found for point in one.afterglow]
        model = artifacts.fit_afterglow(glow)
        if model is not None:
            self.measured["afterglow_adu"] = model.after(min(seconds for seconds, _, _ in glow))
            self.measured["afterglow_decay_s"] = model.decay_s
        cores = [track.cores for track in tracks]
        marks = artifacts.without_hot([one.marks for one in found], config)
        out = []
        for (track, one), own in zip(done, marks, strict=True):
            pixels = track.pixels
            still = artifacts.persistence(
                one.afterglow, cores, model, pixels.shape, track.noise, config
            )
            pixels = replace(pixels, marks=own | still)
            frame = replace(track.frame, pixels=pixels)
            out.append(replace(track, frame=frame, n_trails=len(one.trails)))
        return out

    def fit(self, track: Track) -> Track:
        """The track with its background fitted against its sky, stars hidden."""
        background, noise = fit_background(
            track.pixels, track.sky.image, track.mask, track.background.scale,
            self.config.background,
        )  # fmt: skip
        if track.sky.share is not None:
            # Its own vote has made its residuals smaller than they are.
            noise *= 1 + float(np.median(track.sky.share[:: max(1, track.pixels.shape[0] // 64)]))
        return replace(track, background=background, noise=noise)

    def final_sky(self, tracks: list[Track]) -> list[Track]:
        """Each frame's sky, from the frames near it in time with stars and artifacts hidden.

        And its background against it.
        """
        voters = self.used(tracks)
        if len(voters) < self.config.sky.enough_frames:
            # A frame too bad for the stack still saw the sky.
            voters = [track for track in tracks if not self.verdicts[track.name].lost]
        width = len(voters)
        if width >= self.config.sky.min_frames and not self.config.input.sky_override:
            width = sky.window(
                [track.pixels for track in voters],
                [track.background for track in voters],
                [track.mask for track in voters],
                self.config.sky,
            )
        self.measured["sky_frames"] = float(width)
        if width < len(voters):
            self.note(f"the sky changes: each frame's is made of {width} neighbours in time")
        # A frame without a vote is served as the voter next to it in time.
        begun = [track.frame.info.begin_mjd for track in voters]
        place = np.searchsorted(
            begun[1:], [track.frame.info.begin_mjd for track in tracks], "right"
        )
        out: list[Track] = []
        for makers, users in sky.windows(len(voters), width):
            served = [track for track, k in zip(tracks, place, strict=True) if k in users]
            out += self.with_sky([voters[k] for k in makers], served, running=width < len(voters))
        for track in out:
            self.verdicts[track.name] = replace(
                self.verdicts[track.name], sky_adu=track.background.scale, noise_adu=track.noise
            )
        return out

    def with_sky(self, makers: list[Track], served: list[Track], *, running: bool) -> list[Track]:
        """The tracks that are served by the sky of some voters, fitted against it.

        running : it is one of several; they wait on disk
        """
        votes = self.make_sky(makers, [track.mask for track in makers], average=True)
        final = sky.settle(votes) if votes.noise > 0 else sky.Sky(sky.fill_sky(votes.image))
        ramps = [track.frame.info.ramp for track in makers] if running else self.ramps
        self.write_sky(np.asarray(final.image), makers, ramps)
        if running:
            folder = self.scratch.enter_context(
                tempfile.TemporaryDirectory(prefix=".sky-", dir=self.products.root)
            )
            spooled = [
                None if image is None else Spooled(Path(folder) / name, np.asarray(image))
                for name, image in (("image", final.image), ("share", final.share))
            ]
            final = sky.Sky(*spooled)  # type: ignore[arg-type]
        voted = {track.name for track in makers}

        def fit(track: Track) -> Track:
            own = final if track.name in voted else sky.Sky(final.image)
            return self.fit(replace(track, sky=own))

        return list(self.counted("background", len(served))(fit, served))

    def stack(self, tracks: list[Track]) -> Coadd:
        """The coadd of the frames whose verdict is good."""
        layers = [layer(track) for track in self.used(tracks)]
        grid = common_grid(
            [one.wcs for one in layers], [one.shape for one in layers], self.config.coadd
        )
        self.progress(f"C{self.chip} coadd", 0, 1)
        result = coadd(layers, grid, self.config.coadd, each=self.each)
        self.progress(f"C{self.chip} coadd", 1, 1)
        if self.measured["masked_fraction"] < self.config.crowding.from_fraction:
            return result
        levels = crowding.zero_level(result.data, result.weight, self.config.crowding)
        self.measured["crowded_zero_adu"] = float(np.median(levels))
        data = crowding.subtract_zero(result.data, result.weight, levels, self.config.crowding)
        return replace(result, data=data)

    def stack_with_astromatic(
        self, tracks: list[Track], catalog: Table | None
    ) -> tuple[Coadd, dict[str, float]]:
        """The coadd by SExtractor, SCAMP and SWarp, which work on the frames on disk.

        With ``-keep final`` those are in a folder that vanishes afterwards.
        """
        with tempfile.TemporaryDirectory(prefix=".astromatic-", dir=self.products.root) as name:
            keep = self.config.run.keep == "all"
            products = self.products if keep else replace(self.products, root=Path(name))
            self.write_frames(products, tracks)
            self.progress(f"C{self.chip} astromatic", 0, 1)
            done = astromatic.stack(products, self.used(tracks), catalog, self.config, self.each)
            self.progress(f"C{self.chip} astromatic", 1, 1)
        return done

    def refine_with_astrometry_net(self, result: Coadd, catalog: Table | None) -> Coadd:
        """The stack with astrometry.net's WCS if that is the better one; a note either way."""
        try:
            wcs, note = refine_coadd(result, catalog, self.config)
        except PhotometrusError as error:
            self.note(f"astrometry.net: {error}; the solution before it is kept")
            return result
        self.note(note)
        return replace(result, wcs=wcs)

    # ------------------------------------------------------------ products

    def write_frames(self, products: Products, tracks: list[Track]) -> None:
        """The intermediate products that users know."""

        def write(track: Track) -> None:
            angle = ladder.rotator(track, self.config)
            intermediate.write_frame(products, track, angle)

        for _ in self.counted("products", len(tracks))(write, tracks):
            pass

    def write_sky(self, image: Image, tracks: list[Track], ramps: list[RampId]) -> None:
        """The sky in ADU of the median frame."""
        level = float(np.median([track.background.scale for track in tracks]))
        header = fitsfile.product_header(tracks[0].frame.header, None, image.shape)
        header["SKYLEVEL"] = (level, "[adu] median sky level of the frames")
        header["NCOMBINE"] = (len(tracks), "frames")
        fitsfile.write_image(self.products.sky(ramps), image * np.float32(level), header)

    def write_stack(
        self, result: Coadd, good: list[Track], numbers: dict[str, float]
    ) -> ChipResult:
        """The stack, its weight map and its WCS; and the chip's result."""
        numbers["rejected_fraction"] = result.rejected_fraction
        result = replace(result, measures=_cards(numbers))
        files = StackFiles(self.products, self.ramps, self.config)
        path, weight = files.write(result, [track.frame for track in good])
        return ChipResult(
            chip=self.chip,
            coadd=path,
            weight=weight,
            verdicts=self.all_verdicts(),
            numbers=numbers,
            notes=self.notes,
            field_fit=self.field_fit,
        )

    def write_extras(self, whole: Coadd, tracks: list[Track]) -> list[Path]:
        """What was asked for beside the stack, on its grid; the paths."""
        used = self.used(tracks)

        def measures(stack: Coadd, part: Sequence[int]) -> dict[str, tuple[float, str]]:
            numbers = self.numbers([used[k] for k in part])
            return _cards(numbers | {"rejected_fraction": stack.rejected_fraction})

        files = StackFiles(self.products, self.ramps, self.config)
        layers = [layer(track) for track in used]
        frames = [track.frame for track in used]
        return files.write_extras(whole, layers, frames, measures, each=self.each)

    def draw_page(
        self, done: ChipResult, result: Coadd, tracks: list[Track], stars: masks.StarMask
    ) -> ChipResult:
        """The chip's page, unless none is wanted; and the chip's result with it."""
        path = self.products.page(self.ramps)
        if not self.config.run.pages:
            # What an earlier run drew is of another stack.
            path.unlink(missing_ok=True)
            return done
        from photometrus.plots.page import draw_page

        self.progress(f"C{self.chip} page", 0, 1)
        evidence = gather(
            result,
            tracks,
            done.verdicts,
            self.joint.residuals if self.joint is not None else Table(),
            stars,
            numbers=done.numbers,
            notes=done.notes,
        )
        draw_page(path, evidence)
        self.progress(f"C{self.chip} page", 1, 1)
        return replace(done, page=path)

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
            self.verdicts[name] = Verdict(name, used=False, reason=text, lost=True)

    def all_verdicts(self) -> list[Verdict]:
        """All frames' verdicts so far, in order."""
        return [self.verdicts[name] for name in sorted(self.verdicts)]

    def numbers(self, good: list[Track]) -> dict[str, float]:
        """What was measured on the frames of the stack, on average."""
        quality = [track.frame.quality for track in good]
        solution = [track.frame.solution for track in good]

        def mean(values: Iterable[float]) -> float:
            finite = [value for value in values if np.isfinite(value)]
            return float(np.mean(finite)) if finite else float("nan")

        return {
            "n_given": float(len(self.ramps)),
            "n_frames": float(len(good)),
            "exposure_s": float(sum(track.frame.info.exposure_s for track in good)),
            "seeing_arcsec": mean(one.seeing_arcsec for one in quality),
            "ellipticity": mean(one.ellipticity for one in quality),
            "sky_adu": mean(track.background.scale for track in good),
            "noise_adu": mean(track.noise for track in good),
            "n_matched": mean(one.n_matched for one in solution),
            "rms_arcsec": mean(one.rms_arcsec for one in solution),
            "internal_rms_arcsec": mean(one.internal_rms_arcsec for one in solution),
            "n_trails": float(sum(track.n_trails for track in good)),
            **{f"flagged_{name}": share for name, share in flagged_shares(good).items()},
            **self.measured,
        }


def layer(track: Track) -> Layer:
    """A frame as a layer of a stack: sky subtracted while it is read, inverse variance beside it.

    Sky photons set the variance: dividing by the response f multiplies it by 1/f.
    """
    response = track.pixels.flat.response
    inverse = np.float32(1.0 / track.noise**2)

    def rows(y0: int, y1: int) -> tuple[Image, Any, Image]:
        data, bad = track.without_sky(y0, y1)
        return data, bad, response[y0:y1] * inverse

    return Layer(rows, track.pixels.shape, track.frame.wcs, track.flux_factor)


def _cards(numbers: dict[str, float]) -> dict[str, tuple[float, str]]:
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
