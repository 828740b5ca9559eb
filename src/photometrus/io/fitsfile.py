"""FITS in and out: images, products, and every keyword we write; `rampfile` reads ramps."""

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyError
from astropy.time import Time
from astropy.wcs import WCS

from photometrus import __version__
from photometrus.errors import FrameError, MissingInput
from photometrus.frame import Bad, Coadd, Flags, FrameInfo, Image
from photometrus.instrument import FRAME_TIME_S, GAIN_E_PER_ADU
from photometrus.io.damage import readable, reading
from photometrus.io.fz import open_fits
from photometrus.io.whole import whole
from photometrus.wcs import pixel_to_sky, sip_cards, sky_to_pixel

MAX_SIP_ORDER = 9
"""Of any SIP polynomial, by its convention; a library would build matrices of any size."""
TILE_ROWS = 32
"""Rows of a compressed tile."""
GZIP = "GZIP_COMPRESSED_DATA"


# ---------------------------------------------------------------- reading


def read_image(path: Path) -> tuple[Image, fits.Header]:
    """The first image of a FITS file as native float32, and its header; MissingInput without it."""
    with _images(path) as images:
        for hdu in images:
            data = np.ascontiguousarray(hdu.data, dtype=np.float32)
            if data.ndim == 2:  # more than its header says is no image
                return data, readable(hdu.header)
    raise MissingInput(f"{path}: no two-dimensional image in it; give another file")


def read_image_header(path: Path) -> fits.Header:
    """The header of the first image of a FITS file; MissingInput without it."""
    with _images(path) as images:
        for hdu in images:
            return readable(hdu.header)
    raise MissingInput(f"{path}: no two-dimensional image in it; give another file")


@contextmanager
def _images(path: Path) -> Iterator[Iterator[Any]]:
    """The HDUs that are two-dimensional images, compressed or not; MissingInput without a file."""
    if not path.exists():
        raise MissingInput(f"{path}: not there; check the name")
    with reading(path, "FITS", MissingInput), open_fits(path) as hdus:
        yield (hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS") == 2)


def read_header(path: Path) -> fits.Header:
    """The first header of a FITS file, which may have no pixels; MissingInput without it."""
    with reading(path, "FITS", MissingInput), open_fits(path) as hdus:
        return readable(hdus[0].header)


def read_flags(path: Path) -> Flags | None:
    """The bad-pixel map of a master flat (extension BADPIX, not 0 = bad) as uint8; None without.

    Raises MissingInput when the file cannot be read.
    """
    with reading(path, "FITS", MissingInput), open_fits(path) as hdus:
        if "BADPIX" not in hdus:
            return None
        flags = np.ascontiguousarray(hdus["BADPIX"].data, dtype=np.uint8)
    return flags if flags.ndim == 2 else None


def header_wcs(header: fits.Header, name: str = "header") -> WCS:
    """The WCS of a header; FrameError, with the name, for one that contradicts itself."""
    with reading(name, "a WCS", FrameError):
        for key in ("A_ORDER", "B_ORDER", "AP_ORDER", "BP_ORDER"):
            if not 0 <= header.get(key, 0) <= MAX_SIP_ORDER:
                raise ValueError(f"{key} {header[key]}, at most {MAX_SIP_ORDER}")
        wcs = WCS(header)
        if wcs.has_celestial:  # a matrix that cannot be inverted shows itself here
            sky_to_pixel(wcs.celestial, *pixel_to_sky(wcs.celestial, 0.0, 0.0))
    return wcs


# ---------------------------------------------------------------- writing


STRUCTURE = ("SIMPLE", "XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "PCOUNT",
             "GCOUNT", "BZERO", "BSCALE", "BLANK", "ZBLANK", "CHECKSUM", "DATASUM", "EXTNAME",
             "EXTVER", "EXTLEVEL", "INHERIT", "ZSIMPLE", "DATAMIN", "DATAMAX")  # fmt: skip
_WCS_WORDS = ("CTYPE", "CUNIT", "CRVAL", "CRPIX", "CDELT", "CROTA", "CD1_", "CD2_", "PC1_", "PC2_",
              "PV1_", "PV2_", "LONPOLE", "LATPOLE", "WCSAXES", "RADESYS", "EQUINOX", "A_", "B_",
              "AP_", "BP_", "IMAGEW", "IMAGEH", "MJDREF")  # fmt: skip


_TABLE_WORDS = re.compile(
    r"NAXIS\d*|THEAP|(TTYPE|TFORM|TUNIT|TNULL|TSCAL|TZERO|TDISP|TDIM|TBCOL)\d+"
)
_REPEATED = ("COMMENT", "HISTORY")
_TEXT_WORDS = ("OBJECT", "OBSERVER", "TELESCOP", "INSTRUME", "ORIGIN", "AUTHOR", "REFERENC")
_NUMBER_WORDS = ("MJD-OBS", "MJD-AVG", "EPOCH")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d*)?)?")


def _lawful(key: str, value: Any) -> Any:
    """A keyword's value as the FITS standard wants it; None when that cannot be."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if key in _TEXT_WORDS:
        return str(value)
    if key in _NUMBER_WORDS:
        return value if isinstance(value, int | float) else None
    if key.startswith("DATE"):
        if not isinstance(value, str) or not _DATE.fullmatch(value.strip()):
            return None
        datetime.fromisoformat(value.strip().rstrip("."))
    return value


def clean_header(header: fits.Header) -> fits.Header:
    """A ramp's header without structure, WCS and cards that no FITS file may have.

    Of a keyword that is there more than once, the first counts.
    """
    out = fits.Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for card in header.cards:
            try:
                key, value, comment = card.keyword, card.value, card.comment
                if key in STRUCTURE or key.startswith(_WCS_WORDS) or not key:
                    continue
                if _TABLE_WORDS.fullmatch(key) or (key in out and key not in _REPEATED):
                    continue
                if key in _REPEATED:
                    out.add_history(str(value)) if key == "HISTORY" else out.add_comment(str(value))
                    continue
                value = _lawful(key, value)
                if value is None:
                    continue
                new = fits.Card(key, value, comment)
                new.verify("exception")
            except (VerifyError, ValueError, AttributeError):
                continue
            out.append(new)
    return out


def product_header(source: fits.Header, wcs: WCS | None, shape: tuple[int, int]) -> fits.Header:
    """The header of a product made from a ramp: its cards, our WCS, who made it."""
    header = clean_header(source)
    if wcs is not None:
        header.update(sip_cards(wcs, shape))
    header["BUNIT"] = ("adu", "per frame")
    header["PIPELINE"] = (f"photometrus {__version__}", "who made this")
    return header


def write_image(path: Path, data: Any, header: fits.Header, *, sync: bool = True) -> None:
    """An image in the primary HDU, whole or not at all; `sync` as of `whole.whole`."""
    with whole(path, sync=sync) as part:
        hdu = fits.PrimaryHDU(_only_read(data), header)
        hdu.writeto(part, overwrite=True, output_verify="fix+ignore")


def _only_read(data: Any) -> Any:
    """The same array, not to be written to: astropy would swap its bytes in place while it writes.

    Others may be reading it: the page is drawn of what is written meanwhile.
    """
    view = np.asarray(data).view()
    view.flags.writeable = False
    return view


def write_with_flags(path: Path, data: Image, bad: Flags, header: fits.Header) -> None:
    """An image with its bad-pixel map in the extension BADPIX."""
    with whole(path) as part:
        hdus = [fits.PrimaryHDU(_only_read(data), header), fits.ImageHDU(bad, name="BADPIX")]
        fits.HDUList(hdus).writeto(part, overwrite=True, output_verify="fix+ignore")


def write_flags(path: Path, flags: Flags, header: fits.Header) -> None:
    """Flags of pixels, tile-compressed without loss, with the registry of their bits."""
    header = header.copy()
    header["BUNIT"] = ("", "bits of the flags below")
    for flag in Bad:
        header[f"FLAG{flag.value}"] = (str(flag.name), "name of this bit")
    with whole(path) as part:
        hdu = fits.CompImageHDU(
            flags, header, compression_type="RICE_1", tile_shape=(TILE_ROWS, flags.shape[1])
        )
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(part, overwrite=True)
        _forget_clock(part)


def write_compressed(
    path: Path, data: Image, header: fits.Header, quantize_level: float, noise: float = math.nan
) -> None:
    """A tile-compressed image (RICE_1, subtractive dither 2) in the first extension.

    quantize_level : steps per standard deviation of the noise. The step q adds a variance of
        step**2 / 12, i.e. 1 / (12 quantize_level**2) of the noise's: 0.03 % at 16
    noise : of a pixel where the image is deepest, in its unit; NaN: each tile's is estimated, which
        takes three times as long as all the rest
    Dither method 2 keeps exact zeros: pixels that no frame saw.
    """
    if noise > 0:
        quantize_level = -noise / quantize_level  # below 0 it is the step itself
    with whole(path) as part:
        hdu = fits.CompImageHDU(
            data,
            header,
            compression_type="RICE_1",
            quantize_level=quantize_level,
            quantize_method=2,
            dither_seed=1,
            tile_shape=(TILE_ROWS, data.shape[1]),
        )
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(part, overwrite=True)
        _forget_clock(part)


def _forget_clock(path: Path) -> None:
    """Zero the time of day in the gzip streams of a compressed image.

    Tiles without noise are stored by gzip, whose header holds the time: the same pixels would not
    give the same file.
    """
    with fits.open(path, disable_image_compression=True, memmap=False) as hdus:
        table = hdus[1]
        if GZIP not in table.columns.names:
            return
        offset = table.fileinfo()["datLoc"]
        row_bytes = table.header["NAXIS1"]
        heap = offset + table.header.get("THEAP", row_bytes * table.header["NAXIS2"])
        names = table.columns.names
        at = sum(table.columns[name].dtype.itemsize for name in names[: names.index(GZIP)])
        n_rows = table.header["NAXIS2"]
    with path.open("r+b") as file:
        for row in range(n_rows):
            file.seek(offset + row * row_bytes + at)
            size, start = np.frombuffer(file.read(8), ">i4")
            if size > 10:
                file.seek(heap + start + 4)
                file.write(bytes(4))


def write_header(path: Path, header: fits.Header) -> None:
    """A FITS file that is a header only: what ``.wcs`` files are."""
    with whole(path) as part:
        hdu = fits.PrimaryHDU()
        hdu.header.update(header)
        hdu.writeto(part, overwrite=True)


COPY_KEYWORDS = ("OBJECT", "FILTER1", "FILTER2", "CHIP", "OBSERVER", "OBJNAME", "OBJTYPE",
                 "DITHTYP", "DITHRAD", "DITHPH", "DITH_REP", "NINT", "TELESCOP", "INSTRUME",
                 "BLOCKID", "LATITUDE", "LONGITUD", "ALTITUDE")  # fmt: skip


def coadd_header(
    coadd: Coadd, infos: list[FrameInfo], headers: list[fits.Header], scale: float = 1.0
) -> fits.Header:
    """The header of a stack: what SWarp would have copied, times, exposure, provenance.

    infos, headers : of the frames in the stack, in order of time
    """
    first = clean_header(headers[0])
    header = sip_cards(coadd.wcs)
    for key in COPY_KEYWORDS:
        if key in first:
            header[key] = (first[key], first.comments[key])
    header.setdefault("OBJECT", first.get("OBJNAME", ""))
    header["BAND"] = (infos[0].band, "photometric band")
    begin = min(info.begin_mjd for info in infos)
    end = max(info.end_mjd for info in infos)
    exposure = sum(info.exposure_s for info in infos)
    middle = sum(info.exposure_s * info.middle_mjd for info in infos) / exposure
    for key, value, text in (
        ("DATE-OBS", begin, "start of the first frame (UTC)"),
        ("DATE-BEG", begin, "start of the first frame (UTC)"),
        ("DATE-AVG", middle, "mean mid-exposure of the frames (UTC)"),
        ("DATE-END", end, "end of the last frame (UTC)"),
    ):
        header[key] = (Time(value, format="mjd", scale="utc").isot, text)
    header["TIMESYS"] = ("UTC", "time scale")
    header["MJD-OBS"] = (begin, "[d] start of the first frame")
    header["MJD-BEG"] = (begin, "[d] start of the first frame")
    header["MJD-AVG"] = (middle, "[d] mean mid-exposure of the frames")
    header["MJD-END"] = (end, "[d] end of the last frame")
    header["EXPMID"] = (header["DATE-AVG"], "mean mid-exposure of the frames (UTC)")
    header["EXPTIME"] = (exposure, "[s] summed exposure of the frames")
    header["TELAPSE"] = ((end - begin) * 86400, "[s] from the first start to the last end")
    header["NCOMBINE"] = (len(infos), "frames in the stack")
    reads = sum(info.reads - 1 for info in infos)
    header["GAIN"] = (GAIN_E_PER_ADU * reads, "[e/adu] of the stack: all reads of all frames")
    header["GAINDET"] = (GAIN_E_PER_ADU, "[e/adu] of the detector")
    header["BUNIT"] = ("adu", "per frame of the ramp")
    header["FRTIME"] = (headers[0].get("FRTIME", FRAME_TIME_S), "[s] one frame of the ramp")
    header["FLXSCALE"] = (scale, "flux scale of the stack")
    for key, (value, text) in coadd.measures.items():
        if np.isfinite(value):
            header[key] = (round(float(value), 6), text)
    header["PIPELINE"] = (f"photometrus {__version__}", "who made this")
    for k, info in enumerate(infos[:999], start=1):
        header[f"FRAM{k:04d}"] = (info.name, "in the stack")
    return header
