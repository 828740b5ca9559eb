"""Whether a chip's stack is better with a frame; and the stack's numbers."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from photometrus.chip.run import Run
from photometrus.errors import TooFewFrames
from photometrus.selection import is_included
from photometrus.stages.quality import reject
from photometrus.track import Track, flagged_shares, judged


def judge(run: Run, tracks: list[Track]) -> None:
    """A verdict on every frame: is the stack better with it."""
    reasons = reject([track.frame.quality for track in tracks], run.config.coadd)
    for track, quality_reason in zip(tracks, reasons, strict=True):
        reason = quality_reason
        if reason and is_included(track.frame.info.ramp, run.config.select):
            run.note(f"{track.name} is in the stack, as -include wants, though {reason}")
            reason = ""
        lost = not reason and track.frame.solution.level == "pointing"
        if lost:
            reason = f"astrometry: {track.frame.solution.reason}"
        run.verdicts[track.name] = replace(
            judged(track.frame, used=not reason, reason=reason), lost=lost
        )
    if not run.used(tracks):
        raise TooFewFrames(
            "no frame is good enough for a stack; -include all keeps each that can be placed"
        )


def numbers(run: Run, good: list[Track]) -> dict[str, float]:
    """What was measured on the frames of the stack, on average."""
    quality = [track.frame.quality for track in good]
    solution = [track.frame.solution for track in good]

    def mean(values: Iterable[float]) -> float:
        finite = [value for value in values if np.isfinite(value)]
        return float(np.mean(finite)) if finite else float("nan")

    return {
        "n_given": float(len(run.ramps)),
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
        **run.measured,
    }
