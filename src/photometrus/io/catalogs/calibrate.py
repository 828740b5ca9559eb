"""Calibrators: a catalogue's rows as magnitudes in PRIME's band, with all that is known of them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table

from photometrus import systems
from photometrus.errors import UsageError
from photometrus.io.catalogs.columns import (
    WAVELENGTH_NM,
    Column,
    magnitude,
    placed,
    positions,
    with_units,
)
from photometrus.io.catalogs.lookup import Columns, listed
from photometrus.io.catalogs.quality import FAMILIES, Family, extended, family_of, trusted
from photometrus.io.catalogs.surveys import Survey

COLORS = {
    # the adjacent colour first
    "Z": (("Z", "Y"), ("Z", "J"), ("I", "Z"), ("J", "H"), ("J", "K")),
    "Y": (("Y", "J"), ("Z", "Y"), ("J", "H"), ("J", "K")),
    "J": (("J", "H"), ("J", "K"), ("Y", "J"), ("Z", "J")),
    "H": (("J", "H"), ("H", "K")),
}

LOW_REDDENING_DEG = 5.0
"""Galactic latitude beyond which transforms through colours are used without a note."""

Mag = tuple[Column, Column]
"""Magnitudes and their errors, NaN where unknown."""


@dataclass(frozen=True)
class _InBand:
    """Magnitudes in the band that was asked for, and how they were had.

    system : photometric system; brightness : in the filter that may have been saturated; bands :
    whose flags count; words, reference, common_err : of a transform ("" and 0 when there is none)
    """

    mag: Column
    err: Column
    system: str
    brightness: Column
    bands: tuple[str, ...]
    words: str = ""
    reference: str = ""
    common_err: float = 0.0


def photometric_columns(rows: Table, band: str, survey: Survey | None, name: str) -> Table:
    """The columns of `calibrators`, from a catalogue's own; see there for columns and `meta`.

    rows : the catalogue, not changed; `survey` : whose it is, None for a file of no known survey

    Raises UsageError when it has neither the band nor what a published transform needs.
    """
    family = survey.family if survey else family_of(rows)
    found, notes = Columns(rows), list[str]()
    stars = positions(rows, name, epoch_yr=survey.epoch_yr if survey else None)
    system = _system(rows, FAMILIES[family], notes)
    got = _in_band(found, band, system, FAMILIES[family], name)
    reach = survey.reach.get(got.bands[0]) if survey else None
    stars["mag"], stars["mag_err"] = got.mag, got.err
    color_name, stars["color"], stars["color_err"] = _color(found, band, FAMILIES[family])
    stars["extended"] = extended(rows, family)
    good = np.isfinite(got.mag) & np.isfinite(got.err)
    if len(good) and not good.any():
        notes.append("no magnitude has an error, so that none is trusted")
    for one in got.bands:
        good &= trusted(rows, one, family)
    if reach is not None:
        good &= got.brightness > reach.bright
    stars["good"] = good
    with_units(stars)
    if got.reference and len(stars):
        _warn_of_reddening(stars, notes)
    stars.meta.update(
        survey=survey.name if survey else "local",
        mag_system="AB" if got.system == "AB" else "Vega",
        photometric_system=got.system,
        to_ab=systems.offset(got.system, band, "AB"),
        to_vega=systems.offset(got.system, band, "Vega"),
        transform=got.words,
        transform_reference=got.reference,
        transform_err=got.common_err,
        color_name=color_name,
        depth=reach.depth if reach else float("nan"),
        bright=reach.bright if reach else float("nan"),
        epoch=float(np.median(stars["epoch_yr"])) if len(stars) else float("nan"),
        notes=notes,
    )
    return stars[placed(stars) & np.isfinite(stars["mag"])]


def _system(rows: Table, known: Family, notes: list[str]) -> str:
    """The photometric system: what the file says, else its family's, else a guess with a note."""
    said = str(rows.meta.get("MAGSYS", rows.meta.get("magsys", ""))).strip()
    names = {one.lower(): one for one in ("AB", *systems.SYSTEMS)}
    if said.lower() in names:
        return names[said.lower()]
    if known.system and not (said.lower() == "vega" and known.system == "AB"):
        return known.system
    if said.lower() not in ("", "vega"):
        raise UsageError(f"MAGSYS {said!r}: known are Vega, {', '.join(names.values())}")
    said_so = "says Vega" if said else "does not tell its magnitude system: taken as Vega"
    notes.append(f"the catalogue {said_so}; AB by the offsets of {systems.DEFAULT}")
    return systems.DEFAULT


def _in_band(found: Columns, band: str, system: str, family: Family, name: str) -> _InBand:
    """Magnitudes in the band: there, or by a transform, or in a column that names no band."""
    there = magnitude(found, band)
    if there is not None:
        words, error = _other_filter(found, band, family)
        return _InBand(*there, system, there[0], (band,), words, "", error)
    transform = systems.transform_for(system, band)
    if transform is not None:
        bands = tuple(dict.fromkeys((transform.base, *transform.color)))
        if all(magnitude(found, one) is not None for one in bands):
            known = {one: _known(found, one) for one in bands}
            mag, err, common = systems.transformed(
                transform,
                {one: pair[0] for one, pair in known.items()},
                {one: pair[1] for one, pair in known.items()},
            )
            brightness, words = known[transform.base][0], str(transform)
            return _InBand(
                mag, err, transform.into, brightness, bands, words, transform.reference, common
            )
    unnamed = magnitude(found, "")
    if unnamed is not None:
        return _InBand(*unnamed, system, unnamed[0], (band,))
    raise UsageError(
        f"{name}: no {band} magnitudes, and no published transform from what it has"
        f" ({listed(found.rows.colnames)}); take another -survey or -catalog"
    )


def _known(found: Columns, band: str) -> Mag:
    pair = magnitude(found, band)
    if pair is None:
        nothing = np.full(len(found.rows), np.nan)
        return nothing, nothing
    return pair


def _colors(found: Columns, band: str) -> Iterator[tuple[tuple[str, str], Column, Column]]:
    for pair in COLORS[band]:
        (blue, blue_err), (red, red_err) = _known(found, pair[0]), _known(found, pair[1])
        yield pair, blue - red, np.hypot(blue_err, red_err)


def _color(found: Columns, band: str, known: Family) -> tuple[str, Column, Column]:
    """The first of the colours that most stars have of all that any colour has; its name."""
    colors = list(_colors(found, band))
    counts = [int(np.isfinite(color).sum()) for _, color, _ in colors]
    most = max(counts)
    nothing = np.full(len(found.rows), np.nan)
    if most == 0:
        return "", nothing, nothing
    i = next(i for i, count in enumerate(counts) if count >= 0.8 * most)
    (blue, red), color, error = colors[i]
    return f"{known.labels.get(blue, blue)}-{known.labels.get(red, red)}", color, error


def _other_filter(found: Columns, band: str, family: Family) -> tuple[str, float]:
    """Words for another telescope's filter of that letter, and what it may be wrong by."""
    if band not in family.wavelengths_nm:
        return "", 0.0
    letter, own = family.labels.get(band, band), family.wavelengths_nm[band]
    words = (
        f"{letter} at {own:g} nm taken as {band} at {WAVELENGTH_NM[band]:g} nm; the colour term is"
        " left to the zero point"
    )
    return words, _neglected(found, band, family)


def _warn_of_reddening(stars: Table, notes: list[str]) -> None:
    """Note that a transform for low reddening is used in the Galactic plane."""
    middle = (np.median(stars["ra_deg"]), np.median(stars["dec_deg"]))
    latitude = float(SkyCoord(*middle, unit="deg").galactic.b.deg)
    if abs(latitude) < LOW_REDDENING_DEG:
        notes.append(
            f"the transform holds for low reddening, and the field is at Galactic latitude"
            f" {latitude:+.1f} deg"
        )


def _neglected(found: Columns, band: str, family: Family) -> float:
    """The colour term that is left out: a spectrum linear in wavelength between two filters."""
    own = family.wavelengths_nm
    for pair, color, _ in _colors(found, band):
        values = color[np.isfinite(color)]
        if values.size and set(pair) <= own.keys():
            slope = float(np.median(values)) / (own[pair[1]] - own[pair[0]])
            return abs(slope * (WAVELENGTH_NM[band] - own[band]))
    return float("nan")
