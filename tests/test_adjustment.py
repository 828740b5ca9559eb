"""The joint adjustment: what frames have of their own is measured, not assumed."""

import numpy as np
import pytest

from photometrus.adjustment import FrameScatter, Observations, adjust, centroid_floor
from photometrus.optics import Optics, degrees, displacement, linear_parts, template_prior
from photometrus.wcs import crval, pointing_wcs
from synth import AXIS, untouched

CHIP, N_FRAMES, N_STARS = 1, 9, 400
WCS = pointing_wcs(CHIP, AXIS, 48.0)
SIGMA = np.array([30.0, 2.5, 0.1, 0.1, 0.1, 0.03])


def dithered(seed, *, centroid=0.005, scatter=(0.03, 0.008, 0.0), quadratic=0.1, catalogue=0.15):
    """Stars seen by dithered frames that are turned, stretched, sheared; and the true optics."""
    rs = np.random.RandomState(seed)
    optics = Optics(CHIP, 5)
    x, y = rs.uniform(0, 4088, (2, N_STARS))
    terms = np.zeros((21, 2))
    terms[3:6] = rs.normal(0, quadratic, (3, 2))
    angle = 2 * np.pi * np.arange(N_FRAMES) / N_FRAMES
    dither = 120.0 * np.stack([np.sin(angle), np.cos(angle)], axis=1)  # pixels, 60 arcsec
    parts = linear_parts(WCS)
    position, basis, shared, frame, own = [], [], [], [], []
    for k in range(N_FRAMES):
        px, py = x + dither[k, 0], y + dither[k, 1]
        b = optics.basis(px, py)
        sizes = (scatter[1], scatter[0], scatter[2], scatter[2])
        values = [rs.normal(0, s) for s in sizes]
        linear = sum(2 * v * p for v, p in zip(values, parts, strict=True))
        mine = np.array([[0, 0], [linear[1], linear[3]], [linear[0], linear[2]]])
        own.append(values)
        # The stars are at 0: what frames see of them is the optics, upside down.
        seen = -(b @ terms) - b[:, :3] @ mine + rs.normal(0, centroid, (N_STARS, 2))
        position.append(seen)
        basis.append(b)
        shared.append(optics.shared(WCS, px, py, crval(WCS)))
        frame.append(np.full(N_STARS, k))
    return (
        Observations(
            position=np.concatenate(position),
            error=np.full(N_FRAMES * N_STARS, 0.006),
            frame=np.concatenate(frame),
            star=np.tile(np.arange(N_STARS), N_FRAMES),
            basis=np.concatenate(basis),
            shared=np.concatenate(shared),
            known=rs.normal(0, catalogue, (N_STARS, 2)),
            known_error=np.full(N_STARS, 0.08),
        ),
        terms,
        np.array(own),
    )


def solved(seen, scatter=FrameScatter(0.15, 0.02, 0.01), rounds=3):
    prior = template_prior(SIGMA[degrees(5)], WCS, (10.0, 1.0), 0.3)
    for _ in range(rounds):
        with untouched(seen.position, seen.basis, seen.known):
            fit = adjust(seen, WCS, N_FRAMES, prior, 30.0, scatter)
        scatter = fit.scatter
    return fit


def test_frames_own_turn_and_stretch_are_measured():
    seen, _, own = dithered(1)
    scatter = solved(seen).scatter
    # Dithers hide two of nine stretches behind the quadratic terms: of seven values a scatter is
    # known to 1 / sqrt(14), twice that is allowed.
    assert scatter.turn == pytest.approx(own[:, 1].std(), rel=0.5)
    assert scatter.stretch == pytest.approx(own[:, 0].std(), rel=0.5)
    # A frame's shear is measured to 5 mas / sqrt(400 / 3) = 0.4 mas.
    assert scatter.shear < 0.001


def quadratic_error(fit, terms):
    """Of the whole displacement, in which shared terms and others cannot be told apart."""
    optics = Optics(CHIP, 5)
    x, y = (g.ravel() for g in np.meshgrid(*[np.linspace(0, 4088, 21)] * 2))
    basis = optics.basis(x, y)
    off = basis @ (fit.terms - terms)
    off += displacement(optics.shared(WCS, x, y, crval(WCS)), fit.factors)
    coefficients = np.linalg.lstsq(basis, off, rcond=None)[0]
    return float(np.sqrt(np.mean(coefficients[3:6] ** 2)))


def test_dithers_see_the_quadratic_terms_when_frames_are_alike():
    free, held = [], []
    for seed in range(6):
        seen, terms, _ = dithered(10 + seed, scatter=(0.03, 0.0, 0.0))
        held.append(quadratic_error(solved(seen), terms))
        free.append(quadratic_error(solved(seen, FrameScatter(0.15, 0.15, 0.15), 1), terms))
    # By the catalogue: 0.15 / sqrt(400 / 4) = 15 mas. By the dithers: a derivative of 3 a u d, with
    # d = 0.04 and u = 0.58 rms, from 3600 detections of 5 mas: 1.2 mas; five times that is still
    # far from 15.
    assert np.sqrt(np.mean(np.square(held))) < 0.006
    assert np.sqrt(np.mean(np.square(free))) > 0.009


def test_the_floor_of_centroids_is_measured():
    seen, _, _ = dithered(2, centroid=0.005)
    fit = solved(seen)
    # 5 mas in all, of which 3 are claimed: 4 are left; from some thousand values, 3 %.
    assert centroid_floor(seen, fit.residual, np.full(3600, 0.003)) == pytest.approx(0.004, rel=0.1)
    assert centroid_floor(seen, fit.residual, np.full(3600, 0.02)) == 0.0


def test_nothing_is_said_of_a_floor_without_dithers():
    seen, _, _ = dithered(3)
    one = slice(0, N_STARS)
    alone = Observations(
        position=seen.position[one],
        error=seen.error[one],
        frame=seen.frame[one],
        star=seen.star[one],
        basis=seen.basis[one],
        shared=seen.shared[one],
        known=seen.known,
        known_error=seen.known_error,
    )
    assert np.isnan(centroid_floor(alone, np.zeros((N_STARS, 2)), np.full(N_STARS, 0.01)))


def test_information_is_that_of_the_detections():
    seen, terms, _ = dithered(4, scatter=(0.0, 0.0, 0.0))
    fit = solved(seen)
    # With the prior of the last round added it is the curvature, and gives the solution back.
    estimate = np.linalg.solve(fit.curvature, fit.pull)
    want = np.concatenate([fit.terms[:, 0], fit.terms[:, 1], fit.factors])
    np.testing.assert_allclose(estimate, want, atol=1e-6)
