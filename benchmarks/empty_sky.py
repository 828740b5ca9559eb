"""What `photometrus` claims to see where nothing is.

    python benchmarks/empty_sky.py STACK TRUTH_DIR [--places 20000] [--chip 3]

Fluxes are forced at random places where the truth has no star and no galaxy, and sources are
sought in the negative of the image. Both should be as many as Gaussian noise makes.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import norm

from helpers import machine, robust_sigma
from judge.truth import read_truth
from photometrus.config import Config
from photometrus.frame import no_progress
from photometrus.io.stackfile import read_stack
from photometrus.photometry.sources import Measures, measure_sources
from photometrus.stages.detection import detect
from photometrus.stages.noise import true_weights
from photometrus.stages.psfphotometry import matched, measure_psf
from photometrus.wcs import sky_to_pixel

FAINTEST = 21.0
"""Fainter sources are below a tenth of the noise: as good as nothing."""
APART_FWHM = (3.0, 12.0)
"""From faint and from bright sources."""
BRIGHT = 15.0
SIGMA_OF_FWHM = 1 / 2.3548


def empty_places(measured: Measures, truth_dir: Path, chip: int, wanted: int) -> np.ndarray:
    """Random places far from every true source: float64 (n, 2), x and y."""
    truth = read_truth(truth_dir, chip)
    bright = truth.mag < FAINTEST
    x, y = sky_to_pixel(measured.stack.wcs, truth.table["RA"][bright], truth.table["DEC"][bright])
    reach = np.interp(truth.mag[bright], (BRIGHT, FAINTEST - 1), APART_FWHM[::-1])
    ny, nx = measured.stack.data.shape
    places = np.random.default_rng(7).uniform(0, 1, (6 * wanted, 2)) * (nx - 1, ny - 1)
    free = np.ones(len(places), bool)
    for width in np.unique(np.ceil(reach)):
        these = np.ceil(reach) == width
        tree = cKDTree(np.stack([x[these], y[these]], axis=1))
        free &= tree.query(places)[0] > width * measured.psf.fwhm_pix
    return places[free][:wanted]


def forced(measured: Measures, places: np.ndarray, config: Config) -> None:
    """What is seen at empty places."""
    stack = measured.stack
    flux, error = matched(
        stack.data, stack.weight, tuple(places.T), measured.psf, config.psf_photometry
    )
    snr = flux / (error * measured.noise_factor)
    seen = np.isfinite(snr)
    ix, iy = np.rint(places[seen]).astype(int).T
    usual = np.median(stack.weight[stack.weight > 0])
    deep = stack.weight[iy, ix] > 0.7 * usual
    snr = snr[seen]
    print(f"{snr.size} empty places: mean {snr.mean():+.3f}, width {robust_sigma(snr):.3f}")
    for name, which in (("all frames", deep), ("fewer", ~deep)):
        if which.sum() > 30:
            value = snr[which]
            print(f"  {name}: {value.size}, mean {value.mean():+.3f}, {robust_sigma(value):.3f}")
    for level in (3.0, 4.0, 5.0):
        print(
            f"  above {level:.0f} sigma {np.sum(snr > level)}, below -{level:.0f} sigma"
            f" {np.sum(snr < -level)}, Gaussian {snr.size * norm.sf(level):.2f} each"
        )


def negative(measured: Measures, config: Config) -> None:
    """What is found in the image upside down."""
    stack = measured.stack
    found = detect(replace(stack, data=-stack.data), config.detection)
    fluxes = measure_psf(
        found.stack.data, stack.weight, found.table, measured.psf, np.nan, config.psf_photometry
    )
    snr = np.asarray(fluxes["flux_psf"] / (fluxes["flux_psf_err"] * measured.fit_factor), float)
    curvature = 0.5 / (SIGMA_OF_FWHM * measured.psf.fwhm_pix) ** 2
    area = np.count_nonzero(stack.weight) * float(np.mean(measured.found.empty.hide == 0))
    for level in (4.0, 5.0):
        # Maxima of a Gaussian field, smoothed by a Gaussian (Adler 1981).
        expected = area * curvature * level * np.exp(-0.5 * level**2) / (2 * np.pi) ** 1.5
        print(
            f"negative image above {level:.0f} sigma: {np.sum(snr > level)}, Gaussian"
            f" {expected:.1f}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--chip", type=int, default=3)
    parser.add_argument("--places", type=int, default=20_000)
    given = parser.parse_args()
    config = Config()
    print(machine())
    stack = true_weights(read_stack(given.stack), config.noise)
    measured = measure_sources(stack, config, map, no_progress)
    print(f"noise factor {measured.noise_factor:.3f}, of fits {measured.fit_factor:.3f}")
    forced(measured, empty_places(measured, given.truth, given.chip, given.places), config)
    negative(measured, config)
    return 0


if __name__ == "__main__":
    sys.exit(main())
