"""The columns of catalogues: what each is called out there, and the ones that we make of them.

A new catalogue costs a name in one of these tables, and no code.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray

from photometrus.errors import UsageError

Column = NDArray[Any]
"""One column of a table."""

ASSUMED_POS_ERR_ARCSEC = 0.1
"""For catalogues that do not tell; what most 2MASS sources have is 0.06 to 0.1."""
MAX_MAG_ERR = 8.0
"""Larger ones are flags: 2MASS writes 8.888 and 9.999 where no error could be estimated."""


@dataclass(frozen=True)
class Alias:
    """A column as catalogues call it: its unit where none is written, and its epoch, if any."""

    name: str
    unit: str = ""
    epoch_yr: float = 2000.0


RA = (
    Alias("RA_ICRS", "deg", 2016.0),  # what VizieR calls Gaia's own positions
    Alias("RAJ2000", "deg"),
    Alias("ra", "deg"),
    Alias("ALPHA_J2000", "deg"),
    Alias("X_WORLD", "deg"),
    Alias("ra_deg", "deg"),
    Alias("_RAJ2000", "deg"),
)
DEC = (
    Alias("DE_ICRS", "deg"),
    Alias("DEJ2000", "deg"),
    Alias("dec", "deg"),
    Alias("DELTA_J2000", "deg"),
    Alias("Y_WORLD", "deg"),
    Alias("dec_deg", "deg"),
    Alias("_DEJ2000", "deg"),
)
"""The n-th name of `DEC` belongs to the n-th of `RA`."""
POS_ERR = (
    (Alias("errMaj", "arcsec"), Alias("errMin", "arcsec")),
    (Alias("err_maj", "arcsec"), Alias("err_min", "arcsec")),
    (Alias("e_RA_ICRS", "mas"), Alias("e_DE_ICRS", "mas")),
    (Alias("e_RAJ2000", "arcsec"), Alias("e_DEJ2000", "arcsec")),
    (Alias("ra_error", "mas"), Alias("dec_error", "mas")),
    (Alias("ERRA_WORLD", "deg"), Alias("ERRB_WORLD", "deg")),
    (Alias("pos_err_arcsec", "arcsec"), Alias("pos_err_arcsec", "arcsec")),
)
PROPER_MOTION = (
    (Alias("pmRA", "mas/yr"), Alias("pmDE", "mas/yr")),
    (Alias("pmra", "mas/yr"), Alias("pmdec", "mas/yr")),
    (Alias("PMALPHA_J2000", "mas/yr"), Alias("PMDELTA_J2000", "mas/yr")),
    (Alias("pm_ra_mas_yr", "mas/yr"), Alias("pm_dec_mas_yr", "mas/yr")),
)
EPOCH = (Alias("EPOCH"), Alias("Epoch"), Alias("ref_epoch"), Alias("epoch_yr"), Alias("OBSDATE"))
EXTENDED: dict[str, tuple[int, ...]] = {
    # column: the values that mean a galaxy, or a star on top of one
    "XflgGAL": (1, 2),
    "Xflg": (1, 2),
    "gal_contam": (1, 2),
    "Mclass": (1, -3),
    "mergedClass": (1, -3),
    "extended": (1,),
}


@dataclass(frozen=True)
class MagColumn:
    """A magnitude as catalogues call it and its error, with the band and its wavelength."""

    band: str
    wavelength_nm: float
    names: tuple[tuple[str, str], ...]


MAGNITUDES = (
    MagColumn("Z", 890.0, (("Zmag", "e_Zmag"),)),
    MagColumn("Y", 1022.5, (("Ymag", "e_Ymag"),)),
    MagColumn(
        "J", 1250.0, (("Jmag", "e_Jmag"), ("j_m", "j_msigcom"), ("j_m", "j_cmsig"), ("J", "e_J"))
    ),
    MagColumn(
        "H", 1635.0, (("Hmag", "e_Hmag"), ("h_m", "h_msigcom"), ("h_m", "h_cmsig"), ("H", "e_H"))
    ),
    MagColumn(
        "K",
        2160.0,
        (("Kmag", "e_Kmag"), ("Ksmag", "e_Ksmag"), ("k_m", "k_msigcom"), ("k_m", "k_cmsig")),
    ),
    MagColumn("RP", 797.0, (("RPmag", "e_RPmag"), ("phot_rp_mean_mag", "phot_rp_mean_mag_error"))),
    MagColumn("G", 673.0, (("Gmag", "e_Gmag"), ("phot_g_mean_mag", "phot_g_mean_mag_error"))),
    MagColumn("", 0.0, (("mag", "mag_err"), ("MAG", "MAGERR"))),  # a band that nobody named
)
WAVELENGTH_NM = {row.band: row.wavelength_nm for row in MAGNITUDES}

UNITS = {
    "ra_deg": "deg",
    "dec_deg": "deg",
    "pos_err_arcsec": "arcsec",
    "pm_ra_mas_yr": "mas/yr",
    "pm_dec_mas_yr": "mas/yr",
    "epoch_yr": "yr",
    "mag": "mag",
    "mag_err": "mag",
}


def standard_columns(rows: Table, band: str, name: str, *, epoch_yr: float | None = None) -> Table:
    """The columns of `reference`, from a catalogue's own.

    rows : the catalogue, not changed
    name : what to call it in messages and in `meta`
    epoch_yr : epoch of the positions when no column tells; None: that of the column's name

    UsageError, with the columns found and wanted, when there is no position or no magnitude.
    """
    found = Columns(rows)
    position = next(((a, d) for a, d in zip(RA, DEC, strict=True) if found.has(a, d)), None)
    if position is None:
        raise UsageError(
            f"{name}: no columns for a position; wanted RAJ2000 DEJ2000 (or RA_ICRS DE_ICRS, ra"
            f" dec, ALPHA_J2000 DELTA_J2000), found {listed(rows.colnames)}"
        )
    mag_band, mag, mag_err = _magnitude(found, band, name)
    n = len(rows)
    stars = Table({"ra_deg": found.values(position[0], "deg") % 360.0})
    stars["dec_deg"] = found.values(position[1], "deg")
    axes = found.pair(POS_ERR, "arcsec")
    pos_err = np.full(n, np.nan) if axes is None else np.hypot(*axes) / np.sqrt(2.0)
    known = np.isfinite(pos_err) & (pos_err > 0)
    stars["pos_err_arcsec"] = np.where(known, pos_err, ASSUMED_POS_ERR_ARCSEC)
    motion = found.pair(PROPER_MOTION, "mas/yr")
    stars["pm_ra_mas_yr"] = np.zeros(n) if motion is None else np.nan_to_num(motion[0])
    stars["pm_dec_mas_yr"] = np.zeros(n) if motion is None else np.nan_to_num(motion[1])
    default = position[0].epoch_yr if epoch_yr is None else epoch_yr
    stars["epoch_yr"] = _epochs(found, n, default)
    stars["mag"], stars["mag_err"] = mag, mag_err
    stars["extended"] = _extended(found, n)
    for column in stars.colnames:
        stars[column].unit = UNITS.get(column)
    good = np.isfinite(stars["ra_deg"]) & np.isfinite(stars["dec_deg"]) & np.isfinite(mag)
    stars.meta.update(
        source=name,
        mag_band=mag_band or band,
        proper_motions=motion is not None,
        pos_err_assumed=bool(n) and not known.all(),
    )
    return stars[good]


def separation_deg(ra: Column, dec: Column, ra0: float, dec0: float) -> Column:
    """Great-circle distance of positions from one position, all in degrees."""
    ra, dec = np.radians(ra), np.radians(dec)
    ra0, dec0 = np.radians(ra0), np.radians(dec0)
    # Haversine: exact for small angles, and it knows neither poles nor RA = 0.
    h = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.degrees(2.0 * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0))))


class Columns:
    """A catalogue's columns by any of their names: as written first, then whatever their case."""

    def __init__(self, rows: Table) -> None:
        self.rows = rows
        self.lower = {name.lower(): name for name in reversed(rows.colnames)}

    def find(self, name: str) -> str | None:
        """The column of that name as it is written here, None when there is none."""
        return name if name in self.rows.colnames else self.lower.get(name.lower())

    def has(self, *aliases: Alias) -> bool:
        """Whether all of these are there."""
        return all(self.find(alias.name) for alias in aliases)

    def values(self, alias: Alias, unit: str = "") -> Column:
        """The column as float64 in `unit`, NaN where masked; UsageError when it is text."""
        column = self.rows[self.find(alias.name)]
        values = np.ma.asarray(getattr(column, "data", column))
        if values.dtype.kind not in "fiub":
            raise UsageError(
                f"column {column.name}: holds {values.dtype}, expected numbers"
                f"{' in ' + unit if unit else ''}"
            )
        filled = np.ma.filled(values.astype(np.float64), np.nan)
        if not unit:
            return filled
        written = column.unit
        if written is None or isinstance(written, u.UnrecognizedUnit):
            written = u.Unit(alias.unit)
        if not written.is_equivalent(unit):
            raise UsageError(f"column {column.name}: its unit is {written}, expected {unit}")
        return filled * written.to(unit)

    def pair(
        self, choices: Iterable[tuple[Alias, Alias]], unit: str
    ) -> tuple[Column, Column] | None:
        """The first of the pairs of columns that is there."""
        for first, second in choices:
            if self.has(first, second):
                return self.values(first, unit), self.values(second, unit)
        return None


def _magnitude(found: Columns, band: str, name: str) -> tuple[str, Column, Column]:
    """The band that is nearest to `band`, its magnitudes and their errors."""
    there = [
        (abs(row.wavelength_nm - WAVELENGTH_NM[band]), row.band, mag, error)
        for row in MAGNITUDES
        for mag, error in row.names
        if found.find(mag)
    ]
    if not there:
        raise UsageError(
            f"{name}: no column for a magnitude; wanted {band}mag or its like,"
            f" found {listed(found.rows.colnames)}"
        )
    # min() keeps the first of equals, so the order of the names in MAGNITUDES decides; a pair
    # with its error goes before the same magnitude without.
    _, mag_band, mag, error = min(there, key=lambda t: (t[0], found.find(t[3]) is None))
    values = found.values(Alias(mag))
    values = np.where((values > -5.0) & (values < 40.0), values, np.nan)  # -99.99, 99 mean none
    errors = np.full(len(values), np.nan)
    if found.find(error):
        errors = found.values(Alias(error))
        errors = np.where((errors > 0) & (errors < MAX_MAG_ERR), errors, np.nan)
    return mag_band, values, errors


def _epochs(found: Columns, n: int, default: float) -> Column:
    """Julian years, from a column in years, MJD or JD, or the default."""
    for alias in EPOCH:
        if found.has(alias):
            epoch = found.values(alias)
            # A year is four digits, a MJD five, a JD seven: no two can be confused.
            days = np.where(epoch > 1e6, epoch - 2451545.0, epoch - 51544.5)
            epoch = np.where(epoch > 1e4, 2000.0 + days / 365.25, epoch)
            return np.where(np.isfinite(epoch), epoch, default)
    return np.full(n, default)


def _extended(found: Columns, n: int) -> Column:
    for name, meaning in EXTENDED.items():
        if found.find(name):
            return np.isin(np.nan_to_num(found.values(Alias(name))), meaning)
    return np.zeros(n, dtype=bool)


def listed(names: Sequence[str], most: int = 12) -> str:
    """Names for a message, the first `most` of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return " ".join(names[:most]) + more
