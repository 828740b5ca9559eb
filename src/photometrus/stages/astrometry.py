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
from functools import partial
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from photometrus.adjustment import (
    Adjusted,
    FrameScatter,
    Observations,
    adjust,
    centroid_floor,
)
from photometrus.distortion import Distortion, as_prior, disagreement, measured
from photometrus.frame import Solution
from photometrus.instrument import CHIP_CRPIX, PIXEL_SCALE_ARCSEC
from photometrus.optics import Optics, Prior, degrees, template_prior
from photometrus.reference import position_errors
from photometrus.wcs import crval, from_plane, pixel_to_sky, sky_to_pixel, to_plane

Array = Any  # float64 array
ROUNDS = 3
"""Detections are linked anew, and errors measured, so often."""
TIE_ARCSEC = 1.2
"""How far from a star its entry in the catalogue may be."""
MIN_FLOOR_ARCSEC = 0.001
"""Centroids are not believed to be better."""
GOOD_CENTROID_ARCSEC = 0.02
MIN_MEAN_STARS = 30
MIN_KEPT_FRAMES = 3
"""Fewer do not see the distortion by their dithers."""
CORNER_PIX = 0.7 * 2048.0
"""Farther than this from the chip's middle in x and in y is a corner."""
LINEAR_STARS = 6
"""Fewer do not say how a frame is turned and stretched."""
ONLY_SHIFT = np.array([[1.0], [0.0], [0.0]])
"""A shift among what a frame has of its own: shift, two slopes."""


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
    prior_frame_arcsec: tuple[float, float, float, float] = (30.0, 0.15, 0.02, 0.01)
    """How far one frame may differ from the others: shift; turn, stretch, shear at the chip's edge.
    With the last three it begins: the frames' own scatter takes their place."""
    field_stars: int = 150
    """A chip with fewer catalogue stars takes what all chips share from all of them."""
    prior_field_arcsec: tuple[float, ...] = (30.0, 0.1, 0.05, 0.03, 0.02, 0.01)
    prior_field_shared: tuple[float, float] = (0.3, 0.1)
    """How far it may then differ from them: the same as the priors above."""
    max_detections: int = 40_000  # in the joint solution: the brightest of each frame


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
    """The centroids' own."""
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
    distortion: Distortion
    """What these stars alone say of it, for the nights to come."""
    contradiction: str
    """Where the stars contradict the stored distortion, which then was left out."""
    residuals: Table
    """Of every detection with a catalogue star: frame, x, y, d_east, d_north (arcsec)."""


def degree(config: AstrometryConfig) -> int:
    """The degree of the model of a chip."""
    return len(config.prior_arcsec) - 1


def worth_keeping(joint: JointSolution, config: AstrometryConfig) -> bool:
    """Whether what a solution says of the distortion is worth a place in the store."""
    full = sum(solution.level == "full" for solution in joint.solutions)
    return full >= MIN_KEPT_FRAMES and joint.n_reference >= config.field_stars


def residual_numbers(residuals: Table) -> dict[str, float]:
    """Numbers of a solution's residuals: rms per axis, arcsec, of the chip and of its corners."""
    off = np.stack([np.asarray(residuals["d_east"]), np.asarray(residuals["d_north"])], axis=-1)
    place = np.stack([np.asarray(residuals["x"]), np.asarray(residuals["y"])], axis=-1)
    corner = (np.abs(place + 1 - CHIP_CRPIX) > CORNER_PIX).all(axis=-1)
    return {
        "n_residuals": float(len(off)),
        "residual_rms_arcsec": _rms(off),
        "residual_corner_rms_arcsec": _rms(off[corner]),
    }


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
        error = np.asarray(stars["x_err"], float) * PIXEL_SCALE_ARCSEC
        matched.append(Matched(x, y, error, index, row))
    ra, dec = from_plane(sum_xi / count, sum_eta / count, centre)
    return matched, ra, dec


def solve_jointly(
    catalogs: Sequence[Table],
    wcs: Sequence[WCS],
    bases: Sequence[WCS],
    chip: int,
    reference: Table | None,
    config: AstrometryConfig = AstrometryConfig(),
    stored: Distortion | None = None,
) -> JointSolution:
    """One astrometric solution for all frames of a chip, from good first solutions of each.

    catalogs : per frame x, y, x_err, flux, flags; wcs : per frame, good to about an arcsecond
    bases : per frame, the chip's template where the frame was found: what the priors refer to
    reference : ra_deg, dec_deg, pos_err_arcsec, mag; None aligns the frames to each other only
    stored : what other nights say of the distortion; it takes part unless these stars disagree
    """
    optics = Optics(chip, degree(config))
    sigma = np.asarray(config.prior_arcsec)[degrees(optics.degree)]
    prior = template_prior(sigma, bases[0], config.prior_shared, config.prior_shear_arcsec)
    problem = _Problem(catalogs, bases, optics, reference, config)
    floor = config.centroid_floor_pix * PIXEL_SCALE_ARCSEC
    last = _round(problem, wcs, FrameScatter(*config.prior_frame_arcsec[1:]), floor, prior)
    for _ in range(ROUNDS - 1):
        last = _round(problem, last.wcs, last.scatter, last.floor_arcsec, prior)
    ours = measured(last.fit.information, last.fit.pull, bases[0], optics.degree)
    contradiction = ""
    if stored is not None:
        # The stars have spoken alone: do they contradict what was stored?
        contradiction = disagreement(ours, stored, prior, optics)
        if not contradiction:
            prior = prior + as_prior(stored, bases[0], optics.degree)
            last = _round(problem, last.wcs, last.scatter, last.floor_arcsec, prior)
    seen, fit, matched = last.seen, last.fit, last.matched
    stars = []
    for table, frame in zip(catalogs, matched, strict=True):
        numbers = np.full(len(table), -1)
        numbers[frame.row] = frame.star
        stars.append(numbers)
    tied = _tied(seen, fit)
    to_catalog = (fit.moved - last.offset - seen.known[seen.star])[tied]
    held = "the stored one" if stored is not None and not contradiction else "the template's"
    judge = partial(_verdict, seen=seen, fit=fit, tied=tied, config=config)
    return JointSolution(
        wcs=last.wcs,
        solutions=[
            judge(k, has_reference=reference is not None, held=held) for k in range(len(bases))
        ],
        correction=(fit.terms, fit.factors, fit.curvature),
        distortion=ours,
        contradiction=contradiction,
        stars=stars,
        n_stars=seen.n_stars,
        n_reference=int(np.isfinite(seen.known_error).sum()),
        residuals=Table(
            {
                "frame": seen.frame[tied],
                "x": np.concatenate([m.x for m in matched])[tied],
                "y": np.concatenate([m.y for m in matched])[tied],
                "d_east": to_catalog[:, 0],
                "d_north": to_catalog[:, 1],
            }
        ),
    )


@dataclass(frozen=True, eq=False)
class _Problem:
    """What does not change from round to round."""

    catalogs: Sequence[Table]
    bases: Sequence[WCS]
    optics: Optics
    reference: Table | None
    config: AstrometryConfig


@dataclass(frozen=True, eq=False)
class _Round:
    """One round: detections linked, solved, and what the next one begins with."""

    wcs: list[WCS]
    scatter: FrameScatter
    floor_arcsec: float
    matched: list[Matched]
    seen: Observations
    fit: Adjusted
    offset: Array


def _round(
    problem: _Problem,
    wcs: Sequence[WCS],
    scatter: FrameScatter,
    floor_arcsec: float,
    prior: Prior,
) -> _Round:
    """Link the detections by a solution, and solve.

    What the stars say of their own scatter and of the frames' holds for the next round.
    """
    bases, config = problem.bases, problem.config
    matched, ra, dec = link(problem.catalogs, wcs, config)
    seen = _observations(problem, matched, wcs, (ra, dec), floor_arcsec)
    fit = adjust(seen, bases[0], len(bases), prior, config.prior_frame_arcsec[0], scatter)
    offset = _mean_offset(seen, fit)
    bright = centroid_floor(seen, fit.residual, np.concatenate([m.error_arcsec for m in matched]))
    return _Round(
        wcs=[
            _corrected(base, own - offset * ONLY_SHIFT, fit, problem.optics, crval(bases[0]))
            for base, own in zip(bases, fit.own, strict=True)
        ],
        scatter=fit.scatter,
        floor_arcsec=max(bright, MIN_FLOOR_ARCSEC) if np.isfinite(bright) else floor_arcsec,
        matched=matched,
        seen=seen,
        fit=fit,
        offset=offset,
    )


def _observations(
    problem: _Problem,
    matched: Sequence[Matched],
    current: Sequence[WCS],
    stars: tuple[Array, Array],
    floor_arcsec: float,
) -> Observations:
    """The detections of all frames in the plane about the first frame's reference point.

    current : per frame, the solution so far; stars : ra_deg, dec_deg of the linked stars
    floor_arcsec : added to the centroids' own errors
    """
    bases, optics = problem.bases, problem.optics
    centre = crval(bases[0])
    # The terms are taken where the star is, not where noise put it: else a smaller chip has
    # smaller residuals, and without a catalogue nothing keeps it from shrinking.
    places = [
        np.stack(sky_to_pixel(w, stars[0][m.star], stars[1][m.star]))
        for w, m in zip(current, matched, strict=True)
    ]
    position = [
        np.stack(to_plane(*pixel_to_sky(w, m.x, m.y), centre), axis=1)
        for w, m in zip(bases, matched, strict=True)
    ]
    shared = [optics.shared(w, p[0], p[1], centre) for w, p in zip(bases, places, strict=True)]
    known, known_error = _catalogue_positions(stars, centre, problem.reference, problem.config)
    return Observations(
        position=np.concatenate(position),
        error=np.hypot(np.concatenate([m.error_arcsec for m in matched]), floor_arcsec),
        frame=np.repeat(np.arange(len(matched)), [m.x.size for m in matched]),
        star=np.concatenate([m.star for m in matched]),
        basis=optics.basis(*np.concatenate(places, axis=1)),
        shared=np.concatenate(shared),
        known=known,
        known_error=known_error,
    )


def _catalogue_positions(
    stars: tuple[Array, Array],
    centre: tuple[float, float],
    reference: Table | None,
    config: AstrometryConfig,
) -> tuple[Array, Array]:
    """The catalogue's word on each star: place in the plane (n, 2), error (inf without one)."""
    here = np.stack(to_plane(*stars, centre), axis=1)
    known, error = np.zeros((len(here), 2)), np.full(len(here), np.inf)
    if reference is None or not len(reference) or not len(here):
        return known, error
    there = np.stack(to_plane(reference["ra_deg"], reference["dec_deg"], centre), axis=1)
    near = np.flatnonzero(np.isfinite(there[:, 0]))
    distance, nearest = cKDTree(there[near]).query(here, distance_upper_bound=TIE_ARCSEC)
    found = np.flatnonzero(np.isfinite(distance))
    _, back = cKDTree(here).query(there[near[nearest[found]]])
    found = found[back == found]
    rows = near[nearest[found]]
    known[found] = there[rows]
    error[found] = position_errors(reference[rows], config.catalog_floor_arcsec)
    return known, error


def _corrected(
    base: WCS, own: Array, fit: Adjusted, optics: Optics, centre: tuple[float, float]
) -> WCS:
    """A frame's solution: its template with what the adjustment found added; own : (3, 2)."""
    terms = fit.terms.copy()
    terms[: len(own)] += own
    return optics.apply(base, terms, fit.factors, centre)


def _mean_offset(seen: Observations, fit: Adjusted) -> Array:
    """East and north, arcsec, by which the well measured stars lie off the catalogue on average.

    The adjustment's robust mean weighs stars by how well they fit, and faint stars like bright
    ones; a field's zero is taken as everybody takes it, the clipped mean of its bright stars.
    """
    well = (seen.error < GOOD_CENTROID_ARCSEC) & (fit.weight > 0.3)
    well &= np.isfinite(seen.known_error)[seen.star]
    _, first = np.unique(seen.star[well], return_index=True)
    rows = np.flatnonzero(well)[first]
    if rows.size < MIN_MEAN_STARS:
        return np.zeros(2)
    # One row per star: its place, not that of one of its detections.
    off = (fit.moved - fit.residual - seen.known[seen.star])[rows]
    keep = np.ones(rows.size, bool)
    for _ in range(8):
        middle = np.median(off[keep], axis=0)
        scatter = 1.4826 * np.median(np.abs(off[keep] - middle), axis=0)
        keep = (np.abs(off - middle) <= 5.0 * scatter).all(axis=1)
    return np.asarray(off[keep].mean(axis=0))


def _tied(seen: Observations, fit: Adjusted) -> NDArray[Any]:
    """Which detections are good ones of stars that the catalogue has right: bool (n,)."""
    known = np.isfinite(seen.known_error) & (fit.trust > 0.05)
    return (fit.weight > 0.3) & known[seen.star]


def _verdict(
    k: int,
    *,
    seen: Observations,
    fit: Adjusted,
    tied: NDArray[Any],
    config: AstrometryConfig,
    has_reference: bool,
    held: str,
) -> Solution:
    """How far down the ladder one frame is, and why not higher.

    held : whose distortion holds when the chip's stars are too few
    """
    mine = seen.frame == k
    inside = mine & (fit.weight > 0.3) & (seen.seen > 1)
    internal = _rms(fit.residual[inside])
    n, n_inside = int((mine & tied).sum()), int(inside.sum())
    n_chip = int(np.isfinite(seen.known_error).sum())
    rms = _rms((fit.moved - seen.known[seen.star])[mine & tied])
    if not has_reference:
        if len(fit.own) > 1 and n_inside < config.min_matched:
            return Solution("pointing", n_inside, rms, internal, f"{n_inside} stars in common")
        why = "no reference catalogue: absolute astrometry is the telescope's pointing"
        return Solution("relative", n_inside, rms, internal, why)
    if n < config.min_matched or rms > config.max_rms_arcsec:
        why = f"{n} catalogue stars, rms {rms:.2f} arcsec: its stars do not confirm where it is"
        return Solution("pointing", n, rms, internal, why)
    if max(n, n_inside) < LINEAR_STARS:
        why = f"{max(n, n_inside)} stars: turned and stretched as the other frames are"
        return Solution("shift", n, rms, internal, why)
    if n_chip < config.field_stars:
        why = f"{n_chip} catalogue stars, {config.field_stars} for a distortion of its own: {held}"
        return Solution("affine", n, rms, internal, why)
    return Solution("full", n, rms, internal, "joint solution of all frames")


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")
