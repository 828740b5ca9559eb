"""Which ramps a reduction takes: the words, the rules, and real reductions by them."""

import json
import shutil
from pathlib import Path

import pytest
from astropy.io import fits

from photometrus.cli import main
from photometrus.errors import UsageError
from photometrus.products import RampId
from photometrus.selection import (
    Condition,
    SelectConfig,
    by_header,
    choose,
    is_included,
    read_conditions,
    read_ramps,
    read_slice,
)
from photometrus.simulate.night import SimulateConfig, simulate_night

SERIALS = [1599131 + 7 * k for k in range(6)]
RAMPS = {chip: [RampId(serial, chip) for serial in SERIALS] for chip in (1, 3)}


def chosen(**texts):
    return choose(RAMPS, dict.fromkeys(RAMPS, SelectConfig(**texts)))


def serials(choice, chip=1):
    return [ramp.serial for ramp in choice.ramps[chip]]


# ---------------------------------------------------------------- by name and number


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", SERIALS), ("0", SERIALS), (":", SERIALS), ("2", SERIALS[:2]), ("99", SERIALS),
        ("1:3", SERIALS[1:3]), (":-2", SERIALS[:-2]), ("-2:", SERIALS[-2:]), ("4:99", SERIALS[4:]),
    ],
)  # fmt: skip
def test_a_slice_is_python_s(text, wanted):
    choice = chosen(ramps=text)
    assert serials(choice) == serials(choice, 3) == wanted
    assert {ramp.serial for ramp in choice.left_out} == set(SERIALS) - set(wanted)


def test_chips_stay_alike_when_one_lacks_a_ramp():
    """The sequence is that of all chips: the first two serials, not each chip's first two."""
    ramps = {1: RAMPS[1], 3: RAMPS[3][1:]}
    choice = choose(ramps, dict.fromkeys(ramps, SelectConfig("2")))
    assert serials(choice) == SERIALS[:2]
    assert serials(choice, 3) == SERIALS[1:2]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("01599131", {(0, 1), (0, 3)}),
        ("1599131", {(0, 1), (0, 3)}),
        ("01599131C3", {(0, 3)}),
        ("01599131c3.ramp.fits, 01599145", {(0, 3), (2, 1), (2, 3)}),
        ("01599138-01599145", {(1, 1), (2, 1), (1, 3), (2, 3)}),
        ("01599132C1-01599150C1", {(1, 1), (2, 1)}),
    ],
)
def test_exclude(text, left):
    choice = chosen(exclude=text)
    wanted = {RampId(SERIALS[k], chip) for k, chip in left}
    assert set(choice.left_out) == wanted
    assert set(choice.left_out.values()) == {"left out by -exclude"}
    assert {ramp for ramps in choice.ramps.values() for ramp in ramps} == (
        {*RAMPS[1], *RAMPS[3]} - wanted
    )
    assert not choice.notes


def test_a_slice_is_counted_before_anything_is_excluded():
    choice = chosen(ramps="3", exclude="01599131")
    assert serials(choice) == SERIALS[1:3]
    assert choice.left_out[RAMPS[1][0]] == "left out by -exclude"
    assert choice.left_out[RAMPS[1][5]] == "left out by -rampnum 3"


def test_a_chip_has_exclusions_of_its_own():
    choice = choose(RAMPS, {1: SelectConfig(), 3: SelectConfig(exclude="01599131")})
    assert serials(choice) == SERIALS
    assert serials(choice, 3) == SERIALS[1:]


def test_a_name_that_is_not_there_gets_a_note():
    choice = chosen(exclude="01599999,01599131C2", include="01500000-01500001")
    assert len(choice.notes) == 2  # once, not once per chip; a serial that is there is no mistake
    assert choice.notes[0].startswith("01599999 is not among the 6 ramps 01599131 to 01599166")
    assert not choice.left_out


def test_nothing_left_is_an_error():
    with pytest.raises(UsageError, match="no ramp of 6 is left: -exclude"):
        chosen(exclude="01599131-01599199")
    with pytest.raises(UsageError, match="no ramp of 6 is left: -rampnum 9:"):
        chosen(ramps="9:")
    assert choose({1: []}, {1: SelectConfig("5")}).ramps == {1: []}  # that is another's to tell


def test_included_and_excluded_is_an_error():
    with pytest.raises(UsageError, match="01599138C1: both excluded and included"):
        chosen(exclude="01599131-01599145", include="01599138C1")
    everything = chosen(exclude="01599131", include="all")  # excluded is the stronger
    assert serials(everything) == SERIALS[1:]


def test_include():
    ramp = RampId(1599131, 3)
    assert is_included(ramp, SelectConfig(include="01599131"))
    assert is_included(ramp, SelectConfig(include="all"))
    assert not is_included(ramp, SelectConfig(include="01599131C1"))
    assert not is_included(ramp, SelectConfig())


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (read_slice, "-5"), (read_slice, "1:2:3"), (read_slice, "5.0"), (read_slice, "-:"),
        (read_ramps, "152"), (read_ramps, "01599131C5"), (read_ramps, "01599131C1-01599145C2"),
        (read_ramps, "01599145-01599131"), (read_ramps, "all"),
        (read_conditions, "AIRMASS"), (read_conditions, ":5"), (read_conditions, "A B:5"),
        (read_conditions, "AIRMASS:"), (read_conditions, "AIRMASS:<"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_usage_error(read, text):
    with pytest.raises(UsageError, match="expected|turn the two round"):
        read(text)


@pytest.mark.parametrize("key", ["ramps", "exclude", "include", "header"])
def test_settings_are_read_when_they_are_made(key):
    with pytest.raises(UsageError, match="1 2 3"):
        SelectConfig(**{key: "1 2 3"})


# ---------------------------------------------------------------- by header


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("A:60", 60.0, True), ("A:60", "60", True), ("A:6e1", 60, True), ("A:60", 60.5, False),
        ("A:nasa", "NASA ", True), ("A:nasa", "NAS", False), ("A:!=nasa", "other", True),
        ("A:<1.5", 1.4, True), ("A:<1.5", 1.5, False), ("A:<=1.5", 1.5, True),
        ("A:>1.5", 1.5, False), ("A:>=1.5", 1.5, True), ("A:!=1.5", 1.5, False),
        ("A:<1.5", "garbage", False), ("A:>1.5", "garbage", False), ("A:!=1.5", "garbage", True),
        ("A:T", True, True), ("A:true", True, True), ("A:F", True, False), ("A:1", True, False),
        ("A:>=2024-06-06T03:00", "2024-06-06T03:00:01.5", True),
        ("A:<2024-06-06T03:00", "2024-06-06T03:00:01.5", False),
        ("A: = field 1", "FIELD 1", True),
    ],
)  # fmt: skip
def test_conditions(text, value, holds):
    [condition] = read_conditions(text)
    assert condition.holds(value) is holds


def test_conditions_keep_their_words():
    assert read_conditions("airmass:<1.5, DATE-OBS:>=2024-06-06T03:00") == [
        Condition("AIRMASS", "<", "1.5"),
        Condition("DATE-OBS", ">=", "2024-06-06T03:00"),
    ]
    assert str(read_conditions("a:= 5")[0]) == "A:5"
    assert read_conditions("") == []


HEADERS = {
    "01599131C1": {"AIRMASS": 1.2, "OBSERVER": "NASA"},
    "01599138C1": {"AIRMASS": 1.7, "OBSERVER": "NASA"},
    "01599145C1": {"OBSERVER": "osaka"},
}


def test_all_conditions_must_hold_and_the_first_that_fails_is_told():
    assert by_header(HEADERS, SelectConfig(header="AIRMASS:<1.5,OBSERVER:nasa")) == {
        "01599138C1": "left out by -header_filter AIRMASS:<1.5: it is 1.7",
        "01599145C1": "left out by -header_filter AIRMASS:<1.5: it has none",
    }
    assert by_header(HEADERS, SelectConfig(header="OBSERVER:!=NASA")) == {
        "01599131C1": "left out by -header_filter OBSERVER:!=NASA: it is NASA",
        "01599138C1": "left out by -header_filter OBSERVER:!=NASA: it is NASA",
    }
    assert by_header(HEADERS, SelectConfig()) == {}
    assert by_header({}, SelectConfig(header="AIRMASS:1")) == {}


def test_a_keyword_that_no_header_has_is_an_error():
    with pytest.raises(UsageError, match=r"none of 3 headers has AIRMAS; did you mean 'AIRMASS'"):
        by_header(HEADERS, SelectConfig(header="AIRMAS:<1.5"))


def test_no_header_that_fits_is_an_error_with_what_they_say():
    with pytest.raises(UsageError, match=r"no frame of 3 is left: .*AIRMASS:>3: it has none"):
        by_header(HEADERS, SelectConfig(header="AIRMASS:>3"))


# ---------------------------------------------------------------- real reductions


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """Windows of two chips, five ramps of which one is cloudy and trailed."""
    config = SimulateConfig(size=1024, chips=(2, 3), ramps=5, seed=3, density="bulge")
    return simulate_night(tmp_path_factory.mktemp("selection") / "night", config)


@pytest.fixture(scope="module")
def ramps(night) -> list[int]:
    """The serials of the science ramps."""
    meta = json.loads((night / "truth" / "meta.json").read_text())
    return [int(exposure["num"]) for exposure in meta["chips"]["2"]["exposures"]]


@pytest.fixture(scope="module")
def bad(night, tmp_path_factory, ramps):
    """An untouched reduction of one chip, and the serial of the frame that it judged bad."""
    parent = tmp_path_factory.mktemp("plain")
    assert reduce(night, parent, "-chip", "2") == 0
    [frame] = [one for one in frames(parent, 2) if not one["used"]]
    return parent, int(frame["frame"][:8])


def reduce(night: Path, parent: Path, *more: str) -> int:
    where = ["-archive", str(night), "-flat_dir", str(night / "flats"), "-parent", str(parent)]
    what = ["-target", "field1111", "-date", "20240606", "-band", "J"]
    catalog = ["-catalog", str(night / "refcat_2mass.fits"), "-keep", "final"]
    return main(["pipeline", *what, *where, *catalog, *more])


def frames(parent: Path, chip: int) -> list[dict]:
    return json.loads((parent / "run.json").read_text())["chips"][f"C{chip}"]["frames"]


def in_stack(parent: Path, chip: int) -> list[int]:
    [path] = parent.glob(f"stack/coadd.*.C{chip}.fits.fz")
    header = fits.getheader(path, 1)
    return [int(header[f"FRAM{k:04d}"][:8]) for k in range(1, header["NCOMBINE"] + 1)]


def test_what_is_left_out_is_not_downloaded_and_is_told(night, ramps, bad, tmp_path, capsys):
    _, judged = bad
    words = ["-chip", "2,3", "-rampnum", "1:", "-exclude", f"{ramps[4]:08d}C3"]
    assert reduce(night, tmp_path, *words) == 0  # what the user leaves out is no loss
    told = capsys.readouterr().err
    kept = {2: ramps[1:], 3: ramps[1:4]}
    for chip, serials in kept.items():
        names = {path.name for path in tmp_path.glob(f"C{chip}/*")}
        assert names == {f"{serial:08d}C{chip}.ramp.fits" for serial in serials}
        assert in_stack(tmp_path, chip) == [serial for serial in serials if serial != judged]
        span = f"{serials[0]:08d}-{serials[-1]:08d}"
        assert (tmp_path / "stack" / f"weight.Open-J.{span}.C{chip}.fits").exists()
        reasons = {one["frame"]: one["reason"] for one in frames(tmp_path, chip)}
        assert set(reasons) == {f"{serial:08d}C{chip}" for serial in ramps}
        assert reasons[f"{ramps[0]:08d}C{chip}"] == "left out by -rampnum 1:"
        assert not any(one["lost"] for one in frames(tmp_path, chip))
        for name, reason in reasons.items():
            shown = [line for line in told.splitlines() if name in line and reason in line]
            assert bool(shown) == bool(reason)
    assert {one["frame"]: one["reason"] for one in frames(tmp_path, 3)}[
        f"{ramps[4]:08d}C3"
    ] == "left out by -exclude"


def test_ramps_on_disk_are_chosen_too(night, ramps, bad, tmp_path):
    parent, judged = bad
    shutil.copytree(parent / "C2", tmp_path / "C2")
    words = ["-catalog", str(night / "refcat_2mass.fits"), "-flat_dir", str(night / "flats")]
    words += ["-parent", str(tmp_path), "-band", "J", "-exclude", f"{judged:08d}", "-rampnum=-4:"]
    assert main(["stack", *words]) == 0
    assert in_stack(tmp_path, 2) == [one for one in ramps[1:] if one != judged]
    assert len(frames(tmp_path, 2)) == 5
    assert main(["stack", *words, "-rampnum", "7:"]) == 2


def test_include_overrules_the_judge(night, ramps, bad, tmp_path, capsys):
    parent, judged = bad
    assert judged not in in_stack(parent, 2)
    shutil.copytree(parent / "C2", tmp_path / "C2")
    words = ["-chip", "2", "-no_download", "-include", f"{judged:08d}"]
    assert reduce(night, tmp_path, *words) == 0
    assert in_stack(tmp_path, 2) == ramps
    assert all(one["used"] for one in frames(tmp_path, 2))
    note = f"{judged:08d}C2 is in the stack, as -include wants, though cloud"
    assert note in capsys.readouterr().err


def test_the_header_decides(night, ramps, bad, tmp_path, capsys):
    parent, judged = bad
    shutil.copytree(parent / "C2", tmp_path / "C2")
    begins = [fits.getheader(path)["MJD-BEG"] for path in sorted((tmp_path / "C2").iterdir())]
    after = 0.5 * (begins[1] + begins[2])
    header = f"MJD-BEG:>{after:.6f},OBJNAME:FIELD1111"
    words = ["-chip", "2", "-no_download"]
    assert reduce(night, tmp_path, *words, "-header_filter", header) == 0
    assert in_stack(tmp_path, 2) == [one for one in ramps[2:] if one != judged]
    reason = frames(tmp_path, 2)[0]["reason"]
    assert reason.startswith("left out by -header_filter MJD-BEG:>")
    assert reason in capsys.readouterr().err
    assert list(tmp_path.glob(f"stack/coadd.*.{ramps[2]:08d}-{ramps[4]:08d}.C2.fits.fz"))
    assert reduce(night, tmp_path, *words, "-header_filter", "OBJNAM:field1111") == 1
    assert "did you mean 'OBJNAME'" in capsys.readouterr().err
