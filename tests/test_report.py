"""The report of a target, for people and for programs."""

import json
import math
from dataclasses import replace

import pytest
from astropy.table import Table

from photometrus.frame import StackInfo
from photometrus.report import magnitude_words, record, report, sexagesimal, since
from photometrus.sighting import NOT_COVERED, AtPosition, Calibration, Sighting, Target
from photometrus.sourcetable import Status

INFO = StackInfo(
    name="coadd.Open-J.01599131-01599173.C3", target="field1111", band="J", chip=3,
    begin_mjd=60467.8, middle_mjd=60467.805, end_mjd=60467.81, exposure_s=103.0, n_frames=6,
    gain_e_per_adu=64.8, saturation_adu=math.nan, pixel_scatter=0.89,
)  # fmt: skip
CALIBRATION = Calibration("J", "AB", 0.94, "VHS", 214, 24.0, 0.003, 0.01)
AT = AtPosition(100.0, 2.0, 17.5, 0.02, limit_3sigma=20.68, limit_5sigma=20.13)
TARGET = Target("GRB 240606A", 200.896435, -0.0058, 5.0)
ROWS = Table(
    {
        "ra_deg": [200.89644], "dec_deg": [-0.00583], "mag_psf": [17.523], "mag_psf_err": [0.021],
        "snr": [51.7], "distance_arcsec": [0.11], "status": [int(Status.NEW)],
        "star_mag": [18.6], "star_mag_err": [0.04], "reason": [""],
    }
)  # fmt: skip
NEW = Sighting(TARGET, AT, ROWS, "new", "")
LIMIT = Sighting(TARGET, AT, ROWS[:0], "limit", "")


def test_a_detection_has_all_that_a_circular_needs():
    text = report(INFO, NEW, CALIBRATION, t0_mjd=60467.8 - 0.125, position_err_arcsec=0.08)
    assert text == (
        "The field of GRB 240606A was observed with the PRIME 1.8 m telescope at\n"
        "Sutherland, South Africa in J from 2024-06-06T19:12:00 to\n"
        "2024-06-06T19:26:24 UTC, 3.00 h after T0.\n\n"
        "Within 5 arcsec of the given position we detect a source that is not in\n"
        "VHS:\n\n"
        "  RA, Dec (J2000) = 13:23:35.15 -00:00:21.0 (+- 0.08 arcsec)\n"
        "                  = 200.896440 -0.005830 deg\n"
        "  offset 0.11 arcsec from the given position, S/N 51.7\n\n"
        "  Mid-time (UTC)  2024-06-06T19:19:12\n"
        "  T-T0 (mid)      3.12 h\n"
        "  Exposure        6 x 17.2 s\n"
        "  Magnitude       J = 17.52 +- 0.02 (AB)\n"
        "    its error     0.021 stat, 0.010 sys (zero point)\n"
        "  Limit there     20.6 (3 sigma), 20.1 (5 sigma)\n"
        "  Forced S/N      50.0 at the given position\n\n"
        "Magnitudes are in the AB system, calibrated with 214 stars of VHS; the\n"
        "zero point is good to 0.010 mag.\n\n"
        "They are not corrected for Galactic extinction.\n"
    )


def test_a_limit_says_of_how_many_sigma_and_never_a_magnitude():
    text = report(INFO, LIMIT, CALIBRATION)
    assert "J > 20.6 (AB, 3 sigma)" in text
    assert "no new source is detected" in text
    assert "J =" not in text
    assert "T0" not in text


@pytest.mark.parametrize("verdict", ["new", "changed", "faint", "forced", "known", "doubtful",
                                     "limit", "not covered"])  # fmt: skip
@pytest.mark.parametrize("chip", [0, 3])
def test_every_verdict_fits_into_a_circular(verdict, chip):
    at = NOT_COVERED if verdict == "not covered" else AT
    found = replace(NEW, verdict=verdict, at=at, target=replace(TARGET, name="GRB 1 “ß” " * 9))
    name = "a survey of a very long name indeed " * 3
    text = report(
        replace(INFO, chip=chip),
        found,
        replace(CALIBRATION, survey=name),
        t0_mjd=60000.0,
        e_b_v=0.1,
    )
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 72
    assert "nan" not in text
    assert ("PRIME" in text) == (chip == 3)


def test_what_the_stack_does_not_tell_is_unknown():
    nothing = replace(INFO, begin_mjd=math.nan, middle_mjd=math.nan, end_mjd=math.nan)
    text = report(replace(nothing, exposure_s=math.nan), LIMIT, CALIBRATION, t0_mjd=60000.0)
    assert "Mid-time (UTC)  unknown" in text
    assert "T-T0 (mid)      unknown" in text
    assert "Exposure        6 frames" in text


@pytest.mark.parametrize(
    ("band", "words"),
    # Schlafly & Finkbeiner 2011, table 6: J 0.709, H 0.449 for R_V = 3.1
    [("J", "E(B-V) = 0.100, A_J = 0.071 mag."), ("H", "E(B-V) = 0.100, A_H = 0.045 mag."),
     ("Z", "E(B-V) = 0.100 mag.")],
)  # fmt: skip
def test_extinction_is_told_and_not_corrected(band, words):
    text = report(INFO, LIMIT, replace(CALIBRATION, band=band), e_b_v=0.1)
    assert words in " ".join(text.split())
    assert "not corrected for Galactic extinction" in text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(45, "45 s"), (-30, "-30 s"), (600, "10.0 min"), (12600, "3.50 h"), (864000, "10.00 d")],
)
def test_time_since_the_trigger(seconds, words):
    assert since(60000.0 + seconds / 86400, 60000.0) == words


@pytest.mark.parametrize(
    ("ra", "dec", "text"),
    [
        (344.572, 1.02675, "22:58:17.28 +01:01:36.3"),
        (359.99999, -0.5, "00:00:00.00 -00:30:00.0"),
        (0.0, -0.00001, "00:00:00.00 -00:00:00.0"),
        (179.99999999, 89.99999999, "12:00:00.00 +90:00:00.0"),
    ],
)
def test_sexagesimal_never_has_sixty(ra, dec, text):
    assert sexagesimal(ra, dec) == text


def test_errors_hold_the_zero_point_and_are_never_nothing():
    sure = Table(ROWS)
    sure["mag_psf_err"] = 0.0001
    exact = replace(CALIBRATION, stat_err=0.0, sys_err=0.0)
    assert magnitude_words(replace(NEW, sources=sure), exact) == "J = 17.52 +- 0.01 (AB)"
    rough = replace(CALIBRATION, stat_err=0.03, sys_err=0.04)  # with 0.021: 0.054
    assert magnitude_words(NEW, rough) == "J = 17.52 +- 0.05 (AB)"
    assert magnitude_words(replace(NEW, verdict="forced"), rough) == "J = 17.50 +- 0.05 (AB)"


def test_the_record_is_one_line_of_json():
    line = record(INFO, NEW, CALIBRATION, t0_mjd=60467.8)
    assert "\n" not in line
    values = json.loads(line)
    assert values["mag"] == 17.523
    assert values["t_t0_s"] == pytest.approx(432.0)
    assert values["verdict"] == "new"
    empty = json.loads(record(INFO, replace(LIMIT, at=NOT_COVERED), CALIBRATION))
    assert empty["mag"] is None
    assert empty["limit_5sigma"] is None
    assert set(empty) == set(values)
