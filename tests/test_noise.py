"""The noise: weights made true, sums in empty places, limits."""

from dataclasses import replace

import numpy as np
import pytest

from photometrus.stages.detection import detect
from photometrus.stages.noise import measure_noise, true_weights
from stacks import SIGMA, lattice, moffat, sky_noise, star_stack
from synth import untouched


@pytest.fixture(scope="module")
def field():
    rs = np.random.RandomState(31)
    shape = (1000, 1000)
    x, y = lattice(shape, 90, rs)
    stack = star_stack(shape, x, y, np.exp(rs.uniform(5, 10, x.size)), rs)
    # The right half was seen by a quarter of the frames.
    stack.data[:, 500:] += np.sqrt(3.0) * sky_noise((1000, 500), rs).astype(np.float32)
    stack.weight[:, 500:] /= 4
    return stack


def ratio(stack, truth):
    seen = np.s_[100:-100:7, 100:400:7], np.s_[100:-100:7, 600:-100:7]
    return [float(np.median(stack.weight[part] / truth.weight[part])) for part in seen]


def test_absolute_weights_are_kept(field):
    with untouched(field.data, field.weight):
        assert true_weights(field).weight is field.weight


def test_relative_weights_are_scaled(field):
    scaled = true_weights(replace(field, weight=field.weight * np.float32(1e4)))
    # 4000 places know the scatter to 1.3 % (MAD), the weight to 2.6 %; the noise of small circles
    # is that of the weights to some per cent (interpolation).
    assert ratio(scaled, field) == pytest.approx([1, 1], abs=0.25)


def test_without_a_weight_map_the_noise_itself_makes_one(field):
    made = true_weights(replace(field, weight=np.ones_like(field.weight)))
    left, right = ratio(made, field)
    assert [left, right] == pytest.approx([1, 1], abs=0.25)
    assert left / right == pytest.approx(1, abs=0.1)


def test_sums_scatter_as_the_noise_says(field):
    found = detect(field)
    noise = measure_noise(found)
    # NOISECOR = 1: wide sums scatter as independent pixels, small ones by less (each axis 0.89).
    assert 0.7 < noise.factors[0] < noise.factors[3]
    assert noise.factors[2:5] == pytest.approx([1, 1, 1], abs=0.12)
    assert abs(noise.level) < 0.05
    x, y = np.array([250.0, 750.0]), np.array([500.0, 500.0])
    assert noise.variance(x, y, 5.0) == pytest.approx([SIGMA**2, 4 * SIGMA**2], rel=0.01)


def test_limits_are_five_times_the_noise_where_they_are(field):
    noise = measure_noise(detect(field))
    psf = moffat(0, 0, 25)
    area = 1 / np.sum((psf / psf.sum()) ** 2)
    x, y = np.array([250.0, 750.0, -50.0]), np.array([500.0, 500.0, 500.0])
    five, three = (noise.psf_limit(x, y, n, area) for n in (5.0, 3.0))
    assert five[:2] == pytest.approx(5 * SIGMA * np.sqrt(area) * np.array([1, 2]), rel=0.1)
    assert three[:2] == pytest.approx(0.6 * five[:2])
    assert np.isinf(five[2])
    # The best aperture of a Gaussian star has 0.9 of the PSF's S/N; correlated pixels, which small
    # circles gain by, and the wings of a Moffat star bring both together.
    aperture = noise.aperture_limit(x, y, 5.0, 2.5, 0.59)[:2]
    assert aperture == pytest.approx(five[:2] / 0.95, rel=0.1)
    lx, ly = noise.lattice()
    assert lx.size > 200
    assert noise.psf_limit(lx, ly, 5.0, area).max() < 3 * five[0]
