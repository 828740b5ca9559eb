"""The end of a stack's photometry, made on the spot from a seed: stars, limits, a PSF."""

from dataclasses import replace

import numpy as np
from astropy.table import Table

from photometrus.evidence import Map
from photometrus.photometry_evidence import (
    Calibration,
    Depth,
    Line,
    PhotometryEvidence,
    Place,
    PsfEvidence,
    Stamp,
)

SHAPE = (4240, 4400)
SIDE = 256
LIMIT = 20.8
ZERO_POINT = 24.512
SLOPE, COLOR_SLOPE, COLOR_PIVOT = 0.0, 0.034, 0.55
REASONS = (
    "saturated: peak 41000 ADU", "extended", "blended: neighbour at 2.1 arcsec", "outlier",
    "too faint", "near the edge", "variable", "catalogue: poor quality",
)  # fmt: skip


def evidence(
    n_stars: int = 400, n_sources: int = 9000, *, notes: tuple[str, ...] = ()
) -> PhotometryEvidence:
    """A sparse field with a catalogue like 2MASS."""
    return PhotometryEvidence(
        stack="coadd.Open-J.01599131-01599329.C3", band="J", shape=SHAPE, system="Vega",
        sources=sources(n_sources), depth=depth(), calibration=calibration(n_stars), psf=psf(),
        target=Place("GRB 240606A", 2950.0, 1310.0, LIMIT - 0.06), notes=list(notes),
    )  # fmt: skip


def calibration(n: int) -> Calibration:
    """Four of five stars are used; the others have their reasons."""
    table = stars(n)
    used = int(np.sum(table["used"]))
    scatter = float(np.std(table["residual"][table["used"]])) if used else np.nan
    y, x = _mesh()
    position = 0.012 * (x - 0.4) ** 2 - 0.015 * y * x
    return Calibration(
        survey="2MASS", zero_point=ZERO_POINT, err_stat=scatter / np.sqrt(max(used, 1)),
        err_sys=0.008, scatter=scatter, n_stars=used, stars=table,
        trend=Line(-0.0007, 0.0018, 14.2, 0.0004, 0.0016),
        color_term=Line(COLOR_SLOPE, 0.006, COLOR_PIVOT), color="J − H",
        position=Map(position.astype(np.float32), SIDE),
    )  # fmt: skip


def stars(n: int) -> Table:
    random = np.random.RandomState(7)
    mag = 10.5 + 6 * random.power(4, n)
    error = 0.012 + 0.02 * 10 ** (0.4 * (mag - 16.0))
    residual = random.normal(0, 1, n) * np.hypot(error, 0.01)
    used = np.arange(n) % 5 != 4
    reason = np.where(used, "", np.array(REASONS)[random.zipf(1.6, n) % len(REASONS)])
    residual = residual + ~used * random.normal(0.02, 0.15, n)
    color = np.where(random.uniform(size=n) < 0.03, np.nan, random.normal(0.55, 0.2, n))
    columns = {
        "ra_deg": random.uniform(201, 201.6, n), "dec_deg": random.uniform(-0.8, -0.2, n),
        "x": random.uniform(0, SHAPE[1], n), "y": random.uniform(0, SHAPE[0], n),
        "mag": mag, "mag_err": error, "expected": mag - residual,
        "instrumental": mag - residual - ZERO_POINT, "color": color,
        "residual": residual, "used": used, "reason": reason,
    }  # fmt: skip
    return Table(columns)


def sources(n: int) -> Table:
    random = np.random.RandomState(8)
    mag = np.minimum(LIMIT + 0.5 + random.normal(0, 0.25, n), 21.6) - np.minimum(
        random.exponential(1.7, n), 9
    )
    error = np.hypot(0.004, 0.217 * 10 ** (0.4 * (mag - LIMIT))) * random.lognormal(0, 0.12, n)
    return Table(
        {
            "mag_psf": mag, "mag_psf_err": error, "snr_win": 1.0857 / error,
            "stellarity": np.clip(random.normal(0.7, 0.35, n), 0, 1),
            "flags": np.where(random.uniform(size=n) < 0.03, 16, 0) | (mag < 12.5) * 4,
        }
    )  # fmt: skip


def depth() -> Depth:
    random = np.random.RandomState(9)
    y, x = _mesh()
    limits = LIMIT - 0.25 * np.hypot(x, y) ** 4 + random.normal(0, 0.02, x.shape)
    limits[3, 5] = np.nan
    mag = np.arange(18.0, 22.6, 0.25)
    injected = np.full(mag.size, 120)
    truth = 0.98 / (1 + np.exp((mag - LIMIT) / 0.12))
    table = Table({"mag": mag, "injected": injected, "recovered": random.binomial(injected, truth)})
    return Depth(LIMIT, LIMIT + 0.55, Map(limits.astype(np.float32), SIDE), table, LIMIT + 0.01,
                 0.03)  # fmt: skip


def psf() -> PsfEvidence:
    places = [(x, y) for y in (0.17, 0.5, 0.83) for x in (0.17, 0.5, 0.83)]
    stamps = [
        Stamp(fx * SHAPE[1], fy * SHAPE[0], moffat(3.7 + 0.4 * fx, 0.03 + 0.06 * fy, 30 * fx))
        for fx, fy in places
    ]
    random = np.random.RandomState(10)
    residual = 0.15 * (moffat(3.9) - moffat(4.1)) + random.normal(0, 5e-5, (31, 31))
    y, x = _mesh()
    return PsfEvidence(
        stamps, residual, 213, Map(1.84 + 0.08 * x + 0.03 * y**2, SIDE),
        Map(0.02 + 0.05 * np.hypot(x, y), SIDE), Map(np.degrees(np.arctan2(y, x)), SIDE),
    )  # fmt: skip


def moffat(fwhm: float, ellipticity: float = 0.0, angle_deg: float = 0.0, side: int = 31):
    """Beta 3, of flux 1."""
    y, x = np.mgrid[:side, :side] - side // 2
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    u, v = x * cos + y * sin, (y * cos - x * sin) / (1 - ellipticity)
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / 3) - 1))
    values = (1 + (u**2 + v**2) / alpha**2) ** -3.0
    return values / values.sum()


def uncalibrated() -> PhotometryEvidence:
    """No catalogue, nothing injected, no PSF, no target."""
    given = evidence(0, 800)
    no_limits = Depth(-3.7, -3.1, given.depth.limits)
    table = given.sources
    table["mag_psf"] -= ZERO_POINT
    return replace(
        given, system="", calibration=None, psf=None, target=None, depth=no_limits,
        refusal="no reference catalogue: 2MASS did not answer within 30 s, no local file was given",
    )  # fmt: skip


def poor() -> PhotometryEvidence:
    """Three stars, nothing fitted to them, NaN wherever one may be."""
    given = evidence(3, 12)
    bare = replace(
        given.calibration, trend=None, color_term=None, color="", position=None, scatter=np.nan
    )
    bare.stars["color"] = np.nan
    bare.stars["mag_err"] = np.nan
    given.sources["mag_psf"][:6] = np.nan
    given.sources["mag_psf_err"] = np.nan
    nothing = Map(np.full((17, 18), np.nan, np.float32), SIDE)
    blind = Depth(np.nan, np.nan, nothing)
    shapeless = PsfEvidence([], None, 0, nothing, nothing, nothing)
    return replace(given, calibration=bare, depth=blind, psf=shapeless,
                   target=Place("here", 10.0, 10.0))  # fmt: skip


def _mesh():
    """Of the cells of a map, -1 to 1 along each side."""
    return np.meshgrid(
        *(np.linspace(-1, 1, -(-side // SIDE)) for side in SHAPE), indexing="ij"
    )  # fmt: skip
