"""What may be asked of the simulator, and the numbers it assumes where none were published."""

from dataclasses import dataclass
from datetime import date
from math import isfinite
from zlib import crc32

import numpy as np

from photometrus.errors import UsageError, nearest
from photometrus.instrument import (
    CHIPS,
    DEFAULT_ROTATOR_DEG,
    DETECTOR_PIXELS,
    FRAME_TIME_S,
    band_named,
)

ZEROPOINT_ADU = {"Z": 23.88, "Y": 23.88, "J": 23.88, "H": 24.111}
"""Magnitude (Vega) of 1 ADU per frame above the atmosphere's mean extinction."""
SKY_MAG_ARCSEC2 = {"Z": 18.2, "Y": 16.8, "J": 15.6, "H": 14.1}
"""Not published for PRIME; typical values of a dark site with OH airglow."""
EXTINCTION_PER_AIRMASS = {"Z": 0.08, "Y": 0.07, "J": 0.10, "H": 0.06}

CHOICES = {
    "rotoff": ("number", "junk", "absent", "wrong"),
    "density": ("sparse", "normal", "bulge"),
    "layout": ("nfs", "nfs_fz", "sftp"),
    "distortion": ("radial", "template"),
    "flat_time": ("start", "end", "both"),
    "dither_type": ("Circle", "Random", "None"),
}
MIN_SIZE = 128


@dataclass(frozen=True)
class SimulateConfig:
    """One observation of one field, and the night around it.

    Chips below 4096 pixels are the window of the detector that starts at its pixel (1, 1), with
    the same 4-pixel border: their reference pixel does not move.
    """

    size: int = DETECTOR_PIXELS
    chips: tuple[int, ...] = (1, 2, 3, 4)
    ramps: int = 9
    blocks: int = 1  # how often the field is observed, `ramps` ramps each time
    band: str = "J"
    target: str = "field1111"
    observer: str = "NASA"
    night: date = date(2024, 6, 6)
    ra_deg: float = 201.3
    dec_deg: float = -0.52
    rotator_deg: float = DEFAULT_ROTATOR_DEG
    rotoff: str = "number"  # how ROTOFF is written; "wrong" is 90 degrees off
    density: str = "normal"
    seed: int = 1
    detector_seed: int = 7  # the same detectors on every night, unless this is changed
    flats: int = 4
    flat_time: str = "start"
    nframes: int = 7
    dither_type: str = "Circle"
    dither_radius_arcsec: float = 60.0
    pointing_error_arcsec: tuple[float, float] = (5.0, 20.0)  # of each frame, independent
    chip_offset_arcsec: float = 20.0  # of each chip, constant, direction by chance
    rotator_error_deg: float = 0.06
    distortion: str = "radial"
    distortion_pix: float = 17.0  # at the outer corner, when radial
    seeing_arcsec: tuple[float, float] = (1.2, 1.7)
    sky_mag: float | None = None  # per square arcsecond; None: what is usual in the band
    transient_mag: float | None = 17.5  # one on each chip; None: absent
    bad_frame: bool = True
    satellite: bool = True
    layout: str = "nfs"
    log_header: bool = True
    log_dirt: bool = True
    first_serial: int = 1598971

    @property
    def exposure_s(self) -> float:
        """EXPTIME: the reads times the time of one."""
        return self.nframes * FRAME_TIME_S

    @property
    def exposures(self) -> int:
        """Science ramps per chip."""
        return self.ramps * self.blocks


def check(config: SimulateConfig) -> None:
    """Raise UsageError naming the first value that cannot be simulated."""
    band_named(config.band)
    for name, choices in CHOICES.items():
        value = getattr(config, name)
        if value not in choices:
            raise UsageError(
                f"simulate.{name} {value!r}: choose {', '.join(choices)}"
                f"{nearest(str(value), choices)}"
            )
    if not config.chips or set(config.chips) - set(CHIPS):
        raise UsageError(f"simulate.chips {config.chips}: PRIME has {', '.join(map(str, CHIPS))}")
    limits = {
        "size": (MIN_SIZE, DETECTOR_PIXELS),
        "ramps": (1, 1000),
        "blocks": (1, 100),
        "flats": (0, 100),
        "nframes": (2, 1000),
        "dec_deg": (-90.0, 90.0),
        "seed": (0, 2**32 - 1),
        "detector_seed": (0, 2**32 - 1),
        "dither_radius_arcsec": (0.0, 600.0),
        "chip_offset_arcsec": (0.0, 300.0),
        "rotator_error_deg": (0.0, 5.0),
        "distortion_pix": (-200.0, 200.0),
    }
    for name, (low, high) in limits.items():
        within(name, getattr(config, name), low, high)
    for name, low, high in (("ra_deg", -360.0, 720.0), ("rotator_deg", -720.0, 720.0)):
        within(name, getattr(config, name), low, high)
    for name, (low, high) in {
        "seeing_arcsec": (0.5, 5.0),
        "pointing_error_arcsec": (0.0, 300.0),
    }.items():
        pair = getattr(config, name)
        if len(pair) != 2 or pair[0] > pair[1]:
            raise UsageError(f"simulate.{name} {pair}: expected the lowest and the highest value")
        within(name, pair[0], low, high)
        within(name, pair[1], low, high)
    for name in ("sky_mag", "transient_mag"):
        if getattr(config, name) is not None:
            within(name, getattr(config, name), 5.0, 30.0)
    for name in ("target", "observer"):
        value = getattr(config, name)
        if not value or value.split() != [value] or "!" in value or "'" in value:
            raise UsageError(f"simulate.{name} {value!r}: one word, without blanks, ! or quotes")
    serials = (2 * config.flats + 20 + config.exposures + 100) * config.nframes
    within("first_serial", config.first_serial, serials, 99_999_999 - serials)


def within(name: str, value: float, low: float, high: float) -> None:
    """UsageError unless low <= value <= high."""
    if not (isfinite(value) and low <= value <= high):
        raise UsageError(f"simulate.{name} {value}: must be between {low} and {high}")


def stream(*keys: int | str) -> np.random.RandomState:
    """A stream of its own for each list of keys, so that no draw depends on another's number."""
    words = [crc32(key.encode()) if isinstance(key, str) else key & 0xFFFFFFFF for key in keys]
    return np.random.RandomState(words)
