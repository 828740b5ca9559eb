"""The zero point against catalogues whose every error is known."""

import numpy as np
import pytest
from astropy.table import Table

from photometrus.errors import CalibrationRefused, UsageError
from photometrus.instrument import ZERO_POINT_VEGA
from photometrus.stages.calibrators import colors, column, error_curve, measures, pair
from photometrus.stages.zeropoint import ZeroPointConfig, calibrate
from photometrus.wcs import pixel_to_sky, pointing_wcs
from photometrus.zerofit import extra_variance, fit, start

WCS = pointing_wcs(3, (201.3, -0.52), 48.0)
SIZE = 4088
TRUE = 23.88
SKY_ADU = 12.0
"""Error of a faint star's flux; J = 19.4 has S/N 5."""
GAIN = 65.0


def observed(mag, limit, rng, intrinsic=0.0):
    """What a catalogue says of magnitudes, and the error that it quotes: that of what it saw."""
    noise = np.hypot(0.02, 0.1 * 10 ** (0.4 * (mag - limit)))
    seen = mag + np.hypot(noise, intrinsic) * rng.randn(mag.size)
    return seen, np.hypot(0.02, 0.1 * 10 ** (0.4 * (seen - limit)))


def night(seed, n=1500, *, limit=15.9, color=0.0, tilt=0.0, intrinsic=0.0, outliers=0.03):
    """Sources of a stack and calibrators; n stars from J = 11 to 20.5, counts as 10**0.3 J.

    limit : magnitude at which the catalogue's error is 0.1 (15.9: 2MASS); it ends 0.6 beyond
    color, tilt : magnitudes per magnitude of J - H - 0.5, and from the middle to the right edge
    outliers : part of the stars that the catalogue sees too bright: blends, variables
    """
    rng = np.random.RandomState(seed)
    x, y = rng.uniform(0, SIZE, (2, n))
    low, high = 10 ** (0.3 * 11), 10 ** (0.3 * 20.5)
    mag = np.log10(low + rng.uniform(size=n) * (high - low)) / 0.3
    tint = 0.5 + 0.25 * rng.randn(n)
    zero_point = TRUE + color * (tint - 0.5) + tilt * (2 * x / SIZE - 1)
    flux = 10 ** (-0.4 * (mag - zero_point))
    flux = flux + np.sqrt(SKY_ADU**2 + flux / GAIN) * rng.randn(n)
    cat, cat_err = observed(mag, limit, rng, intrinsic)
    other, other_err = observed(mag - tint, limit, rng)
    cat = cat - (rng.uniform(size=n) < outliers) * rng.exponential(0.4, n)
    ra, dec = pixel_to_sky(WCS, x, y)
    error = np.sqrt(SKY_ADU**2 + np.maximum(flux, 0) / GAIN)
    sources = Table({"x": x, "y": y, "flux_psf": flux, "flux_psf_err": error})
    sources["flags"], sources["stellarity"], sources["weight_ratio"] = 0, 0.98, 1.0
    stars = Table({"ra_deg": ra, "dec_deg": dec, "mag": cat, "mag_err": cat_err})
    for name in ("ra_deg", "dec_deg"):
        stars[name] += 0.05 / 3600 * rng.randn(n)
    stars["color"], stars["color_err"] = cat - other, np.hypot(cat_err, other_err)
    stars["extended"], stars["good"] = False, True
    stars.meta |= {"color_name": "J-H", "survey": "sim", "mag_system": "Vega"}
    stars.meta |= {"to_ab": 0.91, "to_vega": 0.0}
    return sources[flux > 5 * SKY_ADU], stars[cat < limit + 0.6]


def test_the_quoted_error_is_true_with_a_shallow_catalogue():
    """About 50 stars of 2MASS's kind, 3 % of them too bright: 200 nights."""
    found = [calibrate(*night(seed), WCS, "J") for seed in range(200)]
    assert all(zp.trusted for zp in found)
    pulls = np.array([(zp.value - TRUE) / zp.err_stat for zp in found])
    # 200 of them: mean to 0.07, width to 0.05; three of each.
    assert abs(pulls.mean()) < 0.21
    assert 0.85 < pulls.std() < 1.15
    slopes = np.array([zp.slope / zp.slope_err for zp in found])
    assert abs(slopes.mean()) < 0.21
    # A term that is not there: "more than two standard errors" may happen to 2 % per kind tried.
    assert np.mean([zp.color_term != 0 or zp.field.degree > 0 for zp in found]) < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_a_deep_catalogue_gives_millimagnitudes_and_the_terms(seed):
    sources, stars = night(seed, 6000, limit=19.0, color=0.1, tilt=0.03, intrinsic=0.01)
    zp = calibrate(sources, stars, WCS, "J", expected_vega=ZERO_POINT_VEGA["J"])
    at_pivot = TRUE + 0.1 * (zp.color_pivot - 0.5)
    # 700 stars of 0.03 to 0.06: 0.0015; blends that the clip leaves add 0.0005.
    assert abs(zp.value - at_pivot) < min(0.005, 4 * zp.err_stat + 0.0005)
    assert abs(zp.color_term - 0.1) < 4 * zp.color_term_err
    assert zp.color_term_err < 0.015
    assert zp.field.degree >= 1
    # Places: the error of a plane at the edge is some sqrt(3) of that in the middle.
    edge = float(zp.at(SIZE - 1, SIZE / 2)) - zp.value
    assert abs(edge - 0.03) < 4 * 2 * zp.err_stat
    assert zp.gains["colour"] > 0.05
    assert abs(zp.slope) < 4 * zp.slope_err
    assert zp.trusted


def test_scatter_beyond_the_errors_is_found_and_counted():
    sources, stars = night(1, 4000, intrinsic=0.05, outliers=0.0)
    zp = calibrate(sources, stars, WCS, "J")
    # Of n = 140 values of 0.055 to 0.1: the extra scatter is known to about 10 %.
    assert abs(zp.extra_scatter - 0.05) < 0.02
    assert zp.err_stat > 0.05 / np.sqrt(zp.n_stars)


def test_the_choice_of_stars_leaves_no_bias():
    """By catalogue magnitude or catalogue error, faint stars come out biased; by the mean not."""
    sources, stars = night(5, 60_000, limit=18.0, outliers=0.0)
    pairs = pair(sources, stars, WCS, 1.0, "psf")
    curve = error_curve(stars)
    got = measures(pairs, curve, np.full(len(pairs), TRUE), 0.0)
    off = got.difference - TRUE
    at_limit = np.abs(got.expected - 17.8) < 0.3
    by_catalogue = np.abs(pairs.mag - 17.8) < 0.3
    error = off[at_limit].std() / np.sqrt(at_limit.sum())
    assert abs(np.average(off[at_limit], weights=got.sigma[at_limit] ** -2)) < 4 * error
    # Eddington's bias is slope x variance = 0.3 ln 10 x 0.09**2 = 0.006 mag, too bright.
    assert np.mean(off[by_catalogue]) < -0.003
    assert np.average(off[at_limit], weights=pairs.mag_err[at_limit] ** -2) < -0.005


def test_the_noise_of_a_magnitude_is_not_taken_for_a_colour_term():
    sources, stars = night(5, 60_000, limit=18.0, color=0.05, outliers=0.0)
    pairs = pair(sources, stars, WCS, 1.0, "psf")
    got = measures(pairs, error_curve(stars), np.full(len(pairs), TRUE), 0.0)
    faint = np.abs(got.expected - 17.8) < 0.3
    tint = colors(pairs, got, faint, "J").values[faint]
    slope, _ = np.polyfit(tint, got.difference[faint], 1)
    error = got.difference[faint].std() / tint.std() / np.sqrt(faint.sum())
    # As the catalogue gives them: + 0.09**2 / (0.25**2 + 2 * 0.09**2) = 0.1.
    assert error < 0.02
    assert abs(slope - 0.05) < 4 * error
    raw, _ = np.polyfit(column(pairs.stars, "color", 0.0)[faint], got.difference[faint], 1)
    assert raw - 0.05 > 0.06


def test_the_faint_end_is_where_errors_reach_a_tenth_or_the_catalogue_ends():
    _, stars = night(2, 20_000, limit=17.0)
    assert abs(error_curve(stars).faint_end(0.1) - 17.0) < 0.1
    short = stars[np.asarray(stars["mag"]) < 15.0]
    end = error_curve(short).faint_end(0.1)
    assert 14.8 < end < 15.0  # errors are 0.025 there: three of them before 15


def test_what_cannot_calibrate_is_counted_once_by_its_first_reason():
    sources, stars = night(3, 3000, outliers=0.0)
    bright = np.argsort(-np.asarray(sources["flux_psf"]))[100:160]
    sources["flags"][bright[:10]] = 4
    sources["flags"][bright[10:15]] = 8
    sources["flags"][bright[15:18]] = 4 | 8
    sources["weight_ratio"][bright[18:20]] = 0.1
    sources["stellarity"][bright[20:27]] = 0.02
    beside = sources[bright[30:34]]
    beside["x"] += 6.0  # 3": too far to be taken for the star, near enough to be seen with it
    beside["flux_psf"] *= 0.2
    with_blends = Table(np.concatenate([sources.as_array(), beside.as_array()]))
    before = calibrate(*night(3, 3000, outliers=0.0), WCS, "J")
    zp = calibrate(with_blends, stars, WCS, "J")
    for reason, n in {"saturated": 13, "edge": 7, "extended": 7, "blended": 4}.items():
        assert zp.excluded[reason] - before.excluded.get(reason, 0) in (n - 1, n), reason
    assert zp.n_stars + sum(zp.excluded.values()) == zp.n_matched == len(zp.stars)
    assert np.count_nonzero(zp.stars["used"]) == zp.n_stars
    assert set(zp.stars["reason"][zp.stars["used"]]) == {""}


def test_of_more_stars_than_needed_the_brightest_are_taken():
    """So light of unseen neighbours, the same for all stars, matters less."""
    sources, stars = night(6, 9000, limit=19.0, outliers=0.0)
    sources["flux_psf"] += 15.0
    everybody = calibrate(sources, stars, WCS, "J", ZeroPointConfig(enough_stars=10_000))
    brightest = calibrate(sources, stars, WCS, "J", ZeroPointConfig(enough_stars=200))
    used = np.asarray(brightest.stars["used"])
    expected = np.asarray(brightest.stars["expected"])
    surplus = np.asarray(brightest.stars["reason"]) == "not needed"
    assert 190 <= used.sum() <= 200 < everybody.n_stars
    assert expected[used].max() <= expected[surplus].min()
    assert brightest.excluded["not needed"] == surplus.sum()
    # 15 ADU are 0.4 % at J = 15 and 5 % at 17.8, S/N 20; weights favour the bright ones
    assert everybody.value - TRUE > 0.006
    assert brightest.value - TRUE < 0.5 * (everybody.value - TRUE)


def test_proper_motions_are_brought_to_the_epoch():
    sources, stars = night(4)
    stars["epoch_yr"] = 2000.0
    stars["pm_ra_mas_yr"], stars["pm_dec_mas_yr"] = 0.0, 200.0
    stars["dec_deg"] -= 24.4 * 0.2 / 3600
    assert calibrate(sources, stars, WCS, "J").refused
    assert calibrate(sources, stars, WCS, "J", epoch_yr=2024.4).trusted


class TestRefusal:
    def test_too_few(self):
        sources, stars = night(0)
        zp = calibrate(sources[:8], stars, WCS, "J")
        assert "at least 5 needed" in zp.refused
        with pytest.raises(CalibrationRefused, match="at least 5 needed"):
            zp.magnitudes(100.0, 10.0, 0.0, 0.0)

    def test_nothing_at_all(self):
        sources, stars = night(0)
        assert "0 stars" in calibrate(sources[:0], stars, WCS, "J").refused
        assert "0 stars" in calibrate(sources, stars[:0], WCS, "J").refused

    def test_another_field(self):
        sources, stars = night(0, 30_000, limit=19.0)
        stars["ra_deg"] = np.roll(stars["ra_deg"], 17)
        zp = calibrate(sources, stars, WCS, "J")
        assert "chance gives" in zp.refused

    def test_another_band_by_its_colour_term(self):
        sources, stars = night(0, 4000)
        stars["mag"] = stars["mag"] - stars["color"]  # H, which is called J
        stars.meta["color_name"] = "J-K"
        assert "the band is not J" in calibrate(sources, stars, WCS, "J").refused

    def test_another_band_by_its_scatter(self):
        sources, stars = night(0, 4000)
        stars["mag"] = stars["mag"] - stars["color"]
        stars.remove_columns(["color", "color_err"])
        assert "beyond their errors" in calibrate(sources, stars, WCS, "J").refused

    def test_a_zero_point_that_the_instrument_cannot_have(self):
        sources, stars = night(0)
        zp = calibrate(sources, stars, WCS, "J", expected_vega=TRUE + 1.3)
        assert "-1.3" in zp.refused
        assert "at most 1 allowed" in zp.refused

    def test_fluxes_that_are_not_linear(self):
        sources, stars = night(0, 4000)
        sources["flux_psf"] = 5000.0 * (np.asarray(sources["flux_psf"]) / 5000.0) ** 0.9
        zp = calibrate(sources, stars, WCS, "J")
        assert "mag per mag" in zp.refused
        assert abs(zp.slope) == pytest.approx(0.1, abs=0.03)


class TestMagnitudes:
    zp = calibrate(*night(11, 3000, limit=19.0, outliers=0.0), WCS, "J")

    def test_pogson_in_every_system(self):
        flux, error = np.array([1e4, 100.0, -3.0]), np.array([50.0, 10.0, 10.0])
        x = y = np.full(3, SIZE / 2)
        native, mag_err = self.zp.magnitudes(flux, error, x, y, "native")
        assert native[0] == pytest.approx(self.zp.value - 10.0, abs=1e-3)
        assert mag_err[:2] == pytest.approx([1.0857 * 0.005, 1.0857 * 0.1], rel=1e-4)
        assert np.isnan(native[2])
        ab, _ = self.zp.magnitudes(flux, error, x, y, "AB")
        assert ab[:2] - native[:2] == pytest.approx([0.91, 0.91])
        assert self.zp.magnitudes(flux, error, x, y, "Vega")[0][:2] == pytest.approx(native[:2])

    def test_an_unknown_system(self):
        with pytest.raises(UsageError, match="known are AB, Vega, native"):
            self.zp.offset("ST")

    def test_limit_and_flux_density(self):
        limit = float(self.zp.flux_to_limit(20.0, 2000.0, 2000.0, 5, "AB"))
        assert limit == pytest.approx(self.zp.value + 0.91 - 5.0, abs=1e-3)
        # 23.9 is 1 microjansky, by definition of AB to 0.002 mag
        flux = float(self.zp.microjansky(100.0, 2000.0, 2000.0))
        assert 23.9 - 2.5 * np.log10(flux) == pytest.approx(limit, abs=1e-6)

    def test_errors_stay_apart(self):
        assert self.zp.err == pytest.approx(np.hypot(self.zp.err_stat, self.zp.err_sys))
        assert set(self.zp.systematics) == {"transform", "color", "position"}

    def test_the_error_of_a_transform(self):
        sources, stars = night(11, 3000, limit=19.0, outliers=0.0)
        for quoted, counted in ((0.0, 0.0), (0.02, 0.02), (float("nan"), 0.05)):
            stars.meta["transform_err"] = quoted
            zp = calibrate(sources, stars, WCS, "J")
            assert zp.systematics["transform"] == counted
            assert zp.err_sys >= counted

    def test_a_magnitude_range_of_the_user(self):
        sources, stars = night(11, 3000, limit=19.0, outliers=0.0)
        config = ZeroPointConfig(mag_low=13.0, mag_high=15.0)
        zp = calibrate(sources, stars, WCS, "J", config)
        expected = np.asarray(zp.stars["expected"][zp.stars["used"]])
        assert expected.min() >= 13.0
        assert expected.max() <= 15.0
        assert zp.excluded["faint"] > 0


class TestFit:
    def test_extra_variance_solves_its_equation(self):
        squares, variance = np.array([4.0, 1.0, 9.0]), np.array([0.5, 1.0, 0.1])
        t = extra_variance(squares, variance, 2.0)
        assert np.sum(squares / (variance + t)) == pytest.approx(2.0)
        assert extra_variance(squares / 100, variance, 2.0) == 0.0

    def test_a_quarter_of_outliers_moves_a_start_little(self):
        rng = np.random.RandomState(0)
        values = 0.03 * rng.randn(400)
        values[:100] += 1.0
        coefficients, _ = start(np.ones((400, 1)), values, np.full(400, 0.03))
        # 300 values of 0.03: 0.0017, and a shift of a fraction of it from the tail
        assert abs(coefficients[0]) < 0.008

    def test_one_clip_keeps_the_scatter_right(self):
        rng = np.random.RandomState(1)
        values = 0.05 * rng.randn(20_000)
        result = fit(np.ones((20_000, 1)), values, np.full(20_000, 0.01))
        # of 20 000: to 0.5 %; and 0.27 % of a Gaussian are beyond 3 sigma
        assert np.hypot(result.extra, 0.01) == pytest.approx(0.05, rel=0.02)
        assert np.mean(~result.kept) == pytest.approx(0.0027, abs=0.0012)


def test_a_masked_or_absent_column_takes_its_default():
    table = Table({"a": [1.0, 2.0]}, masked=True)
    table["a"].mask = [False, True]
    assert column(table, "a", -1.0).tolist() == [1.0, -1.0]
    assert column(table, "b", 3.0).tolist() == [3.0, 3.0]
