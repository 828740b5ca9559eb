"""The stacks of a tree as one table and one plot."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from matplotlib.image import imread

from photometrus.calibration import Field, ZeroPoint
from photometrus.errors import MissingInput
from photometrus.frame import StackInfo
from photometrus.io.stackfile import read_stack
from photometrus.lightcurve import (
    COLUMNS,
    EpochPoint,
    LightCurveConfig,
    as_table,
    find_stacks,
    light_curve,
)
from photometrus.plots.lightcurve import draw_light_curve
from photometrus.wcs import pointing_wcs, sip_cards, sky_to_pixel

RA, DEC = 201.3, -0.9
INFO = StackInfo(
    "coadd", "GRB", "J", 3, 60467.0, 60467.01, 60467.02, 100.0, 9, 65.0, np.nan, np.nan
)


def zero_point(value=23.9, refused="", survey="VHS"):
    return ZeroPoint(
        band="J",
        flux="psf",
        stars=Table(),
        n_matched=120,
        n_chance=1.0,
        excluded={},
        mag_low=12.5,
        mag_high=18.0,
        survey=survey,
        source="",
        mag_system="Vega",
        to_ab=0.9,
        to_vega=0.0,
        color_name="",
        field=Field(0, (), (0.0, 0.0), 1.0),
        n_stars=100,
        value=value,
        err_stat=0.003,
        systematics={"transform": 0.004},
        refused=refused,
    )


def point(flux, *, mjd=60467.01, band="J", weight_ratio=1.0, zp=None, **kwargs):
    info = dataclasses.replace(INFO, middle_mjd=mjd, band=band)
    zp = zero_point() if zp is None else zp
    return EpochPoint(Path("c"), info, flux, 10.0, 8.0, 5.0, 6.0, weight_ratio, zp, **kwargs)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two nights: three whole stacks (one elsewhere), parts of one, and what is no stack."""
    root = tmp_path_factory.mktemp("tree")
    wcs = pointing_wcs(3, (RA + 0.3, DEC + 0.3), 48.0)
    here = sip_cards(wcs)
    there = sip_cards(pointing_wcs(3, (RA + 3.0, DEC + 0.3), 48.0))

    def write(name, cards, mjd):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        header = cards.copy()
        header["MJD-BEG"], header["MJD-END"], header["MJD-AVG"] = mjd, mjd + 0.02, mjd + 0.01
        header["EXPTIME"], header["NCOMBINE"] = 100.0, 9
        x, y = (int(np.round(v)) for v in sky_to_pixel(wcs, RA, DEC))
        data = np.zeros((4088, 4088), np.float32)
        data[y, x] = mjd
        fits.PrimaryHDU(data, header).writeto(path)

    write("n2/J/stack/coadd.Open-J.01599200-01599300.C3.fits", here, 60469.0)
    write("n1/J/stack/coadd.Open-J.01599100-01599150.C3.fits", here, 60467.0)
    write("n1/J/stack/coadd.Open-J.01599100-01599150.C1.fits", there, 60467.0)
    for part in ("alt1", "alt2", "inc005"):
        (root / f"n1/J/stack/coadd.Open-J.01599100-01599150.{part}.C3.fits").touch()
    (root / "n1/J/stack/coadd.Open-J.01599100-01599150.C3.fits.part").touch()
    (root / "n1/J/coadd.Open-J.01599100-01599150.C3.fits").touch()
    return root


def test_whole_stacks_only(tree):
    names = [path.name for path in find_stacks(tree)]
    assert names == [
        "coadd.Open-J.01599100-01599150.C1.fits",
        "coadd.Open-J.01599100-01599150.C3.fits",
        "coadd.Open-J.01599200-01599300.C3.fits",
    ]
    with pytest.raises(MissingInput, match="no stack/coadd"):
        find_stacks(tree / "n2" / "nothing")


def test_a_tree_becomes_a_table_in_order_of_time(tree):
    asked = []

    def measure(path, ra, dec):
        asked.append(path.name)
        stack = read_stack(path)
        x, y = (float(v) for v in sky_to_pixel(stack.wcs, ra, dec))
        flux = float(stack.data[round(y), round(x)])  # as written: the MJD
        return EpochPoint(path, stack.info, flux, 10.0, 8.0, x, y, 1.0, zero_point())

    table = light_curve(find_stacks(tree)[::-1], RA, DEC, measure, t0_mjd=60466.0)
    assert len(asked) == 2  # not the one that points elsewhere
    assert table.colnames == list(COLUMNS)
    assert table["mjd_mid"].tolist() == pytest.approx([60467.01, 60469.01])
    assert table["since_t0"].tolist() == pytest.approx([1.01, 3.01])
    assert table["snr"].tolist() == pytest.approx([6046.7, 6046.9])
    assert table["date"][0].startswith("2024-06-06T00:14:24")
    assert table["chip"].tolist() == [3, 3]
    assert table.meta["surveys"] == {"J": ["VHS"]}
    assert all(table[name].description for name in COLUMNS)
    with pytest.raises(MissingInput, match="0 reach there"):
        light_curve(find_stacks(tree), RA + 90, DEC, measure)


def test_what_says_nothing_is_lost_with_its_reason(tree):
    answers = iter([point(100.0, weight_ratio=0.02), point(100.0)])
    table = light_curve(find_stacks(tree), RA, DEC, lambda *_: next(answers))
    assert len(table) == 1
    assert [*table.meta["lost"].values()] == [
        "weight 0.02 of the usual at the position, at least 0.1 needed"
    ]
    refused = zero_point(refused="3 stars")
    with pytest.raises(MissingInput, match="3 stars"):
        light_curve(find_stacks(tree), RA, DEC, lambda *_: point(1.0, zp=refused))


def test_detections_and_limits():
    table = as_table(
        [point(100.0, mjd=60469.0), point(29.0, mjd=60468.0), point(-5.0, mjd=60470.0)]
    )
    assert table["detection"].tolist() == [False, True, False]
    assert table["mag"][1] == pytest.approx(23.9 + 0.9 - 5.0)
    assert table["mag_err"][1] == pytest.approx(1.0857 * 0.1, rel=1e-4)
    assert table["mag_err_sys"][1] == pytest.approx(0.005)
    assert np.isnan(table["mag"][[0, 2]]).all()
    # three times 8 ADU, the error of an empty place
    assert table["limit_3sigma"][0] == pytest.approx(24.8 - 2.5 * np.log10(24.0))
    assert table["limit_3sigma"][0] - table["limit_5sigma"][0] == pytest.approx(0.5546, abs=1e-4)
    assert table["flux_ujy"][1] == pytest.approx(100 * 10 ** (-0.4 * 0.9))
    assert table["flux_ujy"][2] < 0
    assert as_table([point(29.0)], LightCurveConfig(detection_sigma=2.5))["detection"].all()


def test_one_system_throughout(caplog):
    ab = as_table([point(100.0)])["mag"][0]
    assert ab - as_table([point(100.0)], system="Vega")["mag"][0] == pytest.approx(0.9)
    mixed = [point(100.0), point(90.0, mjd=60468.0, zp=zero_point(survey="2MASS"))]
    assert as_table(mixed).meta["surveys"] == {"J": ["2MASS", "VHS"]}
    assert "name one survey" in caplog.text


def test_the_table_survives_the_disk(tmp_path):
    table = as_table([point(100.0), point(1.0)], t0_mjd=60466.0)
    table.write(tmp_path / "lc.ecsv")
    again = Table.read(tmp_path / "lc.ecsv")
    assert again["mag"].unit == "mag"
    assert again.meta["t0_mjd"] == 60466.0


def test_a_published_light_curve_is_drawn(shared_data, tmp_path):
    """AT2017gfo: nine bands, ten days, limits among them; each band leaves its colour."""
    data = Table.read(shared_data / "real/published_photometry/AT2017gfo_optical.csv")
    snr = np.asarray(data["flux"] / data["fluxerr"])
    table = Table({"mjd_mid": data["mjd"], "mjd_begin": data["mjd"], "mjd_end": data["mjd"]})
    table["band"] = data["filter"]
    table["mag"] = data["zp"] - 2.5 * np.log10(np.maximum(data["flux"], 1e-9))
    table["mag_err"], table["detection"] = 1.0857 / np.maximum(snr, 0.1), snr > 3
    table["limit_3sigma"] = data["zp"] - 2.5 * np.log10(3 * data["fluxerr"])
    table.meta |= {"system": "AB", "t0_mjd": 57982.5285}
    assert 0 < np.count_nonzero(snr <= 3) < len(table)
    draw_light_curve(tmp_path / "gfo.png", table, "AT2017gfo")
    picture = imread(tmp_path / "gfo.png")[..., :3]
    colors = {tuple(c) for c in np.round(picture.reshape(-1, 3) * 255).astype(int)}
    assert {(230, 159, 0), (86, 180, 233), (27, 42, 65), (240, 2, 127)} <= colors


def test_limits_alone_without_t0_are_drawn(tmp_path):
    table = as_table([point(1.0), point(2.0, mjd=60470.0, band="H")])
    draw_light_curve(tmp_path / "limits.png", table, "GRB 240606A")
    picture = np.round(imread(tmp_path / "limits.png")[..., :3] * 255).astype(int)
    blue, red = (0, 114, 178), (213, 94, 0)
    for color in (blue, red):  # J and H, arrows and legend
        assert (picture == color).all(axis=-1).sum() > 20
