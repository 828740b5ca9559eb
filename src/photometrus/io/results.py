"""What photometry leaves for others: tables with the names that scripts read."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import MaskedColumn, Table
from astropy.time import Time

from photometrus import __version__
from photometrus.errors import UsageError
from photometrus.frame import StackInfo
from photometrus.io.whole import whole
from photometrus.sighting import Calibration, Sighting
from photometrus.sourcetable import KINDS, Status, Values, column


@dataclass(frozen=True)
class Published:
    """A column of ours and what the world calls it.

    name : ``{b}`` stands for the band
    form : how a number is written; ``d`` a whole number
    plus : added to our value: FITS counts pixels from 1
    """

    ours: str
    name: str
    unit: str
    form: str
    words: str
    plus: float = 0.0


COLUMNS = (
    Published("number", "NUMBER", "", "d", "running number"),
    Published("ra_deg", "ALPHA_J2000", "deg", ".7f", "right ascension of the centroid, ICRS"),
    Published("dec_deg", "DELTA_J2000", "deg", ".7f", "declination of the centroid, ICRS"),
    Published("x", "X_IMAGE", "pix", ".3f", "windowed centroid, first pixel is 1", 1.0),
    Published("y", "Y_IMAGE", "pix", ".3f", "windowed centroid, first pixel is 1", 1.0),
    Published("x_err", "ERRX_IMAGE", "pix", ".4f", "error of X_IMAGE, 1 sigma"),
    Published("y_err", "ERRY_IMAGE", "pix", ".4f", "error of Y_IMAGE, 1 sigma"),
    Published("flags", "FLAGS", "", "d", "SExtractor's: 1 neighbours, 2 deblended, 4 saturated,"
              " 8 edge, 16 bad pixels; 0 good"),
    Published("weight_ratio", "WEIGHT_RATIO", "", ".3f", "weight here / the image's median"),
    Published("snr_win", "SNR_WIN", "", ".2f", "signal to noise in a Gaussian window"),
    Published("mag_psf", "{b}MAG_PSF", "mag", ".4f", "PSF magnitude"),
    Published("mag_psf_err", "e_{b}MAG_PSF", "mag", ".4f", "its error, without the zero point's"),
    Published("mag_auto", "{b}MAG_AUTO", "mag", ".4f", "Kron-like magnitude"),
    Published("mag_auto_err", "e_{b}MAG_AUTO", "mag", ".4f", "its error, without the zero point's"),
    Published("mag_aper", "{b}MAG_APER", "mag", ".4f", "aperture of 2.5 arcsec, made total"),
    Published("mag_aper_err", "e_{b}MAG_APER", "mag", ".4f", "its error, without the zero point's"),
    Published("flux_psf", "FLUX_PSF", "adu", ".5g", "total flux of the PSF fit"),
    Published("flux_psf_err", "FLUXERR_PSF", "adu", ".4g", "its error"),
    Published("flux_auto", "FLUX_AUTO", "adu", ".5g", "flux in the Kron ellipse, made total"),
    Published("flux_auto_err", "FLUXERR_AUTO", "adu", ".4g", "its error"),
    Published("flux_aper", "FLUX_APER", "adu", ".5g", "flux in 2.5 arcsec diameter, made total"),
    Published("flux_aper_err", "FLUXERR_APER", "adu", ".4g", "its error"),
    Published("fwhm", "FWHM_IMAGE", "pix", ".3f", "full width at half maximum"),
    Published("flux_radius", "FLUX_RADIUS", "pix", ".3f", "radius of half of the light"),
    Published("elongation", "ELONGATION", "", ".3f", "A_IMAGE / B_IMAGE"),
    Published("a", "A_IMAGE", "pix", ".3f", "rms along the major axis"),
    Published("b", "B_IMAGE", "pix", ".3f", "rms along the minor axis"),
    Published("theta_deg", "THETA_IMAGE", "deg", ".2f", "major axis, counter-clockwise from x"),
    Published("kron_radius", "KRON_RADIUS", "", ".3f", "Kron radius in units of A_IMAGE"),
    Published("area", "ISOAREA_IMAGE", "pix2", "d", "pixels above the threshold"),
    Published("peak", "FLUX_MAX", "adu", ".5g", "brightest pixel"),
    Published("stellarity", "CLASS_STAR", "", ".3f", "0 galaxy, 1 star"),
    Published("spread", "SPREAD_MODEL", "", ".5f", "0 star, above 0 larger, below 0 sharper"),
    Published("spread_err", "SPREADERR_MODEL", "", ".5f", "its error"),
    Published("psf_chi2", "CHI2_PSF", "", ".3f", "reduced chi squared of the PSF fit"),
    Published("psf_dx", "DX_PSF", "pix", ".3f", "place of the PSF fit less X_IMAGE"),
    Published("psf_dy", "DY_PSF", "pix", ".3f", "place of the PSF fit less Y_IMAGE"),
    Published("group", "GROUP_PSF", "", "d", "sources of one number were fitted together"),
    Published("star_mag", "{b}MAG_CAT", "mag", ".4f", "magnitude in the reference catalogue"),
    Published("star_mag_err", "e_{b}MAG_CAT", "mag", ".4f", "its error"),
    Published("separation_arcsec", "SEPARATION", "arcsec", ".3f", "from the catalogue's star"),
    Published("status", "S_CM", "", "d", "against the catalogue: 0 it lacks it, 1 agrees,"
              " 2 differs by 3 sigma, 3 it lacks it and does not go so deep"),
    Published("doubts", "DOUBTS", "", "d", "what speaks against it, bits; see docs/products.md"),
    Published("rank", "RANK", "", "d", "1 the brightest of the new sources; 0 ruled out"),
    Published("distance_arcsec", "DISTANCE", "arcsec", ".3f", "from the given position"),
    Published("chance", "P_CHANCE", "", ".3g", "probability of so bright a source so near"),
    Published("reason", "REASON", "", "s", "what speaks against it, in words"),
)  # fmt: skip
STATUS_WORDS = next(row.words for row in COLUMNS if row.ours == "status")


def provenance(info: StackInfo, calibration: Calibration, **more: Any) -> dict[str, Any]:
    """What every table says of its making: the stack, its times, the zero point, and `more`."""
    times = {"begin": info.begin_mjd, "middle": info.middle_mjd, "end": info.end_mjd}
    utc = {
        f"{name}_utc": Time(mjd, format="mjd", scale="utc").isot
        for name, mjd in times.items()
        if math.isfinite(mjd)
    }
    stack = {name: value for name, value in asdict(info).items() if not name.endswith("_mjd")}
    stack["stack"] = stack.pop("name")
    return {"photometrus": __version__, **stack, **utc, **asdict(calibration), **more}


def published(sources: Table, calibration: Calibration, meta: Mapping[str, Any]) -> Table:
    """The sources with the names, units and words of `COLUMNS`; what is not a number is masked.

    sources : any columns of `COLUMNS`, and flux_apers, flux_apers_err (n, apertures)
    """
    out = Table(meta=dict(meta))
    for row in COLUMNS:
        if row.ours in sources.colnames:
            _add(out, row, sources[row.ours], calibration.band)
            if row.ours in {f"mag_{kind}" for kind in KINDS}:
                _add_other_system(out, row, sources[row.ours], calibration)
    _add_series(out, sources)
    return out


def write_catalog(
    path: Path, sources: Table, calibration: Calibration, meta: Mapping[str, Any]
) -> None:
    """All sources: ECSV, or Parquet where the name ends so. See `published`, `provenance`."""
    write_table(path, published(sources, calibration, meta))


def write_table(path: Path, table: Table) -> None:
    """ECSV or Parquet, by the name's ending; whole or not at all.

    Raises UsageError (Parquet without pyarrow) and PhotometrusError (the disk).
    """
    if path.suffix == ".parquet":
        _write_parquet(path, table)
        return
    with whole(path) as part:
        part.write_text(ecsv(table), encoding="utf-8")


def ecsv(table: Table) -> str:
    """The table as ECSV text. As astropy writes it, several times faster for many rows."""
    head = StringIO()
    table[:0].write(head, format="ascii.ecsv")
    cells = [_cells(table[name]) for name in table.colnames]
    return head.getvalue() + "".join(f"{' '.join(row)}\n" for row in zip(*cells, strict=True))


def target_table(
    sighting: Sighting, calibration: Calibration, scale_arcsec: float, meta: Mapping[str, Any]
) -> Table:
    """The sources in a target's circle as users' scripts read them, the likeliest first.

    scale_arcsec : of a pixel. Without sources: one row without magnitude, for the limits.
    """
    band, rows = calibration.band, sighting.sources
    n = max(1, len(rows))
    place, at = sighting.target, sighting.at
    said: dict[str, Any] = {
        "verdict": sighting.verdict,
        "sentence": sighting.sentence,
        "name": place.name,
    }
    said |= {"given_ra_deg": place.ra_deg, "given_dec_deg": place.dec_deg}
    out = Table(meta={**meta, **said, "radius_arcsec": place.radius_arcsec})

    def add(name: str, values: Any, unit: str, form: str, words: str) -> None:
        _add(out, Published("", name, unit, form, words), np.broadcast_to(values, n), band)

    def own(name: str, without: float = math.nan) -> Values:
        return column(rows, name) if len(rows) else np.full(1, without)

    add("RA", own("ra_deg", place.ra_deg), "deg", ".6f", "right ascension, ICRS")
    add("DEC", own("dec_deg", place.dec_deg), "deg", ".6f", "declination, ICRS")
    off = own("star_mag")
    for kind in KINDS:
        mag = own(f"mag_{kind}")
        less = np.nan_to_num(off - mag, nan=99.0)
        add(f"{{b}}{kind}Mag", mag, "mag", ".3f", f"{calibration.system} magnitude, {kind}")
        add(f"{{b}}{kind}Mag_Err", own(f"mag_{kind}_err"), "mag", ".3f", "its error")
        add(f"{{b}}{kind}ME_CM", less, "mag", ".3f", "catalogue less this; 99: no counterpart")
        status = np.nan_to_num(own(f"status_{kind}", Status.NEW)).astype(int)
        add(f"{kind}S_CM", status, "", "d", STATUS_WORDS)
    add("Radius", own("flux_radius") * scale_arcsec, "arcsec", ".2f", "half of the light")
    add("SNR", own("snr_win", at.snr), "", ".2f", "signal to noise")
    add("Elongation", own("elongation"), "", ".3f", "major / minor axis")
    add("Distance", own("distance_arcsec", 0.0), "arcsec", ".3f", "from the given position")
    apart = np.nan_to_num(own("separation_arcsec"), nan=-1.0)
    add("Separation", apart, "arcsec", ".3f", "from the catalogue's star; -1: none")
    ujy = float(calibration.microjansky(calibration.zero_point))
    add("{b}catMag", off, "mag", ".3f", f"magnitude in {calibration.survey}")
    add("{b}catMag_Err", own("star_mag_err"), "mag", ".3f", "its error")
    add("Flux_uJy", own("flux_psf") * ujy, "uJy", ".5g", "PSF flux density")
    add("Flux_uJy_Err", own("flux_psf_err") * ujy, "uJy", ".4g", "its error")
    add("FWHM", own("fwhm") * scale_arcsec, "arcsec", ".2f", "full width at half maximum")
    add("Stellarity", own("stellarity"), "", ".3f", "0 galaxy, 1 star")
    add("Flags", own("flags", 0).astype(int), "", "d", "as FLAGS of the catalogue")
    add("P_chance", own("chance"), "", ".3g", "probability of so bright a source so near")
    add("{b}Limit_5sig", at.limit_5sigma, "mag", ".3f", "5 sigma limit at the given position")
    add("{b}Limit_3sig", at.limit_3sigma, "mag", ".3f", "3 sigma limit at the given position")
    add("{b}forcedMag", sighting.at.mag, "mag", ".3f", "PSF fit at the given position")
    add("{b}forcedMag_Err", sighting.at.mag_err, "mag", ".3f", "its error")
    add("forcedSNR", at.snr, "", ".2f", "its signal to noise")
    add("forcedFlux_uJy", at.flux * ujy, "uJy", ".5g", "its flux density")
    add("forcedFlux_uJy_Err", at.flux_err * ujy, "uJy", ".4g", "its error")
    out["Remark"] = list(rows["reason"]) if len(rows) else [""]
    return out


def _add(out: Table, row: Published, values: Any, band: str) -> None:
    """One column: whole numbers and words as they are, numbers masked where not finite."""
    if row.form == "s":
        data: Any = np.asarray(values).astype(str)
    elif row.form == "d":
        data = np.ma.filled(np.ma.asarray(values), -1).astype(np.int64)
    else:
        numbers = np.ma.filled(np.ma.asarray(values, float), np.nan) + row.plus
        data = np.ma.MaskedArray(numbers, ~np.isfinite(numbers), fill_value=np.nan)
    out[row.name.format(b=band)] = MaskedColumn(
        data, unit=row.unit or None, description=row.words, format=f"%{row.form}"
    )


def _add_other_system(out: Table, row: Published, values: Any, calibration: Calibration) -> None:
    if math.isfinite(calibration.to_other):
        words = f"the same, {calibration.other_system} system"
        name = f"{row.name}_{calibration.other_system}"
        other = Published(row.ours, name, row.unit, row.form, words, calibration.to_other)
        _add(out, other, values, calibration.band)


def _add_series(out: Table, sources: Table) -> None:
    """The series of apertures, one column for each diameter."""
    if "flux_apers" not in sources.colnames:
        return
    for k, diameter in enumerate(sources.meta["aper_diameters_arcsec"]):
        for ours, name in (("flux_apers", "FLUX_APER"), ("flux_apers_err", "FLUXERR_APER")):
            words = f"aperture of {diameter:g} arcsec diameter, made total"
            row = Published(ours, f"{name}_{k + 1}", "adu", ".5g", words)
            _add(out, row, sources[ours][:, k], "")


def _cells(values: MaskedColumn) -> list[str]:
    """A column as ECSV's cells: blanks between cells, so that words are quoted."""
    if values.dtype.kind in "US":
        return ['"' + str(text).replace('"', '""') + '"' for text in values]
    form = values.format if values.format else "%s"
    mask = np.ma.getmaskarray(values)
    cells = [form % value for value in np.ma.getdata(values).tolist()]
    for k in np.flatnonzero(mask):
        cells[k] = '""'
    return cells


def _write_parquet(path: Path, table: Table) -> None:
    """With nulls where a value is masked, and units, descriptions and the metadata beside.

    astropy's own writer leaves masks as further columns, which other programs do not understand.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            f"{path.name}: Parquet needs pyarrow, which is not there; pip install pyarrow, or"
            " write .ecsv"
        ) from None
    arrays, fields = [], []
    for name in table.colnames:
        values = table[name]
        data = np.ma.getdata(values)
        arrays.append(
            pa.array(
                data.tolist() if data.dtype.kind == "U" else data, mask=np.ma.getmaskarray(values)
            )
        )
        said = {"unit": str(values.unit or ""), "description": values.description or ""}
        fields.append(pa.field(name, arrays[-1].type, metadata=said))
    meta = {"photometrus": json.dumps(dict(table.meta), default=str)}
    with whole(path) as part:
        parquet.write_table(pa.table(arrays, schema=pa.schema(fields, metadata=meta)), part)
