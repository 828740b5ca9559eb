"""A stack of a known sky on disk, with what stands beside it, and the catalogue of its stars."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.instrument import ZERO_POINT_VEGA
from photometrus.wcs import pixel_to_sky, sip_cards
from stacks import GAIN, SIGMA, star_stack

SIDE = 900
CENTRE = (344.572, -1.02675)
N_STARS = 260
J_TO_AB = 0.894  # 2MASS, Blanton et al. 2005
TRANSIENT = (450.3, 452.7)
"""0-based pixel, far from any star."""
EMPTY = (300.0, 620.0)
"""Where nothing is."""
GHOST = (700.4, 250.2)
"""In every other frame only."""
DEPTH = 18.3
"""Where the catalogue ends."""
NAME = "coadd.Open-{band}.{serial}-01599329.C{chip}"


@dataclass(frozen=True, eq=False)
class Sky:
    """What was put in: pixels, Vega magnitudes, and the header that says where they are."""

    header: fits.Header
    stars: Table
    transient_mag: float
    paths: dict[str, Path] = field(default_factory=dict)

    @property
    def stack(self) -> Path:
        return self.paths["coadd"]

    def at(self, pixel: tuple[float, float]) -> tuple[float, float]:
        """RA, Dec of a pixel."""
        ra, dec = pixel_to_sky(WCS(self.header), *pixel)
        return float(ra), float(dec)

    def catalog(self, path: Path, *, shift_deg: float = 0.0) -> Path:
        """The stars as 2MASS would have them if it went deeper: errors of 0.02 mag."""
        stars = self.stars[self.stars["mag"] < DEPTH]
        ra, dec = pixel_to_sky(WCS(self.header), stars["x"], stars["y"])
        random = np.random.RandomState(99)
        table = Table({"RAJ2000": ra + shift_deg, "DEJ2000": dec})
        table["Jmag"] = stars["mag"] + random.normal(0, 0.02, len(stars))
        table["e_Jmag"] = np.full(len(stars), 0.02)
        table["Qflg"] = "AAA"
        table.write(path, overwrite=True)
        return path


def header_at(centre: tuple[float, float]) -> fits.Header:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = centre, [(SIDE + 1) / 2, (SIDE + 1) / 2]
    wcs.wcs.cd = np.array([[-1.0, 0.0], [0.0, 1.0]]) * 0.497 / 3600
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return sip_cards(wcs)


def some_stars(random: np.random.RandomState) -> Table:
    """Twice as many with each magnitude and a half; none near the chosen places."""
    x, y = random.uniform(12, SIDE - 12, (2, 3 * N_STARS))
    near = np.min(
        [np.hypot(x - px, y - py) for px, py in (TRANSIENT, EMPTY, GHOST)], axis=0
    )  # fmt: skip
    x, y = x[near > 30][:N_STARS], y[near > 30][:N_STARS]
    mag = 12.8 + 1.5 * np.log2(1 + random.uniform(size=N_STARS) * 15)
    return Table({"x": x, "y": y, "mag": mag})


def write_stack(
    folder: Path,
    *,
    seed: int = 1,
    band: str = "J",
    chip: int = 3,
    serial: str = "01599131",
    mjd: float = 60467.8,
    transient_mag: float = 17.0,
    centre: tuple[float, float] = CENTRE,
    halves: bool = False,
    stars: Table | None = None,
) -> Sky:
    """A stack in ``folder/stack`` with weight map, flags and, if wanted, its two halves."""
    random = np.random.RandomState(seed)
    sky = some_stars(random) if stars is None else stars
    folder = folder / "stack"
    folder.mkdir(parents=True, exist_ok=True)
    header = header_at(centre)
    x, y = (np.append(sky[name], here) for name, here in zip("xy", TRANSIENT, strict=True))
    flux = 10 ** (-0.4 * (np.append(sky["mag"], transient_mag) - ZERO_POINT_VEGA[band]))
    parts = []
    for half in (1, 2):
        # A ghost of S/N 50 in the first.
        ghost = 1500.0 if half == 1 else 0.0
        one = star_stack((SIDE, SIDE), np.append(x, GHOST[0]), np.append(y, GHOST[1]),
                         np.append(flux, ghost), random)  # fmt: skip
        parts.append(one.data)
    name = NAME.format(band=band, serial=serial, chip=chip)
    cards = header.copy()
    cards.update(
        {"BAND": band, "CHIP": chip, "OBJNAME": "GRB240606A", "NCOMBINE": 8, "GAIN": 2 * GAIN,
         "SATURATE": 40000.0, "EXPTIME": 160.0, "MJD-BEG": mjd, "MJD-END": mjd + 0.004,
         "MJD-AVG": mjd + 0.002}
    )  # fmt: skip
    variance = SIGMA**2
    _write(folder, name, (parts[0] + parts[1]) / 2, 2 / variance, cards)
    flags = np.zeros((SIDE, SIDE), np.uint8)
    fits.writeto(folder / f"{name.replace('coadd', 'flags')}.fits", flags, header)
    if halves:
        for k, part in enumerate(parts, start=1):
            own = name.replace(f".C{chip}", f".alt{k}.C{chip}")
            _write(folder, own, part, 1 / variance, cards)
    kinds = ("coadd", "weight", "flags")
    paths = {kind: folder / f"{name.replace('coadd', kind)}.fits" for kind in kinds}
    return Sky(header, sky, transient_mag, paths)


def _write(folder: Path, name: str, data, weight: float, header: fits.Header) -> None:
    fits.writeto(folder / f"{name}.fits", data.astype(np.float32), header)
    weights = np.full(data.shape, weight, np.float32)
    fits.writeto(folder / f"{name.replace('coadd', 'weight')}.fits", weights, header)
