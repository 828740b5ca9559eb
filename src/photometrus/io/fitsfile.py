"""FITS in and out: ramps and their headers, products, and every keyword we read or write."""

import math
import re
import sys
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.io.fits.verify import VerifyError
from astropy.time import Time
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, FITSFixedWarning

from photometrus import __version__
from photometrus.errors import FrameError, MissingInput
from photometrus.frame import Bad, Coadd, Flags, FrameInfo, Image
from photometrus.instrument import (
    DETECTOR_PIXELS,
    FRAME_TIME_S,
    GAIN_E_PER_ADU,
    band_of,
)
from photometrus.io.whole import whole
from photometrus.products import parse_ramp
from photometrus.wcs import sip_cards

TILE_ROWS = 32
"""Rows of a compressed tile."""
GZIP = "GZIP_COMPRESSED_DATA"
MIN_PIXELS = 64
"""Frames smaller than this on a side are no window of a detector."""


# ---------------------------------------------------------------- reading


@dataclass(frozen=True, eq=False)
class RawRows:
    """Rows of a ramp file, read when asked for: native float32, border included."""

    path: Path
    hdu: int
    shape: tuple[int, int]
    offset: int | None
    """Where plain big-endian float32 pixels begin; None: read through astropy."""

    def rows(self, y0: int, y1: int) -> Image:
        """float32 (y1 - y0, nx)."""
        nx = self.shape[1]
        if self.offset is not None:
            bits = np.fromfile(
                self.path, np.uint32, (y1 - y0) * nx, offset=self.offset + 4 * y0 * nx
            ).reshape(-1, nx)
            if sys.byteorder == "little":
                bits.byteswap(inplace=True)  # no second array: new memory is what costs
            return bits.view(np.float32)
        with fits.open(self.path, memmap=False) as hdus:
            return np.ascontiguousarray(hdus[self.hdu].section[y0:y1], dtype=np.float32)


def open_ramp(path: Path) -> tuple[fits.Header, RawRows]:
    """The header of a ramp's image and its rows on demand.

    The image is the first two-dimensional one, in the primary HDU or an extension, compressed or
    not. Raises MissingInput when there is no such file, FrameError when it is no ramp: not FITS,
    truncated, not a detector's size.
    """
    name = path.name
    if not path.exists():
        raise MissingInput(
            f"{path}: not there; check the name, or `photometrus getdata` fetches it"
        )
    try:
        with warnings.catch_warnings():
            # "File may have been truncated" is one of them: said below, as an error of ours.
            warnings.simplefilter("ignore", AstropyUserWarning)
            with fits.open(path, memmap=True) as hdus:
                images = [k for k, h in enumerate(hdus) if h.is_image and h.header["NAXIS"] == 2]
                if not images:
                    raise FrameError(f"{name}: no two-dimensional image in it")
                index, hdu = images[0], hdus[images[0]]
                header = hdu.header.copy()
                shape = (int(header["NAXIS2"]), int(header["NAXIS1"]))
                plain = (
                    not isinstance(hdu, fits.CompImageHDU)
                    and header["BITPIX"] == -32
                    and header.get("BZERO", 0) == 0
                    and header.get("BSCALE", 1) == 1
                )
                offset = int(hdu.fileinfo()["datLoc"]) if plain else None
                end = hdu.fileinfo()["datLoc"] + hdu.fileinfo()["datSpan"]
    except (OSError, VerifyError, ValueError, TypeError, KeyError, IndexError) as error:
        raise FrameError(f"{name}: not readable as FITS ({_one_line(error)})") from error
    if not MIN_PIXELS <= min(shape) <= max(shape) <= DETECTOR_PIXELS:
        raise FrameError(
            f"{name}: {shape[1]} x {shape[0]} pixels; a ramp has {DETECTOR_PIXELS} or is a window "
            f"of at least {MIN_PIXELS}"
        )
    if offset is not None:
        end = offset + 4 * shape[0] * shape[1]
    if path.stat().st_size < end:
        raise FrameError(
            f"{name}: truncated, {path.stat().st_size} bytes of {end}; download it again"
        )
    return header, RawRows(path, index, shape, offset)


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def frame_info(header: fits.Header, path: Path) -> FrameInfo:
    """What a ramp's header says, in our words and units.

    Raises FrameError when what cannot be done without is missing or absurd: position, filters,
    time; or when the header's chip is not the name's.
    """
    ramp = parse_ramp(path.name)
    name = str(ramp)
    chip = _number(header, "CHIP")
    if chip is not None and int(chip) != ramp.chip:
        raise FrameError(f"{name}: header says chip {int(chip)}, the name says {ramp.chip}")
    filters = (_text(header, "FILTER1"), _text(header, "FILTER2"))
    band = band_of(*filters)
    if band is None:
        raise FrameError(f"{name}: filters {filters[0]!r} {filters[1]!r} are no band of PRIME")
    ra, dec = _position(header, name)
    frame_time = _number(header, "FRTIME") or FRAME_TIME_S
    reads = int(_number(header, "NFRAMES") or 0)
    exposure = _number(header, "EXPTIMEE")
    if exposure is None and reads > 1:
        exposure = (reads - 1) * frame_time
    if exposure is None or not 0 < exposure < 1e5:
        raise FrameError(f"{name}: no usable EXPTIMEE ({_text(header, 'EXPTIMEE')!r}) or NFRAMES")
    if reads < 2:
        reads = round(exposure / frame_time) + 1
    begin, end = _times(header, name, reads * frame_time)
    return FrameInfo(
        ramp=ramp,
        band=band,
        ra_deg=ra,
        dec_deg=dec,
        rotator_deg=_rotator(header),
        exposure_s=float(exposure),
        begin_mjd=begin,
        end_mjd=end,
        reads=reads,
        dither_radius_arcsec=_number(header, "DITHRAD") or 0.0,
    )


def _number(header: fits.Header, key: str) -> float | None:
    """A keyword as a finite float; None when it is missing or is no number."""
    try:
        value = float(header[key])
    except (KeyError, ValueError, TypeError, VerifyError):
        return None
    return value if np.isfinite(value) else None


def _text(header: fits.Header, key: str) -> str:
    """A keyword as text; empty when it is missing or its card cannot be read."""
    try:
        return str(header.get(key, ""))
    except VerifyError:
        return ""


def _rotator(header: fits.Header) -> float | None:
    """ROTOFF in degrees (172800 is arcsec, as the planner writes it); None when unreadable."""
    value = _number(header, "ROTOFF")
    if value is not None and abs(value) > 360:
        value /= 3600.0
    return value if value is not None and abs(value) <= 360 else None


def _position(header: fits.Header, name: str) -> tuple[float, float]:
    """RA and Dec of the telescope axis, degrees: RA-D and DEC-D, else the sexagesimal strings."""
    ra, dec = _number(header, "RA-D"), _number(header, "DEC-D")
    try:
        if ra is None:
            ra = Angle(_text(header, "RA"), unit="hourangle").degree
        if dec is None:
            # Angle keeps the sign of "-00:31:12", which int("-00") loses.
            dec = Angle(_text(header, "DEC"), unit="deg").degree
    except (ValueError, TypeError) as error:
        raise FrameError(f"{name}: no readable pointing in RA/DEC or RA-D/DEC-D") from error
    if not (-360 <= ra <= 720 and -90 <= dec <= 90):
        raise FrameError(f"{name}: pointing RA {ra} Dec {dec} is not on the sky")
    return float(ra) % 360.0, float(dec)


def _times(header: fits.Header, name: str, length_s: float) -> tuple[float, float]:
    """MJD (UTC) of the begin and the end of the ramp."""
    begin = _number(header, "MJD-BEG")
    if begin is None:
        for key in ("DATE-BEG", "DATE-OBS", "EXPSTART"):
            try:
                begin = float(Time(_text(header, key), format="isot", scale="utc").mjd)
                break
            except ValueError:
                continue
    if begin is None or not 50000 < begin < 90000:
        raise FrameError(f"{name}: no usable time in MJD-BEG or DATE-BEG")
    end = _number(header, "MJD-END")
    if end is None or not 0 <= (end - begin) * 86400 < 20 * length_s + 60:
        end = begin + length_s / 86400
    return begin, end


def read_image(path: Path) -> tuple[Image, fits.Header]:
    """The first image of a FITS file as native float32, and its header; MissingInput without it."""
    if not path.exists():
        raise MissingInput(f"{path}: not there; check the name")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyUserWarning)
            with fits.open(path, memmap=False) as hdus:
                for hdu in hdus:
                    if hdu.is_image and hdu.header.get("NAXIS") == 2:
                        return np.ascontiguousarray(hdu.data, dtype=np.float32), hdu.header.copy()
    except (OSError, VerifyError, ValueError, TypeError) as error:
        raise MissingInput(f"{path}: not readable as FITS ({_one_line(error)})") from error
    raise MissingInput(f"{path}: no two-dimensional image in it; give another file")


def read_flags(path: Path) -> Flags | None:
    """The bad-pixel map of a master flat (extension BADPIX, not 0 = bad) as uint8; None without."""
    with fits.open(path, memmap=False) as hdus:
        if "BADPIX" not in hdus:
            return None
        return np.ascontiguousarray(hdus["BADPIX"].data, dtype=np.uint8)


def header_wcs(header: fits.Header) -> WCS:
    """The WCS of a header of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header)


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
    """A ramp's header without structure, WCS and cards that no FITS file may have."""
    out = fits.Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for card in header.cards:
            try:
                key, value, comment = card.keyword, card.value, card.comment
                if key in STRUCTURE or key.startswith(_WCS_WORDS) or not key:
                    continue
                if _TABLE_WORDS.fullmatch(key):
                    continue
                if key in ("COMMENT", "HISTORY"):
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


def write_image(path: Path, data: Any, header: fits.Header) -> None:
    """An image in the primary HDU, whole or not at all."""
    with whole(path) as part:
        fits.PrimaryHDU(data, header).writeto(part, overwrite=True, output_verify="fix+ignore")


def write_with_flags(path: Path, data: Image, bad: Flags, header: fits.Header) -> None:
    """An image with its bad-pixel map in the extension BADPIX."""
    with whole(path) as part:
        hdus = [fits.PrimaryHDU(data, header), fits.ImageHDU(bad, name="BADPIX")]
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
