"""The hard cases: what is simulated, what is then spoilt, and what the pipeline is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from photometrus.simulate.night import SimulateConfig, simulate_night

Spoil = Callable[[Path, SimulateConfig], None]
"""Changes the night in a folder."""
PLENTY = 0.12
"""Of the usual number of ramps' light that comes through the thick half of a cloud."""


@dataclass(frozen=True)
class Case:
    """One hard case.

    hard : what is hard about it, in words; simulate : settings of the simulator
    config : settings of the pipeline; data : a folder of development data instead of a simulation
    refused : True when only a refusal is right
    """

    name: str
    hard: str
    simulate: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    spoil: Spoil | None = None
    data: str = ""
    refused: bool = False

    @property
    def night(self) -> SimulateConfig:
        """The simulated night: one chip, nine ramps, a sparse field, unless the case says else."""
        usual: dict[str, Any] = {
            "chips": (1,),
            "ramps": 9,
            "density": "sparse",
            "seed": 40,
            "layout": "nfs_fz",
        }
        return SimulateConfig(**(usual | dict(self.simulate)))


# --- what is spoilt ------------------------------------------------------------------------------


def ramps(night: Path, chip: int) -> list[Path]:
    """The science ramps of a chip in a simulated archive, in order of time."""
    found = sorted(night.rglob(f"C{chip}/**/*C{chip}*.ramp*"))
    return [path for path in found if header_of(path)["OBJTYPE"] != "FLAT"]


def header_of(path: Path) -> fits.Header:
    """The header of the image in a ramp file."""
    with fits.open(path) as hdus:
        return next(hdu.header for hdu in hdus if "OBJTYPE" in hdu.header)


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the pixels of a ramp, float32 (4096, 4096), NaN and 65535 left as they are."""
    with fits.open(path) as hdus:
        image = next(hdu for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2)
        data, header = np.array(image.data, np.float32), image.header
    new = np.where(np.isfinite(data) & (data < 60000), change(data), data).astype(np.float32)
    # Uncompressed: the reader takes either, and the cards of the compression go.
    clean = fits.Header(header, copy=True)
    fits.PrimaryHDU(new, clean).writeto(path, overwrite=True, output_verify="silentfix")


def half_cloud(night: Path, config: SimulateConfig) -> None:
    """A cloud over half of the chip in every frame: an eighth of the light, the sky glows on."""
    for path in ramps(night, config.chips[0]):

        def veil(data: Any) -> Any:
            x = np.linspace(0, 1, data.shape[1], dtype=np.float32)[None, :]
            through = PLENTY + (1 - PLENTY) / (1 + np.exp((x - 0.5) / 0.03))
            return data * through + (1 - through) * np.nanmedian(data)

        rewrite(path, veil)


def another_field(night: Path, config: SimulateConfig) -> None:
    """The fourth frame shows another field, under its own header."""
    other = night.parent / f"{night.name}-other"
    simulate_night(other, SimulateConfig(**{**vars(config), "seed": config.seed + 1, "flats": 0}))
    chip = config.chips[0]
    with fits.open(ramps(other, chip)[3]) as hdus:
        stranger = next(hdu.data for hdu in hdus if hdu.data is not None and hdu.data.ndim == 2)
        rewrite(ramps(night, chip)[3], lambda _: np.array(stranger, np.float32))


def all_saturated(night: Path, config: SimulateConfig) -> None:
    """Whatever peaks 250 ADU above the sky is saturated: no clean star is left above J = 14."""
    for path in ramps(night, config.chips[0]):

        def overexpose(data: Any) -> Any:
            good = np.where(np.isfinite(data) & (data < 60000), data, np.nanmedian(data))
            bright = gaussian_filter(good, 1.0) > np.nanmedian(good) + 250.0
            return np.where(bright, np.nan, data)

        rewrite(path, overexpose)


def with_catalogue(change: Callable[[Table, Path, SimulateConfig], Table]) -> Spoil:
    """A spoiler that changes the 2MASS-like catalogue."""

    def spoil(night: Path, config: SimulateConfig) -> None:
        path = night / "refcat_2mass.fits"
        change(Table.read(path), night, config).write(path, overwrite=True)

    return spoil


def on_chip(table: Table, night: Path, config: SimulateConfig, margin: float = 300.0) -> Any:
    """Which catalogue stars lie on the chip, by the truth: bool (n,)."""
    truth = Table.read(night / "truth" / "truth.fits")
    x, y = (np.asarray(truth[f"{axis}_C{config.chips[0]}"], float) for axis in "XY")
    inside = (np.minimum(x, y) > margin) & (np.maximum(x, y) < config.size - margin)
    east = (np.asarray(table["RAJ2000"])[:, None] - np.asarray(truth["RA"])[inside]) % 360.0
    east = (east + 180.0) % 360.0 - 180.0
    north = np.asarray(table["DEJ2000"])[:, None] - np.asarray(truth["DEC"])[inside]
    return (np.hypot(east * np.cos(np.radians(config.dec_deg)), north) < 1.0 / 3600).any(axis=1)


def eight_stars(table: Table, night: Path, config: SimulateConfig) -> Table:
    """Eight stars on the chip, of those that are bright and not saturated."""
    here = np.flatnonzero(on_chip(table, night, config) & (np.asarray(table["Jmag"]) > 12.5))
    order = here[np.argsort(np.asarray(table["Jmag"])[here])]
    return table[order[:8]]


def older(table: Table, night: Path, config: SimulateConfig) -> Table:
    """Positions of 1950, fifty years more of motion, and no word about it."""
    truth = Table.read(night / "truth" / "truth.fits")
    draw = np.random.RandomState(config.seed)
    motion = np.stack([truth["PMRA"], truth["PMDEC"]], axis=1)
    moves = motion[draw.randint(len(truth), size=len(table))] * -50.0 / 3.6e6
    out = table.copy()
    out["RAJ2000"] = (
        np.asarray(table["RAJ2000"]) + moves[:, 0] / np.cos(np.radians(config.dec_deg))
    ) % 360.0
    out["DEJ2000"] = np.asarray(table["DEJ2000"]) + moves[:, 1]
    return out


def with_motions(table: Table, night: Path, config: SimulateConfig) -> Table:
    """The catalogue with proper motions as Gaia has them, good to 1 mas/yr."""
    truth = Table.read(night / "truth" / "truth.fits")
    years = 2000.0 - (config.night.year + (config.night.timetuple().tm_yday - 0.5) / 365.25)
    cosine = np.cos(np.radians(config.dec_deg))
    past = np.stack(
        [
            np.asarray(truth["RA"]) * cosine + np.asarray(truth["PMRA"]) * years / 3.6e6,
            np.asarray(truth["DEC"]) + np.asarray(truth["PMDEC"]) * years / 3.6e6,
        ],
        axis=1,
    )
    here = np.stack([np.asarray(table["RAJ2000"]) * cosine, np.asarray(table["DEJ2000"])], axis=1)
    distance, which = cKDTree(past).query(here)
    known = distance < 0.7 / 3600
    draw = np.random.RandomState(config.seed)
    out = table.copy()
    for name, column in (("pmRA", "PMRA"), ("pmDE", "PMDEC")):
        motion = np.asarray(truth[column])[which] + draw.normal(0, 1.0, len(table))
        out[name] = np.where(known, motion, np.nan)
        out[name].unit = "mas/yr"
    return out


def random_stars(table: Table, _: Path, config: SimulateConfig) -> Table:
    """As many stars as bright, anywhere in the field: garbage."""
    draw = np.random.RandomState(config.seed)
    out = table.copy()
    for name in ("RAJ2000", "DEJ2000"):
        values = np.asarray(table[name])
        out[name] = draw.uniform(values.min(), values.max(), len(table))
    return out


def elsewhere(table: Table, _night: Path, _config: SimulateConfig) -> Table:
    """The right stars, all of them 10 arcminutes too far north."""
    out = table.copy()
    out["DEJ2000"] = np.asarray(table["DEJ2000"]) + 10.0 / 60.0
    return out


# --- the cases -----------------------------------------------------------------------------------

BULGE = {"density": "bulge", "ra_deg": 268.0, "dec_deg": -29.5, "seed": 41}

CASES = [
    Case("sparse", "9 ramps of a sparse field, 17 pixels of distortion, 2MASS of epoch 2000"),
    Case("20 ramps", "20 ramps", {"ramps": 20}),
    Case("100 ramps", "100 ramps", {"ramps": 100}),
    Case("1 ramp", "a single ramp: no dithers", {"ramps": 1, "bad_frame": False}),
    Case("2 ramps", "two ramps", {"ramps": 2, "bad_frame": False}),
    Case("3 ramps", "three ramps", {"ramps": 3, "bad_frame": False}),
    Case("no dithers", "nine ramps at one place", {"dither_type": "None"}),
    Case("Z", "band Z", {"band": "Z"}),
    Case("Y", "band Y", {"band": "Y"}),
    Case("H", "band H", {"band": "H"}),
    Case("four chips", "all chips of a normal field", {"chips": (1, 2, 3, 4), "density": "normal"}),
    Case("rotator wrong", "ROTOFF is 90 degrees off", {"rotoff": "wrong"}),
    Case("rotator unreadable", "ROTOFF is junk", {"rotoff": "junk"}),
    Case(
        "pointing 60 arcsec",
        "each frame is 55 to 60 arcsec from where it says it is",
        {"pointing_error_arcsec": (55.0, 60.0)},
    ),
    Case(
        "8 stars",
        "a catalogue with 8 stars on the chip",
        spoil=with_catalogue(eight_stars),
    ),
    Case("bulge", "about 40 000 stars on the chip", BULGE),
    Case(
        "bulge, 20 arcsec",
        "the same, each frame 20 arcsec from where it says it is",
        BULGE | {"pointing_error_arcsec": (20.0, 20.0)},
    ),
    Case("half cloud", "a thick cloud over half of the chip in every frame", spoil=half_cloud),
    Case(
        "old catalogue",
        "positions of 1950, no proper motions, no word about the epoch",
        spoil=with_catalogue(older),
    ),
    Case(
        "proper motions",
        "positions of 2000 with proper motions: brought to the epoch of observation",
        spoil=with_catalogue(with_motions),
    ),
    Case("Dec +89.5", "near the north pole", {"dec_deg": 89.5, "ra_deg": 77.0}),
    Case("Dec -89.5", "near the south pole", {"dec_deg": -89.5, "ra_deg": 200.0}),
    Case("RA 0", "right ascension runs over zero", {"ra_deg": 0.02, "dec_deg": -30.0}),
    Case("seeing 2.7", "seeing 2.7 arcsec", {"seeing_arcsec": (2.6, 2.8)}),
    Case("saturated", "no unsaturated star above J = 14", spoil=all_saturated),
    Case("no catalogue", "none was asked for", config={"input": {"catalog": "none"}}),
    Case("foreign frame", "the fourth frame shows another field", spoil=another_field),
    Case(
        "random catalogue",
        "a catalogue of random stars",
        spoil=with_catalogue(random_stars),
        refused=True,
    ),
    Case(
        "shifted catalogue",
        "a catalogue that is off by 10 arcminutes",
        spoil=with_catalogue(elsewhere),
        refused=True,
    ),
    Case("dev_full", "the full-size development data", data="dev_full"),
    Case("dev_small", "the development data of four windows of 1024 pixels", data="dev_small"),
]
