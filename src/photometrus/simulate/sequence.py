"""What happens at the telescope: which ramp when, where it points, through what air."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from photometrus.instrument import (
    FRAME_TIME_S,
    PIXEL_SCALE_ARCSEC,
    SITE_LATITUDE_DEG,
    SITE_LONGITUDE_DEG,
)
from photometrus.simulate.config import (
    EXTINCTION_PER_AIRMASS,
    SKY_MAG_ARCSEC2,
    ZEROPOINT_ADU,
    SimulateConfig,
    stream,
)
from photometrus.simulate.geometry import Pointing, field_to_sky

OVERHEAD_S = 12.0
FLAT_ADU = 26000.0
"""What the last read of the brightest FLAT holds; the twilight fades."""
CLOUD_MAG = 1.5
TRAIL_PIX = 5.0
GLOW_TERMS = 6
MIN_SIN_ALTITUDE = 0.3


@dataclass(frozen=True)
class Air:
    """Seeing, transparency and airglow of one exposure.

    glow : relative brightness of the sky's shape, coefficients of x, y, x2, xy, y2, wave, and the
    wave's phase; x and y are field degrees
    """

    fwhm_pix: float
    beta: float
    tilt: tuple[float, float]  # of the seeing over the field, relative per degree
    ellipticity: tuple[float, float]
    trail_pix: float
    trail_deg: float
    extinction_mag: float
    sky_factor: float
    glow: tuple[float, ...]
    satellite: bool
    bad: bool


@dataclass(frozen=True)
class Exposure:
    """One ramp of all chips, with its truth."""

    serial: int
    start: datetime
    target: str
    kind: str  # OBJTYPE: OBJECT or FLAT
    index: int  # INT: 1 begins a block
    planned: int  # NINT
    phase_deg: float
    header: Pointing
    true: Pointing
    altitude_deg: float
    azimuth_deg: float
    airmass: float
    detector_k: float
    focus: int
    air: Air
    level_adu: float  # of a FLAT; the sky's level in ADU per frame and square arcsecond otherwise


def observation(config: SimulateConfig) -> list[Exposure]:
    """The science ramps of the night, in order of time."""
    start = first_start(config)
    step = timedelta(seconds=config.exposure_s + OVERHEAD_S)
    found = []
    for k in range(config.exposures):
        block, index = divmod(k, config.ramps)
        # Later blocks come after an hour of something else.
        when = start + step * k + timedelta(hours=block)
        found.append(science_exposure(config, k, index, when))
    return found


def science_exposure(config: SimulateConfig, k: int, index: int, when: datetime) -> Exposure:
    """The k-th ramp of the target."""
    draw = stream(config.seed, "exposure", k)
    phase, east, north = dither(config, k, index)
    field = Pointing(config.ra_deg % 360.0, config.dec_deg, 0.0)
    header = moved(field, east, north, config.rotator_deg)
    length, angle = draw.uniform(*config.pointing_error_arcsec), draw.uniform(0, 2 * np.pi)
    turn = config.rotator_deg + rotator_error(config) + draw.normal(0.0, 0.002)
    error_east, error_north = length * np.cos(angle), length * np.sin(angle)
    true = moved(replace(header, rotator_deg=0.0), error_east, error_north, turn)
    altitude, azimuth = horizontal(true, when)
    airmass = 1.0 / max(np.sin(np.radians(altitude)), MIN_SIN_ALTITUDE)
    air = air_of(config, k, airmass)
    sky_mag = SKY_MAG_ARCSEC2[config.band] if config.sky_mag is None else config.sky_mag
    level = 10 ** (0.4 * (ZEROPOINT_ADU[config.band] - sky_mag)) * air.sky_factor
    return Exposure(
        serial=science_serial(config, k),
        start=when,
        target=config.target,
        kind="OBJECT",
        index=index + 1,
        planned=config.ramps,
        phase_deg=round(phase % 360.0, 1),
        header=header,
        true=true,
        altitude_deg=float(altitude),
        azimuth_deg=float(azimuth),
        airmass=round(float(airmass), 4),
        detector_k=round(119.0 + draw.normal(0.0, 0.01), 3),
        focus=2450 + int(draw.randint(-2, 3)),
        air=air,
        level_adu=float(level),
    )


def flats(config: SimulateConfig) -> list[Exposure]:
    """The FLAT ramps of the band: fading after sunset, growing before sunrise."""
    found = []
    if config.flat_time in ("start", "both"):
        first = config.first_serial - (config.flats + 10) * config.nframes
        found += flat_run(config, first, at(config, 15.67), rising=False)
    if config.flat_time in ("end", "both"):
        first = last_serial(config) + 60 * config.nframes
        found += flat_run(config, first, at(config, 27.8), rising=True)
    return found


def flat_run(
    config: SimulateConfig, first: int, start: datetime, *, rising: bool
) -> list[Exposure]:
    """One sequence of FLATs; each level is a fixed part of the one before it."""
    ratio = 0.8 ** (6 / max(6, config.flats))
    air = Air(3.0, 3.2, (0.0, 0.0), (0.0, 0.0), 0.0, 0.0, 0.0, 1.0, (0.0,) * 7, False, False)
    found = []
    for k in range(config.flats):
        draw = stream(config.seed, "flat", first + k * config.nframes)
        power = config.flats - 1 - k if rising else k
        zenith = Pointing(round(float(draw.uniform(0, 360)), 4), SITE_LATITUDE_DEG, 0.0)
        found.append(
            Exposure(
                serial=first + k * config.nframes,
                start=start + timedelta(seconds=config.exposure_s + OVERHEAD_S) * k,
                target="FLAT",
                kind="FLAT",
                index=k + 1,
                planned=config.flats,
                phase_deg=0.0,
                header=zenith,
                true=zenith,
                altitude_deg=90.0,
                azimuth_deg=0.0,
                airmass=1.0,
                detector_k=round(119.0 + draw.normal(0.0, 0.01), 3),
                focus=2450,
                air=air,
                level_adu=FLAT_ADU / config.nframes * ratio**power * (1 + draw.normal(0.0, 0.003)),
            )
        )
    return found


def science_serial(config: SimulateConfig, k: int) -> int:
    """Serials advance by the reads of a ramp; between blocks something else was observed."""
    return config.first_serial + (k + 20 * (k // config.ramps)) * config.nframes


def last_serial(config: SimulateConfig) -> int:
    """Of the last science ramp."""
    return science_serial(config, config.exposures - 1)


def rotator_error(config: SimulateConfig) -> float:
    """Degrees, the same all night."""
    return config.rotator_error_deg * float(stream(config.seed, "rotator").choice([-1.0, 1.0]))


def dither(config: SimulateConfig, k: int, index: int) -> tuple[float, float, float]:
    """Phase (deg) and offset (arcsec East, North) of a ramp from the field's centre."""
    if config.dither_type == "None":
        return 0.0, 0.0, 0.0
    radius = config.dither_radius_arcsec
    phase = 17.2 + 360.0 * index / config.ramps
    if config.dither_type == "Random":
        draw = stream(config.seed, "dither", k)
        phase, radius = draw.uniform(0, 360), radius * np.sqrt(draw.uniform())
    angle = np.radians(phase)
    return phase, radius * float(np.sin(angle)), radius * float(np.cos(angle))


def moved(field: Pointing, east_arcsec: float, north_arcsec: float, turn: float) -> Pointing:
    """The pointing offset on the tangent plane, which has no trouble at the poles.

    The rotator keeps its angle to the North of the NEW pointing, as the telescope's does.
    """
    ra, dec = field_to_sky(np.array(east_arcsec / 3600), np.array(north_arcsec / 3600), field)
    return Pointing(float(ra), float(dec), turn)


def air_of(config: SimulateConfig, k: int, airmass: float) -> Air:
    """The air of the k-th ramp: a slow drift through the night plus what comes and goes."""
    night = stream(config.seed, "air")
    phases, speeds = night.uniform(0, 2 * np.pi, 16), night.uniform(0.25, 0.7, 16)
    drift = np.sin(phases + speeds * k)  # neighbours in time are alike
    draw = stream(config.seed, "air", k)
    bad_at, satellite_at = troubles(config)
    bad = k == bad_at
    low, high = config.seeing_arcsec
    seeing = low + (high - low) * np.clip(0.5 + 0.35 * drift[0] + 0.1 * draw.normal(), 0, 1)
    glow = [0.012 * drift[1], 0.012 * drift[2], *(0.008 * drift[3:6]), 0.004, phases[15] + 0.4 * k]
    extinction = EXTINCTION_PER_AIRMASS[config.band] * (airmass - 1) + 0.01 * drift[6]
    return Air(
        fwhm_pix=float(seeing / PIXEL_SCALE_ARCSEC) * (1.15 if bad else 1.0),
        beta=float(3.2 + 0.2 * drift[7] + 0.05 * draw.normal()),
        tilt=(0.03 * float(drift[8]), 0.03 * float(drift[9])),
        ellipticity=(0.02 * float(draw.normal()), 0.02 * float(draw.normal())),
        trail_pix=TRAIL_PIX if bad else 0.0,
        trail_deg=float(draw.uniform(0, 180)),
        extinction_mag=float(extinction + 0.005 * draw.normal() + (CLOUD_MAG if bad else 0.0)),
        sky_factor=float(1 + 0.04 * drift[10] + 0.01 * draw.normal()) * (1.33 if bad else 1.0),
        glow=tuple(float(g) for g in glow),
        satellite=k == satellite_at,
        bad=bad,
    )


def troubles(config: SimulateConfig) -> tuple[int, int]:
    """Index of the cloudy, trailed frame and of the satellite's; -1 where there is none."""
    enough = config.ramps >= 3  # a bad half of the data is no exception but the rule
    middle = config.ramps // 2
    return (
        middle if config.bad_frame and enough else -1,
        min(middle + 1, config.ramps - 1) if config.satellite else -1,
    )


def glow_shape(air: Air, xi: NDArray[np.float64], eta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness of the sky over the field relative to its level (field degrees)."""
    a, b, aa, ab, bb, wave, phase = air.glow
    ripple = wave * np.sin(2 * np.pi * (0.8 * xi + 0.6 * eta) / 0.5 + phase)
    return 1 + a * xi + b * eta + aa * xi**2 + ab * xi * eta + bb * eta**2 + ripple


def at(config: SimulateConfig, hours: float) -> datetime:
    """The moment `hours` UT after the beginning of the night's date."""
    night = config.night
    return datetime(night.year, night.month, night.day, tzinfo=UTC) + timedelta(hours=hours)


def first_start(config: SimulateConfig) -> datetime:
    """When the field is first observed: near its transit, as far as it is dark."""
    dark_hours = np.arange(17.0, 23.01, 0.25)
    field = Pointing(config.ra_deg, config.dec_deg, 0.0)
    heights = [horizontal(field, at(config, float(h)))[0] for h in dark_hours]
    return at(config, float(dark_hours[int(np.argmax(heights))]))


def horizontal(pointing: Pointing, when: datetime) -> tuple[float, float]:
    """Altitude and azimuth in degrees; good to some arcminutes, enough for a header."""
    days = (when - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / 86400.0
    sidereal = 280.46062 + 360.98564737 * days + SITE_LONGITUDE_DEG
    hour = np.radians(sidereal - pointing.ra_deg)
    dec, lat = np.radians(pointing.dec_deg), np.radians(SITE_LATITUDE_DEG)
    sin_alt = np.sin(dec) * np.sin(lat) + np.cos(dec) * np.cos(lat) * np.cos(hour)
    north = np.sin(dec) * np.cos(lat) - np.cos(dec) * np.sin(lat) * np.cos(hour)
    azimuth = np.arctan2(-np.cos(dec) * np.sin(hour), north)
    return float(np.degrees(np.arcsin(sin_alt))), float(np.degrees(azimuth) % 360.0)


def end(exposure: Exposure, nframes: int) -> datetime:
    """When the last read ends."""
    return exposure.start + timedelta(seconds=nframes * FRAME_TIME_S)


def stamp_of(when: datetime) -> str:
    """A moment as the headers and the log have it."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}"
