"""A chip's frames: opened, checked against each other, calibrated."""

from dataclasses import replace
from functools import partial

from photometrus.chip.agreement import odd_clocks, strangers
from photometrus.chip.run import Run
from photometrus.errors import FrameError, MissingInput, TooFewFrames
from photometrus.frame import ArrayPixels, Frame
from photometrus.instrument import BORDER_PIXELS
from photometrus.io import rampfile
from photometrus.products import RampId
from photometrus.selection import by_header
from photometrus.stages import detrend
from photometrus.stages.background import flat_background
from photometrus.track import Track, Verdict
from photometrus.wcs import pointing_wcs
from photometrus.workers import try_each

MAX_BAD_FRACTION = 0.5
"""A frame with more unusable pixels is not a frame."""
LOOK_ROWS = 64
"""So many rows tell whether there is any light in a frame."""


def open_frames(run: Run) -> list[Frame]:
    """Handles on the ramps that can be read and belong together, in order of time."""
    opened, lost = try_each(partial(open_frame, run), run.ramps, run.each)
    run.lose((str(ramp), error) for ramp, error in lost)
    frames = sorted(
        (frame for _, frame in opened), key=lambda f: (f.info.begin_mjd, f.info.ramp.serial)
    )
    frames = take_by_header(run, frames)
    lost_too = {frame.name: reason for frame, reason in strangers(frames)}
    run.lose(lost_too.items())
    good = [frame for frame in frames if frame.name not in lost_too]
    if not good:
        raise TooFewFrames(f"none of {len(run.ramps)} ramps is usable")
    for note in odd_clocks(good):
        run.note(note)
    return good


def take_by_header(run: Run, frames: list[Frame]) -> list[Frame]:
    """The frames whose headers say what the user wants; the others have their verdicts."""
    left_out = by_header({one.name: one.header for one in frames}, run.config.select)
    for name, reason in left_out.items():
        run.verdicts[name] = Verdict(name, used=False, reason=reason)
    run.ramps = [ramp for ramp in run.ramps if str(ramp) not in left_out]
    return [frame for frame in frames if frame.name not in left_out]


def open_frame(run: Run, ramp: RampId) -> Frame:
    """A handle on one ramp; FrameError when it cannot be one of this observation."""
    path = run.products.ramp(ramp)
    try:
        header, raw = rampfile.open_ramp(path)
    except MissingInput as error:  # it was there when the folder was listed
        raise FrameError(f"{ramp}: not there any more; download it again") from error
    info = rampfile.frame_info(header, path)
    if info.band != run.products.band:
        raise FrameError(f"{ramp}: band {info.band} in the header, not {run.products.band}")
    shape = (raw.shape[0] - 2 * BORDER_PIXELS, raw.shape[1] - 2 * BORDER_PIXELS)
    pixels = detrend.CalibratedPixels(raw, detrend.unit_flat(shape))
    angle = run.config.run.rotator_deg if info.rotator_deg is None else info.rotator_deg
    wcs = pointing_wcs(ramp.chip, (info.ra_deg, info.dec_deg), angle)
    check_light(str(ramp), detrend.every_nth(pixels, every=max(1, shape[0] // LOOK_ROWS)))
    return Frame(info, header, pixels, wcs)


def check_light(name: str, some: ArrayPixels) -> float:
    """The sky level of a frame, ADU, from some of its rows; FrameError when it is no exposure."""
    bad = detrend.bad_fraction(some, every=1)
    if bad > MAX_BAD_FRACTION:
        raise FrameError(
            f"{name}: {bad:.0%} of the pixels are unusable (NaN or 65535), at most "
            f"{MAX_BAD_FRACTION:.0%} allowed"
        )
    level = detrend.level(some, every=1)
    if not level > 0:
        raise FrameError(f"{name}: sky level {level:.3g} ADU; no light, no frame")
    good = some.data[some.bad == 0]
    if good.min() == good.max():
        raise FrameError(f"{name}: every pixel is {level:.6g} ADU; not a real exposure")
    return level


def choose_flat(run: Run, frames: list[Frame]) -> detrend.Flat:
    """The flat of this chip, band and night; from the frames themselves when there is none."""
    shape = frames[0].pixels.shape
    if not run.config.run.flat_field:
        return detrend.unit_flat(shape)
    flat, note = run.flats.choose(run.products.band, run.chip, frames, run.config.flat)
    if note:
        run.note(note)
    return flat


def calibrate(run: Run, frames: list[Frame], flat: detrend.Flat) -> list[Track]:
    """Frames with the flat behind their pixels, and their sky levels."""

    def start(frame: Frame) -> Track:
        pixels = detrend.CalibratedPixels(Track(frame).pixels.raw, flat)
        level = check_light(frame.name, detrend.every_nth(pixels))
        background = flat_background(level, pixels.shape, run.config.background.mesh_pix)
        return Track(replace(frame, pixels=pixels), background)

    done, lost = try_each(start, frames, run.counted("calibrate", len(frames)))
    run.lose((frame.name, error) for frame, error in lost)
    if not done:
        raise TooFewFrames(f"none of {len(frames)} frames has usable pixels")
    return [track for _, track in done]
