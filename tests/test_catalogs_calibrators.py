"""Calibrators from catalogues of every family: systems, flags, colours, transforms."""

import numpy as np
import pytest
from astropy.table import Table

from catalogcase import two_mass, vhs
from photometrus.errors import UsageError
from photometrus.io import catalogs

CENTRE = (150.0, -30.0)
CONE = (CENTRE, 1.0)
COLUMNS = {
    **{"ra_deg": "deg", "dec_deg": "deg", "pos_err_arcsec": "arcsec", "pm_ra_mas_yr": "mas / yr"},
    **{"pm_dec_mas_yr": "mas / yr", "epoch_yr": "yr", "mag": "mag", "mag_err": "mag"},
    **{"color": "mag", "color_err": "mag", "extended": "None", "good": "None"},
}
META = {
    *("source", "survey", "mag_system", "photometric_system", "to_ab", "to_vega", "transform"),
    *("transform_reference", "transform_err", "color_name", "depth", "bright", "epoch", "notes"),
    *("proper_motions", "pos_err_assumed", "n"),
}


def calibrators(tmp_path, rows, band):
    rows.write(tmp_path / "x.fits", overwrite=True)
    return catalogs.calibrators(tmp_path / "x.fits", *CONE, band)


def stars(**columns):
    """One star a row around the centre, the brightest first."""
    n = len(next(iter(columns.values())))
    rows = Table({"RAJ2000": np.full(n, CENTRE[0]), "DEJ2000": CENTRE[1] + 0.01 * np.arange(n)})
    for name, values in columns.items():
        rows[name] = values
    return rows


def test_two_mass_is_recognised_with_its_flags(tmp_path):
    rows = two_mass(500, CENTRE, 1.0, seed=1)
    found = calibrators(tmp_path, rows, "J")
    assert {name: str(found[name].unit) for name in found.colnames} == COLUMNS
    assert found["good"].dtype == found["extended"].dtype == bool
    assert set(found.meta) == META
    rows.sort(["Jmag", "RAJ2000", "DEJ2000"])
    good = [
        q[0] in "AB" and r[0] in "12" and c[0] == "0" for q, r, c in rows["Qflg", "Rflg", "Cflg"]
    ]
    np.testing.assert_array_equal(found["mag"], rows["Jmag"])
    np.testing.assert_array_equal(found["good"], good)
    assert 200 < sum(good) < 450
    np.testing.assert_array_equal(found["extended"], rows["XflgGAL"] == 1)
    np.testing.assert_allclose(found["color"], rows["Jmag"] - rows["Hmag"], atol=1e-12)
    np.testing.assert_allclose(
        found["color_err"], np.hypot(rows["e_Jmag"], rows["e_Hmag"]), atol=1e-12
    )
    meta = found.meta
    assert (meta["photometric_system"], meta["mag_system"], meta["color_name"]) == (
        *("2MASS", "Vega", "J-H"),
    )
    assert meta["to_ab"] == pytest.approx(0.894, abs=1e-3)
    assert meta["to_vega"] == 0.0
    assert (meta["survey"], meta["transform"], meta["transform_err"]) == ("local", "", 0.0)
    assert meta["notes"] == []
    h = calibrators(tmp_path, rows, "H")  # the second letter of each flag
    rows.sort(["Hmag", "RAJ2000", "DEJ2000"])
    good = [
        q[1] in "AB" and r[1] in "12" and c[1] == "0" for q, r, c in rows["Qflg", "Rflg", "Cflg"]
    ]
    np.testing.assert_array_equal(h["good"], good)


@pytest.mark.parametrize(("band", "coefficient", "to_ab"), [("Y", 0.46, 0.600), ("Z", 0.86, 0.502)])
def test_two_mass_gives_y_and_z_by_the_published_transform(tmp_path, band, coefficient, to_ab):
    rows = two_mass(400, CENTRE, 1.0, seed=2)
    rows["Kmag"] = rows["Jmag"] - 0.6
    found = calibrators(tmp_path, rows, band)
    np.testing.assert_allclose(found["mag"], np.sort(rows["Jmag"]) + 0.6 * coefficient, atol=1e-9)
    assert found.meta["photometric_system"] == "VISTA"
    assert found.meta["to_ab"] == to_ab
    assert found.meta["transform"] == f"{band}(VISTA) = J +{coefficient:g} (J - K) of 2MASS"
    assert "2018" in found.meta["transform_reference"]
    slope_err = {"Y": 0.02, "Z": 0.08}[band]
    assert found.meta["transform_err"] == pytest.approx(np.hypot(0.02, 0.6 * slope_err), rel=1e-6)
    assert (found["mag_err"] > 0.02).all()
    assert found.meta["color_name"] == "J-H"
    # J and Ks must both be sound
    rows.sort(["Jmag", "RAJ2000", "DEJ2000"])
    sound = [
        all(q[i] in "AB" and r[i] in "12" and c[i] == "0" for i in (0, 2))
        for q, r, c in rows["Qflg", "Rflg", "Cflg"]
    ]
    np.testing.assert_array_equal(found["good"], sound)


def test_vista_flags_class_and_native_y(tmp_path):
    rows = vhs(600, CENTRE, 1.0, seed=3)
    found = calibrators(tmp_path, rows, "Y")
    rows.sort(["Yap3", "RAJ2000", "DEJ2000"])
    np.testing.assert_array_equal(found["mag"], rows["Yap3"])
    good = np.isin(rows["Mclass"], [-1, -2, 1, -3]) & (rows["Yperrbits"] < 256)
    np.testing.assert_array_equal(found["good"], good)
    np.testing.assert_array_equal(found["extended"], np.isin(rows["Mclass"], [1, -3]))
    assert found.meta["photometric_system"] == "VISTA"
    assert found.meta["to_ab"] == 0.600
    assert found.meta["color_name"] == "Y-J"


def test_a_survey_saturates(tmp_path):
    # the rows of VHS itself, as a mirror or a service gives them
    from photometrus.io.catalogs.calibrate import photometric_columns

    rows = stars(Jap3=[10.0, 11.9, 12.1, 16.0], e_Jap3=[0.01] * 4, Mclass=[-1] * 4)
    found = photometric_columns(rows, "J", catalogs.SURVEYS["VHS"], "VHS")
    np.testing.assert_array_equal(found["good"], [False, False, True, True])
    assert found.meta["depth"] == catalogs.SURVEYS["VHS"].reach["J"].depth
    assert found.meta["bright"] == 12.0
    assert found.meta["color_name"] == ""
    assert np.isnan(found["color"]).all()


def test_an_optical_survey_is_ab_with_its_own_filter(tmp_path):
    n = 5
    rows = stars(
        zmag=15.0 + np.arange(n),
        e_zmag=[0.01, 0.01, 0.01, np.nan, 0.01],
        ymag=14.9 + np.arange(n),
        e_ymag=[0.01] * n,
        zKmag=15.0 + np.arange(n) - [0.0, 0.2, 0.0, 0.0, 0.0],
        Qual=np.array([4 | 16, 4 | 16, 4 | 64, 4, 4 | 1], np.int16),
    )
    found = calibrators(tmp_path, rows, "Z")
    np.testing.assert_array_equal(found["good"], [True, True, False, False, True])
    np.testing.assert_array_equal(found["extended"], [False, True, False, False, True])
    meta = found.meta
    assert (meta["mag_system"], meta["photometric_system"]) == ("AB", "AB")
    assert (meta["to_ab"], meta["to_vega"]) == (0.0, -0.502)
    assert meta["color_name"] == "z-y"
    np.testing.assert_allclose(found["color"], 0.1, atol=1e-6)
    assert "866 nm taken as Z at 890 nm" in meta["transform"]
    # 0.1 mag from 866 to 962 nm, hence 24 / 96 of it to 890 nm
    assert meta["transform_err"] == pytest.approx(0.025, abs=1e-6)
    y = calibrators(tmp_path, rows, "Y")
    assert y.meta["transform_err"] == pytest.approx(0.1 * (1022.5 - 962) / 96, abs=1e-6)


@pytest.mark.parametrize(
    ("columns", "good", "extended"),
    [
        # SkyMapper: SExtractor's flags, frames flagged in z, star-likeness
        (
            {"zPSF": [15.0, 16, 17, 18], "e_zPSF": [0.01] * 4, "flags": [0, 4, 2, 0]}
            | {"Nzflags": [0, 0, 1, 0], "ClassStar": [0.9, 0.9, 0.9, 0.1]},
            [True, False, False, True],
            [False, False, False, True],
        ),
        # SDSS: primary detections, class 3 galaxy and 6 star
        (
            {"zpmag": [15.0, 16, 17], "e_zpmag": [0.01] * 3, "mode": [1, 2, 1], "class": [6, 6, 3]},
            [True, False, True],
            [False, False, True],
        ),
        # DES: flags below 4, coadd class 0 and 1 stars
        (
            {"zmag": [15.0, 16, 17], "e_zmag": [0.01] * 3, "zFlag": [0, 4, 3]}
            | {"ExtClsCoad": [0, 1, 3]},
            [True, False, True],
            [False, False, True],
        ),
        # UKIDSS: error bits, merged class
        (
            {"Zmag": [15.0, 16, 17], "e_Zmag": [0.01] * 3, "cl": [-1, -9, 1]}
            | {"Zflags": [16, 0, 0], "Kmag1": [14.0] * 3},
            [True, False, True],
            [False, False, True],
        ),
    ],
    ids=["SkyMapper", "SDSS", "DES", "UKIDSS"],
)
def test_every_family_has_its_flags(tmp_path, columns, good, extended):
    found = calibrators(tmp_path, stars(**columns), "Z")
    np.testing.assert_array_equal(found["good"], good)
    np.testing.assert_array_equal(found["extended"], extended)


def test_an_unknown_file_is_vega_and_says_so(tmp_path):
    rows = stars(Jmag=[14.0, 15.0], e_Jmag=[0.02, np.nan], Hmag=[13.5, 14.4], Ymag=[14.5, 15.6])
    found = calibrators(tmp_path, rows, "J")
    assert found.meta["mag_system"] == "Vega"
    assert "does not tell its magnitude system: taken as Vega" in found.meta["notes"][0]
    assert found.meta["to_ab"] == 0.916
    np.testing.assert_array_equal(found["good"], [True, False])  # the second has no error
    rows.meta["MAGSYS"] = "AB"
    found = calibrators(tmp_path, rows, "J")
    assert (found.meta["mag_system"], found.meta["to_ab"], found.meta["to_vega"]) == (
        *("AB", 0.0, -0.916),
    )
    assert found.meta["notes"] == []
    rows.meta["MAGSYS"] = "UKIDSS"
    assert calibrators(tmp_path, rows, "J").meta["to_ab"] == 0.938
    rows.meta["MAGSYS"] = "ST"
    with pytest.raises(UsageError, match="MAGSYS 'ST': known are Vega, AB"):
        calibrators(tmp_path, rows, "J")


def test_doubts_are_told(tmp_path):
    found = calibrators(tmp_path, stars(Jmag=[14.0, 15.0]), "J")
    assert not found["good"].any()
    assert "no magnitude has an error, so that none is trusted" in found.meta["notes"]
    rows = two_mass(100, (266.4, -29.0), 1.0, seed=4)  # the Galactic centre
    rows.write(tmp_path / "centre.fits")
    found = catalogs.calibrators(tmp_path / "centre.fits", (266.4, -29.0), 1.0, "Y")
    assert "holds for low reddening" in found.meta["notes"][0]
    assert not catalogs.calibrators(tmp_path / "centre.fits", (266.4, -29.0), 1.0, "J").meta[
        "notes"
    ]


def test_a_band_that_cannot_be_had_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no Z magnitudes, and no published transform"):
        calibrators(tmp_path, stars(Jap3=[14.0], e_Jap3=[0.02], Ksap3=[13.0]), "Z")
    with pytest.raises(UsageError, match="no Y magnitudes.*take another -survey or -catalog"):
        calibrators(tmp_path, stars(RPmag=[14.0]), "Y")
    with pytest.raises(UsageError, match="Gaia: no J magnitudes.*VIKING, VIRAC2, VVV, VHS"):
        catalogs.calibrators("Gaia", *CONE, "J", services=["tap+http://127.0.0.1:9/tap"])
    with pytest.raises(UsageError, match="UHS: no Z magnitudes"):
        catalogs.calibrators("UHS", *CONE, "Z", services=["tap+http://127.0.0.1:9/tap"])
    with pytest.raises(UsageError, match="band 'K'"):
        calibrators(tmp_path, stars(Jmag=[14.0]), "K")


def test_a_magnitude_of_no_band_is_taken_as_it_is(tmp_path):
    found = calibrators(tmp_path, stars(mag=[14.0, 15.0], mag_err=[0.02, 0.03]), "Z")
    np.testing.assert_array_equal(found["mag"], [14.0, 15.0])
    assert found["good"].all()


def test_the_colour_is_the_one_that_most_stars_have(tmp_path):
    n = 10
    rows = stars(
        Jap3=np.linspace(13, 17, n),
        e_Jap3=[0.02] * n,
        Hap3=[12.5] + [np.nan] * (n - 1),  # VHS has no H over most of its field
        Ksap3=np.linspace(13, 17, n) - 0.7,
    )
    found = calibrators(tmp_path, rows, "J")
    assert found.meta["color_name"] == "J-Ks"
    np.testing.assert_allclose(found["color"], 0.7, atol=1e-12)
    assert np.isnan(found["color_err"]).all()


def test_the_simulated_catalogues(shared_data):
    folder = shared_data / "dev_full"
    shallow = catalogs.calibrators(folder / "refcat_2mass.fits", (201.2, -0.52), 0.4, "J")
    deep = catalogs.calibrators(folder / "refcat_deep.fits", (201.2, -0.52), 0.4, "J")
    assert shallow.meta["photometric_system"] == "2MASS"
    assert deep.meta["photometric_system"] == "VISTA"  # it has Y, which 2MASS has not
    assert len(deep) > 5 * len(shallow) > 1000
    assert shallow["good"].mean() > 0.9
    assert 0.02 < shallow["extended"].mean() < 0.5
