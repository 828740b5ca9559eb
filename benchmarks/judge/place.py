"""How the magnitude error depends on the place on the chip."""

import numpy as np

from helpers import MEDIAN_ERROR, Numbers, fit_plane_clipped, polynomial, robust_sigma
from judge.astrometry import CORNER
from judge.flux import aperture_flux
from judge.scene import Scene, stray_light


def by_place(scene: Scene) -> Numbers:
    """How the magnitude error depends on the place: corners, a quadratic, the pixel area.

    The aperture is wide (3 FWHM), so that a PSF that widens towards the edge costs < 0.1 %.
    `area_slope` is d(mag error) / d(2.5 log10 of detector pixels per sky area): 0 when flux is
    right everywhere, +1 when the stack kept surface brightness although the flat does not hold
    the pixel area, -1 when it is corrected twice.
    """
    truth, radius = scene.truth, 3 * scene.fwhm_pix
    stars = scene.stars(truth.saturation_mag, 18.0)
    seeing = scene.fwhm_pix * scene.stack.pixel_arcsec
    chosen = np.zeros(len(truth.mag), dtype=bool)
    chosen[stars] = True
    stars = stars[stray_light(truth, seeing, 3 * seeing, chosen)[stars] < 0.02]
    flux, whole = aperture_flux(scene, stars, radius)
    whole &= flux > 0
    stars, flux = stars[whole], flux[whole]
    noise = np.median(scene.noise[scene.stack.used]) * np.sqrt(np.pi) * radius
    sigma = np.hypot(1.0857 * noise / flux, 0.01)
    use = sigma < 0.05
    if use.sum() < 30:
        return {"n_stars": int(use.sum())}
    stars, sigma = stars[use], sigma[use]
    error = -2.5 * np.log10(flux[use]) - truth.mag[stars]
    error -= np.median(error)
    u, v = (axis[stars] for axis in truth.uv)
    coeff, _, kept = fit_plane_clipped(polynomial(u, v, 2), error, sigma)
    grid = np.linspace(-1, 1, 21)
    surface = polynomial(*(axis.ravel() for axis in np.meshgrid(grid, grid)), 2) @ coeff
    numbers: Numbers = {
        "n_stars": int(kept.sum()),
        "aperture_arcsec": radius * scene.stack.pixel_arcsec,
        "polynomial_peak_to_peak": float(np.ptp(surface)),
        "polynomial_rms": float(np.std(surface)),
    }
    corner = kept & (np.abs(u) > 1 - 2 * CORNER) & (np.abs(v) > 1 - 2 * CORNER)
    centre = kept & (np.hypot(u, v) < 0.5)
    if corner.sum() >= 3 and centre.sum() >= 3:
        numbers["corner_minus_centre"] = float(np.median(error[corner]) - np.median(error[centre]))
        numbers["corner_minus_centre_error"] = MEDIAN_ERROR * float(
            np.hypot(*(robust_sigma(error[w]) / np.sqrt(w.sum()) for w in (corner, centre)))
        )
    density = truth.pixel_density[stars]
    if np.ptp(density) > 0.01:  # the window of a small chip hardly has any
        terms = np.stack([np.ones(len(density)), density], axis=1)
        slope, slope_error, _ = fit_plane_clipped(terms, error, sigma)
        numbers["area_slope"] = float(slope[1])
        numbers["area_slope_error"] = float(slope_error[1])
    return numbers
