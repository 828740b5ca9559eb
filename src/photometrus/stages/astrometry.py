"""Astrometry: find a field by voting, then one solution for all frames of a chip.

The model of a chip is its template (TAN-SIP, from the focal plane) plus a correction in the
tangent plane: Legendre polynomials of the pixel that all frames share - the distortion is the
optics', stable in time - and for each frame a shift and a small linear term. Unknown, too, are the
stars: each has one position for all dithers, tied to the catalogue's within the catalogue's error.
All of it is one linear least-squares problem with priors, solved with robust weights; the stars
are eliminated first. So the dithers see the distortion far more precisely than a catalogue with
0.1" of scatter could, and with few stars the priors hold what the stars do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from photometrus.frame import Solution
from photometrus.instrument import CHIP_CRPIX, PIXEL_SCALE_ARCSEC
from photometrus.kernels.match import best_cell, vote
from photometrus.stages.sources import EXTENDED
from photometrus.wcs import (
    axis_pixel,
    fit_tan_sip,
    from_plane,
    pixel_to_sky,
    pointing_wcs,
    shifted,
    sky_to_pixel,
    tan_sip,
    to_plane,
)

Array = Any  # float64 array


@dataclass(frozen=True)
class AstrometryConfig:
    """What may be tuned in the astrometry."""

    capture_arcsec: float = 150.0  # how far the pointing may be off
    vote_cell_arcsec: float = 2.0
    vote_stars: int = 300  # brightest stars of a frame that vote
    min_votes: int = 4
    vote_significance: float = 3.0  # -log10 of the probability of the votes by chance, all tries
    min_matched: int = 4
    catalog_floor_arcsec: float = 0.02  # added to the catalogue's own errors
    centroid_floor_pix: float = 0.02  # added to the centroids' own errors
    link_radius_arcsec: float = 1.0
    max_rms_arcsec: float = 0.6  # a frame whose stars miss the catalogue by more is not solved
    prior_radial_arcsec: float = 10.0
    """How far the radial distortion about the telescope axis (cubic) may differ from the
    template's, at the outer corner of a chip."""
    prior_shear_arcsec: float = 0.3  # how far the template may be sheared, at the chip's edge
    prior_arcsec: tuple[float, ...] = (30.0, 2.5, 0.3, 0.3, 0.3, 0.05)
    """How far the optics may differ from the template, per Legendre term of degree 0, 1, ..."""
    prior_frame_arcsec: tuple[float, float] = (30.0, 0.15)
    """How far one frame may differ from the others: shift; linear terms at the chip's edge."""
    max_stars: int = 6000  # in the joint solution, evenly over the chip


CERTAIN = 40.0
"""A significance that needs no comparison with other candidates."""
RADIAL_UNIT_ARCSEC = 2500.0
"""From the telescope axis to about the outer corner of a chip."""
FIELD_OF_VIEW_CHIPS = 9
"""The whole field of view, in areas of a chip."""


@dataclass(frozen=True)
class Placement:
    """Where a frame was found: rotator offset, and shift of the pointing on the sky."""

    rotator_deg: float
    east_arcsec: float
    north_arcsec: float
    votes: int
    significance: float


def _brightest_per_area(sources: Table, n: int) -> Table:
    return sources[np.argsort(-np.asarray(sources["flux"]))[:n]]


def find_placement(
    sources: Table,
    reference: Table,
    chip: int,
    axis: tuple[float, float],
    rotators: Sequence[Sequence[float]],
    config: AstrometryConfig = AstrometryConfig(),
) -> Placement | None:
    """The rotator and shift for which most of a frame's stars fall on catalogue stars.

    sources : x, y, flux, flags; reference : ra_deg, dec_deg, mag; axis : where the telescope says
        it is
    rotators : groups of candidates (degrees), the likeliest group first; the most significant
        candidate of the first group that has a significant one is taken
    returns None when no candidate is significant
    """
    stars = sources[(np.asarray(sources["flags"]) & EXTENDED) == 0][: config.vote_stars]
    if len(stars) < config.min_votes or len(reference) < config.min_votes:
        return None
    # In a crowded field the brightest are enough, wherever in the field of view the chip is.
    crowd = 4 * len(stars) * FIELD_OF_VIEW_CHIPS
    if len(reference) > crowd:
        reference = reference[np.argsort(np.asarray(reference["mag"]), kind="stable")[:crowd]]
    tried = 0
    for group in rotators:
        best: Placement | None = None
        for rotator in group:
            found = _vote(stars, reference, chip, axis, rotator, config)
            tried += 1
            if found and (best is None or found.significance > best.significance):
                best = found
            if best and best.significance > CERTAIN:
                return best
        if best and best.significance - np.log10(tried) > config.vote_significance:
            return best
    return None


def _vote(
    stars: Table,
    reference: Table,
    chip: int,
    axis: tuple[float, float],
    rotator_deg: float,
    config: AstrometryConfig,
) -> Placement | None:
    """The shift with most votes at one rotator angle, and how unlikely so many are by chance.

    Every star and every catalogue star has one vote per shift: a trail of false detections across
    one bright star is one coincidence, not a hundred.
    """
    wcs = pointing_wcs(chip, axis, rotator_deg)
    ra, dec = pixel_to_sky(wcs, stars["x"], stars["y"])
    centre = _crval(wcs)
    xi, eta = to_plane(ra, dec, centre)
    ref_xi, ref_eta = to_plane(reference["ra_deg"], reference["dec_deg"], centre)
    reach = config.capture_arcsec
    inside = (ref_xi > xi.min() - reach) & (ref_xi < xi.max() + reach)
    inside &= (ref_eta > eta.min() - reach) & (ref_eta < eta.max() + reach)
    if inside.sum() < config.min_votes:
        return None
    ref_xi, ref_eta = ref_xi[inside], ref_eta[inside]
    area = (np.ptp(xi) + 1) * (np.ptp(eta) + 1)
    wide = (np.ptp(xi) + 2 * reach) * (np.ptp(eta) + 2 * reach)
    # As many catalogue stars per area as there are stars that vote: the brightest of both.
    n = min(int(1.5 * len(stars) * wide / area) + 10, inside.sum())
    brightest = np.argsort(np.asarray(reference["mag"])[inside])[:n]
    ref_xi, ref_eta = ref_xi[brightest], ref_eta[brightest]
    cell = config.vote_cell_arcsec
    votes = np.empty((int(2 * reach / cell),) * 2, np.int32)
    vote(xi, eta, ref_xi, ref_eta, reach, cell, votes)
    row, column, _ = best_cell(votes)
    east, north = (np.array([column, row]) + 0.5) * cell - reach
    dx = ref_xi[None, :] - xi[:, None] - east
    dy = ref_eta[None, :] - eta[:, None] - north
    i, j = np.nonzero((np.abs(dx) < 1.5 * cell) & (np.abs(dy) < 1.5 * cell))
    count = min(np.unique(i).size, np.unique(j).size)
    if count < config.min_votes:
        return None
    expected = max(9 * float(votes.mean()), 1e-3)
    # log10 of the Poisson probability of `count` or more, Chernoff's bound, times the cells tried.
    log_p = (count - expected - count * np.log(count / expected)) / np.log(10)
    significance = -(log_p + np.log10(votes.size)) if count > expected else 0.0
    return Placement(
        rotator_deg,
        float(east + np.median(dx[i, j])),
        float(north + np.median(dy[i, j])),
        int(count),
        float(significance),
    )


def placed_wcs(chip: int, axis: tuple[float, float], placement: Placement) -> WCS:
    """The template at a placement."""
    wcs = pointing_wcs(chip, axis, placement.rotator_deg)
    return shifted(wcs, placement.east_arcsec, placement.north_arcsec)


def carried(model: WCS, model_placed: WCS, placed: WCS) -> WCS:
    """One frame's fitted WCS carried to another frame of the same chip.

    model : the fitted WCS of a frame, model_placed : what its placement alone gave;
    placed : what the other frame's placement gave. The optics are in pixels: SIP stays, the
    linear part turns as the placement does, and the reference point moves likewise.
    """
    change = np.linalg.inv(model_placed.pixel_scale_matrix) @ model.pixel_scale_matrix
    east, north = to_plane(
        np.float64(model.wcs.crval[0]), np.float64(model.wcs.crval[1]), _crval(model_placed)
    )
    turn = placed.pixel_scale_matrix @ np.linalg.inv(model_placed.pixel_scale_matrix)
    moved = shifted(placed, *(turn @ np.array([float(east), float(north)])))
    crpix = (float(model.wcs.crpix[0]), float(model.wcs.crpix[1]))
    return tan_sip(
        _crval(moved), crpix, placed.pixel_scale_matrix @ change, model.sip.a, model.sip.b
    )


def _crval(wcs: WCS) -> tuple[float, float]:
    return float(wcs.wcs.crval[0]), float(wcs.wcs.crval[1])


@dataclass(frozen=True, eq=False)
class Matched:
    """One frame's stars in the joint solution."""

    x: Array
    y: Array
    error_arcsec: Array
    star: NDArray[Any]
    """Index of each detection's star."""
    row: NDArray[Any]
    """Row of each detection in the frame's catalogue."""


@dataclass(frozen=True, eq=False)
class JointSolution:
    """The astrometry of all frames of a chip."""

    wcs: list[WCS]
    solutions: list[Solution]
    stars: list[NDArray[Any]]
    """Per frame, the star number of each row of its catalogue; -1 where it took no part."""
    n_stars: int
    n_reference: int
    residuals: Table
    """Of every detection with a catalogue star: frame, x, y, d_east, d_north (arcsec)."""


def refine_alone(
    sources: Table,
    reference: Table,
    base: WCS,
    chip: int,
    config: AstrometryConfig = AstrometryConfig(),
) -> tuple[WCS, int, float]:
    """A frame's own fit: match, correct the template, match closer. (wcs, matched, rms).

    base : the chip's template where the frame was found; all corrections are to it, so that the
        priors hold however often it is matched
    """
    wcs, n, rms = base, 0, float("nan")
    n_bright = max(200, min(len(sources), 1500))
    stars = _brightest_per_area(sources[np.asarray(sources["flags"]) == 0], n_bright)
    for radius, degree in ((8.0, 1), (6.0, 3), (3.0, 4), (1.5, 4), (1.0, 4)):
        i, j = match_catalog(stars, reference, wcs, radius, n_bright)
        if i.size < config.min_matched:
            return wcs, int(i.size), rms
        optics = Optics(axis_pixel(chip), degree)
        wcs, rms = _fit_correction(stars[i], reference[j], base, optics, config)
        n = int(i.size)
    return wcs, n, rms


def refine_shift(
    sources: Table,
    reference: Table,
    wcs: WCS,
    chip: int,
    config: AstrometryConfig = AstrometryConfig(),
) -> WCS:
    """A WCS whose optics are known, moved and slightly turned onto the catalogue's stars."""
    optics = Optics(axis_pixel(chip), 1)
    fixed = replace(config, prior_radial_arcsec=1e-3)
    stars = _brightest_per_area(sources[np.asarray(sources["flags"]) == 0], 800)
    for radius in (5.0, 2.5, 1.5):
        i, j = match_catalog(stars, reference, wcs, radius, 800)
        if i.size < config.min_matched:
            break
        wcs, _ = _fit_correction(stars[i], reference[j], wcs, optics, fixed)
    return wcs


def at_epoch(reference: Table, epoch_yr: float) -> Table:
    """The catalogue with its proper motions applied to an epoch (Julian year)."""
    if "pm_ra_mas_yr" not in reference.colnames or "epoch_yr" not in reference.colnames:
        return reference
    # A star without an epoch has no known motion: it stays.
    years = np.nan_to_num(epoch_yr - np.asarray(reference["epoch_yr"], float))
    pm_ra = np.nan_to_num(np.asarray(reference["pm_ra_mas_yr"], float))
    pm_dec = np.nan_to_num(np.asarray(reference["pm_dec_mas_yr"], float))
    out = reference.copy()
    dec = np.asarray(reference["dec_deg"], float)
    cos_dec = np.maximum(np.cos(np.radians(dec)), 1e-6)
    out["ra_deg"] = (np.asarray(reference["ra_deg"]) + years * pm_ra / 3.6e6 / cos_dec) % 360.0
    out["dec_deg"] = np.clip(dec + years * pm_dec / 3.6e6, -90.0, 90.0)
    out["epoch_yr"] = np.where((pm_ra != 0) | (pm_dec != 0), epoch_yr, reference["epoch_yr"])
    return out


def agreement(
    sources: Table, reference: Table, wcs: WCS, radius_arcsec: float = 2.0
) -> tuple[int, float]:
    """How a WCS agrees with a catalogue: stars matched, and their rms per axis in arcsec."""
    i, j = match_catalog(sources, reference, wcs, radius_arcsec, 2000)
    if i.size == 0:
        return 0, float("nan")
    centre = _crval(wcs)
    xi, eta = to_plane(*pixel_to_sky(wcs, sources["x"][i], sources["y"][i]), centre)
    ref_xi, ref_eta = to_plane(reference["ra_deg"][j], reference["dec_deg"][j], centre)
    off = np.concatenate([ref_xi - xi, ref_eta - eta])
    return int(i.size), 1.4826 * float(np.median(np.abs(off)))


def as_catalog(sources: Table, wcs: WCS) -> Table:
    """A frame's stars as a reference catalogue, where its WCS puts them."""
    stars = sources[np.asarray(sources["flags"]) == 0]
    ra, dec = pixel_to_sky(wcs, stars["x"], stars["y"])
    return Table(
        {
            "ra_deg": ra,
            "dec_deg": dec,
            "mag": -2.5 * np.log10(np.asarray(stars["flux"])),
            "pos_err_arcsec": np.full(len(stars), 0.05),
        }
    )


def match_catalog(
    sources: Table, reference: Table, wcs: WCS, radius_arcsec: float, n_bright: int | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Indices (into sources, into reference) of mutual nearest neighbours within a radius.

    n_bright : when given, only the catalogue's brightest stars to about that number per frame's
        area take part: in a crowded field a wide radius must not find just anybody
    """
    x, y = np.asarray(sources["x"]), np.asarray(sources["y"])
    empty = np.empty(0, np.int64)
    if x.size == 0:
        return empty, empty
    rx, ry = sky_to_pixel(wcs, reference["ra_deg"], reference["dec_deg"])
    pad = 40.0
    inside = np.flatnonzero(
        (rx > x.min() - pad) & (rx < x.max() + pad) & (ry > y.min() - pad) & (ry < y.max() + pad)
    )
    if n_bright is not None and inside.size > 1.5 * n_bright:
        order = np.argsort(np.asarray(reference["mag"])[inside])
        inside = inside[order[: int(1.5 * n_bright)]]
    if inside.size == 0:
        return empty, empty
    points = np.stack([rx[inside], ry[inside]], axis=1)
    stars = np.stack([x, y], axis=1)
    radius = radius_arcsec / PIXEL_SCALE_ARCSEC
    distance, nearest = cKDTree(points).query(stars, distance_upper_bound=radius)
    found = np.flatnonzero(np.isfinite(distance))
    _, back = cKDTree(stars).query(points[nearest[found]])
    mutual = back == found
    return found[mutual], inside[nearest[found[mutual]]]


def _basis(x: Array, y: Array, degree: int) -> Array:
    """Legendre products of the pixel up to a total degree: float64 (n, terms), in order."""
    u = (np.asarray(x, float) + 1 - CHIP_CRPIX) / 2048.0
    v = (np.asarray(y, float) + 1 - CHIP_CRPIX) / 2048.0
    p = np.polynomial.legendre.legvander(u, degree)
    q = np.polynomial.legendre.legvander(v, degree)
    return np.stack([p[:, i] * q[:, n - i] for n in range(degree + 1) for i in range(n + 1)], 1)


def _degrees(degree: int) -> Array:
    """The total degree of each column of `_basis`."""
    return np.array([n for n in range(degree + 1) for _ in range(n + 1)])


@dataclass(frozen=True, eq=False)
class Optics:
    """The shape of the correction to a chip's template: Legendre terms, and one radial term."""

    axis_pix: tuple[float, float]
    """Where the telescope axis falls (0-based pixel, outside the chip)."""
    degree: int

    def basis(self, x: Array, y: Array) -> Array:
        """Legendre terms: float64 (n, terms)."""
        return _basis(x, y, self.degree)

    def radial(self, wcs: WCS, x: Array, y: Array, centre: tuple[float, float]) -> Array:
        """Displacement (east, north), float64 (n, 2), cubic, 1 at 2500" from the axis.

        In the plane about `centre`: near a pole its north is not that of the frame.
        """
        matrix = _plane_matrix(wcs, centre)
        offset = np.stack([np.asarray(x) - self.axis_pix[0], np.asarray(y) - self.axis_pix[1]])
        vector = matrix @ offset / RADIAL_UNIT_ARCSEC
        return (vector * (vector**2).sum(axis=0)).T

    def apply(self, wcs: WCS, terms: Array, radial: float, centre: tuple[float, float]) -> WCS:
        """The WCS with a correction added, as TAN-SIP.

        terms : float64 (terms, 2), arcsec east and north in the plane about `centre`
        """
        grid = np.linspace(0, 2 * (CHIP_CRPIX - 1), 21)
        x, y = (g.ravel() for g in np.meshgrid(grid, grid))
        xi, eta = to_plane(*pixel_to_sky(wcs, x, y), centre)
        change = self.basis(x, y) @ terms + radial * self.radial(wcs, x, y, centre)
        ra, dec = from_plane(xi + change[:, 0], eta + change[:, 1], centre)
        return fit_tan_sip(x, y, ra, dec, _crval(wcs))


def _plane_matrix(wcs: WCS, centre: tuple[float, float]) -> Array:
    """Arcsec per pixel at the reference pixel, in the plane about `centre`: float64 (2, 2)."""
    step = 100.0
    x = wcs.wcs.crpix[0] - 1 + step * np.array([1, -1, 0, 0])
    y = wcs.wcs.crpix[1] - 1 + step * np.array([0, 0, 1, -1])
    plane = np.stack(to_plane(*pixel_to_sky(wcs, x, y), centre))
    return (plane[:, ::2] - plane[:, 1::2]) / (2 * step)


def _prior(sigma: Array, wcs: WCS, config: AstrometryConfig) -> Array:
    """Precision matrix (2 p + 1)^2 of [terms east, terms north, radial factor].

    sigma : float64 (p,), priors of the terms. The linear terms are split by what they do to the
    template's linear part: turn and stretch it (free by `sigma`), or shear it (telescopes do not).
    """
    p = sigma.size
    precision = np.concatenate([1 / sigma**2, 1 / sigma**2, [1 / config.prior_radial_arcsec**2]])
    matrix = np.diag(precision)
    if p >= 3:
        # Columns 1 and 2 are v and u. With L = M Q, Q the template's orientation, M = L Q^T.
        linear = [2, 1, p + 2, p + 1]  # east u, east v, north u, north v
        turned = wcs.pixel_scale_matrix / np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))
        a, b = np.r_[turned[0], 0, 0], np.r_[turned[1], 0, 0]
        c, d = np.r_[0, 0, turned[0]], np.r_[0, 0, turned[1]]
        free, stiff = sigma[1], min(sigma[1], config.prior_shear_arcsec)
        block = sum(
            np.outer(part, part) / (2 * limit) ** 2
            for part, limit in ((a + d, free), (c - b, free), (a - d, stiff), (b + c, stiff))
        )
        matrix[np.ix_(linear, linear)] = block
    return matrix


def _solve(normal: Array, right: Array, prior: Array) -> tuple[Array, float]:
    """Terms (p, 2) and the radial factor that minimise a quadratic form with a prior.

    normal : float64 (p + 2, p + 2), of the columns [terms, radial east, radial north]
    right : float64 (p + 2, 2), of the same rows against the east and north targets
    prior : float64 (2 p + 1, 2 p + 1), from `_prior`

    East and north have terms of their own and share the radial factor.
    """
    p = normal.shape[0] - 2
    whole = prior.copy()
    whole[:p, :p] += normal[:p, :p]
    whole[p:-1, p:-1] += normal[:p, :p]
    whole[:p, -1] += normal[:p, p]
    whole[-1, :p] += normal[:p, p]
    whole[p:-1, -1] += normal[:p, p + 1]
    whole[-1, p:-1] += normal[:p, p + 1]
    whole[-1, -1] += normal[p, p] + normal[p + 1, p + 1]
    target = np.concatenate([right[:p, 0], right[:p, 1], [right[p, 0] + right[p + 1, 1]]])
    solution = np.linalg.solve(whole, target)
    return np.stack([solution[:p], solution[p:-1]], axis=1), float(solution[-1])


def _position_errors(reference: Table, config: AstrometryConfig) -> Array:
    error = np.nan_to_num(np.asarray(reference["pos_err_arcsec"], float), nan=0.1)
    return np.hypot(error, config.catalog_floor_arcsec)


def _fit_correction(
    stars: Table, reference: Table, base: WCS, optics: Optics, config: AstrometryConfig
) -> tuple[WCS, float]:
    """Robust fit of a correction, with priors, to matched stars; (wcs, rms per axis in arcsec)."""
    centre = _crval(base)
    xi, eta = to_plane(*pixel_to_sky(base, stars["x"], stars["y"]), centre)
    ref_xi, ref_eta = to_plane(reference["ra_deg"], reference["dec_deg"], centre)
    target = np.stack([ref_xi - xi, ref_eta - eta], axis=1)
    error = np.hypot(
        _position_errors(reference, config),
        np.hypot(stars["x_err"], config.centroid_floor_pix) * PIXEL_SCALE_ARCSEC,
    )
    basis = optics.basis(stars["x"], stars["y"])
    radial = optics.radial(base, stars["x"], stars["y"], centre)
    design = np.concatenate([basis, radial], axis=1)
    prior = _prior(np.asarray(config.prior_arcsec)[_degrees(optics.degree)], base, config)
    terms, factor = np.zeros((basis.shape[1], 2)), 0.0
    residual = target - np.median(target, axis=0)
    for _ in range(8):
        scatter = max(1.4826 * float(np.median(np.abs(residual))), 1e-4)
        scale = np.maximum(scatter, error)
        weight = _tukey(np.hypot(residual[:, 0], residual[:, 1]) / scale) / scale**2
        weighted = weight[:, None] * design
        terms, factor = _solve(design.T @ weighted, weighted.T @ target, prior)
        residual = target - basis @ terms - factor * radial
    used = weight > 0
    rms = float(np.sqrt(np.mean(residual[used] ** 2))) if used.any() else float("nan")
    return optics.apply(base, terms, factor, centre), rms


def _tukey(ratio: Array) -> Array:
    """Tukey's biweight at 5 sigma of a two-dimensional distance."""
    return np.where(ratio < 5.0, (1 - (ratio / 5.0) ** 2) ** 2, 0.0)


def link(
    catalogs: Sequence[Table], wcs: Sequence[WCS], config: AstrometryConfig = AstrometryConfig()
) -> tuple[list[Matched], Array, Array]:
    """Which detections of the frames are the same star.

    returns per frame its detections with star numbers, and the stars' mean ra_deg, dec_deg.
    A detection joins the nearest star within `link_radius_arcsec`; a star takes one detection per
    frame. Frames are taken one after the other; what nobody has seen before becomes a new star.
    """
    centre = _crval(wcs[0])
    sum_xi = np.empty(0)
    sum_eta = np.empty(0)
    count = np.empty(0)
    matched = []
    for table, frame_wcs in zip(catalogs, wcs, strict=True):
        good = (np.asarray(table["flags"]) == 0) & np.isfinite(np.asarray(table["x_err"]))
        row = np.flatnonzero(good)[: config.max_stars]
        stars = table[row]
        x, y = np.asarray(stars["x"]), np.asarray(stars["y"])
        xi, eta = to_plane(*pixel_to_sky(frame_wcs, x, y), centre)
        index = np.full(x.size, -1)
        if count.size and x.size:
            known = np.stack([sum_xi / count, sum_eta / count], axis=1)
            here = np.stack([xi, eta], axis=1)
            distance, nearest = cKDTree(known).query(
                here, distance_upper_bound=config.link_radius_arcsec
            )
            found = np.flatnonzero(np.isfinite(distance))
            _, back = cKDTree(here).query(known[nearest[found]])
            mutual = found[back == found]
            index[mutual] = nearest[mutual]
        new = np.flatnonzero(index < 0)
        index[new] = count.size + np.arange(new.size)
        sum_xi = np.concatenate([sum_xi, np.zeros(new.size)])
        sum_eta = np.concatenate([sum_eta, np.zeros(new.size)])
        count = np.concatenate([count, np.zeros(new.size)])
        np.add.at(sum_xi, index, xi)
        np.add.at(sum_eta, index, eta)
        np.add.at(count, index, 1)
        error = np.hypot(stars["x_err"], config.centroid_floor_pix) * PIXEL_SCALE_ARCSEC
        matched.append(Matched(x, y, np.asarray(error), index, row))
    ra, dec = from_plane(sum_xi / count, sum_eta / count, centre)
    return matched, ra, dec


def solve_jointly(
    catalogs: Sequence[Table],
    wcs: Sequence[WCS],
    bases: Sequence[WCS],
    chip: int,
    reference: Table | None,
    config: AstrometryConfig = AstrometryConfig(),
) -> JointSolution:
    """One astrometric solution for all frames of a chip, from good first solutions of each.

    catalogs : per frame x, y, x_err, flux, flags; wcs : per frame, good to about an arcsecond
    bases : per frame, the chip's template where the frame was found: what the priors refer to
    reference : ra_deg, dec_deg, pos_err_arcsec, mag; None aligns the frames to each other only
    """
    optics = Optics(axis_pixel(chip), len(config.prior_arcsec) - 1)
    current = list(wcs)
    for _ in range(3):
        matched, ra, dec = link(catalogs, current, config)
        # The terms are taken where the star is, not where noise put it: else a smaller chip has
        # smaller residuals, and without a catalogue nothing keeps it from shrinking.
        places = [
            np.stack(sky_to_pixel(w, ra[m.star], dec[m.star]))
            for w, m in zip(current, matched, strict=True)
        ]
        current, fit = _solve_once(matched, places, bases, (ra, dec), reference, optics, config)
    solutions = [_verdict(k, fit, reference is not None, config) for k in range(len(current))]
    stars = []
    for table, frame in zip(catalogs, matched, strict=True):
        numbers = np.full(len(table), -1)
        numbers[frame.row] = frame.star
        stars.append(numbers)
    return JointSolution(current, solutions, stars, len(ra), fit["n_reference"], fit["residuals"])


def _solve_once(matched, places, bases, stars, reference, optics, config):
    """One round of the joint least squares; returns the WCSs and what is left over.

    places : per frame, float64 (2, n), the pixel of each detection's star
    """
    n_frames = len(bases)
    centre = _crval(bases[0])
    star_xi, star_eta = to_plane(stars[0], stars[1], centre)
    n_stars = star_xi.size

    frame = np.concatenate([np.full(m.x.size, k) for k, m in enumerate(matched)])
    star = np.concatenate([m.star for m in matched])
    error = np.concatenate([m.error_arcsec for m in matched])
    x = np.concatenate([m.x for m in matched])
    y = np.concatenate([m.y for m in matched])
    position = [
        to_plane(*pixel_to_sky(w, m.x, m.y), centre) for w, m in zip(bases, matched, strict=True)
    ]
    observed = np.stack([np.concatenate([p[k] for p in position]) for k in (0, 1)], axis=1)

    # The catalogue's word on each star.
    prior_weight = np.zeros(n_stars)
    prior_value = np.zeros((n_stars, 2))
    n_reference = 0
    if reference is not None and len(reference) and n_stars:
        ref_xi, ref_eta = to_plane(reference["ra_deg"], reference["dec_deg"], centre)
        near = np.flatnonzero(np.isfinite(ref_xi))
        points = np.stack([ref_xi[near], ref_eta[near]], axis=1)
        known = np.stack([star_xi, star_eta], axis=1)
        distance, nearest = cKDTree(points).query(known, distance_upper_bound=1.2)
        found = np.flatnonzero(np.isfinite(distance))
        _, back = cKDTree(known).query(points[nearest[found]])
        found = found[back == found]
        rows = near[nearest[found]]
        prior_value[found] = np.stack([ref_xi[rows], ref_eta[rows]], axis=1)
        prior_weight[found] = 1 / _position_errors(reference[rows], config) ** 2
        n_reference = int(found.size)

    # Columns: the chip's terms, a shift and two slopes for each frame, the radial term.
    basis = optics.basis(*np.concatenate(places, axis=1))
    radial = np.concatenate(
        [optics.radial(w, *p, centre) for w, p in zip(bases, places, strict=True)]
    )
    n_obs, n_terms = basis.shape
    n_columns = n_terms + 3 * n_frames
    rows = np.repeat(np.arange(n_obs), 3)
    columns = (n_terms + 3 * frame[:, None] + np.arange(3)).ravel()
    own = sparse.csr_matrix((basis[:, :3].ravel(), (rows, columns)), shape=(n_obs, n_columns + 2))
    shared = sparse.hstack(
        [sparse.csr_matrix(basis), sparse.csr_matrix((n_obs, 3 * n_frames)), radial]
    )
    design = sparse.csr_matrix(shared + own)
    incidence = sparse.csr_matrix((np.ones(n_obs), (np.arange(n_obs), star)), (n_obs, n_stars))
    sigma = np.concatenate(
        [
            np.asarray(config.prior_arcsec)[_degrees(optics.degree)],
            np.tile([config.prior_frame_arcsec[0]] + [config.prior_frame_arcsec[1]] * 2, n_frames),
        ]
    )
    prior = _prior(sigma, bases[0], config)
    weight = 1 / error**2
    catalog_weight = prior_weight.copy()
    trust = np.ones(n_stars)
    shift = np.zeros((n_stars, 2))
    for _ in range(6):
        # Minimise sum w |observed + D p - s|^2 + sum c |s - catalogue|^2 over p and stars s.
        per_star = incidence.T @ weight + catalog_weight
        per_star[per_star == 0] = 1.0
        weighted = sparse.diags(weight) @ design
        cross = incidence.T @ weighted
        scaled = sparse.diags(1 / per_star) @ cross
        normal = (design.T @ weighted - cross.T @ scaled).toarray()
        pull = incidence.T @ (weight[:, None] * observed) + catalog_weight[:, None] * prior_value
        right = -(weighted.T @ observed) + scaled.T @ pull
        terms, factor = _solve(normal, np.asarray(right), prior)
        moved = observed + design[:, :n_columns] @ terms + factor * radial
        shift = (
            incidence.T @ (weight[:, None] * moved) + catalog_weight[:, None] * prior_value
        ) / (per_star[:, None])
        residual = moved - shift[star]
        ratio = np.hypot(residual[:, 0], residual[:, 1]) / error
        spread = max(1.0, float(np.median(ratio[ratio > 0])) / 1.18) if (ratio > 0).any() else 1.0
        weight = np.maximum(_tukey(ratio / spread), 1e-6) / error**2
        off = np.hypot(*(prior_value - shift).T)
        known = prior_weight > 0
        if known.any():
            unit = 1 / np.sqrt(prior_weight[known])
            broad = max(1.0, float(np.median(off[known] / unit)) / 1.18)
            trust[known] = _tukey(off[known] / unit / broad)
            catalog_weight[known] = np.maximum(trust[known], 1e-6) * prior_weight[known] / broad**2
    new = []
    for k, base in enumerate(bases):
        own_terms = terms[:n_terms].copy()
        own_terms[:3] += terms[n_terms + 3 * k : n_terms + 3 * k + 3]
        new.append(optics.apply(base, own_terms, factor, centre))
    good = weight > 0.3 / error**2
    tied = good & (prior_weight[star] > 0) & (trust[star] > 0.05)
    to_catalog = moved - prior_value[star]
    several = np.asarray(incidence.sum(axis=0)).ravel()[star] > 1
    fit = {
        "frame": frame,
        "star": star,
        "internal": residual,
        "good": good & several,
        "tied": tied,
        "to_catalog": to_catalog,
        "n_reference": n_reference,
    }
    t = fit["tied"]
    fit["residuals"] = Table(
        {
            "frame": frame[t],
            "x": x[t],
            "y": y[t],
            "d_east": to_catalog[t, 0],
            "d_north": to_catalog[t, 1],
        }
    )
    return new, fit


def _verdict(k: int, fit: dict, has_reference: bool, config: AstrometryConfig) -> Solution:
    """The solution record of one frame."""
    inside = (fit["frame"] == k) & fit["good"]
    internal = _rms(fit["internal"][inside])
    tied = (fit["frame"] == k) & fit["tied"]
    n = int(tied.sum())
    rms = _rms(fit["to_catalog"][tied])
    if not has_reference:
        return Solution(
            "relative",
            int(inside.sum()),
            rms,
            internal,
            "no reference catalogue: absolute astrometry is the telescope's pointing",
        )
    if n >= config.min_matched and rms <= config.max_rms_arcsec:
        return Solution("full", n, rms, internal, "joint solution of all frames")
    return Solution("shift", n, rms, internal, f"{n} catalogue stars, rms {rms:.2f} arcsec")


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
