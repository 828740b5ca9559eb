"""Whether a FITS file is whole, and tile-compressed ramps back to plain ones."""

import gzip
import math
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from astropy.io import fits

from photometrus.errors import FrameError
from photometrus.io.damage import readable, reading

BLOCK_BYTES = 2880
CARD_BYTES = 80
MAX_HEADER_BLOCKS = 1000
"""No header is longer (36 000 cards); what is, is not a header."""
COUNTED = (b"NAXIS", b"TFIELDS", b"ZNAXIS", b"WCSAXES")
MOST = 999
"""Axes, and columns of a table, by the standard."""
SIGNATURE = b"SIMPLE  ="
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
"""How files begin that a program has compressed as a whole."""

MOST_OF_GZIP = 1032
"""Bytes that one byte of gzip's method can become."""

COMPRESSION_CARDS = (
    "XTENSION",
    "PCOUNT",
    "GCOUNT",
    "INHERIT",
    "CHECKSUM",
    "DATASUM",
    "ZHECKSUM",
    "ZDATASUM",
    "ZBLANK",
    "BLANK",
    "ZSIMPLE",
    "ZEXTEND",
    "ZTENSION",
    "ZPCOUNT",
    "ZGCOUNT",
    "ZQUANTIZ",
    "ZDITHER0",
)
"""Cards that describe the compressed table or its checksum, and are wrong in a plain image."""
COMPRESSED_NAME = "COMPRESSED_IMAGE"


def fault(path: Path, *, all_units: bool = False) -> str | None:
    """What is wrong with the length of a FITS file, None when it is whole.

    Compares the file with what its primary header says of the data; with `all_units` also with
    the headers of the extensions. Does not look at pixels.
    """
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        return "empty"
    with path.open("rb") as file:
        if file.read(len(SIGNATURE)) != SIGNATURE:
            return "not a FITS file"
        position = 0
        while True:
            file.seek(position)
            try:
                unit_bytes = _unit_bytes(file)
            except ValueError as error:
                return str(error)
            if unit_bytes is None:
                return f"truncated in a header, at {size_bytes} bytes"
            position += unit_bytes
            if position > size_bytes:
                return f"truncated: {size_bytes} of {position} bytes"
            if position == size_bytes or not all_units:
                break
    if size_bytes % BLOCK_BYTES:
        return f"{size_bytes} bytes, not a multiple of {BLOCK_BYTES}"
    return None


def beginning(path: Path) -> str | None:
    """What is wrong with how a FITS file begins, None when it has a header with an end.

    Looks at the bytes only: a file that is compressed as a whole is not opened by surprise, and
    one without an END is not read to its last byte.
    """
    with path.open("rb") as file:
        first = file.read(len(SIGNATURE))
        if not first:
            return "empty"
        packed = next((word for begin, word in PACKED.items() if first.startswith(begin)), "")
        if packed:
            return f"compressed as a whole by {packed}; unpack it first"
        if first != SIGNATURE:
            return "not a FITS file"
        file.seek(0)
        if _unit_bytes(file) is None:
            return "its header has no END"
    return None


def open_fits(path: Path, *, memmap: bool = False) -> fits.HDUList:
    """``fits.open``, but ValueError for a header that would keep the library busy for ever."""
    with path.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        position = 0
        while (n_bytes := _unit_bytes(cast(BinaryIO, file))) is not None:
            position += n_bytes
            file.seek(position)
    return fits.open(path, memmap=memmap)


def _unit_bytes(file: BinaryIO) -> int | None:
    """Bytes of the header and data unit that begins here; None when its header has no end.

    ValueError for more axes or columns than a FITS file can have: whoever counts to them hangs.
    """
    sizes = {b"BITPIX": 0, b"NAXIS": 0, b"PCOUNT": 0, b"GCOUNT": 1}
    for n_blocks in range(1, MAX_HEADER_BLOCKS + 1):
        block = file.read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES:
            return None
        for start in range(0, BLOCK_BYTES, CARD_BYTES):
            card = block[start : start + CARD_BYTES]
            key = card[:8].rstrip()
            if key == b"END":
                return n_blocks * BLOCK_BYTES + _padded_data_bytes(sizes)
            if card[8:10] == b"= " and (key in sizes or key.startswith(COUNTED)):
                value = card[10:].split(b"/")[0].strip()
                sizes[key] = int(value) if value.removeprefix(b"-").isdigit() else 0
                if key in COUNTED and sizes[key] > MOST:
                    raise ValueError(f"{key.decode()} {sizes[key]} in a header, at most {MOST}")
    return None


def _padded_data_bytes(sizes: dict[bytes, int]) -> int:
    """Bytes of the data unit that the cards describe, in whole blocks."""
    n_axes = sizes[b"NAXIS"]
    if not 1 <= n_axes <= MOST:
        return 0
    elements = 1
    for axis in range(1, n_axes + 1):
        elements *= sizes.get(b"NAXIS%d" % axis, 0)
    if min(elements, sizes[b"PCOUNT"], sizes[b"GCOUNT"]) < 0:
        return 0
    used = abs(sizes[b"BITPIX"]) // 8 * sizes[b"GCOUNT"] * (sizes[b"PCOUNT"] + elements)
    return max(0, -(-used // BLOCK_BYTES) * BLOCK_BYTES)


def unpack(
    packed: Path, plain: Path, *, as_float: bool = True, max_bytes: int = 1_000_000_000
) -> None:
    """Writes the first image of a tile-compressed FITS file as a plain one.

    The image goes to the primary unit of `plain`: float32 (or, without `as_float`, the type it
    had), NaN and 65535 as they come, with all cards of its header but those about compression.
    Raises FrameError when the file is not whole, has no image, cannot be decoded, or would unpack
    to more than `max_bytes`.
    """
    wrong = fault(packed, all_units=True)
    if wrong:
        raise FrameError(f"{packed.name}: {wrong}; cannot be unpacked")
    with (
        reading(packed.name, "compressed FITS", FrameError),
        open_fits(packed) as units,
    ):
        _refuse_bomb(packed, max_bytes)
        images = [unit for unit in units if unit.is_image and unit.header.get("NAXIS") == 2]
        if not images:
            raise FrameError(f"{packed.name}: no image in it; cannot be unpacked")
        data = np.asarray(images[0].data)
        header = readable(images[0].header)
    if data.ndim != 2:
        raise FrameError(f"{packed.name}: pixels of {data.ndim} axes; cannot be unpacked")
    for key in COMPRESSION_CARDS:
        header.remove(key, ignore_missing=True, remove_all=True)
    if header.get("EXTNAME") == COMPRESSED_NAME:
        del header["EXTNAME"]
    if as_float:
        data = data.astype(np.float32, copy=False)
    fits.PrimaryHDU(data, header).writeto(
        plain, output_verify="silentfix+ignore", overwrite=True, checksum=False
    )


def _refuse_bomb(packed: Path, max_bytes: int) -> None:
    """FrameError for an image, or a piece of one, that can unpack to more than `max_bytes`."""
    with fits.open(packed, disable_image_compression=True, memmap=True) as units:
        n_bytes = max((_most_bytes(unit) for unit in units if unit.header.get("ZIMAGE")), default=0)
    if n_bytes > max_bytes:
        raise FrameError(
            f"{packed.name}: may unpack to {n_bytes / 1e9:.3g} GB, more than "
            f"transfer.max_file_gb = {max_bytes / 1e9:g}"
        )


def _most_bytes(unit: fits.BinTableHDU) -> int:
    """What a compressed image, or a piece of it while it is unpacked, can need.

    A piece that gzip packed may hold a thousand times its own bytes, whatever the header says of
    it; honest ones are rows of the image.
    """
    header = unit.header
    n_pixels = math.prod(int(header[f"ZNAXIS{k + 1}"]) for k in range(int(header["ZNAXIS"])))
    n_bytes = n_pixels * abs(int(header["ZBITPIX"])) // 8
    zipped = {"GZIP_COMPRESSED_DATA"}
    if str(header["ZCMPTYPE"]).startswith("GZIP"):
        zipped.add("COMPRESSED_DATA")
    for column in zipped & set(unit.columns.names):
        if len(unit.data):
            pieces = unit.data.view(np.ndarray)[column][:, 0]
            n_bytes = max(n_bytes, int(pieces.max()) * MOST_OF_GZIP)
    return n_bytes
