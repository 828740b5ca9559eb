"""The sky of a sequence: its image, its holes, how sure it is, and what a frame took for itself."""

import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest

from photometrus.errors import TooFewFrames
from photometrus.frame import Bad
from photometrus.stages.background import flat_background
from photometrus.stages.sky import SkyConfig, fill_sky, hot_pixels, make_sky, no_mask
from photometrus.workers import threads
from synth import lattice, mask_of, noisy, pixels, star_image, untouched

SHAPE = (260, 300)
CONFIG = SkyConfig()
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
TRUE_SKY = 1 + 0.06 * (X / SHAPE[1] - 0.5) + 0.03 * np.cos(Y / 25.0)
TRUE_SKY = TRUE_SKY / np.median(TRUE_SKY)
NOISE = 4.0


def sequence(levels, rs, with_stars=True, seed=50):
    """Frames of one sky at different levels, with stars in different places; and their masks."""
    frames, masks = [], []
    for k, level in enumerate(levels):
        stars = np.zeros(SHAPE)
        if with_stars:
            x, y = lattice(SHAPE, 30, 6, np.random.RandomState(seed + k))
            x = x + 3 * k
            stars = star_image(SHAPE, x, y, 30000, 3.0)
        frames.append(pixels(noisy(level * TRUE_SKY + stars, NOISE, rs)))
        masks.append(mask_of(stars > 0.1 * NOISE))
    return frames, masks


def levels_of(values, shape=SHAPE, cell=64):
    return [flat_background(value, shape, cell) for value in values]


LEVELS = [900.0, 1000, 1100, 950, 1050, 980, 1020, 1000, 940]


def test_the_sky_is_recovered_behind_the_masks():
    rs = np.random.RandomState(0)
    frames, masks = sequence(LEVELS, rs)
    with untouched(*(f.data for f in frames), *(f.bad for f in frames)):
        votes = make_sky(frames, levels_of(LEVELS), masks, CONFIG)
    sky = votes.image
    assert sky.dtype == np.float32
    seen = np.isfinite(sky)
    assert seen.mean() > 0.99
    off = (sky - TRUE_SKY)[seen]
    # The median of 9 values at 0.4 %: 1.25 * 0.4 % / 3 = 0.17 %; 20 % of the values are hidden,
    # 7 are left: 0.19 %. And what the masks leave of a star is below 0.1 of the noise.
    assert off.std() < 0.0025
    assert abs(off.mean()) < 0.0003


def test_without_masks_the_clipping_takes_most_of_the_stars():
    rs = np.random.RandomState(0)
    frames, _ = sequence(LEVELS, rs)
    sky = make_sky(frames, levels_of(LEVELS), [no_mask(SHAPE)] * 9, CONFIG).image
    # A fifth of the values has some star in it: the median moves up by less than half a sigma
    # of a frame, 0.2 %; of the stars' cores, of 300 %, nothing but where five coincide.
    assert 0 < (sky - TRUE_SKY).mean() < 0.002
    assert np.quantile(sky - TRUE_SKY, 0.999) < 0.02
    assert (sky - TRUE_SKY).max() < 0.3
    unclipped = replace(CONFIG, clip_sigma=1e9)
    plain = make_sky(frames, levels_of(LEVELS), [no_mask(SHAPE)] * 9, unclipped).image
    assert (sky - TRUE_SKY).mean() < 0.8 * (plain - TRUE_SKY).mean()


def test_a_frames_own_gradient_does_not_get_into_the_sky():
    rs = np.random.RandomState(1)
    frames, masks = sequence(LEVELS, rs, with_stars=False)
    backgrounds = levels_of(LEVELS)
    for k in range(5):
        mesh = np.full((5, 5), 20.0 * k, np.float32)
        frames[k] = pixels(frames[k].data + np.float32(20 * k))
        backgrounds[k] = replace(flat_background(LEVELS[k], SHAPE, 64), mesh=mesh)
    sky = make_sky(frames, backgrounds, masks, CONFIG).image
    # As above, with all nine: 0.17 % / sqrt(78000) is nothing; levels are exact.
    assert abs((sky - TRUE_SKY).mean()) < 1e-4


def test_a_nan_or_flagged_pixel_of_one_frame_leaves_the_others():
    rs = np.random.RandomState(2)
    frames, masks = sequence([1000.0] * 5, rs, with_stars=False)
    frames[2].bad[10, 20], frames[2].data[10, 20] = Bad.UNSOLVED, 65535
    for frame in frames:
        frame.bad[30, 40] = Bad.DEAD
    sky = make_sky(frames, levels_of([1000.0] * 5), masks, CONFIG).image
    assert abs(sky[10, 20] - TRUE_SKY[10, 20]) < 5 * 0.004
    assert np.isnan(sky[30, 40])
    assert np.isnan(sky).sum() == 1


def test_columns_that_nobody_saw_are_nan_and_get_filled():
    rs = np.random.RandomState(3)
    frames, _ = sequence([1000.0] * 4, rs, with_stars=False)
    hide = np.zeros(SHAPE, bool)
    hide[:, 100:102] = True
    hide[50:120, 150:220] = True
    sky = make_sky(frames, levels_of([1000.0] * 4), [mask_of(hide)] * 4, CONFIG).image
    np.testing.assert_array_equal(np.isnan(sky), hide)
    with untouched(sky):
        full = fill_sky(sky)
    assert np.isfinite(full).all()
    np.testing.assert_array_equal(full[~hide], sky[~hide])
    # A mesh of 64 pixels, filtered over three, does not follow waves of 157: their 3 % up and 3 %
    # down are what may be wrong. Without any filling it would be 100 %.
    assert np.abs(full - TRUE_SKY)[hide].max() < 0.07


def test_blocks_and_threads_do_not_change_a_bit():
    rs = np.random.RandomState(4)
    frames, masks = sequence(LEVELS, rs)
    whole = make_sky(frames, levels_of(LEVELS), masks, CONFIG)
    small = SkyConfig(block_mb=4 * 9 * SHAPE[1] * 17 / 1e6)
    with threads(3) as each:
        parts = make_sky(frames, levels_of(LEVELS), masks, small, each=each)
    np.testing.assert_array_equal(parts.image, whole.image)
    np.testing.assert_array_equal(parts.count, whole.count)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_frames_say_how_many_are_needed(n):
    frames, masks = sequence([1000.0] * n, np.random.RandomState(0))
    with pytest.raises(TooFewFrames, match=f"{n} frames, need 3"):
        make_sky(frames, levels_of([1000.0] * n), masks, CONFIG)


@dataclass(frozen=True)
class Streamed:
    """A frame that is made anew whenever rows are asked for: it holds nothing."""

    shape: tuple[int, int]

    def rows(self, y0, y1):
        rows = y1 - y0, self.shape[1]
        return np.full(rows, 1000, np.float32), np.zeros(rows, np.uint8)


def sky_peak_mb(n, block_mb):
    shape = (600, 500)
    config = SkyConfig(block_mb=block_mb)
    frames = [Streamed(shape)] * n
    tracemalloc.start()
    try:
        make_sky(frames, levels_of([1000.0] * n, shape, 128), [no_mask(shape)] * n, config)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_frames():
    sky_peak_mb(3, 1.0)  # whatever is made once
    peak = {n: sky_peak_mb(n, 4.0) for n in (10, 40)}
    # The sky itself is 1.2 MB, a block 4 MB, one frame's rows (data, flags, mask; twice for
    # temporaries) 4 * 1.5 / n MB.
    assert peak[10] < 1.2 + 4 + 2
    assert peak[40] < 1.2 + 4 + 2


def test_hot_and_dead_pixels_are_flagged_and_no_others():
    rs = np.random.RandomState(5)
    sky = noisy(TRUE_SKY, 0.004, rs)
    want = np.zeros(SHAPE, bool)
    for y, x in ((20, 20), (100, 200), (259, 299), (0, 150)):
        want[y, x] = True
        sky[y, x] = 1.2
    sky[60, 60], want[60, 60] = 0.7, True
    # A very hot pixel with its four neighbours (crosstalk between pixels), all of them hot.
    for y, x in ((150, 80), (149, 80), (151, 80), (150, 79), (150, 81)):
        sky[y, x], want[y, x] = 30, True
    sky[200, 30:40] = np.nan
    with untouched(sky):
        flags = hot_pixels(sky)
    # The limit is 8 sigma, so of 78000 good pixels none.
    np.testing.assert_array_equal(flags, want * np.uint8(Bad.HOT))
