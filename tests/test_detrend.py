"""Trim, flags and flats: a known response is recovered from FLAT ramps with dark and glow."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from photometrus.errors import TooFewFrames
from photometrus.frame import Bad, Marks
from photometrus.instrument import BORDER_PIXELS
from photometrus.stages.detrend import (
    CalibratedPixels,
    Flat,
    FlatConfig,
    bad_fraction,
    every_nth,
    finish_flat,
    flat_bad_pixels,
    level,
    make_flat,
    make_sky_flat,
    shaped,
    unit_flat,
)
from synth import lattice, pixels, star_image, untouched

SHAPE = (150, 171)


@dataclass(frozen=True, eq=False)
class Raw:
    """A ramp in memory, with its border."""

    data: np.ndarray

    @property
    def shape(self):
        return self.data.shape

    def strips(self, y0, y1, height):
        room = np.empty((height, self.shape[1]), np.float32)
        for y in range(y0, y1, height):
            strip = room[: min(height, y1 - y)]
            strip[:] = self.data[y : y + len(strip)]
            yield strip


def response(rs, shape=SHAPE):
    """Vignetting and pixel-to-pixel scatter, median 1."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    smooth = 1 - 0.2 * ((x / shape[1] - 0.4) ** 2 + (y / shape[0] - 0.6) ** 2)
    out = smooth * rs.normal(1, 0.03, shape)
    return out / np.median(out)


def flats(truth, levels, sigma, rs):
    """FLAT frames: light times response, plus dark and a glow that are the same in all."""
    y, x = np.mgrid[: truth.shape[0], : truth.shape[1]]
    dark = 30 + 60 * np.exp(-x / 20.0) + rs.normal(0, 4, truth.shape)
    return [pixels(value * truth + dark + rs.normal(0, sigma, truth.shape)) for value in levels]


def test_trimming_takes_four_pixels_from_every_edge():
    raw = np.arange(72 * 80, dtype=np.float32).reshape(72, 80)
    for edge in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
        raw[edge] = 65535
    frame = CalibratedPixels(Raw(raw), unit_flat((64, 72)))
    assert frame.shape == (64, 72)
    with untouched(raw):
        data, bad = frame.rows(0, 64)
        data[:] += 1  # the caller's own
    assert not bad.any()
    np.testing.assert_array_equal(data - 1, raw[4:-4, 4:-4])
    part, _ = frame.rows(10, 13)
    np.testing.assert_array_equal(part, raw[4:-4, 4:-4][10:13])
    assert BORDER_PIXELS == 4


def test_flags_come_from_ramp_and_flat():
    raw = np.full((20, 20), 100, np.float32)
    raw[4 + 2, 4 + 3] = 65535
    raw[4 + 2, 4 + 4] = np.nan
    flat = Flat(np.ones((12, 12), np.float32), np.zeros((12, 12), np.uint8), "test")
    flat.response[5, 6] = 0
    flat.bad[7, 8] = Bad.HOT
    flat.bad[9, 1] = Bad.DEAD
    data, bad = CalibratedPixels(Raw(raw), flat).rows(0, 12)
    want = np.zeros((12, 12), np.uint8)
    want[2, 3:5], want[5, 6], want[7, 8], want[9, 1] = Bad.UNSOLVED, Bad.DEAD, Bad.HOT, Bad.DEAD
    np.testing.assert_array_equal(bad, want)
    assert np.isfinite(data).all()
    assert bad_fraction(pixels(data, bad), every=1) == pytest.approx(5 / 144)


def test_every_nth_row_says_the_same_as_the_frame():
    rs = np.random.RandomState(3)
    frame = pixels(
        rs.normal(500, 10, (100, 30)).astype(np.float32),
        (rs.uniform(size=(100, 30)) < 0.1).astype(np.uint8),
    )
    some = every_nth(frame, 16)
    assert some.shape == (6, 30)
    assert level(some, every=1) == level(frame)
    assert bad_fraction(some, every=1) == pytest.approx(bad_fraction(frame))


def test_a_frames_own_marks_are_among_its_flags():
    raw = np.full((20, 20), 100, np.float32)
    raw[4 + 2, 4 + 3] = 65535
    index = np.array([2 * 12 + 3, 5 * 12, 11 * 12 + 11])
    own = Marks(index, np.array([Bad.SATURATED, Bad.COSMIC, Bad.TRAIL], np.uint8))
    pixels_of = CalibratedPixels(Raw(raw), unit_flat((12, 12)), own)
    want = np.zeros((12, 12), np.uint8)
    want[2, 3], want[5, 0], want[11, 11] = Bad.SATURATED | Bad.UNSOLVED, Bad.COSMIC, Bad.TRAIL
    np.testing.assert_array_equal(pixels_of.rows(0, 12)[1], want)
    for y0, y1 in ((0, 5), (5, 6), (6, 12)):
        np.testing.assert_array_equal(pixels_of.rows(y0, y1)[1], want[y0:y1])


def test_a_window_of_a_flat_is_the_part_that_starts_at_the_first_pixel():
    rs = np.random.RandomState(0)
    flat = Flat(response(rs).astype(np.float32), np.eye(*SHAPE, dtype=np.uint8), "test")
    part = flat.window((40, 50))
    np.testing.assert_array_equal(part.response, flat.response[:40, :50])
    np.testing.assert_array_equal(part.bad, flat.bad[:40, :50])
    assert part.source == "test"


def test_the_level_is_the_median_of_good_pixels():
    data = np.full((64, 64), 50.0)
    bad = np.zeros((64, 64), np.uint8)
    data[:, :40], bad[:, :40] = 9999, 4
    assert level(pixels(data, bad)) == 50
    assert np.isnan(level(pixels(data, np.ones((64, 64), np.uint8))))


@pytest.mark.parametrize("levels", [[900, 1000, 500, 550], [3000, 2500, 2000, 1500, 1200, 1000]])
def test_pairs_recover_the_response_without_dark_and_glow(levels):
    rs = np.random.RandomState(1)
    truth = response(rs)
    frames = flats(truth, levels, 2.0, rs)
    with untouched(*(f.data for f in frames)):
        flat = make_flat(frames)
    half = len(levels) // 2
    differences = [i - j for i, j in zip(levels[:half], levels[half:], strict=True)]
    assert flat.source.startswith(f"{half} pairs")
    # Each pair: noise of 2 * sqrt(2) over its difference; the median of two or three is better
    # than the worst of them. Six sigma over 25000 pixels. Normalisation: medians, 1.25 * 0.04 /
    # sqrt(25000) = 3e-4 each.
    worst = 2 * np.sqrt(2) / min(differences)
    good = flat.bad == 0
    assert good.mean() > 0.99
    off = (flat.response / truth - 1)[good]
    assert np.abs(off).max() < 6 * worst / 0.7 + 0.001
    assert abs(off.mean()) < 0.001
    assert np.median(flat.response) == pytest.approx(1, abs=1e-3)


LARGE = (260, 300)


def twilight(rs, levels, sigma, hot=0.0):
    """FLATs of a fading twilight at full truth: response, dark current of some pixels, frames."""
    truth = response(rs, LARGE)
    y, x = np.mgrid[: LARGE[0], : LARGE[1]]
    glow = 20 + 60 * np.exp(-x / 150.0) + 10 * np.sin(y / 80.0)
    dark = np.zeros(LARGE)
    dark[7::31, 5::29] = hot
    frames = [pixels(v * truth + glow + dark + rs.normal(0, sigma, LARGE)) for v in levels]
    return truth, dark > 0, frames


def test_all_the_light_gives_the_pixels_with_less_noise_than_the_pairs():
    rs = np.random.RandomState(8)
    levels, sigma = [2000, 1900, 1800, 1700, 1500, 1450, 1400, 1350], 12.0
    truth, _, frames = twilight(rs, levels, sigma)
    flat = make_flat(frames)
    assert flat.source == "4 pairs of FLAT ramps"
    off = flat.response / truth - 1
    pixel = off * truth - ndimage.uniform_filter(off * truth, 31)
    # Of all light: 12 ADU in eight levels of 1640 in the mean, the fainter ones with more noise
    # (1610 in the square of the inverse): 12 / 1610 / sqrt(8) = 0.26 %. Of the differences: 12
    # sqrt(2) / 425 / sqrt(4) = 2.0 %. Clipping eight values at 4 sigma costs 2 % of noise, the box
    # of 31 x 31 that does not follow the glow at the edge 0.12 %; one pixel in 16000 is by chance
    # 4.3 sigma off in the differences, and believed: 2.0 % * 4.3 / sqrt(16000) = 0.07 %.
    light = 1.02 * 12 / 1610 / np.sqrt(8)
    assert pixel.std() < np.sqrt(light**2 + 0.0012**2 + 0.0007**2)
    # The glow, 80 ADU or 5 % at the left edge, is not in it: cells of 64 pixels of 2.0 % each are
    # known to 0.03 %; half a cell beyond the last node the straight line misses of the curve (64 /
    # 150)**2 * 3 / 8 = 0.07.
    left = off[:, :16].mean() - off[:, 100:].mean()
    assert abs(left) < 0.1 * 60 / 1640
    # The reason: without the differences it would be.
    light = np.mean([f.data / np.median(f.data) for f in frames], axis=0) / truth - 1
    assert light[:, :16].mean() - light[:, 100:].mean() > 0.02


def test_dark_current_of_single_pixels_is_not_taken_for_response():
    rs = np.random.RandomState(9)
    levels, sigma = [2000, 1900, 1800, 1700, 1500, 1450, 1400, 1350], 4.0
    truth, hot, frames = twilight(rs, levels, sigma, hot=200.0)
    flat = make_flat(frames)
    off = flat.response / truth - 1
    # 200 ADU on 1640 would be 12 %. A difference's noise, 4 sqrt(2) / 425 / 2 = 0.67 %, tells that
    # from the rest at 18 sigma; these pixels have it then, the others 0.09 %, of all light.
    assert abs(off[hot].mean()) < 0.003 + 4 * 0.0067 / np.sqrt(hot.sum())
    assert off[hot].std() < 0.0067 * 1.3
    other = off[~hot] - ndimage.uniform_filter(off, 31)[~hot]
    assert other.std() < 0.0015


def test_a_pixel_that_one_of_both_does_not_know_is_the_others():
    light = np.ones(LARGE, np.float32)
    clean = np.ones(LARGE, np.float32)
    clean[3, 4] = np.nan
    light[50, 60] = np.nan
    clean += np.random.RandomState(10).normal(0, 0.01, LARGE).astype(np.float32)
    with untouched(light, clean):
        out = shaped(light, clean)
    assert np.isnan(out[3, 4])  # nobody knows whether its light is glow
    assert out[50, 60] == clean[50, 60]
    assert np.isfinite(out).sum() == out.size - 1


def test_without_subtraction_the_glow_would_be_there():
    # The reason for pairs: the same frames combined directly are off by the dark, 3 to 9 %.
    rs = np.random.RandomState(1)
    truth = response(rs)
    frames = flats(truth, [1000, 1000, 1000, 1000], 2.0, rs)
    flat = make_flat(frames)
    assert "not subtracted" in flat.source
    assert np.abs(flat.response / truth - 1)[:, :5].mean() > 0.03


def test_pairs_of_equal_level_are_left_out():
    rs = np.random.RandomState(2)
    truth = response(rs)
    # Pairs: (1000, 500), (800, 799), (900, 450): the second says nothing but noise.
    flat = make_flat(flats(truth, [1000, 800, 900, 500, 799, 450], 2.0, rs))
    assert flat.source.startswith("2 pairs")
    good = flat.bad == 0
    # As above: 2 sqrt 2 / 450.
    assert np.abs(flat.response / truth - 1)[good].max() < 6 * 2 * np.sqrt(2) / 450 / 0.7 + 0.001


def test_a_lower_first_half_gives_the_same_flat():
    rs = np.random.RandomState(3)
    frames = flats(response(rs), [1000, 950, 500, 480], 2.0, rs)
    up = make_flat(frames[2:] + frames[:2])
    down = make_flat(frames)
    np.testing.assert_allclose(up.response, down.response, atol=1e-6)


def test_unlit_frames_do_not_count_and_none_is_an_error():
    rs = np.random.RandomState(4)
    truth = response(rs)
    lit = flats(truth, [1000, 500], 2.0, rs)
    dead = pixels(np.zeros(SHAPE), np.full(SHAPE, 4, np.uint8))
    flat = make_flat([dead, lit[0], dead, lit[1], dead])
    assert flat.source.startswith("1 pairs")
    with pytest.raises(TooFewFrames, match="-flat_dir"):
        make_flat([dead, dead])
    assert make_flat(lit[:1]).source.startswith("1 FLAT ramps")


def test_dead_odd_and_unsolved_pixels_are_flagged_and_no_others():
    rs = np.random.RandomState(5)
    truth = response(rs)
    special = {(20, 30): 0.05, (50, 60): 0.0, (80, 90): 5.0, (100, 20): 0.6, (30, 100): 1.45}
    for place, value in special.items():
        truth[place] = value
    frames = flats(truth, [1000, 900, 400, 300], 1.0, rs)
    for frame in frames:
        frame.data[70, 40], frame.bad[70, 40] = 0, Bad.UNSOLVED
    flat = make_flat(frames)
    want = np.zeros(SHAPE, np.uint8)
    for place in (*special, (70, 40)):
        want[place] = Bad.DEAD
    # The scatter of 3 % is eight times smaller than the limit of 25 %.
    np.testing.assert_array_equal(flat.bad, want)
    assert (flat.response[want > 0] == 1).all()
    assert np.isfinite(flat.response).all()


@pytest.mark.parametrize("shape", [(64, 64), (65, 67), (5, 9)])
def test_flags_of_a_flat_have_its_shape(shape):
    data = np.ones(shape, np.float32)
    data[2, 3] = np.nan
    bad = flat_bad_pixels(data)
    assert bad.shape == shape
    assert bad[2, 3] == Bad.DEAD
    assert bad.sum() == Bad.DEAD


def test_limits_of_the_response_can_be_tuned():
    data = np.full((40, 40), 0.25, np.float32)
    assert flat_bad_pixels(data).all()
    assert not flat_bad_pixels(data, FlatConfig(min_response=0.2)).any()


def science(truth, levels, rs):
    frames = []
    for k, value in enumerate(levels):
        x, y = lattice(SHAPE, 60, 5, np.random.RandomState(100 + k))
        sky = truth * (value + star_image(SHAPE, x, y, 20 * value, 3.0))
        frames.append(pixels(sky + rs.normal(0, 0.005 * value, SHAPE)))
    return frames


def test_a_sky_flat_is_the_response_without_the_stars():
    rs = np.random.RandomState(6)
    truth = response(rs)
    frames = science(truth, [800, 850, 820, 900, 780, 810, 830, 860, 790], rs)
    flat = make_sky_flat(frames)
    good = flat.bad == 0
    assert good.mean() > 0.99
    off = (flat.response / truth - 1)[good]
    # The median of 9 at 0.5 %: 0.21 %. A star is above the noise in a circle of 4.4 pixels, 1.7 %
    # of a frame at one per 60 x 60: a value in seven has one to clip, hardly any have more.
    assert off.std() < 0.0025
    assert off.max() < 0.02
    assert abs(np.median(off)) < 0.001
    assert flat.source == "9 science frames"


def test_a_dark_frame_does_not_spoil_the_sky_flat():
    rs = np.random.RandomState(7)
    truth = response(rs)
    frames = science(truth, [800, 850, 820], rs)
    dead = pixels(np.zeros(SHAPE))
    flat = make_sky_flat([dead, *frames])
    assert flat.source == "3 science frames"
    assert abs(np.median(flat.response / truth) - 1) < 0.001
    with pytest.raises(TooFewFrames, match="2 science frames"):
        make_sky_flat([dead, *frames[:2]])


def test_a_finished_flat_is_new():
    data = np.full((20, 20), 3, np.float32)
    with untouched(data):
        flat = finish_flat(data, "x")
    assert (flat.response == 1).all()
