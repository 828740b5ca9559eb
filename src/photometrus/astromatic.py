"""The engine ``astromatic``: the same sky-subtracted frames through the real programs.

SExtractor finds the stars, SCAMP solves them, SWarp stacks: a reference to compare with, and a
bridge for those who trust it.
"""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from photometrus import intermediate
from photometrus.config import Config
from photometrus.errors import ServiceError
from photometrus.frame import Coadd
from photometrus.io import external, fitsfile, ldac
from photometrus.products import Products
from photometrus.track import Track
from photometrus.workers import Each

log = logging.getLogger(__name__)


def check_programs() -> None:
    """Raise ServiceError now when one of the three programs is not installed."""
    external.find_program("source-extractor", "sextractor", "sex")
    external.find_program("scamp")
    external.find_program("SWarp", "swarp")


def stack(
    products: Products,
    tracks: Sequence[Track],
    catalog: Table | None,
    config: Config,
    each: Each = map,
) -> tuple[Coadd, dict[str, float]]:
    """SExtractor, SCAMP and SWarp (CLIPPED, weights) on the sky-subtracted frames on disk.

    Leaves their ``.cat`` and ``.head`` in place of ours; the numbers are SCAMP's. Raises
    ServiceError when a program fails or SCAMP's match is no better than chance.
    """
    timeout_s = config.run.timeout_s
    with tempfile.TemporaryDirectory(prefix=".weights-", dir=products.root) as name:
        weights = list(each(lambda track: _write_weight(Path(name), track), tracks))
        images = [products.sky_subtracted(track.frame.info.ramp) for track in tracks]
        catalogs = [products.sources(track.frame.info.ramp) for track in tracks]

        def detect(k: int) -> None:
            external.sextractor(images[k], catalogs[k], weight=weights[k], timeout_s=timeout_s)
            # Rewritten with our WCS as TPV: SCAMP would take the frame's SIP for no distortion.
            _, sources = ldac.read_ldac(catalogs[k])
            intermediate.write_sources(products, tracks[k], sources)

        for _ in each(detect, range(len(tracks))):
            pass
        numbers = {}
        if catalog is not None:
            numbers = solve(catalogs, catalog, timeout_s)
        out = Path(name) / "coadd.fits"
        out_weight = Path(name) / "weight.fits"
        external.swarp(
            images,
            out,
            out_weight,
            weights=weights,
            options={"COMBINE_TYPE": "CLIPPED"},
            timeout_s=timeout_s,
        )
        data, header = fitsfile.read_image(out)
        weight, _ = fitsfile.read_image(out_weight)
    data[weight <= 0] = 0
    stacked = Coadd(data, weight, fitsfile.header_wcs(header), len(tracks), float("nan"))
    return stacked, numbers


def solve(catalogs: Sequence[Path], reference: Table, timeout_s: float) -> dict[str, float]:
    """SCAMP on catalogues: its numbers, on average.

    ServiceError names those whose match is no better than chance.
    """
    solutions = external.scamp(catalogs, reference, timeout_s=timeout_s)
    chance = [
        path.name
        for path, solution in zip(catalogs, solutions, strict=True)
        if not solution.trusted
    ]
    if chance:
        raise ServiceError(
            f"scamp: its match is no better than chance for {', '.join(chance)}; use -engine native"
        )
    rms = [float(np.hypot(*solution.rms_arcsec) / np.sqrt(2)) for solution in solutions]
    for path, solution, one in zip(catalogs, solutions, rms, strict=True):
        log.info("%s: scamp: %d stars, rms %.3f arcsec", path.name, solution.n_matched, one)
    return {
        "n_matched": float(np.mean([solution.n_matched for solution in solutions])),
        "rms_arcsec": float(np.mean(rms)),
        "internal_rms_arcsec": float("nan"),
    }


def _write_weight(folder: Path, track: Track) -> Path:
    """The frame's inverse variance, 0 where it is bad."""
    path = folder / f"{track.name}.weight.fits"
    _, bad = track.pixels.rows(0, track.pixels.shape[0])
    weight = track.pixels.flat.response / np.float32(track.noise**2)
    weight = np.where(bad != 0, np.float32(0), weight)
    fitsfile.write_image(path, weight, fits.Header())
    return path
