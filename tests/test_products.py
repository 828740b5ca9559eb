from datetime import date
from pathlib import Path

import pytest

from photometrus.errors import UsageError
from photometrus.products import Products, RampId, flat_name, parse_date, parse_ramp


@pytest.mark.parametrize(
    "name",
    [
        "01599131C2.fits.ramp",
        "C2/01599131C2.ramp.fits",
        "01599131C2.sky.flat.fits",
        "01599131C2.fits.ramp.fz",
    ],
)
def test_a_ramp_is_known_by_any_of_its_names(name):
    assert parse_ramp(name) == RampId(1599131, 2)


def test_a_strange_name_is_a_usage_error():
    with pytest.raises(UsageError, match="not a ramp's name"):
        parse_ramp("1599131C2.fits")


def test_names_are_the_contract():
    products = Products(Path("p"), "J")
    ramps = [RampId(1599131, 1), RampId(1599329, 1)]
    assert products.coadd(ramps) == Path("p/stack/coadd.Open-J.01599131-01599329.C1.fits.fz")
    assert products.weight(ramps) == Path("p/stack/weight.Open-J.01599131-01599329.C1.fits")
    assert products.coadd_wcs(ramps) == Path("p/stack/coadd.Open-J.01599131-01599329.C1.wcs")
    assert products.sky(ramps) == Path("p/sky/sky.Open-J.01599131-01599329.C1.fits")
    assert products.sources(ramps[0]) == Path("p/C1_sub/01599131C1.sky.flat.cat")
    assert products.placed(ramps[0]) == Path("p/C1_astrom/01599131C1.ramp.new")
    assert products.old_head(ramps[0]) == Path("p/C1_sub/old/01599131C1.sky.flat.head")
    assert Products(Path("p"), "Z").filters == "Z-Open"
    assert ramps[0].folder == "01599000"
    assert flat_name("J", date(2024, 6, 6), 3) == "mflat.J.20240606.C3.fits"


def test_dates():
    assert parse_date("20240606") == parse_date("2024-06-06") == date(2024, 6, 6)
    with pytest.raises(UsageError, match="yyyymmdd"):
        parse_date("6/6/2024")
