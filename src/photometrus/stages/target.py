"""The transient: what is in its error circle, or how bright it can be at most; new sources."""

import math
from dataclasses import dataclass, replace

import numpy as np
from astropy.table import Table

from photometrus.sighting import FOUND, AtPosition, Calibration, Sighting, Target
from photometrus.sourcetable import SPURIOUS, Status, Values, column, points, signal_to_noise, words
from photometrus.wcs import to_plane

LIKELY = {Status.NEW: 0, Status.DIFFERS: 1, Status.BELOW_LIMIT: 2, Status.AGREES: 3}
"""Which status speaks most for the transient."""


@dataclass(frozen=True)
class TargetConfig:
    """What may be tuned about the target."""

    detection_sigma: float = 5.0  # below, a source is told but no detection
    sure_sigma: float = 3.0  # a new source is brighter than the catalogue's limit by so much
    search_from_arcsec: float = 60.0  # a larger radius is searched for new sources


def sources_in_circle(sources: Table, target: Target) -> Table:
    """The sources within the target's radius, nearest first, with distance_arcsec and chance.

    chance is 1 - exp(-pi r^2 n), with n the density of sources as bright or brighter in the stack
    (Downes et al. 1986, MNRAS 218, 31; Bloom et al. 2002, AJ 123, 1111).
    """
    at = points(Table({"ra_deg": [target.ra_deg], "dec_deg": [target.dec_deg]}))
    chord = np.linalg.norm(points(sources) - at, axis=1) if len(sources) else np.empty(0)
    # As in `points`; on the sphere, since the distance may be degrees.
    radius = np.linalg.norm(at)
    distance = 2 * radius * np.arcsin(np.clip(chord / (2 * radius), 0.0, 1.0))
    inside = np.flatnonzero(distance <= target.radius_arcsec)
    inside = inside[np.argsort(distance[inside], kind="stable")]
    out = sources[inside]
    out["distance_arcsec"] = distance[inside]
    out["snr"] = signal_to_noise(out)
    out["chance"] = _chance(sources, target, inside, distance[inside])
    return out


def classify(
    target: Target,
    sources: Table,
    at: AtPosition,
    calibration: Calibration,
    config: TargetConfig = TargetConfig(),
) -> Sighting:
    """What is in the target's circle: its likely counterpart, or an upper limit.

    sources : of `counterparts.find_counterparts`, with the column doubts of `doubts.find_doubts`

    A source counts as a detection from `detection_sigma` (of the PSF fit) on, when nothing says
    that it is spurious. Of several the likeliest is the one that the catalogue lacks, then one
    that is brighter than catalogued by `detection_sigma`, then one too faint for the catalogue;
    among equals the one that is least likely there by chance.
    """
    inside = sources_in_circle(sources, target)
    detected = column(inside, "snr") >= config.detection_sigma
    spurious = (_doubts(inside) & SPURIOUS.value) != 0
    status = np.array(inside["status"], int)
    # A transient adds light: what is fainter than catalogued, or hardly brighter, is a known star.
    hardly = column(inside, "change_sigma") < config.detection_sigma
    status[(status == Status.DIFFERS) & hardly] = Status.AGREES
    likely = np.array([LIKELY[value] for value in status], int)
    inside = inside[np.lexsort((column(inside, "chance"), likely, spurious, ~detected))]
    inside["reason"] = _reasons(inside)
    verdict = _verdict(detected, spurious, status, at, config)
    result = Sighting(target, at, inside, verdict, "")
    depth_mag = float(sources.meta.get("depth_mag", math.nan))
    return replace(result, sentence=_sentence(result, calibration, depth_mag))


def search_new(sources: Table, target: Target, config: TargetConfig = TargetConfig()) -> Table:
    """Sources in a large circle that the catalogue should have and has not, the surest first.

    sources : as for `classify`
    returns those of status NEW, of `detection_sigma` and brighter than the catalogue's limit by
    `sure_sigma` (noise lifts the faintest over a limit), with the columns of `sources_in_circle`,
    reason, which tells why one is ruled out, and rank: 1 for the brightest that is not, 0 if it is
    """
    inside = sources_in_circle(sources, target)
    new = np.asarray(inside["status"], int) == Status.NEW
    faintest = column(inside, "mag_psf") + config.sure_sigma * column(inside, "mag_psf_err")
    sure = faintest < sources.meta.get("depth_mag", math.inf)
    found = inside[new & sure & (column(inside, "snr") >= config.detection_sigma)]
    ruled_out = _doubts(found) != 0
    found = found[np.lexsort((column(found, "mag_psf"), ruled_out))]
    rank = np.arange(1, len(found) + 1)
    found["reason"] = _reasons(found)
    found["rank"] = np.where(_doubts(found) == 0, rank, 0)
    return found


def _doubts(sources: Table) -> Values:
    return column(sources, "doubts", 0.0).astype(np.int64)


def _reasons(sources: Table) -> list[str]:
    return [words(doubts) for doubts in _doubts(sources)]


def _chance(sources: Table, target: Target, rows: Values, distance: Values) -> Values:
    mag = column(sources, "mag_psf")
    if rows.size == 0:
        return np.empty(0)
    centre = (target.ra_deg, target.dec_deg)
    places = to_plane(column(sources, "ra_deg"), column(sources, "dec_deg"), centre)
    area = float(np.prod(np.nanmax(places, axis=1) - np.nanmin(places, axis=1))) or math.inf
    brighter = np.searchsorted(np.sort(mag[np.isfinite(mag)]), mag[rows], side="right")
    return 1.0 - np.exp(-math.pi * distance**2 * brighter / area)


def _verdict(
    detected: Values, spurious: Values, status: Values, at: AtPosition, config: TargetConfig
) -> str:
    if not math.isfinite(at.limit_5sigma):
        return "not covered"
    real = detected & ~spurious
    for which, name in FOUND.items():
        if (real & (status == which)).any():
            return name
    if real.any():
        return "known"
    if (detected & spurious).any():
        return "doubtful"
    return "forced" if at.snr >= config.detection_sigma else "limit"


def _sentence(result: Sighting, calibration: Calibration, depth_mag: float) -> str:
    band, system, survey = calibration.band, calibration.system, calibration.survey
    radius = f'{result.target.radius_arcsec:g}"'
    limit = f"{band} > {result.at.limit_5sigma:.2f} ({system}, 5 sigma)"
    if result.verdict == "not covered":
        return "The position is not on the stack, or all its pixels there are bad."
    if result.verdict == "limit":
        return f"No source within {radius}: {limit}."
    if result.verdict == "forced":
        mag = f"{band} = {result.at.mag:.2f} +- {result.at.mag_err:.2f} ({system})"
        return f"No separate source, but light at the position: {mag}, S/N {result.at.snr:.1f}."
    first = result.sources[0]
    star = f"{survey} has {band} = {first['star_mag']:.2f}"
    if result.verdict == "doubtful":
        return f"Nothing sure within {radius}: {limit}; a source there is {first['reason']}."
    if result.verdict == "known":
        return f"Only known sources within {radius}, none brighter than {survey} says; {limit}."
    what = {
        "new": f"{survey} lacks it and goes to {depth_mag:.1f}",
        "changed": star,
        "faint": f"{survey} does not go so deep"
        + (f" ({depth_mag:.1f})" if math.isfinite(depth_mag) else ""),
    }[result.verdict]
    mag = f"{band} = {first['mag_psf']:.2f} +- {first['mag_psf_err']:.2f} ({system})"
    return (
        f'{mag}, S/N {first["snr"]:.1f}, {first["distance_arcsec"]:.2f}" from the position; {what}.'
    )
