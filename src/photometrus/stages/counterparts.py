"""Which catalogued stars the sources of a stack are, and whether they are as bright as then."""

import math
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from photometrus.sourcetable import KINDS, SourceFlag, Status, Values, column, flagged, points

ASSUMED_POS_ERR_ARCSEC = 0.1
GROUP = 40
NEIGHBOURS = 8


@dataclass(frozen=True)
class CounterpartConfig:
    """What may be tuned in the comparison with the catalogue."""

    match_sigma: float = 4.0  # of both positions' errors; 3e-4 of true pairs are farther apart
    match_min_arcsec: float = 0.6  # blends and galaxies are displaced by more than their errors
    match_max_arcsec: float = 2.0
    astrometry_err_arcsec: float = 0.05  # of the stack's WCS, per axis
    differ_sigma: float = 3.0  # from here two magnitudes differ
    extended_scatter_mag: float = 0.3  # galaxies: no two surveys measure the same magnitude
    least_scatter_mag: float = 0.02  # of stars in two surveys, where the field does not tell
    motion_arcsec_yr: float = 0.3  # stars that the catalogue has no motion of are looked for


def find_counterparts(
    sources: Table,
    stars: Table,
    *,
    scale_arcsec: float,
    zero_point_err: float,
    depth_mag: float,
    epoch_yr: float,
    config: CounterpartConfig = CounterpartConfig(),
) -> Table:
    """The sources with what the catalogue says of each: a new table, same rows, more columns.

    sources : ra_deg, dec_deg, x_err, y_err (pix), flags, mag_psf, mag_psf_err, mag_aper, ...
    stars : ra_deg, dec_deg, mag, mag_err; pos_err_arcsec, extended, epoch_yr if known; at the
        epoch of the stack as far as motions are known
    scale_arcsec : of a pixel; zero_point_err : mag; epoch_yr : of the stack, Julian year
    depth_mag : how faint the survey goes by its own words, NaN when unknown; what the field itself
        says (`catalog_range`) goes before; it is left in meta["bright_mag"] and meta["depth_mag"]

    New columns: star (row in `stars`, -1 without), separation_arcsec (NaN without), star_mag and
    star_mag_err (of all catalogued stars within the radius together), status_psf, status_aper,
    status_auto (of `Status`), status and change_sigma (by how much it is brighter than catalogued)
    of the magnitude that counts, PSF or, of what is extended, AUTO; and moved_arcsec: how far a
    star of the same magnitude is that the stack misses at its catalogued place, NaN without one.
    """
    separation, star, radius = _nearest(sources, stars, scale_arcsec, config)
    known = star >= 0
    mag, err, extended = _together(sources, stars, radius, known)
    extended |= column(sources, "stellarity", 1.0) < 0.5
    scatter = _scatter(sources, mag, err, known & ~extended, config.least_scatter_mag)
    extra = np.hypot(zero_point_err, np.where(extended, config.extended_scatter_mag, scatter))
    out = sources.copy()
    covered = _covered(sources, known, -math.inf, depth_mag)
    bright_mag, depth_mag = catalog_range(sources[covered], known[covered], depth_mag)
    out.meta |= {"bright_mag": bright_mag, "depth_mag": depth_mag}
    saturated = flagged(sources, SourceFlag.SATURATED)
    covered = _covered(sources, known, bright_mag, depth_mag)
    change = {}
    for kind in KINDS:
        own, own_err = column(sources, f"mag_{kind}"), column(sources, f"mag_{kind}_err")
        sigma = np.sqrt(own_err**2 + np.nan_to_num(err) ** 2 + extra**2)
        # What cannot be compared (NaN, a saturated star) is not said to differ.
        change[kind] = np.where(saturated, np.nan, (mag - own) / sigma)
        differs = np.abs(change[kind]) > config.differ_sigma
        unknown = np.where(
            covered & (own > bright_mag) & (own < depth_mag), Status.NEW, Status.BELOW_LIMIT
        )
        out[f"status_{kind}"] = np.where(
            known, np.where(differs, Status.DIFFERS, Status.AGREES), unknown
        )
    counts = np.isfinite(column(sources, "mag_psf")) & ~extended
    out["status"] = np.where(counts, out["status_psf"], out["status_auto"])
    out["change_sigma"] = np.where(counts, change["psf"], change["auto"])
    out["star"], out["separation_arcsec"] = star, np.where(known, separation, np.nan)
    out["star_mag"], out["star_mag_err"] = mag, err
    out["moved_arcsec"] = _moved(sources, stars, known, epoch_yr, config)
    return out


def catalog_range(sources: Table, known: Values, nominal_mag: float) -> tuple[float, float]:
    """Between which magnitudes the catalogue has the stars of this field.

    known : bool (n,), which of the sources are in it; nominal_mag : its depth where the field does
        not tell, since the stack does not go so deep itself or has too few sources

    The good sources (no flags, S/N of ten) in order of brightness, GROUP at a time: the catalogue
    begins with the first and ends before the next two groups of which it has less than nine tenths
    of its usual share. Surveys saturate at the bright end; where stars are crowded, the usual share
    is below 1. The first is -inf when the catalogue begins before our sources do.
    """
    mag = column(sources, "mag_psf")
    good = np.flatnonzero(_good(sources))
    good = good[np.argsort(mag[good])]
    n_groups = good.size // GROUP
    if n_groups < 2:
        return -math.inf, nominal_mag
    groups = good[: n_groups * GROUP].reshape(n_groups, GROUP)
    share, begin = known[groups].mean(axis=1), mag[groups[:, 0]]
    expected = begin < nominal_mag
    usual = float(np.median(share[expected]) if expected.any() else np.quantile(share, 0.9))
    # A catalogue that lacks half of everything is another field's, or the stack's place is wrong.
    if usual < 0.5:
        return -math.inf, nominal_mag
    lacking = share < 0.9 * usual
    first = int(np.argmin(lacking))
    # Two at once, since one group in a hundred or so falls below by chance.
    ends = np.flatnonzero(lacking[first:-1] & lacking[first + 1 :]) + first
    if ends.size:
        faint = float(begin[ends[0]])
    else:  # at least as deep as our own good sources
        faint = nominal_mag if math.isfinite(nominal_mag) else float(mag[good[-1]])
    return (float(begin[first]) if first else -math.inf), faint


def _covered(sources: Table, known: Values, bright_mag: float, depth_mag: float) -> Values:
    """Where the catalogue has stars at all: at least half of a source's good neighbours."""
    mag = column(sources, "mag_psf")
    good = np.flatnonzero(_good(sources) & (mag > bright_mag) & (mag < depth_mag))
    if good.size <= NEIGHBOURS:
        return np.ones(len(sources), bool)
    places = points(sources)
    _, near = cKDTree(places[good]).query(places, NEIGHBOURS + 1)
    # A source is its own first neighbour, when it is good itself.
    neighbours = good[near]
    others = neighbours != np.arange(len(sources))[:, None]
    return (known[neighbours] & others).sum(axis=1) >= 0.5 * others.sum(axis=1)


def _good(sources: Table) -> Values:
    """Without flags and of S/N 10: what is certainly there."""
    error = column(sources, "mag_psf_err")
    return (error < 0.1) & (np.asarray(sources["flags"]) == 0)


def _nearest(
    sources: Table, stars: Table, scale_arcsec: float, config: CounterpartConfig
) -> tuple[Values, Values, Values]:
    """Separation from the nearest star, arcsec, its row (-1: too far), and how far is too far."""
    own_err = scale_arcsec * np.hypot(column(sources, "x_err", 0.0), column(sources, "y_err", 0.0))
    own_err = np.nan_to_num(own_err) / math.sqrt(2)
    if len(stars) == 0 or len(sources) == 0:
        none = np.full(len(sources), -1, np.int64)
        return np.full(len(sources), np.nan), none, np.full(len(sources), config.match_min_arcsec)
    own, places = points(sources), points(stars)
    separation, star = cKDTree(places).query(own)
    _, back = cKDTree(own).query(places)
    theirs = np.nan_to_num(column(stars, "pos_err_arcsec"), nan=ASSUMED_POS_ERR_ARCSEC)[star]
    sigma = np.sqrt(own_err**2 + theirs**2 + config.astrometry_err_arcsec**2)
    least, most = config.match_min_arcsec, config.match_max_arcsec
    radius = np.clip(config.match_sigma * sigma, least, most)
    # Of two stars in one blend neither is where the blend is; unless a source is nearer to it.
    blend = np.minimum(0.5 * scale_arcsec * np.nan_to_num(column(sources, "fwhm", 0.0)), most)
    alone = back[star] == np.arange(len(sources))
    radius = np.where(alone, np.maximum(radius, blend), radius)
    return separation, np.where(separation <= radius, star, -1), radius


def _together(
    sources: Table, stars: Table, radius: Values, known: Values
) -> tuple[Values, Values, Values]:
    """Magnitude of all stars within the radius, its error, and whether one is extended.

    Another survey may see two stars where the stack sees one.
    """
    n = len(sources)
    mag, err, extended = np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, bool)
    rows = np.flatnonzero(known)
    if rows.size == 0:
        return mag, err, extended
    lists = cKDTree(points(stars)).query_ball_point(points(sources)[rows], radius[rows])
    owner = np.repeat(rows, [len(found) for found in lists])
    member = np.concatenate([np.asarray(found, np.int64) for found in lists])
    star_mag, star_err = column(stars, "mag"), np.nan_to_num(column(stars, "mag_err"))
    light = np.nan_to_num(10.0 ** (-0.4 * star_mag[member]))
    total = np.bincount(owner, light, n)
    squares = np.bincount(owner, (light * star_err[member]) ** 2, n)
    lit = total > 0
    mag[lit] = -2.5 * np.log10(total[lit])
    err[lit] = np.sqrt(squares[lit]) / total[lit]
    is_extended = np.nan_to_num(column(stars, "extended", 0.0)) > 0
    extended = np.bincount(owner, is_extended[member], n) > 0
    return mag, err, extended


def _scatter(sources: Table, mag: Values, err: Values, stars: Values, least: float) -> float:
    """Scatter of good stars about the catalogue beyond the errors: colours, variables; mag."""
    own, own_err = column(sources, "mag_psf"), column(sources, "mag_psf_err")
    good = stars & (np.asarray(sources["flags"]) == 0) & (own_err < 0.05) & (err < 0.05)
    off = (own - mag)[good]
    off = off[np.isfinite(off)]
    if off.size < 20:
        return least
    spread = 1.4826 * float(np.median(np.abs(off - np.median(off))))
    expected = float(np.nanmedian(own_err[good] ** 2 + err[good] ** 2))
    return max(least, math.sqrt(max(spread**2 - expected, 0.0)))


def _moved(
    sources: Table, stars: Table, known: Values, epoch_yr: float, config: CounterpartConfig
) -> Values:
    """How far each unknown source is from a star of its magnitude that is not at its place.

    Only sources of S/N 10, whose magnitude says something, and only where it is improbable
    (1 %) that such a star is missing so near by chance.
    """
    moved = np.full(len(sources), np.nan)
    mag, err = column(sources, "mag_psf"), column(sources, "mag_psf_err")
    unknown = np.flatnonzero(~known & (err < 0.1))
    years = np.abs(epoch_yr - column(stars, "epoch_yr"))
    if unknown.size == 0 or not (years > 0).any():
        return moved
    places, own = points(stars), points(sources)
    low, high = own.min(axis=0), own.max(axis=0)
    inside = ((places >= low) & (places <= high)).all(axis=1)
    alone, _ = cKDTree(own).query(places)
    missing = np.flatnonzero(inside & (alone > config.match_max_arcsec) & (years > 0))
    if missing.size == 0:
        return moved
    # The field is a patch of a sphere: a box around it, with the two longest sides, is as large.
    area = float(np.prod(np.sort(high - low)[1:]))
    star_mag, star_err = column(stars, "mag")[missing], column(stars, "mag_err", 0.0)[missing]
    for source in unknown:
        sigma = np.sqrt(err[source] ** 2 + np.nan_to_num(star_err) ** 2)
        sigma = np.hypot(sigma, config.least_scatter_mag)
        same = missing[np.abs(mag[source] - star_mag) < config.differ_sigma * sigma]
        far = np.linalg.norm(places[same] - own[source], axis=1)
        near = far[far <= config.motion_arcsec_yr * years[same]]
        if near.size and math.pi * near.min() ** 2 * same.size / area < 0.01:
            moved[source] = near.min()
    return moved
