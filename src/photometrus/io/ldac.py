"""Source lists as FITS_LDAC (``.cat``), which SExtractor writes and SCAMP reads.

A table with one frame's header as text, followed by a table of its sources. Pixels are 1-based in
the files and 0-based in our tables; that change happens here.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from photometrus.errors import MissingInput, UsageError
from photometrus.io.damage import readable, reading
from photometrus.io.fz import open_fits
from photometrus.io.headfile import CARD, starts, with_cd
from photometrus.io.whole import whole

Column = NDArray[Any]
"""One column of a table, float64 unless said otherwise."""

MAG_PER_RELATIVE_FLUX = 2.5 / np.log(10.0)
UNMEASURED_MAG = 99.0
"""SExtractor's magnitude of a flux that is not positive, and of its error."""
FALLBACK_ERROR_PIX = 0.1
"""Position error of a source that comes with neither an error, nor a FWHM and S/N."""
FITS_BLOCK = 2880


@dataclass(frozen=True)
class Field:
    """A column of the source table in the file: what SExtractor calls it and how it is stored."""

    name: str
    format: str
    unit: str
    display: str
    words: str


FIELDS = (
    Field("NUMBER", "1J", "", "I10", "Running object number"),
    Field("X_IMAGE", "1D", "pixel", "F11.4", "Object position along x"),
    Field("Y_IMAGE", "1D", "pixel", "F11.4", "Object position along y"),
    Field("XWIN_IMAGE", "1D", "pixel", "F11.4", "Windowed position estimate along x"),
    Field("YWIN_IMAGE", "1D", "pixel", "F11.4", "Windowed position estimate along y"),
    Field("ERRAWIN_IMAGE", "1E", "pixel", "F9.5", "RMS windowed pos error along major axis"),
    Field("ERRBWIN_IMAGE", "1E", "pixel", "F9.5", "RMS windowed pos error along minor axis"),
    Field("ERRTHETAWIN_IMAGE", "1E", "deg", "F6.2", "Windowed error ellipse pos angle (CCW/x)"),
    Field("FLUX_AUTO", "1E", "count", "G12.7", "Total flux"),
    Field("FLUXERR_AUTO", "1E", "count", "G12.7", "RMS error of the total flux"),
    Field("MAG_AUTO", "1E", "mag", "F8.4", "Magnitude, zero point 0"),
    Field("MAGERR_AUTO", "1E", "mag", "F8.4", "RMS error of the magnitude"),
    Field("FLUX_RADIUS", "1E", "pixel", "F10.3", "Half-light radius"),
    Field("FWHM_IMAGE", "1E", "pixel", "F8.2", "FWHM assuming a gaussian core"),
    Field("ELONGATION", "1E", "", "F8.3", "A_IMAGE/B_IMAGE"),
    Field("ELLIPTICITY", "1E", "", "F8.3", "1 - B_IMAGE/A_IMAGE"),
    Field("FLAGS", "1I", "", "I3", "Extraction flags"),
    Field("SNR_WIN", "1E", "", "G10.4", "Signal to noise"),
    Field("ALPHA_J2000", "1D", "deg", "F11.7", "Right ascension (J2000)"),
    Field("DELTA_J2000", "1D", "deg", "F11.7", "Declination (J2000)"),
)

REFERENCE_FIELDS = (
    Field("X_WORLD", "1D", "deg", "F11.7", "Right ascension (ICRS)"),
    Field("Y_WORLD", "1D", "deg", "F11.7", "Declination (ICRS)"),
    Field("ERRA_WORLD", "1E", "deg", "G12.7", "RMS position error along major axis"),
    Field("ERRB_WORLD", "1E", "deg", "G12.7", "RMS position error along minor axis"),
    Field("ERRTHETA_WORLD", "1E", "deg", "F6.2", "Error ellipse position angle"),
    Field("PMALPHA_J2000", "1E", "mas/yr", "F8.3", "Proper motion in RA, times cos(Dec)"),
    Field("PMDELTA_J2000", "1E", "mas/yr", "F8.3", "Proper motion in Dec"),
    Field("PMALPHAERR_J2000", "1E", "mas/yr", "F8.3", "RMS error of PMALPHA_J2000"),
    Field("PMDELTAERR_J2000", "1E", "mas/yr", "F8.3", "RMS error of PMDELTA_J2000"),
    Field("MAG", "1E", "mag", "F8.4", "Magnitude"),
    Field("MAGERR", "1E", "mag", "F8.4", "RMS error of the magnitude"),
    Field("OBSDATE", "1D", "yr", "F13.8", "Epoch of the position, Julian years"),
)

READ = {
    # ours: (theirs in order of preference, what is added to it)
    "x": (("XWIN_IMAGE", "X_IMAGE"), -1.0),
    "y": (("YWIN_IMAGE", "Y_IMAGE"), -1.0),
    "flux": (("FLUX_AUTO",), 0.0),
    "flux_err": (("FLUXERR_AUTO",), 0.0),
    "mag": (("MAG_AUTO",), 0.0),
    "mag_err": (("MAGERR_AUTO",), 0.0),
    "fwhm_pix": (("FWHM_IMAGE",), 0.0),
    "half_light_radius_pix": (("FLUX_RADIUS",), 0.0),
    "elongation": (("ELONGATION",), 0.0),
    "ellipticity": (("ELLIPTICITY",), 0.0),
    "flags": (("FLAGS",), 0.0),
    "snr": (("SNR_WIN",), 0.0),
    "ra_deg": (("ALPHA_J2000", "ALPHAWIN_J2000", "X_WORLD"), 0.0),
    "dec_deg": (("DELTA_J2000", "DELTAWIN_J2000", "Y_WORLD"), 0.0),
}
"""Our columns and where they stand in a FITS_LDAC file."""

SIP_CARD = re.compile(r"(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)$")


def write_ldac(path: Path, header: fits.Header, sources: Table) -> None:
    """Write the sources of one frame as FITS_LDAC that SCAMP reads.

    header : the frame's header with its WCS (TAN or TPV) and NAXIS1, NAXIS2; not changed. SIP
        terms, which SCAMP does not know, are left out: it starts from the linear part.
    sources : `x`, `y` (pixels, 0-based) and `flux` are needed. Taken where present: `x_err`,
        `y_err`, `flux_err`, `fwhm_pix`, `half_light_radius_pix`, `elongation` or `ellipticity`,
        `flags`, `snr`, `ra_deg`, `dec_deg`; otherwise derived from the others or from the WCS.

    Written whole or not at all. UsageError when a needed column or card is missing.
    """
    if "NAXIS1" not in header or "NAXIS2" not in header:
        raise UsageError(f"{path.name}: the header has no NAXIS1, NAXIS2, which SCAMP needs")
    missing = [name for name in ("x", "y", "flux") if name not in sources.colnames]
    if missing:
        raise UsageError(
            f"{path.name}: no column {', '.join(missing)} among {', '.join(sources.colnames)}"
        )
    columns = sextractor_columns(sources, header)
    fields = [field for field in FIELDS if field.name in columns]
    _write_whole(path, [_header_table(_without_sip(header)), _source_table(fields, columns)])


def sextractor_columns(sources: Table, header: fits.Header) -> dict[str, Column]:
    """SExtractor's columns (1-based pixels) of a table of ours; what lacks is derived."""

    def column(name: str) -> Column | None:
        if name not in sources.colnames:
            return None
        return np.ma.filled(np.ma.asarray(sources[name], dtype=np.float64), np.nan)

    def given(name: str, otherwise: Column) -> Column:
        values = column(name)
        return otherwise if values is None else np.where(np.isfinite(values), values, otherwise)

    n = len(sources)
    flux = given("flux", np.zeros(n))
    snr = column("snr")
    # Poisson noise is the least a flux can have when nobody tells its error.
    flux_err = given("flux_err", np.sqrt(np.abs(flux)) if snr is None else flux / snr)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(flux_err > 0, flux / flux_err, 0.0)
        snr = given("snr", ratio)
        mag = np.where(flux > 0, -2.5 * np.log10(flux), UNMEASURED_MAG)
        mag_err = np.where(flux > 0, MAG_PER_RELATIVE_FLUX * flux_err / flux, UNMEASURED_MAG)
        half_light = given("half_light_radius_pix", given("fwhm_pix", np.full(n, 3.0)) / 2.0)
        fwhm = given("fwhm_pix", 2.0 * half_light)
        # A centroid's error is the width of the image over its S/N (2.355: FWHM to sigma).
        error = np.where(snr > 0, fwhm / 2.355 / snr, FALLBACK_ERROR_PIX)
        elongation = given("elongation", 1.0 / (1.0 - given("ellipticity", np.zeros(n))))
    x_err, y_err = given("x_err", error), given("y_err", error)
    columns = {
        "NUMBER": np.arange(1, n + 1),
        "X_IMAGE": given("x", np.zeros(n)) + 1.0,
        "Y_IMAGE": given("y", np.zeros(n)) + 1.0,
        "ERRAWIN_IMAGE": np.maximum(x_err, y_err),
        "ERRBWIN_IMAGE": np.minimum(x_err, y_err),
        "ERRTHETAWIN_IMAGE": np.where(x_err >= y_err, 0.0, 90.0),
        "FLUX_AUTO": flux,
        "FLUXERR_AUTO": flux_err,
        "MAG_AUTO": mag,
        "MAGERR_AUTO": mag_err,
        "FLUX_RADIUS": half_light,
        "FWHM_IMAGE": fwhm,
        "ELONGATION": elongation,
        "ELLIPTICITY": 1.0 - 1.0 / elongation,
        "FLAGS": given("flags", np.zeros(n)),
        "SNR_WIN": snr,
    }
    columns["XWIN_IMAGE"], columns["YWIN_IMAGE"] = columns["X_IMAGE"], columns["Y_IMAGE"]
    ra, dec = column("ra_deg"), column("dec_deg")
    if (ra is None or dec is None) and "CTYPE1" in header:
        wcs = WCS(header, fix=False)
        ra, dec = wcs.all_pix2world(columns["X_IMAGE"], columns["Y_IMAGE"], 1)
    if ra is not None and dec is not None:
        columns["ALPHA_J2000"], columns["DELTA_J2000"] = ra, dec
    return columns


def write_reference(path: Path, reference: Table) -> None:
    """Write a reference catalogue as FITS_LDAC for SCAMP's ASTREFCAT_NAME.

    reference : as `catalogs.reference` returns it (`ra_deg`, `dec_deg`, `pos_err_arcsec`,
        `pm_ra_mas_yr`, `pm_dec_mas_yr`, `epoch_yr`, `mag`, `mag_err`)

    A magnitude without an error gets 1 mag, so that it counts for little.
    """
    error_deg = np.asarray(reference["pos_err_arcsec"], dtype=np.float64) / 3600.0
    columns = {
        "X_WORLD": np.asarray(reference["ra_deg"], dtype=np.float64),
        "Y_WORLD": np.asarray(reference["dec_deg"], dtype=np.float64),
        "ERRA_WORLD": error_deg,
        "ERRB_WORLD": error_deg,
        "ERRTHETA_WORLD": np.zeros(len(reference)),
        "PMALPHA_J2000": np.nan_to_num(np.asarray(reference["pm_ra_mas_yr"], dtype=np.float64)),
        "PMDELTA_J2000": np.nan_to_num(np.asarray(reference["pm_dec_mas_yr"], dtype=np.float64)),
        "PMALPHAERR_J2000": np.zeros(len(reference)),
        "PMDELTAERR_J2000": np.zeros(len(reference)),
        "MAG": np.asarray(reference["mag"], dtype=np.float64),
        "MAGERR": np.nan_to_num(np.asarray(reference["mag_err"], dtype=np.float64), nan=1.0),
        "OBSDATE": np.asarray(reference["epoch_yr"], dtype=np.float64),
    }
    header = fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0)])
    _write_whole(path, [_header_table(header), _source_table(REFERENCE_FIELDS, columns)])


def read_ldac(path: Path, *, extension: int = 0) -> tuple[fits.Header, Table]:
    """The header and the sources of one frame of a FITS_LDAC file.

    extension : which of its frames, 0-based
    returns the frame's header, and a Table with those of our columns that the file has: `x`, `y`
        (pixels, 0-based, windowed where there is a choice), `x_err`, `y_err`, `flux`, ..., as
        listed in `READ`

    MissingInput when there is no such file, UsageError when it is not FITS_LDAC.
    """
    if not path.exists():
        raise MissingInput(f"{path}: no such source list; `photometrus astrom shift` writes them")
    with reading(path, "FITS_LDAC", UsageError), open_fits(path) as hdus:
        tables = [hdu for hdu in hdus if hdu.name == "LDAC_OBJECTS"]
        headers = [hdu for hdu in hdus if hdu.name == "LDAC_IMHEAD"]
        if extension >= min(len(tables), len(headers)):
            raise UsageError(
                f"{path}: {len(tables)} source tables (LDAC_OBJECTS), asked for number"
                f" {extension + 1}; is it FITS_LDAC?"
            )
        text = headers[extension].data.tobytes().decode("latin-1").replace("\0", " ")
        cards = [text[i : i + CARD] for i in starts(text)]
        cards = list(takewhile(lambda card: card.rstrip() != "END", cards))
        return readable(fits.Header.fromstring("".join(cards))), _sources_of(tables[extension].data)


def _without_sip(header: fits.Header) -> fits.Header:
    """A copy with the linear part of a SIP solution only; other headers come back equal."""
    copy = with_cd(header)
    for card in header.cards:
        if SIP_CARD.match(card.keyword):
            copy.remove(card.keyword, ignore_missing=True)
    for axis in ("CTYPE1", "CTYPE2"):
        if axis in copy:
            copy[axis] = str(copy[axis]).removesuffix("-SIP")
    return copy


def _header_table(header: fits.Header) -> fits.BinTableHDU:
    """The table of one row that holds a frame's header as text."""
    image = header.copy()
    image.remove("XTENSION", ignore_missing=True)
    # Without these in this order SCAMP calls the header corrupted.
    structure = {
        "SIMPLE": image.get("SIMPLE", True),
        "BITPIX": image.get("BITPIX", -32),
        "NAXIS": image.get("NAXIS", 2),
        "NAXIS1": image.get("NAXIS1", 0),
        "NAXIS2": image.get("NAXIS2", 0),
    }
    for place, (key, value) in enumerate(structure.items()):
        comment = image.comments[key] if key in image else ""
        image.remove(key, ignore_missing=True)
        if key in header or key in ("SIMPLE", "BITPIX", "NAXIS"):
            image.insert(place, (key, value, comment))
    text = image.tostring(sep="", endcard=True, padding=False)
    layout = fits.Header(
        [
            ("XTENSION", "BINTABLE", "binary table extension"),
            ("BITPIX", 8, "8-bit bytes"),
            ("NAXIS", 2, "number of axes"),
            ("NAXIS1", len(text), "bytes per row"),
            ("NAXIS2", 1, "number of rows"),
            ("PCOUNT", 0, "bytes of heap"),
            ("GCOUNT", 1, "number of groups"),
            ("TFIELDS", 1, "number of columns"),
            ("EXTNAME", "LDAC_IMHEAD", "header of the frame"),
            ("TTYPE1", "Field Header Card"),
            ("TFORM1", f"{len(text)}A"),
            ("TDIM1", f"({CARD}, {len(text) // CARD})"),
        ]
    )
    # As bytes, because astropy would write NUL for the blanks that fill a card, and SCAMP would
    # then see a header that ends there.
    return fits.BinTableHDU.fromstring(layout.tostring().encode() + _padded(text.encode()))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % FITS_BLOCK)


def _source_table(fields: Sequence[Field], columns: dict[str, Column]) -> fits.BinTableHDU:
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(
                name=field.name,
                format=field.format,
                unit=field.unit or None,
                disp=field.display,
                array=columns[field.name],
            )
            for field in fields
        ],
        name="LDAC_OBJECTS",
    )
    for number, field in enumerate(fields, start=1):
        table.header.comments[f"TTYPE{number}"] = field.words
    return table


def _write_whole(path: Path, tables: Iterable[fits.BinTableHDU]) -> None:
    with whole(path) as part:
        fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(part, overwrite=True)


def _sources_of(rows: fits.FITS_rec) -> Table:
    """Our columns of SExtractor's rows."""
    names = rows.dtype.names
    sources = Table()
    for ours, (candidates, shift) in READ.items():
        theirs = next((name for name in candidates if name in names), None)
        if theirs is None:
            continue
        kind = np.int32 if ours == "flags" else np.float64
        sources[ours] = (np.asarray(rows[theirs], dtype=np.float64) + shift).astype(kind)
    ellipse = [f"ERR{part}WIN_IMAGE" for part in ("A", "B", "THETA")]
    if set(ellipse) <= set(names):
        major, minor, angle = (np.asarray(rows[name], dtype=np.float64) for name in ellipse)
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        sources["x_err"] = np.hypot(major * cos, minor * sin)
        sources["y_err"] = np.hypot(major * sin, minor * cos)
    return sources
