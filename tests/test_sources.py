"""Stars of one frame: found, measured, and nothing else taken for a star."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from photometrus.instrument import GAIN_E_PER_ADU
from photometrus.stages.sources import EXTENDED, SourcesConfig, find_sources, seeing_and_ellipticity
from synth import lattice, noisy, sources, star_image, untouched

SHAPE = (420, 500)
NOISE = 5.0


def find(data, bad=None, noise=NOISE, reads=22, config=SourcesConfig()):
    bad = np.zeros(data.shape, np.uint8) if bad is None else bad
    with untouched(data, bad):
        return find_sources(data, bad, noise, reads, config)


def pair(table, x, y, radius=1.0):
    """Rows of the table that are stars, and which; every star at most once."""
    stars = cKDTree(np.stack([x, y], axis=1))
    distance, star = stars.query(np.stack([table["x"], table["y"]], axis=1))
    near = distance < radius
    assert len(set(star[near])) == near.sum()
    return near, star[near]


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 4.5])
def test_every_bright_star_is_found_where_it_is(fwhm):
    rs = np.random.RandomState(0)
    x, y = lattice(SHAPE, 32, 15, rs)
    flux = 10 ** rs.uniform(3.3, 5, x.size)
    truth = star_image(SHAPE, x, y, flux, fwhm)
    photons = truth / (GAIN_E_PER_ADU * 21)
    table = find((truth + rs.normal(0, np.sqrt(NOISE**2 + photons))).astype(np.float32))
    near, star = pair(table, x, y)
    assert near.sum() == x.size  # all of them at 20 sigma or more
    # A peak of 5 sigma in a filtered image of 20000 independent places: 0.006 by chance.
    assert (~near).sum() <= 1
    found = table[near]
    # Below 2.4 pixels a Gaussian is undersampled: its centroid depends on where in the pixel it is,
    # 0.003 pixels rms at 2.0 in the window that is taken there.
    error = np.hypot(found["x_err"], 0.003 if fwhm < 2.4 else 0)
    pull = np.concatenate([found["x"] - x[star], found["y"] - y[star]]) / np.tile(error, 2)
    # Errors per axis from 2 n pulls: known to 1 / sqrt(4 n) = 3.4 %.
    assert pull.std() == pytest.approx(1, abs=5 * 0.034 + 0.02)
    off = (found["flux"] - flux[star]) / found["flux_err"]
    assert abs(np.median(off)) < 5 * 1.25 / np.sqrt(off.size)
    # Median FWHM: pixels widen a Gaussian, 1/12 pixel**2 in sigma**2.
    want = 2.3548 * np.sqrt((fwhm / 2.3548) ** 2 + 1 / 12)
    assert seeing_and_ellipticity(table)[0] == pytest.approx(want, rel=0.02)
    assert (np.diff(table["flux"]) <= 0).all()
    assert (table["flags"] == 0).all()


def test_the_photon_noise_is_that_of_the_whole_ramp():
    rs = np.random.RandomState(1)
    x, y = lattice(SHAPE, 32, 15, rs)
    truth = star_image(SHAPE, x, y, 3e5, 3.0)
    reads = 11
    gain = GAIN_E_PER_ADU * (reads - 1)
    data = (truth + rs.normal(0, np.sqrt(NOISE**2 + truth / gain))).astype(np.float32)
    table = find(data, reads=reads)
    near, _ = pair(table, x, y)
    scatter = (table["flux"][near] - 3e5).std()
    # From n values: 1 / sqrt(2 n) = 5 %.
    assert scatter / np.median(table["flux_err"][near]) == pytest.approx(1, abs=5 * 0.05)


def test_noise_alone_has_no_stars():
    rs = np.random.RandomState(2)
    table = find(noisy(np.zeros((600, 600)), NOISE, rs))
    assert len(table) <= 1
    assert set(table.colnames) == set(sources([1.0], [1.0]).colnames)


@pytest.mark.parametrize("value", [0.0, 100.0, -3.0])
def test_a_constant_frame_has_no_stars(value):
    assert len(find(np.full((64, 64), value, np.float32))) == 0


def test_hot_pixels_and_cosmic_rays_are_no_stars():
    rs = np.random.RandomState(3)
    x, y = lattice(SHAPE, 40, 20, rs)
    image = star_image(SHAPE, x, y, 20000, 3.5)
    hits = rs.uniform(12, 400, (60, 2)).astype(int)
    far = cKDTree(np.stack([x, y], axis=1)).query(hits[:, ::-1])[0] > 10
    for row, column in hits[far]:
        image[row, column] += 5000
    table = find(noisy(image, NOISE, rs))
    near, _ = pair(table, x, y)
    assert near.sum() == x.size
    assert (~near).sum() <= 1


def test_stars_on_bad_pixels_are_flagged():
    x, y = np.array([50.0, 150.0, 250.0, 60, 160, 260]), np.array([50.0] * 3 + [150.0] * 3)
    rs = np.random.RandomState(4)
    data = noisy(star_image(SHAPE, x, y, 1e5, 3.0), NOISE, rs)
    bad = np.zeros(SHAPE, np.uint8)
    bad[49:52, 149:152] = 4  # a saturated core
    bad[50, 255] = 1  # far out in the wing of the third
    table = find(data, bad)
    near, star = pair(table, x, y)
    flags = dict(zip(star, table["flags"][near], strict=True))
    assert [flags[k] for k in range(6)] == [0, 1, 0, 0, 0, 0]


def test_too_many_sources_lose_the_faint_ones_and_not_a_part_of_the_frame():
    rs = np.random.RandomState(5)
    x, y = lattice(SHAPE, 20, 12, rs)
    flux = 10 ** rs.uniform(3.3, 5, x.size)
    data = noisy(star_image(SHAPE, x, y, flux, 3.0), NOISE, rs)
    config = SourcesConfig(max_sources=x.size // 2)
    table = find(data, config=config)
    assert 0.3 * x.size < len(table) <= config.max_sources
    near, star = pair(table, x, y)
    # The brightest third is all there, at every height.
    third = np.argsort(-flux)[: x.size // 3]
    assert set(third) <= set(star)


def test_a_trailed_frame_is_elliptical_and_a_round_one_is_not():
    rs = np.random.RandomState(6)
    x, y = lattice(SHAPE, 32, 20, rs)
    steps = np.linspace(-1.6, 1.6, 13)
    trailed = sum(star_image(SHAPE, x + s, y + 0.5 * s, 1e5 / 13, 3.0) for s in steps)
    _, long = seeing_and_ellipticity(find(noisy(trailed, NOISE, rs)))
    _, round_ = seeing_and_ellipticity(find(noisy(star_image(SHAPE, x, y, 1e5, 3.0), NOISE, rs)))
    # The trail: variance 1.12 * 3.2**2 / 12 * 14 / 12 = 1.2 more along it than across, where it is
    # 1.27**2 + 1/12 = 1.7: 1 - sqrt(1.7 / 2.9) = 0.23 were it a Gaussian; its flat top
    # looks a sixth longer through the window.
    assert long == pytest.approx(0.27, abs=0.04)
    assert round_ < 0.02


def test_a_frame_of_trails_keeps_its_stars():
    rs = np.random.RandomState(6)
    x, y = lattice(SHAPE, 40, 20, rs)
    steps = np.linspace(-6, 6, 25)
    image = sum(star_image(SHAPE, x + s, y, 2e5 / 25, 2.5) for s in steps)
    table = find(noisy(image, NOISE, rs))
    near, _ = pair(table, x, y, radius=4.0)
    assert near.sum() > 0.9 * x.size
    assert (table["flags"][near] == 0).mean() > 0.9
    assert seeing_and_ellipticity(table[near])[1] > 0.4


def test_a_satellite_trail_and_a_galaxy_are_no_stars():
    rs = np.random.RandomState(8)
    x, y = lattice(SHAPE, 40, 20, rs)
    x, y = x[y < 300], y[y < 300]
    image = star_image(SHAPE, x, y, 20000, 3.0)
    galaxy = np.array([250.0]), np.array([360.0])
    image += star_image(SHAPE, *galaxy, 60000, 9.0)
    for s in np.arange(0, 500, 0.5):
        image += star_image(SHAPE, [s], [400 + 0.02 * s], 500, 2.5)
    table = find(noisy(image, NOISE, rs))
    high = table["y"] > 330
    assert high.sum() > 3
    assert (table["flags"][high] & EXTENDED != 0).mean() > 0.9
    assert (table["flags"][~high] == 0).mean() > 0.97


def test_ellipses_that_point_anywhere_are_no_trail():
    rs = np.random.RandomState(7)
    table = sources(np.arange(400.0), np.arange(400.0))
    table["ellipticity"] = 0.4
    table["angle_deg"] = rs.uniform(-90, 90, 400)
    # Median of 400 values of 0.4 cos(2t), which is flat around 0: error about 0.03.
    assert seeing_and_ellipticity(table)[1] < 0.15
    assert np.isnan(seeing_and_ellipticity(table[:0])).all()
