"""The stack's compression changes neither depth nor photometry."""

import numpy as np
import pytest
import sep
from astropy.io import fits

from photometrus.config import Config
from photometrus.io.fitsfile import write_compressed

NOISE = 2.4
N_STARS = 400


@pytest.fixture(scope="module")
def stack():
    """Noise as a resampled stack has it, stars of S/N 3 to 3000, an edge that no frame saw."""
    rs = np.random.RandomState(8)
    size = 1024
    data = rs.normal(0, NOISE, (size, size)).astype(np.float32)
    x, y = rs.uniform(40, size - 20, (2, N_STARS))
    flux = 10 ** rs.uniform(1.2, 4.2, N_STARS)
    for a, b, f in zip(x, y, flux, strict=True):
        part = np.s_[int(b) - 12 : int(b) + 13, int(a) - 12 : int(a) + 13]
        yy, xx = np.mgrid[part]
        data[part] += f / (2 * np.pi * 2.0) * np.exp(-((xx - a) ** 2 + (yy - b) ** 2) / 4.0)
    data[:, :20] = 0
    data[:3] = 0
    return data, x, y


@pytest.mark.parametrize("noise", [NOISE, np.nan])
def test_depth_and_photometry_do_not_change(stack, tmp_path, noise):
    data, x, y = stack
    level = Config().coadd.quantize_level
    write_compressed(tmp_path / "c.fits.fz", data, fits.Header(), level, noise)
    back = fits.getdata(tmp_path / "c.fits.fz").astype(np.float32)
    # Pixels that no frame saw stay exactly 0.
    assert (back[data == 0] == 0).all()
    # A step of noise / level, dithered, adds the variance of a uniform error: 1 / (12 level**2),
    # 0.03 % of the noise's at 16. The level refers to the noise given, or to the library's own
    # estimate of a tile's, good to a few percent; the differences' variance is known to 0.2 %.
    added = np.var(back[3:, 20:].astype(float) - data[3:, 20:]) / NOISE**2
    assert added == pytest.approx(1 / (12 * level**2), rel=0.15)
    # Fluxes in 3 pixels radius: the 28 pixels' errors add to sqrt(28 / 12) / level of the noise
    # of one, 2 % of the flux's own error, and do not depend on the flux.
    before, error, _ = sep.sum_circle(data, x, y, 3.0, err=NOISE)
    after, _, _ = sep.sum_circle(back, x, y, 3.0)
    change = (after - before) / error
    expected = np.sqrt(1 / 12) / level
    assert np.std(change) == pytest.approx(expected, rel=0.2)
    assert abs(np.mean(change)) < 5 * expected / np.sqrt(N_STARS)
    # Depth: what an empty aperture scatters by, and with it the limiting magnitude, is the same.
    depth = 2.5 * np.log10(np.hypot(1, np.std(change)))
    assert depth < 0.001
