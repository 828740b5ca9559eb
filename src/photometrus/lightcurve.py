"""One position over many epochs, bands and chips: the stacks of a tree, measured, as one table."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from astropy.time import Time

from photometrus.calibration import ZeroPoint
from photometrus.errors import CalibrationRefused, MissingInput, PhotometrusError
from photometrus.frame import LISTED, Progress, StackInfo, no_progress
from photometrus.io.fitsfile import header_wcs
from photometrus.io.stackfile import read_image_header, stem
from photometrus.wcs import sky_to_pixel

log = logging.getLogger(__name__)

PART_OF_A_STACK = re.compile(r"\.(?:inc\d+|alt\d)\.")
"""Growing and interleaved stacks hold frames that the whole stack has too."""


@dataclass(frozen=True)
class LightCurveConfig:
    """Settings of the light curve."""

    detection_sigma: float = 3.0
    """From this S/N at the given position on it is a detection; below, a limit."""
    min_weight_ratio: float = 0.1
    """Of the median weight, at the position."""


@dataclass(frozen=True, eq=False)
class EpochPoint:
    """Forced photometry of the position in one stack.

    flux, flux_err : total, ADU; empty_err : what the error would be without a source
    x, y : 0-based pixel of the position; weight_ratio : weight there over the image's median
    """

    path: Path
    info: StackInfo
    flux: float
    flux_err: float
    empty_err: float
    x: float
    y: float
    weight_ratio: float
    zero_point: ZeroPoint


Measure = Callable[[Path, float, float], EpochPoint]
"""Measures a stack at RA, Dec (degrees); PhotometrusError when it cannot."""

COLUMNS: dict[str, tuple[str, str]] = {
    # name: unit, description
    "mjd_mid": ("d", "middle of the exposures, UTC"),
    "mjd_begin": ("d", "begin of the first exposure, UTC"),
    "mjd_end": ("d", "end of the last exposure, UTC"),
    "date": ("", "middle of the exposures, UTC"),
    "since_t0": ("d", "mjd_mid - T0"),
    "band": ("", "filter"),
    "chip": ("", "detector; 0: not one of PRIME's"),
    "target": ("", "as the header calls it"),
    "exposure_s": ("s", "of all frames together"),
    "n_frames": ("", "frames in the stack"),
    "mag": ("mag", "magnitude; NaN where nothing was detected"),
    "mag_err": ("mag", "1 sigma, from the flux's error"),
    "mag_err_sys": ("mag", "1 sigma, of the zero point: moves a whole epoch"),
    "limit_3sigma": ("mag", "3-sigma limit at the position"),
    "limit_5sigma": ("mag", "5-sigma limit at the position"),
    "snr": ("", "flux over its error; can be negative"),
    "flux_ujy": ("uJy", "flux density, AB; can be negative"),
    "flux_ujy_err": ("uJy", "1 sigma"),
    "detection": ("", "whether snr reaches the limit of detection"),
    "system": ("", "magnitude system"),
    "survey": ("", "catalogue of the zero point"),
    "n_zp_stars": ("", "stars of the zero point"),
    "x": ("pix", "0-based pixel of the position"),
    "y": ("pix", "0-based pixel of the position"),
    "weight_ratio": ("", "weight at the position over the image's median"),
    "coadd": ("", "stack"),
}


def light_curve(
    paths: Sequence[Path],
    ra_deg: float,
    dec_deg: float,
    measure: Measure,
    config: LightCurveConfig = LightCurveConfig(),
    *,
    system: str = "AB",
    t0_mjd: float = float("nan"),
    progress: Progress = no_progress,
) -> Table:
    """The table of all stacks that hold a position, in order of time.

    paths : stacks, of `find_stacks`; measure : measures one of them, a zero point included
    system : AB, Vega or native; t0_mjd : of the event, UTC

    Stacks that do not reach the position are passed over; what was lost, and why, is in
    `meta["lost"]`. Raises MissingInput when no stack is left.
    """
    inside = [path for path in paths if _holds(path, ra_deg, dec_deg)]
    points, lost = [], {}
    for number, path in enumerate(inside):
        progress("forced photometry", number, len(inside))
        try:
            points.append(_checked(measure(path, ra_deg, dec_deg), config))
        except PhotometrusError as error:
            log.warning("%s: not in the light curve: %s", path.name, error, extra=LISTED)
            lost[path.name] = str(error)
    if not points:
        raise MissingInput(
            f"light curve of {ra_deg:.5f} {dec_deg:+.5f}: of {len(paths)} stacks {len(inside)}"
            f" reach there and none could be measured{'; ' if lost else ''}"
            f"{next(iter(lost.values()), '')}"
        )
    table = as_table(points, config, system=system, t0_mjd=t0_mjd)
    table.meta |= {"ra_deg": ra_deg, "dec_deg": dec_deg, "lost": lost}
    return table


def find_stacks(root: Path) -> list[Path]:
    """The whole stacks below a folder: ``**/stack/coadd.*.fits*``, one file for each."""
    found = [
        path
        for path in sorted(root.rglob("coadd.*.fits*"))
        if path.parent.name == "stack"
        and path.name.endswith((".fits", ".fits.fz", ".fits.gz"))
        and not PART_OF_A_STACK.search(path.name)
    ]
    if not found:
        raise MissingInput(f"{root}: no stack/coadd.*.fits below it; give the folder of the stacks")
    return list({path.with_name(stem(path)): path for path in found}.values())


def as_table(
    points: Iterable[EpochPoint],
    config: LightCurveConfig = LightCurveConfig(),
    *,
    system: str = "AB",
    t0_mjd: float = float("nan"),
) -> Table:
    """The columns of `COLUMNS`, in order of time; all magnitudes in one system."""
    rows = [_row(point, config, system, t0_mjd) for point in points]
    rows.sort(key=lambda row: (row["mjd_mid"], row["band"], row["chip"]))
    table = Table({name: [row[name] for row in rows] for name in COLUMNS})
    for name, (unit, words) in COLUMNS.items():
        table[name].unit = unit or None
        table[name].description = words
    table.meta = {
        "system": system,
        "t0_mjd": t0_mjd,
        "detection_sigma": config.detection_sigma,
        "surveys": {
            band: sorted({row["survey"] for row in rows if row["band"] == band})
            for band in sorted({row["band"] for row in rows})
        },
    }
    for band, surveys in table.meta["surveys"].items():
        if len(surveys) > 1:
            log.warning("%s: zero points from %s; name one survey", band, " and ".join(surveys))
    return table


def _row(point: EpochPoint, config: LightCurveConfig, system: str, t0_mjd: float) -> dict[str, Any]:
    info, zp = point.info, point.zero_point
    snr = point.flux / point.flux_err
    seen = snr >= config.detection_sigma
    mag, mag_err = zp.magnitudes(point.flux, point.flux_err, point.x, point.y, system)
    three, five = (zp.flux_to_limit(point.empty_err, point.x, point.y, n, system) for n in (3, 5))
    flux, flux_err = (zp.microjansky(f, point.x, point.y) for f in (point.flux, point.flux_err))
    known = np.isfinite(info.middle_mjd)
    return {
        "mjd_mid": info.middle_mjd,
        "mjd_begin": info.begin_mjd,
        "mjd_end": info.end_mjd,
        "date": Time(info.middle_mjd, format="mjd").isot if known else "",
        "since_t0": info.middle_mjd - t0_mjd,
        "band": info.band,
        "chip": info.chip,
        "target": info.target,
        "exposure_s": info.exposure_s,
        "n_frames": info.n_frames,
        "mag": float(mag) if seen else np.nan,
        "mag_err": float(mag_err) if seen else np.nan,
        "mag_err_sys": zp.err,
        "limit_3sigma": float(three),
        "limit_5sigma": float(five),
        "snr": float(snr),
        "flux_ujy": float(flux),
        "flux_ujy_err": float(flux_err),
        "detection": bool(seen),
        "system": system if system != "native" else zp.mag_system,
        "survey": zp.survey or zp.source,
        "n_zp_stars": zp.n_stars,
        "x": point.x,
        "y": point.y,
        "weight_ratio": point.weight_ratio,
        "coadd": info.name,
    }


def _checked(point: EpochPoint, config: LightCurveConfig) -> EpochPoint:
    """The point; PhotometrusError when it says nothing."""
    if not point.weight_ratio >= config.min_weight_ratio:
        raise MissingInput(
            f"weight {point.weight_ratio:.2f} of the usual at the position, at least"
            f" {config.min_weight_ratio:g} needed"
        )
    if not point.zero_point.trusted:
        raise CalibrationRefused(point.zero_point.refused)
    return point


def _holds(path: Path, ra_deg: float, dec_deg: float) -> bool:
    """Whether a position is on the image of a stack, by its header."""
    header = read_image_header(path)
    wcs = header_wcs(header)
    if not wcs.has_celestial:
        return False
    x, y = (float(axis) for axis in sky_to_pixel(wcs, ra_deg, dec_deg))
    nx, ny = header["NAXIS1"], header["NAXIS2"]
    return -0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5
