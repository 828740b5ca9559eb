"""Reference stars: brought to an epoch, made from a frame, matched with a frame's stars."""

from typing import Any

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from photometrus.wcs import (
    crval,
    pixel_scale_arcsec,
    pixel_to_sky,
    sky_to_pixel,
    to_plane,
    unit_vectors,
)


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
    centre = crval(wcs)
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


PAD_PIX = 40.0
"""So far beyond the stars of a frame a catalogue's stars may lie."""


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
    box = (x.min() - PAD_PIX, x.max() + PAD_PIX, y.min() - PAD_PIX, y.max() + PAD_PIX)
    ra, dec = np.asarray(reference["ra_deg"]), np.asarray(reference["dec_deg"])
    near = _near(ra, dec, wcs, box)
    rx, ry = sky_to_pixel(wcs, ra[near], dec[near])
    within = (rx > box[0]) & (rx < box[1]) & (ry > box[2]) & (ry < box[3])
    inside, rx, ry = near[within], rx[within], ry[within]
    if n_bright is not None and inside.size > 1.5 * n_bright:
        order = np.argsort(np.asarray(reference["mag"])[inside])[: int(1.5 * n_bright)]
        inside, rx, ry = inside[order], rx[order], ry[order]
    if inside.size == 0:
        return empty, empty
    points = np.stack([rx, ry], axis=1)
    stars = np.stack([x, y], axis=1)
    radius = radius_arcsec / pixel_scale_arcsec(wcs)
    distance, nearest = cKDTree(points).query(stars, distance_upper_bound=radius)
    found = np.flatnonzero(np.isfinite(distance))
    _, back = cKDTree(stars).query(points[nearest[found]])
    mutual = back == found
    return found[mutual], inside[nearest[found[mutual]]]


def _near(
    ra: NDArray[Any], dec: NDArray[Any], wcs: WCS, box: tuple[float, float, float, float]
) -> NDArray[Any]:
    """Indices of positions (degrees) that may lie in a box of pixels: all that do, some more.

    A catalogue covers all chips; most of it need not go through a distortion.
    """
    x, y = np.meshgrid(np.linspace(*box[:2], 3), np.linspace(*box[2:], 3))
    edge_ra, edge_dec = pixel_to_sky(wcs, x.ravel(), y.ravel())
    directions = unit_vectors(edge_ra, edge_dec)
    cosine = float((directions @ directions[4]).min())
    if not 0.5 < cosine <= 1:
        return np.arange(ra.size)
    # A tenth more: between the points of its edge a box may bulge.
    reach = 1.1 * float(np.degrees(np.arccos(cosine)))
    near = np.abs(dec - edge_dec[4]) <= reach
    top = abs(edge_dec[4]) + reach
    if top < 89:
        away = np.abs((ra - edge_ra[4] + 180) % 360 - 180)
        near &= away <= reach / np.cos(np.radians(top))
    return np.flatnonzero(near)


def position_errors(reference: Table, floor_arcsec: float) -> NDArray[Any]:
    """The catalogue's errors per axis, arcsec, with a floor added; 0.1 where it gives none."""
    error = np.nan_to_num(np.asarray(reference["pos_err_arcsec"], float), nan=0.1)
    return np.hypot(error, floor_arcsec)
