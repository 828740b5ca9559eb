"""What the fuzzer feeds to whom: valid small inputs, ways to spoil them, the readers."""

import json
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from photometrus import config, flats
from photometrus.cli import angles
from photometrus.frame import Coadd, Frame
from photometrus.htmlreport.page import write_report
from photometrus.io import (
    catalogs,
    fitsfile,
    fz,
    headfile,
    ldac,
    nightlog,
    observed,
    rampfile,
    stackfile,
)
from photometrus.products import Products
from photometrus.resume import damage, recorded
from photometrus.selection import SelectConfig, by_header
from photometrus.simulate.config import SimulateConfig
from photometrus.simulate.night import simulate_night
from photometrus.stages.detrend import CalibratedPixels, unit_flat
from photometrus.wcs import pixel_to_sky, pointing_wcs, sip_cards, sky_to_pixel, tpv_cards

NAME = "01599131C1.ramp.fits"
AXIS = (201.3, -0.52)
Draw = np.random.RandomState
STRANGE = (
    b"", b" ", b"0", b"-1", b"1", b"T", b"F", b"NaN", b"inf", b"-inf", b"1E999", b"1E300",
    b"1E-300", b"9223372036854775807", b"-9223372036854775809", b"99999999999999999999", b"4096",
    b"65535", b"999", b"-32", b"-64", b"8", b"16", b"64", b"7", b"'x'", b"''", b"'", b"'Open'",
    b"RA---TAN", b"\x00", b"\x1b[31m", b"\xff\xfe", b"\xe2\x80\xae", b"../../etc/x", b"<script>",
    b"{{7*7}}", b"%s%n", b"1,5", b"2024-13-45T99:99:99", b"(1,2)",
    b"[", b"{", b"\"", b"\\", b"null", b"true",
)  # fmt: skip


# ---------------------------------------------------------------- how inputs are spoilt


def bits(raw: bytes, draw: Draw) -> bytes:
    """Some bytes changed, many of them in the beginning, where headers are."""
    out = bytearray(raw)
    reach = len(out) if draw.randint(2) else min(len(out), 6000)
    for _ in range(draw.choice([1, 1, 2, 5, 30])):
        out[draw.randint(reach)] = draw.randint(256)
    return bytes(out)


def pieces(raw: bytes, draw: Draw) -> bytes:
    """A piece left out, doubled, moved, overwritten with noise, or the end cut off."""
    a, b = np.sort(draw.randint(0, len(raw) + 1, 2))
    kind = draw.randint(6)
    if kind == 0:
        return raw[:a] + raw[b:]
    if kind == 1:
        return raw[:b] + raw[a:]
    if kind == 2:
        return raw[:a]
    if kind == 3:
        return raw[b:] + raw[:b]
    if kind == 4:
        b = min(b, a + 200)
        return raw[:a] + draw.bytes(b - a) + raw[b:]
    return raw[:a] + bytes(min(b - a, 4000)) + raw[b:]


def cards(raw: bytes, draw: Draw) -> bytes:
    """Header cards of 80 bytes: a strange value, another keyword, one less, one twice, swapped."""
    out = bytearray(raw)
    n = min(len(out) // 80, 150)
    if n < 2:
        return bits(raw, draw)
    for _ in range(draw.choice([1, 1, 1, 2, 4])):
        one, other = (80 * int(k) for k in draw.randint(0, n, 2))
        kind = draw.randint(6)
        if kind <= 2:
            value = STRANGE[draw.randint(len(STRANGE))]
            out[one + 8 : one + 80] = (b"= " + value.rjust(20)).ljust(72)[:72]
        elif kind == 3:
            out[one : one + 80] = out[other : other + 80]
        elif kind == 4:
            out[one : one + 8] = out[other : other + 8]
        else:
            out[one : one + 80], out[other : other + 80] = (
                out[other : other + 80],
                out[one : one + 80],
            )
    return bytes(out)


def words(raw: bytes, draw: Draw) -> bytes:
    """Text: strange words, lines left out, doubled, joined, very long."""
    lines = raw.split(b"\n")
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = int(draw.randint(len(lines)))
        kind = draw.randint(7)
        strange = STRANGE[draw.randint(len(STRANGE))]
        parts = lines[at].split(b" ")
        if kind <= 2:
            parts[draw.randint(len(parts))] = strange
            lines[at] = b" ".join(parts)
        elif kind == 3:
            k = int(draw.randint(len(lines[at]) + 1))
            lines[at] = lines[at][:k] + strange + lines[at][k:]
        elif kind == 4:
            lines.insert(at, lines[int(draw.randint(len(lines)))])
        elif kind == 5 and len(lines) > 1:
            del lines[at]
        else:
            lines[at] = lines[at] * int(draw.choice([2, 50, 2000]))
    return b"\n".join(lines)


BINARY = (bits, pieces, cards, cards, cards)
TEXT = (bits, pieces, words, words, words)


# ---------------------------------------------------------------- who reads them


@dataclass(frozen=True)
class Case:
    """A reader, the name its file must have, and how its inputs are spoilt.

    seed : of `seeds`, the valid input; feed : reads the file in the folder
    """

    name: str
    seed: str
    file: str
    feed: Callable[[Path], object]
    ways: tuple[Callable[[bytes, Draw], bytes], ...] = BINARY


def read_ramp(path: Path) -> None:
    """All that the recipe does with a ramp before it is a frame, and with its header after."""
    header, raw = rampfile.open_ramp(path)
    info = rampfile.frame_info(header, path)
    by_header({"x": header}, SelectConfig(header="AIRMASS:<99"))
    pixels = CalibratedPixels(raw, unit_flat((raw.shape[0] - 8, raw.shape[1] - 8)))
    pixels.rows(0, pixels.shape[0])
    wcs = pointing_wcs(info.ramp.chip, (info.ra_deg, info.dec_deg), 48.0)
    Frame(info, header, pixels, wcs)
    fitsfile.product_header(header, wcs, pixels.shape).tostring()
    stack = Coadd(np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32), wcs, 1, 0.0)
    fitsfile.coadd_header(stack, [info], [header]).tostring()


def unpack(path: Path) -> None:
    """What a download goes through."""
    fz.fault(path, all_units=True)
    fz.unpack(path, path.with_suffix(".plain"))


def read_log(path: Path) -> None:
    """A night log, and every question to it."""
    text = nightlog.decode(path.read_bytes())
    nightlog.clean_log(text)
    table = nightlog.read_log(path)
    observed.summarise(table)
    observed.flats(table, "J")
    observed.raw_frames(table, observed.select(table, "field1111", "J"))
    observed.blocks(table, "field1111", "J")


def read_catalog(path: Path) -> None:
    """A file of stars as reference and as calibrators."""
    catalogs.reference(path, AXIS, 1.0, "J")
    catalogs.calibrators(path, AXIS, 1.0, "J")


def read_wcs(path: Path) -> None:
    """A header with a solution, asked for places."""
    header = headfile.read_head(path) if path.suffix == ".head" else fitsfile.read_header(path)
    wcs = stackfile.celestial(header, path)
    ra, dec = pixel_to_sky(wcs, np.array([1.0, 50.0]), np.array([2.0, 60.0]))
    sky_to_pixel(wcs, ra, dec)


def read_stack(path: Path) -> None:
    """A stack, with its weights beside it."""
    stackfile.read_stack(path)
    stackfile.read_image_header(path)


def read_record(path: Path) -> None:
    """A run.json: what is unchanged, and the page."""
    products = Products(path.parent, "J")
    for result in recorded(products).values():
        damage(result, products)
    write_report(path.parent)


def read_places(path: Path) -> None:
    """A list of positions; what it says against one becomes a UsageError in the parser."""
    with suppress(ValueError):
        angles.places(str(path))


CASES = (
    Case("ramp", "ramp", NAME, read_ramp),
    Case("ramp, compressed", "ramp.fz", NAME, read_ramp),
    Case("ramp, int16", "ramp.i2", NAME, read_ramp),
    Case("ramp, in an extension", "ramp.ext", NAME, read_ramp),
    Case("download", "ramp.fz", "x.fits.fz", unpack),
    Case("night log", "log", "ramp_fit_log_2024-06-06.dat", read_log, TEXT),
    Case("catalogue, FITS", "catalog.fits", "stars.fits", read_catalog),
    Case("catalogue, FITS_LDAC", "catalog.cat", "stars.cat", read_catalog),
    Case("catalogue, VOTable", "catalog.vot", "stars.vot", read_catalog, TEXT),
    Case("catalogue, ECSV", "catalog.ecsv", "stars.ecsv", read_catalog, TEXT),
    Case("catalogue, CSV", "catalog.csv", "stars.csv", read_catalog, TEXT),
    Case("catalogue, Parquet", "catalog.parquet", "stars.parquet", read_catalog),
    Case("source list", "sources.cat", "x.cat", ldac.read_ldac),
    Case("head", "head", "x.head", read_wcs, TEXT),
    Case("wcs", "wcs", "x.wcs", read_wcs),
    Case("stack", "stack.fz", "coadd.Open-J.01599131-01599173.C1.fits.fz", read_stack),
    Case("stack, plain", "stack", "coadd.Open-J.01599131-01599173.C1.fits", read_stack),
    Case("flat", "flat", "mflat.J.20240606.C1.fits",
         lambda path: flats.read_flat(path, (96, 96))),
    Case("configuration", "toml", "c.toml",
         lambda path: config.load(path).for_chip(3), TEXT),
    Case("record", "record", "run.json", read_record, TEXT),
    Case("positions", "places", "places.csv", read_places, TEXT),
)  # fmt: skip


# ---------------------------------------------------------------- the valid inputs

RECORD = {
    "photometrus": "0.1.0", "command": "photometrus stack", "night": "2024-06-06", "band": "J",
    "started": "2024-06-06T20:00:00+00:00", "finished": "2024-06-06T20:01:00+00:00",
    "missing": [{"frame": "01599138C1", "reason": "not in the archive"}], "notes": ["a note"],
    "chips": {
        f"C{chip}": {
            "coadd": "stack/coadd.fits", "weight": "stack/weight.fits", "page": None, "error": "",
            "extras": [], "notes": ["another"], "made_from": "d32edbd1c1cf5afe",
            "numbers": {"n_frames": 8.0, "seeing_arcsec": 1.6, "rms_arcsec": None},
            "field_fit": {
                "rotator_deg": 47.9, "values": [1.0, 2.0], "information": [[1.0, 0.0], [0.0, 1.0]],
                "n_reference": 40,
            },
            "frames": [
                {"frame": "01599131C1", "used": True, "reason": "", "lost": False, "sky_adu": 5.0},
                {"frame": "01599145C1", "used": False, "reason": "cloud", "lost": False},
            ],
        }
        for chip in (1, 2)
    },
}  # fmt: skip
PLACES = """# positions
ra, dec, name, radius
201.3, -0.52, GRB 240825A, 5arcsec
13:25:12.0, -00:31:12, other, 2arcmin
201.4, +1.5e0, third, 0.1deg
"""


def kind_of(path: Path) -> str:
    """OBJTYPE of a ramp."""
    return str(fits.getheader(path)["OBJTYPE"])


def seeds(folder: Path) -> None:
    """A valid file of every kind, called as CASES call them."""
    night = folder / "night"
    size = SimulateConfig(size=128, chips=(1,), ramps=2, seed=3, flats=2, density="bulge")
    simulate_night(night, size)
    ramp = next(p for p in sorted(night.rglob("*.ramp")) if kind_of(p) != "FLAT")
    data, header = fits.getdata(ramp), fits.getheader(ramp)
    filled = np.nan_to_num(data).clip(0, 30000)
    shutil.copy(ramp, folder / "ramp")
    shutil.copy(next(night.rglob("*.dat")), folder / "log")

    def put(name: str, *hdus: object) -> None:
        fits.HDUList(list(hdus)).writeto(folder / name)

    put("ramp.fz", fits.PrimaryHDU(), fits.CompImageHDU(data, header, quantize_level=16))
    put("ramp.i2", fits.PrimaryHDU(filled.astype(np.int16), header))
    put("ramp.ext", fits.PrimaryHDU(None, header), fits.ImageHDU(data, header))
    wcs = pointing_wcs(1, AXIS, 48.0)
    solved = sip_cards(wcs, data.shape)
    full = fits.Header([*header.cards, *solved.cards])
    put("stack", fits.PrimaryHDU(filled, full))
    put("stack.fz", fits.PrimaryHDU(), fits.CompImageHDU(filled, full, quantize_level=16))
    bad = (data > 1e4).astype(np.uint8)
    put("flat", fits.PrimaryHDU(filled / 500 + 0.5), fits.ImageHDU(bad, name="BADPIX"))
    fitsfile.write_header(folder / "wcs", solved)
    headfile.write_head(folder / "head", tpv_cards(wcs))
    n = 40
    x = np.linspace(1, 90, n)
    plain = fits.Header([("NAXIS1", 96), ("NAXIS2", 96), *tpv_cards(wcs).cards])
    ldac.write_ldac(folder / "sources.cat", plain, Table({"x": x, "y": x[::-1], "flux": x}))
    stars = Table.read(night / "refcat_2mass.fits")[:n]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stars.write(folder / "catalog.fits")
        stars.write(folder / "catalog.ecsv")
        stars.write(folder / "catalog.csv")
        stars.write(folder / "catalog.vot", format="votable")
        stars.write(folder / "catalog.parquet", format="parquet")
    reference = catalogs.reference(night / "refcat_2mass.fits", AXIS, 1.0, "J")[:n]
    ldac.write_reference(folder / "catalog.cat", reference)
    (folder / "toml").write_text(config.dump(config.load()))
    (folder / "record").write_text(json.dumps(RECORD, indent=1))
    (folder / "places").write_text(PLACES)
