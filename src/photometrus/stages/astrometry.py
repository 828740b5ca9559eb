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
from photometrus.instrument import PIXEL_SCALE_ARCSEC
from photometrus.optics import SHARED, Optics, degrees, displacement, prior, solve
from photometrus.reference import match_catalog
from photometrus.wcs import crval, from_plane, pixel_to_sky, sky_to_pixel, to_plane

Array = Any  # float64 array


@dataclass(frozen=True)
class AstrometryConfig:
    """What may be tuned in the astrometry."""

    min_matched: int = 4
    catalog_floor_arcsec: float = 0.02  # added to the catalogue's own errors
    centroid_floor_pix: float = 0.02  # added to the centroids' own errors
    link_radius_arcsec: float = 1.0
    max_rms_arcsec: float = 0.6  # a frame whose stars miss the catalogue by more is not solved
    prior_shared: tuple[float, float] = (10.0, 1.0)
    """How far the optics may differ from the template in what east and north share: the radial
    distortion about the telescope axis at a chip's outer corner, arcsec; and the template's own
    departure from a radial distortion, as a fraction of it."""
    prior_shear_arcsec: float = 0.3  # how far the template may be sheared, at the chip's edge
    prior_arcsec: tuple[float, ...] = (30.0, 2.5, 0.1, 0.1, 0.1, 0.03)
    """How far the optics may differ from the template, per Legendre term of degree 0, 1, ..."""
    prior_frame_arcsec: tuple[float, float] = (30.0, 0.15)
    """How far one frame may differ from the others: shift; linear terms at the chip's edge."""
    field_stars: int = 150
    """A chip with fewer catalogue stars takes what all chips share from all of them."""
    prior_field_arcsec: tuple[float, ...] = (30.0, 0.1, 0.05, 0.03, 0.02, 0.01)
    prior_field_shared: tuple[float, float] = (0.3, 0.1)
    """How far it may then differ from them: the same as the priors above."""
    max_detections: int = 40_000  # in the joint solution: the brightest of each frame


def _brightest(sources: Table, n: int) -> Table:
    return sources[np.argsort(-np.asarray(sources["flux"]))[:n]]


def stiff(config: AstrometryConfig) -> AstrometryConfig:
    """The configuration for a template to which what all chips share has been applied."""
    return replace(
        config,
        prior_arcsec=tuple(map(min, config.prior_arcsec, config.prior_field_arcsec)),
        prior_shared=config.prior_field_shared,
    )


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
    correction: tuple[Array, Array, Array]
    """Terms, shared factors and curvature, for `optics.field_fit`."""
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
    stars = _brightest(sources[np.asarray(sources["flags"]) == 0], n_bright)
    for radius, degree in ((8.0, 1), (6.0, 3), (3.0, 4), (1.5, 4), (1.0, 4)):
        i, j = match_catalog(stars, reference, wcs, radius, n_bright)
        if i.size < config.min_matched:
            return wcs, int(i.size), rms
        optics = Optics(chip, degree)
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
    optics = Optics(chip, 1)
    fixed = replace(config, prior_shared=(1e-3, 1e-3))
    stars = _brightest(sources[np.asarray(sources["flags"]) == 0], 800)
    for radius in (5.0, 2.5, 1.5):
        i, j = match_catalog(stars, reference, wcs, radius, 800)
        if i.size < config.min_matched:
            break
        wcs, _ = _fit_correction(stars[i], reference[j], wcs, optics, fixed)
    return wcs


def _position_errors(reference: Table, config: AstrometryConfig) -> Array:
    error = np.nan_to_num(np.asarray(reference["pos_err_arcsec"], float), nan=0.1)
    return np.hypot(error, config.catalog_floor_arcsec)


def _fit_correction(
    stars: Table, reference: Table, base: WCS, optics: Optics, config: AstrometryConfig
) -> tuple[WCS, float]:
    """Robust fit of a correction, with priors, to matched stars; (wcs, rms per axis in arcsec)."""
    centre = crval(base)
    xi, eta = to_plane(*pixel_to_sky(base, stars["x"], stars["y"]), centre)
    ref_xi, ref_eta = to_plane(reference["ra_deg"], reference["dec_deg"], centre)
    target = np.stack([ref_xi - xi, ref_eta - eta], axis=1)
    error = np.hypot(
        _position_errors(reference, config),
        np.hypot(stars["x_err"], config.centroid_floor_pix) * PIXEL_SCALE_ARCSEC,
    )
    basis = optics.basis(stars["x"], stars["y"])
    shared = optics.shared(base, stars["x"], stars["y"], centre)
    design = np.concatenate([basis, shared], axis=1)
    sigma = np.asarray(config.prior_arcsec)[degrees(optics.degree)]
    precision = prior(sigma, base, config.prior_shared, config.prior_shear_arcsec)
    terms, factors = np.zeros((basis.shape[1], 2)), np.zeros(SHARED)
    residual = target - np.median(target, axis=0)
    for _ in range(8):
        scatter = max(1.4826 * float(np.median(np.abs(residual))), 1e-4)
        scale = np.maximum(scatter, error)
        weight = _tukey(np.hypot(residual[:, 0], residual[:, 1]) / scale) / scale**2
        weighted = weight[:, None] * design
        terms, factors, _ = solve(design.T @ weighted, weighted.T @ target, precision)
        residual = target - basis @ terms - displacement(shared, factors)
    used = weight > 0
    rms = float(np.sqrt(np.mean(residual[used] ** 2))) if used.any() else float("nan")
    return optics.apply(base, terms, factors, centre), rms


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
    centre = crval(wcs[0])
    sum_xi = np.empty(0)
    sum_eta = np.empty(0)
    count = np.empty(0)
    matched = []
    for table, frame_wcs in zip(catalogs, wcs, strict=True):
        good = (np.asarray(table["flags"]) == 0) & np.isfinite(np.asarray(table["x_err"]))
        row = np.flatnonzero(good)[: max(500, config.max_detections // len(catalogs))]
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
    optics = Optics(chip, len(config.prior_arcsec) - 1)
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
    return JointSolution(
        wcs=current,
        solutions=solutions,
        correction=fit["correction"],
        stars=stars,
        n_stars=len(ra),
        n_reference=fit["n_reference"],
        residuals=fit["residuals"],
    )


def _solve_once(matched, places, bases, stars, reference, optics, config):
    """One round of the joint least squares; returns the WCSs and what is left over.

    places : per frame, float64 (2, n), the pixel of each detection's star
    """
    n_frames = len(bases)
    centre = crval(bases[0])
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

    # Columns: the chip's terms, a shift and two slopes for each frame, the shared terms.
    basis = optics.basis(*np.concatenate(places, axis=1))
    shared = np.concatenate(
        [optics.shared(w, *p, centre) for w, p in zip(bases, places, strict=True)]
    )
    n_obs, n_terms = basis.shape
    n_columns = n_terms + 3 * n_frames
    rows = np.repeat(np.arange(n_obs), 3)
    columns = (n_terms + 3 * frame[:, None] + np.arange(3)).ravel()
    own = sparse.csr_matrix(
        (basis[:, :3].ravel(), (rows, columns)), shape=(n_obs, n_columns + 2 * SHARED)
    )
    common = sparse.hstack(
        [sparse.csr_matrix(basis), sparse.csr_matrix((n_obs, 3 * n_frames)), shared]
    )
    design = sparse.csr_matrix(common + own)
    incidence = sparse.csr_matrix((np.ones(n_obs), (np.arange(n_obs), star)), (n_obs, n_stars))
    sigma = np.concatenate(
        [
            np.asarray(config.prior_arcsec)[degrees(optics.degree)],
            np.tile([config.prior_frame_arcsec[0]] + [config.prior_frame_arcsec[1]] * 2, n_frames),
        ]
    )
    precision = prior(sigma, bases[0], config.prior_shared, config.prior_shear_arcsec)
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
        terms, factors, curvature = solve(normal, np.asarray(right), precision)
        moved = observed + design[:, :n_columns] @ terms + displacement(shared, factors)
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
        new.append(optics.apply(base, own_terms, factors, centre))
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
        "correction": (terms[:n_terms], factors, curvature),
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
