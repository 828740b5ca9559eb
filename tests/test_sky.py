"""The sky: its image, its level and gradient, its holes."""

import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest

from photometrus.errors import TooFewFrames
from photometrus.frame import Bad
from photometrus.stages.sky import (
    Background,
    SkyConfig,
    fill_sky,
    fit_background,
    flat_background,
    hot_pixels,
    make_sky,
    no_mask,
    smooth_mesh,
)
from photometrus.workers import threads
from synth import lattice, noisy, pixels, star_image, untouched

SHAPE = (260, 300)
CONFIG = SkyConfig(mesh_pix=64)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
TRUE_SKY = 1 + 0.06 * (X / SHAPE[1] - 0.5) + 0.03 * np.cos(Y / 25.0)
TRUE_SKY = TRUE_SKY / np.median(TRUE_SKY)
NOISE = 4.0


def mask_of(hide):
    """A mask from an image of what is hidden."""
    hide = hide.astype(np.uint8)
    return lambda y0, y1: hide[y0:y1]


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
        sky = make_sky(frames, levels_of(LEVELS), masks, CONFIG)
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
    sky = make_sky(frames, levels_of(LEVELS), [no_mask(SHAPE)] * 9, CONFIG)
    # A fifth of the values has some star in it: the median moves up by less than half a sigma
    # of a frame, 0.2 %; of the stars' cores, of 300 %, nothing but where five coincide.
    assert 0 < (sky - TRUE_SKY).mean() < 0.002
    assert np.quantile(sky - TRUE_SKY, 0.999) < 0.02
    assert (sky - TRUE_SKY).max() < 0.3
    unclipped = replace(CONFIG, clip_sigma=1e9)
    plain = make_sky(frames, levels_of(LEVELS), [no_mask(SHAPE)] * 9, unclipped)
    assert (sky - TRUE_SKY).mean() < 0.8 * (plain - TRUE_SKY).mean()


def test_a_frames_own_gradient_does_not_get_into_the_sky():
    rs = np.random.RandomState(1)
    frames, masks = sequence(LEVELS, rs, with_stars=False)
    backgrounds = levels_of(LEVELS)
    for k in range(5):
        mesh = np.full((5, 5), 20.0 * k, np.float32)
        frames[k] = pixels(frames[k].data + np.float32(20 * k))
        backgrounds[k] = Background(LEVELS[k], mesh, 64)
    sky = make_sky(frames, backgrounds, masks, CONFIG)
    # As above, with all nine: 0.17 % / sqrt(78000) is nothing; levels are exact.
    assert abs((sky - TRUE_SKY).mean()) < 1e-4


def test_a_nan_or_flagged_pixel_of_one_frame_leaves_the_others():
    rs = np.random.RandomState(2)
    frames, masks = sequence([1000.0] * 5, rs, with_stars=False)
    frames[2].bad[10, 20], frames[2].data[10, 20] = Bad.UNSOLVED, 65535
    for frame in frames:
        frame.bad[30, 40] = Bad.DEAD
    sky = make_sky(frames, levels_of([1000.0] * 5), masks, CONFIG)
    assert abs(sky[10, 20] - TRUE_SKY[10, 20]) < 5 * 0.004
    assert np.isnan(sky[30, 40])
    assert np.isnan(sky).sum() == 1


def test_columns_that_nobody_saw_are_nan_and_get_filled():
    rs = np.random.RandomState(3)
    frames, _ = sequence([1000.0] * 4, rs, with_stars=False)
    hide = np.zeros(SHAPE, bool)
    hide[:, 100:102] = True
    hide[50:120, 150:220] = True
    sky = make_sky(frames, levels_of([1000.0] * 4), [mask_of(hide)] * 4, CONFIG)
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
    small = SkyConfig(mesh_pix=64, block_mb=4 * 9 * SHAPE[1] * 17 / 1e6)
    with threads(3) as each:
        np.testing.assert_array_equal(
            make_sky(frames, levels_of(LEVELS), masks, small, each=each), whole
        )


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


def fitted(frame, start, mask=None, config=CONFIG, sky=TRUE_SKY):
    sky = sky.astype(np.float32)
    with untouched(frame.data, frame.bad, sky):
        background, noise = fit_background(frame, sky, mask or no_mask(frame.shape), start, config)
    left = frame.data.copy()
    background.subtract(left, sky, 0)
    return background, noise, left


@pytest.mark.parametrize("start", [1000.0, 950.0, 800.0, 1200.0])
def test_the_scale_is_found_from_a_wrong_start(start):
    rs = np.random.RandomState(6)
    frame = pixels(noisy(1000 * TRUE_SKY, NOISE, rs))
    background, noise, left = fitted(frame, start)
    # A cell's mean of 4096 pixels at 4 ADU is known to 0.06, their median over 20 cells to 0.02.
    # A start that is wrong by 20 % leaves 200 ADU of sky, of which 3 % are structure, 2 ADU of
    # that within the cells.
    assert background.scale == pytest.approx(1000, abs=0.1 + 0.01 * abs(start - 1000))
    far = max(abs(start - 1000) / 200, 0.02)
    # What is left is flat, at zero: columns' means are known to 4 / sqrt(260) = 0.25, the
    # smooth part of them (30 columns) to 0.05; the cell's structure is the 2 ADU of above.
    smooth = left[:, :300].reshape(260, 10, 30).mean(axis=(0, 2))
    assert np.abs(smooth).max() < 5 * 0.05 + 1.5 * far
    assert noise == pytest.approx(NOISE, rel=0.03 + 0.12 * far)


def test_a_gradient_is_found_and_taken_out():
    rs = np.random.RandomState(7)
    shape = (640, 640)
    y, x = np.mgrid[:640, :640]
    gradient = 30 * (x / 640 - 0.5) + 12 * np.sin(y / 200.0)
    gradient -= np.median(gradient)
    sky = np.ones(shape)
    frame = pixels(noisy(1000 + gradient, NOISE, rs))
    background, _, left = fitted(frame, 1000.0, sky=sky)
    assert background.scale == pytest.approx(1000, abs=1.0)
    # Inside: a cell's mean is known to 0.06; the filter over 3 x 3 cells and the curvature of the
    # sine (12 / 200**2 * 64**2 / 4 = 0.3) are more.
    inner = left[64:-64, 64:-64].reshape(16, 32, 16, 32).mean(axis=(1, 3))
    assert np.abs(inner).max() < 0.7
    # At the edge the mesh is level from the last cell's centre: 32 pixels of 30 / 640 per pixel
    # and the median filter's half cell as much.
    assert np.abs(left[:, :4].mean()) < 64 * 30 / 640


def test_masked_stars_do_not_raise_the_background():
    rs = np.random.RandomState(8)
    x, y = lattice(SHAPE, 20, 5, rs)
    stars = star_image(SHAPE, x, y, 20000, 4.0)
    frame = pixels(noisy(1000 * TRUE_SKY + stars, NOISE, rs))
    _, noise, left = fitted(frame, 1000.0, mask_of(stars > 0.2))
    hidden = stars > 0.2
    # 4096 pixels of a cell, half of them hidden: 4 / sqrt(2000) = 0.09; stars outside the mask
    # below 0.2.
    assert abs(left[~hidden].mean()) < 0.3
    assert noise == pytest.approx(NOISE, rel=0.05)
    _, _, bare = fitted(frame, 1000.0)
    assert bare[~hidden].mean() < -0.5  # what the mask is for: stars' wings would be subtracted


def test_a_frame_without_any_sky_keeps_its_start():
    frame = pixels(np.zeros(SHAPE), np.ones(SHAPE, np.uint8))
    background, noise = fit_background(
        frame, TRUE_SKY.astype(np.float32), no_mask(SHAPE), 700.0, CONFIG
    )
    assert background.scale == 700
    assert not background.mesh.any()
    assert np.isnan(noise)


@pytest.mark.parametrize("shape", [(64, 64), (65, 70), (129, 258), (70, 3)])
def test_odd_sizes(shape):
    rs = np.random.RandomState(9)
    frame = pixels(noisy(np.full(shape, 500.0), 1.0, rs))
    background, _, left = fitted(frame, 480.0, sky=np.ones(shape))
    assert background.scale == pytest.approx(500, abs=1)
    assert abs(left.mean()) < 0.5


def test_cells_without_sky_are_filled_from_their_neighbours():
    values = np.add.outer(np.arange(7.0), 2 * np.arange(8.0)).astype(np.float32)
    count = np.full(values.shape, 1000, np.int32)
    count[3, 4], values[3, 4] = 10, 999
    count[0, 0], values[0, 0] = 0, np.nan
    with untouched(values, count):
        out = smooth_mesh(values, count, SkyConfig(mesh_filter=1))
    good = np.ones(values.shape, bool)
    good[3, 4] = good[0, 0] = False
    np.testing.assert_allclose(out[good], values[good])
    assert out[3, 4] == pytest.approx(11, abs=1.0)
    assert 0 < out[0, 0] < 4
    assert not smooth_mesh(values, np.zeros_like(count)).any()


def test_subtracting_writes_only_into_the_rows_it_got():
    sky = np.ones((40, 30), np.float32)
    background = Background(10.0, np.full((3, 2), 2, np.float32), 16)
    rows = np.full((7, 30), 13, np.float32)
    with untouched(sky, background.mesh):
        background.subtract(rows, sky, 33)
    assert (rows == 1).all()
