"""The table of a stack's sources: its columns as numbers, its places as points, its words."""

import math
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from photometrus.wcs import unit_vectors

Values = NDArray[Any]  # (n,)
ARCSEC = math.degrees(1.0) * 3600.0
KINDS = ("psf", "aper", "auto")
"""Of magnitudes: the columns mag_psf, mag_psf_err..."""


class SourceFlag(IntFlag):
    """Bits of the column flags, as SExtractor has them."""

    NEIGHBOURS = 1
    DEBLENDED = 2
    SATURATED = 4
    EDGE = 8
    BAD_PIXELS = 16


class Status(IntEnum):
    """A source against the catalogue, S_CM in tables."""

    NEW = 0
    """The catalogue lacks it, though it has such stars."""
    AGREES = 1
    """Known, and of the same magnitude."""
    DIFFERS = 2
    """Known, and of another magnitude."""
    BELOW_LIMIT = 3
    """The catalogue lacks it, and others like it: too faint (too bright for its detectors)."""


class Doubt(IntFlag):
    """What speaks against a source; 0 = nothing. The words are in `WORDS`."""

    EDGE = 1
    BAD_PIXELS = 2
    LOW_WEIGHT = 4
    FEW_FRAMES = 8
    SHARP = 16
    HALO = 32
    ONE_HALF = 64
    UNSTEADY = 128
    SATURATED = 256
    EXTENDED = 512
    ELONGATED = 1024
    MOVED = 2048


WORDS = {
    Doubt.EDGE: "cut off by the edge",
    Doubt.BAD_PIXELS: "on bad pixels",
    Doubt.LOW_WEIGHT: "where the weight is low",
    Doubt.FEW_FRAMES: "seen by too few frames",
    Doubt.SHARP: "sharper than a star",
    Doubt.HALO: "in the light of a much brighter star",
    Doubt.ONE_HALF: "not in both halves of the frames",
    Doubt.UNSTEADY: "differs between the halves of the frames",
    Doubt.SATURATED: "saturated",
    Doubt.EXTENDED: "larger than a star",
    Doubt.ELONGATED: "longer than a star",
    Doubt.MOVED: "perhaps a star of the catalogue that has moved",
}
SPURIOUS = Doubt(255)
"""Doubts about being on the sky; the others are about being a star, or being new."""


def words(doubts: int) -> str:
    """The doubts in words, with semicolons between; empty when there are none."""
    return "; ".join(said for doubt, said in WORDS.items() if doubts & doubt)


def column(table: Table, name: str, missing: float = math.nan) -> Values:
    """A column as float64, NaN where masked; `missing` everywhere when there is no such column."""
    if name not in table.colnames:
        return np.full(len(table), missing)
    return np.ma.filled(np.ma.asarray(table[name], float), np.nan)


def flagged(table: Table, flags: SourceFlag) -> Values:
    """Which sources have one of the flags: bool (n,)."""
    return (np.asarray(table["flags"], np.int64) & flags.value) != 0


def signal_to_noise(table: Table) -> Values:
    """Of the PSF fit: float64 (n,)."""
    error = column(table, "flux_psf_err")
    return column(table, "flux_psf") / np.where(error > 0, error, np.nan)


def points(table: Table) -> Values:
    """Places as points on a sphere on which arcs are arcseconds: float64 (n, 3).

    A chord is shorter than its arc by 1e-6 of it at ten arcminutes.
    """
    return ARCSEC * unit_vectors(column(table, "ra_deg"), column(table, "dec_deg"))
