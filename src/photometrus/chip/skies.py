"""A chip's skies: the first with nothing hidden, the final ones with stars and artifacts hidden."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from photometrus.chip.files import write_sky
from photometrus.chip.run import Run
from photometrus.errors import MissingInput
from photometrus.frame import BorrowedPixels, Flags, Image, Pixels
from photometrus.io import fitsfile
from photometrus.io.spool import Spooled
from photometrus.stages import detrend, sky
from photometrus.stages.background import Mask, fit_background
from photometrus.track import Track


def first_sky(run: Run, tracks: list[Track]) -> list[Track]:
    """The tracks with the sky with nothing hidden; hot pixels are flagged from now on."""
    hide = [sky.no_mask(tracks[0].pixels.shape)] * len(tracks)
    raw = make_sky(run, tracks, hide, step="first sky").image
    flat = tracks[0].pixels.flat
    flat = replace(flat, bad=flat.bad | sky.hot_pixels(raw, run.config.sky, run.each))
    first = sky.Sky(sky.fill_sky(raw, run.config.sky, run.each))
    out = []
    for track in tracks:
        pixels = detrend.CalibratedPixels(track.pixels.raw, flat)
        out.append(replace(track, frame=replace(track.frame, pixels=pixels), sky=first))
    return out


def make_sky(
    run: Run, tracks: list[Track], hide: Sequence[Mask], *, step: str, average: bool = False
) -> sky.Votes:
    """The sky of the frames, or the one that was given, or a constant for too few frames.

    step : what it is called while it is made
    """
    shape = tracks[0].pixels.shape
    nobody = np.zeros(shape, np.uint16)
    given = run.config.input.sky_override
    if given:
        image, _ = fitsfile.read_image(Path(given))
        if image.shape != shape:
            raise MissingInput(
                f"{given}: {image.shape[1]} x {image.shape[0]} pixels, the frames have "
                f"{shape[1]} x {shape[0]}; give a sky of this chip"
            )
        return sky.Votes(image / np.float32(np.nanmedian(image)), nobody, float("nan"))
    if len(tracks) < run.config.sky.min_frames:
        run.note(
            f"{len(tracks)} frames cannot tell stars from sky (need "
            f"{run.config.sky.min_frames}): a smooth sky was fitted to each"
        )
        return sky.Votes(np.ones(shape, np.float32), nobody, float("nan"))
    run.progress(f"C{run.chip} {step}", 0, 1)
    votes = sky.make_sky(
        [track.pixels for track in tracks],
        [track.background for track in tracks],
        hide,
        run.config.sky,
        average=average,
        each=run.each,
    )
    run.progress(f"C{run.chip} {step}", 1, 1)
    return votes


def fitted(run: Run, track: Track, pixels: Pixels | None = None) -> Track:
    """The track with its background fitted against its sky, stars hidden.

    pixels : its own, where they are in memory already
    """
    background, noise = fit_background(
        pixels or track.pixels, track.sky.image, track.mask, track.background.scale,
        run.config.background,
    )  # fmt: skip
    if track.sky.share is not None:
        # Its own vote has made its residuals smaller than they are.
        noise *= 1 + float(np.median(track.sky.share[:: max(1, track.pixels.shape[0] // 64)]))
    return replace(track, background=background, noise=noise)


def without_sky(run: Run, track: Track) -> tuple[Track, Image, Flags]:
    """The track with its background fitted; its pixels without sky, and their flags; read once."""
    data, bad = track.pixels.rows(0, track.pixels.shape[0])
    track = fitted(run, track, BorrowedPixels(data, bad))
    track.subtract_sky(data, bad, 0)
    return track, data, bad


def final_sky(run: Run, tracks: list[Track]) -> list[Track]:
    """Each frame's sky, from the frames near it in time with stars and artifacts hidden.

    And its background against it.
    """
    voters = run.used(tracks)
    if len(voters) < run.config.sky.enough_frames:
        # A frame too bad for the stack still saw the sky.
        voters = [track for track in tracks if not run.verdicts[track.name].lost]
    width = len(voters)
    if width >= run.config.sky.min_frames and not run.config.input.sky_override:
        width = sky.window(
            [track.pixels for track in voters],
            [track.background for track in voters],
            [track.mask for track in voters],
            run.config.sky,
        )
    run.measured["sky_frames"] = float(width)
    if width < len(voters):
        run.note(f"the sky changes: each frame's is made of {width} neighbours in time")
    # A frame without a vote is served as the voter next to it in time.
    begun = [track.frame.info.begin_mjd for track in voters]
    place = np.searchsorted(begun[1:], [track.frame.info.begin_mjd for track in tracks], "right")
    out: list[Track] = []
    for makers, users in sky.windows(len(voters), width):
        served = [track for track, k in zip(tracks, place, strict=True) if k in users]
        out += with_sky(run, [voters[k] for k in makers], served, running=width < len(voters))
    for track in out:
        run.verdicts[track.name] = replace(
            run.verdicts[track.name], sky_adu=track.background.scale, noise_adu=track.noise
        )
    return out


def with_sky(run: Run, makers: list[Track], served: list[Track], *, running: bool) -> list[Track]:
    """The tracks that are served by the sky of some voters, fitted against it.

    running : it is one of several; they wait on disk
    """
    votes = make_sky(run, makers, [track.mask for track in makers], step="sky", average=True)
    final = (
        sky.settle(votes, run.config.sky, run.each)
        if votes.noise > 0
        else sky.Sky(sky.fill_sky(votes.image, run.config.sky, run.each))
    )
    ramps = [track.frame.info.ramp for track in makers] if running else run.ramps
    if running:
        folder = run.scratch_folder("sky")
        spooled = [
            None if image is None else Spooled(folder / name, np.asarray(image))
            for name, image in (("image", final.image), ("share", final.share))
        ]
        final = sky.Sky(*spooled)  # type: ignore[arg-type]
    voted = {track.name for track in makers}

    def fit(track: Track) -> Track:
        own = final if track.name in voted else sky.Sky(final.image)
        return fitted(run, replace(track, sky=own))

    # The sky is written while the frames are fitted against it.
    write = partial(write_sky, run, np.asarray(final.image), makers, ramps)
    todo = [write, *(partial(fit, track) for track in served)]
    _, *done = run.counted("background", len(served), first=1)(lambda do: do(), todo)
    return done
