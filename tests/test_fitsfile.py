"""FITS in and out: broken ramps, dirty headers, products that fitsverify accepts."""

import gzip
import subprocess
import threading

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.verify import VerifyError
from astropy.wcs import WCS

from photometrus.errors import FrameError, MissingInput, PhotometrusError
from photometrus.frame import Bad, Coadd
from photometrus.instrument import CHIPS
from photometrus.io.fitsfile import (
    clean_header,
    coadd_header,
    header_wcs,
    product_header,
    read_flags,
    read_image,
    write_compressed,
    write_flags,
    write_header,
    write_image,
    write_with_flags,
)
from photometrus.io.rampfile import frame_info, open_ramp
from photometrus.io.whole import whole
from photometrus.wcs import pixel_to_sky, pointing_wcs, sip_cards
from synth import ramp_header, untouched

SHAPE = (136, 104)
NAME = "01599131C1.ramp.fits"


@pytest.fixture
def image():
    out = np.random.RandomState(0).normal(500, 20, SHAPE).astype(np.float32)
    out[10, 20] = np.nan
    out[11, 21] = 65535
    return out


@pytest.fixture
def ramp(tmp_path, image):
    path = tmp_path / NAME
    fits.PrimaryHDU(image, ramp_header()).writeto(path)
    return path


def verified(program, *paths):
    """Fails when fitsverify finds an error."""
    for path in paths:
        done = subprocess.run(
            [program, "-q", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
        assert "OK" in done.stdout, done.stdout


# ------------------------------------------------------------ ramps


def test_rows_are_those_of_the_file(ramp, image):
    header, raw = open_ramp(ramp)
    assert raw.shape == SHAPE
    assert header["OBJNAME"] == "field1111"
    rows = raw.rows(7, 30)
    np.testing.assert_array_equal(rows, image[7:30])
    assert rows.dtype == np.dtype("=f4")
    assert rows.flags.c_contiguous
    assert rows.flags.writeable
    np.testing.assert_array_equal(raw.rows(0, SHAPE[0]), image)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "f8"])
def test_other_types_of_pixels_are_read_too(tmp_path, dtype):
    values = np.random.RandomState(1).randint(0, 200, SHAPE).astype(dtype)
    if dtype == "u2":
        values[3, 4] = 65535
    path = tmp_path / NAME
    fits.PrimaryHDU(values, ramp_header()).writeto(path)
    _, raw = open_ramp(path)
    rows = raw.rows(2, 9)
    assert rows.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(rows, values[2:9])


def test_scaled_and_blank_pixels(tmp_path):
    values = np.arange(SHAPE[0] * SHAPE[1], dtype=np.int16).reshape(SHAPE)
    values[5, 6] = -32768
    path = tmp_path / NAME
    hdu = fits.PrimaryHDU(values, ramp_header(BLANK=-32768))
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.5, 100.0
    with path.open("wb") as file:  # as it stands: astropy would scale on writing
        file.write(hdu.header.tostring().encode())
        file.write(values.astype(">i2").tobytes())
        file.write(bytes(-file.tell() % 2880))
    _, raw = open_ramp(path)
    rows = raw.rows(4, 7)
    assert np.isnan(rows[1, 6])
    np.testing.assert_allclose(rows[0], values[4] * 0.5 + 100)


@pytest.mark.parametrize("kind", ["extension", "second", "rice", "gzip", "compressed u2"])
def test_images_in_extensions_and_compressed(tmp_path, image, kind):
    image = np.nan_to_num(image, nan=1.0)
    if kind == "extension":
        hdu = fits.ImageHDU(image, ramp_header())
    elif kind == "second":
        hdu = fits.ImageHDU(image, ramp_header(EXTNAME="SLOPE"))
    elif kind == "rice":
        hdu = fits.CompImageHDU(image, ramp_header(), compression_type="RICE_1", quantize_level=16)
    elif kind == "gzip":
        hdu = fits.CompImageHDU(image, ramp_header(), compression_type="GZIP_2", quantize_level=0)
    else:
        image = image.astype("u2")
        hdu = fits.CompImageHDU(image, ramp_header())
    hdus = [fits.PrimaryHDU(), hdu]
    if kind == "second":
        hdus.insert(1, fits.BinTableHDU.from_columns([fits.Column("A", "J", array=[1, 2])]))
    path = tmp_path / NAME
    fits.HDUList(hdus).writeto(path)
    header, raw = open_ramp(path)
    assert header["CHIP"] == 1
    rows = raw.rows(20, 60)
    # Rice: steps of 1/16 of the noise of 20.
    tolerance = 20 / 16 if kind == "rice" else 0
    assert np.abs(rows - image[20:60]).max() <= tolerance
    assert rows.dtype == np.dtype("=f4")
    assert frame_info(header, path).band == "J"


@pytest.mark.parametrize("part", ["pixels", "header", "half a header", "nothing"])
@pytest.mark.parametrize("dtype", ["f4", "i2"])
def test_truncated_ramps_cost_one_frame(tmp_path, image, part, dtype):
    path = tmp_path / NAME
    fits.PrimaryHDU(np.nan_to_num(image).astype(dtype), ramp_header()).writeto(path)
    whole_file = path.read_bytes()
    pixels = SHAPE[0] * SHAPE[1] * np.dtype(dtype).itemsize
    start = len(whole_file) // 2880 * 2880 - (-(-pixels // 2880) * 2880)
    size = {"pixels": start + pixels - 1000, "header": start, "half a header": 1000, "nothing": 0}
    path.write_bytes(whole_file[: size[part]])
    with pytest.raises(FrameError, match=NAME):
        open_ramp(path)


def test_a_file_without_its_padding_is_whole(ramp, image):
    pixels = SHAPE[0] * SHAPE[1] * 4
    content = ramp.read_bytes()
    header_end = len(content) - (-(-pixels // 2880) * 2880)
    ramp.write_bytes(content[: header_end + pixels])
    _, raw = open_ramp(ramp)
    np.testing.assert_array_equal(raw.rows(0, SHAPE[0]), image)


def test_a_truncated_compressed_ramp_costs_one_frame(tmp_path, image):
    path = tmp_path / NAME
    hdu = fits.CompImageHDU(np.nan_to_num(image), ramp_header())
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    path.write_bytes(path.read_bytes()[:-6000])
    with pytest.raises(FrameError, match="truncated"):
        open_ramp(path)


@pytest.mark.parametrize(
    "content",
    [b"hello", b"<html>404 not found</html>" * 500, b"\0" * 10000, gzip.compress(b"x" * 9999)],
    ids=["text", "page", "zeros", "gzip"],
)
def test_what_is_no_fits_file_costs_one_frame(tmp_path, content):
    path = tmp_path / NAME
    path.write_bytes(content)
    with pytest.raises(FrameError):
        open_ramp(path)


def test_what_is_no_ramp_costs_one_frame(tmp_path):
    path = tmp_path / NAME
    for data in (None, np.zeros((3, 70, 70), np.float32), np.zeros((20, 200), np.float32),
                 np.zeros((64, 5000), np.float32)):  # fmt: skip
        fits.PrimaryHDU(data).writeto(path, overwrite=True)
        with pytest.raises(FrameError, match=NAME):
            open_ramp(path)
    with pytest.raises(FrameError):
        open_ramp(tmp_path)
    with pytest.raises(MissingInput, match="not there"):
        open_ramp(tmp_path / "00000001C1.ramp.fits")


# ------------------------------------------------------------ what a header says


def info_of(tmp_path, name=NAME, **changes):
    return frame_info(ramp_header(**changes), tmp_path / name)


def test_a_good_header(tmp_path):
    info = info_of(tmp_path)
    assert (str(info.ramp), info.band, info.reads) == ("01599131C1", "J", 22)
    assert (info.ra_deg, info.dec_deg, info.rotator_deg) == (150.0, -20.0, 48.0)
    assert (info.exposure_s, info.dither_radius_arcsec) == (60.123, 20.0)
    assert info.middle_mjd == pytest.approx(60467.9 + 11 * 2.863 / 86400, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (48.0, 48.0), (172800.0, 48.0), (172800, 48.0), ("172800", 48.0), (-172800.0, -48.0),
        ("48.5", 48.5), (0.0, 0.0), (360, 360.0), (360.5, 360.5 / 3600),
        ("9223372036854775807:9223372036854775807:000NaN", None), (None, None), ("", None),
        ("nan", None), (1e300, None), (9223372036854775807, None), ("48:00:00", None),
        (True, 1.0),
    ],
)  # fmt: skip
def test_rotators_of_all_kinds(tmp_path, value, want):
    assert info_of(tmp_path, ROTOFF=value).rotator_deg == want


@pytest.mark.parametrize(
    ("dec", "want"),
    [("-00:31:12", -0.52), ("-00:00:00.36", -0.0001), ("00:31:12", 0.52), ("-89:59:59", -89.99972),
     ("+12:30:00", 12.5), ("-0 31 12", -0.52)],
)  # fmt: skip
def test_declinations_near_zero_keep_their_sign(tmp_path, dec, want):
    info = info_of(tmp_path, DEC=dec, **{"DEC-D": None, "RA-D": None})
    assert info.dec_deg == pytest.approx(want, abs=1e-5)
    assert info.ra_deg == pytest.approx(150.0)


def test_degrees_come_before_strings_and_wrap(tmp_path):
    info = info_of(tmp_path, **{"RA-D": -0.5, "DEC-D": -0.25}, RA="junk", DEC="junk")
    assert (info.ra_deg, info.dec_deg) == (359.5, -0.25)
    info = info_of(tmp_path, **{"RA-D": "nan", "DEC-D": "nan"})
    assert (info.ra_deg, info.dec_deg) == (pytest.approx(150.0), pytest.approx(-20.0))


@pytest.mark.parametrize(
    "changes",
    [
        {"RA": None, "RA-D": None}, {"DEC": "junk", "DEC-D": None}, {"DEC-D": 91.0},
        {"RA-D": 5000.0}, {"FILTER1": None}, {"FILTER2": "K"}, {"FILTER1": "Dark"},
        {"EXPTIMEE": None, "NFRAMES": None}, {"EXPTIMEE": -1.0}, {"EXPTIMEE": "junk", "NFRAMES": 1},
        {"MJD-BEG": None, "DATE-BEG": None}, {"MJD-BEG": 0.0}, {"CHIP": 3},
        {"MJD-BEG": "junk", "DATE-BEG": "junk"},
    ],
)  # fmt: skip
def test_what_cannot_be_done_without_costs_the_frame(tmp_path, changes):
    with pytest.raises(FrameError, match="01599131C1"):
        info_of(tmp_path, **changes)


@pytest.mark.parametrize(
    ("changes", "attribute", "want"),
    [
        ({"EXPTIMEE": None}, "exposure_s", 21 * 2.863),
        ({"EXPTIMEE": "nan"}, "exposure_s", 21 * 2.863),
        ({"NFRAMES": None}, "reads", 22),
        ({"CHIP": None}, "ramp", None),
        ({"MJD-BEG": None}, "begin_mjd", 60467.9),
        ({"MJD-END": None}, "end_mjd", 60467.9 + 22 * 2.863 / 86400),
        ({"MJD-END": 60400.0}, "end_mjd", 60467.9 + 22 * 2.863 / 86400),
        ({"MJD-END": 60468.9}, "end_mjd", 60467.9 + 22 * 2.863 / 86400),
        ({"FRTIME": "junk"}, "exposure_s", 60.123),
        ({"DITHRAD": None}, "dither_radius_arcsec", 0.0),
        ({"FILTER1": "Z ", "FILTER2": "Open"}, "band", "Z"),
    ],
)
def test_what_can_be_replaced_is(tmp_path, changes, attribute, want):
    got = getattr(info_of(tmp_path, **changes), attribute)
    if want is not None:
        assert got == (want if isinstance(want, str) else pytest.approx(want, abs=1e-6))


ILLEGAL = [
    b"FILTER1 = Open without quotes",
    b"FILTER2 = 'J\x01'",
    b"RA-D    = NaN",
    b"EXPTIMEE= 1,5",
    b"MJD-BEG = 60467:9",
    b"DATE-BEG= 2024/06/06",
    b"DATE-BEG= '2024-13-45T99:00:00'",
    b"DATE-BEG= 'yesterday'",
    b"TELESCOP= 1.8",
    b"BLOCKID = 1E999",
    b"ROTOFF  = 9223372036854775807:9223372036854775807:000NaN",
    b"CHIP    = C1",
    b"FRTIME  = NaN",
    b"DITHRAD = ?",
    b"OBJNAME = 'caf\xe9'",
    b"OBSERVER= 'no end of the string",
]


@pytest.mark.parametrize("card", ILLEGAL, ids=lambda c: c[:8].decode().strip())
def test_illegal_cards_cost_at_most_the_frame(tmp_path, require_program, card):
    path = tmp_path / NAME
    fits.PrimaryHDU(np.zeros(SHAPE, np.float32), ramp_header()).writeto(path)
    content = path.read_bytes()
    at = content.index(card[:8])
    path.write_bytes(content[:at] + card.ljust(80) + content[at + 80 :])
    header, _ = open_ramp(path)
    try:
        frame_info(header, path)
    except FrameError as error:
        assert "01599131C1" in str(error)  # noqa: PT017 - either of two outcomes is right
    cleaned = clean_header(header)
    assert cleaned["LATITUDE"] == -32.3783
    out = tmp_path / "product.fits"
    write_image(out, np.zeros(SHAPE, np.float32), product_header(header, None, SHAPE))
    verified(require_program("fitsverify"), out)


# ------------------------------------------------------------ headers of products


def test_cleaning_keeps_what_is_right_and_drops_structure_and_wcs():
    header = fits.PrimaryHDU(np.zeros(SHAPE, np.float32), ramp_header()).header
    header["CRPIX1"], header["CTYPE1"], header["PV1_1"], header["CD1_1"] = 1.0, "RA---TAN", 1.0, 1.0
    header["CHECKSUM"], header["CHECKVER"], header["EXTNAME"] = "abc", "def", "SLOPE"
    header["BZERO"], header["NAXIS3"] = 5.0, 7
    header["HISTORY"] = "made yesterday"
    header["COMMENT"] = "nice"
    header["HIERARCH POLY_SKY_DEGREE"] = 3
    before = header.tostring()
    cleaned = clean_header(header)
    assert header.tostring() == before
    for key in ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "CRPIX1", "CTYPE1", "PV1_1", "CD1_1",
                "CHECKSUM", "EXTNAME", "BZERO", "NAXIS3"):  # fmt: skip
        assert key not in cleaned, key
    assert cleaned["OBSERVER"] == "somebody"
    assert cleaned["HISTORY"][0] == "made yesterday"
    assert cleaned["COMMENT"][0] == "nice"
    assert cleaned["POLY_SKY_DEGREE"] == 3
    assert cleaned.cards["BLOCKID"].value == 7


def test_products_hold_the_wcs_and_their_maker(tmp_path, require_program):
    wcs = pointing_wcs(1, (150.0, -20.0), 48.0)
    header = product_header(ramp_header(), wcs, SHAPE)
    path = tmp_path / "deep" / "er" / "01599131C1.flat.fits"
    data = np.random.RandomState(2).normal(0, 1, SHAPE).astype(np.float32)
    data[3, 4] = np.nan
    with untouched(data):
        write_image(path, data, header)
    back, head = read_image(path)
    np.testing.assert_array_equal(back, data)
    assert back.dtype == np.dtype("=f4")
    assert head["BUNIT"] == "adu"
    assert head["PIPELINE"].startswith("photometrus ")
    x, y = np.array([0.0, 4000.0]), np.array([17.0, 4087.0])
    np.testing.assert_allclose(
        pixel_to_sky(header_wcs(head), x, y), pixel_to_sky(wcs, x, y), atol=1e-12
    )
    verified(require_program("fitsverify"), path)


def test_an_image_with_flags(tmp_path, require_program):
    path = tmp_path / "mflat.J.20240606.C1.fits"
    data = np.ones(SHAPE, np.float32)
    bad = np.eye(*SHAPE, dtype=np.uint8)
    write_with_flags(path, data, bad, product_header(ramp_header(), None, SHAPE))
    np.testing.assert_array_equal(read_flags(path), bad)
    np.testing.assert_array_equal(read_image(path)[0], data)
    verified(require_program("fitsverify"), path)
    plain = tmp_path / "plain.fits"
    write_image(plain, data, fits.Header())
    assert read_flags(plain) is None


def stacked():
    rs = np.random.RandomState(3)
    data = rs.normal(0, 0.5, (300, 256)).astype(np.float32)
    data[140:150, 100:110] += 4000
    data[:20] = 0
    data[20:90, 40:60] = 0
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = (150.0, -20.0), (128.5, 150.5)
    wcs.wcs.cd = np.array([[-0.497, 0], [0, 0.497]]) / 3600
    measures = {"SEEING": (1.23456789, "[arcsec]"), "ASTRRMS": (float("nan"), "unknown")}
    return Coadd(data, np.ones_like(data), wcs, 2, 0.01, measures)


def frames_of_stack(tmp_path):
    headers = [ramp_header(), ramp_header(**{"MJD-BEG": 60467.91, "MJD-END": None})]
    names = (NAME, "01599153C1.ramp.fits")
    return [frame_info(h, tmp_path / n) for h, n in zip(headers, names, strict=True)], headers


def test_the_header_of_a_stack(tmp_path):
    infos, headers = frames_of_stack(tmp_path)
    header = coadd_header(stacked(), infos, headers)
    for key, value in (("OBJECT", "field1111"), ("FILTER1", "Open"), ("FILTER2", "J"), ("CHIP", 1),
                       ("OBSERVER", "somebody"), ("DITHTYP", "Random"), ("DITHRAD", 20.0),
                       ("NCOMBINE", 2), ("TIMESYS", "UTC")):  # fmt: skip
        assert header[key] == value, key
    assert header["EXPTIME"] == pytest.approx(2 * 60.123)
    assert header["MJD-BEG"] == 60467.9
    length = 22 * 2.863 / 86400
    assert header["MJD-END"] == pytest.approx(60467.91 + length, abs=1e-9)
    # Equal exposures: the mean of the two middles. One ms is 1e-8 days.
    assert header["MJD-AVG"] == pytest.approx(60467.905 + length / 2, abs=1e-8)
    assert header["DATE-OBS"] == "2024-06-06T21:36:00.000"
    assert header["EXPMID"] == header["DATE-AVG"]
    assert header["GAIN"] == pytest.approx(1.8 * 42)
    assert [header["FRAM0001"], header["FRAM0002"]] == ["01599131C1", "01599153C1"]
    assert header["SEEING"] == 1.234568
    assert "ASTRRMS" not in header


@pytest.mark.parametrize("changes", [{"FRTIME": "NaN"}, {"OBJNAME": None}, {"FRTIME": None}])
def test_the_header_of_a_stack_survives_a_poor_first_frame(tmp_path, require_program, changes):
    infos, headers = frames_of_stack(tmp_path)
    headers[0] = ramp_header(**changes)
    path = tmp_path / "coadd.fits"
    write_image(path, stacked().data, coadd_header(stacked(), infos, headers))
    verified(require_program("fitsverify"), path)


def test_a_compressed_stack_is_the_stack(tmp_path, require_program):
    coadd = stacked()
    infos, headers = frames_of_stack(tmp_path)
    header = coadd_header(coadd, infos, headers)
    path, twin = tmp_path / "coadd.fits.fz", tmp_path / "again.fits.fz"
    with untouched(coadd.data):
        write_compressed(path, coadd.data, header, 16.0)
        write_compressed(twin, coadd.data, header, 16.0)
    verified(require_program("fitsverify"), path)
    data, head = read_image(path)
    assert data.shape == coadd.data.shape
    assert head["OBJECT"] == "field1111"
    off = data - coadd.data
    # A step is 1/16 of the noise of a tile, 0.5 / 16 = 0.031, which the star in a tile may make a
    # little larger; the error is at most half of it and uniform.
    assert np.abs(off).max() < 0.6 * 0.5 / 16 * 1.3
    assert off.std() < 0.5 / 16 / np.sqrt(12) * 1.3
    # Not a shift of the sky: 70000 pixels of 0.009.
    assert abs(off.mean()) < 5 * 0.009 / np.sqrt(7e4)
    assert (data[coadd.data == 0] == 0).all()
    np.testing.assert_allclose(
        pixel_to_sky(header_wcs(head), 10.0, 20.0), pixel_to_sky(coadd.wcs, 10.0, 20.0), atol=1e-12
    )
    # The same pixels give the same file, whatever the clock says.
    assert path.read_bytes() == twin.read_bytes()


def test_flags_come_back_with_the_names_of_their_bits(tmp_path, require_program):
    rs = np.random.RandomState(5)
    flags = np.zeros((150, 130), np.uint8)
    flags[rs.uniform(size=flags.shape) < 0.02] = Bad.COSMIC
    flags[40:50, 60:80] |= np.uint8(Bad.SATURATED | Bad.PERSISTENCE)
    flags[:, :7] = Bad.EDGE
    flags[100:110] = rs.randint(0, 256, (10, 130))  # any byte
    wcs = pointing_wcs(1, (150.0, -20.0), 48.0)
    header = product_header(ramp_header(), wcs, flags.shape)
    path, twin = tmp_path / "a.flags.fits.fz", tmp_path / "b.flags.fits.fz"
    before = header.tostring()
    with untouched(flags):
        write_flags(path, flags, header)
        write_flags(twin, flags, header)
    assert header.tostring() == before
    with fits.open(path) as hdus:
        assert hdus[1].data.dtype == np.uint8
        np.testing.assert_array_equal(hdus[1].data, flags)
        told = {int(key[4:]): value for key, value in hdus[1].header["FLAG*"].items()
                if key[4:].isdigit()}  # fmt: skip
    assert told == {flag.value: flag.name for flag in Bad}
    np.testing.assert_allclose(
        pixel_to_sky(header_wcs(fits.getheader(path, 1)), 10.0, 20.0),
        pixel_to_sky(wcs, 10.0, 20.0),
        atol=1e-12,
    )
    verified(require_program("fitsverify"), path)
    assert path.read_bytes() == twin.read_bytes()
    assert path.stat().st_size < 0.6 * flags.size + 12000  # headers, and ten rows of noise


def test_the_clock_is_not_in_a_compressed_file(tmp_path, require_program):
    # Constant tiles go through gzip, whose streams carry a time.
    data = np.zeros((128, 100), np.float32)
    data[70:] = np.pi
    data[100:] = np.random.RandomState(4).normal(0, 1, (28, 100))
    path = tmp_path / "a.fits.fz"
    write_compressed(path, data, fits.Header(), 16.0)
    with fits.open(path, disable_image_compression=True) as hdus:
        names = hdus[1].columns.names
        streams = 0
        if "GZIP_COMPRESSED_DATA" in names:
            for row in hdus[1].data["GZIP_COMPRESSED_DATA"]:
                stream = bytes(row)
                if stream[:2] == b"\x1f\x8b":
                    streams += 1
                    assert stream[4:8] == bytes(4)
    assert streams > 0
    back, _ = read_image(path)
    np.testing.assert_array_equal(back[:64], 0)
    verified(require_program("fitsverify"), path)


def test_a_header_only_file(tmp_path, require_program):
    path = tmp_path / "coadd.wcs"
    wcs = pointing_wcs(1, (0.01, -0.5), 48.0)
    write_header(path, sip_cards(wcs, (4088, 4088)))
    with fits.open(path) as hdus:
        assert hdus[0].data is None
        back = header_wcs(hdus[0].header)
    np.testing.assert_allclose(
        pixel_to_sky(back, 100.0, 3000.0), pixel_to_sky(wcs, 100.0, 3000.0), atol=1e-12
    )
    verified(require_program("fitsverify"), path)


# ------------------------------------------------------------ images, and whole files


def test_images_that_cannot_be_read_say_so(tmp_path):
    with pytest.raises(MissingInput, match="not there"):
        read_image(tmp_path / "none.fits")
    path = tmp_path / "junk.fits"
    path.write_bytes(b"no FITS")
    with pytest.raises(MissingInput, match=r"junk\.fits"):
        read_image(path)
    fits.PrimaryHDU().writeto(path, overwrite=True)
    with pytest.raises(MissingInput, match="no two-dimensional image"):
        read_image(path)
    fits.PrimaryHDU(np.zeros((100, 100), np.float32)).writeto(path, overwrite=True)
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(MissingInput):
        read_image(path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "sub" / "product.fits"
    with whole(path) as part:
        assert part.parent == path.parent
        part.write_bytes(b"old")
        assert not path.exists()
    assert path.read_bytes() == b"old"
    with pytest.raises(VerifyError), whole(path) as part:
        part.write_bytes(b"half")
        raise VerifyError("in the middle")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["product.fits"]
    with pytest.raises(PhotometrusError, match="product"), whole(path) as part:
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["product.fits"]


def test_a_bad_header_leaves_no_file(tmp_path):
    path = tmp_path / "x.fits"
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)):
        write_image(path, np.array(["text"]), fits.Header())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PhotometrusError, match="cannot be written"):
        write_image(tmp_path / "file" / "x.fits", np.zeros((2, 2), np.float32), fits.Header())


def test_the_instrument_has_four_chips():
    assert sorted(CHIPS) == [1, 2, 3, 4]


def test_an_image_can_be_read_while_it_is_written(tmp_path):
    data = np.arange(1 << 22, dtype=np.float32).reshape(2048, 2048)
    before, seen, done = data[::64, ::64].copy(), [], threading.Event()

    def look():
        while not done.is_set():
            seen.append(np.array_equal(data[::64, ::64], before))

    reader = threading.Thread(target=look)
    reader.start()
    for k in range(3):
        write_image(tmp_path / f"{k}.fits", data, fits.Header())
    done.set()
    reader.join()
    assert seen
    assert all(seen)
