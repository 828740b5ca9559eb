"""The night log: every rule of cleaning, selection, and what is said when nothing fits."""

import logging
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photometrus.errors import MissingInput, PhotometrusError, UsageError
from photometrus.io import nightlog, observed
from photometrus.io.nightlog import STANDARD_HEADER, clean_log, parse_log
from photometrus.products import RampId, log_name

# The name before and after, as the observatory's configuration lists them
REPAIRS = [
    ("all sky grid", "all_sky_grid"),
    ("no_grid ", "no_grid"),
    ("no_grid_test ", "no_grid_test"),
    ("field10554_ test", "field10554_test"),
    ("fucus test", "focus_test"),
    ("galactic plane", "galactic_plane"),
    ("standard star", "standard_star"),
    ("rotator test", "rotator_test"),
    ("SKY M7", "SKY_M7"),
    ("LVC S230522n", "LVC_S230522n"),
    ("Dec test", "Dec_test"),
    ("Galctic plane", "Galactic_plane"),
    ("Glactic plane", "Galactic_plane"),
    ("Galactic plane", "Galactic_plane"),
    ("Galactic Plane", "Galactic_plane"),
    ("Vignetting Test", "Vignetting_Test"),
    ("SPIS J0539-0059", "SPIS_J0539-0059"),
    ("Frost Check", "Frost_Check"),
    ("GainTest LED", "GainTest_LED"),
]


def line(
    serial: int,
    name: str = "field1111",
    *,
    kind: str = "OBJECT",
    filters: str = "Open J",
    step: int = 1,
    chip: int = 1,
    minute: int = 0,
) -> str:
    return (
        f"2024-06-06T16:{minute:02d}:00.000 {serial:08d}C{chip}.fits.ramp {name} {kind} NASA "
        f"{chip} {filters} 20.02 17.16 17.16 7 Circle 75 17.2 1 86.993 2452 7 {step}"
    )


def text(*lines: str, header: str | None = STANDARD_HEADER) -> str:
    return "\n".join([*([header] if header else []), *lines]) + "\n"


def names(content: str) -> list[str]:
    return [str(name) for name in parse_log(content)["OBJNAME"]]


@pytest.mark.parametrize(("typed", "meant"), REPAIRS)
def test_known_names_are_repaired(typed, meant):
    content = text(line(1, typed), line(2, "field1111"))
    assert names(content) == [meant, "field1111"]
    assert f"00000001C1.fits.ramp {meant} OBJECT" in clean_log(content)
    assert observed.select(parse_log(content), typed, "J") == [RampId(1, 1)]


def test_all_19_repairs_are_there():
    assert len(nightlog.NAME_REPAIRS) == len(REPAIRS) == 19
    assert {wrong.strip() for wrong, _ in nightlog.NAME_REPAIRS} == {w.strip() for w, _ in REPAIRS}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("focus run", "focus_run"),
        ("test field1111", "test_field1111"),
        ("GB5 dith 3", "GB5_dith_3"),
        ("a b  c   d e f g", "a_b_c_d_e_f_g"),
        ("42", "42"),
        ("OBJECT NASA 1 Open J", "OBJECT_NASA_1_Open_J"),
    ],
)
def test_any_other_blank_becomes_an_underscore(typed, meant):
    content = text(line(1, typed), line(2))
    table = parse_log(content)
    assert list(table["OBJNAME"]) == [meant, "field1111"]
    # No column has moved
    assert list(table["OBJTYPE"]) == ["OBJECT", "OBJECT"]
    assert list(table["INT"]) == [1, 1]
    assert observed.select(table, "field1111", "J") == [RampId(2, 1)]


@pytest.mark.parametrize(
    "dirt",
    [
        "Warning: dome temperature sensor timeout",
        "Warning : header keyword FOCUS missing",
        "  Warning: indented",
        "ERROR ramp fit failed for 00000002C3.fits.ramp",
        "# a remark",
        "2024-06-06T16:11:04.040 00000002C1.fits.ramp !! incomplete ramp !!",
        line(2, "field1111!"),
        "",
        "   \t ",
        line(2)[:-20],
        "00000002C1.fits.ramp",
        line(2).replace("00000002C1.fits.ramp", "../../00000002C1.fits.ramp"),
        line(2).replace("00000002C1", "00000002C5"),
        line(2).replace("Open J", "1.5 J"),
        line(2).replace(" 7 Circle", " seven Circle"),
        line(2).replace(" 7 Circle", " 99999999999999999999 Circle"),
        line(2, "field\x001111"),
        line(2, "field\x1b[31m1111"),
    ],
)
def test_what_is_no_ramp_is_dropped(dirt):
    content = text(line(1), dirt, line(3))
    assert list(parse_log(content)["serial"]) == [1, 3]
    assert len(clean_log(content).splitlines()) == 3


@pytest.mark.parametrize("name", ["field1111", "focus run", "GB5 dith 3"])
def test_no_truncation_of_a_line_is_mistaken_for_a_ramp(name):
    whole = line(2, name, step=1)
    kept = [
        length
        for length in range(len(whole))
        if len(parse_log(text(line(1), whole[:length], header=STANDARD_HEADER))) > 1
    ]
    # The last column is one digit long: a line that lacks it has one column less
    assert kept == []


def test_a_truncated_last_line_is_reported(caplog):
    content = text(line(1), line(2)).rstrip("\n")[:-30]
    with caplog.at_level(logging.WARNING):
        assert len(parse_log(content)) == 1
    assert "1 lines dropped" in caplog.text


def test_a_log_without_header_loses_no_row():
    with_header, without = text(line(1), line(2)), text(line(1), line(2), header=None)
    assert clean_log(without) == clean_log(with_header)
    assert list(parse_log(without)["serial"]) == [1, 2]
    assert parse_log(without).colnames[1:-1] == list(nightlog.STANDARD_COLUMNS)


def test_a_header_in_another_order_is_followed():
    header = "# filename,DATEBEG,OBJNAME,FILTER1,FILTER2,INT,SEEING"
    content = text("00000007C1.fits.ramp 2024-06-06 my own field Z Open 1 1.4", header=header)
    table = parse_log(content)
    assert list(table["OBJNAME"]) == ["my_own_field"]
    assert list(table["band"]) == ["Z"]
    assert list(table["SEEING"]) == ["1.4"]
    assert np.isnan(table["EXPTIME"][0])
    assert len(parse_log(clean_log(content))) == 1


def test_the_clean_log_is_what_its_users_read():
    cleaned = clean_log(text(line(1, "galactic plane"), "Warning: x", line(2)))
    header, *rows = cleaned.splitlines()
    assert header == STANDARD_HEADER.lstrip("# ").replace(",", " ").replace("  ", " ")
    assert rows == [line(1, "galactic_plane"), line(2)]
    assert {len(row.split(" ")) for row in rows} == {20}


def test_windows_lines_strange_bytes_and_marks():
    latin = text(line(1), line(2, "caf\xe9")).replace("\n", "\r\n").encode("latin-1")
    table = parse_log(nightlog.decode(b"\xef\xbb\xbf" + latin))
    assert list(table["serial"]) == [1, 2]
    assert str(table["OBJNAME"][1]) == "caf\ufffd"


def test_repeated_lines_count_once_and_the_later_wins():
    content = text(line(2), line(1), line(2), line(2, "field2222"))
    table = parse_log(content)
    assert list(table["serial"]) == [1, 2]
    assert list(table["OBJNAME"]) == ["field1111", "field2222"]
    assert len(clean_log(content).splitlines()) == 4


def test_the_name_of_another_chip_is_the_same_ramp():
    table = parse_log(text(line(1, chip=3), line(2)))
    assert observed.select(table, "field1111", "J") == [RampId(1, 1), RampId(2, 1)]


def test_units_and_values():
    table = parse_log(text(line(1)))
    assert table["serial"].dtype == np.int64
    assert (table["EXPTIME"].unit, table["DITHRAD"].unit) == ("s", "arcsec")
    assert (table["EXPTIME"][0], table["NFRAMES"][0], table["TEMPDET"][0]) == (20.02, 7, 86.993)


def test_a_value_that_is_not_known_does_not_cost_the_ramp():
    table = parse_log(text(line(1).replace("86.993 2452", "nan None")))
    assert np.isnan(table["TEMPDET"][0])
    assert np.isnan(table["FOCUS"][0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("\n \n", "empty"),
        (STANDARD_HEADER, "none of its 1 lines"),
        ("<html><body>Not found</body></html>", "none of its 1 lines"),
        (bytes(range(256)).decode("utf-8", "replace"), "not text"),
    ],
)
def test_a_log_without_ramps_says_so(content, said):
    with pytest.raises(MissingInput, match=said):
        parse_log(content, "ramp_fit_log_2024-06-06.dat")


def test_the_filter_wheels_decide_the_band():
    table = parse_log(
        text(
            line(1, filters="Z Open"),
            line(2, filters="Open J"),
            line(3, filters="Open Y"),
            line(4, filters="Open H"),
            line(5, filters="Dark Open"),
            line(6, filters="NB J"),
        )
    )
    assert list(table["band"]) == ["Z", "J", "Y", "H", "", ""]
    assert observed.select(table, "field1111", "Z") == [RampId(1, 1)]
    assert observed.select(table, "field1111", "J") == [RampId(2, 1)]


def test_selection_is_exact():
    table = parse_log(
        text(line(1), line(2, "field11112"), line(3, "test field1111"), line(4, "Field1111"))
    )
    assert observed.select(table, "field1111", "J") == [RampId(1, 1)]


def test_a_target_that_is_not_there():
    table = parse_log(text(line(1), line(2, "GRB240825A", filters="Open H")), "the log of tonight")
    with pytest.raises(UsageError) as caught:
        observed.select(table, "field1112", "J")
    said = str(caught.value)
    for part in ["field1112", "the log of tonight", "field1111 (J)", "GRB240825A (H)", "did you"]:
        assert part in said
    with pytest.raises(UsageError, match="did you mean 'GRB240825A'"):
        observed.select(table, "grb240825a", "H")


def test_a_band_that_is_not_there():
    table = parse_log(text(line(1), line(2), line(3, filters="Z Open"), line(4, "other")))
    with pytest.raises(UsageError, match=r"J \(2 ramps\), Z \(1\)"):
        observed.select(table, "field1111", "H")
    with pytest.raises(UsageError, match="PRIME has Z, Y, J, H"):
        observed.select(table, "field1111", "K")


def test_many_targets_are_not_all_listed():
    table = parse_log(text(*(line(i, f"target{i}") for i in range(1, 31))))
    with pytest.raises(UsageError, match="and 10 more"):
        observed.select(table, "nothing", "J")


def test_repeats_are_blocks():
    steps = [1, 2, 3, 1, 2, 1]
    table = parse_log(text(*(line(7 * i, step=step) for i, step in enumerate(steps))))
    assert [[r.serial for r in block] for block in observed.blocks(table, "field1111", "J")] == [
        [0, 7, 14],
        [21, 28],
        [35],
    ]


def test_a_block_cut_at_its_start_is_a_block():
    table = parse_log(text(line(1, step=2), line(2, step=3), line(3, step=1)))
    assert [len(block) for block in observed.blocks(table, "field1111", "J")] == [2, 1]


def test_flats_of_both_halves():
    table = parse_log(
        text(
            line(1, "FLAT", kind="FLAT"),
            line(2, "dome", kind="Flat"),
            line(3, "FLAT", kind="FLAT", filters="Open H"),
            line(50),
            line(98, "Flat", kind="TEST"),
            line(99, "FLATTER"),
        )
    )
    found = observed.flats(table, "J")
    assert list(found["serial"]) == [1, 2, 98]
    assert list(found["half"]) == ["start", "start", "end"]
    assert len(observed.flats(table, "Z")) == 0


def test_raw_frames_of_a_ramp():
    table = parse_log(text(line(1599131), line(1599138)))
    frames = observed.raw_frames(table, [RampId(1599131, 3)])
    assert frames == [RampId(serial, 3) for serial in range(1599131, 1599138)]


def test_summary():
    table = parse_log(
        text(
            line(1, minute=1),
            line(8, minute=2, step=2),
            line(15, "other", minute=3, filters="NB J"),
            line(22, minute=4, step=1),
        )
    )
    summary = observed.summarise(table)
    assert list(summary["target"]) == ["field1111", "other"]
    assert list(summary["band"]) == ["J", "NB-J"]
    assert list(summary["ramps"]) == [3, 1]
    assert list(summary["repeats"]) == [2, 1]
    assert (summary["first"][0], summary["last"][0]) == (1, 22)
    assert summary["start"][0] == "2024-06-06T16:01:00.000"
    assert summary["end"][0] == "2024-06-06T16:04:00.000"
    assert (summary["exposure"][0], summary["total"][0]) == (20.02, 60.06)
    assert summary["exposure"].unit == "s"


@pytest.mark.parametrize(
    ("folder", "night", "target", "band", "expected"),
    [
        ("dev_full", date(2024, 6, 6), "field1111", "J", list(range(1599131, 1599174, 7))),
        ("dev_full", date(2024, 6, 6), "field1111", "Z", [1599320, 1599327]),
        ("dev_small", date(2024, 8, 25), "GRB240825A", "H", list(range(1598997, 1599014, 4))),
        ("dev_small", date(2024, 8, 25), "GB5 dith 3", "H", [1599085, 1599089, 1599093]),
    ],
)
def test_dirty_nights(shared_data, folder, night, target, band, expected):
    path = shared_data / folder / "nfs/prime01/work/LOG/Ramp_LOG" / log_name(night)
    table = nightlog.read_log(path)
    # Lines of the file less header, warnings, errors, the half line and the blank one
    assert len(table) == len(path.read_text().splitlines()) - 6
    ramps = observed.select(table, target, band)
    assert [ramp.serial for ramp in ramps] == expected
    if expected[0] == 1598997:
        assert {ramp.folder for ramp in ramps} == {"01598000", "01599000"}


def test_a_log_that_is_not_on_disk(tmp_path):
    with pytest.raises(MissingInput, match="getdata"):
        nightlog.read_log(tmp_path / "absent.dat")


PIECES = st.sampled_from(
    [
        line(1),
        line(2, "focus run"),
        line(3)[:70],
        STANDARD_HEADER,
        "# filename,OBJNAME,FILTER1,FILTER2",
        "filename OBJNAME FILTER1 FILTER2 CHIP",
        "00000004C1.fits a field Open J",
        "Warning: x",
        " nan ",
        " 1e400 ",
        " -inf",
        "\N{ARABIC-INDIC DIGIT ONE}" * 8 + "C1.fits",
        "\r",
        "\n",
        "\x1c",
        "\u2028",
        "\0",
        "!",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=5))).map("\n".join)))
def test_any_text_is_a_log_or_an_error_of_ours(content):
    cleaned = clean_log(content)
    # Clean is clean: doing it again changes nothing
    assert clean_log(cleaned) == cleaned
    try:
        table = parse_log(cleaned)
    except PhotometrusError:
        with pytest.raises(PhotometrusError):
            parse_log(content)
    else:
        assert list(table["serial"]) == sorted(set(table["serial"].tolist()))
        assert list(parse_log(content)["serial"]) == list(table["serial"])


@settings(max_examples=200, deadline=None)
@given(
    name=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
        lambda name: "!" not in name
    ),
    blanks=st.lists(st.integers(1, 4), max_size=5),
)
def test_any_printable_name_keeps_its_columns(name, blanks):
    typed = name + "".join(" " * n + "x" for n in blanks)
    table = parse_log(text(line(5, typed)))
    assert str(table["OBJNAME"][0]) == "_".join([name, *"x" * len(blanks)])
    assert (table["CHIP"][0], table["INT"][0], str(table["band"][0])) == (1, 1, "J")
