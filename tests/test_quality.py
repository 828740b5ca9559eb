"""Transparencies from stars in common, and which frames a stack is better without."""

from dataclasses import replace

import numpy as np
import pytest

from photometrus.frame import Quality
from photometrus.stages.coadd import CoaddConfig
from photometrus.stages.quality import MIN_STARS, reject, relative_fluxes
from synth import sources

GOOD = Quality(1000.0, 5.0, 1.2, 0.05, 500, 1.0)


def frames(transparency, n_stars, scatter, rs, seen=0.8):
    """Catalogues of the same stars, each frame seeing some of them; and their numbers."""
    flux = 10 ** rs.uniform(3, 5, n_stars)
    catalogs, numbers = [], []
    for factor in transparency:
        star = np.flatnonzero(rs.uniform(size=n_stars) < seen)
        measured = factor * flux[star] * rs.normal(1, scatter, star.size)
        order = np.argsort(-measured, kind="stable")
        catalogs.append(sources(star[order], star[order], measured[order]))
        numbers.append(star[order])
    return catalogs, numbers


def test_transparencies_are_recovered():
    rs = np.random.RandomState(0)
    truth = np.array([1.0, 0.9, 1.0, 0.4, 1.05, 1.0, 0.97])
    got = relative_fluxes(*frames(truth, 200, 0.02, rs))
    # Medians of 160 stars at 2 %: 1.25 * 2 % / sqrt(160) = 0.2 % per frame, about twice that with
    # the stars' own means from seven frames; five of them. In units of the median frame (1.0).
    np.testing.assert_allclose(got, truth, rtol=0.02)
    assert np.median(got) == pytest.approx(1, abs=1e-12)


def test_variables_and_wrong_matches_do_not_matter():
    rs = np.random.RandomState(1)
    truth = np.array([1.0, 0.8, 1.0, 1.0, 1.2])
    catalogs, numbers = frames(truth, 300, 0.02, rs)
    for table in catalogs:
        wrong = rs.choice(len(table), len(table) // 10, replace=False)
        table["flux"][wrong] *= 10 ** rs.uniform(-1, 1, wrong.size)
    np.testing.assert_allclose(relative_fluxes(catalogs, numbers), truth, rtol=0.02)


def test_a_frame_with_too_few_stars_in_common_is_unknown_and_harms_nobody():
    rs = np.random.RandomState(2)
    catalogs, numbers = frames([1.0, 1.0, 0.7, 1.0], 100, 0.01, rs)
    few = MIN_STARS - 1
    catalogs[1], numbers[1] = catalogs[1][:few], numbers[1][:few]
    got = relative_fluxes(catalogs, numbers)
    assert np.isnan(got[1])
    np.testing.assert_allclose(got[[0, 2, 3]], [1.0, 0.7, 1.0], rtol=0.02)


def test_flagged_faint_and_unnumbered_stars_are_not_used():
    rs = np.random.RandomState(3)
    catalogs, numbers = frames([1.0, 0.5, 1.0], 60, 0.01, rs, seen=1.0)
    for table, number in zip(catalogs, numbers, strict=True):
        table["flags"][::3] = 1
        table["flux"][::3] *= rs.uniform(1, 100)
        table["snr"][1::3] = 3
        table["flux"][1::3] *= rs.uniform(1, 100)
        number[2::6] = -1
    np.testing.assert_allclose(relative_fluxes(catalogs, numbers), [1, 0.5, 1], rtol=0.02)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_without_stars_nothing_is_known(n):
    got = relative_fluxes([sources([], [])] * n, [np.empty(0, int)] * n)
    assert got.shape == (n,)
    assert np.isnan(got).all()


def test_strangers_have_no_transparency():
    tables = [sources(np.arange(20), np.arange(20))] * 2
    got = relative_fluxes(tables, [np.arange(20), np.arange(20) + 50])
    assert np.isnan(got).all()


def test_bad_frames_get_a_reason_and_good_ones_none():
    qualities = [
        GOOD,
        replace(GOOD, transparency=0.3),
        replace(GOOD, seeing_arcsec=2.5),
        replace(GOOD, ellipticity=0.4),
        replace(GOOD, transparency=0.6, seeing_arcsec=1.4, ellipticity=0.2),
        GOOD,
        replace(GOOD, transparency=0.2, seeing_arcsec=3.0),
        GOOD,
    ]
    reasons = reject(qualities)
    assert [bool(reason) for reason in reasons] == [0, 1, 1, 1, 0, 0, 1, 0]
    assert "cloud" in reasons[1]
    assert "0.30" in reasons[1]
    assert "blurred" in reasons[2]
    assert "2.50" in reasons[2]
    assert "trailed" in reasons[3]
    assert "cloud" in reasons[6]
    assert "blurred" in reasons[6]


def test_limits_are_relative_to_the_night():
    hazy = replace(GOOD, seeing_arcsec=3.0, transparency=1.0, ellipticity=0.3)
    assert reject([hazy] * 5) == [""] * 5
    assert reject([]) == []


def test_an_unknown_seeing_is_no_reason():
    unknown = replace(GOOD, seeing_arcsec=float("nan"), ellipticity=float("nan"))
    assert reject([GOOD, unknown, GOOD]) == ["", "", ""]


def test_a_frame_that_shares_no_stars_is_cloudy_when_the_others_do():
    unknown = replace(GOOD, transparency=float("nan"))
    reasons = reject([GOOD, GOOD, unknown, GOOD])
    assert "cloud" in reasons[2]
    assert not any(reasons[:2] + reasons[3:])
    assert reject([unknown] * 4) == [""] * 4


def test_limits_can_be_tuned():
    slow = replace(GOOD, seeing_arcsec=1.5)
    assert reject([GOOD, GOOD, slow], CoaddConfig(max_seeing_ratio=1.1))[2]
    assert not reject([GOOD, GOOD, slow])[2]


def depth(qualities):
    """Squared signal to noise of a faint star in a stack with weights of inverse variance."""
    weight = np.array([(q.transparency / q.noise_adu) ** 2 for q in qualities])
    area = np.array([q.seeing_arcsec**2 for q in qualities])
    return weight.sum() ** 2 / (weight * area).sum()


def test_what_is_left_is_the_deepest_of_all_choices():
    rs = np.random.RandomState(3)
    for _ in range(20):
        night = [
            replace(
                GOOD,
                seeing_arcsec=rs.uniform(1.0, 1.55),
                transparency=rs.uniform(0.6, 1.0),
                noise_adu=rs.uniform(5, 8),
            )
            for _ in range(7)
        ]
        reasons = reject(night)
        left = [q for q, reason in zip(night, reasons, strict=True) if not reason]
        best = max(
            depth([night[k] for k in range(7) if number >> k & 1]) for number in range(1, 128)
        )
        # It stops when no single frame is worth 0.002 mag; several of those add up to 0.01.
        assert 1.25 * np.log10(best / depth(left)) < 0.01
        for reason in filter(None, reasons):
            assert "deeper without it" in reason
