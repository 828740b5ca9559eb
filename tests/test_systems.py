"""Magnitude systems and transforms: published numbers, and the algebra around them."""

import numpy as np
import pytest

from photometrus import systems
from photometrus.errors import UsageError
from photometrus.systems import SYSTEMS, TRANSFORMS, offset, transform_for, transformed


@pytest.mark.parametrize(
    ("system", "band", "expected"),
    [
        # 2.5 log10(3631 / 1594), (3631 / 1024): Cohen et al. 2003
        *(("2MASS", "J", 0.894), ("2MASS", "H", 1.374), ("UKIDSS", "J", 0.938)),
        *(("UKIDSS", "Y", 0.634), ("VISTA", "Z", 0.502), ("VISTA", "Y", 0.600)),
        *(("VISTA", "J", 0.916), ("VISTA", "H", 1.366), ("AB", "J", 0.0)),
    ],
)
def test_offsets_are_the_published_ones(system, band, expected):
    assert offset(system, band, "AB") == pytest.approx(expected, abs=5e-4)


def test_systems_are_not_mixed():
    # The surveys' J differ by up to 0.044 mag in AB: one's offset must not serve another's stars.
    assert len({round(offset(name, "J", "AB"), 3) for name in SYSTEMS}) == len(SYSTEMS) == 3
    for name, system in SYSTEMS.items():
        assert system.reference
        for band in system.to_ab:
            assert offset(name, band, "Vega") == 0.0
    for band in "ZYJH":
        assert offset("AB", band, "Vega") == -offset("VISTA", band, "AB")
        assert 0.4 < offset("VISTA", band, "AB") < 1.5


def test_what_is_not_published_is_refused():
    with pytest.raises(UsageError, match="2MASS has no band 'Y'.*J, H, K"):
        offset("2MASS", "Y", "AB")
    with pytest.raises(UsageError, match="'VISTAA'.*did you mean 'VISTA'"):
        offset("VISTAA", "J", "AB")
    with pytest.raises(UsageError, match="magnitude system 'ST'"):
        offset("AB", "J", "ST")
    assert transform_for("UKIDSS", "Z") is None
    assert transform_for("2MASS", "J") is None


@pytest.mark.parametrize(("band", "expected"), [("Z", 15.43), ("Y", 15.23)])
def test_a_star_of_a_colour_is_where_the_equation_puts_it(band, expected):
    # J = 15, J - Ks = 0.5: Z = 15 + 0.86 / 2, Y = 15 + 0.46 / 2
    transform = transform_for("2MASS", band)
    mags = {"J": np.array([15.0, 15.0]), "K": np.array([14.5, np.nan])}
    errors = {"J": np.array([0.03, 0.03]), "K": np.array([0.04, 0.04])}
    mag, error, common = transformed(transform, mags, errors)
    assert mag[0] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(mag[1])
    c, c_err = transform.coefficient, transform.coefficient_err
    assert error[0] == pytest.approx(np.hypot((1 + c) * 0.03, c * 0.04), rel=1e-12)
    assert common == pytest.approx(np.hypot(c_err * 0.5, 0.02), rel=1e-12)
    assert f"{band}(VISTA) = J +{c:g}" in str(transform)


def test_errors_are_the_scatter_of_noisy_stars():
    rs = np.random.RandomState(3)
    n, transform = 20000, transform_for("2MASS", "Y")
    mags = {"J": 15 + 0.03 * rs.standard_normal(n), "K": 14.4 + 0.05 * rs.standard_normal(n)}
    errors = {"J": np.full(n, 0.03), "K": np.full(n, 0.05)}
    mag, error, _ = transformed(transform, mags, errors)
    # a scatter of n values is known to 1 / sqrt(2 n) = 0.5 %; four of these
    assert mag.std() == pytest.approx(error[0], rel=0.02)


def test_no_stars_have_no_colour_but_a_floor():
    nothing = {"J": np.empty(0), "K": np.empty(0)}
    mag, error, common = transformed(TRANSFORMS[0], nothing, nothing)
    assert mag.shape == error.shape == (0,)
    assert common == TRANSFORMS[0].residual
    assert systems.DEFAULT in SYSTEMS
