"""What is not the sky's: saturated cores, trails, cosmic rays, afterglow; found, and not invented."""

import numpy as np
import pytest
from scipy import ndimage

from photometrus.frame import Bad, Marks
from photometrus.stages.artifacts import (
    ArtifactsConfig,
    Compared,
    find_artifacts,
    find_cores,
    find_trails,
    fit_afterglow,
    grow_cores,
    persistence,
    without_hot,
)
from photometrus.stages.coadd import CoaddConfig, Layer
from photometrus.stages.masks import find_stars, shallow_stack
from photometrus.wcs import pixel_to_sky, pointing_wcs, shifted, sky_to_pixel
from synth import AXIS, lattice, noisy, star_image, untouched

NOISE = 5.0
CONFIG = ArtifactsConfig()
NO_CORES = np.empty(0, np.int64)


def moffat(shape, x, y, peak, fwhm, beta=3.0):
    """A star with real wings, sampled at the pixels' centres."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    scale = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    return peak * (1 + ((xx - x) ** 2 + (yy - y) ** 2) / scale**2) ** -beta


def image_of(index, shape):
    """A bool image that is set at flat indices."""
    out = np.zeros(shape, bool)
    out.reshape(-1)[index] = True
    return out


# ---------------------------------------------------------------- saturated cores

CROSS = ndimage.generate_binary_structure(2, 1)
BOX = (80, 90)


@pytest.mark.parametrize("peak", [6e4, 3e5, 3e6])
def test_cores_of_unsolved_pixels_are_found(peak):
    rs = np.random.RandomState(0)
    star = moffat(BOX, 44.3, 39.6, peak, 3.0)
    # The plateau, and the four neighbours that its charge spills into.
    unsolved = ndimage.binary_dilation(star > 20000, CROSS)
    data = noisy(np.where(unsolved, 0, star), NOISE, rs)
    bad = unsolved.astype(np.uint8) * Bad.UNSOLVED
    for y, x in ((10, 10), (10, 11), (70, 80), (45, 12)):  # dead ramps here and there
        bad[y, x], data[y, x] = Bad.UNSOLVED, 0
    with untouched(data, bad):
        found = find_cores(data, bad, NOISE)
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(image_of(found, BOX), unsolved)


def test_many_dead_ramps_without_a_star_are_no_core():
    data = noisy(np.zeros(BOX), NOISE, np.random.RandomState(1))
    bad = np.zeros(BOX, np.uint8)
    bad[30:36, 40:46] = Bad.UNSOLVED
    assert find_cores(data, bad, NOISE).size == 0


@pytest.mark.parametrize("peak", [6e4, 3e5, 3e6])
@pytest.mark.parametrize("collapsed", [False, True])
def test_flat_tops_are_found_with_what_is_inside(peak, collapsed):
    rs = np.random.RandomState(2)
    star = moffat(BOX, 44.3, 39.6, peak, 3.0)
    top = star > 15000
    data = np.minimum(star, 15000) * np.where(top, rs.normal(1, 0.03, BOX), 1)
    middle = star > 6 * 15000
    if collapsed:  # it saturated before the second read: its slope may be anything
        data[middle] = rs.uniform(-50, 3000, np.count_nonzero(middle))
    data = noisy(data, NOISE, rs)
    core = image_of(find_cores(data, np.zeros(BOX, np.uint8), NOISE), BOX)
    assert core[top].all()
    # What is above 0.85 of a pixel of the top (3 % more or less) hangs on to it, nothing beyond.
    assert not core[star < 0.85 * 0.9 * 15000].any()


@pytest.mark.parametrize("fwhm", [2.5, 3.0, 4.0, 5.0, 6.0])
@pytest.mark.parametrize("kind", ["gauss", "moffat"])
def test_an_unsaturated_star_has_no_core(fwhm, kind):
    rs = np.random.RandomState(int(10 * fwhm))
    empty = np.zeros((40, 40), np.uint8)
    for x, y in rs.uniform(19, 20, (60, 2)):
        if kind == "gauss":
            star = star_image((40, 40), [x], [y], 30000 * fwhm**2, fwhm)
        else:
            star = moffat((40, 40), x, y, 26000, fwhm, 2.5)
        assert star.max() > 200 * CONFIG.core_sigma
        # Photon noise of 30000 ADU is below 1 % of it.
        data = noisy(star * rs.normal(1, 0.005, star.shape), NOISE, rs)
        assert find_cores(data, empty, NOISE).size == 0, (x, y)


@pytest.mark.parametrize("scale", [3.0, 6.0, 10.0, 20.0])
@pytest.mark.parametrize("height", [900.0, 20000.0])
def test_a_bright_galaxy_has_no_core(scale, height):
    yy, xx = np.mgrid[:160, :170]
    radius = np.hypot((xx - 81.3) / 1.0, (yy - 78.6) / 0.7)
    galaxy = ndimage.gaussian_filter(height * np.exp(-radius / scale), 1.3)
    data = noisy(galaxy, NOISE, np.random.RandomState(3))
    assert find_cores(data, np.zeros(data.shape, np.uint8), NOISE).size == 0


def test_cores_grow_and_stay_in_the_frame():
    bad = np.zeros((9, 10), np.uint8)
    bad[4, 5] = Bad.HOT
    grow_cores(bad, np.array([4 * 10 + 5, 0]), 2)
    yy, xx = np.mgrid[:9, :10]
    want = ((yy - 4) ** 2 + (xx - 5) ** 2 <= 5) | (yy**2 + xx**2 <= 5)
    np.testing.assert_array_equal(bad & Bad.SATURATED != 0, want)
    assert bad[4, 5] == Bad.SATURATED | Bad.HOT
