"""Where every frame of a chip points: found among the stars, one step down when a step fails.

Header and option give the rotator; the stars decide. What the first frame finds is tried first on
the others. Without a catalogue the frames are placed on each other. All of it is small linear
algebra, which threads only slow down.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.config import Config
from photometrus.instrument import CHIP_CRPIX
from photometrus.optics import FieldFit, Optics, plane_matrix, stretched
from photometrus.reference import as_catalog
from photometrus.stages import alone, placement
from photometrus.stages.placement import Placement
from photometrus.track import Track
from photometrus.wcs import crval, pixel_to_sky, shifted, to_plane
from photometrus.workers import Each

RIGHT_ANGLES = (90.0, 180.0, 270.0)
SMALL_ERRORS_DEG = (0.0, -0.25, 0.25, -0.5, 0.5)
"""Tried around every candidate: the rotator's own error."""
POLAR_DEG = 75.0
FINE_DEG = tuple(0.1 * step for step in range(-8, 9))
"""Tried around the common angle nearer to a pole than that."""
MODEL_FRAMES = 3
"""So many frames are fitted alone; the best of them starts the others."""
NOTEWORTHY_DEG = 5.0
"""The rotator differs from what was stated by more: the user is told."""


def rotator(track: Track, config: Config) -> float:
    """The header's rotator offset, or the one given when the header's cannot be read."""
    stated = track.frame.info.rotator_deg
    return config.run.rotator_deg if stated is None else stated


def place(
    tracks: Sequence[Track], catalog: Table | None, config: Config
) -> tuple[list[Track], list[str]]:
    """The tracks with their placements (None where a frame was not found), and notes.

    catalog : ra_deg, dec_deg, mag; None, or ``-no_shift``, takes the telescope's word
    """
    if catalog is None or not config.run.search_pointing:
        return [replace(track, placement=as_pointed(track, config)) for track in tracks], []
    best = max(tracks, key=n_stars)
    groups = candidates(best, config)
    found = _find(best, catalog, [*groups, list(np.arange(0.0, 360.0, 0.5))], config)
    notes = []
    if found is not None:
        groups[0].insert(0, found.rotator_deg)
        stated = rotator(best, config)
        if abs(turn(found.rotator_deg, stated)) > NOTEWORTHY_DEG:
            notes.append(
                f"the rotator is at {found.rotator_deg % 360:.1f} deg by the stars, "
                f"{stated:.1f} by the header or -rot_val"
            )

    def one(track: Track) -> Track:
        return replace(track, placement=_find(track, catalog, groups, config))

    return _agreed([one(track) for track in tracks], catalog, config), notes


def _agreed(tracks: list[Track], catalog: Table, config: Config) -> list[Track]:
    """One rotator for all: who has another, or none, tries the common one.

    First among the catalogue's stars, then among those of the best placed frame, which are more:
    what a frame has in common with the next one suffices.
    """
    placed = [track for track in tracks if track.placement is not None]
    if not placed:
        return tracks
    angles = [track.placement.rotator_deg for track in placed if track.placement is not None]
    support = [sum(abs(turn(angle, other)) < 1.0 for other in angles) for angle in angles]
    common = angles[int(np.argmax(support))]
    if 2 * max(support) <= len(angles):
        return tracks
    # Exactly the common angle: the joint solution wants frames that differ by little. But near a
    # pole north is not the same for all, and a pointing error turns the field.
    near_pole = any(abs(track.frame.info.dec_deg) > POLAR_DEG for track in tracks)
    nearby = [common + small for small in (FINE_DEG if near_pole else (0.0,))]
    agreeing = [t for t, angle in zip(placed, angles, strict=True) if angle == common]
    best = max(agreeing, key=n_stars)
    neighbours = as_catalog(best.sources, placed_wcs(best))
    names = set() if near_pole else {track.name for track in agreeing}

    def again(track: Track) -> Track:
        for stars in (catalog, neighbours):
            found = _find(track, stars, [nearby], config, certain=np.inf)
            if found is not None:
                break
        return replace(track, placement=found)

    return [track if track.name in names else again(track) for track in tracks]


def n_stars(track: Track) -> int:
    """How many clean stars a frame has: the one with most is the safest to begin with."""
    return int(np.count_nonzero(np.asarray(track.sources["flags"]) == 0))


def _find(
    track: Track,
    catalog: Table,
    rotators: Sequence[Sequence[float]],
    config: Config,
    *,
    certain: float = placement.CERTAIN,
) -> Placement | None:
    info = track.frame.info
    axis = (info.ra_deg, info.dec_deg)
    return placement.find_placement(
        track.sources, catalog, info.ramp.chip, axis, rotators, config.placement, certain=certain
    )


def as_pointed(track: Track, config: Config) -> Placement:
    """The telescope's word for a frame's placement."""
    return Placement(rotator(track, config), 0.0, 0.0, 0, 0.0)


def candidates(track: Track, config: Config) -> list[list[float]]:
    """Rotator offsets to try: header and option; both turned by right angles and negated."""
    stated = [rotator(track, config), config.run.rotator_deg]
    turned = [angle + right for right in RIGHT_ANGLES for angle in stated]
    groups: list[list[float]] = [[], []]
    for group, angles in enumerate((stated, [*turned, *(-angle for angle in stated)])):
        for angle in (angle + small for angle in angles for small in SMALL_ERRORS_DEG):
            if all(abs(turn(angle, other)) > 0.1 for other in [*groups[0], *groups[1]]):
                groups[group].append(angle)
    return groups


def turn(a: float, b: float) -> float:
    """Angle from b to a in degrees, -180..180."""
    return (a - b + 180.0) % 360.0 - 180.0


def catalog_of(tracks: Sequence[Track], config: Config) -> Table | None:
    """The stars of the frame with most of them, where its pointing puts them; None with too few."""
    best = max(tracks, key=n_stars)
    if len(best.sources) < config.astrometry.min_matched:
        return None
    return as_catalog(best.sources, best.frame.wcs)


def placed_wcs(track: Track) -> WCS:
    """The chip's template where the frame was found."""
    info = track.frame.info
    if track.placement is None:
        raise ValueError(f"{track.name} has no placement")
    return placement.placed_wcs(info.ramp.chip, (info.ra_deg, info.dec_deg), track.placement)


def bases(placed: Sequence[Track], shared: FieldFit | None, config: Config) -> list[WCS]:
    """Each frame's template where it was found, with what all chips share applied to it."""
    own = [placed_wcs(track) for track in placed]
    if shared is None:
        return own
    degree = len(config.astrometry.prior_arcsec) - 1
    optics = Optics(placed[0].frame.info.ramp.chip, degree)
    out = []
    for track, wcs in zip(placed, own, strict=True):
        new = stretched(optics, wcs, shared, track.placement.rotator_deg)  # type: ignore[union-attr]
        # A window turns about the chip's middle, which is not its own: it stays where it was found.
        x, y = (np.median(np.asarray(track.sources[axis])) for axis in ("x", "y"))
        centre = crval(new)
        here, there = (to_plane(*pixel_to_sky(one, x, y), centre) for one in (new, wcs))
        out.append(shifted(new, float(there[0] - here[0]), float(there[1] - here[1])))
    return out


def first_solutions(
    placed: Sequence[Track],
    own: Sequence[WCS],
    catalog: Table | None,
    config: Config,
    each: Each = map,
) -> list[WCS]:
    """One model of the chip, fitted to the frame with most stars, carried to all frames.

    own : each frame's base. Good to a few tenths of an arcsecond: where the joint solution starts.
    """
    chip = placed[0].frame.info.ramp.chip
    if catalog is None:
        return list(own)

    def fitted(k: int) -> tuple[WCS, int, float]:
        return alone.refine_alone(placed[k].sources, catalog, own[k], chip, config.astrometry)

    # A trailed or cloudy frame may have many false stars: the best of some is the one that fits.
    tried = sorted(range(len(placed)), key=lambda k: -n_stars(placed[k]))[:MODEL_FRAMES]
    fits = dict(zip(tried, each(fitted, tried), strict=True))
    best = max(fits, key=lambda k: fits[k][1])

    # No WCS is asked by two threads at a time.
    starts = [placement.carried(fits[best][0], own[best], one) for one in own]

    def refine(track: Track, start: WCS) -> WCS:
        return alone.refine_shift(track.sources, catalog, start, chip, config.astrometry)

    return list(each(refine, placed, starts))


def refined(placed: Sequence[Track], solutions: Sequence[WCS]) -> list[Track]:
    """The tracks with placements turned and moved to where their first solutions put them.

    What is left for the joint solution to correct is then small for every frame, and linear: a
    placement's rotator is one of a few candidates, and near a pole a shift turns a field.
    """
    return [
        replace(track, placement=_refined(track, wcs))
        for track, wcs in zip(placed, solutions, strict=True)
    ]


def _refined(track: Track, wcs: WCS) -> Placement | None:
    x = y = np.float64(CHIP_CRPIX - 1)
    there = pixel_to_sky(wcs, x, y)
    for _ in range(4):
        here = placed_wcs(track)
        centre = crval(here)
        change = plane_matrix(wcs, centre) @ np.linalg.inv(plane_matrix(here, centre))
        # From east to north; position angles grow the other way.
        angle = np.degrees(np.arctan2(change[1, 0] - change[0, 1], change[0, 0] + change[1, 1]))
        off = np.subtract(to_plane(*there, centre), to_plane(*pixel_to_sky(here, x, y), centre))
        track = replace(
            track,
            placement=replace(
                track.placement,  # type: ignore[type-var]
                rotator_deg=track.placement.rotator_deg - angle,  # type: ignore[union-attr]
                east_arcsec=track.placement.east_arcsec + off[0],  # type: ignore[union-attr]
                north_arcsec=track.placement.north_arcsec + off[1],  # type: ignore[union-attr]
            ),
        )
    return track.placement
