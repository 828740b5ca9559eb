"""A frame on its way: its sky taken out, its flags counted, the time between two."""

from dataclasses import replace

import numpy as np
import pytest

import chipcase
from photometrus.frame import ArrayPixels, Bad
from photometrus.stages.background import flat_background
from photometrus.stages.sky import Sky
from photometrus.track import flagged_shares
from synth import mask_of, noisy, untouched


def holding(data, bad):
    """A track with these pixels, whose sky is at 500 ADU."""
    track = chipcase.track(0)
    frame = replace(track.frame, pixels=ArrayPixels(data, bad))
    return replace(track, frame=frame, background=flat_background(500.0, data.shape, 64))


def test_sky_is_taken_out_and_the_own_vote_given_back():
    rs = np.random.RandomState(0)
    shape = (40, 50)
    data, bad = noisy(np.full(shape, 520.0), 4.0, rs), np.zeros(shape, np.uint8)
    bad[2, 3] = Bad.DEAD
    hide = np.zeros(shape, bool)
    hide[:, 20:30] = True
    final = Sky(np.full(shape, 1.01, np.float32), np.full(shape, 0.25, np.float32))
    track = replace(holding(data, bad), mask=mask_of(hide), sky=Sky(final.image))
    want = data - np.float32(500.0) * np.float32(1.01)
    with untouched(data, bad, final.image, final.share):
        left, flags = track.without_sky(5, 40)
        np.testing.assert_allclose(left, want[5:40], atol=1e-4)
        np.testing.assert_array_equal(flags, bad[5:40])
        voted = replace(track, sky=final)
        left = np.concatenate([voted.without_sky(y, y + 8)[0] for y in range(0, 40, 8)])
    votes = ~hide & (bad == 0)
    # Rounding of 500 in float32, 3e-5, times 1.25.
    np.testing.assert_allclose(left[votes], 1.25 * want[votes], atol=1e-4)
    np.testing.assert_allclose(left[~votes], want[~votes], atol=1e-4)


def test_flags_are_counted_by_name():
    shape = (256, 320)
    rs = np.random.RandomState(1)
    tracks = []
    share = {Bad.COSMIC: 0.02, Bad.SATURATED: 0.05, Bad.TRAIL: 0.1}
    for _ in range(4):
        bad = np.zeros(shape, np.uint8)
        for flag, part in share.items():
            bad[rs.uniform(size=shape) < part] |= np.uint8(flag)
        tracks.append(holding(np.zeros(shape, np.float32), bad))
    counted = flagged_shares(tracks)
    assert set(counted) == {flag.name.lower() for flag in Bad if flag is not Bad.EDGE}
    # Every eighth row of four frames: 41000 pixels; 5 sigma of a binomial.
    n = 4 * shape[0] // 8 * shape[1]
    for flag in Bad:
        part = share.get(flag, 0.0)
        if flag is not Bad.EDGE:
            error = 5 * np.sqrt(part * (1 - part) / n)
            assert counted[flag.name.lower()] == pytest.approx(part, abs=error)


def test_seconds_between_frames_are_from_the_end_to_the_middle():
    first, second = chipcase.track(0), chipcase.track(1)
    # They begin 1/2000 of a day apart, 43.2 s, and take 0.0002 days, 17.28 s.
    assert second.seconds_after(first) == pytest.approx(43.2 - 17.28 / 2, abs=1e-3)
