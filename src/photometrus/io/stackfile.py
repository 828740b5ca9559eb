"""A stack on disk, of ours or of another program's, read to be measured."""

import math
import re
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS

from photometrus.errors import MissingInput, UsageError
from photometrus.frame import Bad, Image, Stack, StackInfo
from photometrus.instrument import BANDS, band_of
from photometrus.io.damage import readable, reading
from photometrus.io.fitsfile import header_wcs, read_image
from photometrus.io.fz import open_fits

ENDINGS = (".fits", ".fits.fz", ".fit", ".fits.gz")
CHIP_IN_NAME = re.compile(r"\.C([1-4])(?=\.)")


def read_stack(path: Path, *, weight: Path | None = None, band: str = "") -> Stack:
    """A stack with the weight map and flags beside it, if any.

    weight : the weight map where it is not ``weight.….fits`` beside ``coadd.….fits``
    band : Z, Y, J or H, instead of what the header says

    A stack without a weight map gets weights of 1 where it has a value: `stages.noise` makes them
    true. Raises MissingInput (no file, no image) and UsageError (no celestial WCS, a weight map
    that does not fit).
    """
    data, header = read_image(path)
    wcs = celestial(header, path)
    good = np.isfinite(data)
    weight = weight if weight is not None else beside(path, "weight")
    weights, scatter = good.astype(np.float32), math.nan
    if weight is not None:
        weights, weight_header = _fitting(weight, data, path)
        scatter = _number(weight_header, "PIXSCAT")
    weights[~(good & np.isfinite(weights) & (weights > 0))] = 0.0
    data[weights == 0] = 0.0
    flag_file = beside(path, "flags")
    flags = np.zeros(data.shape, np.uint8)
    if flag_file is not None:
        flags = _fitting(flag_file, data, path)[0].astype(np.uint8)
    flags[weights == 0] |= np.uint8(Bad.EDGE)
    return Stack(data, weights, flags, wcs, _info(header, path, band, scatter))


def celestial(header: fits.Header, path: Path) -> WCS:
    """The part of a header's WCS that is on the sky; UsageError when there is none."""
    wcs = header_wcs(header, str(path))
    if not wcs.has_celestial:
        raise UsageError(f"{path}: no celestial WCS in its header; solve it, then measure it")
    return wcs.celestial


def beside(path: Path, kind: str) -> Path | None:
    """``weight.….fits`` or ``flags.….fits.fz`` of ``coadd.….fits``; None when there is none."""
    name = stem(path)
    names = [f"{kind}.{name.removeprefix('coadd.')}"]
    if kind == "weight":
        names.append(f"{name}.weight")  # what SWarp calls it
    for other in names:
        for ending in ENDINGS:
            candidate = path.with_name(other + ending)
            if candidate != path and candidate.exists():
                return candidate
    return None


def stem(path: Path) -> str:
    """The name of a FITS file without its endings."""
    name = path.name
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return path.stem


def read_image_header(path: Path) -> fits.Header:
    """The header of the first image of a FITS file; MissingInput when there is none."""
    with reading(path, "FITS", MissingInput), open_fits(path) as hdus:
        for hdu in hdus:
            if hdu.is_image and hdu.header.get("NAXIS") == 2:
                return readable(hdu.header)
    raise MissingInput(f"{path}: no two-dimensional image in it; give a stack, coadd.*.fits.fz")


def _fitting(path: Path, data: Image, of: Path) -> tuple[Image, fits.Header]:
    """An image that belongs to another one, and its header; UsageError when it does not fit."""
    image, header = read_image(path)
    if image.shape != data.shape:
        raise UsageError(
            f"{path}: {image.shape[1]} x {image.shape[0]} pixels, but {of.name} has"
            f" {data.shape[1]} x {data.shape[0]}; they do not belong together"
        )
    return image, header


def _info(header: fits.Header, path: Path, band: str, scatter: float) -> StackInfo:
    begin = _time(header, "MJD-BEG", "MJD-OBS", "DATE-BEG", "DATE-OBS")
    end = _time(header, "MJD-END", "DATE-END")
    middle = _time(header, "MJD-AVG", "EXPMID", "DATE-AVG")
    if math.isnan(middle):
        middle = 0.5 * (begin + end) if not math.isnan(end) else begin
    in_name = CHIP_IN_NAME.search(path.name)
    chip = int(in_name[1]) if in_name else int(np.nan_to_num(_number(header, "CHIP")))
    frames = _number(header, "NCOMBINE")
    return StackInfo(
        name=stem(path),
        target=str(header.get("OBJNAME") or header.get("OBJECT") or "").strip(),
        band=band or _band(header, path),
        chip=chip if chip in (1, 2, 3, 4) else 0,
        begin_mjd=begin,
        middle_mjd=middle,
        end_mjd=end,
        exposure_s=_number(header, "EXPTIME", "EXPTIMEE"),
        n_frames=int(frames) if frames >= 1 else 1,
        gain_e_per_adu=_number(header, "GAIN"),
        saturation_adu=_number(header, "SATURATE"),
        pixel_scatter=scatter,
    )


def _band(header: fits.Header, path: Path) -> str:
    for text in (str(header.get("BAND", "")).strip(), str(header.get("FILTER", "")).strip()):
        if text in BANDS:
            return text
    wheels = band_of(str(header.get("FILTER1", "")), str(header.get("FILTER2", "")))
    if wheels:
        return wheels
    in_name = re.search(r"\.(?:Open-([YJH])|(Z)-Open)\.", path.name)
    return (in_name[1] or in_name[2]) if in_name else ""


def _number(header: fits.Header, *keys: str) -> float:
    for key in keys:
        try:
            value = float(header[key])
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(value):
            return value
    return math.nan


def _time(header: fits.Header, *keys: str) -> float:
    """MJD (UTC) from a number or an ISO text."""
    for key in keys:
        value = header.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
        if isinstance(value, str):
            try:
                return float(Time(value.strip(), scale="utc").mjd)
            except ValueError:
                continue
    return math.nan
