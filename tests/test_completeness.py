"""Injected stars: how many come back, with which flux, and where the limit is."""

from dataclasses import replace

import numpy as np
import pytest

from photometrus.errors import UsageError
from photometrus.stages.apertures import aperture_radii, measure_apertures
from photometrus.stages.completeness import CompletenessConfig, inject
from photometrus.stages.detection import DetectionConfig, detect
from photometrus.stages.growth import growth_curve
from photometrus.stages.noise import measure_noise
from stacks import FWHM, lattice, moffat, star_stack
from synth import untouched


class Star:
    fwhm_pix = FWHM

    def stamp(self, x, y, half):
        return moffat(x, y, half).astype(np.float32)


@pytest.fixture(scope="module")
def field():
    rs = np.random.RandomState(41)
    shape = (1300, 1300)
    x, y = lattice(shape, 90, rs)
    stack = star_stack(shape, x, y, np.exp(rs.uniform(5, 10, x.size)), rs)
    found = detect(stack)
    growth = growth_curve(found, tuple(aperture_radii(stack)))
    noise = measure_noise(found)

    def measure(tile, corner):
        there = detect(tile, DetectionConfig(fwhm_pix=found.fwhm_pix))
        table = measure_apertures(replace(there, corner=corner), growth, noise)
        table["flux"], table["flux_err"] = table["flux_aper"], table["flux_aper_err"]
        return table

    x, y = noise.lattice()
    radius = aperture_radii(stack)[2]
    limits = noise.aperture_limit(x, y, 5.0, radius, growth.fraction(x, y, radius)[0])
    return stack, measure(stack, (0, 0)), measure, float(np.median(limits))


@pytest.fixture(scope="module")
def result(field):
    stack, known, measure, limit = field
    config = CompletenessConfig(tile_pix=620, spacing_fwhm=9.0)
    with untouched(stack.data, stack.weight):
        return inject(stack, known, Star(), limit, measure, config)


def test_half_of_the_stars_at_the_limit_are_recovered(field, result):
    limit = field[3]
    # Some 1000 stars; the fit's own error is 1 % of the limit, real stars hide 4 %.
    assert result.injected.sum() > 800
    assert result.half_flux == pytest.approx(limit, rel=0.07)
    assert 0 < result.half_flux_err < 0.05 * limit
    at = np.isclose(result.fluxes, limit)
    n = result.injected[at][0]
    assert abs(result.fraction[at][0] - 0.5) < 0.05 + 3 * 0.5 / np.sqrt(n)


def test_detection_reaches_beyond_the_limit(result):
    # Found, at whatever S/N: asked are 80 % at the limit.
    at = np.isclose(result.stars["flux_in"], result.fluxes[4])
    assert np.mean(result.stars["found"][at]) > 0.8
    assert result.fraction[-1] > 0.93
    assert result.fraction[0] < 0.05
    assert result.reached > 0.9


def test_fluxes_and_errors_are_true(result):
    # From 10 sigma: no star is lost, and the best of several noise peaks is not taken.
    bright = result.fluxes > 1.9 * result.fluxes[4]
    assert (np.abs(result.bias[bright]) < 0.3 + 3 * result.bias_err[bright]).all()
    assert (np.abs(result.pull_width[bright] - 1) < 0.3).all()


def test_the_same_seed_gives_the_same_stars(field):
    stack, known, measure, limit = field
    few = CompletenessConfig(tile_pix=300, stars=20)
    one, two = (inject(stack, known, Star(), limit, measure, few) for _ in range(2))
    assert np.array_equal(one.stars["flux"], two.stars["flux"])


def test_without_weights_nothing_is_injected(field):
    stack, known, measure, limit = field
    with pytest.raises(UsageError, match="no tile of it has weights"):
        inject(replace(stack, weight=np.zeros_like(stack.weight)), known, Star(), limit, measure)
