"""What the observatory writes: places in the archive, headers, the night log with its dirt."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from photometrus.instrument import (
    BORDER_PIXELS,
    FRAME_TIME_S,
    GAIN_E_PER_ADU,
    PIXEL_SCALE_ARCSEC,
    SATURATION_ADU,
    SITE_ALTITUDE_M,
    SITE_LATITUDE_DEG,
    SITE_LONGITUDE_DEG,
    filters_of,
)
from photometrus.io.whole import whole
from photometrus.products import RampId, log_name
from photometrus.simulate.config import SimulateConfig
from photometrus.simulate.sequence import (
    Exposure,
    at,
    end,
    first_start,
    last_serial,
    stamp_of,
)

JUNK_ROTOFF = "9223372036854775807:9223372036854775807:000NaN"
WRONG_ROTOFF_DEG = 90.0

SFTP_DISKS = {1: "home", 2: "xion2", 3: "xion3", 4: "xion4"}
LOG_FOLDER = "prime01/work/LOG/Ramp_LOG"

LOG_HEADER = (
    "# DATEBEG, filename,OBJNAME,OBJTYPE,OBSERVER,CHIP,FILTER1,FILTER2,EXPTIME,EXPTIMEE,EXPTIMEC,"
    "NFRAMES,DITHTYP,DITHRAD,DITHPH,DITH_REP,TEMPDET,FOCUS,NINT,INT"
)
NAMES_WITH_BLANKS = (
    "all sky grid",
    "no_grid ",
    "no_grid_test ",
    "field10554_ test",
    "fucus test",
    "galactic plane",
    "standard star",
    "rotator test",
    "SKY M7",
    "LVC S230522n",
    "Dec test",
    "Galctic plane",
    "Glactic plane",
    "Galactic plane",
    "Galactic Plane",
    "Vignetting Test",
    "SPIS J0539-0059",
    "Frost Check",
    "GainTest LED",
)
"""Names that really stand in the logs and break their columns (two end in a blank)."""
STRANGE_NAMES = ("focus run", "GB5 dith 3")
"""Others of the kind, which no list of repairs foresees."""


def ramp_path(root: Path, ramp: RampId, layout: str) -> Path:
    """Where the archive keeps a ramp."""
    if layout == "nfs_fz":
        folder = root / "nfs/xion4/prime/ramp_fz" / f"C{ramp.chip}" / ramp.folder
        return folder / f"{ramp}.fits.ramp.fz"
    if layout == "sftp":
        return root / SFTP_DISKS[ramp.chip] / "prime/Data/ramp" / f"{ramp}.fits.ramp"
    return root / "nfs/xion4/prime/Data/reramp" / f"C{ramp.chip}" / f"{ramp}.fits.ramp"


def log_path(root: Path, config: SimulateConfig) -> Path:
    """Where the archive keeps the night log."""
    top = root if config.layout == "sftp" else root / "nfs"
    return top / LOG_FOLDER / log_name(config.night)


def mjd(when: datetime) -> float:
    """Modified Julian date."""
    return (
        when.toordinal()
        - 678576
        + (when - when.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds() / 86400.0
    )


def sexagesimal(value: float, *, decimals: int) -> str:
    """hh:mm:ss.s or dd:mm:ss.s; the sign stays when the degrees are -0."""
    ticks = round(abs(value) * 3600 * 10**decimals)
    seconds, part = divmod(ticks, 10**decimals)
    sign = "-" if value < 0 and ticks else ""
    clock = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{clock}.{part:0{decimals}d}"


def header_of(exposure: Exposure, chip: int, config: SimulateConfig) -> fits.Header:
    """The header of a ramp as the detector server writes it."""
    filter1, filter2 = filters_of(config.band)
    start, stop = exposure.start, end(exposure, config.nframes)
    pointing = exposure.header
    science = exposure.kind == "OBJECT"
    name = f"{RampId(exposure.serial, chip)}.fits.ramp"
    cards: list[tuple[str, object, str]] = [
        ("DATE-BEG", stamp_of(start), "start of ramp (UT)"),
        ("DATE-END", stamp_of(stop), "end of ramp (UT)"),
        ("MJD-BEG", round(mjd(start), 8), "[d]"),
        ("MJD-END", round(mjd(stop), 8), "[d]"),
        ("UTDATE", stamp_of(start)[:10], ""),
        ("UTSTART", stamp_of(start)[11:], ""),
        ("FRTIME", FRAME_TIME_S, "[s] frame time"),
        ("OBJNAME", exposure.target, "target"),
        ("OBJTYPE", exposure.kind, ""),
        ("OBSERVER", config.observer if science else "PRIME", ""),
        ("INSTRUME", "PRIME-Cam", ""),
        ("TELESCOP", "PRIME 1.8m", ""),
        ("LATITUDE", SITE_LATITUDE_DEG, "[deg]"),
        ("LONGITUD", SITE_LONGITUDE_DEG, "[deg] East"),
        ("ALTITUDE", SITE_ALTITUDE_M, "[m]"),
        ("DETECTOR", "H4RG-10", ""),
        ("CHIP", chip, "detector number"),
        ("GAIN", GAIN_E_PER_ADU, "[e-/ADU]"),
        ("SATURATE", SATURATION_ADU, "[ADU] of a raw frame"),
        ("PIXSCALE", PIXEL_SCALE_ARCSEC, "[arcsec/pixel]"),
        ("FILTER1", filter1, ""),
        ("FILTER2", filter2, ""),
        ("RA", sexagesimal(pointing.ra_deg / 15, decimals=3), "telescope pointing"),
        ("DEC", sexagesimal(pointing.dec_deg, decimals=2), "telescope pointing"),
        ("RA-D", round(pointing.ra_deg, 6), "[deg]"),
        ("DEC-D", round(pointing.dec_deg, 6), "[deg]"),
        ("RAOFF", 0.0, "[arcsec]"),
        ("DECOFF", 0.0, "[arcsec]"),
        *rotator_cards(config, science=science),
        ("EXPTIME", round(config.exposure_s, 4), "[s] all reads"),
        ("EXPTIMEE", round(config.exposure_s - FRAME_TIME_S, 4), "[s] slope baseline"),
        ("EXPTIMEC", round(config.exposure_s - FRAME_TIME_S, 2), "[s] commanded"),
        ("NFRAMES", config.nframes, ""),
        ("DITHTYP", config.dither_type if science else "NO", ""),
        ("DITHRAD", config.dither_radius_arcsec if science else 0.0, "[arcsec]"),
        ("DITHPH", exposure.phase_deg, "[deg]"),
        ("DITH_REP", 1, ""),
        ("DITH_IDX", exposure.index, ""),
        ("DITH_TOT", exposure.planned, ""),
        ("NINT", exposure.planned, "number of dithers"),
        ("INT", exposure.index, "this dither"),
        ("ALT", round(exposure.altitude_deg, 4), "[deg]"),
        ("AZI", round(exposure.azimuth_deg, 4), "[deg]"),
        ("AIRMASS", exposure.airmass, ""),
        ("TEMPDET", exposure.detector_k, "[K]"),
        ("FOCUS", exposure.focus, ""),
        ("FILENAME", name, ""),
    ]
    header = fits.Header()
    for key, value, comment in cards:
        header[key] = (value, comment) if len(str(value)) < 40 else value
    return header


def rotator_cards(config: SimulateConfig, *, science: bool) -> list[tuple[str, object, str]]:
    """ROTOFF as the header has it, right or not; ROT only where it is a number."""
    if not science:
        return [("ROTOFF", "N/A", "rotator offset")]
    if config.rotoff == "absent":
        return []
    if config.rotoff == "junk":
        return [("ROTOFF", JUNK_ROTOFF, "")]
    wrong = WRONG_ROTOFF_DEG if config.rotoff == "wrong" else 0.0
    value = config.rotator_deg + wrong
    return [("ROT", value, "[deg]"), ("ROTOFF", value, "[deg] rotator offset")]


def write_ramp(
    path: Path, slopes: NDArray[np.float32], header: fits.Header, *, compress: bool
) -> None:
    """Write a ramp, whole or not at all; compressed at a quarter of its noise, as `.fz` are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if compress:
        # Zero stays zero with the second kind of dither, and so does the border.
        hdu: fits.PrimaryHDU | fits.CompImageHDU = fits.CompImageHDU(
            slopes,
            header,
            compression_type="RICE_1",
            tile_shape=(tile_rows(len(slopes)), slopes.shape[1]),
            quantize_level=4,
            quantize_method=2,
            dither_seed=1 + int(header["MJD-BEG"] * 1e5) % 10000,
        )
    else:
        hdu = fits.PrimaryHDU(slopes, header)
    with whole(path) as part:
        hdu.writeto(part, overwrite=True)


def tile_rows(rows: int) -> int:
    """Rows of a tile, so that none holds nothing but border.

    Such a tile has no noise to quantise by; it is gzipped instead, with the time of day in it.
    """
    return next(n for n in range(16, rows + 1) if rows % n == 0 or rows % n > BORDER_PIXELS)


@dataclass(frozen=True)
class LogRow:
    """One line of the night log."""

    start: datetime
    serial: int
    name: str
    kind: str
    observer: str
    band: str
    planned: int
    index: int
    phase_deg: float
    detector_k: float
    focus: int


def rows_of(exposures: list[Exposure], config: SimulateConfig) -> list[LogRow]:
    """The lines of the ramps that are in the archive."""
    return [
        LogRow(
            e.start,
            e.serial,
            e.target,
            e.kind,
            config.observer if e.kind == "OBJECT" else "PRIME",
            config.band,
            e.planned,
            e.index,
            e.phase_deg,
            e.detector_k,
            e.focus,
        )
        for e in exposures
    ]


def rows_of_others(science: list[Exposure], config: SimulateConfig) -> list[LogRow]:
    """What else the log tells of the night: other fields, bands, names; none is in the archive."""
    other = "H" if config.band != "H" else "J"
    far = "Z" if config.band != "Z" else "Y"
    blocks: list[tuple[str, str, str, str, int]] = [
        ("field2222", "OBJECT", "NASA", other, 4),
        ("field1112", "OBJECT", "ABC", config.band, 3),
        (config.target, "OBJECT", config.observer, other, 4),
        (f"test {config.target}", "OBJECT", config.observer, config.band, 1),
        (config.target, "OBJECT", config.observer, far, 2),
    ]
    blocks += [(name, "OBJECT", "OU", config.band, 1) for name in NAMES_WITH_BLANKS]
    blocks += [(name, "OBJECT", "GB", other, 1) for name in STRANGE_NAMES]
    step = config.exposure_s + 11.0
    before, after = first_start(config), end(science[-1], config.nframes)
    rows = [
        plain_row(config, before - timedelta(seconds=2 * step), -2, ("DARK", "DARK"), config.band),
        plain_row(config, before - timedelta(seconds=step), -1, ("focus run", "FOCUS"), other),
    ]
    serial = last_serial(config)
    count = 0
    for name, kind, observer, band, planned in blocks:
        for k in range(planned):
            count += 1
            rows.append(
                LogRow(
                    after + timedelta(seconds=step * count),
                    serial + count * config.nframes,
                    name,
                    kind,
                    observer,
                    band,
                    planned,
                    k + 1,
                    17.2,
                    118.997,
                    2450,
                )
            )
    for k in range(4):
        count += 1
        when = max(at(config, 27.5), after + timedelta(hours=1)) + timedelta(seconds=step * k)
        rows.append(
            LogRow(
                when,
                serial + count * config.nframes,
                "FLAT",
                "FLAT",
                "PRIME",
                other,
                4,
                k + 1,
                0.0,
                119.002,
                2450,
            )
        )
    return rows


def plain_row(
    config: SimulateConfig, when: datetime, steps: int, names: tuple[str, str], band: str
) -> LogRow:
    """A single ramp just before the field's first."""
    serial = config.first_serial + steps * config.nframes
    return LogRow(when, serial, names[0], names[1], config.observer, band, 1, 1, 0.0, 118.996, 2451)


def log_line(row: LogRow, config: SimulateConfig) -> str:
    """A line as the observatory writes it: single blanks, nothing quoted, always C1's name."""
    filter1, filter2 = filters_of(row.band)
    fitted = config.exposure_s - FRAME_TIME_S
    dithered = row.kind == "OBJECT"
    words = [
        stamp_of(row.start),
        f"{RampId(row.serial, 1)}.fits.ramp",
        row.name,
        row.kind,
        row.observer,
        "1",
        filter1,
        filter2,
        f"{config.exposure_s:.2f}",
        f"{fitted:.2f}",
        f"{fitted:.2f}",
        f"{config.nframes}",
        config.dither_type if dithered else "NO",
        f"{config.dither_radius_arcsec if dithered else 0:g}",
        f"{row.phase_deg:g}",
        "1",
        f"{row.detector_k:.3f}",
        f"{row.focus}",
        f"{row.planned}",
        f"{row.index}",
    ]
    return " ".join(words)


def log_text(science: list[Exposure], flats: list[Exposure], config: SimulateConfig) -> str:
    """The night log."""
    rows = rows_of(science + flats, config)
    if config.log_dirt:
        rows += rows_of_others(science, config)
    rows.sort(key=lambda row: row.start)
    lines = [LOG_HEADER] if config.log_header else []
    second = science[min(1, len(science) - 1)].serial
    last = science[-1].serial
    for row in rows:
        lines.append(log_line(row, config))
        if not config.log_dirt:
            continue
        if row.name == "FLAT" and row.index == row.planned:
            lines.append("Warning: dome temperature sensor timeout")
        if row.serial == second:
            lines.append(f"ERROR ramp fit failed for {RampId(row.serial, 3)}.fits.ramp")
            odd = f"{RampId(row.serial + 1, 1)}.fits.ramp"
            lines.append(f"{stamp_of(row.start)} {odd} !! incomplete ramp !!")
        if row.serial == last:
            lines += ["Warning : header keyword FOCUS missing", ""]
    return "\n".join(lines) + "\n"
