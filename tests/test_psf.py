"""The PSF that is learned from a field whose PSF is known."""

import numpy as np
import pytest
from astropy.table import vstack

from photometrus.stages.psf import PsfConfig, fit_psf
from starfield import draw, enclosed, field, fwhm_at
from synth import untouched


@pytest.fixture(scope="module")
def stars():
    return field(1)


@pytest.fixture(scope="module")
def psf(stars):
    with untouched(stars.data, stars.weight, stars.flags):
        return fit_psf(stars.data, stars.weight, stars.flags, stars.sources, np.nan)


def true_stamp(x, y, half, size):
    image = np.zeros((size, size), np.float32)
    draw(image, x, y, 1.0, size, cut=1e-8)
    j, i = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
    return image[j - half : j + half + 1, i - half : i + half + 1]


@pytest.mark.parametrize(
    ("x", "y"), [(320.0, 320.0), (60.3, 50.45), (600.5, 580.2), (40.2, 600.4), (600.1, 30.9)]
)
def test_it_is_the_true_psf_all_over_the_field(stars, psf, x, y):
    half = 7
    truth = true_stamp(x, y, half, stars.size)
    truth = truth / enclosed(psf.reference_pix, fwhm_at(x, y, stars.size))
    image = psf.stamp(x, y, half)
    # 120 stars of S/N 100 to 1000 determine 6 numbers for each node; at the corners the
    # polynomial's error is a few times the middle's. 1 % of the peak is ten times less than the
    # PSF's change across the field (20 % in FWHM: 40 % of the peak).
    assert np.abs(image - truth).max() < 0.012 * truth.max()
    assert psf.fwhm_at(x, y) == pytest.approx(fwhm_at(x, y, stars.size), rel=0.04)
    # Pixels blur a star by 1/12 pix^2 per axis, which is in the FWHM above: 2 % of it.


def test_it_sums_to_one_within_the_reference_radius(stars, psf):
    for x, y in ((10, 10), (320, 100), (630, 600)):
        assert psf.enclosed(x, y, psf.reference_pix) == pytest.approx(1, abs=1e-3)
        # The sum of a star's pixels does not depend on where in a pixel it is.
        sums = [psf.stamp(x + d, y - d / 2).sum() for d in (0.0, 0.25, 0.5)]
        assert np.ptp(sums) < 1e-3
    # The growth curve is the truth's, to 0.3 % in the wings.
    for radius in (4.0, 7.0, 10.0):
        truth = enclosed(radius, fwhm_at(320, 320, 640)) / enclosed(psf.reference_pix, 3.6)
        assert psf.enclosed(320, 320, radius) == pytest.approx(truth, abs=0.006)


def test_what_it_says_of_itself(stars, psf):
    assert psf.degree >= 1 and 60 < psf.n_stars <= 300 and psf.notes == []
    assert len(psf.stars) == psf.n_stars
    assert psf.residual_rms < 0.03
    assert psf.fwhm_pix == pytest.approx(3.65, abs=0.1)
    # pi alpha^2 (2 beta - 1) / (beta - 1)^2 pixels of a Moffat function; its own pixels blur it.
    alpha = 3.6 / (2 * np.sqrt(2 ** (1 / 3) - 1))
    assert psf.noise_area(320, 320) == pytest.approx(np.pi * alpha**2 * 5 / 4, rel=0.05)


def test_the_same_input_gives_the_same_bits(stars, psf):
    again = fit_psf(stars.data, stars.weight, stars.flags, stars.sources, np.nan)
    assert again.cube.tobytes() == psf.cube.tobytes()


def test_galaxies_saturated_and_flagged_stars_are_not_among_its_stars():
    stars = field(2, bright=80, faint=0)
    rs = np.random.RandomState(5)
    extra = stars.sources[:0].copy()
    for k, (x, y) in enumerate(rs.uniform(30, 610, (20, 2))):
        wide, flux = (1.8, 30000.0) if k < 10 else (1.0, 90000.0)
        draw(stars.data, x, y, flux, stars.size, wider=wide)
        extra.add_row({"x": x, "y": y, "fwhm": 7.0 if k < 10 else 3.8, "flags": 0})
    peak = 2000.0
    for x, y in zip(extra["x"][10:], extra["y"][10:], strict=True):
        part = np.s_[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7]
        stars.data[part] = np.minimum(stars.data[part], peak)  # saturated, and nobody said so
    sources = vstack([stars.sources, extra])
    stars.flags[:, :100] = 8
    psf = fit_psf(stars.data, stars.weight, stars.flags, sources, peak)
    chosen = np.array([psf.stars["x"], psf.stars["y"]]).T
    for x, y in zip(extra["x"], extra["y"], strict=True):
        assert np.hypot(*(chosen - (x, y)).T).min() > 2
    assert chosen[:, 0].min() > 95


def test_few_stars_give_a_constant_psf_near_the_model():
    stars = field(3, bright=4, faint=0)
    psf = fit_psf(stars.data, stars.weight, stars.flags, stars.sources, np.nan)
    assert 1 <= psf.n_stars <= 4 and psf.degree == 0 and "only" in psf.notes[0]
    truth = true_stamp(320.0, 320.0, 6, 640) / enclosed(psf.reference_pix, 3.6)
    # It is the mean of four places whose FWHM differ by 20 %: +-10 % of FWHM, 20 % of the peak.
    assert np.abs(psf.stamp(320, 320, 6) - truth).max() < 0.2 * truth.max()


def test_no_star_gives_a_moffat_function_and_says_so():
    stars = field(3, bright=4, faint=0)
    for sources in (stars.sources[:0], stars.sources):
        psf = fit_psf(
            stars.data, stars.weight, stars.flags, sources, np.nan, PsfConfig(min_snr=1e9)
        )
        assert psf.n_stars == 0 and "no star" in psf.notes[0]
        assert psf.enclosed(100, 100, psf.reference_pix) == pytest.approx(1, abs=1e-3)
        assert np.isfinite(psf.stamp(3, 4)).all()
    assert psf.fwhm_at(320, 320) == pytest.approx(
        np.percentile(stars.sources["fwhm"], 30), rel=0.02
    )
