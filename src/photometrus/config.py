"""The configuration: defaults < TOML file < options; loaded, merged, written."""

import re
import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from inspect import getsource
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from photometrus.errors import MissingInput, UsageError, nearest
from photometrus.instrument import CHIPS, DEFAULT_ROTATOR_DEG
from photometrus.io.limits import TransferConfig
from photometrus.lightcurve import LightCurveConfig
from photometrus.passwords import refuse_password, without_password
from photometrus.selection import SelectConfig
from photometrus.stages.apertures import AperturesConfig
from photometrus.stages.artifacts import ArtifactsConfig
from photometrus.stages.astrometry import AstrometryConfig
from photometrus.stages.background import BackgroundConfig
from photometrus.stages.coadd import CoaddConfig
from photometrus.stages.completeness import CompletenessConfig
from photometrus.stages.counterparts import CounterpartConfig
from photometrus.stages.crowding import CrowdingConfig
from photometrus.stages.detection import DetectionConfig
from photometrus.stages.detrend import FlatConfig
from photometrus.stages.doubts import DoubtConfig
from photometrus.stages.growth import GrowthConfig
from photometrus.stages.hiddenstars import HiddenConfig
from photometrus.stages.masks import MaskConfig
from photometrus.stages.noise import NoiseConfig
from photometrus.stages.placement import PlacementConfig
from photometrus.stages.psf import PsfConfig
from photometrus.stages.psfphotometry import PsfPhotometryConfig
from photometrus.stages.psfwidths import PsfWidthsConfig
from photometrus.stages.sky import SkyConfig
from photometrus.stages.sources import SourcesConfig
from photometrus.stages.target import TargetConfig
from photometrus.stages.zeropoint import ZeroPointConfig
from photometrus.substacks import SubstackConfig

T = TypeVar("T")


@dataclass(frozen=True)
class RunConfig:
    """What to do, with what, and what to keep."""

    engine: str = "native"  # or "astromatic": the real SExtractor, SCAMP and SWarp
    keep: str = "all"  # or "final": sky, stack and logs only
    rotator_deg: float = DEFAULT_ROTATOR_DEG  # used when the header's ROTOFF is unreadable
    flat_field: bool = True
    search_pointing: bool = True  # find the field; off (-no_shift): believe the pointing
    astrometry_net: bool = False
    compress: bool = True
    exptime_map: bool = False  # exposure time of each pixel, beside the stack
    depth_map: bool = False  # 5 sigma limit for a star at each pixel, beside the stack
    pages: bool = True  # a page per chip that shows how good its stack is
    parallel: bool = False  # chips at once, in worker processes
    scheduler: str = ""  # of a running Dask cluster: tcp://host:8786, or its file; empty: our own
    workers: int = 0  # processes of our own cluster; 0 = as there are cores and memory
    threads: int = 0  # per chip; 0 = as there are cores and memory
    memory: str = ""  # for all chips at once: "4GB", "50%"; empty: what the machine has
    timeout_s: float = 1800.0  # of an external program


@dataclass(frozen=True)
class InputConfig:
    """Where things come from."""

    archive: str = ""  # root URL; empty: environment PHOTOMETRUS_ARCHIVE
    ftype: str = "ramp"  # kind of file that is downloaded
    catalog: str = "2MASS"  # reference catalogue: a file, the name of a survey, or "none"
    flat_dir: str = ""  # the flat store; empty: PHOTOMETRUS_FLATS or the user's data folder
    distortion_dir: str = ""  # the store of distortions; empty: as above; "none": off
    cache: str = ""  # catalogue cache; empty: PHOTOMETRUS_CACHE or the user's cache folder
    sky_override: str = ""  # a sky to use instead of making one
    astrometry_net_cfg: str = ""  # solve-field's configuration; empty: an index is built
    downloads: int = 4  # at once


@dataclass(frozen=True)
class PhotometryConfig:
    """What a stack is calibrated with, and what is made of it."""

    survey: str = ""  # empty: the best that covers the field
    catalog: str = ""  # a file of stars, or postgresql://...; goes before the survey
    crop_pix: int = 300  # along the edges: stars there do not calibrate
    magsys: str = "AB"  # or "Vega", "native"
    floor_mag: float = 0.005  # of any flux: what flat fields leave from place to place
    completeness: bool = True  # put stars in, and see what is found of them
    plots: bool = True
    keep: bool = False  # also segmentation, PSF, image without stars
    parquet: bool = False  # the catalogue as Parquet, too


@dataclass(frozen=True)
class Config:
    """The stages' configurations and the run's own. Immutable; `merge` makes a changed copy."""

    run: RunConfig = field(default_factory=RunConfig)
    input: InputConfig = field(default_factory=InputConfig)
    transfer: TransferConfig = field(default_factory=TransferConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    flat: FlatConfig = field(default_factory=FlatConfig)
    sky: SkyConfig = field(default_factory=SkyConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    sources: SourcesConfig = field(default_factory=SourcesConfig)
    masks: MaskConfig = field(default_factory=MaskConfig)
    artifacts: ArtifactsConfig = field(default_factory=ArtifactsConfig)
    placement: PlacementConfig = field(default_factory=PlacementConfig)
    astrometry: AstrometryConfig = field(default_factory=AstrometryConfig)
    coadd: CoaddConfig = field(default_factory=CoaddConfig)
    crowding: CrowdingConfig = field(default_factory=CrowdingConfig)
    substacks: SubstackConfig = field(default_factory=SubstackConfig)
    photometry: PhotometryConfig = field(default_factory=PhotometryConfig)
    detection: DetectionConfig = field(default_factory=DetectionConfig)
    psf: PsfConfig = field(default_factory=PsfConfig)
    psf_photometry: PsfPhotometryConfig = field(default_factory=PsfPhotometryConfig)
    hidden: HiddenConfig = field(default_factory=HiddenConfig)
    psf_widths: PsfWidthsConfig = field(default_factory=PsfWidthsConfig)
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    apertures: AperturesConfig = field(default_factory=AperturesConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    zeropoint: ZeroPointConfig = field(default_factory=ZeroPointConfig)
    completeness: CompletenessConfig = field(default_factory=CompletenessConfig)
    counterparts: CounterpartConfig = field(default_factory=CounterpartConfig)
    doubts: DoubtConfig = field(default_factory=DoubtConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    lightcurve: LightCurveConfig = field(default_factory=LightCurveConfig)
    chip: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Changes for one chip: ``[chip.3.sky] clip_sigma = 6.0`` in the TOML file."""

    def for_chip(self, chip: int) -> "Config":
        """The configuration with the chip's own changes laid over it."""
        return merge(replace(self, chip={}), self.chip.get(str(chip), {}), f"chip.{chip}")


CHOICES = {
    "run.engine": ("native", "astromatic"),
    "run.keep": ("all", "final"),
    "coadd.combine": ("clipped", "mean", "median"),
    "coadd.pixel_area": ("auto", "flat", "jacobian"),
    "photometry.magsys": ("AB", "Vega", "native"),
}


def load(path: Path | None = None, overrides: dict[str, Any] | None = None) -> Config:
    """Defaults, a TOML file laid over them, options (a nested dict) laid over both.

    Raises MissingInput when the file is not there, UsageError for what is no TOML or no key of
    ours, with the nearest right spelling.
    """
    config = Config()
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MissingInput(
                f"{path}: no such configuration file; photometrus config init makes one"
            ) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(
                f"{path}: not readable as TOML ({error}); photometrus config init shows how"
            ) from error
        config = merge(config, values, path.name)
    config = merge(config, overrides or {}, "options")
    for chip in config.chip:
        if chip not in {str(number) for number in CHIPS}:
            raise UsageError(f"chip.{chip}: PRIME has chips 1 to 4; write for example [chip.3.sky]")
        config.for_chip(int(chip))
    return config


def merge(config: T, values: dict[str, Any], where: str = "config") -> T:
    """`config` with a nested dict laid over it; an unknown key or a wrong type is a UsageError."""
    known = {f.name for f in fields(config)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise UsageError(
                f"{where}: unknown key {key!r}{nearest(key, known)}; photometrus config shows all"
            )
        old = getattr(config, key)
        name = f"{where}.{key}"
        if is_dataclass(old):
            if not isinstance(value, dict):
                raise UsageError(
                    f"{name}: a table of keys, not {value!r}; write [{key}], then key = value"
                )
            changes[key] = merge(old, value, name)
        else:
            changes[key] = _as(old, value, name)
    return replace(config, **changes)  # type: ignore[type-var]


def _as(old: Any, value: Any, name: str) -> Any:
    """`value` in the type of the default; UsageError when it is another, or holds a password."""
    if isinstance(value, str):
        refuse_password(value, f"in {name}, which is written to files that others read")
    if isinstance(old, bool) or isinstance(value, bool):
        right = isinstance(old, bool) and isinstance(value, bool)
    elif isinstance(old, float):
        right = isinstance(value, int | float)
        value = float(value) if right else value
    elif isinstance(old, tuple):
        right = isinstance(value, list | tuple) and len(value) == len(old)
        value = tuple(value) if right else value
    else:
        right = isinstance(value, type(old))
    if not right:
        raise UsageError(f"{name} = {value!r}: expected something like {old!r}")
    choices = CHOICES.get(".".join(name.split(".")[-2:]))
    if choices and value not in choices:
        raise UsageError(
            f"{name} = {value!r}: one of {', '.join(choices)}{nearest(str(value), choices)}"
        )
    return value


def dump(config: Config) -> str:
    """The configuration as TOML, every key written out; passwords in addresses are not."""
    return tomli_w.dumps(_plain(asdict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


def commented(config: Config) -> str:
    """The configuration as TOML with words on every key; a comment where it has its default."""
    lines = ["# Settings of photometrus. What is commented out has its default.", ""]
    for section in fields(Config):
        own, usual = getattr(config, section.name), getattr(Config(), section.name)
        if is_dataclass(own):
            lines += _section(section.name, own, usual)
    lines.append("# For one chip only: [chip.3.sky], and below it clip_sigma = 6.0")
    changed = {"chip": _plain(config.chip)} if config.chip else {}
    return "\n".join([*lines, tomli_w.dumps(changed)])


def _section(name: str, own: Any, usual: Any) -> list[str]:
    """The lines of a section, and of those in it."""
    title = (type(own).__doc__ or "").splitlines()[0]
    words, lines, inner = _words_of(type(own)), [f"# {title}", f"[{name}]"], []
    for key in fields(own):
        value, default = getattr(own, key.name), getattr(usual, key.name)
        if is_dataclass(value):
            inner += _section(f"{name}.{key.name}", value, default)
            continue
        text = " ".join(tomli_w.dumps({key.name: _plain(value)}).split())
        mark = "# " if value == default else ""
        said = words.get(key.name, "")
        lines.append(f"{mark}{text}  # {said}" if said else f"{mark}{text}")
    return [*lines, "", *inner]


def _words_of(kind: type) -> dict[str, str]:
    """What the source of a class says of its fields: behind them, or in a string below."""
    found = re.findall(
        r'^    (\w+): [^\n]*?(?:  # ([^\n]+)|\n    """(.+?)""")?$', getsource(kind), re.M | re.S
    )
    return {key: " ".join((behind or below).split()) for key, behind, below in found}
