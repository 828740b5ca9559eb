"""Where a frame is on the sky: found by voting, whatever the pointing and the rotator say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.frame import EXTENDED
from photometrus.kernels.match import best_cell, vote
from photometrus.wcs import crval, pixel_to_sky, pointing_wcs, shifted, tan_sip, to_plane


@dataclass(frozen=True)
class PlacementConfig:
    """What may be tuned in the finding of a frame on the sky."""

    capture_arcsec: float = 150.0  # how far the pointing may be off
    vote_cell_arcsec: float = 2.0
    vote_stars: int = 300  # brightest stars of a frame that vote
    min_votes: int = 4
    vote_significance: float = 3.0  # -log10 of the probability of the votes by chance, all tries


CERTAIN = 40.0
"""A significance that needs no comparison with other candidates."""
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


def find_placement(
    sources: Table,
    reference: Table,
    chip: int,
    axis: tuple[float, float],
    rotators: Sequence[Sequence[float]],
    config: PlacementConfig = PlacementConfig(),
    *,
    certain: float = CERTAIN,
) -> Placement | None:
    """The rotator and shift for which most of a frame's stars fall on catalogue stars.

    sources : x, y, flux, flags; reference : ra_deg, dec_deg, mag; axis : where the telescope says
        it is
    rotators : groups of candidates (degrees), the likeliest group first; the most significant
        candidate of the first group that has a significant one is taken
    certain : the significance from which the others are not looked at
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
            if best and best.significance > certain:
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
    config: PlacementConfig,
) -> Placement | None:
    """The shift with most votes at one rotator angle, and how unlikely so many are by chance.

    Every star and every catalogue star has one vote per shift: a trail of false detections across
    one bright star is one coincidence, not a hundred.
    """
    wcs = pointing_wcs(chip, axis, rotator_deg)
    ra, dec = pixel_to_sky(wcs, stars["x"], stars["y"])
    centre = crval(wcs)
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
        np.float64(model.wcs.crval[0]), np.float64(model.wcs.crval[1]), crval(model_placed)
    )
    turn = placed.pixel_scale_matrix @ np.linalg.inv(model_placed.pixel_scale_matrix)
    moved = shifted(placed, *(turn @ np.array([float(east), float(north)])))
    crpix = (float(model.wcs.crpix[0]), float(model.wcs.crpix[1]))
    return tan_sip(
        crval(moved), crpix, placed.pixel_scale_matrix @ change, model.sip.a, model.sip.b
    )
