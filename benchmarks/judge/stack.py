"""The products that are judged: a coadd with its weight map, and single images."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from helpers import Array
from photometrus.errors import MissingInput

PART_OF_A_STACK = re.compile(r"\.(?:inc\d+|alt\d)\.")


@dataclass(frozen=True, eq=False)
class Stack:
    """A coadd with its weights.

    data : float32 (ny, nx), ADU/frame; weight : float32 (ny, nx), 1 / ADU^2, 0 without data
    noise_correlation : noise of a large aperture over sqrt(sum of 1 / weight), by the weight map's
        own keyword NOISECOR
    """

    path: Path
    data: Array
    weight: Array
    header: fits.Header
    noise_correlation: float = 1.0

    @cached_property
    def wcs(self) -> WCS:
        """The WCS of the coadd."""
        return WCS(self.header)

    @cached_property
    def pixel_arcsec(self) -> float:
        """Side of a pixel of the coadd."""
        return float(np.mean(proj_plane_pixel_scales(self.wcs.celestial)) * 3600)

    @cached_property
    def used(self) -> Array:
        """Pixels with data; bool (ny, nx)."""
        return self.weight > 0


def read_image(path: Path) -> tuple[Array, fits.Header]:
    """The first image of a FITS file: float32 (ny, nx) native and contiguous, and its header."""
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            if hdu.data is not None and hdu.is_image and hdu.data.ndim == 2:
                return np.ascontiguousarray(hdu.data, dtype=np.float32), hdu.header.copy()
    raise MissingInput(f"{path}: no two-dimensional image in any HDU")


def read_stack(parent: Path, chip: int) -> Stack:
    """The coadd of a chip with its weight map; MissingInput when one of them is absent."""
    folder = parent / "stack"
    files = sorted(folder.glob(f"coadd.*.C{chip}.fits*"))
    found = [p for p in files if p.suffix != ".part" and not PART_OF_A_STACK.search(p.name)]
    if not found:
        raise MissingInput(f"{folder}: no coadd.*.C{chip}.fits.fz; reduce the chip first")
    path = found[-1]
    stem = path.name.removesuffix(".fz").replace("coadd.", "weight.", 1)
    weights = [folder / stem, folder / f"{stem}.fz"]
    weight_path = next((p for p in weights if p.is_file()), None)
    if weight_path is None:
        raise MissingInput(f"{weights[0]}: the weight map of {path.name} is not there")
    data, header = read_image(path)
    weight, weight_header = read_image(weight_path)
    good = np.isfinite(data) & np.isfinite(weight) & (weight > 0)
    correlation = float(weight_header.get("NOISECOR", 1.0))
    return Stack(path, np.where(good, data, 0), np.where(good, weight, 0), header, correlation)
