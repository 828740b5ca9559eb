"""Published magnitudes, errors and limits against the truth."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from helpers import MEDIAN_ERROR, Array, Numbers, robust_sigma, within
from judge.catalog import SATURATED, Catalog, match
from judge.scene import stray_light, well_inside
from judge.stack import Stack
from judge.truth import Truth

KINDS = ("PSF", "APER", "AUTO")
BRIGHT_SNR = 100.0
FAINT_SNR = (10.0, 20.0)
PULL_SNR = 8.0
"""Pulls are looked at down to here: below, what is found at all depends on its noise."""
PULL_WIDTH = (0.95, 1.10)
AT_LIMIT = 0.05
"""Of stars at the 5-sigma limit half are above 5 sigma, within so much."""
CORNER = 0.75
"""Of the half side, in both axes."""
ISOLATED = 0.01
"""Light of neighbours in the aperture, as a part of the star's own."""
CROWDED_STARS = 20_000
CROWDED_MAG = 16.0
WIDTH_ERROR = 1.17
"""Of 1.4826 MAD of n Gaussian values: 1.17 sigma / sqrt(n)."""


@dataclass(frozen=True, eq=False)
class Judged:
    """The truth's constant stars that are well on the stack, and what was published of them.

    star : int (n,), rows of the truth; row : int (n,), of the catalogue, -1 where it has none
    snr : of the true flux with the published error; limit : magnitude where it is 5, usually
    isolated : bool (n,)
    """

    catalog: Catalog
    truth: Truth
    star: Array
    row: Array
    snr: Array
    limit: float
    isolated: Array

    @property
    def mag(self) -> Array:
        """True."""
        return self.truth.mag[self.star]

    @property
    def clean(self) -> Array:
        """Found, isolated, not saturated; bool (n,)."""
        flags = self.catalog.column("FLAGS").astype(int)[self.row]
        unsaturated = self.mag > self.truth.saturation_mag
        return (self.row >= 0) & self.isolated & unsaturated & ((flags & SATURATED) == 0)

    def residuals(self, kind: str) -> tuple[Array, Array]:
        """Published - true magnitude and the published error; NaN where not found."""
        mag, err = self.catalog.magnitudes(kind)
        found = self.row >= 0
        off = np.where(found, mag[self.row] - self.mag, np.nan)
        return off, np.where(found, err[self.row], np.nan)


def measure_catalog(catalog: Catalog, truth: Truth, stack: Stack) -> Numbers:
    """All that issue 4 asks of a catalogue."""
    rows, shift = match(catalog, truth)
    judged = _judged(catalog, truth, stack, rows)
    numbers: Numbers = {
        "coadd": catalog.path.name,
        "size": int(truth.args["size"]),
        "n_catalog": len(catalog.table),
        "n_matched": int(np.count_nonzero(rows >= 0)),
        "shift_east_mas": 1000 * shift[0],
        "shift_north_mas": 1000 * shift[1],
        "survey": str(catalog.meta.get("survey", "")),
        "crowded": bool(len(catalog.table) > CROWDED_STARS),
    }
    for kind in KINDS:
        if catalog.has(kind):
            numbers[kind.lower()] = measure_kind(judged, kind)
    numbers["photometry"] = {"bins": numbers["psf"].pop("bins")}
    numbers["limit"] = limit_check(judged)
    if numbers["crowded"]:
        bright = judged.clean & (judged.mag < CROWDED_MAG)
        numbers["crowded_bright"] = spread(judged.residuals("PSF")[0][bright])
    return numbers


def _judged(catalog: Catalog, truth: Truth, stack: Stack, rows: Array) -> Judged:
    x, y = stack.wcs.all_world2pix(truth.table["RA"], truth.table["DEC"], 0, quiet=True)
    inside = well_inside(stack, np.asarray(x), np.asarray(y), margin_pix=10)
    star = np.flatnonzero(truth.constant_star & inside)
    fwhm = float(np.median([e["fwhm_px"] for e in truth.exposures])) * stack.pixel_arcsec
    stray = stray_light(truth, fwhm, 1.5 * fwhm, np.isin(np.arange(rows.size), star))
    snr, limit = _expected_snr(catalog, truth.mag[star], rows[star])
    return Judged(catalog, truth, star, rows[star], snr, limit, stray[star] < ISOLATED)


def _expected_snr(catalog: Catalog, mag: Array, row: Array) -> tuple[Array, float]:
    """S/N of the true flux with the published error of its star; and where it is 5, usually.

    Stars that are not found get what is usual at their magnitude.
    """
    seen, err = (column[row] for column in catalog.magnitudes("PSF"))
    snr = np.where(row >= 0, 1.0857 / err * 10 ** (0.4 * (seen - mag)), np.nan)
    faint = (snr > 5) & (snr < 30)  # the sky's noise alone: S/N goes with the flux
    limit = float(np.median(mag[faint] + 2.5 * np.log10(snr[faint] / 5)))
    return np.where(snr > 0, snr, 5 * 10 ** (0.4 * (limit - mag))), limit


def spread(values: Array) -> Numbers:
    """Number, median, its error, rms about the median without 5-sigma outliers, their number."""
    values = values[np.isfinite(values)]
    if values.size < 3:
        return {"n": int(values.size)}
    keep = within(values, 5.0)
    middle = float(np.median(values[keep]))
    return {
        "n": int(values.size),
        "offset": middle,
        "error": MEDIAN_ERROR * robust_sigma(values) / np.sqrt(values.size),
        "rms": float(np.sqrt(np.mean((values[keep] - middle) ** 2))),
        "outliers": int((~keep).sum()),
    }


def measure_kind(judged: Judged, kind: str) -> Numbers:
    """Zero point, scatter of bright stars, bias of faint ones, pulls."""
    off, err = judged.residuals(kind)
    clean = judged.clean & np.isfinite(off) & (err > 0)
    bright = clean & (judged.snr > BRIGHT_SNR)
    u, v = (np.abs(axis[judged.star]) for axis in judged.truth.uv)
    corners = bright & (np.minimum(u, v) > CORNER)
    numbers: Numbers = {}
    for name, which in (("bright", bright), ("corners", corners)):
        expected = float(np.sqrt(np.mean(err[which] ** 2))) if which.any() else float("nan")
        numbers[name] = spread(off[which]) | {"rms_expected": expected}
    zero = numbers["bright"].get("offset", 0.0)
    numbers["corners_off"] = numbers["corners"].get("offset", float("nan")) - zero
    quoted = judged.catalog.zero_point_err
    if np.isfinite(quoted) and quoted > 0:
        numbers["zero_point_err"] = quoted
        numbers["zero_point_pull"] = zero / quoted
    faint = clean & (judged.snr > FAINT_SNR[0]) & (judged.snr <= FAINT_SNR[1])
    numbers["snr_10_20"] = spread(off[faint] - zero)
    pull = (off - zero) / err
    deep = clean & (judged.snr > PULL_SNR)
    numbers |= _pulls(judged.mag[deep], (off - zero)[deep], pull[deep])
    return numbers


def _pulls(mag: Array, off: Array, pull: Array) -> Numbers:
    """Width of the pulls in bins of half a magnitude; the worst that chance does not explain."""
    bins = []
    for low in np.arange(np.floor(2 * mag.min(initial=30.0)) / 2, mag.max(initial=0.0), 0.5):
        here = (mag >= low) & (mag < low + 0.5)
        n = int(here.sum())
        if n < 10:
            continue
        width = robust_sigma(pull[here])
        chance = 2 * WIDTH_ERROR / np.sqrt(n)
        too_narrow = PULL_WIDTH[0] * (1 - chance) - width
        too_wide = width - PULL_WIDTH[1] * (1 + chance)
        bins.append(
            {
                "mag": low + 0.25,
                "n": n,
                "bias": float(np.median(off[here])),
                "error": MEDIAN_ERROR * robust_sigma(off[here]) / np.sqrt(n),
                "scatter": robust_sigma(off[here]),
                "pull": width,
                "pull_excess": max(0.0, too_narrow, too_wide),
            }
        )
    worst = max(bins, key=lambda one: one["pull_excess"], default={})
    return {
        "pull_width": robust_sigma(pull),
        "pull_excess": worst.get("pull_excess", float("nan")),
        "pull_excess_mag": worst.get("mag", float("nan")),
        "bins": bins,
    }


def limit_check(judged: Judged) -> Numbers:
    """What is found at the 5-sigma limit that is quoted, else at that of the errors."""
    catalog = judged.catalog
    _, err = catalog.magnitudes("PSF")
    own = judged.limit
    quoted = catalog.meta.get("limit_5sigma")
    limit = own if quoted is None else float(quoted) - catalog.offset
    near = judged.isolated & (np.abs(judged.mag - limit) < 0.25)
    found = near & (judged.row >= 0)
    sure = found & (1.0857 / err[judged.row] >= 5.0)
    n = int(near.sum())
    if n == 0:
        return {"mag_5sigma": limit, "n": 0}
    # Over so wide a bin somewhat more than half are above it: the flux is no straight line.
    bin_mean = norm.cdf(5 * 10 ** (-0.4 * (judged.mag[near] - limit)) - 5).mean()
    at_limit, chance = sure.sum() / n - (bin_mean - 0.5), float(np.sqrt(0.25 / n))
    return {
        "mag_5sigma": limit,
        "mag_5sigma_of_errors": own,
        "quoted": quoted is not None,
        "n": n,
        "completeness": found.sum() / n,
        "at_5sigma": at_limit,
        "at_5sigma_excess": max(0.0, abs(at_limit - 0.5) - AT_LIMIT - 2 * chance),
    }
