"""FITS_LDAC and .head files: what goes in comes out, in the form the Astromatic programs know."""

import subprocess

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.errors import MissingInput, UsageError
from photometrus.io import headfile, ldac

DECAM = "real/decam_z_catalog/D00572501_z_c01_r3624p01_red-fullcat.fits"


@pytest.fixture
def header():
    return fits.Header(
        [
            *(("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", 4088), ("NAXIS2", 4088)),
            *(("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN")),
            *(("CRVAL1", 0.001), ("CRVAL2", -0.5), ("CRPIX1", 2045.0), ("CRPIX2", 2045.0)),
            *(("CD1_1", 1.38e-4), ("CD1_2", 0.0), ("CD2_1", 0.0), ("CD2_2", 1.38e-4)),
            ("OBJNAME", "field1111", "name of the target"),
            *(("CHIP", 3), ("EXPTIME", 8.58)),
        ]
    )


@pytest.fixture
def sources():
    return Table(
        {
            "x": [0.0, 100.25, 4087.0],
            "y": [0.0, 2000.5, 4087.0],
            "x_err": [0.01, 0.05, 0.02],
            "y_err": [0.02, 0.04, 0.02],
            "flux": [1000.0, 200.0, -3.0],
            "flux_err": [10.0, 9.0, 5.0],
            "fwhm_pix": [2.5, 2.6, 2.7],
            "flags": [0, 4, 16],
        }
    )


def test_sources_come_back(tmp_path, header, sources):
    before = (header.tostring(), sources.copy())
    ldac.write_ldac(tmp_path / "a.cat", header, sources)
    assert header.tostring() == before[0]
    assert (sources == before[1]).all()
    read_header, read = ldac.read_ldac(tmp_path / "a.cat")
    assert read_header["OBJNAME"] == "field1111"
    assert WCS(read_header).wcs.compare(WCS(header).wcs)
    for name in ("x", "y"):
        np.testing.assert_array_equal(read[name], sources[name])
    for name in ("x_err", "y_err", "flux", "flux_err", "fwhm_pix"):
        # float32 in the file: 6e-8 of the value, and a rotation of the error ellipse
        np.testing.assert_allclose(read[name], sources[name], rtol=1e-6)
    assert read["flags"].dtype == np.int32
    np.testing.assert_array_equal(read["flags"], sources["flags"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.cat"]


def test_the_file_is_as_sextractor_writes_it(tmp_path, header, sources):
    ldac.write_ldac(tmp_path / "a.cat", header, sources)
    with fits.open(tmp_path / "a.cat") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "LDAC_IMHEAD", "LDAC_OBJECTS"]
        assert hdus[1].columns.names == ["Field Header Card"]
        text = hdus[1].data.tobytes()
        assert len(text) % 80 == 0
        assert b"\0" not in text  # SCAMP would take a NUL for the end of the header
        assert text[-80:].rstrip() == b"END"
        assert text.startswith(b"SIMPLE  =                    T")
        rows, columns = hdus[2].data, hdus[2].columns
        assert columns["X_IMAGE"].unit == "pixel"
        assert columns["ALPHA_J2000"].unit == "deg"
        np.testing.assert_array_equal(rows["XWIN_IMAGE"], [1.0, 101.25, 4088.0])
        np.testing.assert_array_equal(rows["NUMBER"], [1, 2, 3])
        # the larger of the two errors is the major axis, at 0 along x and at 90 along y
        np.testing.assert_allclose(rows["ERRAWIN_IMAGE"], [0.02, 0.05, 0.02], rtol=1e-6)
        np.testing.assert_array_equal(rows["ERRTHETAWIN_IMAGE"], [90.0, 0.0, 0.0])
        np.testing.assert_allclose(rows["MAG_AUTO"], [-7.5, -2.5 * np.log10(200), 99.0], rtol=1e-6)
        np.testing.assert_allclose(rows["SNR_WIN"], [100.0, 200 / 9, -0.6], rtol=1e-6)
        np.testing.assert_array_equal(rows["FLUX_RADIUS"], np.float32([1.25, 1.3, 1.35]))
        ra, dec = WCS(header).all_pix2world(sources["x"], sources["y"], 0)
        np.testing.assert_array_equal(rows["ALPHA_J2000"], ra)
        np.testing.assert_array_equal(rows["DELTA_J2000"], dec)


def test_the_file_passes_fitsverify(require_program, tmp_path, header, sources):
    fitsverify = require_program("fitsverify")
    ldac.write_ldac(tmp_path / "a.cat", header, sources)
    done = subprocess.run(
        [fitsverify, tmp_path / "a.cat"], capture_output=True, text=True, check=False
    )
    assert " 0 error" in done.stdout
    # LDAC's own name "Field Header Card" has blanks, which fitsverify warns of; nothing else.
    warnings = [line for line in done.stdout.splitlines() if "*** Warning" in line]
    assert all("Field Header Card" in line for line in warnings), warnings


def test_a_bare_list_is_enough(tmp_path, header):
    ldac.write_ldac(tmp_path / "a.cat", header, Table({"x": [5.0], "y": [6.0], "flux": [400.0]}))
    _, read = ldac.read_ldac(tmp_path / "a.cat")
    row = read[0]
    assert (row["x"], row["y"], row["flux"]) == (5.0, 6.0, 400.0)
    assert row["flux_err"] == 20.0  # Poisson
    assert row["snr"] == 20.0
    assert (row["elongation"], row["ellipticity"], row["flags"]) == (1.0, 0.0, 0)
    assert np.isfinite(list(row.values())).all()


def test_a_masked_value_is_filled(tmp_path, header, sources):
    sources = Table(sources, masked=True)
    sources["fwhm_pix"].mask[1] = True
    sources["y_err"].mask[2] = True
    ldac.write_ldac(tmp_path / "a.cat", header, sources)
    _, read = ldac.read_ldac(tmp_path / "a.cat")
    assert all(np.isfinite(read[name]).all() for name in read.colnames)


def test_sip_is_left_out_of_what_scamp_reads(tmp_path, header, sources):
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update({"A_ORDER": 4, "B_ORDER": 4, "A_0_4": 1e-13, "B_4_0": 1e-13})
    ldac.write_ldac(tmp_path / "a.cat", header, sources)
    read, table = ldac.read_ldac(tmp_path / "a.cat")
    assert read["CTYPE1"] == "RA---TAN"
    assert "A_0_4" not in read
    # the positions of the sources still know the distortion
    ra, _ = WCS(header).all_pix2world(sources["x"], sources["y"], 0)
    np.testing.assert_array_equal(table["ra_deg"], ra)


def test_an_empty_list_is_written(tmp_path, header, sources):
    ldac.write_ldac(tmp_path / "a.cat", header, sources[:0])
    assert len(ldac.read_ldac(tmp_path / "a.cat")[1]) == 0


def test_a_real_catalogue_is_read_and_written(tmp_path, shared_data):
    header, sources = ldac.read_ldac(shared_data / DECAM)
    assert len(sources) == 2469
    assert header["CTYPE1"] == "RA---TPV"
    with fits.open(shared_data / DECAM) as hdus:
        rows = hdus["LDAC_OBJECTS"].data
        np.testing.assert_array_equal(sources["x"], rows["XWIN_IMAGE"] - 1.0)
        ours = {field.name: field for field in ldac.FIELDS}
        for column in hdus["LDAC_OBJECTS"].columns:
            if column.name in ours:
                assert ours[column.name].unit == (column.unit or ""), column.name
    ldac.write_ldac(tmp_path / "a.cat", header, sources)
    again_header, again = ldac.read_ldac(tmp_path / "a.cat")
    assert again_header == header
    np.testing.assert_array_equal(again["x"], sources["x"])


def test_what_is_not_ldac_is_told(tmp_path, header, sources):
    with pytest.raises(MissingInput, match="absent.cat: no such source list"):
        ldac.read_ldac(tmp_path / "absent.cat")
    (tmp_path / "text.cat").write_text("no FITS at all\n")
    with pytest.raises(UsageError, match="not readable as FITS_LDAC"):
        ldac.read_ldac(tmp_path / "text.cat")
    fits.writeto(tmp_path / "image.cat", np.zeros((2, 2)))
    with pytest.raises(UsageError, match="0 source tables"):
        ldac.read_ldac(tmp_path / "image.cat")
    with pytest.raises(UsageError, match="no column flux among x, y"):
        ldac.write_ldac(tmp_path / "a.cat", header, sources["x", "y"])
    del header["NAXIS1"]
    with pytest.raises(UsageError, match="no NAXIS1"):
        ldac.write_ldac(tmp_path / "a.cat", header, sources)


def tpv(header):
    header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
    for axis in (1, 2):
        header[f"PV{axis}_0"] = -1.2345678901234567e-05 * axis
        header[f"PV{axis}_1"] = 1.0 + 3.3e-4
        header[f"PV{axis}_7"] = 9.87654321e-3
    return header


def test_a_head_comes_back(tmp_path, header):
    header = tpv(header)
    header.add_history("solved")
    headfile.write_head(tmp_path / "a.head", header)
    lines = (tmp_path / "a.head").read_text("ascii").splitlines()
    assert {len(line) for line in lines} == {80}
    assert lines[-1].rstrip() == "END"
    read = headfile.read_head(tmp_path / "a.head")
    assert not {"SIMPLE", "BITPIX", "NAXIS", "NAXIS1"} & set(read)
    assert WCS(read).wcs.compare(WCS(header).wcs)
    # a value has 20 columns: 13 digits or more
    assert read["PV2_0"] == pytest.approx(header["PV2_0"], rel=1e-13)
    assert read["HISTORY"][0] == "solved"
    assert [path.name for path in tmp_path.iterdir()] == ["a.head"]


def test_a_head_gets_a_cd_matrix(tmp_path, header):
    for card in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        del header[card]
    header.update({"PC1_1": 0.9, "PC1_2": 0.2, "PC2_1": -0.3, "PC2_2": 0.8})
    header.update({"CDELT1": 1.3e-4, "CDELT2": 1.5e-4})
    headfile.write_head(tmp_path / "a.head", header)
    read = headfile.read_head(tmp_path / "a.head")
    assert not {"PC1_1", "CDELT1"} & set(read)
    corner = ([4000.0], [100.0])
    # the products are rounded to 13 digits at least
    np.testing.assert_allclose(
        WCS(read).all_pix2world(*corner, 0), WCS(header).all_pix2world(*corner, 0), rtol=1e-12
    )


def test_a_head_refuses_sip(tmp_path, header):
    header["CTYPE1"] = "RA---TAN-SIP"
    with pytest.raises(UsageError, match="do not know SIP"):
        headfile.write_head(tmp_path / "a.head", header)
    assert not list(tmp_path.iterdir())


def test_a_head_may_be_free_in_form(tmp_path):
    (tmp_path / "a.head").write_bytes(
        b"COMMENT   (c) \xe9 2010\n"
        b"CRVAL1 = 201.2 / RA\n"
        b"ctype1='RA---TAN'\n"
        b"CD1_1   =  -1.38E-04\n\n"
        b"PHOTINST= 1\nEND\n"
        b"CRVAL1 = 5\nEND\n"
    )
    first = headfile.read_head(tmp_path / "a.head")
    assert (first["CRVAL1"], first["CTYPE1"], first["CD1_1"]) == (201.2, "RA---TAN", -1.38e-4)
    assert first.comments["CRVAL1"] == "RA"
    assert headfile.read_head(tmp_path / "a.head", extension=1)["CRVAL1"] == 5
    with pytest.raises(UsageError, match="2 headers, asked for number 3"):
        headfile.read_head(tmp_path / "a.head", extension=2)
    (tmp_path / "b.head").write_text("CRVAL1 = 1\n<html>\n")
    with pytest.raises(UsageError, match="line 2: '<html>' is no FITS card"):
        headfile.read_head(tmp_path / "b.head")
    with pytest.raises(MissingInput):
        headfile.read_head(tmp_path / "c.head")


def test_a_reference_is_in_degrees(tmp_path):
    reference = Table(
        {
            "ra_deg": [10.0],
            "dec_deg": [-5.0],
            "pos_err_arcsec": [0.36],
            "pm_ra_mas_yr": [np.nan],
            "pm_dec_mas_yr": [3.0],
            "epoch_yr": [2000.5],
            "mag": [14.0],
            "mag_err": [np.nan],
        }
    )
    ldac.write_reference(tmp_path / "ref.cat", reference)
    with fits.open(tmp_path / "ref.cat") as hdus:
        row = hdus["LDAC_OBJECTS"].data[0]
        assert (row["X_WORLD"], row["Y_WORLD"], row["OBSDATE"]) == (10.0, -5.0, 2000.5)
        assert row["ERRA_WORLD"] == pytest.approx(1e-4, rel=1e-6)
        assert (row["PMALPHA_J2000"], row["PMDELTA_J2000"], row["MAGERR"]) == (0.0, 3.0, 1.0)
