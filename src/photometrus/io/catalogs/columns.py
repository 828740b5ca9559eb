"""The columns of catalogues: what each is called out there, and the ones that we make of them.

A new catalogue costs a name in one of these tables, and no code.
"""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from photometrus.errors import UsageError
from photometrus.io.catalogs.lookup import Alias, Column, Columns, listed
from photometrus.io.catalogs.quality import extended, family_of

ASSUMED_POS_ERR_ARCSEC = 0.1
"""For catalogues that do not tell; what most 2MASS sources have is 0.06 to 0.1."""
MAX_MAG_ERR = 8.0
"""Larger ones are flags: 2MASS writes 8.888 and 9.999 where no error could be estimated."""


RA = (
    Alias("RA_ICRS", "deg", 2016.0),  # what VizieR calls Gaia's own positions
    Alias("RAJ2000", "deg"),
    Alias("RAICRS", "deg"),
    Alias("ra2000", "deg"),
    Alias("ra", "deg"),
    Alias("ALPHA_J2000", "deg"),
    Alias("X_WORLD", "deg"),
    Alias("ra_deg", "deg"),
    Alias("_RAJ2000", "deg"),
)
DEC = (
    Alias("DE_ICRS", "deg"),
    Alias("DEJ2000", "deg"),
    Alias("DEICRS", "deg"),
    Alias("dec2000", "deg"),
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


@dataclass(frozen=True)
class MagColumn:
    """A magnitude as catalogues call it and its error, with the band and its wavelength."""

    band: str
    wavelength_nm: float
    names: tuple[tuple[str, str], ...]


def _names(*pattern: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Per near-infrared band the names that follow from patterns like ``Jmag e_Jmag``."""
    return {
        band: tuple(
            (mag, error)
            for one in pattern
            for mag, error in [one.replace("J", band).replace("j", band.lower()).split()]
        )
        for band in ("Z", "Y", "J", "H", "K", "Ks")
    }


_NIR = _names(
    *("Jap3 e_Jap3", "Jmag3 e_Jmag3", "japermag3 japermag3err"),  # VISTA: 2" apertures, corrected
    *("Jmag1 e_Jmag1", "j_1apermag3 j_1apermag3err"),  # UKIDSS, where J was observed twice
    *("Jmag e_Jmag", "j_m j_msigcom", "j_m j_cmsig", "J e_J"),
)
MAGNITUDES = (
    MagColumn("I", 752.0, (("iPSF", "e_iPSF"), ("ipmag", "e_ipmag"), ("imag", "e_imag"))),
    MagColumn("RP", 797.0, (("RPmag", "e_RPmag"), ("phot_rp_mean_mag", "phot_rp_mean_mag_error"))),
    MagColumn("Z", 890.0, (("zPSF", "e_zPSF"), ("zpmag", "e_zpmag"), *_NIR["Z"][:-1])),
    MagColumn("Y", 1022.5, _NIR["Y"][:-1]),
    MagColumn("J", 1250.0, _NIR["J"]),
    MagColumn("H", 1635.0, _NIR["H"]),
    MagColumn("K", 2160.0, (*_NIR["Ks"][:-1], *_NIR["K"])),
    MagColumn("G", 673.0, (("Gmag", "e_Gmag"), ("phot_g_mean_mag", "phot_g_mean_mag_error"))),
    MagColumn("", 0.0, (("mag", "mag_err"), ("MAG", "MAGERR"))),  # a band that nobody named
)
"""Names of more information first. Nobody calls columns Z, Y: these are coordinates."""
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
    "color": "mag",
    "color_err": "mag",
}


def standard_columns(rows: Table, band: str, name: str, *, epoch_yr: float | None = None) -> Table:
    """The columns of `reference`, from a catalogue's own.

    rows : the catalogue, not changed
    name : what to call it in messages and in `meta`
    epoch_yr : epoch of the positions when no column tells; None: that of the column's name

    UsageError, with the columns found and wanted, when there is no position or no magnitude.
    """
    stars = positions(rows, name, epoch_yr=epoch_yr)
    mag_band, stars["mag"], stars["mag_err"] = _nearest_magnitude(Columns(rows), band, name)
    stars["extended"] = extended(rows, family_of(rows))
    with_units(stars)
    stars.meta["mag_band"] = mag_band or band
    return stars[placed(stars) & np.isfinite(stars["mag"])]


def positions(rows: Table, name: str, *, epoch_yr: float | None = None) -> Table:
    """Where the stars are, when, how sure, and how they move: a row for each of `rows`.

    Raises UsageError, with the columns found and wanted, when there is no position.
    """
    found = Columns(rows)
    position = _position(found, name)
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
    stars.meta.update(
        source=name,
        proper_motions=motion is not None,
        pos_err_assumed=bool(n) and not known.all(),
    )
    return stars


def place(rows: Table) -> tuple[Column, Column]:
    """RA and Dec of a catalogue's rows, degrees; UsageError when it has none."""
    found = Columns(rows)
    ra, dec = _position(found, "catalogue")
    return found.values(ra, "deg") % 360.0, found.values(dec, "deg")


def _position(found: Columns, name: str) -> tuple[Alias, Alias]:
    for pair in zip(RA, DEC, strict=True):
        if found.has(*pair):
            return pair
    raise UsageError(
        f"{name}: no columns for a position; wanted RAJ2000 DEJ2000 (or RA_ICRS DE_ICRS, ra"
        f" dec, ALPHA_J2000 DELTA_J2000), found {listed(found.rows.colnames)}"
    )


def placed(stars: Table) -> Column:
    """Whether a star has a position; bool (n,)."""
    return np.isfinite(stars["ra_deg"]) & np.isfinite(stars["dec_deg"])


def with_units(stars: Table) -> None:
    """Write the units of our columns into a table of ours."""
    for column in stars.colnames:
        stars[column].unit = UNITS.get(column)


def separation_deg(ra: Column, dec: Column, ra0: float, dec0: float) -> Column:
    """Great-circle distance of positions from one position, all in degrees."""
    ra, dec = np.radians(ra), np.radians(dec)
    ra0, dec0 = np.radians(ra0), np.radians(dec0)
    # Haversine: exact for small angles, and it knows neither poles nor RA = 0.
    h = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.degrees(2.0 * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0))))


def magnitude(found: Columns, band: str) -> tuple[Column, Column] | None:
    """Magnitudes in that very band and their errors (NaN where unknown); None when not there."""
    names = next(row.names for row in MAGNITUDES if row.band == band)
    there = [pair for pair in names if found.find(pair[0])]
    if not there:
        return None
    # A pair with its error goes before the same magnitude without; sort() keeps the order else.
    mag, error = min(there, key=lambda pair: found.find(pair[1]) is None)
    values = found.values(Alias(mag))
    values = np.where((values > -5.0) & (values < 40.0), values, np.nan)  # -99.99, 99 mean none
    errors = np.full(len(values), np.nan)
    if found.find(error):
        errors = found.values(Alias(error))
        errors = np.where((errors > 0) & (errors < MAX_MAG_ERR), errors, np.nan)
    return values, errors


def _nearest_magnitude(found: Columns, band: str, name: str) -> tuple[str, Column, Column]:
    """The band that is nearest to `band`, its magnitudes and their errors."""
    nearest = sorted(MAGNITUDES, key=lambda row: abs(row.wavelength_nm - WAVELENGTH_NM[band]))
    for row in nearest:
        pair = magnitude(found, row.band)
        if pair is not None:
            return row.band, *pair
    raise UsageError(
        f"{name}: no column for a magnitude; wanted {band}mag or its like,"
        f" found {listed(found.rows.colnames)}"
    )


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
