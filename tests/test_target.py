"""The target and the comparison with a catalogue, on tables whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table, vstack

from photometrus.sighting import NOT_COVERED, AtPosition, Calibration, Target
from photometrus.sourcetable import Doubt, SourceFlag, Status, column, points, words
from photometrus.stages.counterparts import catalog_range, find_counterparts
from photometrus.stages.doubts import find_doubts
from photometrus.stages.target import classify, search_new, sources_in_circle

SCALE, ZERO_POINT, NOISE_ADU, FWHM = 0.5, 24.0, 3.0, 4.0
CENTRE = (344.572, -0.3)
HALF_DEG = 0.15
DEPTH, EPOCH = 18.0, 2024.5
CALIBRATION = Calibration("J", "AB", 0.94, "VHS", 200, ZERO_POINT, 0.002, 0.01)
LIMITS = {f"limit_{n}sigma": ZERO_POINT - 2.5 * math.log10(n * NOISE_ADU) for n in (3, 5)}
EMPTY = AtPosition(0.5, NOISE_ADU, math.nan, math.nan, **LIMITS)


def sky(n: int = 1500, seed: int = 1) -> Table:
    """Stars as they are: uniform on the sky, twice as many per magnitude, 12 to 19.5."""
    random = np.random.RandomState(seed)
    return Table(
        {
            "ra_deg": CENTRE[0] + random.uniform(-HALF_DEG, HALF_DEG, n),
            "dec_deg": CENTRE[1] + random.uniform(-HALF_DEG, HALF_DEG, n),
            "mag": 12.0 + np.log2(1 + random.uniform(0, 1, n) * (2**7.5 - 1)),
        }
    )


def measured(truth: Table, seed: int = 2) -> Table:
    """As the stack's table of sources has them: PSF noise, positions of 1/SNR."""
    random = np.random.RandomState(seed)
    n = len(truth)
    flux = 10 ** (-0.4 * (np.asarray(truth["mag"]) - ZERO_POINT))
    # A percent besides: what no model of errors leaves out.
    err = np.hypot(NOISE_ADU, 0.01 * flux)
    out = Table({"number": np.arange(1, n + 1)})
    out["flux_psf"], out["flux_psf_err"] = flux + err * random.normal(size=n), err
    out["x_err"] = out["y_err"] = FWHM / 2.35 * err / flux
    for name, cos in (("ra_deg", math.cos(math.radians(CENTRE[1]))), ("dec_deg", 1.0)):
        shift = out["x_err"] * SCALE / 3600 * random.normal(size=n) / cos
        out[name] = np.asarray(truth[name]) + shift
    out["x"] = (CENTRE[0] + HALF_DEG - out["ra_deg"]) * 3600 / SCALE
    out["y"] = (out["dec_deg"] - CENTRE[1] + HALF_DEG) * 3600 / SCALE
    out["flags"] = np.zeros(n, np.int32)
    out["fwhm"], out["elongation"] = np.full(n, FWHM), np.full(n, 1.05)
    out["flux_radius"] = np.full(n, FWHM / 2)
    out["weight_ratio"], out["stellarity"] = np.ones(n), np.ones(n)
    out["snr_win"] = out["flux_psf"] / err
    for kind in ("psf", "auto", "aper"):
        seen = np.where(out["flux_psf"] > 0, out["flux_psf"], np.nan)
        out[f"mag_{kind}"] = ZERO_POINT - 2.5 * np.log10(seen)
        out[f"mag_{kind}_err"] = 1.0857 * err / seen
    return out


def catalog(truth: Table, depth: float = DEPTH, seed: int = 3) -> Table:
    """A survey of 0.02 mag and 0.05" of the stars down to a depth."""
    random = np.random.RandomState(seed)
    out = truth[np.asarray(truth["mag"]) < depth]
    n = len(out)
    out["mag_err"] = np.full(n, 0.02)
    out["mag"] = out["mag"] + 0.02 * random.normal(size=n)
    for name in ("ra_deg", "dec_deg"):
        out[name] = out[name] + 0.05 / 3600 * random.normal(size=n)
    out["pos_err_arcsec"], out["epoch_yr"] = np.full(n, 0.05), np.full(n, 2010.0)
    out["extended"] = np.zeros(n, bool)
    return out


def star(ra_deg: float, dec_deg: float, mag: float) -> Table:
    return Table({"ra_deg": [ra_deg], "dec_deg": [dec_deg], "mag": [mag]})


def compared(sources: Table, stars: Table, depth: float = DEPTH) -> Table:
    out = find_counterparts(
        sources, stars, scale_arcsec=SCALE, zero_point_err=0.01, depth_mag=depth, epoch_yr=EPOCH
    )
    out["doubts"] = find_doubts(out, stars, scale_arcsec=SCALE, n_frames=9)
    return out


def empty_place(truth: Table, clear_arcsec: float = 12.0) -> tuple[float, float]:
    """A place of the field at which there is nothing."""
    random = np.random.RandomState(9)
    while True:
        ra, dec = (c + random.uniform(-0.1, 0.1) for c in CENTRE)
        away = np.linalg.norm(points(truth) - points(star(ra, dec, 0.0)), axis=1)
        if away.min() > clear_arcsec:
            return ra, dec


def with_transient(mag: float, off_arcsec: float = 0.0) -> tuple[Table, Table, Target]:
    """The field's sources with one more, the catalogue without it, and where it is."""
    truth = sky()
    ra, dec = empty_place(truth)
    more = star(ra, dec + off_arcsec / 3600, mag)
    return measured(vstack([truth, more])), catalog(truth), Target("GRB", ra, dec, 5.0)


# ---------------------------------------------------------------- against the catalogue


def test_stars_of_the_catalogue_agree_and_others_are_below_its_limit():
    truth = sky()
    sources = measured(truth)
    before = sources.copy()
    out = compared(sources, catalog(truth))
    assert all((sources[name] == before[name]).all() for name in before.colnames)
    in_catalog = np.asarray(truth["mag"]) < DEPTH
    status = np.asarray(out["status"])
    assert (np.asarray(out["star"])[in_catalog] >= 0).mean() > 0.999
    # 3 sigma: 0.27 % of a Gaussian; of 500 stars 1.4, more than 8 once in a million.
    assert np.count_nonzero(status[in_catalog] == Status.DIFFERS) <= 8
    assert np.count_nonzero(status == Status.NEW) == 0
    assert (status[~in_catalog] == Status.BELOW_LIMIT).mean() > 0.95
    # 0.05" per axis: the mean of a Rayleigh distribution is 0.063", plus our own errors
    bright = in_catalog & (np.asarray(truth["mag"]) < 15)
    assert np.mean(out["separation_arcsec"][bright]) == pytest.approx(0.063, abs=0.02)


@pytest.mark.parametrize(("change", "status"), [(0.3, Status.DIFFERS), (0.0, Status.AGREES)])
def test_a_star_of_another_magnitude_differs(change, status):
    truth = sky()
    which = int(np.argmin(np.abs(truth["mag"] - 15.0)))
    now = truth.copy()
    now["mag"][which] += change  # the combined error is 0.025 mag
    out = compared(measured(now), catalog(truth))
    assert out["status"][which] == out["status_auto"][which] == status
    assert out["star_mag"][which] == pytest.approx(truth["mag"][which], abs=0.1)


def test_what_cannot_be_compared_does_not_differ():
    truth = sky()
    sources, stars = measured(truth), catalog(truth)
    bright, galaxy, odd = np.argsort(truth["mag"])[:3]
    sources["flags"][bright] = SourceFlag.SATURATED
    for kind in ("psf", "auto", "aper"):
        sources[f"mag_{kind}"][[bright, galaxy]] += 0.5
        sources[f"mag_{kind}"][odd] = np.nan
    stars["extended"] = np.abs(stars["mag"] - truth["mag"][galaxy]) < 0.3
    out = compared(sources, stars)
    assert list(out["status"][[bright, galaxy, odd]]) == [Status.AGREES] * 3


@pytest.mark.parametrize("nominal", [DEPTH - 1.5, math.nan])
def test_the_field_itself_tells_how_deep_the_catalogue_goes(nominal):
    truth = sky(4000)
    out = compared(measured(truth), catalog(truth, 17.0), nominal)
    # A group is 40 of 4000 stars, 0.03 mag long there; it begins at most one of them earlier.
    assert out.meta["depth_mag"] == pytest.approx(17.0, abs=0.08)
    assert out.meta["bright_mag"] == -math.inf


def test_a_survey_that_saturates_does_not_make_bright_stars_new():
    truth = sky(4000)
    stars = catalog(truth)
    out = compared(measured(truth), stars[stars["mag"] > 14.0])
    assert out.meta["bright_mag"] == pytest.approx(14.0, abs=0.3)
    assert np.count_nonzero(out["status"] == Status.NEW) <= 1


def test_the_nominal_depth_holds_where_the_field_does_not_tell():
    truth = sky(60)
    out = compared(measured(truth), catalog(truth, 19.6), 18.4)
    assert out.meta["depth_mag"] == 18.4
    many = measured(sky())
    none = np.zeros(len(many), bool)  # another field's catalogue
    assert catalog_range(many, none, 18.4) == (-math.inf, 18.4)


def test_nothing_is_new_where_the_catalogue_does_not_reach():
    truth = sky(3000)
    stars = catalog(truth)
    west = np.asarray(stars["ra_deg"]) < CENTRE[0]
    out = compared(measured(truth), stars[west])
    inland = np.abs(np.asarray(truth["ra_deg"]) - CENTRE[0]) > 0.02
    assert np.count_nonzero(out["status"][inland] == Status.NEW) == 0


def test_two_stars_that_we_see_as_one_are_compared_together():
    truth = sky()
    ra, dec = empty_place(truth)
    pair = vstack([star(ra, dec, 15.0), star(ra, dec + 0.5 / 3600, 15.0)])
    both = star(ra, dec + 0.25 / 3600, 15.0 - 2.5 * math.log10(2))
    out = compared(measured(vstack([truth, both])), catalog(vstack([truth, pair])))
    assert out["status"][-1] == Status.AGREES
    assert out["star_mag"][-1] == pytest.approx(14.247, abs=0.05)  # 0.02 each


def test_a_blend_is_where_none_of_its_stars_is():
    truth = sky()
    ra, dec = empty_place(truth)
    # FWHM 2": within half of it; the error radius is 0.6"
    pair = vstack([star(ra, dec - 0.8 / 3600, 15.0), star(ra, dec + 0.8 / 3600, 15.0)])
    both = star(ra, dec, 15.0 - 2.5 * math.log10(2))
    stars = catalog(vstack([truth, pair]))
    out = compared(measured(vstack([truth, both])), stars)
    assert out["status"][-1] == Status.AGREES
    # The same distance from a star that is seen for itself: a source of its own.
    out = compared(measured(vstack([truth, pair, star(ra, dec, 15.0)])), stars)
    assert list(out["status"][-3:]) == [Status.AGREES, Status.AGREES, Status.NEW]


def test_a_star_that_has_moved_is_told():
    truth = sky()
    ra, dec = empty_place(truth)
    now = vstack([truth, star(ra + 2.0 / 3600, dec, 14.0)])  # 0.14" a year since 2010
    out = compared(measured(now), catalog(vstack([truth, star(ra, dec, 14.0)])))
    assert out["moved_arcsec"][-1] == pytest.approx(2.0, abs=0.3)
    assert words(out["doubts"][-1]) == "perhaps a star of the catalogue that has moved"
    other = compared(measured(now), catalog(vstack([truth, star(ra, dec, 15.0)])))
    assert np.isnan(other["moved_arcsec"][-1])  # another star: too faint
    far = compared(measured(now), catalog(vstack([truth, star(ra, dec - 6.0 / 3600, 14.0)])))
    assert np.isnan(far["moved_arcsec"][-1])  # 6.3": 0.4" a year


def test_an_empty_catalogue_and_an_empty_stack():
    truth = sky()
    out = compared(measured(truth), catalog(truth)[:0])
    assert (np.asarray(out["star"]) == -1).all()
    assert len(compared(measured(truth)[:0], catalog(truth))) == 0


# ---------------------------------------------------------------- doubts


@pytest.mark.parametrize(
    ("name", "value", "doubt"),
    [
        ("flags", int(SourceFlag.EDGE), Doubt.EDGE),
        ("flags", int(SourceFlag.BAD_PIXELS), Doubt.BAD_PIXELS),
        ("flags", int(SourceFlag.SATURATED), Doubt.SATURATED),
        ("flags", int(SourceFlag.DEBLENDED), Doubt(0)),
        ("weight_ratio", 0.4, Doubt.LOW_WEIGHT),
        ("weight_ratio", 0.2, Doubt.LOW_WEIGHT | Doubt.FEW_FRAMES),  # 2 of 9 frames
        ("fwhm", FWHM / 2, Doubt.SHARP),
        ("fwhm", FWHM * 1.5, Doubt.EXTENDED),
        ("elongation", 2.0, Doubt.ELONGATED),
        ("stellarity", 0.01, Doubt.EXTENDED),
    ],
)
def test_what_speaks_against_a_source(name, value, doubt):
    sources, stars, _ = with_transient(16.0)
    sources[name][-1] = value
    assert compared(sources, stars)["doubts"][-1] == doubt.value


def test_the_light_of_a_bright_star_is_no_source():
    truth = sky()
    ra, dec = empty_place(truth, 30.0)
    near, far = (star(ra, dec + off / 3600, 18.0) for off in (8.0, 30.0))
    lone = measured(vstack([truth, near, far]))
    stars = catalog(truth)
    assert list(compared(lone, stars)["doubts"][-2:]) == [0, 0]
    bright = vstack([stars, catalog(star(ra, dec, 9.0))])
    doubts = find_doubts(lone, bright, scale_arcsec=SCALE, n_frames=9)
    # FWHM 2": 4 and 15 of them away; 0.025 / r^2 of the star, 9 mag brighter, is 7.0 and 9.9 mag
    assert words(doubts[-2]) == "in the light of a much brighter star"
    assert words(doubts[-1]) == ""
    assert not (doubts[:-2] & Doubt.HALO.value)[np.asarray(truth["mag"]) < 15].any()


def test_both_halves_of_the_frames_must_have_it():
    sources, stars, _ = with_transient(17.0)
    n = len(sources)
    half = math.sqrt(2) * column(sources, "flux_psf_err")
    random = np.random.RandomState(4)
    flux = column(sources, "flux_psf")
    halves = Table({f"flux{k}": flux + half * random.normal(size=n) for k in (1, 2)})
    halves["flux1_err"] = halves["flux2_err"] = half
    both = find_doubts(sources, stars, scale_arcsec=SCALE, n_frames=9, halves=halves)
    good = flux / half > 6  # 2.5 sigma is 3.5 below
    only = Doubt.ONE_HALF.value | Doubt.UNSTEADY.value
    assert np.count_nonzero(both[good] & only) <= 2
    halves["flux1"][-1], halves["flux2"][-1] = 2 * flux[-1], 0.0  # a cosmic ray in one frame
    out = find_doubts(sources, stars, scale_arcsec=SCALE, n_frames=9, halves=halves)
    assert out[-1] == only
    halves["flux1"][-1], halves["flux2"][-1] = flux[-1], math.nan  # not covered by one half
    assert find_doubts(sources, stars, scale_arcsec=SCALE, n_frames=9, halves=halves)[-1] == 0


# ---------------------------------------------------------------- the target


@pytest.mark.parametrize(
    ("mag", "verdict"), [(13.0, "new"), (16.0, "new"), (18.7, "faint"), (20.5, "limit")]
)
def test_the_transient_or_its_limit(mag, verdict):
    sources, stars, target = with_transient(mag, off_arcsec=0.4)
    seen = compared(sources, stars)
    if mag > 20:
        seen = seen[:-1]
    found = classify(target, seen, EMPTY, CALIBRATION)
    assert found.verdict == verdict
    if verdict == "limit":
        assert found.best is None
        assert len(found.sources) == 0
        assert f"J > {LIMITS['limit_5sigma']:.2f} (AB, 5 sigma)" in found.sentence
    else:
        assert found.best["number"] == len(sources)
        assert found.best["distance_arcsec"] == pytest.approx(0.4, abs=0.2)  # S/N 15: 0.06"
        assert f"J = {found.best['mag_psf']:.2f}" in found.sentence


def test_a_source_below_five_sigma_is_told_but_no_detection():
    sources, stars, target = with_transient(16.0)
    for name in ("flux_psf", "flux_psf_err"):
        sources[name][-1] = {"flux_psf": 4 * NOISE_ADU, "flux_psf_err": NOISE_ADU}[name]
    found = classify(target, compared(sources, stars), EMPTY, CALIBRATION)
    assert (found.verdict, found.best, len(found.sources)) == ("limit", None, 1)
    # Nor does it hide a detection that is less likely the transient by its status.
    beside = star(target.ra_deg, target.dec_deg + 3.0 / 3600, 18.5)
    other = compared(measured(vstack([sky(), beside])), stars)[-1:]
    both = vstack([compared(sources, stars), other], metadata_conflicts="silent")
    both["status"][-2] = Status.NEW
    found = classify(target, both, EMPTY, CALIBRATION)
    assert (found.verdict, len(found.sources)) == ("faint", 2)
    assert found.best["mag_psf"] == pytest.approx(18.5, abs=0.3)  # S/N 14


def test_of_several_the_one_that_the_catalogue_lacks():
    truth = sky()
    ra, dec = empty_place(truth)
    known = star(ra + 1.0 / 3600, dec, 15.0)
    changed = star(ra, dec + 2.5 / 3600, 15.5)
    new = star(ra - 3.0 / 3600, dec, 16.5)
    now = vstack([truth, known, changed, new])
    before = vstack([truth, known, changed])
    before["mag"][-1] += 1.0
    target = Target("GRB", ra, dec, 5.0)
    found = classify(target, compared(measured(now), catalog(before)), EMPTY, CALIBRATION)
    n = len(truth)
    assert list(found.sources["number"]) == [n + 3, n + 2, n + 1]
    assert list(found.sources["status"]) == [Status.NEW, Status.DIFFERS, Status.AGREES]
    less = classify(target, compared(measured(now[:-1]), catalog(before)), EMPTY, CALIBRATION)
    assert (less.verdict, less.best["number"]) == ("changed", n + 2)
    only = classify(target, compared(measured(now[:-2]), catalog(before)), EMPTY, CALIBRATION)
    assert (only.verdict, only.best) == ("known", None)


@pytest.mark.parametrize(
    ("brighter_mag", "verdict"), [(0.5, "changed"), (0.1, "known"), (-0.5, "known")]
)
def test_a_known_source_must_be_brighter(brighter_mag, verdict):
    """The error of the comparison is 0.03 mag: 0.1 mag are 3 sigma and more, but not 5."""
    truth = sky()
    ra, dec = empty_place(truth)
    before, now = star(ra, dec, 16.0), star(ra, dec, 16.0 - brighter_mag)
    stars, sources = catalog(vstack([truth, before])), measured(vstack([truth, now]))
    for kind in ("psf", "auto", "aper"):  # without noise
        sources[f"mag_{kind}"][-1] = stars["mag"][-1] - brighter_mag
    found = classify(Target("", ra, dec, 5.0), compared(sources, stars), EMPTY, CALIBRATION)
    assert found.verdict == verdict
    assert found.sources["status"][0] == Status.DIFFERS
    # A galaxy is not measured that well.
    sources["stellarity"][-1] = 0.0
    found = classify(Target("", ra, dec, 5.0), compared(sources, stars), EMPTY, CALIBRATION)
    assert found.verdict == "known"


def test_spurious_sources_are_no_detections():
    sources, stars, target = with_transient(16.0)
    sources["weight_ratio"][-1] = 0.1
    found = classify(target, compared(sources, stars), EMPTY, CALIBRATION)
    assert (found.verdict, found.best) == ("doubtful", None)
    assert "where the weight is low" in found.sentence
    # A host galaxy is larger than a star, and a detection.
    sources["weight_ratio"][-1], sources["fwhm"][-1] = 1.0, 2 * FWHM
    assert classify(target, compared(sources, stars), EMPTY, CALIBRATION).verdict == "new"


def test_light_at_the_position_without_a_source():
    sources, stars, target = with_transient(16.0)
    at = replace(EMPTY, flux=10 * NOISE_ADU, mag=20.307, mag_err=0.109)
    found = classify(target, compared(sources, stars)[:-1], at, CALIBRATION)
    assert found.verdict == "forced"
    assert "J = 20.31 +- 0.11 (AB), S/N 10.0" in found.sentence


def test_a_position_that_is_not_on_the_stack():
    sources, stars, target = with_transient(16.0)
    far = replace(target, ra_deg=10.0)
    found = classify(far, compared(sources, stars), NOT_COVERED, CALIBRATION)
    assert (found.verdict, found.best) == ("not covered", None)
    assert found.sentence.startswith("The position is not on the stack")


def test_empty_positions_never_hold_a_transient():
    truth = sky()
    seen = compared(measured(truth), catalog(truth))
    random = np.random.RandomState(5)
    verdicts = set()
    for _ in range(300):
        ra, dec = (c + random.uniform(-0.14, 0.14) for c in CENTRE)
        verdicts.add(classify(Target("", ra, dec, 2.0), seen, EMPTY, CALIBRATION).verdict)
    # Uncatalogued faint stars are there and cannot be told from a transient; nothing is new.
    assert verdicts <= {"limit", "known", "faint"}
    assert "limit" in verdicts


def test_circles_hold_across_zero_hours_and_at_the_pole():
    table = measured(vstack([star(359.9999, 89.9990, 15.0), star(180.0, 89.9990, 15.0)]))
    table["ra_deg"], table["dec_deg"] = [359.9999, 180.0], [89.9990, 89.9990]
    near = sources_in_circle(table, Target("", 0.0, 89.9990, 1.0))
    assert list(near["number"]) == [1]
    both = sources_in_circle(table, Target("", 0.0, 89.9990, 10.0))
    assert list(both["distance_arcsec"]) == pytest.approx([0.0, 7.2], abs=1e-3)


def test_chance_grows_with_distance_and_faintness():
    sources, stars, target = with_transient(16.0, off_arcsec=1.0)
    one = classify(target, compared(sources, stars), EMPTY, CALIBRATION).best["chance"]
    brighter = np.count_nonzero(column(sources, "mag_psf") <= sources["mag_psf"][-1])
    area = (2 * HALF_DEG * 3600) ** 2
    assert one == pytest.approx(math.pi * brighter / area, rel=0.1)  # the box around the stars


# ---------------------------------------------------------------- new sources


def test_new_sources_in_a_large_circle():
    truth = sky(3000)
    random = np.random.RandomState(8)
    planted = Table(
        {
            "ra_deg": CENTRE[0] + random.uniform(-0.05, 0.05, 12),
            "dec_deg": CENTRE[1] + random.uniform(-0.05, 0.05, 12),
            "mag": np.linspace(14.0, 17.5, 12),
        }
    )
    sources = measured(vstack([truth, planted]))
    sources["weight_ratio"][-1] = 0.1
    sources["fwhm"][-2] = FWHM / 3
    found = search_new(compared(sources, catalog(truth)), Target("", *CENTRE, 300.0))
    real = found[found["rank"] > 0]
    n = len(truth)
    # A star that falls on another one is not told from it; 3000 stars leave 0.3 % of the sky for
    # that, so that at most one of ten is lost.
    assert set(real["number"]) <= set(range(n + 1, n + 11))
    assert len(real) >= 9
    assert list(real["mag_psf"]) == sorted(real["mag_psf"])
    ruled_out = {row["number"]: row["reason"] for row in found if row["rank"] == 0}
    assert "sharper than a star" in ruled_out[n + 11]
    assert "where the weight is low" in ruled_out[n + 12]


def test_a_source_near_the_limit_is_not_sure_to_be_new():
    truth = sky(3000)
    ra, dec = empty_place(truth)
    both = vstack([star(ra, dec, 17.7), star(ra + 4.0 / 3600, dec, 17.0)])
    sources = measured(vstack([truth, both]))
    for name, mag in (("mag_psf", [17.7, 17.0]), ("mag_psf_err", [0.2, 0.03])):
        sources[name][-2:] = mag
    seen = compared(sources, catalog(truth))
    assert list(seen["status"][-2:]) == [Status.NEW, Status.NEW]
    found = search_new(seen, Target("", ra, dec, 60.0))
    assert list(found["number"]) == [len(sources)]  # the other is within 3 x 0.2 of the limit, 18


def test_shapes_of_faint_sources_say_nothing():
    sources, stars, _ = with_transient(19.0)  # S/N 33
    for name in ("fwhm", "elongation"):
        sources[name][-1] *= 2.0
    assert compared(sources, stars)["doubts"][-1] == Doubt.EXTENDED | Doubt.ELONGATED
    sources["flux_psf"][-1] = 9 * NOISE_ADU
    sources["flux_psf_err"][-1] = NOISE_ADU
    assert compared(sources, stars)["doubts"][-1] == 0
