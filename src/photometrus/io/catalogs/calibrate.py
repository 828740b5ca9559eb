"""Calibrators: a catalogue's rows as magnitudes in PRIME's band, with all that is known of them."""

from collections.abc import Iterator

import numpy as np
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

Mag = tuple[Column, Column]
"""Magnitudes and their errors, NaN where unknown."""


def photometric_columns(rows: Table, band: str, survey: Survey | None, name: str) -> Table:
    """The columns of `calibrators`, from a catalogue's own; see there for columns and `meta`.

    rows : the catalogue, not changed; `survey` : whose it is, None for a file of no known survey

    Raises UsageError when it has neither the band nor what a published transform needs.
    """
    family = survey.family if survey else family_of(rows)
    known = FAMILIES[family]
    found = Columns(rows)
    stars = positions(rows, name, epoch_yr=survey.epoch_yr if survey else None)
    notes: list[str] = []
    system = _system(rows, known, notes)
    stars["mag"], stars["mag_err"], transform = _band(found, band, system, name)
    reach = survey.reach.get(transform.base if transform else band) if survey else None
    label, stars["color"], stars["color_err"] = _color(found, band, known)
    stars["extended"] = extended(rows, family)
    bands = transform.color if transform else (band,)
    good = np.isfinite(stars["mag"]) & np.isfinite(stars["mag_err"])
    for one in bands:
        good &= trusted(rows, one, family)
    if reach is not None:
        brightness = stars["mag"] if transform is None else _known(found, transform.base)[0]
        good &= np.asarray(brightness > reach.bright)
    stars["good"] = good
    with_units(stars)
    for column in ("color", "color_err"):
        stars[column].unit = "mag"
    into = transform.into if transform else system
    stars.meta.update(
        survey=survey.name if survey else "local",
        mag_system="AB" if into == "AB" else "Vega",
        photometric_system=into,
        to_ab=systems.offset(into, band, "AB"),
        to_vega=systems.offset(into, band, "Vega"),
        transform="",
        transform_reference="",
        transform_err=0.0,
        color_name=label,
        depth=reach.depth if reach else float("nan"),
        bright=reach.bright if reach else float("nan"),
        epoch=float(np.median(stars["epoch_yr"])) if len(stars) else float("nan"),
        notes=notes,
    )
    _tell_of_filter(stars.meta, found, band, known, transform)
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


def _band(
    found: Columns, band: str, system: str, name: str
) -> tuple[Column, Column, systems.Transform | None]:
    """Magnitudes in the band: there, or by a transform, or in a column that names no band."""
    there = magnitude(found, band)
    if there is not None:
        return *there, None
    transform = systems.transform_for(system, band)
    if transform is not None:
        needed = {transform.base, *transform.color}
        got = {one: pair for one in needed if (pair := magnitude(found, one)) is not None}
        if len(got) == len(needed):
            mags = {one: pair[0] for one, pair in got.items()}
            errors = {one: pair[1] for one, pair in got.items()}
            mag, error, _ = systems.transformed(transform, mags, errors)
            return mag, error, transform
    unnamed = magnitude(found, "")
    if unnamed is not None:
        return *unnamed, None
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


def _tell_of_filter(
    meta: dict[str, object],
    found: Columns,
    band: str,
    known: Family,
    transform: systems.Transform | None,
) -> None:
    """Write what was done about a band that the survey lacks, and what it may be wrong by."""
    if transform is not None:
        pairs = {one: _known(found, one) for one in {transform.base, *transform.color}}
        mags = {one: pair[0] for one, pair in pairs.items()}
        errors = {one: pair[1] for one, pair in pairs.items()}
        meta["transform"] = str(transform)
        meta["transform_reference"] = transform.reference
        meta["transform_err"] = systems.transformed(transform, mags, errors)[2]
    elif band in known.wavelengths_nm:
        letter, own = known.labels.get(band, band), known.wavelengths_nm[band]
        meta["transform"] = (
            f"{letter} at {own:g} nm taken as {band} at {WAVELENGTH_NM[band]:g} nm; the colour"
            " term is left to the zero point"
        )
        meta["transform_err"] = _neglected(found, band, known)


def _neglected(found: Columns, band: str, known: Family) -> float:
    """The colour term that is left out: a spectrum linear in wavelength between two filters."""
    own = known.wavelengths_nm
    for pair, color, _ in _colors(found, band):
        values = color[np.isfinite(color)]
        if values.size and set(pair) <= own.keys():
            slope = float(np.median(values)) / (own[pair[1]] - own[pair[0]])
            return abs(slope * (WAVELENGTH_NM[band] - own[band]))
    return float("nan")
