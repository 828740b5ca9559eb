"""What is wanted of a stack's photometry, and what came of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from astropy.table import Table

from photometrus.calibration import ZeroPoint
from photometrus.cards import card, figure
from photometrus.frame import StackInfo
from photometrus.sighting import Sighting, Target

COLUMNS = ("stack", "sources ", 'FWHM " ', "zero point ", "+- stat ", "sys ", "stars ", "from",
           "5 sigma ", "50 % ")  # fmt: skip


@dataclass(frozen=True)
class PhotometryRequest:
    """One stack, the targets on it, and what shall be made.

    band : Z, Y, J or H where the header does not say; target_name : of the products
    targets : with several, each has its own number in the products' names
    """

    stack: Path
    band: str = ""
    targets: tuple[Target, ...] = ()
    target_name: str = "GRB"
    t0_mjd: float | None = None
    targets_only: bool = False
    query: bool = False
    query_only: bool = False
    plots_only: bool = False
    command: str = ""


@dataclass(frozen=True)
class Told:
    """What a command tells of a stack's photometry; JSON can hold it.

    row : the cells below COLUMNS; made : paths; sightings : of each target its name, verdict,
    sentence
    """

    name: str
    system: str
    row: Sequence[str]
    refused: str
    notes: Sequence[str]
    sightings: Sequence[Sequence[str]]
    reports: Sequence[str]
    made: Sequence[str]


@dataclass(frozen=True, eq=False)
class Photometry:
    """What came of a stack's photometry.

    sources : all, with the columns of `sourcetable` and magnitudes when there is a zero point
    limit_5sigma, limit_3sigma : of a star in PSF photometry, see `faint.usual_error`, magnitudes of
        `system`; limit50 : where half of injected stars are recovered; NaN when unknown
    made : the files
    """

    info: StackInfo
    system: str
    sources: Table
    zero_point: ZeroPoint | None
    limit_5sigma: float
    limit_3sigma: float
    limit50: float
    fwhm_arcsec: float
    sightings: list[Sighting] = field(default_factory=list)
    new_sources: list[Table] = field(default_factory=list)
    reports: list[str] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    refused: str = ""
    """Why there are no magnitudes; empty when there are."""

    def row(self) -> tuple[str, ...]:
        """Its cells below COLUMNS."""
        zp = self.zero_point
        zp = zp if zp is not None and zp.trusted else None
        value = math.nan if zp is None else zp.value + zp.offset(self.system)
        return (
            self.info.name,
            f"{len(self.sources)}",
            figure(self.fwhm_arcsec, 2),
            figure(value, 3),
            figure(zp.err_stat if zp is not None else None, 3),
            figure(zp.err_sys if zp is not None else None, 3),
            f"{zp.n_stars if zp is not None else 0}",
            (zp.survey if zp is not None else "") or "-",
            figure(self.limit_5sigma, 2),
            figure(self.limit50, 2),
        )

    def told(self) -> Told:
        """What is told of it."""
        return Told(
            self.info.name,
            self.system,
            self.row(),
            self.refused,
            self.notes,
            [(one.target.name, one.verdict, one.sentence) for one in self.sightings],
            self.reports,
            [str(path) for path in self.made],
        )

    def __repr__(self) -> str:
        cells = zip(COLUMNS, self.row(), strict=True)
        return "<Photometry: " + ", ".join(f"{name.strip()} {cell}" for name, cell in cells) + ">"

    def _repr_html_(self) -> str:
        """In a notebook: what the command shows."""
        told = [f"{one.target.name}: {one.sentence}" for one in self.sightings]
        refused = [f"not calibrated: {self.refused}"] if self.refused else []
        title = f"magnitudes: {self.system or 'none'}"
        return card(title, COLUMNS, [self.row()], notes=[*told, *refused, *self.notes])
