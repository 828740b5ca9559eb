"""One bad frame costs one frame: every fault of a header, of pixels, of a file, of a sequence.

Each row of FAULTS spoils the second of three good ramps on disk; the recipe's own door
(`chip.frames.open_frames`) then says what becomes of it. docs/faults.md tells the same rows to the
user, and `test_every_fault_is_documented` holds the two together. At the end the real command meets
many of them at once.
"""

import bz2
import gzip
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from photometrus.chip import frames
from photometrus.chip.run import Run
from photometrus.config import load
from photometrus.errors import PhotometrusError
from photometrus.flats import Flats
from photometrus.frame import Coadd, no_progress
from photometrus.io.fitsfile import coadd_header, product_header, write_image
from photometrus.pipeline import reduce_folder
from photometrus.products import Products, RampId
from photometrus.simulate.night import SimulateConfig, simulate_night
from synth import ramp_header

SHAPE = (136, 104)
SERIALS = (1599131, 1599138, 1599145)
SPOILED = 1
"""Which of the three."""
MJD = 60467.9
Spoil = Callable[[Path], None]
DOCS = Path(__file__).resolve().parents[1] / "docs" / "faults.md"


class Fault(NamedTuple):
    """What is wrong, how it is made, and what must become of the frame."""

    name: str
    spoil: Spoil
    says: str = ""
    """A regular expression in the reason, or in a note of the chip; empty: nothing is said."""
    lost: bool = True


def kept(name: str, spoil: Spoil, says: str = "") -> Fault:
    """A fault that is mended: the frame stays, with the numbers of the good one."""
    return Fault(name, spoil, says, lost=False)


# ---------------------------------------------------------------- ways to spoil


def card(key: str, value: str | bytes | None, *more: str) -> Spoil:
    """The keyword's card as these bytes; None: without it; `more`: cards put behind it."""

    def spoil(path: Path) -> None:
        raw = path.read_bytes()
        end = raw.index(b"END".ljust(80))
        cards = [raw[k : k + 80] for k in range(0, end, 80)]
        at = next(k for k, one in enumerate(cards) if one.startswith(key.encode().ljust(8)))
        new = [] if value is None else [f"{key:8s}= ".encode() + as_bytes(value)]
        cards[at : at + 1] = [*new, *(as_bytes(one) for one in more)]
        header = b"".join(one.ljust(80)[:80] for one in [*cards, b"END"])
        path.write_bytes(
            header + b" " * (-len(header) % 2880) + raw[-(-(end + 80) // 2880) * 2880 :]
        )

    return spoil


def as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def all_of(*spoils: Spoil) -> Spoil:
    """One after the other."""

    def spoil(path: Path) -> None:
        for one in spoils:
            one(path)

    return spoil


def twice(key: str, first: str, second: str) -> Spoil:
    return card(key, first, f"{key:8s}= {second}")


def pixels(change: Callable[[np.ndarray], np.ndarray], **cards: object) -> Spoil:
    """The image replaced, written as astropy writes it; cards laid over its header."""

    def spoil(path: Path) -> None:
        data, header = fits.getdata(path), fits.getheader(path)
        header.update(cards)
        fits.PrimaryHDU(change(np.array(data)), header).writeto(
            path, overwrite=True, output_verify="silentfix"
        )

    return spoil


def filled(value: float) -> Spoil:
    return pixels(lambda data: np.full_like(data, value))


def content(change: Callable[[bytes], bytes]) -> Spoil:
    """The bytes of the file replaced."""
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def hdus(make: Callable[[np.ndarray, fits.Header], list]) -> Spoil:
    """The file written anew from its image and header."""

    def spoil(path: Path) -> None:
        data, header = np.array(fits.getdata(path)), fits.getheader(path)
        fits.HDUList(make(data, header)).writeto(path, overwrite=True)

    return spoil


def scaled(**cards: object) -> Spoil:
    """int16 pixels with these cards about their scale, as they stand."""

    def spoil(path: Path) -> None:
        data = np.nan_to_num(fits.getdata(path)).clip(0, 30000).astype(np.int16)
        hdu = fits.PrimaryHDU(data, fits.getheader(path))
        hdu.header.update(cards)
        raw = hdu.header.tostring().encode() + hdu.data.astype(">i2").tobytes()
        path.write_bytes(raw + bytes(-len(raw) % 2880))

    return spoil


def other(number: int) -> Callable[[Path], Path]:
    """The path of another of the three ramps."""
    return lambda path: path.with_name(f"{RampId(SERIALS[number], 1)}.ramp.fits")


def copy_of_first(path: Path) -> None:
    shutil.copy(other(0)(path), path)


def no_end(raw: bytes) -> bytes:
    return raw.replace(b"END".ljust(80), b"EMD".ljust(80), 1)


def in_tiles(**settings: object) -> Spoil:
    return hdus(lambda d, h: [fits.PrimaryHDU(), fits.CompImageHDU(d, h, **settings)])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def torn_tile(path: Path) -> None:
    """Compressed, whole in length, and random in the middle of its tiles."""
    in_tiles(compression_type="GZIP_1", quantize_level=0)(path)
    raw = bytearray(path.read_bytes())
    middle = len(raw) * 3 // 4
    raw[middle : middle + 2000] = np.random.RandomState(0).bytes(2000)
    path.write_bytes(bytes(raw))


# ---------------------------------------------------------------- the table

NO_BAND = "are no band of PRIME"
NO_TIME = "no usable time in MJD-BEG or DATE-BEG"
NO_PLACE = "no readable pointing"
NO_SKY = "is not on the sky"
NO_EXPOSURE = "no usable EXPTIMEE"
NOT_FITS = "not readable as FITS"
FAR = "points .* deg from the others, at most 0.8 allowed"
TWICE = "more than once"

HEADERS = [
    kept("CHIP missing", card("CHIP", None)),
    kept("CHIP empty", card("CHIP", "''")),
    kept("CHIP without a value", card("CHIP", "")),
    kept("CHIP is text", card("CHIP", "'C1'")),
    kept("CHIP is no FITS value", card("CHIP", "C1")),
    Fault("CHIP is another chip", card("CHIP", "3"), "header says chip 3, the name says 1"),
    Fault("CHIP negative", card("CHIP", "-1"), "header says chip -1"),
    Fault("CHIP huge", card("CHIP", "1E300"), r"header says chip 1e\+300"),
    Fault("CHIP a half", card("CHIP", "1.5"), "header says chip 1.5"),
    Fault("CHIP twice, different", twice("CHIP", "1", "3"), f"CHIP {TWICE}, '1' and '3'"),
    kept("CHIP twice, the same", twice("CHIP", "1", "1")),
    Fault("FILTER1 missing", card("FILTER1", None), f"'' 'J' {NO_BAND}"),
    Fault("FILTER2 empty", card("FILTER2", "''"), f"'Open' '' {NO_BAND}"),
    Fault("FILTER2 without a value", card("FILTER2", ""), NO_BAND),
    Fault("FILTER2 is a number", card("FILTER2", "5"), f"'Open' '5' {NO_BAND}"),
    Fault("FILTER2 with a control character", card("FILTER2", b"'J\x1b[31m'"), NO_BAND),
    Fault("FILTER2 without its quote", card("FILTER2", "'J"), NO_BAND),
    Fault("FILTER2 beyond ASCII", card("FILTER2", b"'J\xe9'"), NO_BAND),
    Fault("FILTER2 very long", card("FILTER2", f"'{'J' * 60}'"), f"'{'J' * 20}' {NO_BAND}"),
    Fault("FILTER2 of another band", card("FILTER2", "'Y'"), "band Y in the header, not J"),
    Fault("FILTER2 of no band", card("FILTER2", "'K'"), f"'Open' 'K' {NO_BAND}"),
    Fault("FILTER2 twice, different", twice("FILTER2", "'J'", "'H'"), f"FILTER2 {TWICE}"),
    kept("RA-D missing", card("RA-D", None)),
    kept("RA-D empty", card("RA-D", "''")),
    kept("RA-D is NaN", card("RA-D", "NaN")),
    kept("RA-D is 'nan'", card("RA-D", "'nan'")),
    kept("RA-D beyond all numbers", card("RA-D", "1E999")),
    Fault("RA-D huge", card("RA-D", "1E300"), NO_SKY),
    Fault("RA-D negative", card("RA-D", "-500.0"), NO_SKY),
    Fault("RA-D is T", card("RA-D", "T"), FAR),
    Fault("RA-D off by 5 degrees", card("RA-D", "155.0"), FAR),
    Fault("RA-D twice, different", twice("RA-D", "150.0", "155.0"), f"RA-D {TWICE}"),
    Fault("RA and RA-D missing", all_of(card("RA", None), card("RA-D", None)), NO_PLACE),
    Fault("RA is junk, RA-D missing", all_of(card("RA", "'junk'"), card("RA-D", None)), NO_PLACE),
    Fault(
        "RA is 25 h, RA-D missing", all_of(card("RA", "'25:00:00'"), card("RA-D", None)), NO_PLACE
    ),
    kept("RA ends in 60 s", all_of(card("RA", "'09:59:60.00'"), card("RA-D", None))),
    kept("RA is junk", card("RA", b"'\x00\x01\xff'")),
    kept("DEC-D missing", card("DEC-D", None)),
    Fault("DEC-D below the pole", card("DEC-D", "-91.0"), NO_SKY),
    Fault("DEC and DEC-D missing", all_of(card("DEC", None), card("DEC-D", None)), NO_PLACE),
    Fault("RA-D and DEC-D are 0", all_of(card("RA-D", "0."), card("DEC-D", "0.")), FAR),
    kept("ROTOFF missing", card("ROTOFF", None)),
    kept("ROTOFF is junk", card("ROTOFF", "9223372036854775807:9223372036854775807:000NaN")),
    kept("ROTOFF huge", card("ROTOFF", "1E300")),
    kept("ROTOFF empty", card("ROTOFF", "''")),
    kept("EXPTIMEE missing", card("EXPTIMEE", None)),
    kept("EXPTIMEE is NaN", card("EXPTIMEE", "NaN")),
    kept("EXPTIMEE with a comma", card("EXPTIMEE", "60,123")),
    Fault("EXPTIMEE is 0", card("EXPTIMEE", "0.0"), rf"{NO_EXPOSURE} \('0.0'\)"),
    Fault("EXPTIMEE negative", card("EXPTIMEE", "-60.0"), NO_EXPOSURE),
    Fault("EXPTIMEE huge", card("EXPTIMEE", "1E300"), NO_EXPOSURE),
    Fault(
        "EXPTIMEE and NFRAMES missing",
        all_of(card("EXPTIMEE", None), card("NFRAMES", None)),
        NO_EXPOSURE,
    ),
    kept("NFRAMES missing", card("NFRAMES", None)),
    kept("NFRAMES is text", card("NFRAMES", "'many'")),
    kept("NFRAMES negative", card("NFRAMES", "-22")),
    kept("NFRAMES huge", card("NFRAMES", "1E300")),
    Fault("NFRAMES twice, different", twice("NFRAMES", "22", "7"), f"NFRAMES {TWICE}"),
    kept("FRTIME missing", card("FRTIME", None)),
    kept("FRTIME is 0", card("FRTIME", "0.0")),
    kept("FRTIME negative", card("FRTIME", "-2.863")),
    kept("FRTIME tiny", all_of(card("FRTIME", "1E-300"), card("NFRAMES", None))),
    kept("FRTIME is NaN", card("FRTIME", "NaN")),
    kept("FRTIME huge", card("FRTIME", "1E300")),
    kept("MJD-BEG missing", card("MJD-BEG", None)),
    kept("MJD-BEG is NaN", card("MJD-BEG", "NaN")),
    Fault("MJD-BEG is 0", card("MJD-BEG", "0.0"), f"{NO_TIME}: MJD 0"),
    Fault("MJD-BEG huge", card("MJD-BEG", "1E300"), NO_TIME),
    Fault("MJD-BEG negative", card("MJD-BEG", "-60467.9"), NO_TIME),
    Fault("MJD-BEG twice, different", twice("MJD-BEG", "60467.9", "60400.0"), TWICE),
    Fault("no time at all", all_of(card("MJD-BEG", None), card("DATE-BEG", None)), NO_TIME),
    Fault(
        "DATE-BEG of no calendar",
        all_of(card("MJD-BEG", None), card("DATE-BEG", "'2024-13-45T99:00:00'")),
        NO_TIME,
    ),
    kept("DATE-BEG is junk", card("DATE-BEG", "2024/06/06")),
    kept("MJD-END missing", card("MJD-END", None)),
    kept("MJD-END before the begin", card("MJD-END", "60400.0")),
    kept("MJD-END years later", card("MJD-END", "64000.0")),
    kept("DITHRAD missing", card("DITHRAD", None)),
    kept("DITHRAD is ?", card("DITHRAD", "?")),
    kept("DITHRAD negative", card("DITHRAD", "-1E300")),
    kept("OBJNAME with an escape", card("OBJNAME", b"'\x1b]0;gone\x07<script>'")),
    kept("OBJNAME goes on in CONTINUE", card("OBJNAME", f"'{'f' * 66}&'", "CONTINUE  'ield'")),
    kept("a CONTINUE of nothing", card("OBSERVER", "'x'", "CONTINUE  'y'")),
    kept("TELESCOP is a number", card("TELESCOP", "1.8")),
    kept("BLOCKID beyond all numbers", card("BLOCKID", "1E999")),
    kept("a card without a keyword", card("BLOCKID", "7", "         = 5", "lower = 'case'")),
    kept("a hundred HISTORY cards", card("BLOCKID", "7", *["HISTORY \x07 nothing"] * 100)),
]

CLOCKS = [
    Fault("clock says 1970", card("MJD-BEG", "40587.0"), f"{NO_TIME}: MJD 40587"),
    Fault("clock says 2099", card("MJD-BEG", "87823.0"), "clock says 2099-04-30, .* days after"),
    Fault(
        "clock is a day back", card("MJD-BEG", "60466.0"), "clock says 2024-06-05, 1.. days before"
    ),
    Fault(
        "clock says 2099 in DATE-BEG only",
        all_of(card("MJD-BEG", None), card("DATE-BEG", "'2099-01-01T00:00:00'")),
        "clock says 2099-01-01",
    ),
    kept(
        "clock goes back by an hour",
        card("MJD-BEG", f"{MJD - 1 / 24:.6f}"),
        "01599131C1 begins later by the clock than by the number",
    ),
    kept("clock stands still", card("MJD-BEG", f"{MJD}"), "01599138C1 begins at the very time"),
    Fault("copy of a frame", copy_of_first, "a duplicate: its pixels are those of 01599131C1"),
    Fault(
        "copy of a frame with another time",
        all_of(copy_of_first, card("MJD-BEG", f"{MJD + 0.001}")),
        "a duplicate: its pixels are those of 01599131C1",
    ),
]

PIXELS = [
    Fault("all NaN", filled(np.nan), "100% of the pixels are unusable"),
    Fault("all 65535", filled(65535), "100% of the pixels are unusable"),
    Fault("all infinite", filled(np.inf), "100% of the pixels are unusable"),
    Fault("all 0", filled(0), "sky level 0 ADU; no light"),
    Fault("all -7", filled(-7), "sky level -7 ADU; no light"),
    Fault("all 500", filled(500), "every pixel is 500 ADU; not a real exposure"),
    Fault(
        "60% NaN",
        pixels(lambda d: np.where(np.arange(d.shape[1]) < 0.6 * d.shape[1], np.nan, d)),
        "6.% of the pixels are unusable",
    ),
    kept("a few of 1e30", pixels(lambda d: np.where(np.arange(d.shape[1]) == 50, 1e30, d))),
    Fault("too tall", pixels(lambda d: np.zeros((5000, 104), np.float32)), "104 x 5000 pixels"),
    Fault("tiny", pixels(lambda d: d[:40, :40]), "40 x 40 pixels; a ramp has 4096"),
    Fault("another window", pixels(lambda d: d[:120]), r"\d+ x 112 pixels, the others \d+ x"),
    Fault("a cube", pixels(lambda d: np.stack([d, d])), "no two-dimensional image in it; found 3"),
    Fault("a line", pixels(lambda d: d[0]), "no two-dimensional image in it; found 1"),
    Fault("no image", hdus(lambda _, h: [fits.PrimaryHDU()]), "no two-dimensional image"),
    Fault(
        "a table",
        hdus(lambda d, h: [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([])]),
        "no two-dimensional image",
    ),
    kept("16-bit integers", pixels(lambda d: d.astype(np.int16))),
    kept("unsigned 16-bit integers", pixels(lambda d: d.astype(np.uint16))),
    kept("32-bit integers", pixels(lambda d: d.astype(np.int32))),
    kept("doubles", pixels(lambda d: d.astype(np.float64))),
    Fault("8-bit integers that wrapped", pixels(lambda d: np.zeros(d.shape, np.uint8)), "no light"),
    kept("BSCALE and BZERO", scaled(BSCALE=0.5, BZERO=100.0)),
    Fault("BSCALE is 0", scaled(BSCALE=0.0, BZERO=100.0), "every pixel is 100 ADU"),
    Fault("BSCALE is text", scaled(BSCALE="half"), NOT_FITS),
    Fault("BZERO is NaN", all_of(scaled(BZERO=1.5), card("BZERO", "NaN")), ""),
    kept("BLANK", scaled(BLANK=-32768)),
]

FILES = [
    kept(
        "image in the first extension", hdus(lambda d, h: [fits.PrimaryHDU(), fits.ImageHDU(d, h)])
    ),
    kept(
        "image in an extension, header in the primary",
        hdus(lambda d, h: [fits.PrimaryHDU(None, h), fits.ImageHDU(d)]),
    ),
    kept("compressed under a plain name", in_tiles(compression_type="RICE_1", quantize_level=16)),
    Fault("compressed, with a torn tile", torn_tile, NOT_FITS),
    Fault(
        "compressed, cut short",
        all_of(in_tiles(), content(lambda raw: raw[:-6000])),
        "truncated, .* download it again|not readable as FITS",
    ),
    Fault("gzip under a plain name", content(gzip.compress), "compressed as a whole by gzip"),
    Fault("bzip2 under a plain name", content(bz2.compress), "compressed as a whole by bzip2"),
    Fault("cut in its pixels", content(lambda raw: raw[:-9000]), "truncated, .* download it again"),
    Fault("cut in its header", content(lambda raw: raw[:1000]), "header has no END"),
    kept("without its padding", content(lambda raw: raw.rstrip(b"\0"))),
    Fault("empty", content(lambda raw: b""), "empty"),
    Fault("END misspelt", content(no_end), "header has no END|" + NOT_FITS),
    Fault("a web page", content(lambda raw: b"<html>404</html>" * 500), "not a FITS file"),
    Fault("zeros", content(lambda raw: bytes(len(raw))), "not a FITS file"),
    Fault("random bytes", content(lambda raw: np.random.RandomState(1).bytes(len(raw))), NOT_FITS),
    Fault("NAXIS1 negative", card("NAXIS1", "-104"), NOT_FITS + "|x .* pixels; a ramp has 4096"),
    Fault(
        "NAXIS1 huge", card("NAXIS1", "1000000000000"), NOT_FITS + "|x .* pixels; a ramp has 4096"
    ),
    Fault("NAXIS1 is text", card("NAXIS1", "'wide'"), NOT_FITS),
    Fault("NAXIS2 missing", card("NAXIS2", None), NOT_FITS),
    Fault("NAXIS is 999", card("NAXIS", "999"), NOT_FITS + "|no two-dimensional image"),
    Fault("BITPIX is 7", card("BITPIX", "7"), NOT_FITS),
    Fault("BITPIX missing", card("BITPIX", None), NOT_FITS),
    Fault("SIMPLE missing", card("SIMPLE", None), "not a FITS file"),
    Fault("a folder of that name", a_folder, NOT_FITS),
    Fault(
        "a link to nothing",
        a_link_to_nothing,
        "not there",
    ),
]
FAULTS = [*HEADERS, *CLOCKS, *PIXELS, *FILES]


# ---------------------------------------------------------------- one at a time


@pytest.fixture
def run(tmp_path) -> Run:
    """Three good ramps of chip 1 in J, 600 s apart."""
    products = Products(tmp_path, "J")
    ramps = [RampId(serial, 1) for serial in SERIALS]
    products.ramps(1).mkdir()
    for k, ramp in enumerate(ramps):
        data = np.random.RandomState(k).normal(500, 20, SHAPE).astype(np.float32)
        begin = MJD + k * 600 / 86400
        header = ramp_header(**{"MJD-BEG": begin, "MJD-END": begin + 63 / 86400})
        header["DATE-BEG"] = Time(begin, format="mjd").isot
        fits.PrimaryHDU(data, header).writeto(products.ramp(ramp))
    flats = Flats(tmp_path / "flats", None)
    return Run(products, 1, load(), flats, lambda axis: None, map, no_progress, ramps)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_one_bad_frame_costs_at_most_one_frame(run, fault):
    ramp = run.ramps[SPOILED]
    fault.spoil(run.products.ramp(ramp))
    opened = frames.open_frames(run)
    names = [frame.name for frame in opened]
    if fault.lost:
        assert names == [str(run.ramps[0]), str(run.ramps[2])]
        assert list(run.verdicts) == [str(ramp)]
        verdict = run.verdicts[str(ramp)]
        assert (verdict.used, verdict.lost) == (False, True)
        assert verdict.reason.isprintable()
        assert re.search(fault.says, verdict.reason), verdict.reason
        assert_as_documented(fault, verdict.reason)
        assert run.notes == []
    else:
        assert sorted(names) == [str(one) for one in run.ramps]
        assert run.verdicts == {}
        assert (run.notes != []) == bool(fault.says)
        assert re.search(fault.says, " ".join(run.notes))
        assert_as_documented(fault, " ".join(run.notes))
        assert_as_good(next(frame for frame in opened if frame.name == str(ramp)), fault)


def assert_as_good(frame, fault: Fault) -> None:
    """The frame has the numbers of a good one, and a header that products can be made of."""
    info = frame.info
    assert (info.ra_deg, info.dec_deg) == (pytest.approx(150.0), pytest.approx(-20.0))
    assert (info.reads, info.exposure_s) == (22, pytest.approx(60.123))
    assert info.rotator_deg in (48.0, None)
    # A ramp lasts 63 s; 20 times that is what is believed of its end.
    assert 0 < (info.end_mjd - info.begin_mjd) * 86400 < 1300
    if fault not in CLOCKS and "MJD-BEG" not in fault.name:
        assert info.begin_mjd == pytest.approx(MJD + SPOILED * 600 / 86400)
    data, bad = frame.pixels.rows(0, frame.pixels.shape[0])
    # BSCALE 0.5 and BZERO 100 halve the level of 500; the noise of 20 leaves the median within 1.
    assert np.median(data[bad == 0]) == pytest.approx(350 if "BSCALE" in fault.name else 500, abs=2)
    with np.errstate(all="raise"):
        header = product_header(frame.header, frame.wcs, frame.pixels.shape)
    stack = Coadd(np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32), frame.wcs, 1, 0.0)
    combined = coadd_header(stack, [info], [frame.header])
    for made in (header, combined):
        for one in made.cards:
            one.verify("exception")
    assert combined["EXPTIME"] == pytest.approx(60.123)


def test_headers_of_kept_frames_can_be_written(run, tmp_path, require_program):
    fitsverify = require_program("fitsverify")
    out = []
    for k, fault in enumerate(one for one in HEADERS if not one.lost):
        path = tmp_path / f"{k}.fits"
        ramp = shutil.copy(run.products.ramp(run.ramps[0]), tmp_path / f"{run.ramps[0]}.ramp.fits")
        fault.spoil(ramp)
        frame_header, _ = frames.rampfile.open_ramp(ramp)
        write_image(path, np.zeros((8, 8), np.float32), product_header(frame_header, None, (8, 8)))
        out.append(path)
    done = subprocess.run(
        [fitsverify, "-q", *map(str, out)], capture_output=True, text=True, check=False
    )
    # CONTINUE is in the standard since its version 4; the program would have LONGSTRN with it.
    told = [line for line in done.stdout.splitlines() if "verification" in line]
    assert len(told) == len(out)
    assert not [line for line in told if " OK" not in line and " 0 errors" not in line]


def test_when_all_are_bad_the_chip_says_so(run):
    for ramp in run.ramps:
        run.products.ramp(ramp).write_bytes(b"")
    with pytest.raises(PhotometrusError, match="none of 3 ramps is usable"):
        frames.open_frames(run)
    assert all("(empty)" in verdict.reason for verdict in run.verdicts.values())


def test_a_file_that_shrinks_while_it_is_read_is_an_error_of_ours(run):
    path = run.products.ramp(run.ramps[0])
    _, raw = frames.rampfile.open_ramp(path)
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(PhotometrusError, match="rows 100 to 136 cannot be read"):
        raw.rows(100, 136)


# ---------------------------------------------------------------- all at once, the real command


def command(*arguments: str) -> subprocess.CompletedProcess:
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "photometrus", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="module")
def good_night(tmp_path_factory) -> tuple[Path, Path]:
    """A small night, and a folder with the five good ramps of its target on chip 1."""
    night = tmp_path_factory.mktemp("bad") / "night"
    config = SimulateConfig(
        size=400, chips=(1,), ramps=5, seed=3, density="bulge", bad_frame=False, flats=2,
        log_dirt=False,
    )  # fmt: skip
    simulate_night(night, config)
    ramps = night.parent / "ramps"
    ramps.mkdir()
    for path in night.rglob("*.ramp"):
        if fits.getheader(path)["OBJTYPE"] != "FLAT":
            shutil.copy(path, ramps / path.name.replace(".fits.ramp", ".ramp.fits"))
    return night, ramps


def reduced(parent: Path, night: Path) -> subprocess.CompletedProcess:
    return command(
        *("stack", "-parent", str(parent), "-band", "J", "-chip", "1", "-keep", "final"),
        "-no_plots",
        *("-catalog", str(night / "refcat_2mass.fits"), "-flat_dir", str(parent / "flats")),
    )


HARMLESS = ("FRTIME is NaN", "TELESCOP is a number", "OBJNAME with an escape", "DITHRAD is ?",
            "CHIP twice, the same")  # fmt: skip
"""What the good ramps themselves bear: none of them may be lost."""


def test_the_real_command_among_bad_frames(good_night, tmp_path):
    night, ramps = good_night
    shutil.copytree(ramps, tmp_path / "good" / "C1")
    settings = {
        "catalog": str(night / "refcat_2mass.fits"), "flat_dir": str(tmp_path / "good" / "flats"),
    }  # fmt: skip
    config = load(None, {"input": settings, "run": {"keep": "final", "pages": False}})
    assert reduce_folder(tmp_path / "good", "J", [1], config).complete
    folder = tmp_path / "bad" / "C1"
    shutil.copytree(ramps, folder)
    by_name = {fault.name: fault for fault in FAULTS}
    good = sorted(folder.iterdir())
    strangers = {}
    for k, fault in enumerate(one for one in FAULTS if one.lost and "copy" not in one.name):
        ramp = RampId(int(good[0].name[:8]) - 1 - k, 1)
        path = folder / f"{ramp}.ramp.fits"
        shutil.copy(sorted(ramps.iterdir())[k % 5], path)
        hurt(path, fault, k)
        strangers[str(ramp)] = fault
    for path, name in zip(good, HARMLESS, strict=True):
        by_name[name].spoil(path)
    done = reduced(tmp_path / "bad", night)
    assert done.returncode == 3, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert (done.stdout + done.stderr).replace("\n", "").isprintable()
    journal = (tmp_path / "bad" / "photometrus.log").read_text()
    record = json.loads((tmp_path / "bad" / "run.json").read_text())
    (chip,) = record["chips"].values()
    lost = {frame["frame"]: frame["reason"] for frame in chip["frames"] if frame["lost"]}
    assert set(lost) == set(strangers)
    for name, reason in lost.items():
        assert re.search(strangers[name].says, reason), f"{strangers[name].name}: {reason}"
        assert f"{name}: {reason}" in journal  # the table has successive ones in a line
    assert chip["error"] == ""
    others = [frame for frame in chip["frames"] if not frame["lost"]]
    assert [frame["frame"] for frame in others] == [path.name[:10] for path in good]
    assert sum(frame["used"] for frame in others) > 2


def test_a_stack_is_that_of_its_good_frames(good_night, tmp_path):
    """Whatever lies beside them; each in a process of its own, so that both begin alike."""
    night, ramps = good_night
    good, among = tmp_path / "good", tmp_path / "among"
    for folder in (good, among):
        shutil.copytree(ramps, folder / "C1")
    # Between the good ones by number, so that products have the same names.
    names = sorted(path.name for path in ramps.iterdir())
    free = [RampId(int(name[:8]) + k, 1) for name in names[:-1] for k in range(1, 7)]
    lost = [fault for fault in FAULTS if fault.lost and "copy" not in fault.name]
    bad = dict(zip(free, lost[:: len(lost) // len(free)], strict=False))
    for k, (ramp, fault) in enumerate(bad.items()):
        path = among / "C1" / f"{ramp}.ramp.fits"
        shutil.copy(ramps / names[k % 5], path)
        hurt(path, fault, k)
    done = reduced(good, night)
    assert done.returncode == 0, done.stderr[-2000:]
    done = reduced(among, night)
    assert done.returncode == 3, done.stderr[-2000:]
    record = json.loads((among / "run.json").read_text())
    assert sum(frame["lost"] for frame in record["chips"]["C1"]["frames"]) == len(bad)
    made = [path.relative_to(good) for path in sorted(good.glob("s*/*"))]
    assert len(made) == 5  # sky, stack, weight, flags, WCS
    assert [path.relative_to(among) for path in sorted(among.glob("s*/*"))] == made
    differ = [
        path.name for path in made if (good / path).read_bytes() != (among / path).read_bytes()
    ]
    assert differ == []


def hurt(path: Path, fault: Fault, k: int) -> None:
    """Spoil a copy of a good ramp; what is a copy no more has noise of its own."""
    with fits.open(path, mode="update") as opened:
        opened[0].data += np.float32(1 + k)
        opened[0].header["MJD-BEG"] += (1 + k) * 1e-6
    fault.spoil(path)


def documented() -> dict[str, list[str]]:
    """The rows of docs/faults.md by fault: what is said, what comes of it, the test."""
    found = {}
    for line in DOCS.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4:
            found[cells[0]] = cells[1:]
    return found


def test_every_fault_is_documented():
    rows = documented()
    assert [fault.name for fault in FAULTS if fault.name not in rows] == []
    wrong = [f.name for f in FAULTS if rows[f.name][1].startswith("the frame is lost") != f.lost]
    assert wrong == []


def assert_as_documented(fault: Fault, said: str) -> None:
    """What was said is what docs/faults.md quotes; ``...`` stands for anything."""
    told = documented()[fault.name][0]
    quoted = re.findall(r"`` (.+?) ``|`([^`]+)`", told)
    assert bool(quoted) == bool(said), told
    for one in quoted:
        for part in filter(None, map(str.strip, (one[0] or one[1]).split("..."))):
            assert part in said, f"{fault.name}: {part!r} not in {said!r}"
