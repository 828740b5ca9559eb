"""What benchmarks/fuzz.py found, one small input each: read, or an error of ours says why not.

Some of them kept a library busy for ever, or took all memory: hence the short time limit.
"""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from photometrus.cli.times import moment
from photometrus.errors import PhotometrusError
from photometrus.io import catalogs, fz, ldac, stackfile
from photometrus.wcs import pointing_wcs, sip_cards, tpv_cards
from synth import ramp_header
from test_bad_frames import card

AXIS = (150.0, -20.0)
pytestmark = pytest.mark.timeout(60)


def source_list(path):
    """A small FITS_LDAC file: its header's table comes first."""
    wcs = tpv_cards(pointing_wcs(1, AXIS, 48.0))
    x = np.linspace(1, 90, 20)
    header = fits.Header([("NAXIS1", 96), ("NAXIS2", 96), *wcs.cards])
    ldac.write_ldac(path, header, Table({"x": x, "y": x[::-1], "flux": x}))


def catalogue(path):
    """Stars in a FITS table, with a column of text."""
    x = np.linspace(-0.1, 0.1, 20)
    columns = {"RAJ2000": AXIS[0] + x, "DEJ2000": AXIS[1] + x, "Jmag": 15 + x, "Qfl": ["AAA"] * 20}
    Table(columns).write(path, format="fits")


def stack(path, **changes):
    """A small stack with TAN-SIP."""
    header = sip_cards(pointing_wcs(1, AXIS, 48.0))
    header.update(changes)
    fits.PrimaryHDU(np.ones((96, 96), np.float32), header).writeto(path)


def half_a_matrix(path):
    stack(path, CD1_2=0.0)


def packed(path):
    """A tile-compressed ramp, as the archive has them."""
    data = np.random.RandomState(0).normal(500, 20, (136, 104)).astype(np.float32)
    hdu = fits.CompImageHDU(data, ramp_header(), quantize_level=16)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)


def unpack(path):
    fz.unpack(path, path.with_suffix(".plain"))


def reference(path):
    catalogs.reference(path, AXIS, 1.0, "J")


def calibrators(path):
    catalogs.calibrators(path, AXIS, 1.0, "J")


FOUND = [
    (
        "source list, GCOUNT -1",
        source_list,
        "GCOUNT",
        "-1",
        ldac.read_ldac,
        "GCOUNT -1 in a header",
    ),
    ("source list, PCOUNT missing", source_list, "PCOUNT", None, ldac.read_ldac, "not readable as"),
    ("source list, TDIM1 junk", source_list, "TDIM1", "'(80,", ldac.read_ldac, "not readable as"),
    ("catalogue, TFORM2 complex", catalogue, "TFORM2", "(1,2)", reference, "not readable as"),
    ("catalogue, TTYPE2 unreadable", catalogue, "TTYPE2", "'DEJ", reference, "not readable as"),
    ("catalogue, TFORM2 is T", catalogue, "TFORM2", "T", calibrators, "not readable as"),
    ("download, TFIELDS huge", packed, "TFIELDS", "9" * 20, unpack, f"TFIELDS {'9' * 20} in a hea"),
    ("download, ZNAXIS huge", packed, "ZNAXIS", "9" * 20, unpack, "in a header, at most 999"),
    ("download, a NUL in a card", packed, "OBSERVER", b"'\x00'", unpack, ""),
    ("stack, NAXIS huge", stack, "NAXIS", "9" * 20, stackfile.read_stack, "at most 999"),
    ("stack, NAXIS2 missing", stack, "NAXIS2", None, stackfile.read_stack, "not readable as FITS"),
    ("stack, BP_ORDER 4096", stack, "BP_ORDER", "4096", stackfile.read_stack, "BP_ORDER 4096, at"),
    ("stack, B_ORDER missing", stack, "B_ORDER", None, stackfile.read_stack, "readable as a WCS"),
    ("stack, no inverse", half_a_matrix, "CD2_2", "0.0", stackfile.read_stack, "readable as a WCS"),
    ("stack, CTYPE1 missing", stack, "CTYPE1", None, stackfile.read_stack, "WCS"),
    ("stack, A_2_2 is text", stack, "A_2_2", "'Open'", stackfile.read_stack, "readable as a WCS"),
    ("stack, CRPIX1 a NUL", stack, "CRPIX1", b"\x00", stackfile.read_stack, "readable as a WCS"),
]
IN_FIRST = (stack, half_a_matrix)
"""Their keywords are in the first header; the others' in the second, behind one block."""


@pytest.mark.parametrize("row", FOUND, ids=[row[0].replace(" ", "-") for row in FOUND])
def test_what_the_fuzzer_found_is_read_or_told(tmp_path, row):
    _, make, key, value, read, says = row
    path = tmp_path / ("coadd.fits" if make is not source_list else "x.cat")
    make(path)
    raw = path.read_bytes()
    head = b"" if make in IN_FIRST else raw[:2880]
    path.write_bytes(raw[len(head) :])
    card(key, value)(path)
    path.write_bytes(head + path.read_bytes())
    if not says:
        read(path)
        return
    with pytest.raises(PhotometrusError) as error:
        read(path)
    assert says in str(error.value)


def test_letters_beyond_ascii_in_a_catalogue_harm_nothing(tmp_path):
    path = tmp_path / "stars.fits"
    catalogue(path)
    path.write_bytes(path.read_bytes().replace(b"AAA", b"A\x89A", 1))
    calibrators(path)
    assert len(catalogs.calibrators(path, AXIS, 1.0, "J")) == 20


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_moments_at_the_ends_of_the_calendar(text):
    with pytest.raises(ValueError, match="between 1968 and 2132"):
        moment(text)
