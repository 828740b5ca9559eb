"""Astrometry: fields are found, strangers are not, and the distortion is solved to what is due."""

import numpy as np
import pytest
from astropy.table import Table

from photometrus.reference import as_catalog, at_epoch, match_catalog
from photometrus.stages.alone import refine_alone, refine_shift
from photometrus.stages.astrometry import AstrometryConfig, link, solve_jointly
from photometrus.stages.placement import carried, find_placement, placed_wcs
from photometrus.wcs import (
    fit_tan_sip,
    from_plane,
    pixel_to_sky,
    pointing_wcs,
    shifted,
    sky_to_pixel,
    to_plane,
)
from synth import AXIS, dithers, field, lattice, reference, seen, sources, untouched

CHIP = 1
PIXEL = 0.497
CENTROID = 0.03  # pixels, of a measured star
SMALL = (0.0, -0.25, 0.25, -0.5, 0.5)


def groups(*angles):
    """Candidates as the recipe gives them: the stated angle, then those turned by right angles."""
    stated = [a + s for a in angles for s in SMALL]
    return [stated, [a + right for a in stated for right in (90, 180, 270)]]


def sky_grid(n=15):
    x, y = np.meshgrid(np.linspace(0, 4087, n), np.linspace(0, 4087, n))
    return x.ravel(), y.ravel()


def difference(a, b, x, y):
    """East and north, arcsec, between what two WCSs make of the same pixels."""
    centre = tuple(b.wcs.crval)
    here, there = (np.stack(to_plane(*pixel_to_sky(w, x, y), centre)) for w in (a, b))
    return here - there


# ------------------------------------------------------------ where is it?


def observed(seed, n_field=900, n_seen=None, rotator=48.0, shift=(0.0, 0.0), axis=AXIS):
    """A frame of a field whose pointing is off, and a catalogue of the whole neighbourhood."""
    rs = np.random.RandomState(seed)
    ra, dec, mag = field(n_field, rs, axis=axis, rotator=rotator)
    truth = shifted(pointing_wcs(CHIP, axis, rotator), *shift)
    catalog, _ = seen(truth, ra, dec, mag + rs.normal(0, 0.2, n_field), 0.1, rs)
    return catalog[:n_seen], reference(ra, dec, mag, 0.1, rs), truth


def misplaced(placement, truth):
    """How far a placement is off, arcsec, over the chip: (in the middle, anywhere)."""
    x, y = sky_grid(5)
    off = np.hypot(*difference(placed_wcs(CHIP, AXIS, placement), truth, x, y))
    return off[x.size // 2], off.max()


@pytest.mark.parametrize("shift", [(0, 0), (60, 0), (-42, 43), (100, -100)])
@pytest.mark.parametrize("rotator", [48.0, 138.0, -132.0, 48.1, 47.9])
def test_a_field_is_found_in_spite_of_pointing_and_rotator(shift, rotator):
    catalog, stars, truth = observed(1, rotator=rotator, shift=shift)
    with untouched(catalog["x"], stars["ra_deg"]):
        found = find_placement(catalog, stars, CHIP, AXIS, groups(48.0))
    assert found is not None
    turned = (found.rotator_deg - rotator + 180) % 360 - 180
    assert abs(turned) <= 0.13
    # The shift is a median of hundreds of stars of 0.1", in a window of +-3"; a rotator that is
    # 0.13 deg off turns a chip of 17' by 2.3" at its edges and 3.3" at its corners.
    middle, anywhere = misplaced(found, truth)
    assert middle < 1.0
    assert anywhere < 4.0


@pytest.mark.parametrize("n", [8, 12, 25])
def test_few_stars_are_enough(n):
    rs = np.random.RandomState(n)
    truth = shifted(pointing_wcs(CHIP, AXIS, 48.0), 35.0, -50.0)
    x, y = rs.uniform(50, 4000, (2, n))
    ra, dec = pixel_to_sky(truth, x, y)
    mag = rs.uniform(10, 14, n)
    catalog = sources(x, y, 10 ** (-0.4 * mag))
    found = find_placement(catalog, reference(ra, dec, mag, 0.1, rs), CHIP, AXIS, groups(48.0))
    assert found is not None
    assert found.votes >= n - 1
    assert misplaced(found, truth)[0] < 1.0


def test_near_the_pole_too():
    # The telescope is 50" east of where it says it is: at 85 degrees its north is turned by 0.16.
    axis = (200.0, -85.0)
    rs = np.random.RandomState(2)
    ra, dec, mag = field(900, rs, axis=axis)
    really = from_plane(np.float64(50.0), np.float64(20.0), axis)
    truth = pointing_wcs(CHIP, (float(really[0]), float(really[1])), 48.0)
    catalog, _ = seen(truth, ra, dec, mag, 0.1, rs)
    found = find_placement(catalog, reference(ra, dec, mag, 0.1, rs), CHIP, axis, groups(48.0))
    assert found is not None
    x, y = sky_grid(5)
    off = np.hypot(*difference(placed_wcs(CHIP, axis, found), truth, x, y))
    # The field is turned by 0.16 deg as well, and the first candidate is certain enough: 4.1" at
    # the corners, and the shift's own error.
    assert off[x.size // 2] < 1.0
    assert off.max() < 4.1 + 1.0


def test_a_third_of_false_stars_on_either_side_does_no_harm():
    rs = np.random.RandomState(3)
    catalog, stars, truth = observed(3, n_field=150, shift=(20, 30))
    n = len(catalog) // 2
    junk = sources(*rs.uniform(0, 4088, (2, n)), np.median(catalog["flux"]))
    both = Table(np.concatenate([catalog.as_array(), junk.as_array()]))
    both.sort("flux", reverse=True)
    found = find_placement(both, stars, CHIP, AXIS, groups(48.0))
    assert found is not None
    assert misplaced(found, truth)[0] < 1.0


def test_a_satellite_trail_does_not_vote():
    rs = np.random.RandomState(4)
    t = np.linspace(1900, 2300, 250)
    trail = sources(t, 0.4 * t + 900, 1e6, flags=2)
    _, stars, _ = observed(4, n_field=60)
    assert find_placement(trail, stars, CHIP, AXIS, groups(48.0)) is None
    # And when it was not recognised as one: five detections for every place of a bright star.
    trail["flags"] = 0
    few = reference(*field(40, rs, spread_pix=-1500), 0.1, rs)
    assert find_placement(trail, few, CHIP, AXIS, groups(48.0)) is None


def test_strangers_are_not_found():
    # 200 frames of one field against catalogues of others, from sparse to dense, clumped or not.
    alarms = 0
    for trial in range(200):
        rs = np.random.RandomState(1000 + trial)
        n = (10, 25, 60, 150)[trial % 4]
        x, y = rs.uniform(0, 4088, (2, n))
        if trial % 3 == 0:  # half of the stars in a cluster
            x[::2], y[::2] = rs.normal(2000, 250, (2, x[::2].size)).clip(10, 4080)
        mag = rs.uniform(10, 15, n)
        catalog = sources(x, y, 10 ** (-0.4 * mag))
        ra, dec, mag = field(int(1.6 * n), rs)
        stars = reference(ra, dec, mag, 0.1, rs)
        found = find_placement(catalog, stars, CHIP, AXIS, groups(48.0)[:1])
        alarms += found is not None
    # A significance of 3 is a chance of 1e-3 per frame, by a bound that is larger than the
    # chance: 0.2 expected, more than one in 1e-2 of all worlds.
    assert alarms <= 1


@pytest.mark.parametrize(("n_sources", "n_reference"), [(0, 100), (3, 100), (100, 0), (100, 3)])
def test_too_few_stars_are_not_found(n_sources, n_reference):
    catalog, stars, _ = observed(5)
    found = find_placement(catalog[:n_sources], stars[:n_reference], CHIP, AXIS, groups(48.0))
    assert found is None


def test_a_catalogue_of_another_place_is_not_found():
    catalog, _, _ = observed(6)
    _, elsewhere, _ = observed(7, axis=(20.0, 35.0))
    assert find_placement(catalog, elsewhere, CHIP, AXIS, groups(48.0)) is None


# ------------------------------------------------------------ matching


def test_matching_is_mutual_and_within_the_radius():
    wcs = pointing_wcs(CHIP, AXIS, 48.0)
    x = np.array([100.0, 102.0, 500.0, 900.0])
    y = np.array([100.0, 100.0, 500.0, 900.0])
    ra, dec = pixel_to_sky(wcs, np.array([101.5, 503.0, 2000.0]), np.array([100.0, 500, 2000]))
    stars = reference(ra, dec, [12, 12, 12], 0.0, np.random.RandomState(0))
    i, j = match_catalog(sources(x, y), stars, wcs, 2.0)
    # Star 0 (101.5) is nearest to the source at 102 and may not serve the one at 100 as well.
    table = sources(x, y)
    assert [(table["x"][a], b) for a, b in zip(i, j, strict=True)] == [(102.0, 0), (500.0, 1)]
    i, j = match_catalog(sources(x, y), stars, wcs, 0.3)
    assert [table["x"][a] for a in i] == [102.0]
    for some in (sources([], []), sources([3000.0], [10.0])):
        assert match_catalog(some, stars, wcs, 2.0)[0].size == 0
    assert match_catalog(sources(x, y), stars[:0], wcs, 2.0)[0].size == 0


def test_proper_motions_are_applied_and_missing_ones_are_not():
    table = Table(
        {
            "ra_deg": [359.9999, 10.0, 20.0, 30.0],
            "dec_deg": [60.0, 0.0, 0.0, 0.0],
            "pm_ra_mas_yr": [1000.0, np.nan, 0.0, 50.0],
            "pm_dec_mas_yr": [-500.0, 7.0, 0.0, 0.0],
            "epoch_yr": [2016.0, 2016.0, 2000.0, np.nan],
        }
    )
    with untouched(*(table[c] for c in table.colnames)):
        moved = at_epoch(table, 2026.0)
    # 10 years of 1" per year on the sky, at 60 degrees: 20" of right ascension, over the zero.
    assert moved["ra_deg"][0] == pytest.approx((359.9999 + 20 / 3600) % 360, abs=1e-9)
    assert moved["dec_deg"][0] == pytest.approx(60 - 5 / 3600, abs=1e-12)
    assert moved["ra_deg"][1] == 10
    assert moved["dec_deg"][1] == pytest.approx(0.07 / 3600)
    assert (moved["ra_deg"][2], moved["ra_deg"][3]) == (20, 30)
    again = at_epoch(moved, 2026.0)
    np.testing.assert_allclose(again["ra_deg"], moved["ra_deg"], atol=1e-12)
    plain = table["ra_deg", "dec_deg"]
    assert at_epoch(plain, 2026.0) is plain


def test_a_frame_as_a_catalogue():
    wcs = pointing_wcs(CHIP, AXIS, 48.0)
    catalog = sources([100.0, 200.0, 300.0], [50.0, 60.0, 70.0], [10.0, 1000.0, 100.0])
    catalog["flags"][1] = 1
    stars = as_catalog(catalog, wcs)
    assert len(stars) == 2
    np.testing.assert_allclose(
        sky_to_pixel(wcs, stars["ra_deg"], stars["dec_deg"])[0], [200, 100], atol=1e-6
    )
    assert stars["mag"][0] < stars["mag"][1]


def test_links_follow_the_stars():
    rs = np.random.RandomState(8)
    ra, dec, mag = field(400, rs)
    truths = dithers(pointing_wcs(CHIP, AXIS, 48.0), 5, 30.0, rs)
    catalogs, numbers = zip(*(seen(w, ra, dec, mag, CENTROID, rs) for w in truths), strict=True)
    catalogs[2]["flags"][::7] = 1
    matched, star_ra, star_dec = link(catalogs, truths)
    name = {}
    for frame, table, number in zip(matched, catalogs, numbers, strict=True):
        assert (np.asarray(table["flags"])[frame.row] == 0).all()
        assert len(set(frame.star)) == frame.star.size  # a star at most once per frame
        for star, who in zip(frame.star, number[frame.row], strict=True):
            assert name.setdefault(star, who) == who
    assert len(name) == len(set(name.values())) == star_ra.size
    who = np.array([name[k] for k in range(star_ra.size)])
    off = np.hypot(
        *np.subtract(to_plane(star_ra, star_dec, AXIS), to_plane(ra[who], dec[who], AXIS))
    )
    assert off.max() < 6 * CENTROID * PIXEL


# ------------------------------------------------------------ the solution


def distorted(base, axis, arcsec):
    """A template with more radial distortion, cubic in the distance from the telescope axis."""
    x, y = sky_grid(21)
    xi, eta = to_plane(*pixel_to_sky(base, x, y), axis)
    factor = arcsec / 2500.0 * (np.hypot(xi, eta) / 2500.0) ** 2
    ra, dec = from_plane(xi * (1 + factor), eta * (1 + factor), axis)
    return fit_tan_sip(x, y, ra, dec, tuple(base.wcs.crval))


def campaign(seed, *, n_frames=5, n_stars=1150, axis=AXIS, extra=8.5, scatter=0.1, claimed=None,
             turn_deg=0.0, outliers=0.0, dither=25.0):  # fmt: skip
    """Dithered frames through distorted optics: catalogues, truths, placements, reference."""
    rs = np.random.RandomState(seed)
    template = pointing_wcs(CHIP, axis, 48.0)
    ra, dec, mag = field(n_stars, rs, axis=axis, spread_pix=150)
    offsets = rs.uniform(-dither, dither, (n_frames, 2))
    truths, bases, catalogs = [], [], []
    for offset in offsets:
        turn = rs.normal(0, turn_deg)
        optics = distorted(pointing_wcs(CHIP, axis, 48.0 + turn), axis, extra)
        truths.append(shifted(optics, *offset))
        # The vote finds a place to a fraction of an arcsecond, about the middle of the chip.
        base = shifted(template, *offset)
        middle = difference(truths[-1], base, 2044.0, 2044.0)
        bases.append(shifted(base, *(middle.ravel() + rs.normal(0, 0.3, 2))))
        catalog, _ = seen(truths[-1], ra, dec, mag, CENTROID, rs)
        wrong = rs.uniform(size=len(catalog)) < outliers
        catalog["x"][wrong] += rs.normal(0, 1.0, wrong.sum())
        catalogs.append(catalog)
    stars = reference(ra, dec, mag, scatter, rs, claimed)
    wrong = rs.uniform(size=n_stars) < outliers
    stars["dec_deg"][wrong] += rs.uniform(-0.9, 0.9, wrong.sum()) / 3600
    return catalogs, truths, bases, stars


def solve(catalogs, bases, stars, config=AstrometryConfig()):
    """The recipe's own way: one frame alone, carried to the others, then all together."""
    fits = [refine_alone(c, stars, b, CHIP, config) for c, b in zip(catalogs, bases, strict=True)]
    best = int(np.argmax([n for _, n, _ in fits]))
    starts = [
        refine_shift(c, stars, carried(fits[best][0], bases[best], b), CHIP, config)
        for c, b in zip(catalogs, bases, strict=True)
    ]
    return solve_jointly(catalogs, starts, bases, CHIP, stars, config)


def errors(joint, truths):
    """East and north errors of every frame over the chip, arcsec: (frames, 2, places)."""
    x, y = sky_grid()
    return np.array([difference(w, t, x, y) for w, t in zip(joint.wcs, truths, strict=True)])


def due(n_stars, scatter=0.1, terms=21):
    """Rms error per axis of a polynomial of that many terms fitted to the catalogue's stars."""
    return scatter * np.sqrt(terms / n_stars)


@pytest.mark.parametrize("extra", [0.0, 8.5, -6.0])
def test_a_radial_distortion_of_17_pixels_is_solved(extra):
    catalogs, truths, bases, stars = campaign(10, extra=extra, n_frames=9)
    with untouched(*(c["x"] for c in catalogs), stars["ra_deg"]):
        joint = solve(catalogs, bases, stars)
    assert min(len(c) for c in catalogs) > 750
    off = errors(joint, truths)
    # 21 terms per axis from about 1000 stars of 0.1": 14 mas rms over the chip. What a frame has
    # of its own (shift, two slopes) is known from stars in common: sqrt(3 / 800) * 15 mas, less
    # than 1 mas. A chi-square of 42 terms may be 1.5 times its mean (99 %).
    assert np.sqrt((off**2).mean()) < 1.25 * due(1000)
    # At corners a polynomial of degree 5 is three times worse than on average.
    assert np.abs(off).max() < 4 * 3 * due(1000)
    # Frames among themselves: their common error is the catalogue's, not theirs.
    common = off.mean(axis=0)
    assert np.sqrt(((off - common) ** 2).mean()) < 0.002
    for solution in joint.solutions:
        assert solution.level == "full"
        assert solution.n_matched > 700
        # 0.1" of the catalogue and 15 mas of the centroid: 0.101; from 800 stars, two axes: 1.8 %.
        assert solution.rms_arcsec == pytest.approx(0.101, rel=5 * 0.018)
        # Of nine values a ninth of the variance is in their mean.
        assert solution.internal_rms_arcsec == pytest.approx(
            CENTROID * PIXEL * np.sqrt(8 / 9), rel=0.1
        )


def test_frames_that_are_turned_a_little_get_their_own_turn():
    # 0.004 deg: 0.07" at the chip's edges.
    catalogs, truths, bases, stars = campaign(11, turn_deg=0.004)
    off = errors(solve(catalogs, bases, stars), truths)
    assert np.sqrt((off**2).mean()) < 1.25 * due(1000)
    assert np.sqrt(((off - off.mean(axis=0)) ** 2).mean()) < 0.003


def test_wrong_stars_in_catalogue_and_frames_are_left_out():
    clean = campaign(12)
    dirty = campaign(12, outliers=0.2)
    off = errors(solve(dirty[0], dirty[2], dirty[3]), dirty[1])
    assert np.sqrt((off**2).mean()) < 1.4 * due(1000)
    assert np.sqrt(
        (errors(solve(clean[0], clean[2], clean[3]), clean[1]) ** 2).mean()
    ) < 1.25 * due(1000)


@pytest.mark.parametrize("claimed", [0.005, 0.02, 0.5])
def test_wrong_claims_of_the_catalogue_cost_no_frame(claimed):
    catalogs, truths, bases, stars = campaign(13, claimed=claimed)
    joint = solve(catalogs, bases, stars)
    assert [s.level for s in joint.solutions] == ["full"] * 5
    assert min(s.n_matched for s in joint.solutions) > 600
    assert np.sqrt((errors(joint, truths) ** 2).mean()) < 2 * due(1000)


@pytest.mark.parametrize("axis", [(200.0, 89.0), (10.0, -89.0), (0.02, -0.3)])
def test_poles_and_the_zero_of_right_ascension(axis):
    catalogs, truths, bases, stars = campaign(14, axis=axis, n_frames=5)
    joint = solve(catalogs, bases, stars)
    assert [s.level for s in joint.solutions] == ["full"] * 5
    assert np.sqrt((errors(joint, truths) ** 2).mean()) < 1.25 * due(1000)


def test_one_frame_alone():
    catalogs, truths, bases, stars = campaign(15, n_frames=1)
    joint = solve(catalogs, bases, stars)
    assert joint.solutions[0].level == "full"
    assert np.isnan(joint.solutions[0].internal_rms_arcsec)
    # Nothing but the catalogue: 24 terms.
    assert np.sqrt((errors(joint, truths) ** 2).mean()) < 1.25 * due(850, terms=24)


def test_with_ten_stars_the_template_holds_what_the_stars_do_not():
    catalogs, truths, bases, stars = campaign(16, n_stars=12, extra=0.0)
    joint = solve(catalogs, bases, stars)
    off = errors(joint, truths)
    # Shift and turn are known to 0.1" / sqrt(10) and twice that at the edges; a free polynomial of
    # 21 terms would run away by arcseconds.
    assert np.abs(off).max() < 1.0
    assert np.sqrt((off**2).mean()) < 0.25


def test_without_a_catalogue_frames_are_aligned_to_each_other():
    catalogs, truths, bases, _ = campaign(17, extra=0.0, n_frames=9)
    rs = np.random.RandomState(1)
    starts = [shifted(t, *rs.normal(0, 0.15, 2)) for t in truths]
    joint = solve_jointly(catalogs, starts, starts, CHIP, None)
    off = errors(joint, truths)
    # In this they agree: their common place is the mean of where they were put, 0.15" / 3. Their
    # common scale is held by the template alone: dithers of 25" that are off by 0.15" say nothing,
    # and what noise makes of it must stay far below the 2.5" at the edge that the prior allows.
    assert np.abs(off.mean(axis=0)).max() < 5 * 0.15 / 3 + 0.5
    assert np.sqrt(((off - off.mean(axis=0)) ** 2).mean()) < 0.003
    for solution in joint.solutions:
        assert solution.level == "relative"
        assert solution.internal_rms_arcsec == pytest.approx(
            CENTROID * PIXEL * np.sqrt(8 / 9), rel=0.1
        )
        assert np.isnan(solution.rms_arcsec)
        assert "pointing" in solution.reason
    assert joint.n_reference == 0
    assert len(joint.residuals) == 0


def test_star_numbers_are_those_of_the_stars():
    catalogs, truths, bases, stars = campaign(18, n_frames=3, n_stars=300)
    catalogs[1]["flags"][:5] = 1
    joint = solve(catalogs, bases, stars)
    assert (joint.stars[1][:5] == -1).all()
    place = {}
    for numbers, catalog, truth in zip(joint.stars, catalogs, truths, strict=True):
        assert numbers.shape == (len(catalog),)
        used = numbers >= 0
        ra, dec = pixel_to_sky(truth, catalog["x"][used], catalog["y"][used])
        for k, r, d in zip(numbers[used], ra, dec, strict=True):
            first = place.setdefault(k, (r, d))
            assert np.hypot(*np.subtract(to_plane(r, d, AXIS), to_plane(*first, AXIS))) < 0.2
    assert joint.n_stars == len(place)


def test_a_frame_without_stars_has_no_solution_and_harms_nobody():
    catalogs, truths, bases, stars = campaign(19, n_frames=4)
    starts = [refine_alone(c, stars, b, CHIP)[0] for c, b in zip(catalogs, bases, strict=True)]
    empty = list(catalogs)
    empty[2] = catalogs[2][:0]
    joint = solve_jointly(empty, starts, bases, CHIP, stars)
    assert [s.level for s in joint.solutions] == ["full", "full", "pointing", "full"]
    off = errors(joint, truths)[[0, 1, 3]]
    assert np.sqrt((off**2).mean()) < 1.25 * due(900)
    nothing = solve_jointly([c[:0] for c in catalogs], starts, bases, CHIP, stars)
    assert {s.level for s in nothing.solutions} == {"pointing"}


def test_a_frame_that_lies_elsewhere_is_not_called_solved():
    catalogs, _, bases, stars = campaign(20, n_frames=3)
    rs = np.random.RandomState(2)
    x, y = lattice((4088, 4088), 140, 20, rs)
    catalogs[1] = sources(x, y)
    joint = solve(catalogs, bases, stars)
    assert joint.solutions[0].level == joint.solutions[2].level == "full"
    assert joint.solutions[1].level == "pointing"
    assert "catalogue stars" in joint.solutions[1].reason


@pytest.mark.parametrize("dec", [-89.9, -30.0, 0.0, 89.95])
def test_a_shift_moves_all_of_a_chip_alike(dec):
    wcs = pointing_wcs(CHIP, (40.0, dec), 48.0)
    moved = shifted(wcs, 30.0, -20.0)
    x, y = sky_grid(5)
    centre = tuple(wcs.wcs.crval)
    here, there = (np.stack(to_plane(*pixel_to_sky(w, x, y), centre)) for w in (wcs, moved))
    # A rotation of the sphere by 36" seen in a plane of 0.4 deg: 36" * (0.007 rad)^2 = 2 mas, and
    # twice that along the shift.
    assert np.abs((there - here) - np.array([[30.0], [-20.0]])).max() < 0.01


def test_a_model_is_carried_with_pointing_and_turn():
    axis, other = (150.0, -20.0), (150.3, -20.2)
    model = distorted(pointing_wcs(CHIP, axis, 48.0), axis, 8.0)
    here, there = pointing_wcs(CHIP, axis, 48.0), pointing_wcs(CHIP, other, 138.0)
    got = carried(model, here, there)
    want = distorted(there, other, 8.0)
    x, y = sky_grid()
    # The same optics at another place of the sky, turned by a right angle: exact but for the
    # tangent points' 0.4 deg, in the second order of a correction of 8".
    assert np.abs(difference(got, want, x, y)).max() < 0.01
