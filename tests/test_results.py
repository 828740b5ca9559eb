"""Tables and regions as others read them."""

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from photometrus.errors import PhotometrusError, UsageError
from photometrus.frame import StackInfo
from photometrus.io.regions import Circle, circles, write_regions
from photometrus.io.results import (
    COLUMNS,
    ecsv,
    provenance,
    published,
    target_table,
    write_catalog,
    write_table,
)
from photometrus.products import StackProducts
from photometrus.sighting import AtPosition, Calibration, Sighting, Target
from photometrus.sourcetable import Status

INFO = StackInfo(
    name="coadd.Open-J.01599131-01599173.C3", target="field1111", band="J", chip=3,
    begin_mjd=60467.8, middle_mjd=60467.805, end_mjd=math.nan, exposure_s=103.0, n_frames=6,
    gain_e_per_adu=64.8, saturation_adu=math.nan, pixel_scatter=0.89,
)  # fmt: skip
CALIBRATION = Calibration("J", "AB", 0.94, "VHS", 214, 24.0, 0.003, 0.01)
META = provenance(INFO, CALIBRATION, limit_5sigma=20.13)
# The columns of the newest table of a target that users have, in order.
USERS = [
    "RA", "DEC", "JpsfMag", "JpsfMag_Err", "JpsfME_CM", "psfS_CM", "JaperMag", "JaperMag_Err",
    "JaperME_CM", "aperS_CM", "JautoMag", "JautoMag_Err", "JautoME_CM", "autoS_CM", "Radius",
    "SNR", "Elongation", "Distance", "Separation",
]  # fmt: skip


def sources(n: int = 5) -> Table:
    """A table with every column that is published, and one without a magnitude."""
    out = Table(meta={"aper_diameters_arcsec": [1.5, 2.5]})
    for k, row in enumerate(COLUMNS):
        if row.form == "s":
            out[row.ours] = ['in "the" light; of'] + [""] * (n - 1)
        elif row.form == "d":
            out[row.ours] = np.arange(n, dtype=np.int32) % 4
        else:
            out[row.ours] = 10.0 + k + np.linspace(0.1, 0.9, n)
    for kind in ("psf", "auto", "aper"):
        out[f"mag_{kind}"][n - 1] = np.nan
        out[f"status_{kind}"] = out["status"]
    out["snr"] = out["snr_win"]
    out["separation_arcsec"][0] = out["star_mag"][0] = np.nan
    out["flux_apers"] = np.arange(2.0 * n).reshape(n, 2)
    out["flux_apers_err"] = np.ones((n, 2))
    return out


def sighting(rows: Table, verdict: str = "new") -> Sighting:
    at = AtPosition(100.0, 2.0, 19.0, 0.02, limit_3sigma=20.68, limit_5sigma=20.13)
    return Sighting(Target("GRB", 200.9, -0.9, 5.0), at, rows, verdict, "words")


def test_every_column_has_one_name_and_a_meaning():
    assert len({row.name for row in COLUMNS}) == len({row.ours for row in COLUMNS}) == len(COLUMNS)
    assert all(row.words for row in COLUMNS)
    names = published(sources(), CALIBRATION, META).colnames
    known = (
        "ALPHA_J2000 DELTA_J2000 X_IMAGE Y_IMAGE FLAGS FLUX_RADIUS SNR_WIN JMAG_AUTO e_JMAG_AUTO"
        " JMAG_PSF e_JMAG_PSF JMAG_APER e_JMAG_APER"
    )
    assert set(known.split()) <= set(names)


def test_a_catalogue_is_read_back(tmp_path):
    ours = sources()
    path = tmp_path / "new" / "a.ecsv"
    write_catalog(path, ours, CALIBRATION, META)
    assert [found.name for found in path.parent.iterdir()] == ["a.ecsv"]
    table = Table.read(path)
    assert len(table) == 5
    # as many digits as the table says; half of the last
    assert table["ALPHA_J2000"] == pytest.approx(ours["ra_deg"], abs=5e-8)
    assert table["X_IMAGE"] == pytest.approx(ours["x"] + 1, abs=5e-4)
    assert list(table["FLAGS"]) == list(ours["flags"])
    assert str(table["JMAG_PSF"].unit) == "mag"
    assert table["JMAG_PSF"].description == "PSF magnitude"
    assert list(np.ma.getmaskarray(table["JMAG_PSF"])) == [False] * 4 + [True]
    assert np.asarray(table["JMAG_PSF"][:4]) == pytest.approx(ours["mag_psf"][:4], abs=5e-5)
    assert np.asarray(table["JMAG_PSF_Vega"][:4]) == pytest.approx(
        ours["mag_psf"][:4] - 0.94, abs=1e-4
    )
    assert list(table["FLUX_APER_2"]) == [1, 3, 5, 7, 9]
    assert table["FLUX_APER_2"].description == "aperture of 2.5 arcsec diameter, made total"
    assert table["REASON"][0] == 'in "the" light; of'
    for key in ("stack", "survey", "zero_point", "n_stars", "system", "limit_5sigma", "begin_utc"):
        assert table.meta[key] == META[key]
    assert "end_utc" not in table.meta  # not known


def test_parquet_has_nulls_units_and_words(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    ours = sources()
    path = tmp_path / "a.parquet"
    write_catalog(path, ours, CALIBRATION, META)
    table = parquet.read_table(path)
    ecsv_names = published(ours, CALIBRATION, META).colnames
    assert table.column_names == ecsv_names
    assert table["JMAG_PSF"].to_pylist() == [*ours["mag_psf"][:4], None]
    assert table["REASON"].to_pylist()[:2] == ['in "the" light; of', ""]
    field = table.schema.field("X_IMAGE").metadata
    assert field[b"unit"] == b"pix"
    assert field[b"description"] == b"windowed centroid, first pixel is 1"
    assert json.loads(table.schema.metadata[b"photometrus"])["stack"] == INFO.name


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"a\.parquet: Parquet needs pyarrow"):
        write_catalog(tmp_path / "a.parquet", sources(), CALIBRATION, META)


def test_ecsv_is_as_astropy_reads_its_own(tmp_path):
    table = published(sources(), CALIBRATION, META)
    table.write(tmp_path / "theirs.ecsv")
    (tmp_path / "ours.ecsv").write_text(ecsv(table))
    ours, theirs = (Table.read(tmp_path / f"{name}.ecsv") for name in ("ours", "theirs"))
    assert ours.colnames == theirs.colnames
    assert ours.dtype == theirs.dtype
    for name in ours.colnames:
        assert list(np.ma.getmaskarray(ours[name])) == list(np.ma.getmaskarray(theirs[name]))
    assert ecsv(table[:0]).endswith(" ".join(table.colnames) + "\n")


def test_vega_magnitudes_get_ab_beside_them_and_an_unknown_offset_none():
    vega = replace(CALIBRATION, system="Vega")
    table = published(sources(), vega, META)
    assert table["JMAG_AUTO_AB"][0] == pytest.approx(table["JMAG_AUTO"][0] + 0.94)
    nothing = replace(CALIBRATION, ab_minus_vega=math.nan)
    assert not [name for name in published(sources(), nothing, META).colnames if "Vega" in name]


def test_a_microjansky():
    assert CALIBRATION.microjansky(23.9) == pytest.approx(1.0, rel=1e-9)
    assert replace(CALIBRATION, system="Vega").microjansky(23.9 - 0.94) == pytest.approx(
        1, rel=2e-3
    )


def test_the_target_as_users_scripts_read_it(tmp_path):
    rows = sources(3)
    path = tmp_path / "GRB.ecsv"
    write_table(path, target_table(sighting(rows), CALIBRATION, 0.5, META))
    table = Table.read(path)
    assert table.colnames[: len(USERS)] == USERS
    assert table["JpsfME_CM"][1] == pytest.approx(
        rows["star_mag"][1] - rows["mag_psf"][1], abs=1e-3
    )
    assert table["JpsfME_CM"][0] == 99  # no counterpart
    assert table["Separation"][0] == -1
    assert table["JpsfMag"].mask[2]
    assert table["Radius"] == pytest.approx(0.5 * rows["flux_radius"], abs=0.006)
    assert table["JLimit_5sig"][0] == 20.13
    # zero point 24 (AB): 1 ADU is 10**-0.04 = 0.912 uJy
    assert table["forcedFlux_uJy"][0] == pytest.approx(91.2, abs=0.1)
    assert table.meta["verdict"] == "new"
    assert table.meta["given_dec_deg"] == -0.9


def test_a_limit_is_a_row_too(tmp_path):
    path = tmp_path / "GRB.ecsv"
    found = sighting(sources(3)[:0], "limit")
    write_table(path, target_table(found, CALIBRATION, 0.5, META))
    table = Table.read(path)
    assert len(table) == 1
    assert table["JpsfMag"].mask[0]
    assert (table["RA"][0], table["DEC"][0], table["Separation"][0]) == (200.9, -0.9, -1)
    assert table["JLimit_3sig"][0] == 20.68
    assert table["forcedSNR"][0] == 50


def test_regions_for_ds9(tmp_path):
    path = tmp_path / "a.reg"
    rows = sources(4)
    shapes = circles(rows, [sighting(rows)], 0.5, "J")
    odd = Circle(1.0, -0.5, 2.0, "red", "a {b}\nc")
    write_regions(path, [*shapes, odd])
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# Region file format: DS9")
    assert "fk5" in lines
    form = re.compile(r'circle\([\d.]+,-?[\d.]+,[\d.]+"\) # color=(\w+)(?: text=\{([^{}]*)\})?')
    read = [form.fullmatch(line) for line in lines[3:]]
    assert all(read)
    assert [found[1] for found in read] == [
        "red", "green", "magenta", "cyan", "yellow", "orange", "red"
    ]  # fmt: skip
    assert read[-1][2] == "a (b) c"
    assert read[5][2] == f"GRB J = {rows['mag_psf'][0]:.2f}"


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PhotometrusError, match="cannot be written"):
        write_regions(tmp_path / "file" / "a.reg", [])


@pytest.mark.parametrize(
    ("stack", "serial"),
    [
        ("coadd.Open-J.01599131-01599173.C3", "01599131"),
        ("coadd.Open-J.01599131-01599173.alt1.C3", "01599131.alt1"),
        ("mosaic_i2", "mosaic_i2"),
    ],
)
def test_names_of_products(stack, serial):
    products = StackProducts(Path("stack"), stack, "J", 3, "VHS")
    assert products.serial == serial
    names = {
        products.catalog().name: f"{stack}.VHS.ecsv",
        products.catalog(parquet=True).name: f"{stack}.VHS.parquet",
        products.regions.name: f"{stack}.VHS.reg",
        products.data(1).name: f"GRB_J_C3_Data_VHS_{serial}.ecsv",
        products.data(0).name: f"GRB_J_C3_Data_VHS_{serial}.ecsv",
        products.data(2).name: f"GRB_Multisource_J_C3_Data_VHS_{serial}.ecsv",
        products.data(2, 4).name: f"GRB_Multisource_J_C3_Data_VHS_{serial}_loc_4.ecsv",
        products.new_sources().name: f"New_Sources_J_C3_Data_VHS_{serial}.ecsv",
        products.chart(1).name: f"GRB_J_C3_Chart_VHS_{serial}_loc_1.png",
        products.report().name: f"GRB_J_C3_Report_VHS_{serial}.txt",
        products.query.name: f"VHS_C3_query_{serial}.ecsv",
        products.residuals().name: "Resid_3-sig_Data_J_C3_VHS.ecsv",
    }
    assert all(built == wanted for built, wanted in names.items())
    named = StackProducts(Path(), stack, "J", 3, "local", "../GRB 240825A/x")
    assert named.data(1).name == f"GRB_240825A_x_J_C3_Data_local_{serial}.ecsv"


def test_every_status_has_a_colour():
    rows = sources(4)
    assert {int(value) for value in rows["status"]} == {int(status) for status in Status}
    assert len({shape.color for shape in circles(rows, [], 0.5, "J")}) == len(Status)
