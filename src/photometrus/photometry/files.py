"""The files of a stack's photometry."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from photometrus.calibration import ZeroPoint
from photometrus.frame import StackInfo
from photometrus.io.fitsfile import write_image
from photometrus.io.regions import circles, write_regions
from photometrus.io.results import provenance, published, target_table, write_catalog, write_table
from photometrus.io.whole import whole
from photometrus.photometry.calibrating import Zero
from photometrus.photometry.sources import Measures
from photometrus.products import StackProducts
from photometrus.report import record, report
from photometrus.sighting import Calibration, Sighting

STAR_COLUMNS = {
    "ra_deg": "deg", "dec_deg": "deg", "x": "pix", "y": "pix", "mag": "mag", "mag_err": "mag",
    "color": "mag", "instrumental": "mag", "residual": "mag", "used": "", "reason": "",
}  # fmt: skip


def zero_meta(zp: ZeroPoint) -> dict[str, Any]:
    """What a catalogue's metadata says of a zero point."""
    return {
        "zero_point_native": zp.value,
        "native_system": zp.mag_system,
        "scatter": zp.scatter,
        "color_term": zp.color_term,
        "color_term_err": zp.color_term_err,
        "color_name": zp.color_name,
        "color_pivot": zp.color_pivot,
        "position_degree": zp.field.degree,
        "slope": zp.slope,
        "slope_err": zp.slope_err,
        "n_matched": zp.n_matched,
        "excluded": dict(zp.excluded),
        "to_ab": zp.to_ab,
        "to_vega": zp.to_vega,
        "refused": zp.refused,
        "zero_point_notes": list(zp.notes),
    }


def write_sources(
    products: StackProducts, sources: Table, brief: Calibration, meta: dict[str, Any], parquet: bool
) -> list[Path]:
    """The catalogue and its region file; their paths."""
    paths = [products.catalog()]
    write_catalog(paths[0], sources, brief, meta)
    if parquet:
        paths.append(products.catalog(parquet=True))
        write_catalog(paths[-1], sources, brief, meta)
    return paths


def write_stars(products: StackProducts, zero: Zero, sigma: float) -> Path:
    """The stars of the zero point and their residuals."""
    stars = zero.psf.stars
    table = Table(meta={"survey": zero.survey, **zero_meta(zero.psf)})
    for name, unit in STAR_COLUMNS.items():
        if name in stars.colnames:
            table[name] = stars[name]
            table[name].unit = unit or None
    path = products.residuals(sigma)
    write_table(path, table)
    return path


def write_query(products: StackProducts, stars: Table) -> Path:
    """The catalogue's stars as they were asked for."""
    write_table(products.query, plain(stars))
    return products.query


def plain(stars: Table) -> Table:
    """A table that ECSV can hold: no objects, no NumPy in the metadata."""
    table = stars.copy()
    table.meta = {key: _plain(value) for key, value in stars.meta.items()}
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def write_sighting(
    products: StackProducts,
    sighting: Sighting,
    brief: Calibration,
    info: StackInfo,
    *,
    scale_arcsec: float,
    location: int,
    t0_mjd: float | None,
    meta: dict[str, Any],
) -> tuple[list[Path], str]:
    """A target's table, its report as text and as JSON: their paths, and the text."""
    at = sighting.at
    forced = {
        "flux": at.flux,
        "flux_err": at.flux_err,
        "snr": at.snr,
        "mag": at.mag,
        "mag_err": at.mag_err,
        "limit_3sigma": at.limit_3sigma,
        "limit_5sigma": at.limit_5sigma,
    }
    table = target_table(sighting, brief, scale_arcsec, {**meta, "forced": forced})
    path = products.data(len(sighting.sources), location)
    # The same target, then one source and now two, or none: one table, not two.
    for other in (products.data(1, location), products.data(2, location)):
        if other != path:
            other.unlink(missing_ok=True)
    write_table(path, table)
    text = report(info, sighting, brief, t0_mjd=t0_mjd)
    words = products.report(location)
    with whole(words) as part:
        part.write_text(text, encoding="ascii")
    numbers = words.with_suffix(".json")
    with whole(numbers) as part:
        part.write_text(record(info, sighting, brief, t0_mjd=t0_mjd) + "\n", encoding="utf-8")
    return [path, words, numbers], text


def write_new(
    products: StackProducts, found: Table, brief: Calibration, meta: dict[str, Any], location: int
) -> Path:
    """The new sources in a large circle."""
    path = products.new_sources(location)
    write_table(path, published(found, brief, meta))
    return path


def write_kept(products: StackProducts, measured: Measures) -> list[Path]:
    """What only `-keep` leaves: segmentation, image without stars, the PSF at the middle."""
    header = measured.stack.wcs.to_header(relax=True)
    images = {
        "segments": measured.found.segments.astype(np.int32),
        "left": measured.left,
        "psf": measured.psf.stamp(measured.psf.frame[0], measured.psf.frame[1]),
    }
    paths = []
    for kind, image in images.items():
        paths.append(products.kept(kind))
        write_image(paths[-1], image, fits.Header() if kind == "psf" else header)
    return paths


def regions(
    products: StackProducts,
    sources: Table,
    sightings: list[Sighting],
    scale_arcsec: float,
    band: str,
) -> Path:
    """Sources and targets for DS9."""
    write_regions(products.regions, circles(sources, sightings, scale_arcsec, band))
    return products.regions


def catalog_meta(
    info: StackInfo, brief: Calibration, zero: Zero | None, more: dict[str, Any]
) -> dict[str, Any]:
    """The metadata of all tables of a stack."""
    meta = provenance(info, brief, **more)
    if zero is not None:
        meta |= zero_meta(zero.psf)
    return {key: value for key, value in meta.items() if not _nothing(value)}


def _nothing(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
