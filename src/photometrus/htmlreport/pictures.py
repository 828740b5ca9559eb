"""Pictures inside the page: previews of stacks, and the figures that are on disk, made smaller."""

import base64
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from astropy.visualization import ZScaleInterval
from astropy.wcs import WCS
from PIL import Image as Pictures

from photometrus.evidence import reduced
from photometrus.frame import Image
from photometrus.wcs import pixel_to_sky, sky_to_pixel, to_plane

PREVIEW_PIXELS = 1200
"""The longer side of a preview, at most."""
FIGURE_PIXELS = 1500
"""The same of a figure: its small letters can still be read."""
QUALITY = 82
"""Of WebP: noise is kept, four chips with all their figures stay below 12 MB."""
GRID = 9
"""Positions along each side where the WCS is asked."""


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Preview:
    """A stack's preview.

    plane : what the page needs to know where it is on the sky: ra, dec (degrees) of a tangent
        point; xi, eta: three numbers each, a + b x + c y in radians, x and y pixels of the preview
        from its upper left corner
    marks : what may be laid over it, as (x, y, words), by kind
    """

    picture: Picture
    plane: dict[str, Any]
    marks: dict[str, list[tuple[float, float, str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sky:
    """Where the pixels of a preview are on the sky.

    side_pix : pixels of the stack along a pixel of the preview; height : of the preview
    """

    wcs: WCS
    side_pix: int
    height: int

    def place(self, ra_deg: Any, dec_deg: Any) -> tuple[Any, Any]:
        """Pixels of the preview, from its upper left corner."""
        return self._down(*sky_to_pixel(self.wcs, ra_deg, dec_deg))

    def plane(self, shape: tuple[int, int]) -> dict[str, Any]:
        """The tangent plane of a stack of this shape; exact for TAN, the nearest for others."""
        ny, nx = shape
        y, x = (v.ravel() for v in np.mgrid[0 : ny - 1 : GRID * 1j, 0 : nx - 1 : GRID * 1j])
        centre = tuple(float(v) for v in pixel_to_sky(self.wcs, (nx - 1) / 2, (ny - 1) / 2))
        planes = to_plane(*pixel_to_sky(self.wcs, x, y), (centre[0], centre[1]))
        terms = np.stack([np.ones(x.size), *self._down(x, y)], axis=1)
        xi, eta = (
            np.linalg.lstsq(terms, np.radians(plane / 3600.0))[0].tolist() for plane in planes
        )
        return {"ra": centre[0] % 360.0, "dec": centre[1], "xi": xi, "eta": eta}

    def _down(self, x: Any, y: Any) -> tuple[Any, Any]:
        """FITS counts rows from below, a picture from above."""
        return (x + 0.5) / self.side_pix, self.height - (y + 0.5) / self.side_pix


def preview(data: Image, wcs: WCS) -> tuple[Preview, Sky]:
    """The preview of a stack, white stars on black by zscale, and where it is.

    data : float32 (ny, nx), exactly 0 or NaN where no frame saw the sky
    """
    small = reduced(data, PREVIEW_PIXELS)
    values = small.values[::-1]
    seen = np.isfinite(values)
    low, high = ZScaleInterval().get_limits(values[seen]) if seen.any() else (0.0, 1.0)
    grey = 255.0 * (np.where(seen, values, low) - low) / max(high - low, 1e-30)
    picture = Pictures.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    sky = Sky(wcs, small.side_pix, values.shape[0])
    return Preview(_inline(picture), sky.plane(data.shape)), sky


def figure(path: Path) -> Picture | None:
    """A figure from disk, made smaller; None when it cannot be read."""
    try:
        with Pictures.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Pictures.DecompressionBombError):
        return None  # all that Pillow says of a file that is no picture, or a huge one
    picture.thumbnail((FIGURE_PIXELS, FIGURE_PIXELS), Pictures.Resampling.LANCZOS)
    return _inline(picture)


def _inline(picture: Pictures.Image) -> Picture:
    content = BytesIO()
    picture.save(content, "WEBP", quality=QUALITY, method=4)
    text = base64.b64encode(content.getvalue()).decode("ascii")
    return Picture(f"data:image/webp;base64,{text}", *picture.size)
