"""PSF photometry of fields whose truth is known, and of a real image with a published catalogue."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from photometrus.groups import batches, friends
from photometrus.kernels.detect import measure_peaks, peaks, smooth
from photometrus.stages.hiddenstars import beside_stars, find_hidden
from photometrus.stages.psf import fit_psf
from photometrus.stages.psfphotometry import (
    force_psf,
    measure_psf,
    psf_noise_factor,
    subtract_stars,
)
from photometrus.workers import threads
from starfield import GAIN, SKY, draw, enclosed, field
from synth import untouched


def spread(values):
    """1.4826 MAD."""
    return 1.4826 * np.median(np.abs(values - np.median(values)))


@pytest.fixture(scope="module")
def stars():
    return field(11, size=800, bright=144, faint=450)


@pytest.fixture(scope="module")
def psf(stars):
    return fit_psf(stars.data, stars.weight, stars.flags, stars.sources, np.nan)


@pytest.fixture(scope="module")
def table(stars, psf):
    with untouched(stars.data, stars.weight):
        return measure_psf(stars.data, stars.weight, stars.sources, psf, GAIN)


def truth_of(stars, psf):
    """The fluxes within the reference radius, to which the PSF sums."""
    return stars.flux * enclosed(psf.reference_pix, 3.6)


def test_bright_stars_are_exact(stars, psf, table):
    truth = truth_of(stars, psf)
    magnitude = 2.5 * np.log10(table["flux_psf"] / truth)
    bright = truth > 3e4  # S/N 300 and more
    assert np.count_nonzero(bright) > 40
    # 0.3 % of noise at most; the enclosed part varies by +-0.1 % with the FWHM.
    assert magnitude[bright].std() < 0.005
    # The wings' normalisation, from 100 stars: see docs/algorithms.md.
    assert abs(np.median(magnitude[bright])) < 0.004


@pytest.mark.parametrize(("low", "high"), [(5, 20), (20, 100), (100, 400)])
def test_errors_are_true_and_fluxes_unbiased(stars, psf, table, low, high):
    truth = truth_of(stars, psf)
    snr = truth / table["flux_psf_err"]
    here = (snr > low) & (snr < high)
    n = np.count_nonzero(here)
    assert n > 40
    pull = (table["flux_psf"] - truth)[here] / table["flux_psf_err"][here]
    # A width of n draws is known to 1 / sqrt(2 n), by MAD to 1.6 times that; 3 sigma. Above
    # S/N 100 the PSF's own error comes in.
    assert spread(pull) == pytest.approx(1, abs=0.1 + 3 * 1.6 / np.sqrt(2 * n))
    # A free position makes fluxes brighter by 1 / SNR^2, 0.1 sigma at most.
    assert abs(np.median(pull)) < 0.2 + 3 * 1.25 / np.sqrt(n)


def test_positions_and_chi2(stars, table):
    bright = stars.flux > 1e4
    # 0.4 FWHM / SNR = 0.014 pix where S/N is 100: what the detection was off by comes back.
    off = np.hypot(table["psf_dx"], table["psf_dy"])
    assert np.median(off[bright]) < 0.03
    assert np.median(table["psf_chi2"]) == pytest.approx(1, abs=0.1)


def test_stars_are_stars_and_galaxies_are_not(stars, psf):
    data = stars.data.copy()
    rs = np.random.RandomState(6)
    where = rs.uniform(40, 760, (25, 2))
    for x, y in where:
        draw(data, x, y, 8000.0, stars.size, wider=1.25)
    galaxies = Table({"x": where[:, 0], "y": where[:, 1], "flags": np.zeros(25, int)})
    sources = Table({n: np.r_[stars.sources[n], galaxies[n]] for n in ("x", "y", "flags")})
    table = measure_psf(data, stars.weight, sources, psf, GAIN)
    n = len(stars.sources)
    clear = np.r_[truth_of(stars, psf) / table["flux_psf_err"][:n] > 30]
    near = cKDTree(where).query(np.stack([stars.sources["x"], stars.sources["y"]], axis=1))[0]
    assert np.mean(table["stellarity"][:n][clear & (near > 12)] > 0.5) > 0.97
    assert np.mean(table["stellarity"][n:] < 0.5) > 0.9
    assert np.median(table["spread"][n:]) > 5 * np.median(table["spread_err"][n:])


def test_blended_stars_share_their_light_rightly(psf):
    rs = np.random.RandomState(9)
    size, n = 800, 60
    x, y = rs.uniform(30, 770, (2, n))
    angle = rs.uniform(0, 2 * np.pi, n)
    x = np.r_[x, x + 4.0 * np.cos(angle)]  # 1.1 FWHM apart
    y = np.r_[y, y + 4.0 * np.sin(angle)]
    flux = np.r_[np.full(n, 20000.0), np.full(n, 5000.0)]
    data = np.zeros((size, size), np.float32)
    draw(data, x, y, flux, size)
    data += (np.sqrt(SKY**2 + data / GAIN) * rs.standard_normal(data.shape)).astype(np.float32)
    weight = np.full(data.shape, 1 / SKY**2, np.float32)
    sources = Table({"x": x, "y": y, "flags": np.zeros(2 * n, int)})
    table = measure_psf(data, weight, sources, psf, GAIN)
    pairs = np.bincount(table["group"])
    assert (pairs >= 2).all()
    ratio = table["flux_psf"] / (flux * enclosed(psf.reference_pix, 3.6))
    # S/N 200 and 60 alone; sharing light costs about a third more.
    assert spread(ratio[:n]) < 0.015 and abs(np.median(ratio[:n]) - 1) < 0.01
    assert spread(ratio[n:]) < 0.04 and abs(np.median(ratio[n:]) - 1) < 0.02
    pull = (ratio - 1) * flux / table["flux_psf_err"]
    assert spread(pull[n:]) == pytest.approx(1, abs=0.5)


def test_stars_in_the_wings_of_others_are_found(stars, psf):
    rs = np.random.RandomState(14)
    bright = np.flatnonzero((stars.flux > 5000) & (stars.flux < 20000))[:40]
    angle = rs.uniform(0, 2 * np.pi, len(bright))
    x = stars.sources["x"][bright] + 5.5 * np.cos(angle)  # 1.5 FWHM
    y = stars.sources["y"][bright] + 5.5 * np.sin(angle)
    inside = (x > 10) & (y > 10) & (x < stars.size - 10) & (y < stars.size - 10)
    x, y = x[inside], y[inside]
    data = stars.data.copy()
    draw(data, x, y, 900.0, stars.size)  # S/N 50 alone
    table = measure_psf(data, stars.weight, stars.sources, psf, GAIN)
    for name in ("x", "y"):
        table[name] = stars.sources[name]
    left = subtract_stars(data, table, psf)
    with untouched(data, left):
        found = find_hidden(data, left, stars.weight, table, psf)
    away = cKDTree(np.stack([found["x"], found["y"]], axis=1)).query(np.stack([x, y], axis=1))[0]
    assert np.mean(away < 1.5) > 0.9
    # And hardly anything else: 5 sigma, 640000 pixels.
    assert len(found) < 1.2 * len(x)
    assert len(find_hidden(data, 0 * data, stars.weight, table, psf)) == 0


def test_in_a_sparse_field_only_neighbours_of_ill_fitting_stars_are_believed(psf):
    known = Table(
        {
            "x": [100.0, 200.0, 300.0, 400.0],
            "y": [100.0, 100.0, 100.0, 100.0],
            "flags": [0, 0, 4, 0],
            "psf_chi2": [80.0, 1.0, 80.0, 80.0],
            "stellarity": [0.9, 0.9, 0.9, 0.1],
        }
    )
    near = 2 * psf.fwhm_pix
    x = np.r_[np.asarray(known["x"]) + near, 100.0 + 5 * psf.fwhm_pix]
    hidden = Table({"x": x, "y": np.full(5, 100.0)})
    # Not beside a good fit, a saturated star, a galaxy, nor far away.
    kept = beside_stars(hidden, known, psf)
    assert list(kept["x"]) == [100.0 + near]
    assert len(beside_stars(hidden[:0], known, psf)) == 0


def test_threads_do_not_change_a_bit(stars, psf, table):
    with threads(3) as each:
        again = measure_psf(stars.data, stars.weight, stars.sources, psf, GAIN, each=each)
    for name in table.colnames:
        assert np.asarray(again[name]).tobytes() == np.asarray(table[name]).tobytes()


def test_what_is_left_is_noise(stars, psf, table):
    sources = Table({"x": stars.sources["x"], "y": stars.sources["y"]})
    for name in ("flux_psf", "psf_dx", "psf_dy"):
        sources[name] = table[name]
    left = subtract_stars(stars.data, sources, psf)
    model = stars.data - left
    faint = (model > 1) & (model < 50)
    assert np.count_nonzero(faint) > 10000
    pull = left[faint] / np.sqrt(SKY**2 + model[faint] / GAIN)
    assert pull.std() == pytest.approx(1, abs=0.05) and abs(pull.mean()) < 0.05
    # White noise: a flux scatters as its formal error says; 2000 draws tell that to 1.6 %.
    factor = psf_noise_factor(left, stars.weight, np.abs(model) > 2, psf)
    assert factor == pytest.approx(1, abs=0.06)
    assert np.isnan(psf_noise_factor(left, stars.weight, np.ones(left.shape, bool), psf))


def test_saturated_stars_are_fitted_by_their_wings(stars, psf):
    data, weight = stars.data.copy(), stars.weight.copy()
    brightest = int(np.argmax(stars.flux))
    x, y = stars.sources["x"][brightest], stars.sources["y"][brightest]
    row, column = np.indices(data.shape)
    core = np.hypot(column - x, row - y) < 3.2
    data[core] = 1500.0
    sources = stars.sources.copy()
    sources["flags"][brightest] = 4
    truth = truth_of(stars, psf)[brightest]
    for holes in (True, False):
        weight[core] = 0 if holes else 1 / SKY**2
        table = measure_psf(data, weight, sources, psf, GAIN)
        # A third of its light is left; the wings' shape is known to some per cent.
        assert table["flux_psf"][brightest] == pytest.approx(truth, rel=0.05)


def test_bad_pixels_do_not_matter_and_no_pixels_give_nan(stars, psf, table):
    data, weight = stars.data.copy(), stars.weight.copy()
    some = np.flatnonzero(stars.flux > 5000)[:40]
    for k in some:
        j, i = int(stars.sources["y"][k]) + 1, int(stars.sources["x"][k]) - 1
        data[j, i], weight[j, i] = 1e7, 0
    lost = some[0]
    x, y = int(stars.sources["x"][lost]), int(stars.sources["y"][lost])
    weight[max(0, y - 30) : y + 31, max(0, x - 30) : x + 31] = 0
    again = measure_psf(data, weight, stars.sources, psf, GAIN)
    assert np.isnan(again["flux_psf"][lost]) and np.isnan(again["flux_psf_err"][lost])
    good = np.isfinite(again["flux_psf"][some])
    ratio = again["flux_psf"][some][good] / table["flux_psf"][some][good]
    assert np.abs(ratio - 1).max() < 0.05


def test_forced_fluxes_of_nothing_and_of_stars(stars, psf, table):
    rs = np.random.RandomState(21)
    where = rs.uniform(20, 780, (400, 2))
    tree = cKDTree(np.stack([stars.sources["x"], stars.sources["y"]], axis=1))
    where = where[tree.query(where)[0] > 9][:120]
    empty = force_psf(
        stars.data, stars.weight, (where[:, 0], where[:, 1]), psf, GAIN, stars.sources
    )
    pull = empty["flux_psf"] / empty["flux_psf_err"]
    n = len(where)
    assert pull.std() == pytest.approx(1, abs=3 / np.sqrt(2 * n))
    assert abs(pull.mean()) < 3.5 / np.sqrt(n)
    some = np.flatnonzero(stars.flux > 2000)[:30]
    x = stars.sources["x"][some] + table["psf_dx"][some]
    y = stars.sources["y"][some] + table["psf_dy"][some]
    forced = force_psf(stars.data, stars.weight, (x, y), psf, GAIN, stars.sources)
    # The same pixels with the background of an annulus: within what that is uncertain.
    error = np.asarray(forced["flux_psf_err"])
    assert (np.abs(forced["flux_psf"] - table["flux_psf"][some]) < 1.5 * error).all()
    twice = force_psf(stars.data, stars.weight, (x[[0, 0]], y[[0, 0]]), psf, GAIN)
    # One star cannot be told from two at the same place: each has half of it.
    assert np.sum(twice["flux_psf"]) == pytest.approx(forced["flux_psf"][0], rel=0.02)
    off = force_psf(stars.data, stars.weight, ([-50.0], [20.0]), psf, GAIN)
    assert np.isnan(off["flux_psf"]).all()


def test_groups_and_tiles():
    x = np.array([10.0, 12, 14, 400, 402, 100, 11])
    y = np.array([10.0, 10, 10, 300, 300, 500, 12])
    assert friends(x, y, 3.0, 12).tolist() == [0, 0, 0, 1, 1, 2, 0]
    # Too many: the links get shorter until a group is small enough.
    assert np.bincount(friends(np.arange(40.0), np.zeros(40), 3.0, 5)).max() <= 5
    group = friends(x, y, 3.0, 12)
    colours = batches(x, y, np.arange(7.0), group, 20.0)
    members = np.concatenate([b.members for tiles in colours for b in tiles])
    assert sorted(members.tolist()) == list(range(7))
    for tiles in colours:
        for batch in tiles:
            assert batch.starts[0] == 0 and batch.starts[-1] == len(batch.members)
    assert batches(x[:0], y[:0], x[:0], group[:0], 20.0) == []


def test_spitzer_agrees_with_the_published_catalogue(shared_data):
    """The GLIMPSE mosaic at 4.5 micrometres: FWHM 1.6 pixels, a star in every 80 of them."""
    folder = shared_data / "real" / "spitzer_glimpse_I2"
    with fits.open(folder / "spitzer_example_image.fits") as hdus:
        image, header = hdus[0].data.astype(np.float32), hdus[0].header
    published = Table.read(folder / "spitzer_example_catalog.xml")
    good = np.isfinite(image)
    level = np.median(image[good])
    noise = 1.4826 * np.median(np.abs(image[good] - level))
    data = np.where(good, image - level, 0).astype(np.float32)
    weight = np.where(good, 1 / noise**2, 0).astype(np.float32)
    sources = detected(data, noise)
    psf = fit_psf(data, weight, np.zeros(data.shape, np.uint8), sources, np.nan)
    assert psf.fwhm_pix == pytest.approx(1.65, abs=0.15) and psf.n_stars > 100
    table = measure_psf(data, weight, sources, psf, np.nan)
    found = np.stack([sources["x"] + table["psf_dx"], sources["y"] + table["psf_dy"]], axis=1)
    flux = np.asarray(table["flux_psf"])
    usable = np.isfinite(found).all(axis=1) & (flux > 0)
    x, y = WCS(header).all_world2pix(published["l"], published["b"], 0)
    near, which = cKDTree(found[usable]).query(np.stack([x, y], axis=1))
    same = near < 0.8
    assert np.count_nonzero(same) > 200
    magnitude = -2.5 * np.log10(flux[usable][which[same]])
    difference = magnitude - np.asarray(published["mag4_5"])[same]
    # The catalogue's own errors are 0.05 mag; photutils' PSF photometry with an EPSF of the same
    # stars scatters by 0.072 about it.
    quoted = np.median(2.5 / np.log(10) * np.asarray(published["df4_5"] / published["f4_5"])[same])
    assert spread(difference) < np.hypot(quoted, 0.04)


def detected(data, noise):
    """Peaks of 4 sigma, with centroids."""
    ys, xs = np.zeros(20000, np.int32), np.zeros(20000, np.int32)
    blurred = np.empty_like(data)
    smooth(data, np.array([0.2, 0.6, 0.2], np.float32), blurred)
    n = peaks(blurred, 4 * noise * 0.44, 4, ys, xs)
    out = np.empty((n, 10))
    bad = np.zeros(data.shape, np.uint8)
    measure_peaks(data, bad, ys[:n], xs[:n], 0.9, 2.0, noise, 1e9, out)
    names = {"x": out[:, 0], "y": out[:, 1], "fwhm": np.full(n, 1.8), "flags": np.zeros(n, int)}
    return Table(names)
