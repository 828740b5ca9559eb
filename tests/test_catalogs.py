"""Reference catalogues from files."""

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from pyarrow import parquet

from catalogcase import two_mass, within
from photometrus.errors import MissingInput, UsageError
from photometrus.io import catalogs

COLUMNS = {
    "ra_deg": "deg",
    "dec_deg": "deg",
    "pos_err_arcsec": "arcsec",
    "pm_ra_mas_yr": "mas / yr",
    "pm_dec_mas_yr": "mas / yr",
    "epoch_yr": "yr",
    "mag": "mag",
    "mag_err": "mag",
    "extended": "None",
}
CENTRES = [(150.0, -30.0), (0.05, 10.0), (359.95, -0.5), (123.0, 89.9), (77.0, -90.0)]


@pytest.fixture
def rows():
    return two_mass(500, (150.0, -30.0), 1.0, seed=1)


def test_a_file_gives_the_standard_columns(tmp_path, rows):
    rows.write(tmp_path / "ref.fits")
    stars = catalogs.reference(tmp_path / "ref.fits", (150.0, -30.0), 0.5, "J")
    assert {name: str(stars[name].unit) for name in stars.colnames} == COLUMNS
    assert stars["ra_deg"].dtype == np.float64
    assert stars["extended"].dtype == bool
    expected = within(rows, (150.0, -30.0), 0.5)
    expected.sort("Jmag")
    assert 100 < len(expected) < 200  # a quarter of 500
    assert stars.meta["n"] == len(stars) == len(expected)
    np.testing.assert_array_equal(stars["mag"], expected["Jmag"])
    assert set(stars["dec_deg"]) == set(expected["DEJ2000"])
    assert stars["extended"].sum() == expected["XflgGAL"].sum() > 0
    assert (stars["epoch_yr"] == 2000.0).all()
    first = expected[0]
    # the mean square of the two axes of the error ellipse
    one_axis = np.sqrt((first["errMaj"] ** 2 + first["errMin"] ** 2) / 2)
    assert stars["pos_err_arcsec"][0] == pytest.approx(one_axis, rel=1e-12)
    assert stars.meta["mag_system"] == "Vega"
    assert stars.meta["mag_band"] == "J"


@pytest.mark.parametrize("ending", [".ecsv", ".csv", ".vot", ".fits.gz", ".parquet"])
def test_every_format_gives_the_same(tmp_path, rows, ending):
    path = tmp_path / f"ref{ending}"
    rows.write(tmp_path / "ref.fits")
    if ending == ".parquet":
        parquet.write_table(pa.table({name: rows[name] for name in rows.colnames}), path)
    else:
        rows.write(path, format={".vot": "votable", ".fits.gz": "fits"}.get(ending))
    expected = catalogs.reference(tmp_path / "ref.fits", (150.0, -30.0), 0.5, "H")
    stars = catalogs.reference(str(path), (150.0, -30.0), 0.5, "H")
    assert len(expected) > 100
    for name in COLUMNS:
        np.testing.assert_array_equal(stars[name], expected[name])


@pytest.mark.parametrize("centre", CENTRES)
def test_a_cone_is_round_everywhere(tmp_path, centre):
    rows = two_mass(2000, centre, 1.0, seed=2)
    rows.write(tmp_path / "ref.fits")
    stars = catalogs.reference(tmp_path / "ref.fits", centre, 0.5, "J")
    assert len(stars) == len(within(rows, centre, 0.5))
    # 2000 stars, a quarter of the area: 500 +- 19; five of those
    assert abs(len(stars) - 500) < 5 * 19.4


@pytest.mark.parametrize(("band", "used"), [("Z", "J"), ("Y", "J"), ("J", "J"), ("H", "H")])
def test_a_band_that_is_not_there_is_the_nearest(tmp_path, rows, band, used):
    rows.write(tmp_path / "ref.fits")
    stars = catalogs.reference(tmp_path / "ref.fits", (150.0, -30.0), 2.0, band)
    assert stars.meta["mag_band"] == used
    np.testing.assert_array_equal(stars["mag"], np.sort(rows[f"{used}mag"]))


def test_gaia_has_motions_and_milliarcseconds():
    rows = Table(
        {
            "RA_ICRS": [10.0, 11.0],
            "DE_ICRS": [1.0, 2.0],
            "RAJ2000": [10.1, 11.1],
            "DEJ2000": [1.1, 2.1],
            "e_RA_ICRS": [0.3, 0.4],
            "e_DE_ICRS": [0.3, 0.4],
            "pmRA": MaskedColumn([5.0, 0.0], mask=[False, True]),
            "pmDE": MaskedColumn([-7.0, 0.0], mask=[False, True]),
            "Gmag": [15.0, 16.0],
            "RPmag": [14.5, 15.5],
        }
    )
    stars = catalogs.standard_columns(rows, "J", "gaia")
    np.testing.assert_array_equal(stars["ra_deg"], [10.0, 11.0])
    np.testing.assert_allclose(stars["pos_err_arcsec"], [3e-4, 4e-4], rtol=1e-12)
    np.testing.assert_array_equal(stars["pm_ra_mas_yr"], [5.0, 0.0])
    np.testing.assert_array_equal(stars["epoch_yr"], [2016.0, 2016.0])
    np.testing.assert_array_equal(stars["mag"], [14.5, 15.5])
    assert stars.meta["mag_band"] == "RP"
    assert stars.meta["proper_motions"]
    assert np.isnan(stars["mag_err"]).all()


def test_what_stands_for_nothing_is_nothing():
    rows = Table({"ra": [1.0, 2.0, 3.0, np.nan], "dec": [1.0, 2.0, 3.0, 4.0]})
    rows["j_m"] = [12.0, -99.99, 13.0, 14.0]
    rows["j_msigcom"] = [9.999, 0.02, 0.03, 0.04]
    rows["Epoch"] = [51544.5 + 365.25, 2451545.0, 2010.5, 2000.0]
    rows["_RAJ2000"], rows["_DEJ2000"] = 5.0, 5.0
    stars = catalogs.standard_columns(rows, "J", "irsa")
    np.testing.assert_array_equal(stars["ra_deg"], [1.0, 3.0])
    assert np.isnan(stars["mag_err"][0])
    assert stars["mag_err"][1] == 0.03
    # 51544.5 is the MJD of 2000.0
    np.testing.assert_allclose(stars["epoch_yr"], [2001.0, 2010.5], rtol=1e-12)
    assert stars.meta["pos_err_assumed"]
    np.testing.assert_array_equal(stars["pos_err_arcsec"], [0.1, 0.1])


def test_units_that_are_written_count():
    rows = Table(
        {"RAJ2000": [0.1], "DEJ2000": [0.2], "Jmag": [12.0], "errMaj": [60.0], "errMin": [60.0]}
    )
    rows["RAJ2000"].unit = rows["DEJ2000"].unit = "rad"
    rows["errMaj"].unit = rows["errMin"].unit = "mas"
    stars = catalogs.standard_columns(rows, "J", "x")
    assert stars["ra_deg"][0] == pytest.approx(np.degrees(0.1), rel=1e-12)
    assert stars["pos_err_arcsec"][0] == pytest.approx(0.06, rel=1e-12)
    rows["RAJ2000"].unit = "kg"
    with pytest.raises(UsageError, match="RAJ2000: its unit is kg, expected deg"):
        catalogs.standard_columns(rows, "J", "x")


def test_an_ldac_reference_is_read(tmp_path, rows):
    from photometrus.io.ldac import write_reference

    stars = catalogs.standard_columns(rows, "J", "x")
    write_reference(tmp_path / "ref.cat", stars)
    again = catalogs.reference(tmp_path / "ref.cat", (150.0, -30.0), 2.0, "J")
    assert len(again) == len(stars) == 500
    np.testing.assert_array_equal(np.sort(again["ra_deg"]), np.sort(stars["ra_deg"]))


def test_real_files(shared_data):
    stars = catalogs.reference(
        shared_data / "dev_full" / "refcat_2mass.fits", (201.2, -0.52), 0.4, "J"
    )
    assert len(stars) > 300
    deep = catalogs.reference(
        shared_data / "dev_full" / "refcat_deep.fits", (201.2, -0.52), 0.4, "Y"
    )
    assert deep.meta["mag_band"] == "Y"
    assert len(deep) > 3 * len(stars)
    real = shared_data / "real" / "w5_2mass_jhk.csv"
    stars = catalogs.reference(real, (43.0, 60.5), 1.0, "H")
    assert len(stars) > 1000
    assert np.isnan(stars["mag_err"]).all()


def test_errors_name_the_way_out(tmp_path, rows):
    cone = ((150.0, -30.0), 0.5, "J")
    with pytest.raises(MissingInput, match=r"absent\.fits: no such catalogue file"):
        catalogs.reference(tmp_path / "absent.fits", *cone)
    with pytest.raises(UsageError, match="'2mas': no such file.*did you mean '2mass'"):
        catalogs.reference("2mas", *cone)
    with pytest.raises(UsageError, match="band 'L'"):
        catalogs.reference("2MASS", (150.0, -30.0), 0.5, "L")
    with pytest.raises(UsageError, match="service 'http://x'.*expected tap"):
        catalogs.reference("2MASS", *cone, cache=tmp_path, services=["http://x"])
    rows["Jmag", "Hmag"].write(tmp_path / "a.ecsv")
    with pytest.raises(UsageError, match="wanted RAJ2000 DEJ2000.*found Jmag Hmag"):
        catalogs.reference(tmp_path / "a.ecsv", *cone)
    rows["RAJ2000", "DEJ2000"].write(tmp_path / "b.ecsv")
    with pytest.raises(UsageError, match="wanted Jmag or its like, found RAJ2000 DEJ2000"):
        catalogs.reference(tmp_path / "b.ecsv", *cone)
    fits.writeto(tmp_path / "image.fits", np.zeros((4, 4)))
    (tmp_path / "text.fits").write_text("nothing")
    (tmp_path / "bad.vot").write_text("<html><body>sorry</body></html>")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    for name in ("image.fits", "text.fits", "bad.vot", "x.parquet"):
        with pytest.raises(UsageError, match=name):
            catalogs.reference(tmp_path / name, *cone)
    sexagesimal = Table({"RAJ2000": ["10 00 00"], "DEJ2000": ["-30 00 00"], "Jmag": [12.0]})
    with pytest.raises(UsageError, match="RAJ2000: holds .*, expected numbers in deg"):
        catalogs.standard_columns(sexagesimal, "J", "x")
