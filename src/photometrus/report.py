"""What is found, as text that can be sent to the General Coordinates Network, and as numbers."""

import json
import math
import textwrap
from datetime import UTC, datetime, timedelta
from typing import Any

from astropy.table import Row

from photometrus.frame import StackInfo
from photometrus.sighting import Calibration, Sighting

WIDTH = 72
"""Of a line in a circular."""
EXTINCTION = {"J": 0.709, "H": 0.449}
"""A / E(B-V) of UKIRT's J and H for R_V = 3.1, with E(B-V) of the SFD maps (Schlafly & Finkbeiner
2011, ApJ 737, 103, table 6). It has no bands like PRIME's Z and Y."""
TELESCOPE = "PRIME 1.8 m telescope at Sutherland, South Africa"


def report(
    info: StackInfo,
    sighting: Sighting,
    calibration: Calibration,
    *,
    t0_mjd: float | None = None,
    position_err_arcsec: float = math.nan,
    e_b_v: float | None = None,
) -> str:
    """The report of one target: plain ASCII, lines of at most 72 characters.

    t0_mjd : UTC of the trigger; position_err_arcsec : of the counterpart, per axis, with that of
    the astrometry; e_b_v : reddening of the Galaxy there, when somebody knows it
    """
    best, target = sighting.best, sighting.target
    # A stack of another telescope does not say which.
    who = f" with the {TELESCOPE}" if info.chip else ""
    name = target.name or "the target"
    parts = [
        f"The field of {name} was observed{who} in {calibration.band}{_when(info, t0_mjd)}.",
        _found(sighting, calibration),
    ]
    blocks = [_wrapped(part) for part in parts]
    if best is not None:
        blocks.append(_place(best, position_err_arcsec))
    blocks.append(_line(info, sighting, calibration, t0_mjd))
    blocks.append(_wrapped(_calibrated(calibration)))
    blocks.append(_wrapped(_extinction(calibration.band, e_b_v)))
    return _ascii("\n\n".join(blocks)) + "\n"


def _when(info: StackInfo, t0_mjd: float | None) -> str:
    """From when to when, as far as the header tells."""
    if not math.isfinite(info.begin_mjd):
        return ""
    end = f" to {_utc(info.end_mjd)}" if math.isfinite(info.end_mjd) else ""
    after = "" if t0_mjd is None else f", {since(info.begin_mjd, t0_mjd)} after T0"
    return f" from {_utc(info.begin_mjd)}{end} UTC{after}"


def record(
    info: StackInfo, sighting: Sighting, calibration: Calibration, *, t0_mjd: float | None = None
) -> str:
    """The same for programs: one line of JSON; what is unknown is null."""
    best, at, target = sighting.best, sighting.at, sighting.target
    values: dict[str, Any] = {
        "target": target.name,
        "ra_deg": target.ra_deg,
        "dec_deg": target.dec_deg,
        "radius_arcsec": target.radius_arcsec,
        "verdict": sighting.verdict,
        "stack": info.name,
        "band": calibration.band,
        "system": calibration.system,
        "mid_mjd": info.middle_mjd,
        "mid_utc": _utc(info.middle_mjd),
        "t_t0_s": None if t0_mjd is None else (info.middle_mjd - t0_mjd) * 86400.0,
        "exposure_s": info.exposure_s,
        "n_frames": info.n_frames,
        "mag": _value(best, "mag_psf"),
        "mag_err": _value(best, "mag_psf_err"),
        "mag_sys_err": calibration.err,
        "snr": _value(best, "snr"),
        "source_ra_deg": _value(best, "ra_deg"),
        "source_dec_deg": _value(best, "dec_deg"),
        "offset_arcsec": _value(best, "distance_arcsec"),
        "limit_3sigma": at.limit_3sigma,
        "limit_5sigma": at.limit_5sigma,
        "forced_mag": sighting.at.mag,
        "forced_mag_err": sighting.at.mag_err,
        "forced_snr": at.snr,
        "survey": calibration.survey,
        "n_stars": calibration.n_stars,
        "zero_point": calibration.zero_point,
        "galactic_extinction_corrected": False,
    }
    clean = {key: None if _unknown(value) else value for key, value in values.items()}
    return json.dumps(clean, allow_nan=False)


def since(mjd: float, t0_mjd: float) -> str:
    """The time since T0 as people say it: ``45 s``, ``12.3 min``, ``3.52 h``, ``2.31 d``."""
    seconds = (mjd - t0_mjd) * 86400.0
    size = abs(seconds)
    if not math.isfinite(seconds):
        return "unknown"
    if size < 120.0:
        return f"{seconds:.0f} s"
    if size < 7200.0:
        return f"{seconds / 60.0:.1f} min"
    if size < 48 * 3600.0:
        return f"{seconds / 3600.0:.2f} h"
    return f"{seconds / 86400.0:.2f} d"


def sexagesimal(ra_deg: float, dec_deg: float) -> str:
    """``22:58:17.28 +01:01:36.3``."""
    centiseconds = round((ra_deg % 360.0) / 15.0 * 360000.0) % (24 * 360000)
    tenths = round(abs(dec_deg) * 36000.0)
    hours, rest = divmod(centiseconds, 360000)
    degrees, rest_dec = divmod(tenths, 36000)
    ra = f"{hours:02d}:{rest // 6000:02d}:{rest % 6000 / 100.0:05.2f}"
    dec = f"{degrees:02d}:{rest_dec // 600:02d}:{rest_dec % 600 / 10.0:04.1f}"
    return f"{ra} {'-' if dec_deg < 0 else '+'}{dec}"


def magnitude_words(sighting: Sighting, calibration: Calibration) -> str:
    """The magnitude with its error, or the limit: ``J = 17.52 +- 0.02 (AB)``, ``J > 20.4 ...``."""
    best, band, system = sighting.best, calibration.band, calibration.system
    if best is not None:
        err = math.hypot(float(best["mag_psf_err"]), calibration.err)
        return f"{band} = {best['mag_psf']:.2f} +- {_up(err):.2f} ({system})"
    if sighting.verdict == "forced":
        err = math.hypot(sighting.at.mag_err, calibration.err)
        return f"{band} = {sighting.at.mag:.2f} +- {_up(err):.2f} ({system})"
    if sighting.verdict == "not covered":
        return f"{band}: position not on the stack"
    return f"{band} > {_down(sighting.at.limit_3sigma):.1f} ({system}, 3 sigma)"


def _found(sighting: Sighting, calibration: Calibration) -> str:
    name, radius = sighting.target.name, f"{sighting.target.radius_arcsec:g} arcsec"
    survey = calibration.survey
    best = sighting.best
    if best is not None and sighting.verdict == "new":
        return f"Within {radius} of the given position we detect a source that is not in {survey}:"
    if best is not None and sighting.verdict == "changed":
        return (
            f"Within {radius} of the given position we detect a source that is in {survey} with"
            f" {calibration.band} = {best['star_mag']:.2f} +- {best['star_mag_err']:.2f}, but"
            " is brighter now:"
        )
    if best is not None:
        return (
            f"Within {radius} of the given position we detect a source fainter than the limit of"
            f" {survey}; whether it is {name or 'the transient'} or was there before, this stack"
            " alone does not tell:"
        )
    if sighting.verdict == "not covered":
        return "The given position is not on this stack."
    if sighting.verdict == "forced":
        return "At the given position there is light, but no separate source:"
    others = {
        "known": f" Sources there are all in {survey}, and none is brighter than it says.",
        "doubtful": " A detection there is probably spurious.",
    }.get(sighting.verdict, "")
    return f"Within {radius} of the given position no new source is detected.{others} Our limit:"


def _place(best: Row, err_arcsec: float) -> str:
    error = f" (+- {err_arcsec:.2f} arcsec)" if math.isfinite(err_arcsec) else ""
    ra, dec, off = (float(best[name]) for name in ("ra_deg", "dec_deg", "distance_arcsec"))
    return (
        f"  RA, Dec (J2000) = {sexagesimal(ra, dec)}{error}\n"
        f"                  = {ra:.6f} {dec:+.6f} deg\n"
        f"  offset {off:.2f} arcsec from the given position, S/N {best['snr']:.1f}"
    )


def _line(
    info: StackInfo, sighting: Sighting, calibration: Calibration, t0_mjd: float | None
) -> str:
    """The usual table: time, exposure, magnitude, limits."""
    rows = [("Mid-time (UTC)", _utc(info.middle_mjd))]
    if t0_mjd is not None:
        rows.append(("T-T0 (mid)", since(info.middle_mjd, t0_mjd)))
    rows += [
        ("Exposure", _exposure(info)),
        ("Magnitude", magnitude_words(sighting, calibration)),
    ]
    best, at = sighting.best, sighting.at
    if best is not None:
        parts = f"{best['mag_psf_err']:.3f} stat, {calibration.err:.3f} sys (zero point)"
        rows.append(("  its error", parts))
    if math.isfinite(at.limit_5sigma):
        limits = f"{_down(at.limit_3sigma):.1f} (3 sigma), {_down(at.limit_5sigma):.1f} (5 sigma)"
        rows.append(("Limit there", limits))
        forced = f"{at.snr:.1f}" if math.isfinite(at.snr) else "unknown"
        rows.append(("Forced S/N", f"{forced} at the given position"))
    return "\n".join(f"  {name:<15} {value}" for name, value in rows)


def _calibrated(calibration: Calibration) -> str:
    return (
        f"Magnitudes are in the {calibration.system} system, calibrated with"
        f" {calibration.n_stars} stars of {calibration.survey}; the zero point is good to"
        f" {calibration.err:.3f} mag."
    )


def _extinction(band: str, e_b_v: float | None) -> str:
    text = "They are not corrected for Galactic extinction"
    if e_b_v is None:
        return text + "."
    known = f", A_{band} = {EXTINCTION[band] * e_b_v:.3f} mag" if band in EXTINCTION else " mag"
    return f"{text}: E(B-V) = {e_b_v:.3f}{known}."


def _exposure(info: StackInfo) -> str:
    if not math.isfinite(info.exposure_s):
        return f"{info.n_frames} frames"
    return f"{info.n_frames} x {info.exposure_s / info.n_frames:.1f} s"


def _utc(mjd: float) -> str:
    """``2024-06-06T20:11:02``, to the second."""
    if not math.isfinite(mjd):
        return "unknown"
    moment = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(seconds=round(mjd * 86400.0))
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _ascii(text: str) -> str:
    """Circulars are plain ASCII."""
    return text.encode("ascii", "replace").decode("ascii")


def _up(err: float) -> float:
    """An error of two digits, never 0.00."""
    return max(round(err, 2), 0.01)


def _down(limit: float) -> float:
    """A limit of one digit, never deeper than it is."""
    return math.floor(limit * 10.0) / 10.0


def _value(row: Row | None, name: str) -> float | None:
    return None if row is None else float(row[name])


def _unknown(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
