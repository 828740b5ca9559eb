"""The sky: stars, galaxies and a transient, and the catalogues that others made of it."""

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.spatial import cKDTree

from photometrus.instrument import PIXEL_SCALE_ARCSEC
from photometrus.simulate.config import SimulateConfig, stream
from photometrus.simulate.geometry import Optics, Pointing, field_to_sky, sky_to_field

Array = NDArray[np.float64]

SCENE_RADIUS_DEG = 0.93  # the outermost corner, dithers and pointing errors
CHIP_AREA_DEG2 = 0.321
TRUTH_MARGIN_PIX = 100.0
BANDS_MADE = ("Z", "Y", "J", "H", "K")


@dataclass(frozen=True)
class Counts:
    """Cumulative star counts: `stars` per chip to J `at_mag`, as broken power laws."""

    stars: float
    at_mag: float
    bright_slope: float  # of log10 N per magnitude, brighter than J = 15
    faint_slope: float
    faintest: float
    galaxies: float  # per chip to J = 20
    catalogue_faintest: float

    def cumulative(self, mag: Array) -> Array:
        """Stars per chip brighter than `mag`."""
        knee = self.stars * 10 ** (self.faint_slope * (15.0 - self.at_mag))
        slope = np.where(mag < 15.0, self.bright_slope, self.faint_slope)
        return knee * 10 ** (slope * (mag - 15.0))


DENSITIES = {
    "sparse": Counts(3000, 20.0, 0.30, 0.20, 22.0, 2500, 20.5),
    "normal": Counts(9000, 20.0, 0.30, 0.22, 22.0, 2200, 20.5),
    "bulge": Counts(45000, 19.0, 0.32, 0.30, 19.8, 400, 18.5),
}
BRIGHTEST_MAG = 6.5
GALAXY_SLOPE, GALAXY_FAINTEST = 0.45, 21.5
BIG_GALAXIES = 12  # in the whole scene, some 30 arcseconds across
SATURATED_DEEP_MAG = 11.5


@dataclass(frozen=True)
class Scene:
    """Every source, at the epoch of observation; all arrays have one element per source.

    kind : "S" star, "G" galaxy, "T" transient
    pm_mas : (n, 2) mas per year, in RA (times cos Dec) and Dec
    radius_arcsec : half-light; shape : (n, 2) axis ratio and position angle (deg, East of North)
    """

    kind: NDArray[np.str_]
    ra_deg: Array
    dec_deg: Array
    mags: dict[str, Array]
    pm_mas: Array
    radius_arcsec: Array
    shape: Array
    sersic: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ra_deg)

    def take(self, index: NDArray[np.int64]) -> "Scene":
        """The sources at `index`."""
        return Scene(
            self.kind[index],
            self.ra_deg[index],
            self.dec_deg[index],
            {band: mag[index] for band, mag in self.mags.items()},
            self.pm_mas[index],
            self.radius_arcsec[index],
            self.shape[index],
            self.sersic[index],
        )


def epoch_of(config: SimulateConfig) -> float:
    """The night as a year with decimals."""
    return config.night.year + (config.night.timetuple().tm_yday - 0.5) / 365.25


def make_scene(config: SimulateConfig) -> Scene:
    """The field without transients: the same whichever chips are asked for, and at any size."""
    counts = DENSITIES[config.density]
    chips = np.pi * SCENE_RADIUS_DEG**2 / CHIP_AREA_DEG2
    stars = star_table(stream(config.seed, "stars"), counts, chips)
    galaxies = galaxy_table(stream(config.seed, "galaxies"), counts, chips)
    both = {key: np.concatenate([stars[key], galaxies[key]]) for key in stars}
    field = Pointing(config.ra_deg, config.dec_deg, 0.0)
    ra, dec = field_to_sky(both["xi"], both["eta"], field)
    return Scene(
        both["kind"],
        ra,
        dec,
        {band: both[band] for band in BANDS_MADE},
        both["pm"],
        both["radius"],
        both["shape"],
        both["sersic"],
    )


def scatter(draw: np.random.RandomState, n: int) -> tuple[Array, Array]:
    """Positions spread evenly over the scene, degrees East and North of its centre."""
    radius = SCENE_RADIUS_DEG * np.sqrt(draw.uniform(size=n))
    angle = draw.uniform(0, 2 * np.pi, n)
    return radius * np.sin(angle), radius * np.cos(angle)


def star_table(draw: np.random.RandomState, counts: Counts, chips: float) -> dict[str, Array]:
    """Stars: magnitudes from the counts, colours of two populations, proper motions."""
    grid = np.linspace(BRIGHTEST_MAG, counts.faintest, 400)
    number = counts.cumulative(grid)
    n = int(draw.poisson((number[-1] - number[0]) * chips))
    mag = np.interp(draw.uniform(number[0], number[-1], n), number, grid)
    xi, eta = scatter(draw, n)
    dwarf = draw.uniform(size=n) < 0.35  # red dwarfs
    jh = np.where(dwarf, draw.normal(0.60, 0.05, n), draw.normal(0.38, 0.12, n))
    near = draw.lognormal(0.0, 0.8, n) * 10 ** (-0.08 * np.clip(mag - 14.0, -3, 8))
    pm = draw.normal(0.0, 4.0, (n, 2)) * near[:, None] + [-1.5, -3.0]
    return {
        "kind": np.full(n, "S"),
        "xi": xi,
        "eta": eta,
        "J": mag,
        "H": mag - jh,
        "K": mag - 1.25 * jh + draw.normal(0, 0.03, n),
        "Y": mag + 0.80 * jh + draw.normal(0, 0.03, n),
        "Z": mag + 1.75 * jh + draw.normal(0, 0.06, n),
        "pm": pm,
        "radius": np.zeros(n),
        "shape": np.tile([1.0, 0.0], (n, 1)),
        "sersic": np.zeros(n, dtype=np.int64),
    }


def galaxy_table(draw: np.random.RandomState, counts: Counts, chips: float) -> dict[str, Array]:
    """Galaxies: disks and bulges, sizes that follow the magnitude, a few large ones."""
    n = int(draw.poisson(counts.galaxies * chips * 10 ** (GALAXY_SLOPE * (GALAXY_FAINTEST - 20))))
    mag = GALAXY_FAINTEST + np.log10(draw.uniform(1e-4, 1.0, n)) / GALAXY_SLOPE
    radius = 0.5 * 10 ** (0.12 * (20.5 - mag)) * draw.lognormal(0.0, 0.35, n)
    big = min(BIG_GALAXIES, n)
    mag[:big], radius[:big] = draw.uniform(11.5, 14.0, big), draw.uniform(4.0, 8.0, big)
    radius = np.clip(radius, 0.1, 9.0)
    xi, eta = scatter(draw, n)
    jh = draw.normal(0.75, 0.12, n)
    return {
        "kind": np.full(n, "G"),
        "xi": xi,
        "eta": eta,
        "J": mag,
        "H": mag - jh,
        "K": mag - 1.9 * jh + draw.normal(0, 0.05, n),
        "Y": mag + 0.6 * jh + draw.normal(0, 0.05, n),
        "Z": mag + 1.3 * jh + draw.normal(0, 0.1, n),
        "pm": np.zeros((n, 2)),
        "radius": radius,
        "shape": np.stack([draw.uniform(0.25, 1.0, n), draw.uniform(0, 180, n)], axis=1),
        "sersic": np.where(draw.uniform(size=n) < 0.7, 1, 4).astype(np.int64),
    }


def transient_on(
    chip: int, optics: Optics, scene: Scene, config: SimulateConfig
) -> tuple[Scene, dict[str, float]]:
    """The transient of one chip as a scene of one, in a gap between the stars, and its facts."""
    mag = config.transient_mag or np.nan
    draw = stream(config.seed, "transient", chip)
    x, y = draw.uniform(0.25, 0.75, (2, 400)) * config.size
    field = Pointing(config.ra_deg, config.dec_deg, config.rotator_deg)
    ra, dec = field_to_sky(*optics.to_field(x, y), field)
    bright = scene.mags[config.band] < mag + 3.0
    tree = cKDTree(unit_vectors(scene.ra_deg[bright], scene.dec_deg[bright]))
    gap = tree.query(unit_vectors(ra, dec))[0]
    best = int(np.argmax(gap))
    transient = Scene(
        np.array(["T"]),
        ra[best : best + 1],
        dec[best : best + 1],
        {band: np.array([mag]) for band in BANDS_MADE},
        np.zeros((1, 2)),
        np.zeros(1),
        np.array([[1.0, 0.0]]),
        np.zeros(1, dtype=np.int64),
    )
    facts = {
        "ra": float(ra[best]),
        "dec": float(dec[best]),
        "mag": mag,
        "chip": chip,
        "nearest_neighbour_arcsec": float(np.degrees(gap[best]) * 3600),
    }
    return transient, facts


def joined(parts: list[Scene]) -> Scene:
    """Several scenes as one."""
    return Scene(
        np.concatenate([p.kind for p in parts]),
        np.concatenate([p.ra_deg for p in parts]),
        np.concatenate([p.dec_deg for p in parts]),
        {band: np.concatenate([p.mags[band] for p in parts]) for band in BANDS_MADE},
        np.concatenate([p.pm_mas for p in parts]),
        np.concatenate([p.radius_arcsec for p in parts]),
        np.concatenate([p.shape for p in parts]),
        np.concatenate([p.sersic for p in parts]),
    )


def unit_vectors(ra_deg: Array, dec_deg: Array) -> Array:
    """(n, 3) for distances that hold at the poles."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def displaced(ra: Array, dec: Array, east_mas: Array, north_mas: Array) -> tuple[Array, Array]:
    """Positions moved by small angles along a great circle."""
    a, d = np.radians(ra), np.radians(dec)
    e, n = np.radians(east_mas / 3.6e6), np.radians(north_mas / 3.6e6)
    east = np.stack([-np.sin(a), np.cos(a), np.zeros_like(a)])
    north = np.stack([-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)])
    x, y, z = unit_vectors(ra, dec).T + e * east + n * north
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def near_chips(
    scene: Scene, chips: dict[int, Optics], config: SimulateConfig, margin_pix: float
) -> tuple[NDArray[np.bool_], dict[int, tuple[Array, Array]]]:
    """Which sources come within a margin of one of the chips, and their pixels on each of them.

    Pixels are 0-based, of the whole detector, for a telescope exactly at the field's centre.
    """
    field = Pointing(config.ra_deg, config.dec_deg, config.rotator_deg)
    xi, eta = sky_to_field(scene.ra_deg, scene.dec_deg, field)
    pixels = {chip: optics.to_pixels(xi, eta) for chip, optics in chips.items()}
    near = np.zeros(len(scene), dtype=bool)
    moves = config.dither_radius_arcsec + config.pointing_error_arcsec[1]
    reach = config.size / 2 + moves / PIXEL_SCALE_ARCSEC + margin_pix
    for x, y in pixels.values():
        near |= (np.abs(x - config.size / 2) < reach) & (np.abs(y - config.size / 2) < reach)
    return near, pixels


def truth_table(scene: Scene, chips: dict[int, Optics], config: SimulateConfig) -> Table:
    """Every source near the chips: where it is, how bright, and its pixels on each chip."""
    near, pixels = near_chips(scene, chips, config, TRUTH_MARGIN_PIX)
    keep = np.nonzero(near)[0]
    part = scene.take(keep)
    table = Table()
    table["ID"] = keep
    table["TYPE"] = part.kind.astype("S1")
    table["RA"], table["DEC"] = part.ra_deg, part.dec_deg
    for band in ("J", "H", "Y", "Z", "K"):
        table[f"{band}mag"] = part.mags[band]
    table["PMRA"], table["PMDEC"] = part.pm_mas.T
    table["VAR"] = part.kind == "T"
    table["RE"] = part.radius_arcsec
    ratio, angle = part.shape.T
    ellipticity = (1 - ratio) / (1 + ratio)
    table["G1"] = ellipticity * np.cos(2 * np.radians(angle))
    table["G2"] = ellipticity * np.sin(2 * np.radians(angle))
    table["SERSIC"] = part.sersic
    for chip, (x, y) in pixels.items():
        table[f"X_C{chip}"] = x[keep].astype(np.float32)
        table[f"Y_C{chip}"] = y[keep].astype(np.float32)
    for name in ("RA", "DEC"):
        table[name].unit = "deg"
    for name in ("PMRA", "PMDEC"):
        table[name].unit = "mas/yr"
    table["RE"].unit = "arcsec"
    table.meta["EPOCH"] = (round(epoch_of(config), 4), "of RA, DEC")
    return table


@dataclass(frozen=True)
class Survey:
    """How a catalogue sees the sky."""

    name: str
    title: str
    bands: tuple[str, ...]
    bright: float
    faint: float  # J where half of the stars are still in it
    scatter_arcsec: tuple[float, float]  # per axis, of bright and of the faintest stars
    floor_mag: float
    blend_arcsec: float


TWOMASS = Survey(
    "2mass", "2MASS-like (simulated)", ("J", "H", "K"), 4.0, 16.3, (0.08, 0.10), 0.019, 3.0
)
DEEP = Survey(
    "deep",
    "VHS/SkyMapper-like (simulated)",
    ("J", "H", "K", "Y", "Z"),
    SATURATED_DEEP_MAG,
    20.3,
    (0.03, 0.06),
    0.005,
    1.0,
)


def catalogue(scene: Scene, survey: Survey, config: SimulateConfig) -> Table:
    """`scene` as a survey has it: positions of epoch 2000 with errors, the faint ones missing."""
    draw = stream(config.seed, "catalogue", survey.name)
    J = scene.mags["J"]
    limit = min(survey.faint, DENSITIES[config.density].catalogue_faintest)
    chance = 1 / (1 + np.exp((J - limit) / 0.15))
    seen = (draw.uniform(size=len(scene)) < chance) & (survey.bright < J) & (scene.kind != "T")
    index = np.nonzero(seen)[0]
    index = index[np.argsort(J[index], kind="stable")]
    index = index[unblended(scene, index, survey.blend_arcsec)]
    part = scene.take(index)
    n = len(part)
    depth = np.clip((part.mags["J"] - limit + 2.0) / 2.0, 0, 1)
    sigma = survey.scatter_arcsec[0] + depth * (survey.scatter_arcsec[1] - survey.scatter_arcsec[0])
    years = 2000.0 - epoch_of(config)
    offset = stream(config.seed, "catalogue offset", survey.name).normal(0.0, 15.0, 2)
    error = draw.normal(size=(n, 2)) * sigma[:, None] * 1000.0 + offset
    moves = part.pm_mas * years + error
    ra, dec = displaced(part.ra_deg, part.dec_deg, moves[:, 0], moves[:, 1])
    table = Table()
    table["RAJ2000"], table["DEJ2000"] = ra, dec
    for band in survey.bands:
        mag = part.mags[band]
        e_mag = np.hypot(survey.floor_mag, 0.11 * 10 ** (0.4 * (mag - limit) * 0.9))
        table[f"{band}mag"] = np.round(mag + draw.normal(size=n) * e_mag, 3)
        table[f"e_{band}mag"] = np.round(e_mag, 3)
    table["errMaj"] = np.round(sigma, 2)
    table["errMin"] = np.round(sigma * draw.uniform(0.85, 1.0, n), 2)
    table["errPA"] = draw.randint(0, 180, n)
    letters = np.array(["A", "B", "C"])
    table["Qflg"] = [
        "".join(letters[np.searchsorted((0.11, 0.16), row)])
        for row in np.stack([table[f"e_{b}mag"] for b in ("J", "H", "K")], axis=1)
    ]
    table["EPOCH"] = np.full(n, 2000.0)
    table["XflgGAL"] = (part.kind == "G").astype(np.int16)
    for name in ("RAJ2000", "DEJ2000", "errPA"):
        table[name].unit = "deg"
    for name in ("errMaj", "errMin"):
        table[name].unit = "arcsec"
    for band in survey.bands:
        table[f"{band}mag"].unit = table[f"e_{band}mag"].unit = "mag"
    table.meta["comments"] = [survey.title]
    # Surveys are not sorted by brightness.
    return table[draw.permutation(n)]


def unblended(scene: Scene, index: NDArray[np.int64], limit_arcsec: float) -> NDArray[np.bool_]:
    """True for those of `index` (brightest first) without a brighter one within the limit."""
    tree = cKDTree(unit_vectors(scene.ra_deg[index], scene.dec_deg[index]))
    pairs = tree.query_pairs(np.radians(limit_arcsec / 3600.0), output_type="ndarray")
    alone = np.ones(len(index), dtype=bool)
    alone[pairs.max(axis=1)] = False
    return alone


def gaussian_mixture(sersic: int) -> tuple[Array, Array]:
    """Fluxes (sum 1) and widths (in half-light radii) of round Gaussians like a Sersic profile."""
    b = 2.0 * sersic - 1.0 / 3.0
    r = np.geomspace(0.02, 8.0, 300)
    profile = np.exp(-b * (r ** (1.0 / sersic) - 1.0))
    widths = np.geomspace(0.05, 3.2, 7)
    shapes = np.exp(-0.5 * (r[:, None] / widths) ** 2) / (2 * np.pi * widths**2)
    # Each ring counts by the light it holds.
    weight = r
    fluxes, _ = nnls(shapes * weight[:, None], profile * weight)
    used = fluxes > 1e-3 * fluxes.sum()
    return fluxes[used] / fluxes[used].sum(), widths[used]
