"""PRIME in numbers: detectors, geometry, bands.

Sources: the observatory's published scripts, headers and tables; where they contradict each other
the choice is stated beside the value. What may be tuned is not here but in a stage's config.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from photometrus.errors import UsageError, nearest

DETECTOR_PIXELS = 4096
BORDER_PIXELS = 4
"""Reference pixels on each edge of an H4RG; the image is what is inside them."""
CHANNEL_PIXELS = 128
"""Columns per science channel (32 channels of 128 columns)."""
PIXEL_SCALE_ARCSEC = 0.497
FRAME_TIME_S = 2.863
"""Time of one read; elsewhere rounded to 2.86. A ramp's unit is ADU per frame of this length."""
GAIN_E_PER_ADU = 1.8
"""The newest photometry and ramp code; 2.0 in older configurations."""
READ_NOISE_E = 14.0
"""Per read; the ramp code's weights imply between 9 and 15 electrons."""
UNSOLVED_ADU = 65535.0
"""The slope of a pixel whose ramp could not be fitted."""
UNSOLVED_LIMIT_ADU = 60000.0
"""No real slope reaches this: full well within one frame. Compression moves 65535 by a few ADU."""
SATURATION_ADU = 40000.0
"""Counts of one raw frame (not a slope) from which a ramp is no longer linear (newest)."""

DEFAULT_ROTATOR_DEG = 48.0
"""172800 arcsec: what the planner writes and what the header should say."""
SITE_LATITUDE_DEG = -32.3783
SITE_LONGITUDE_DEG = 20.8105
SITE_ALTITUDE_M = 1800.0
CHIPS_FIELD_RADIUS_DEG = 0.86
"""From the telescope axis to the outermost corner of a chip."""


@dataclass(frozen=True)
class Chip:
    """Where a detector sits in the focal plane, and its distortion.

    The WCS of the chip for a telescope that points at RA = Dec = 0 with the rotator at 0: TAN-SIP
    with reference pixel (2045, 2045) of the 4088 x 4088 image, FITS convention (first pixel is 1).
    Only the fourth-order SIP terms are not zero; `sip_a[i]` multiplies u**i v**(4-i).
    Source: the observatory's WCS template (2025), which agrees with the older offset table to 4".
    """

    number: int
    separation_deg: float
    theta_deg: float
    crval_deg: tuple[float, float]
    cd: tuple[tuple[float, float], tuple[float, float]]
    sip_a: tuple[float, ...]
    sip_b: tuple[float, ...]


CHIP_CRPIX = 2045.0
"""Reference pixel of the chip template, both axes, in the trimmed image (FITS, 1-based)."""
CHIP_SIP_ORDER = 4

CHIPS = {
    1: Chip(
        number=1,
        separation_deg=0.44538543455585444,
        theta_deg=267.27110733261435,
        crval_deg=(359.55511959553, -0.021204662683986),
        cd=(
            (-9.3445065488206e-05, 0.00010113635774324),
            (-0.00010159473636471, -9.402151869819e-05),
        ),
        sip_a=(
            -7.83821408909935e-14,
            1.6247632155772065e-13,
            -1.2738770301401226e-13,
            1.6247274474882643e-13,
            -2.4920906104759345e-13,
        ),
        sip_b=(
            2.7732088193775325e-13,
            -1.40525643127274e-13,
            1.4086193070348726e-13,
            -1.405296735040209e-13,
            8.491678040702323e-14,
        ),
    ),
    2: Chip(
        number=2,
        separation_deg=0.44386128842158,
        theta_deg=357.737513330275,
        crval_deg=(359.98247693945, 0.44351528278339),
        cd=(
            (-9.4474054972157e-05, 0.00010117871696119),
            (-0.0001006581785584, -9.3959825651628e-05),
        ),
        sip_a=(
            8.983794516304679e-14,
            1.512232496619901e-13,
            1.240345364669764e-13,
            1.5122616869254542e-13,
            2.2909843456269347e-13,
        ),
        sip_b=(
            2.5880890618837586e-13,
            1.3406807315051543e-13,
            1.3454527602630952e-13,
            1.3406448059436962e-13,
            8.715741205479879e-14,
        ),
    ),
    3: Chip(
        number=3,
        separation_deg=0.44523111305638335,
        theta_deg=177.67330051640576,
        crval_deg=(0.018075739069729, -0.44486405725243),
        cd=((9.3482064724228e-05, -0.00010208967001313), (0.0001015855847256, 9.303271556222e-05)),
        sip_a=(
            6.922081050852675e-14,
            9.657293355774145e-14,
            1.1972303211603228e-13,
            9.657648293010736e-14,
            2.386342599163979e-13,
        ),
        sip_b=(
            1.5801281594451753e-13,
            1.2072795398972233e-13,
            8.203320043243301e-14,
            1.207257553164686e-13,
            5.292132257018209e-14,
        ),
    ),
    4: Chip(
        number=4,
        separation_deg=0.4495454685681039,
        theta_deg=87.76835269497084,
        crval_deg=(0.44920454378331, 0.017505015072456),
        cd=(
            (9.2861861645463e-05, -0.00010169754849171),
            (0.00010216612465801, 9.3418564347079e-05),
        ),
        sip_a=(
            -7.107584038127024e-14,
            1.0760078432985508e-13,
            -1.1573932165180505e-13,
            1.075975289159028e-13,
            -2.2655616763981177e-13,
        ),
        sip_b=(
            1.871942440823094e-13,
            -1.2182240872380558e-13,
            8.398618520739225e-14,
            -1.2182572633677704e-13,
            2.878693029203898e-14,
        ),
    ),
}


@dataclass(frozen=True)
class Band:
    """A filter, and where it sits in the two wheels."""

    name: str
    filter1: str
    filter2: str
    wavelength_nm: float
    width_nm: float


BANDS = {
    "Z": Band("Z", "Z", "Open", 890.0, 80.0),
    "Y": Band("Y", "Open", "Y", 1022.5, 105.0),
    "J": Band("J", "Open", "J", 1250.0, 160.0),
    "H": Band("H", "Open", "H", 1635.0, 290.0),
}


ZERO_POINT_VEGA = {"Z": 23.88, "Y": 23.88, "J": 23.88, "H": 24.111}
"""Vega magnitude of 1 ADU per frame (of `FRAME_TIME_S`), mean of the chips: the newest photometry
code. It does not name the system; it calibrates with catalogues in Vega."""


def band_named(name: str) -> Band:
    """The band called `name`; UsageError when PRIME has no such filter."""
    try:
        return BANDS[name]
    except KeyError:
        raise UsageError(
            f"band {name!r}: PRIME has {', '.join(BANDS)}{nearest(name.upper(), BANDS)}"
        ) from None


def filters_of(band: str) -> tuple[str, str]:
    """FILTER1 and FILTER2 of a band: ``("Open", "J")``, ``("Z", "Open")``."""
    row = band_named(band)
    return row.filter1, row.filter2


def band_of(filter1: str, filter2: str) -> str | None:
    """The band of a pair of filter wheels, None when it is none of ours (dark, narrow band)."""
    for band in BANDS.values():
        if (band.filter1, band.filter2) == (filter1.strip(), filter2.strip()):
            return band.name
    return None


def night_of(mjd_utc: float) -> date:
    """The date of the evening on which a night began: it lasts from local noon to local noon."""
    local_days = mjd_utc + SITE_LONGITUDE_DEG / 360.0
    return (datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=local_days - 0.5)).date()
