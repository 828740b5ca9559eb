"""The star mask: what is hidden, what is not, and how a frame sees it."""

import numpy as np
import pytest

from photometrus.stages.coadd import CoaddConfig, Layer
from photometrus.stages.masks import MaskConfig, StarMask, find_stars, shallow_stack
from photometrus.wcs import pixel_to_sky, pointing_wcs, shifted, sky_to_pixel
from photometrus.workers import threads
from synth import AXIS, lattice, noisy, star_image, untouched

SHAPE = (380, 420)
NOISE = 5.0


def layer(image, wcs, bad=None, factor=1.0):
    bad = np.zeros(image.shape, np.uint8) if bad is None else bad
    inverse = np.full(image.shape, 1 / NOISE**2, np.float32)

    def rows(y0, y1):
        return image[y0:y1].copy(), bad[y0:y1].copy(), inverse[y0:y1].copy()

    return Layer(rows, image.shape, wcs, factor)


def scene(n=5, flux=20000.0, seed=0, spacing=45, factors=None):
    """Layers of dithered frames of the same stars; stars' ra, dec; each frame's WCS and x, y."""
    rs = np.random.RandomState(seed)
    base = pointing_wcs(1, AXIS, 48.0)
    x, y = lattice(SHAPE, spacing, 40, rs)
    ra, dec = pixel_to_sky(base, x, y)
    layers, places = [], []
    for k in range(n):
        wcs = shifted(base, *(rs.uniform(-8, 8, 2) if k else (0, 0)))
        px, py = sky_to_pixel(wcs, ra, dec)
        factor = 1.0 if factors is None else factors[k]
        image = noisy(star_image(SHAPE, px, py, flux * factor, 3.2), NOISE, rs)
        layers.append(layer(image, wcs, factor=1 / factor))
        places.append((px, py))
    return layers, places


def test_the_shallow_stack_is_the_mean_and_its_weight_the_inverse_variance():
    layers, places = scene(6)
    shallow = shallow_stack(layers, CoaddConfig())
    mean, weight, grid = shallow.mean, shallow.weight, shallow.grid
    assert grid.wcs.pixel_scale_matrix[1, 1] * 3600 == pytest.approx(2 * 0.497)
    ra, dec = pixel_to_sky(layers[0].wcs, *places[0])
    gx, gy = sky_to_pixel(grid.wcs, ra, dec)
    sky = np.ones(mean.shape, bool)
    yy, xx = np.mgrid[: mean.shape[0], : mean.shape[1]]
    for x, y in zip(gx, gy, strict=True):
        sky &= (xx - x) ** 2 + (yy - y) ** 2 > 9**2
        peak = mean[max(0, round(y) - 1) : round(y) + 2, max(0, round(x) - 1) : round(x) + 2].max()
        # Peak of a star of 20000 and FWHM 3.2: 1720 in its centre; the mean of the four nearest
        # pixels, in six dithers, is 0.6 to 0.95 of that.
        assert 0.5 * 1720 < peak < 1720
    deep = sky & (weight > 0.9 * weight.max())
    pull = (mean * np.sqrt(weight))[deep]
    # Six frames of four pixels: the mean is theirs; neighbours share pixels, which does not
    # change the scatter. 8000 values or more: 0.8 %.
    assert pull.size > 5000
    assert pull.std() == pytest.approx(1, abs=0.05)
    assert abs(pull.mean()) < 0.1
    assert weight.max() == pytest.approx(6 * 4 / NOISE**2, rel=1e-4)


def test_bad_pixels_and_flux_factors_are_taken_into_account():
    factors = [1.0, 0.5, 1.0, 0.7]
    layers, places = scene(4, factors=factors)
    plain = shallow_stack(layers, CoaddConfig())
    # A frame of transparency 0.5 is doubled: its variance is four times as large.
    assert plain.weight.max() == pytest.approx(4 * sum(f**2 for f in factors) / NOISE**2, rel=1e-4)
    bad = np.ones(SHAPE, np.uint8)
    dark, bright = (
        shallow_stack([*layers, layer(np.full(SHAPE, v, np.float32), layers[0].wcs, bad)],
                      CoaddConfig()) for v in (0, 1e6)
    )  # fmt: skip
    np.testing.assert_array_equal(dark.mean, bright.mean)
    np.testing.assert_array_equal(dark.weight, bright.weight)
    # With one layer more the grid's centre is another in the last digit: a position that lies on
    # the edge of a pixel may fall to its other side.
    assert (bright.mean != plain.mean).mean() < 1e-3


def test_threads_do_not_change_a_bit():
    layers, _ = scene(4)
    one = shallow_stack(layers, CoaddConfig())
    with threads(3) as each:
        two = shallow_stack(layers, CoaddConfig(), each=each)
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.weight, two.weight)


def test_known_stars_are_hidden_in_every_frame():
    layers, places = scene(5)
    shallow = shallow_stack(layers, CoaddConfig())
    with untouched(shallow.mean, shallow.weight):
        found = find_stars(shallow)
    assert set(np.unique(found.mask)) == {0, 1}
    hidden = 0
    for one, (x, y) in zip(layers, places, strict=True):
        rows = found.seen_by(one.wcs, SHAPE)
        mask = rows(0, SHAPE[0])
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(rows(100, 133), mask[100:133])
        for px, py in zip(x, y, strict=True):
            if 5 < px < SHAPE[1] - 5 and 5 < py < SHAPE[0] - 5:
                # The whole core, out to 2 FWHM where 20000 ADU leave 0.03 of a sigma.
                yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
                core = (xx - px) ** 2 + (yy - py) ** 2 < 4.5**2
                assert mask[core].all(), (px, py)
                hidden += 1
    assert hidden > 150
    # Stars of 300 sigma every 45 pixels: their halos are hidden to a radius of 20 pixels or so.
    assert 0.05 < found.fraction <= MaskConfig().max_fraction


def test_an_empty_field_is_hardly_hidden():
    rs = np.random.RandomState(1)
    base = pointing_wcs(1, AXIS, 48.0)
    layers = [
        layer(noisy(np.zeros(SHAPE), NOISE, rs), shifted(base, *rs.uniform(-8, 8, 2)))
        for _ in range(5)
    ]
    found = find_stars(shallow_stack(layers, CoaddConfig()))
    # 2.5 sigma of a Gaussian: 0.6 % of the pixels, grown by 2 (25 pixels, clumped): below 15 %.
    assert found.fraction < 0.15


def test_a_crowded_field_is_not_hidden_beyond_the_cap():
    layers, _ = scene(3, spacing=9, flux=30000)
    stack = shallow_stack(layers, CoaddConfig())
    for cap in (0.6, 0.3):
        found = find_stars(stack, MaskConfig(max_fraction=cap))
        assert 0.02 < found.fraction <= cap
        assert found.mask[stack.weight > 0].mean() == pytest.approx(found.fraction)


def test_outside_the_mask_nothing_is_hidden():
    layers, _ = scene(2)
    grid = shallow_stack(layers, CoaddConfig()).grid
    everything = StarMask(np.ones(grid.shape, np.uint8), grid, 1.0)
    away = shifted(layers[0].wcs, 3600.0, 0.0)
    assert not everything.seen_by(away, SHAPE)(0, SHAPE[0]).any()
    assert everything.seen_by(layers[0].wcs, SHAPE)(0, SHAPE[0]).all()
