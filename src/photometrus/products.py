"""Every name on disk, built and parsed.

The tree of one observation (one field, date and band), which users know by heart::

    PARENT/C1/01599131C1.ramp.fits                     ramps as downloaded
    PARENT/C1_astrom/01599131C1.ramp.new               the same with a first WCS
    PARENT/C1_FF/01599131C1.flat.fits                  trimmed and flat-fielded
    PARENT/C1_sub/01599131C1.sky.flat.fits .cat .head  sky-subtracted, sources, solution
    PARENT/C1_sub/old/01599131C1.sky.flat.head         the WCS before refinement
    PARENT/C1_sub/flags/01599131C1.flags.fits.fz       why which pixels are not used
    PARENT/sky/sky.Open-J.01599131-01599173.C1.fits
    PARENT/stack/coadd.Open-J.<first>-<last>.C1.fits.fz  .wcs  weight....fits
    PARENT/stack/coadd.Open-J.<first>-<last>.inc005.C1.fits.fz  weight....fits
    PARENT/stack/flags.Open-J.<first>-<last>.C1.fits.fz
    PARENT/stack/exptime.Open-J.<first>-<last>.C1.fits  depth....fits
    PARENT/stack/qa.Open-J.<first>-<last>.C1.png       the chip's page: how good it all is
    PARENT/ramp_fit_log_2024-06-06.dat  .clean.dat  run.json  config.toml  report.html
    PARENT/photometry.json                             what `full` has measured of which stacks
    PARENT/photometrus.log                             all that was told, run after run

What is measured on a stack stands beside it::

    coadd.Open-J.01599131-01599173.C1.VHS.ecsv  .parquet  .reg     all sources
    GRB_J_C1_Data_VHS_01599131.ecsv                     the target: one source, or a limit
    GRB_Multisource_J_C1_Data_VHS_01599131.ecsv         several sources in its circle
    GRB_J_C1_Data_VHS_01599131_loc_2.ecsv               the second position of a list
    GRB_J_C1_Chart_VHS_01599131.png                     its finding chart
    GRB_J_C1_Report_VHS_01599131.txt  .json             its report, for people and for programs
    New_Sources_J_C1_Data_VHS_01599131.ecsv             what the catalogue lacks in a large circle
    Resid_3-sig_Data_J_C1_VHS.ecsv                      the stars of the zero point
    VHS_C1_query_01599131.ecsv                          the catalogue as it was asked for
"""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from photometrus.errors import UsageError
from photometrus.instrument import filters_of

JOURNAL = "photometrus.log"
RAMP_NAME = re.compile(r"(?P<serial>\d{8})C(?P<chip>[1-4])(?=\.)")


@dataclass(frozen=True, order=True)
class RampId:
    """A ramp's serial number (of its first raw frame) and its chip."""

    serial: int
    chip: int

    def __str__(self) -> str:
        return f"{self.serial:08d}C{self.chip}"

    def on_chip(self, chip: int) -> "RampId":
        """The ramp that another chip took at the same time."""
        return RampId(self.serial, chip)

    @property
    def folder(self) -> str:
        """The archive's folder of a thousand serials, e.g. ``01599000``."""
        return f"{self.serial // 1000 * 1000:08d}"


def parse_ramp(name: str) -> RampId:
    """The ramp that a file name belongs to, whatever stage of the reduction it is at.

    Raises UsageError when the name is not one of ours.
    """
    match = RAMP_NAME.match(Path(name).name)
    if match is None:
        raise UsageError(f"{name}: not a ramp's name; expected 8 digits, C, chip: 01599131C1...")
    return RampId(int(match["serial"]), int(match["chip"]))


def parse_date(text: str) -> date:
    """The date from ``yyyymmdd`` or ISO ``yyyy-mm-dd``; UsageError otherwise."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"date {text!r}: expected yyyymmdd, for example 20240606") from None


def log_name(night: date) -> str:
    """The night log as the observatory calls it."""
    return f"ramp_fit_log_{night.isoformat()}.dat"


def clean_log_name(night: date) -> str:
    """The night log after cleaning."""
    return f"ramp_fit_log_{night.isoformat()}.clean.dat"


def night_name(night: date) -> str:
    """The table of a night that was reduced."""
    return f"night_{night:%Y%m%d}.ecsv"


def flat_name(band: str, night: date, chip: int) -> str:
    """A master flat in the flat store."""
    return f"mflat.{band}.{night:%Y%m%d}.C{chip}.fits"


FLAT_NAME = re.compile(r"mflat\.(?P<band>[A-Z]\w*)\.(?P<date>\d{8})\.C(?P<chip>[1-4])\.fits$")


def default_parent(target: str, night: date, band: str) -> Path:
    """Where an observation goes when no ``-parent`` is given."""
    return Path(f"{target.replace('/', '_')}_{night:%Y%m%d}") / band


@dataclass(frozen=True)
class Products:
    """The product tree of one observation below `root`."""

    root: Path
    band: str

    @property
    def filters(self) -> str:
        """The two filter wheels as they stand in names: ``Open-J``, ``Z-Open``."""
        return "-".join(filters_of(self.band))

    def ramps(self, chip: int) -> Path:
        """Folder of the ramps as downloaded."""
        return self.root / f"C{chip}"

    def astrom(self, chip: int) -> Path:
        """Folder of the ramps with a first WCS."""
        return self.root / f"C{chip}_astrom"

    def flattened(self, chip: int) -> Path:
        """Folder of the trimmed, flat-fielded frames."""
        return self.root / f"C{chip}_FF"

    def subtracted(self, chip: int) -> Path:
        """Folder of the sky-subtracted frames with their catalogues and solutions."""
        return self.root / f"C{chip}_sub"

    def before_refinement(self, chip: int) -> Path:
        """Folder of the astrometry before refinement."""
        return self.subtracted(chip) / "old"

    def ramp(self, ramp: RampId) -> Path:
        """The ramp itself, e.g. ``C1/01599131C1.ramp.fits``."""
        return self.ramps(ramp.chip) / f"{ramp}.ramp.fits"

    def placed(self, ramp: RampId) -> Path:
        """The ramp with its first WCS."""
        return self.astrom(ramp.chip) / f"{ramp}.ramp.new"

    def flat_fielded(self, ramp: RampId) -> Path:
        """The trimmed, flat-fielded frame."""
        return self.flattened(ramp.chip) / f"{ramp}.flat.fits"

    def sky_subtracted(self, ramp: RampId) -> Path:
        """The sky-subtracted frame."""
        return self.subtracted(ramp.chip) / f"{ramp}.sky.flat.fits"

    def sources(self, ramp: RampId) -> Path:
        """The frame's sources as FITS_LDAC."""
        return self.sky_subtracted(ramp).with_suffix(".cat")

    def head(self, ramp: RampId) -> Path:
        """The frame's solution as a SCAMP/SWarp header."""
        return self.sky_subtracted(ramp).with_suffix(".head")

    def flags(self, ramp: RampId) -> Path:
        """Why which of the frame's pixels are not used."""
        return self.subtracted(ramp.chip) / "flags" / f"{ramp}.flags.fits.fz"

    def old_head(self, ramp: RampId) -> Path:
        """The frame's WCS before refinement."""
        return self.before_refinement(ramp.chip) / self.head(ramp).name

    def span(self, ramps: list[RampId], part: str = "") -> str:
        """``Open-J.<first>-<last>.C1``: what names a sky or a stack; with `part` before the chip.

        part : which frames of them a stack is of, ``inc005``, ``alt1``; empty for all
        """
        serials = [ramp.serial for ramp in ramps]
        of = f"{part}." if part else ""
        return f"{self.filters}.{min(serials):08d}-{max(serials):08d}.{of}C{ramps[0].chip}"

    def sky(self, ramps: list[RampId]) -> Path:
        """The sky made from `ramps`."""
        return self.root / "sky" / f"sky.{self.span(ramps)}.fits"

    def coadd(self, ramps: list[RampId], part: str = "", *, compressed: bool = True) -> Path:
        """The stack of `ramps`, or of a part of them."""
        end = "fits.fz" if compressed else "fits"
        return self.root / "stack" / f"coadd.{self.span(ramps, part)}.{end}"

    def coadd_wcs(self, ramps: list[RampId]) -> Path:
        """The stack's WCS as a header-only FITS file."""
        return self.root / "stack" / f"coadd.{self.span(ramps)}.wcs"

    def weight(self, ramps: list[RampId], part: str = "") -> Path:
        """The stack's weight map (inverse variance)."""
        return self.root / "stack" / f"weight.{self.span(ramps, part)}.fits"

    def stack_flags(self, ramps: list[RampId]) -> Path:
        """What was wrong with the frames' pixels at each pixel of the stack."""
        return self.root / "stack" / f"flags.{self.span(ramps)}.fits.fz"

    def exposure(self, ramps: list[RampId]) -> Path:
        """The exposure time of each pixel of the stack."""
        return self.root / "stack" / f"exptime.{self.span(ramps)}.fits"

    def depth(self, ramps: list[RampId]) -> Path:
        """How faint a star can be seen at each pixel of the stack."""
        return self.root / "stack" / f"depth.{self.span(ramps)}.fits"

    def page(self, ramps: list[RampId]) -> Path:
        """The page that shows how good the stack is."""
        return self.root / "stack" / f"qa.{self.span(ramps)}.png"

    @property
    def run_record(self) -> Path:
        """What was done, to what, and how well."""
        return self.root / "run.json"

    @property
    def photometry_record(self) -> Path:
        """What `full` has measured of which stacks, with what."""
        return self.root / "photometry.json"

    @property
    def journal(self) -> Path:
        """All that was told, run after run."""
        return self.root / JOURNAL

    @property
    def html_report(self) -> Path:
        """The page of the observation, for a browser."""
        return self.root / "report.html"

    @property
    def config(self) -> Path:
        """The configuration that was effective."""
        return self.root / "config.toml"

    @property
    def failed_downloads(self) -> Path:
        """What the archive did not give."""
        return self.root / "failed_downloads_list.txt"

    def in_making(self, chip: int) -> Path:
        """Is there while the chip's products are being replaced."""
        return self.root / f".making.C{chip}"

    @property
    def distortions(self) -> Path:
        """What an unfinished observation sees of the store of distortions, and says itself."""
        return self.root / f".distortions.{self.band}"

    def of_frame(self, ramp: RampId) -> list[Path]:
        """What ``-keep all`` leaves of a frame."""
        return [
            self.placed(ramp),
            self.flat_fielded(ramp),
            self.sky_subtracted(ramp),
            self.sources(ramp),
            self.head(ramp),
            self.old_head(ramp),
            self.flags(ramp),
        ]

    def unfinished(self, chip: int | None = None) -> list[Path]:
        """What a reduction of the chip (None: of all) was writing when it was killed."""
        if chip is None:
            programs = [*self.root.glob(".weights-*"), *self.root.glob("*/.photometrus-*")]
            return [*self.root.glob("*.part"), *programs]
        folders = (self.astrom(chip), self.flattened(chip), self.subtracted(chip))
        found = [path for folder in folders for path in folder.rglob("*.part")]
        for folder in (self.root / "sky", self.root / "stack"):
            found += folder.glob(f"*.C{chip}.*.part")
        return [*found, *self.root.glob(self.scratch(chip, "*") + "*")]

    @staticmethod
    def scratch(chip: int, what: str) -> str:
        """How the name of a folder begins that a reduction of the chip removes at its end."""
        return f".scratch.C{chip}.{what}-"

    def ramps_on_disk(self, chip: int) -> list[RampId]:
        """The ramps of a chip that are there, in order of serial."""
        found = [RAMP_NAME.match(path.name) for path in self.ramps(chip).glob("*.ramp.fits")]
        # A stray file is not ours to judge.
        ramps = [RampId(int(match["serial"]), int(match["chip"])) for match in found if match]
        return sorted(ramp for ramp in ramps if ramp.chip == chip)


STACK_NAME = re.compile(
    r"coadd\.(?P<filters>[^.]+)\.(?P<first>\d{8})-(?P<last>\d{8})(?:\.(?P<part>\w+))?\.C[1-4]$"
)


@dataclass(frozen=True)
class StackProducts:
    """What photometry leaves beside a stack.

    name : of the stack's file without endings, ``coadd.Open-J.01599131-01599173.C1``
    chip : 0 when it is not one of PRIME's; survey : ``VHS``..., ``local`` for a file
    target : what `-grb_name` says
    """

    folder: Path
    name: str
    band: str
    chip: int
    survey: str
    target: str = "GRB"

    @property
    def serial(self) -> str:
        """The stack's first serial, with the part it is of: ``01599131``, ``01599131.alt1``.

        A stack that is not called as ours goes by its whole name.
        """
        match = STACK_NAME.match(self.name)
        if match is None:
            return self.name
        return match["first"] + (f".{match['part']}" if match["part"] else "")

    def catalog(self, *, parquet: bool = False) -> Path:
        """All sources of the stack."""
        return self.folder / f"{self.name}.{self.survey}.{'parquet' if parquet else 'ecsv'}"

    @property
    def regions(self) -> Path:
        """All sources and targets as a region file of DS9."""
        return self.folder / f"{self.name}.{self.survey}.reg"

    def data(self, n_sources: int, location: int = 0) -> Path:
        """The sources in the target's circle; with none, the limit.

        location : 1, 2... for the positions of a list, 0 for the only one
        """
        several = "Multisource_" if n_sources > 1 else ""
        return self._of_target(f"{self._safe}_{several}", "Data", location, "ecsv")

    def chart(self, location: int = 0) -> Path:
        """The finding chart."""
        return self._of_target(f"{self._safe}_", "Chart", location, "png")

    def report(self, location: int = 0) -> Path:
        """The report as text; its numbers for programs are in ``.json`` beside it."""
        return self._of_target(f"{self._safe}_", "Report", location, "txt")

    def new_sources(self, location: int = 0) -> Path:
        """What the catalogue lacks in a large circle."""
        return self._of_target("New_Sources_", "Data", location, "ecsv")

    def residuals(self, sigma: float = 3.0) -> Path:
        """The stars of the zero point, and by how much each is off."""
        name = f"Resid_{sigma:g}-sig_Data_{self.band}_C{self.chip}_{self.survey}.ecsv"
        return self.folder / name

    @property
    def query(self) -> Path:
        """The catalogue as it was asked for."""
        return self.folder / f"{self.survey}_C{self.chip}_query_{self.serial}.ecsv"

    @property
    def calibration_page(self) -> Path:
        """The page of the zero point."""
        return self.folder / f"{self.name}.{self.survey}.calibration.png"

    @property
    def depth_page(self) -> Path:
        """The page of limits and PSF."""
        return self.folder / f"{self.name}.{self.survey}.depth.png"

    def kept(self, kind: str) -> Path:
        """What only `-keep` leaves: ``segments``, ``left`` (the image without stars), ``psf``."""
        return self.folder / f"{self.name}.{kind}.fits"

    @property
    def _safe(self) -> str:
        """The target's name without what no file name should have."""
        return re.sub(r"[^\w.+-]+", "_", self.target).strip("._") or "GRB"

    def _of_target(self, begin: str, kind: str, location: int, end: str) -> Path:
        place = f"_loc_{location}" if location else ""
        middle = f"{self.band}_C{self.chip}_{kind}_{self.survey}_{self.serial}"
        return self.folder / f"{begin}{middle}{place}.{end}"
