"""The sky of a sequence: its image, its holes, how sure it is, and what a frame took for itself."""

import tracemalloc
from dataclasses import dataclass, replace

import numpy as np
import pytest

from photometrus.errors import TooFewFrames
from photometrus.frame import Bad
from photometrus.stages.background import flat_background
from photometrus.stages.sky import (
    Sky,
    SkyConfig,
    fill_sky,
    hot_pixels,
    make_sky,
    no_mask,
    settle,
    window,
    windows,
)
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


# ---------------------------------------------------------------- the final sky

N = 9
FLAT_SKY = 1 + 0.02 * (X / SHAPE[1] - 0.5)
UNCLIPPED = SkyConfig(clip_sigma=9.0)  # clipping is tested elsewhere: here all have a vote


def votes_of(flat_noise, rs, n_more=0, config=UNCLIPPED):
    """The votes of nine frames of level 1000; all frames (`n_more` of them do not vote); truth."""
    truth = FLAT_SKY * rs.normal(1, flat_noise, SHAPE)
    frames = [pixels(noisy(1000 * truth, NOISE, rs)) for _ in range(N + n_more)]
    backgrounds = levels_of([1000.0] * N)
    votes = make_sky(frames[:N], backgrounds, [no_mask(SHAPE)] * N, config, average=True)
    return votes, frames, truth


def test_the_votes_know_the_noise_of_one_frame():
    votes, _, truth = votes_of(0.01, np.random.RandomState(60))
    # 78000 pixels with 8 degrees of freedom each: 0.09 %. Nine sigma of a width known from so few
    # values take one value in 10000.
    assert votes.noise == pytest.approx(0.004, rel=0.005)
    error = (votes.image - truth).std()
    assert error == pytest.approx(0.004 / np.sqrt(N), rel=0.01)
    # What clipping at 3 sigma costs: the width of nine values is known to a fourth, so that 2.6 %
    # of the good ones are beyond, the noise comes out smaller and the mean's error larger.
    clipped, _, truth = votes_of(0.01, np.random.RandomState(60), config=CONFIG)
    assert clipped.count.mean() / N > 0.965
    assert votes.noise * 0.92 < clipped.noise < votes.noise
    assert (clipped.image - truth).std() < 1.07 * error


@pytest.mark.parametrize("flat_noise", [0.0, 0.0005, 0.0013, 0.01])
def test_a_settled_sky_is_never_worse_than_the_mean(flat_noise):
    votes, _, truth = votes_of(flat_noise, np.random.RandomState(61))
    mean = votes.image.copy()
    sky = settle(votes)
    error = 0.004 / np.sqrt(N)
    assert (mean - truth).std() == pytest.approx(error, rel=0.01)
    off = (sky.image - truth).std()
    # The best linear estimate has the error e s / sqrt(e^2 + s^2). Pixels beyond three sigma are
    # believed: of a Gaussian's variance they hold 2.9 %, so 0.17 e more; the cells of 32 x 32, rows
    # and columns are known to 1/32 and 1/16 of e: 0.1 e, all in squares.
    best = error * flat_noise / np.hypot(error, flat_noise)
    assert off < 1.05 * np.sqrt(best**2 + (0.17**2 + 0.1**2) * error**2)
    assert off < 1.01 * (mean - truth).std()


def test_noise_of_subtracted_frames_is_their_own_with_a_perfect_flat():
    votes, frames, _ = votes_of(0.0, np.random.RandomState(62), n_more=4)
    mean = votes.image.copy()
    sky = settle(votes)
    others = np.array([frame.data for frame in frames[N:]])
    # A mean of nine adds 1/9 of the variance, the settled sky next to nothing. (312000 values:
    # 0.13 %.)
    assert (others - 1000 * mean).std() == pytest.approx(NOISE * np.sqrt(1 + 1 / N), rel=0.006)
    assert (others - 1000 * sky.image).std() == pytest.approx(NOISE, rel=0.006)


@pytest.mark.parametrize("flat_noise", [0.0, 0.0013, 0.01])
def test_given_back_their_vote_voters_have_the_noise_of_the_others(flat_noise):
    # Of voters a sky of all the votes takes more than of others: (d - mean) is (n - 1) / n of the
    # difference to the mean without d. Given back it is that difference.
    votes, frames, _ = votes_of(flat_noise, np.random.RandomState(63), n_more=N)
    sky = settle(votes)
    spread = []
    for k, frame in enumerate(frames):
        left, bad = frame.rows(0, SHAPE[0])
        left -= 1000 * sky.image
        if k < N:
            for y0 in range(0, SHAPE[0], 100):
                y1 = min(SHAPE[0], y0 + 100)
                sky.give_back(left[y0:y1], bad[y0:y1], no_mask(SHAPE), y0)
        spread.append(left.std())
    voters, others = np.mean(spread[:N]), np.mean(spread[N:])
    # The sky that a voter is left with is of the eight others, that of the others of nine; both
    # count by w. Each from 700000 values: 0.09 %, their ratio 0.12 %; three of it.
    w = flat_noise**2 / (flat_noise**2 + 0.004**2 / N)
    ratio = np.sqrt((1 + w**2 / (N - 1)) / (1 + w**2 / N))
    assert voters / others == pytest.approx(ratio, abs=0.0036)


def test_flux_that_its_own_vote_took_is_given_back():
    rs = np.random.RandomState(64)
    places = np.zeros(SHAPE, bool)
    places[5::7, 4::7] = True
    flat = rs.normal(1, 0.02, SHAPE)
    frames = [pixels(noisy(1000 * flat, NOISE, rs)) for _ in range(N)]
    frames[0].data[places] += 2.0  # half a sigma, unseen and unmasked
    sky = settle(make_sky(frames, levels_of([1000.0] * N), [no_mask(SHAPE)] * N, UNCLIPPED,
                          average=True))  # fmt: skip
    left, bad = frames[0].rows(0, SHAPE[0])
    left -= 1000 * sky.image
    error = NOISE / np.sqrt(places.sum())  # 1600 places: 0.1
    assert left[places].mean() == pytest.approx(2.0 * (1 - 1 / N), abs=3 * error)
    before = left.copy()
    sky.give_back(left, bad, no_mask(SHAPE), 0)
    # With a flat so noisy the votes are all that is known: the share is w / (N - 1), w above 0.99.
    assert left[places].mean() == pytest.approx(2.0, abs=3 * error)
    assert np.median(left / before) == pytest.approx(1 + 1 / (N - 1), abs=0.01 / (N - 1))
    bad[3, 3] = Bad.HOT
    left[:] = before
    sky.give_back(left, bad, mask_of(places), 0)
    np.testing.assert_array_equal(left[places], before[places])  # hidden: it did not vote
    assert left[3, 3] == before[3, 3]


def test_holes_of_the_votes_get_the_smooth_sky_and_have_no_share():
    rs = np.random.RandomState(65)
    votes, _, truth = votes_of(0.01, rs)
    hole = np.zeros(SHAPE, bool)
    hole[40:55, 100:120] = True
    votes.image[hole], votes.count[hole] = np.nan, 0
    sky = settle(votes)
    assert np.isfinite(sky.image).all()
    # Cells of 32 x 32 and a flat of 1 %: 0.01 / 32; columns and rows add 0.01 / 16 in the window.
    smooth = np.broadcast_to(FLAT_SKY, SHAPE)
    assert np.abs(sky.image - smooth)[hole].max() < 5 * 0.01 * np.hypot(1 / 32, np.sqrt(2) / 16)
    assert (sky.share[hole] == 0).all()
    assert (sky.share[~hole] > 0).all()


def test_columns_in_common_are_believed():
    # A column of the sky that stands out by half of a pixel's error: no pixel knows, 260 do.
    rs = np.random.RandomState(66)
    truth = np.ones(SHAPE)
    truth[:, 150] += 0.0007
    frames = [pixels(noisy(1000 * truth, NOISE, rs)) for _ in range(N)]
    sky = settle(make_sky(frames, levels_of([1000.0] * N), [no_mask(SHAPE)] * N, CONFIG,
                          average=True))  # fmt: skip
    # 0.0013 / sqrt(260) = 0.8e-4.
    assert sky.image[:, 150].mean() - sky.image[:, 140].mean() == pytest.approx(0.0007, abs=4e-4)


def test_a_sky_of_nobodys_votes_gives_nothing_back():
    data = np.ones((4, 5), np.float32)
    nothing = np.zeros((4, 5), np.uint8)
    Sky(np.ones((4, 5), np.float32)).give_back(data, nothing, no_mask((4, 5)), 0)
    assert (data == 1).all()


# ---------------------------------------------------------------- a running sky


@pytest.mark.parametrize(("n", "width"), [(5, 5), (20, 30), (40, 9), (41, 12), (100, 17)])
def test_every_frame_is_served_once_by_its_neighbours(n, width):
    parts = windows(n, width)
    served = [k for _, users in parts for k in users]
    assert served == list(range(n))
    for makers, users in parts:
        assert len(makers) == min(n, width)
        assert makers.start >= 0
        assert makers.stop <= n
        assert set(users) <= set(makers)  # it is among those that made its sky
        # In their middle, but at the ends of the sequence.
        if makers.start > 0 and makers.stop < n:
            middle = (makers.start + makers.stop) / 2
            assert abs((users.start + users.stop) / 2 - middle) <= 1


def drifting(n, drift, rs):
    """Frames of a sky whose pixels drift apart linearly, by `drift` in units of a frame's noise."""
    slope = rs.normal(0, drift * 0.004, SHAPE)
    frames = [
        pixels(noisy(1000 * (FLAT_SKY + slope * (k / (n - 1) - 0.5)), NOISE, rs)) for k in range(n)
    ]
    return window(frames, levels_of([1000.0] * n), [no_mask(SHAPE)] * n)


@pytest.mark.parametrize("n", [9, 17, 18, 36])
def test_a_sky_that_does_not_change_is_made_of_all(n):
    assert drifting(n, 0.0, np.random.RandomState(70 + n)) == n


def test_a_sky_that_changes_is_running_the_more_the_faster():
    slow, fast, wild = (drifting(36, drift, np.random.RandomState(71)) for drift in (0.3, 1, 3))
    assert slow == 36
    # Means of the thirds are 2/3 of the drift apart: variance 4/9 of the noise's. The width is
    # sqrt(4 * 36 / (1.5 * 4 / 9)) = 14.7; what is found of the drift is known to some per cent.
    assert fast == pytest.approx(14.7, abs=2)
    assert wild == SkyConfig().min_window
    # With too few frames for two windows there is one.
    assert drifting(17, 3.0, np.random.RandomState(71)) == 17
