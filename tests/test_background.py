"""A frame's own background: its level, its gradient, its readout channels, its rows."""

import numpy as np
import pytest

from photometrus.stages.background import (
    MIN_CHANNELS,
    SMOOTH_CHANNELS,
    Background,
    BackgroundConfig,
    channel_offsets,
    fit_background,
    row_offsets,
    smooth_mesh,
)
from photometrus.stages.sky import no_mask
from synth import lattice, mask_of, noisy, pixels, star_image, untouched

SHAPE = (260, 300)
CONFIG = BackgroundConfig(mesh_pix=64)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
TRUE_SKY = 1 + 0.06 * (X / SHAPE[1] - 0.5) + 0.03 * np.cos(Y / 25.0)
TRUE_SKY = TRUE_SKY / np.median(TRUE_SKY)
NOISE = 4.0


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
    # The cells are the detector's: with its border 640 pixels are ten and a sliver of 4, which
    # counts like a cell in the median and moves it by half a column (30 / 640 * 32 = 1.5) and half
    # a row (at most 12 / 200 * 32 = 1.9). The mesh makes up for it.
    assert background.scale == pytest.approx(1000, abs=2.0)
    # Inside: the filter gives the sine's extremum the value a cell away, 12 / 200**2 * 64**2 / 2 =
    # 0.61; a mean of 32 x 32 pixels is known to 4 / 32 = 0.125, three of which 256 may show.
    inner = left[64:-64, 64:-64].reshape(16, 32, 16, 32).mean(axis=(1, 3))
    assert np.abs(inner).max() < 0.61 + 3 * 0.125
    # At the edge the filter has neighbours on one side only, and the sliver is filled from them:
    # a cell's gradient, 3 in x and 12 / 200 * 64 = 3.8 in y, is what may be wrong.
    for edge, limit in ((left[:, :4], 3), (left[:, -4:], 3), (left[:4], 3.8), (left[-4:], 3.8)):
        assert abs(edge.mean()) < limit


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
        out = smooth_mesh(values, count, BackgroundConfig(mesh_filter=1))
    good = np.ones(values.shape, bool)
    good[3, 4] = good[0, 0] = False
    np.testing.assert_allclose(out[good], values[good])
    assert out[3, 4] == pytest.approx(11, abs=1.0)
    assert 0 < out[0, 0] < 4
    assert not smooth_mesh(values, np.zeros_like(count)).any()


def test_subtracting_writes_only_into_the_rows_it_got():
    sky = np.ones((40, 30), np.float32)
    columns = np.arange(30, dtype=np.float32)
    own = np.zeros(40, np.float32)
    own[33:] = 5
    background = Background(10.0, np.full((3, 3), 2, np.float32), 16, columns, own)
    rows = np.full((7, 30), 18, np.float32) + columns
    with untouched(sky, background.mesh, columns, own):
        background.subtract(rows, sky, 33)
    assert (rows == 1).all()
    nothing, said = np.zeros(rows.shape, np.uint8), np.empty_like(rows)
    background.vote(rows, nothing, nothing, 0, said)  # rows 0 to 6 have no offset
    np.testing.assert_array_equal(said * 10, np.broadcast_to(-1 - columns, rows.shape))


# ---------------------------------------------------------------- readout channels

DETECTOR = (764, 2044)
"""A window of 16 channels of 128 columns and 6 rows of cells, without its border of 4."""
CHANNELS = BackgroundConfig()
FLAT_SKY = np.ones(DETECTOR)


def columns_of(offsets):
    """The offset of each column: channels are 128 columns of the detector, border included."""
    return np.repeat(offsets, 128)[4 : 4 + DETECTOR[1]]


def airglow(shape, amplitude):
    """A plane with curvature, and most of a wave over the chip."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    return amplitude * (x - 0.5 * y + 0.8 * x * y + 0.5 * x**2 + np.sin(2 * x + 0.4))


def recovered(period):
    """Which part of a wave of offsets is taken for the channels': three rounds of Whittaker."""
    bend = (2 - 2 * np.cos(2 * np.pi / period)) ** 2
    return 1 - (1 / (1 + SMOOTH_CHANNELS * bend)) ** 3


@pytest.mark.parametrize("period", [2, 3, 4, 6, 16])
def test_short_waves_of_offsets_are_the_channels_and_long_ones_the_airglows(period):
    k = np.arange(96)
    truth = 5 * np.cos(2 * np.pi * k / period + 0.3)
    values = np.broadcast_to(truth, (32, 96)).astype(np.float32)
    count = np.full(values.shape, 10000, np.int32)
    with untouched(values, count):
        found = channel_offsets(values, count)
    # Whole periods in the middle: at the ends the second difference has one side only. Of six
    # waves of sixteen the cubic takes a few per cent.
    inner = slice(24, 72)
    ratio = (found * truth)[inner].sum() / (truth**2)[inner].sum()
    assert ratio == pytest.approx(recovered(period), abs=0.03)
    assert recovered(6) > 0.99
    assert recovered(16) == pytest.approx(0.5, abs=0.05)


def test_channel_offsets_of_a_frame_are_taken_out():
    rs = np.random.RandomState(20)
    truth = rs.normal(0, 3, 16)
    image = 500 + airglow(DETECTOR, 4.0) + columns_of(truth)
    frame = pixels(noisy(image, NOISE, rs))
    background, noise, left = fitted(frame, 500.0, config=CHANNELS, sky=FLAT_SKY)
    # A channel's offset is constant, and changes where the detector's channels do.
    steps = np.flatnonzero(np.diff(background.columns)) + 1
    np.testing.assert_array_equal(steps, np.arange(1, 16) * 128 - 4)
    # Columns' means are known to 4 / sqrt(764) = 0.145. Left over are the airglow's slope within a
    # cell's curve (below 0.1) and what is smooth in the offsets: by `recovered` below 4 % in power
    # for offsets that know nothing of each other.
    inner = left[:, 124:-124].mean(axis=0)
    assert inner.std() < np.hypot(0.145, 0.2 * 3)
    assert noise == pytest.approx(NOISE, rel=0.05)
    off = BackgroundConfig(channels=False)
    _, _, without = fitted(frame, 500.0, config=off, sky=FLAT_SKY)
    # The reason for it: a mesh, median-filtered, does not follow offsets of single channels.
    assert without[:, 124:-124].mean(axis=0).std() > 3 * inner.std()


def test_smooth_airglow_is_not_mistaken_for_channels():
    rs = np.random.RandomState(21)
    frame = pixels(noisy(500 + airglow(DETECTOR, 10.0), NOISE, rs))
    background, _, _ = fitted(frame, 500.0, config=CHANNELS, sky=FLAT_SKY)
    # Without offsets: a cell's mean is known to 4 / 128 = 0.03, a channel's median of six cells to
    # 1.25 * 0.03 / sqrt(6) = 0.016. Of the airglow, 40 ADU from edge to edge, no more can be taken
    # than what is no cubic along x (Chebyshev): of 10 sin(2 x + 0.4) a quartic of
    # 10 * 16 / 24 / 8 * sin 0.4 = 0.32 and a quintic of 10 * 32 / 120 / 16 = 0.17.
    assert np.abs(background.columns).max() < 0.32 + 0.17 + 5 * 0.016


@pytest.mark.parametrize("n", [1, 3, 5])
def test_few_channels_cannot_be_told_from_airglow(n):
    assert n < MIN_CHANNELS
    values = np.random.RandomState(n).normal(0, 5, (8, n)).astype(np.float32)
    assert not channel_offsets(values, np.full(values.shape, 9999, np.int32)).any()


def test_cells_that_straddle_channels_have_no_offsets():
    values = np.random.RandomState(0).normal(0, 5, (20, 43)).astype(np.float32)
    count = np.full(values.shape, 9999, np.int32)
    assert not channel_offsets(values, count, BackgroundConfig(mesh_pix=96)).any()


def test_stars_and_empty_cells_do_not_move_a_channel():
    truth = np.where(np.arange(32) % 2, 2.0, -2.0)
    values = np.broadcast_to(truth, (32, 32)).astype(np.float32)
    count = np.full(values.shape, 10000, np.int32)
    clean = channel_offsets(values, count)
    values[4:9, 7] += 100  # a galaxy, in 5 of a channel's 32 cells
    # The fit leaves it out, and the median of 32 does not see five: nothing changes, but that the
    # cubic has five cells less of what is alternately +-2.
    assert np.abs(channel_offsets(values, count) - clean).max() < 0.02
    values[:, 20], count[:, 20] = np.nan, 0  # a channel without any sky
    found = channel_offsets(values, count)
    assert found[20] == 0
    # Beside it the line of neighbours is bent by what the missing one would have held up: 2 / 6,
    # its share in the second difference's square.
    assert np.abs(found - clean)[np.arange(32) != 20].max() < 2 / 6


# ---------------------------------------------------------------- rows


def rows_case(rs, offsets=0.0, shape=DETECTOR):
    """A frame whose rows have offsets; and its background."""
    image = 500 + airglow(shape, 4.0) + np.reshape(offsets, (-1, 1))
    frame = pixels(noisy(image, NOISE, rs))
    return fitted(frame, 500.0, config=CHANNELS, sky=np.ones(shape))


@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_row_offsets_are_recovered(sigma):
    rs = np.random.RandomState(30)
    truth = rs.normal(0, sigma, DETECTOR[0])
    background, _, left = rows_case(rs, truth)
    # A row's mean is known to 4 / sqrt(2044) = 0.088; shrunk by s^2 / (s^2 + e^2) the error is
    # less. From row to row: what is smooth over rows the mesh has its part of.
    error = 0.088 * sigma / np.hypot(sigma, 0.088)
    off = np.diff(background.rows - truth) / np.sqrt(2)
    # A standard deviation of 763 differences is known to 1 / sqrt(763) = 3.6 %; three of them.
    assert off.std() == pytest.approx(error, rel=0.11)
    assert left.mean(axis=1).std() < 1.11 * 0.088


@pytest.mark.parametrize("seed", range(12))
def test_without_row_offsets_next_to_nothing_is_taken_out(seed):
    background, _, _ = rows_case(np.random.RandomState(seed))
    # The rows' variance from the median of 763 differences is known to 9 %. The limit of 10 % is
    # made for 4000 rows; of this window's frames one in seven goes beyond it, and then three sigma,
    # 27 % of excess, shrink the rows' error of 4 / sqrt(2044) = 0.088 to 0.27 / 1.27 of it.
    assert background.rows.std() < 0.088 * 0.27 / 1.27


def test_a_full_size_chip_without_row_offsets_gets_exactly_none():
    rs = np.random.RandomState(31)
    ny, gx, n, noise = 4088, 32, 120, 4.0
    count = np.full((ny, gx), n, np.int32)
    sums = rs.normal(0, noise * np.sqrt(n), (ny, gx)).astype(np.float32)
    with untouched(sums, count):
        assert not row_offsets(sums, count, noise).any()
    truth = rs.normal(0, 0.2, ny)
    found = row_offsets((sums + n * truth[:, None]).astype(np.float32), count, noise)
    error = noise / np.sqrt(n * gx)
    # The best linear estimate: variance s^2 e^2 / (s^2 + e^2).
    best = 0.2 * error / np.hypot(0.2, error)
    assert (found - truth).std() == pytest.approx(best, rel=0.05)


def test_rows_without_sky_get_no_offset():
    rs = np.random.RandomState(32)
    count = np.full((400, 4), 500, np.int32)
    sums = rs.normal(0, 4 * np.sqrt(500), (400, 4)).astype(np.float32)
    sums += 500 * rs.normal(0, 3, (400, 1))
    count[100:140], sums[100:140] = 0, 0
    found = row_offsets(sums, count, 4.0)
    assert not found[100:140].any()
    assert found[:100].std() > 2
    assert not row_offsets(sums[:90], count[:90], 4.0).any()  # too few to know their scatter


# ---------------------------------------------------------------- flux


def test_flux_of_stars_and_of_a_galaxy_is_not_eaten():
    rs = np.random.RandomState(40)
    x, y = lattice(DETECTOR, 110, 30, rs)
    alone = np.hypot(x - 900, y - 380) > 90
    x, y = x[alone], y[alone]
    stars = star_image(DETECTOR, x, y, 20000.0, 3.0)
    yy, xx = np.mgrid[: DETECTOR[0], : DETECTOR[1]]
    radius = np.hypot(xx - 900.0, yy - 380.0)
    galaxy = 60 * np.exp(-radius / 10.0)  # of 3.7e4 ADU, 30" across where it is 3 ADU
    image = 500 + airglow(DETECTOR, 4.0) + columns_of(rs.normal(0, 1, 16)) + stars + galaxy
    image += rs.normal(0, 0.3, (DETECTOR[0], 1))
    frame = pixels(noisy(image, NOISE, rs))
    hide = stars + galaxy > 0.1 * NOISE
    background, _, left = fitted(frame, 500.0, mask_of(hide), CHANNELS, FLAT_SKY)
    assert background.columns.any()
    assert background.rows.any()
    near = radius < 60
    total = left[near].sum()
    # 11000 pixels of noise 4: 420 ADU. Of the light outside of the mask (below 0.4 ADU, some 900
    # ADU) the cells take a part; the offset of its channel, known from the cells above and below,
    # is known to 0.05: 560.
    assert total == pytest.approx(galaxy[near].sum(), abs=3 * 420 + 900 + 560)
    # Stars: 100 apertures of 113 pixels of noise 4 (42 ADU), their mean is known to 4; the
    # background to 0.05 ADU: 6. Of 20000 that is 0.04 %.
    inside = (x > 10) & (x < DETECTOR[1] - 10) & (y > 10) & (y < DETECTOR[0] - 10)
    flux = [
        left[(xx - a) ** 2 + (yy - b) ** 2 < 36].sum()
        for a, b in zip(x[inside], y[inside], strict=True)
    ]
    assert np.mean(flux) == pytest.approx(20000, abs=4 * 4 + 6)
