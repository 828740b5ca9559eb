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
from dataclasses import dataclass
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
from photometrus.wcs import (
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
    vote_significance: float = 7.0  # -log10 of the probability of the votes by chance
    min_matched: int = 4
    catalog_floor_arcsec: float = 0.02  # added to the catalogue's own errors
    centroid_floor_pix: float = 0.02  # added to the centroids' own errors
    link_radius_arcsec: float = 1.0
    max_rms_arcsec: float = 0.6  # a frame whose stars miss the catalogue by more is not solved
    prior_arcsec: tuple[float, ...] = (30.0, 10.0, 3.0, 3.0, 1.0, 0.1)
    """How far the optics may differ from the template, per Legendre term of degree 0, 1, ..."""
    prior_frame_arcsec: tuple[float, float] = (30.0, 0.15)
    """How far one frame may differ from the others: shift; linear terms at the chip's edge."""
    max_stars: int = 6000  # in the joint solution, evenly over the chip


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
    rotators: Sequence[float],
    config: AstrometryConfig = AstrometryConfig(),
) -> Placement | None:
    """The rotator and shift for which most of a frame's stars fall on catalogue stars.

    sources : x, y, flux; reference : ra_deg, dec_deg, mag; axis : where the telescope says it is
    rotators : candidates, tried from the most to the least likely, each with small errors of its
        own around it; the first significant one is taken
    returns None when no candidate is significant
    """
    stars = _brightest_per_area(sources, config.vote_stars)
    if len(stars) < config.min_votes or len(reference) < config.min_votes:
        return None
    best: Placement | None = None
    for rotator in rotators:
        for small in (0.0, -0.25, 0.25, -0.5, 0.5):
            found = _vote(stars, reference, chip, axis, rotator + small, config)
            if found and (best is None or found.significance > best.significance):
                best = found
            if small == 0.0 and found and found.significance > 4 * config.vote_significance:
                return found
        if best and best.significance > config.vote_significance:
            return best
    return None


def _vote(stars, reference, chip, axis, rotator, config) -> Placement | None:
    wcs = pointing_wcs(chip, axis, rotator)
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
    n = min(int(1.2 * len(stars) * wide / area) + 10, inside.sum())
    brightest = np.argsort(np.asarray(reference["mag"])[inside])[:n]
    cell = config.vote_cell_arcsec
    votes = np.empty((int(2 * reach / cell),) * 2, np.int32)
    vote(xi, eta, ref_xi[brightest], ref_eta[brightest], reach, cell, votes)
    row, column, count = best_cell(votes)
    if count < config.min_votes:
        return None
    expected = max(9 * votes.mean(), 1e-3)
    # log10 of the Poisson probability of `count` or more, Chernoff's bound, times the cells tried.
    log_p = (count - expected - count * np.log(count / expected)) / np.log(10)
    significance = -(log_p + np.log10(votes.size)) if count > expected else 0.0
    near = slice(row - 1, row + 2), slice(column - 1, column + 2)
    rows, columns = np.mgrid[near]
    total = votes[near].sum()
    north = ((rows + 0.5) * votes[near]).sum() / total * cell - reach
    east = ((columns + 0.5) * votes[near]).sum() / total * cell - reach
    return Placement(rotator, float(east), float(north), int(count), float(significance))


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
    sources: Table, reference: Table, wcs: WCS, config: AstrometryConfig = AstrometryConfig()
) -> tuple[WCS, int, float]:
    """A frame's own fit: match, polynomials with priors, match closer. (wcs, matched, rms)."""
    n, rms = 0, float("nan")
    n_bright = max(200, min(len(sources), 1500))
    stars = _brightest_per_area(sources[np.asarray(sources["flags"]) == 0], n_bright)
    for radius, degree in ((8.0, 1), (6.0, 3), (3.0, 4), (1.5, 4), (1.0, 4)):
        i, j = match_catalog(stars, reference, wcs, radius, n_bright)
        if i.size < config.min_matched:
            return wcs, int(i.size), rms
        wcs, rms = _fit_correction(stars[i], reference[j], wcs, degree, config)
        n = int(i.size)
    return wcs, n, rms


def refine_shift(
    sources: Table, reference: Table, wcs: WCS, config: AstrometryConfig = AstrometryConfig()
) -> WCS:
    """A WCS whose optics are known, moved and slightly turned onto the catalogue's stars."""
    stars = _brightest_per_area(sources[np.asarray(sources["flags"]) == 0], 800)
    for radius in (5.0, 2.5, 1.5):
        i, j = match_catalog(stars, reference, wcs, radius, 800)
        if i.size < config.min_matched:
            break
        wcs, _ = _fit_correction(stars[i], reference[j], wcs, 1, config)
    return wcs


def at_epoch(reference: Table, epoch_yr: float) -> Table:
    """The catalogue with its proper motions applied to an epoch (Julian year)."""
    if "pm_ra_mas_yr" not in reference.colnames or "epoch_yr" not in reference.colnames:
        return reference
    years = epoch_yr - np.asarray(reference["epoch_yr"], float)
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


def _apply(wcs: WCS, coefficients: Array, degree: int) -> WCS:
    """The WCS with a correction (arcsec, (terms, 2), east and north) added, as TAN-SIP."""
    grid = np.linspace(0, 2 * (CHIP_CRPIX - 1), 21)
    x, y = (g.ravel() for g in np.meshgrid(grid, grid))
    centre = _crval(wcs)
    xi, eta = to_plane(*pixel_to_sky(wcs, x, y), centre)
    change = _basis(x, y, degree) @ coefficients
    ra, dec = from_plane(xi + change[:, 0], eta + change[:, 1], centre)
    return fit_tan_sip(x, y, ra, dec, centre)


def _position_errors(reference: Table, config: AstrometryConfig) -> Array:
    error = np.nan_to_num(np.asarray(reference["pos_err_arcsec"], float), nan=0.1)
    return np.hypot(error, config.catalog_floor_arcsec)


def _fit_correction(stars, reference, wcs, degree, config) -> tuple[WCS, float]:
    """Robust fit of a correction with priors to matched stars; (wcs, rms per axis in arcsec)."""
    centre = _crval(wcs)
    xi, eta = to_plane(*pixel_to_sky(wcs, stars["x"], stars["y"]), centre)
    ref_xi, ref_eta = to_plane(reference["ra_deg"], reference["dec_deg"], centre)
    target = np.stack([ref_xi - xi, ref_eta - eta], axis=1)
    error = np.hypot(
        _position_errors(reference, config),
        np.hypot(stars["x_err"], config.centroid_floor_pix) * PIXEL_SCALE_ARCSEC,
    )
    design = _basis(stars["x"], stars["y"], degree)
    prior = np.diag(1.0 / np.asarray(config.prior_arcsec)[_degrees(degree)] ** 2)
    target0 = np.median(target, axis=0)
    residual = target - target0
    coefficients = np.zeros((design.shape[1], 2))
    for _ in range(8):
        scatter = max(1.4826 * float(np.median(np.abs(residual))), 1e-4)
        scale = np.maximum(scatter, error)
        weight = _tukey(np.hypot(residual[:, 0], residual[:, 1]) / scale) / scale**2
        normal = design.T @ (weight[:, None] * design) + prior
        coefficients = np.linalg.solve(normal, design.T @ (weight[:, None] * target))
        residual = target - design @ coefficients
    used = weight > 0
    rms = float(np.sqrt(np.mean(residual[used] ** 2))) if used.any() else float("nan")
    return _apply(wcs, coefficients, degree), rms


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
    reference: Table | None,
    config: AstrometryConfig = AstrometryConfig(),
) -> JointSolution:
    """One astrometric solution for all frames of a chip, from good first solutions of each.

    catalogs : per frame x, y, x_err, flux, flags; wcs : per frame, good to about an arcsecond
    reference : ra_deg, dec_deg, pos_err_arcsec, mag; None aligns the frames to each other only
    """
    current = list(wcs)
    matched, ra, dec = link(catalogs, current, config)
    for _ in range(2):
        current, fit = _solve_once(matched, current, (ra, dec), reference, config)
        matched, ra, dec = link(catalogs, current, config)
    current, fit = _solve_once(matched, current, (ra, dec), reference, config)
    solutions = [_verdict(k, fit, reference is not None, config) for k in range(len(current))]
    stars = []
    for table, frame in zip(catalogs, matched, strict=True):
        numbers = np.full(len(table), -1)
        numbers[frame.row] = frame.star
        stars.append(numbers)
    return JointSolution(current, solutions, stars, len(ra), fit["n_reference"], fit["residuals"])


def _solve_once(matched, wcs, stars, reference, config):
    """One round of the joint least squares; returns the new WCSs and what is left over."""
    n_frames = len(wcs)
    degree = len(config.prior_arcsec) - 1
    centre = _crval(wcs[0])
    star_xi, star_eta = to_plane(stars[0], stars[1], centre)
    n_stars = star_xi.size

    frame = np.concatenate([np.full(m.x.size, k) for k, m in enumerate(matched)])
    star = np.concatenate([m.star for m in matched])
    error = np.concatenate([m.error_arcsec for m in matched])
    x = np.concatenate([m.x for m in matched])
    y = np.concatenate([m.y for m in matched])
    position = [
        to_plane(*pixel_to_sky(w, m.x, m.y), centre) for w, m in zip(wcs, matched, strict=True)
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

    # Columns: the chip's polynomial, then a shift and two slopes for each frame.
    basis = _basis(x, y, degree)
    n_terms = basis.shape[1]
    n_obs = x.size
    own = sparse.csr_matrix(
        (
            basis[:, :3].ravel(),
            (np.repeat(np.arange(n_obs), 3), (n_terms + 3 * frame[:, None] + np.arange(3)).ravel()),
        ),
        shape=(n_obs, n_terms + 3 * n_frames),
    )
    design = sparse.csr_matrix(
        sparse.hstack([sparse.csr_matrix(basis), sparse.csr_matrix((n_obs, 3 * n_frames))]) + own
    )
    incidence = sparse.csr_matrix((np.ones(n_obs), (np.arange(n_obs), star)), (n_obs, n_stars))
    sigma = np.concatenate(
        [
            np.asarray(config.prior_arcsec)[_degrees(degree)],
            np.tile([config.prior_frame_arcsec[0]] + [config.prior_frame_arcsec[1]] * 2, n_frames),
        ]
    )
    shrink = sparse.diags(1 / sigma**2)
    solution = np.zeros((sigma.size, 2))
    weight = 1 / error**2
    catalog_weight = prior_weight.copy()
    shift = np.zeros((n_stars, 2))
    for _ in range(6):
        # Minimise sum w |observed + D p - s|^2 + sum c |s - catalogue|^2 over p and stars s.
        per_star = incidence.T @ weight + catalog_weight
        per_star[per_star == 0] = 1.0
        weighted = sparse.diags(weight) @ design
        cross = incidence.T @ weighted
        scaled = sparse.diags(1 / per_star) @ cross
        normal = (design.T @ weighted - cross.T @ scaled + shrink).toarray()
        pull = incidence.T @ (weight[:, None] * observed) + catalog_weight[:, None] * prior_value
        right = -(weighted.T @ observed) + scaled.T @ pull
        solution = np.linalg.solve(normal, right)
        moved = observed + design @ solution
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
            catalog_weight[known] = np.maximum(_tukey(off[known] / unit / broad), 1e-6) * (
                prior_weight[known] / broad**2
            )
    new = []
    for k, frame_wcs in enumerate(wcs):
        coefficients = solution[:n_terms].copy()
        coefficients[:3] += solution[n_terms + 3 * k : n_terms + 3 * k + 3]
        new.append(_apply_in(frame_wcs, coefficients, degree, centre))
    good = weight > 0.3 / error**2
    tied = good & (catalog_weight[star] > 0.05 * np.maximum(prior_weight[star], 1e-12))
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


def _apply_in(wcs: WCS, coefficients: Array, degree: int, centre: tuple[float, float]) -> WCS:
    """`_apply` with the correction given in the plane about another tangent point."""
    grid = np.linspace(0, 2 * (CHIP_CRPIX - 1), 21)
    x, y = (g.ravel() for g in np.meshgrid(grid, grid))
    xi, eta = to_plane(*pixel_to_sky(wcs, x, y), centre)
    change = _basis(x, y, degree) @ coefficients
    ra, dec = from_plane(xi + change[:, 0], eta + change[:, 1], centre)
    return fit_tan_sip(x, y, ra, dec, _crval(wcs))


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
