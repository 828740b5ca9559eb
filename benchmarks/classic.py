"""The classic chain on calibrated frames: median sky, SExtractor, SCAMP, SWarp, as an expert does.

    python benchmarks/classic.py TREE OUT --chip 3 --catalog refcat.fits --flat mflat.fits

TREE is a product tree of photometrus made with ``-keep all``: its flat-fielded frames (NaN where
they are bad) are the input, and of its frames those that its run.json calls used. OUT becomes a
tree of the same names, so that the judge can read it. ``--sky own`` takes the frames with
photometrus' sky subtracted instead. It uses no stage of photometrus, only its doors to files and
programs. `compare_astromatic` runs it as a process of its own, to weigh it.
"""

import argparse
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.stats import sigma_clip
from astropy.table import Table
from astropy.time import Time

from helpers import Array, robust_sigma
from photometrus.io import catalogs, external, fitsfile, headfile, ldac, rampfile
from photometrus.products import Products, RampId, parse_ramp
from photometrus.reference import at_epoch
from photometrus.wcs import tpv_cards

BLOCK_ROWS = 256
DISTORTION = re.compile(r"(A|B|AP|BP)_|PV\d_")
SCAMP_PASSES: list[dict[str, str | float]] = [
    # The pointing is off by up to 40", the distortion is 17 pixels: a wide search first.
    {"CROSSID_RADIUS": 10.0, "POSITION_MAXERR": 2.0},
    # The optics do not change between dithers: one distortion for all of them, fainter stars too.
    {
        "CROSSID_RADIUS": 1.0,
        "POSITION_MAXERR": 0.1,
        "POSANGLE_MAXERR": 0.1,
        "PIXSCALE_MAXERR": 1.01,
        "STABILITY_TYPE": "INSTRUMENT",
        "ASTR_ACCURACY": 0.1,  # pixels: a bright star must not outweigh all others
        "SN_THRESHOLDS": "5.0,30.0",
    },
]
DEGREE = 3
RADIUS_DEG = 0.6
"""Of the catalogue: the chip, its dithers and the pointing's error."""


def used_ramps(tree: Path, chip: int) -> list[RampId]:
    """The ramps in the stack of a tree."""
    record = json.loads((tree / "run.json").read_text(encoding="utf-8"))
    frames = record["chips"][f"C{chip}"]["frames"]
    return sorted(parse_ramp(f"{frame['frame']}.") for frame in frames if frame["used"])


def median_sky(paths: Sequence[Path]) -> tuple[Array, list[float]]:
    """The clipped median of the frames, each divided by its level, nothing masked; the levels."""
    frames = [fits.getdata(path, memmap=True) for path in paths]
    levels = [float(np.nanmedian(frame[::7, ::5])) for frame in frames]
    sky = np.empty(frames[0].shape, np.float32)
    for y0 in range(0, len(sky), BLOCK_ROWS):
        rows = np.s_[y0 : y0 + BLOCK_ROWS]
        stack = np.stack([f[rows] / np.float32(a) for f, a in zip(frames, levels, strict=True)])
        kept = sigma_clip(np.ma.masked_invalid(stack), sigma=3, maxiters=3, axis=0)
        sky[rows] = np.ma.median(kept, axis=0).filled(1.0)
    return sky, levels


def write_frames(
    tree: Products, out: Products, ramps: Sequence[RampId], flat: Path, own_sky: bool
) -> list[Path]:
    """The sky-subtracted frames in `out`, and the path of each one's weight map beside it."""
    response, _ = fitsfile.read_image(flat)
    border = (response.shape[0] - fits.getval(tree.flat_fielded(ramps[0]), "NAXIS1")) // 2
    response = response[border : len(response) - border, border : len(response) - border]
    marked = fitsfile.read_flags(flat)
    if marked is not None:
        border = (len(marked) - len(response)) // 2
        marked = marked[border : len(marked) - border, border : len(marked) - border]
    sky, levels = (None, []) if own_sky else median_sky([tree.flat_fielded(r) for r in ramps])
    weights = []
    for k, ramp in enumerate(ramps):
        data, header = fitsfile.read_image(tree.flat_fielded(ramp))
        bad = ~np.isfinite(data)
        if marked is not None:
            bad |= marked != 0
        if sky is None:
            data, _ = fitsfile.read_image(tree.sky_subtracted(ramp))
        else:
            data = data - np.float32(levels[k]) * sky
        noise = robust_sigma(data[::5, ::7][~bad[::5, ::7]])
        path = out.sky_subtracted(ramp)
        path.parent.mkdir(parents=True, exist_ok=True)
        fitsfile.write_image(path, np.where(bad, np.float32(0), data), header)
        weights.append(path.with_suffix(".weight.fits"))
        weight = np.where(bad, 0, response / np.float32(noise**2)).astype(np.float32)
        fitsfile.write_image(weights[-1], weight, fits.Header())
    return weights


def reference(path: Path, image: Path, band: str) -> Table:
    """The catalogue around an image at the epoch of its exposure."""
    header = fits.getheader(image)
    middle = header["NAXIS1"] / 2, header["NAXIS2"] / 2
    ra, dec = fitsfile.header_wcs(header).pixel_to_world_values(*middle)
    stars = catalogs.reference(path, (float(ra), float(dec)), RADIUS_DEG, band)
    return at_epoch(stars, Time(rampfile.frame_info(header, image).begin_mjd, format="mjd").jyear)


def solve(images: Sequence[Path], weights: Sequence[Path], stars: Table) -> list[float]:
    """SExtractor and SCAMP; leaves a ``.head`` beside each image. The rms of each, in arcsec."""
    lists = [image.with_suffix(".cat") for image in images]
    for image, weight, listed in zip(images, weights, lists, strict=True):
        external.sextractor(image, listed, weight=weight)
        # Without distortion to begin with: SCAMP keeps what a start has beyond its own degree.
        rewrite(listed, linear_cards(image))
    for options in SCAMP_PASSES:
        solutions = external.scamp(lists, stars, degree=DEGREE, options=options)
        for listed, solution in zip(lists, solutions, strict=True):
            rewrite(listed, solution.header)
    return [float(np.hypot(*solution.rms_arcsec) / np.sqrt(2)) for solution in solutions]


def linear_cards(image: Path) -> fits.Header:
    """The WCS of an image as a plain TAN."""
    header = tpv_cards(fitsfile.header_wcs(fits.getheader(image)))
    for key in [key for key in header if key.startswith("PV")]:
        del header[key]
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    return header


def rewrite(listed: Path, cards: fits.Header) -> None:
    """Another WCS into a FITS_LDAC catalogue."""
    header, sources = ldac.read_ldac(listed)
    for key in [key for key in header if DISTORTION.match(key)]:
        del header[key]
    header.update(cards)
    ldac.write_ldac(listed, header, sources)


def put_solution(image: Path) -> None:
    """SCAMP's solution into the image's own header, as the judge reads it."""
    data, header = fitsfile.read_image(image)
    for key in [key for key in header if DISTORTION.match(key)]:
        del header[key]
    header.update(headfile.read_head(image.with_suffix(".head")))
    fitsfile.write_image(image, data, header)


def stack(tree: Path, out: Path, chip: int, band: str, flat: Path, catalog: Path, sky: str) -> None:
    """The whole chain."""
    given, made = Products(tree, band), Products(out, band)
    ramps = used_ramps(tree, chip)
    weights = write_frames(given, made, ramps, flat, own_sky=sky == "own")
    images = [made.sky_subtracted(ramp) for ramp in ramps]
    stars = reference(catalog, images[0], band)
    print("scamp: rms", [f"{rms:.3f}" for rms in solve(images, weights, stars)])
    coadd = made.coadd(ramps, compressed=False)
    coadd.parent.mkdir(exist_ok=True)
    external.swarp(
        images,
        coadd,
        made.weight(ramps),
        weights=weights,
        options={
            "COMBINE_TYPE": "CLIPPED",
            "SUBTRACT_BACK": "N" if sky == "own" else "Y",
            "PIXELSCALE_TYPE": "MANUAL",
            "PIXEL_SCALE": 0.497,
            "NTHREADS": os.cpu_count() or 1,
        },
    )
    for image in images:
        put_solution(image)
    shutil.copy(given.run_record, made.run_record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--chip", type=int, default=3)
    parser.add_argument("--band", default="J")
    parser.add_argument("--flat", type=Path, required=True)
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--sky", choices=("median", "own"), default="median")
    given = parser.parse_args()
    stack(given.tree, given.out, given.chip, given.band, given.flat, given.catalog, given.sky)


if __name__ == "__main__":
    main()
