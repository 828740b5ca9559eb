"""What holds for any input: parsers give a value in its limits or an error of ours, names and
coordinates come back as they went.
"""

import math
import re
import string
import warnings
from contextlib import suppress
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from photometrus.cli.angles import declination, places, radius, right_ascension
from photometrus.cli.times import moment
from photometrus.errors import FrameError, MissingInput, UsageError
from photometrus.instrument import BANDS
from photometrus.io import nightlog
from photometrus.io.damage import readable
from photometrus.io.fitsfile import clean_header, header_wcs
from photometrus.io.rampfile import MAX_EXPOSURE_S, MAX_READS, frame_info
from photometrus.products import (
    FLAT_NAME,
    Products,
    RampId,
    StackProducts,
    flat_name,
    log_name,
    parse_date,
    parse_ramp,
)
from photometrus.selection import (
    Condition,
    SelectConfig,
    choose,
    read_conditions,
    read_ramps,
    read_slice,
)
from photometrus.wcs import (
    pixel_to_sky,
    pointing_wcs,
    shifted,
    sip_cards,
    sky_to_pixel,
    to_plane,
    tpv_cards,
)
from synth import ramp_header

quick = settings(
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
few = settings(quick, max_examples=25)

SERIALS = st.integers(0, 99_999_999)
CHIPS = st.integers(1, 4)
RAMPS = st.builds(RampId, SERIALS, CHIPS)
NIGHTS = st.dates(date(2000, 1, 1), date(2099, 12, 31))
DEC = st.floats(-90, 90)
RA = st.floats(0, 360, exclude_max=True)
ANYTHING = st.text(max_size=40)


# ---------------------------------------------------------------- the night log

WORD = st.text(string.ascii_letters + "_-", min_size=1, max_size=8).filter(
    lambda word: not is_number(word) and not word.startswith(("Warning", "ERROR"))
)
LINES = st.builds(
    lambda serial, name, filters, exposure, reads, number: {
        "DATEBEG": "2024-06-06T18:00:00.000",
        "filename": f"{serial:08d}C1.fits.ramp",
        "OBJNAME": " ".join(name),
        "OBJTYPE": "OBJECT",
        "OBSERVER": "somebody",
        "CHIP": "1",
        "FILTER1": filters[0],
        "FILTER2": filters[1],
        "EXPTIME": repr(exposure),
        "EXPTIMEE": repr(exposure),
        "EXPTIMEC": "None",
        "NFRAMES": str(reads),
        "DITHTYP": "Random",
        "DITHRAD": "20",
        "DITHPH": "0",
        "DITH_REP": "1",
        "TEMPDET": "nan",
        "FOCUS": "-",
        "NINT": "9",
        "INT": str(number),
    },
    SERIALS,
    st.lists(WORD, min_size=1, max_size=3),
    st.sampled_from([("Open", "J"), ("Z", "Open"), ("Open", "Dark")]),
    st.floats(0.1, 1000),
    st.integers(0, 1000),
    st.integers(0, 99),
)


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def written(rows: list[dict[str, str]]) -> str:
    return "\n".join([nightlog.STANDARD_HEADER, *(" ".join(row.values()) for row in rows)]) + "\n"


@quick
@given(st.lists(LINES, min_size=1, max_size=6))
def test_a_log_comes_back_as_it_was_written(rows):
    table = nightlog.parse_log(written(rows))
    last = {int(row["filename"][:8]): row for row in rows}  # the later of two lines counts
    assert table["serial"].tolist() == sorted(last)
    for row in table:
        told = last[row["serial"]]
        assert row["OBJNAME"] == nightlog.repair_name(told["OBJNAME"])
        assert float(row["EXPTIME"]) == float(told["EXPTIME"])
        assert row["NFRAMES"] == int(told["NFRAMES"])
        assert (row["band"] != "") == (told["FILTER2"] != "Dark")
        assert math.isnan(row["TEMPDET"])


@quick
@given(st.lists(LINES, min_size=1, max_size=4), st.lists(ANYTHING, max_size=4), st.randoms())
def test_dirt_between_the_lines_changes_nothing(rows, dirt, random):
    lines = written(rows).splitlines()
    for one in dirt:
        assume("\n" not in one and nightlog._row(one, nightlog.STANDARD_COLUMNS) is None)
        lines.insert(random.randint(1, len(lines)), "! " + " ".join(one.split()))
    clean, dirty = nightlog.parse_log(written(rows)), nightlog.parse_log("\n".join(lines))
    assert clean.pformat(max_lines=-1) == dirty.pformat(max_lines=-1)


@quick
@given(st.one_of(st.text(), st.binary().map(nightlog.decode), st.lists(LINES).map(written)))
def test_cleaning_a_log_twice_is_cleaning_it_once(text):
    once = nightlog.clean_log(text)
    assert nightlog.clean_log(once) == once


@quick
@given(st.one_of(st.text(), st.binary().map(nightlog.decode)))
def test_any_text_is_a_log_or_a_missing_one(text):
    try:
        table = nightlog.parse_log(text)
    except MissingInput:
        return
    assert (np.diff(table["serial"]) > 0).all()


# ---------------------------------------------------------------- headers of ramps

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(string.printable[:95], max_size=30),
    st.sampled_from(["nan", "inf", "-0:00:01", "24:60:60", "1e999", "2024-06-06", "Open", "J", ""]),
)
KEYS = ("CHIP", "FILTER1", "FILTER2", "RA", "DEC", "RA-D", "DEC-D", "ROTOFF", "EXPTIMEE", "FRTIME",
        "NFRAMES", "MJD-BEG", "MJD-END", "DATE-BEG", "DITHRAD")  # fmt: skip


@settings(quick, max_examples=150)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4))
@example({"FRTIME": 1e-300, "NFRAMES": None})
@example({"NFRAMES": 2**40, "MJD-END": None})
def test_any_header_is_a_frame_or_a_bad_one(changes):
    try:
        info = frame_info(ramp_header(**changes), Path("01599131C1.ramp.fits"))
    except FrameError as error:
        assert str(error).startswith("01599131C1: ")  # noqa: PT017 - either of two is right
        return
    assert info.band in BANDS
    assert 0 <= info.ra_deg < 360
    assert -90 <= info.dec_deg <= 90
    assert 0 < info.exposure_s < MAX_EXPOSURE_S
    assert 1 < info.reads <= MAX_EXPOSURE_S / 0.01 + MAX_READS
    assert 50000 < info.begin_mjd <= info.end_mjd < 100000
    assert info.rotator_deg is None or abs(info.rotator_deg) <= 360
    assert math.isfinite(info.dither_radius_arcsec)


@quick
@given(st.lists(st.binary(min_size=80, max_size=80), max_size=5))
def test_of_any_cards_only_readable_ones_stay(cards):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_cards(cards)


def check_cards(cards: list[bytes]) -> None:
    header = fits.Header.fromstring(
        "".join(["CHIP    =                    1".ljust(80), *(c.decode("latin-1") for c in cards)])
    )
    good = readable(header)
    assert good["CHIP"] == 1
    for card in good.cards:
        assert card.comment is not None
        assert not isinstance(card.value, fits.card.Undefined)
    assert readable(good) == good
    for card in clean_header(header).cards:
        card.verify("exception")


# ---------------------------------------------------------------- angles and moments


@quick
@given(RA)
def test_right_ascensions_come_back(degrees):
    ticks = round(degrees / 15 * 3600 * 1000)
    seconds, milli = divmod(ticks, 1000)
    text = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milli:03d}"
    # Half a millisecond of time is 2.1e-6 degrees.
    away = (right_ascension(text) - degrees + 180) % 360 - 180
    assert abs(away) < 2.2e-6
    assert right_ascension(text.replace(":", "h", 1).replace(":", "m") + "s") == right_ascension(
        text
    )
    assert right_ascension(f"{degrees:.6f}") == pytest.approx(float(f"{degrees:.6f}") % 360)


@quick
@given(DEC)
@example(-0.0001)
def test_declinations_come_back(degrees):
    ticks = round(abs(degrees) * 3600 * 100)
    seconds, centi = divmod(ticks, 100)
    sign = "-" if degrees < 0 else "+"
    text = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{centi:02d}"
    assert declination(text) == pytest.approx(degrees, abs=1.5e-6)  # half of 0.01"


@quick
@given(st.one_of(ANYTHING, st.text("0123456789:hdms'\"°+-. eE", max_size=20)))
def test_any_text_is_an_angle_in_its_limits_or_refused(text):
    for read, low, high in ((right_ascension, 0, 360), (declination, -90, 90), (radius, 0, 36000)):
        with suppress(ValueError):
            assert low <= read(text) <= high


@quick
@given(st.one_of(ANYTHING, st.text("[](),0123456789.-; abc", max_size=40)))
def test_any_text_is_a_list_of_places_or_refused(text):
    try:
        found = places(text)
    except ValueError:
        return
    assert found
    assert all(0 <= one.ra_deg <= 360 and -90 <= one.dec_deg <= 90 for one in found)


@quick
@given(st.lists(st.tuples(RA, DEC), min_size=1, max_size=5))
def test_lists_of_places_come_back(pairs):
    text = "[" + ", ".join(f"({ra:.9f}, {dec:.9f})" for ra, dec in pairs) + "]"
    found = places(text)
    assert len(found) == len(pairs)
    for one, (ra, dec) in zip(found, pairs, strict=True):
        assert (one.ra_deg - ra + 180) % 360 - 180 == pytest.approx(0, abs=1e-8)
        assert one.dec_deg == pytest.approx(dec, abs=1e-8)


@quick
@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))
def test_moments_come_back(at):
    mjd = (at - datetime(1858, 11, 17)) / timedelta(days=1)
    # A double of 60000 days has steps of 7e-12 days; three operations.
    for text in (at.isoformat(), at.isoformat(" "), at.isoformat() + "Z"):
        assert moment(text) == pytest.approx(mjd, abs=1e-9)
    assert moment(repr(mjd)) == mjd
    # A JD has steps of 5e-10 days.
    assert moment(repr(mjd + 2400000.5)) == pytest.approx(mjd, abs=1e-9)


@quick
@given(st.one_of(ANYTHING, st.text("0123456789-T:.+Z ", max_size=30)))
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59-23:59")
@example("nan")
def test_any_text_is_a_moment_or_refused(text):
    with suppress(ValueError):
        assert 40000 <= moment(text) <= 100000


# ---------------------------------------------------------------- names on disk


@quick
@given(st.lists(RAMPS, min_size=1, max_size=5), st.sampled_from(sorted(BANDS)), NIGHTS)
def test_names_are_parsed_as_they_were_built(ramps, band, night):
    products = Products(Path("x y/ü"), band)
    for ramp in ramps:
        for make in (
            "ramp",
            "placed",
            "flat_fielded",
            "sky_subtracted",
            "sources",
            "head",
            "flags",
        ):
            assert parse_ramp(str(getattr(products, make)(ramp))) == ramp
        assert parse_ramp(f"{ramp}.fits.ramp") == ramp
    assert int(ramps[0].folder) <= ramps[0].serial < int(ramps[0].folder) + 1000
    match = FLAT_NAME.match(flat_name(band, night, ramps[0].chip))
    assert (match["band"], int(match["chip"])) == (band, ramps[0].chip)
    assert parse_date(match["date"]) == night
    assert parse_date(re.search(r"\d{4}-\d\d-\d\d", log_name(night))[0]) == night


@quick
@given(st.lists(SERIALS, min_size=1, max_size=5), CHIPS, st.sampled_from(["", "alt1", "inc005"]))
def test_a_stack_is_known_by_its_first_serial(serials, chip, part):
    coadd = Products(Path(), "J").coadd([RampId(serial, chip) for serial in serials], part)
    stack = StackProducts(Path(), coadd.name.removesuffix(".fits.fz"), "J", chip, "VHS")
    assert stack.serial == f"{min(serials):08d}" + (f".{part}" if part else "")


@quick
@given(ANYTHING)
def test_any_name_is_a_ramp_or_refused_and_no_target_leaves_its_folder(text):
    with suppress(UsageError):
        assert 1 <= parse_ramp(text).chip <= 4
    stack = StackProducts(Path("folder"), "coadd", "J", 1, "VHS", text)
    for path in (stack.chart(), stack.report(2), stack.data(1)):
        assert path.parent == Path("folder")
        assert path.name.isprintable()
        assert not path.name.startswith(".")


# ---------------------------------------------------------------- coordinates

PIXELS = np.meshgrid([0.0, 1000.0, 2044.0, 4087.0], [0.0, 1500.0, 4087.0])
X, Y = (axis.ravel() for axis in PIXELS)
ANGLES = st.floats(-360, 360)


@few
@given(CHIPS, RA, DEC, ANGLES)
@example(1, 0.0, 90.0, 48.0)
@example(2, 123.0, -90.0, 0.0)
@example(3, 359.9999, 0.0, 48.0)
@example(4, 0.0, 89.6, 48.0)  # the pole is on the chip
def test_pixels_come_back_from_anywhere_on_the_sky(chip, ra, dec, rotator):
    wcs = pointing_wcs(chip, (ra, dec), rotator)
    where = pixel_to_sky(wcs, X, Y)
    x, y = sky_to_pixel(wcs, *where)
    # 12 rounds of the iteration leave 1e-8; a degree in a double is good to 6e-14, a pixel's 5e-10.
    assert np.abs(x - X).max() < 1e-6
    assert np.abs(y - Y).max() < 1e-6
    # The same again as what is written: SIP exactly, TPV as well as it can be fitted (0.1 mas).
    back = pixel_to_sky(header_wcs(sip_cards(wcs)), X, Y)
    assert separation_mas(where, back) < 1e-3
    back = pixel_to_sky(header_wcs(tpv_cards(wcs)), X, Y)
    assert separation_mas(where, back) < 0.5


@few
@given(CHIPS, RA, DEC, st.floats(-300, 300), st.floats(-300, 300))
@example(1, 10.0, 89.9, 250.0, 250.0)
def test_a_shift_moves_all_pixels_alike(chip, ra, dec, east, north):
    wcs = pointing_wcs(chip, (ra, dec), 48.0)
    moved = shifted(wcs, east, north)
    distance = [
        np.hypot(*to_plane(*pixel_to_sky(one, X[1:2], Y[1:2]), place_of(one, X[0], Y[0])))
        for one in (wcs, moved)
    ]
    assert distance[0] == pytest.approx(distance[1], rel=1e-9)  # a rotation of the sphere
    x, y = sky_to_pixel(moved, *pixel_to_sky(moved, X, Y))
    assert np.abs(np.hypot(x - X, y - Y)).max() < 1e-6


def place_of(wcs, x, y) -> tuple[float, float]:
    ra, dec = pixel_to_sky(wcs, x, y)
    return float(ra), float(dec)


def separation_mas(a, b) -> float:
    (ra_a, dec_a), (ra_b, dec_b) = np.radians(a), np.radians(b)
    one, two = (
        np.stack([np.cos(d) * np.cos(r), np.cos(d) * np.sin(r), np.sin(d)])
        for r, d in ((ra_a, dec_a), (ra_b, dec_b))
    )
    return float(np.degrees(np.sqrt(((one - two) ** 2).sum(axis=0)).max()) * 3.6e6)


# ---------------------------------------------------------------- which ramps

BOUND = st.one_of(st.none(), st.integers(-20, 20))


@quick
@given(BOUND, BOUND, st.integers(0, 20))
def test_slices_are_those_of_python(start, stop, n):
    text = f"{'' if start is None else start}:{'' if stop is None else stop}"
    assert list(range(n))[read_slice(text)] == list(range(n))[start:stop]


@quick
@given(st.lists(st.tuples(SERIALS, SERIALS, st.one_of(st.none(), CHIPS)), max_size=4), RAMPS)
def test_ranges_hold_what_they_name(parts, ramp):
    parts = [(min(a, b), max(a, b), chip) for a, b, chip in parts]
    text = ", ".join(
        f"{a:08d}{f'C{chip}' if chip else ''}-{b:08d}{f'C{chip}' if chip else ''}"
        for a, b, chip in parts
    )
    wanted = any(a <= ramp.serial <= b and chip in (None, ramp.chip) for a, b, chip in parts)
    assert any(ramp in one for one in read_ramps(text)) == wanted


@quick
@given(
    st.text(string.ascii_uppercase + string.digits + "-_", min_size=1, max_size=8),
    st.sampled_from(["=", "!=", "<", ">", "<=", ">="]),
    st.one_of(st.floats(allow_nan=False).map(repr), WORD),
    VALUES,
)
def test_conditions_come_back_and_hold_or_not(key, sign, text, value):
    condition = Condition(key, sign, text)
    assert read_conditions(str(condition)) == [condition]
    opposite = {"=": "!=", "<": ">=", "<=": ">"}.get(sign)
    holds = condition.holds(value)
    if opposite and is_number(text) and isinstance(value, float):
        assert holds != Condition(key, opposite, text).holds(value)


@quick
@given(ANYTHING)
def test_any_text_is_a_selection_or_refused(text):
    for name in ("ramps", "exclude", "include", "header"):
        with suppress(UsageError):
            SelectConfig(**{name: text})


@quick
@given(st.sets(RAMPS, min_size=1, max_size=12), st.integers(0, 12), st.lists(RAMPS, max_size=3))
def test_every_ramp_is_taken_or_has_a_reason(ramps, first, excluded):
    of_chip = {chip: sorted(r for r in ramps if r.chip == chip) for chip in (1, 2, 3, 4)}
    config = SelectConfig(ramps=str(first), exclude=",".join(map(str, excluded)))
    try:
        choice = choose(of_chip, dict.fromkeys(of_chip, config))
    except UsageError as error:
        assert "is left" in str(error)  # noqa: PT017 - either of two is right
        return
    taken = {ramp for some in choice.ramps.values() for ramp in some}
    assert taken | set(choice.left_out) == ramps
    assert not taken & set(choice.left_out)
    assert not taken & set(excluded)
