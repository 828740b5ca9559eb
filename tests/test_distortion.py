"""The distortion of other nights: it helps where stars are few, and never where it is wrong."""

import json
from datetime import date

import numpy as np
import pytest

from photometrus.distortion import (
    Distortion,
    aged,
    as_prior,
    disagreement,
    kept_terms,
    measured,
    together,
)
from photometrus.distortion_store import MAX_ENTRIES, DistortionStore, store_folder
from photometrus.optics import SHARED, Optics, degrees, template_prior
from photometrus.stages.astrometry import AstrometryConfig, solve_jointly, worth_keeping
from photometrus.wcs import pointing_wcs
from synth import AXIS, untouched
from test_astrometry import CHIP, campaign, errors, solve

DEGREE = 5
SIZE = len(kept_terms(DEGREE))
CONFIG = AstrometryConfig()


def some(seed, weight=1e4):
    """Information of a random positive matrix about random values of about 0.1 arcsec."""
    rs = np.random.RandomState(seed)
    root = rs.normal(size=(SIZE, SIZE))
    information = weight * (root @ root.T / SIZE + np.eye(SIZE))
    values = rs.normal(0, 0.1, SIZE)
    return Distortion(information, information @ values), values


def template():
    sigma = np.asarray(CONFIG.prior_arcsec)[degrees(DEGREE)]
    return template_prior(sigma, pointing_wcs(CHIP, AXIS, 48.0), CONFIG.prior_shared, 0.3)


def store(folder, ramps=("01000001C1", "01000009C1"), night=date(2024, 6, 6)):
    return DistortionStore(folder, "J", 1, night, ramps, DEGREE)


# ------------------------------------------------------------ what is kept


@pytest.mark.parametrize("rotator", [48.0, 138.0, -20.0])
def test_a_distortion_survives_the_turn_of_the_rotator(rotator):
    kept, values = some(1)
    n = 2 * len(degrees(DEGREE)) + SHARED
    here, there = pointing_wcs(CHIP, AXIS, 48.0), pointing_wcs(CHIP, AXIS, rotator)
    with untouched(kept.information, kept.pull):
        prior = as_prior(kept, there, DEGREE)
    assert prior.precision.shape == (n, n)
    again = measured(prior.precision, prior.pull, there, DEGREE)
    np.testing.assert_allclose(np.linalg.solve(again.information, again.pull), values, atol=1e-9)
    # Seen from a chip that is turned, east is another way: the numbers differ, the sky does not.
    other = as_prior(kept, here, DEGREE)
    same = np.allclose(other.precision, prior.precision)
    assert same == (rotator == 48.0)


def test_shift_and_linear_terms_are_not_kept():
    low = np.flatnonzero(degrees(DEGREE) < 2)
    prior = as_prior(some(2)[0], pointing_wcs(CHIP, AXIS, 48.0), DEGREE)
    assert not prior.precision[low].any()
    assert not prior.pull[low].any()


def test_age_makes_uncertain_and_does_not_move():
    kept, values = some(3, weight=1e8)
    fresh, old = (aged(kept, days, DEGREE) for days in (0, 300))
    for one in (fresh, old):
        np.testing.assert_allclose(np.linalg.solve(one.information, one.pull), values, atol=1e-9)
    # Stars that know everything: what is left is the drift of a quadratic term, 10 mas, and of one
    # that is 300 days old sqrt(1 + 3) times that.
    sigma = [np.sqrt(np.linalg.inv(one.information)[0, 0]) for one in (fresh, old)]
    assert sigma == pytest.approx([0.010, 0.020], rel=0.02)


def test_what_is_not_known_stays_unknown():
    nothing = aged(Distortion(np.zeros((SIZE, SIZE)), np.zeros(SIZE)), 10, DEGREE)
    assert not nothing.information.any()


def test_two_nights_know_more_than_one():
    (a, x), (b, y) = some(4), some(5)
    both = together([a, b])
    value = np.linalg.solve(both.information, both.pull)
    want = np.linalg.solve(a.information + b.information, a.information @ x + b.information @ y)
    np.testing.assert_allclose(value, want, atol=1e-12)


def test_disagreement_is_found_and_chance_is_none():
    rs = np.random.RandomState(6)
    kept, values = some(7)
    spread = np.linalg.cholesky(np.linalg.inv(kept.information))
    alarms = 0
    for _ in range(200):
        ours = values + spread @ rs.normal(size=SIZE)
        theirs = values + spread @ rs.normal(size=SIZE)
        pair = [Distortion(kept.information, kept.information @ v) for v in (ours, theirs)]
        alarms += bool(disagreement(*pair, template(), Optics(CHIP, DEGREE)))
    # Two tests of 0.003 each: 1.2 of 200 expected, more than 7 in 1e-4 of all worlds.
    assert alarms <= 7
    moved = values.copy()
    moved[0] += 8 * np.sqrt(2) * spread[0, 0]
    other = Distortion(kept.information, kept.information @ moved)
    assert "quadratic" in disagreement(kept, other, template(), Optics(CHIP, DEGREE))


# ------------------------------------------------------------ in the solution


def known(seed, **changes):
    """What a good night says: 9 frames, a thousand stars."""
    catalogs, _, bases, stars = campaign(seed, n_frames=9, **changes)
    joint = solve(catalogs, bases, stars)
    assert worth_keeping(joint, CONFIG)
    return aged(joint.distortion, 30, DEGREE)


def test_a_stored_distortion_helps_a_single_frame_with_few_stars():
    stored = known(30)
    catalogs, truths, bases, stars = campaign(31, n_frames=1, n_stars=60)
    alone = solve(catalogs, bases, stars)
    helped = solve_jointly(catalogs, alone.wcs, bases, CHIP, stars, stored=stored)
    assert helped.contradiction == ""
    assert helped.solutions[0].level == "affine"
    assert "the stored one" in helped.solutions[0].reason
    assert "the template's" in alone.solutions[0].reason
    before, after = (np.sqrt((errors(one, truths) ** 2).mean()) for one in (alone, helped))
    # Shift and linear terms from 45 stars of 0.1": 0.1 sqrt(3 / 45) = 26 mas, chance included.
    assert after < 1.6 * 0.026
    assert after < before


def test_a_stored_distortion_does_not_move_what_the_stars_know():
    stored = known(32)
    catalogs, truths, bases, stars = campaign(33, n_frames=9)
    alone = solve(catalogs, bases, stars)
    both = solve_jointly(catalogs, alone.wcs, bases, CHIP, stars, stored=stored)
    assert both.contradiction == ""
    before, after = (np.sqrt((errors(one, truths) ** 2).mean()) for one in (alone, both))
    assert after < 1.1 * before


def test_a_wrong_store_is_left_out():
    stored = known(34, extra=7.5)
    catalogs, truths, bases, stars = campaign(35, n_frames=9, extra=8.5)
    alone = solve(catalogs, bases, stars)
    both = solve_jointly(catalogs, alone.wcs, bases, CHIP, stars, stored=stored)
    assert "chi-square" in both.contradiction
    # Three rounds more from where the first three ended: nothing moves by a milliarcsecond.
    assert np.abs(errors(both, truths) - errors(alone, truths)).max() < 0.001


# ------------------------------------------------------------ on disk


def test_an_observation_is_not_its_own_witness(tmp_path):
    kept, values = some(8)
    mine = store(tmp_path)
    assert mine.stored() is None
    mine.keep(kept, 500)
    assert mine.stored() is None
    other = store(tmp_path, ("01000020C1",), date(2024, 6, 7)).stored()
    assert other is not None
    np.testing.assert_allclose(np.linalg.solve(other.information, other.pull), values, rtol=1e-4)
    # Reduced again it takes its own place, and the file does not change.
    before = mine.path.read_bytes()
    mine.keep(kept, 500)
    assert mine.path.read_bytes() == before


def test_the_newest_stay_and_a_contradiction_begins_anew(tmp_path):
    kept, _ = some(9)
    for k in range(MAX_ENTRIES + 3):
        store(tmp_path, (f"0{1000 + k}000C1",), date(2024, 6, 1 + k)).keep(kept, 500)
    last = store(tmp_path, ("09999999C1",), date(2024, 7, 1))
    assert len(last.entries()) == MAX_ENTRIES
    assert last.entries()[0].night == "2024-06-04"
    last.keep(kept, 500, alone=True)
    assert [entry.night for entry in last.entries()] == ["2024-07-01"]
    assert store(tmp_path, ("01C1",), date(2026, 7, 1)).stored() is None  # two years later


def test_the_store_may_be_off_or_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("PHOTOMETRUS_DISTORTIONS", str(tmp_path / "here"))
    assert store_folder() == tmp_path / "here"
    assert store_folder("none") is None
    assert store_folder(str(tmp_path)) == tmp_path
    monkeypatch.delenv("PHOTOMETRUS_DISTORTIONS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert store_folder() == tmp_path / "photometrus" / "distortion"
    off = store(None)
    off.keep(some(10)[0], 500)
    assert off.stored() is None
    bad = store(tmp_path)
    for text in ("{", "[]", json.dumps({"entries": [{"night": "x"}]})):
        bad.path.write_text(text)
        assert bad.stored() is None
    bad.keep(some(10)[0], 500)
    assert len(bad.entries()) == 1
