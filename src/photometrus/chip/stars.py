"""A chip's stars: found in each frame, and hidden from the sky."""

from dataclasses import replace

from photometrus.chip.run import Run
from photometrus.chip.skies import without_sky
from photometrus.errors import FrameError, TooFewFrames
from photometrus.frame import Quality
from photometrus.instrument import PIXEL_SCALE_ARCSEC
from photometrus.io.spool import SpooledMask
from photometrus.kernels.resample import fill_bad
from photometrus.stages import artifacts, masks, sky
from photometrus.stages.sources import find_sources, seeing_and_ellipticity
from photometrus.track import Track
from photometrus.workers import try_each


def find_stars(run: Run, tracks: list[Track]) -> list[Track]:
    """Stars and quality of each frame."""
    hide = sky.no_mask(tracks[0].pixels.shape)

    def find(track: Track) -> Track:
        track, data, bad = without_sky(run, replace(track, mask=hide))
        noise = track.noise
        if not noise > 0:
            raise FrameError(f"{track.name}: no noise in its sky; not a real exposure")
        cores = artifacts.find_cores(data, bad, noise, run.config.artifacts)
        fill_bad(data, bad, 8)
        stars = find_sources(data, bad, noise, track.frame.info.reads, run.config.sources)
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

    done, lost = try_each(find, tracks, run.counted("stars", len(tracks)))
    run.lose((track.name, error) for track, error in lost)
    if not done:
        raise TooFewFrames(f"none of {len(tracks)} frames has a real sky")
    return [track for _, track in done]


def hide_stars(run: Run, tracks: list[Track]) -> tuple[list[Track], masks.StarMask, masks.Shallow]:
    """Where the stars are, from a shallow stack of the good frames, as each frame sees them."""
    run.progress(f"C{run.chip} star mask", 0, 1)
    layers = [track.layer() for track in run.used(tracks)]
    shallow = masks.shallow_stack(layers, run.config.coadd, each=run.each)
    found = masks.find_stars(shallow, run.config.masks, each=run.each)
    run.measured["masked_fraction"] = found.fraction
    folder = run.scratch_folder("mask")

    def hide(track: Track) -> Track:
        shape = track.pixels.shape
        seen = found.seen_by(track.frame.wcs, shape)(0, shape[0])
        return replace(track, mask=SpooledMask(folder / track.name, seen))

    masked = list(run.each(hide, tracks))
    run.progress(f"C{run.chip} star mask", 1, 1)
    return masked, found, shallow
