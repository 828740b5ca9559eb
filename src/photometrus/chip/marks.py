"""What frames show that is not the sky's: each of them against all together."""

from dataclasses import replace

import numpy as np

from photometrus.chip.run import Run
from photometrus.chip.skies import without_sky
from photometrus.kernels.artifacts import subtract_expected
from photometrus.stages import artifacts, masks
from photometrus.track import Track


def mark_artifacts(run: Run, tracks: list[Track], shallow: masks.Shallow) -> list[Track]:
    """Each frame against all together: cosmic rays, trails, afterglow, saturated cores.

    On the way each frame's background is fitted again, with the stars hidden.
    """
    config = run.config.artifacts
    n_stacked = len(run.used(tracks))
    alone = n_stacked < 2

    def find(k: int) -> tuple[Track, artifacts.Found]:
        track, data, bad = without_sky(run, tracks[k])
        shape = track.pixels.shape
        seen = None if alone else shallow.seen_by(track.frame.wcs, shape, track.flux_factor)
        if seen is not None:
            subtract_expected(data, seen)
        frame = artifacts.Compared(
            data,
            bad,
            seen,
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

    counted = run.counted("artifacts", len(tracks))
    done = list(counted(find, range(len(tracks))))
    found = [one for _, one in done]
    glow = [point[1:] for one in found for point in one.afterglow]
    model = artifacts.fit_afterglow(glow)
    if model is not None:
        run.measured["afterglow_adu"] = model.after(min(seconds for seconds, _, _ in glow))
        run.measured["afterglow_decay_s"] = model.decay_s
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
