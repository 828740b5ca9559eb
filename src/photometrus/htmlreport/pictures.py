"""Pictures inside the page: previews of stacks, and the figures that are on disk, made smaller."""

import base64
import math
from dataclasses import asdict, dataclass, field
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

PREVIEW_PIXELS = 1500
"""The longer side of a preview, at most: every third pixel of a full-size stack."""
FIGURE_PIXELS = 1500
"""The same of a figure: its small letters can still be read."""
PREVIEW_FORM = {"quality": 65, "method": 0}
"""Of WebP for previews: noise does not become smaller by trying harder, which takes three times as
long. Four full-size chips with all their figures stay below 6 MB."""
FIGURE_FORM = {"quality": 82, "method": 2}
"""The same for figures: half the time of method 4, and 4 % larger."""
BELOW = 8.0
"""The darkest value that a preview tells apart, in units of its noise below the sky."""
FIRST_GREY = 8
"""Of values; darker is what no frame saw, which compression does not keep at exactly 0."""
GRID = 9
"""Positions along each side where the WCS is asked."""


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, with its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Greys:
    """How the values of a stack are written as greys, and read back by the page.

    value = level + noise * sinh(low + step * (grey - FIRST_GREY)), ADU: even steps about the sky,
    even ratios for stars. black, white : the limits of zscale, ADU
    """

    level: float
    noise: float
    low: float
    step: float
    black: float
    white: float

    def of(self, values: Image) -> Image:
        """The greys of values; NaN as 0."""
        steps = (np.arcsinh((values - self.level) / self.noise) - self.low) / self.step
        greys = np.clip(np.rint(steps) + FIRST_GREY, FIRST_GREY, 255)
        return np.where(np.isfinite(values), greys, 0).astype(np.uint8)


@dataclass(frozen=True)
class Preview:
    """A stack's preview.

    plane : what the page needs to know where it is on the sky: ra, dec (degrees) of a tangent
        point; xi, eta: three numbers each, a + b x + c y in radians, x and y pixels of the preview
        from its upper left corner
    side_pix : pixels of the stack along a pixel of the preview
    marks : what may be laid over it, as (x, y, words), by kind
    """

    picture: Picture
    plane: dict[str, Any]
    greys: Greys
    side_pix: int
    marks: dict[str, list[tuple[float, float, str]]] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        """What the page's script is told."""
        greys = asdict(self.greys) | {"first": FIRST_GREY}
        return {"plane": self.plane, "greys": greys, "side": self.side_pix}


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


Look = tuple[Preview, Sky]


def preview(data: Image, wcs: WCS) -> Look:
    """The preview of a stack, white stars on black, and where it is.

    data : float32 (ny, nx), exactly 0 or NaN where no frame saw the sky
    """
    small = reduced(data, PREVIEW_PIXELS)
    values = small.values[::-1]
    scale = _greys(values[np.isfinite(values)])
    sky = Sky(wcs, small.side_pix, values.shape[0])
    picture = _inline(Pictures.fromarray(scale.of(values)), PREVIEW_FORM)
    return Preview(picture, sky.plane(data.shape), scale, small.side_pix), sky


def _greys(values: Image) -> Greys:
    """The greys that suit these values, all finite."""
    if not values.size:
        return Greys(0.0, 1.0, -1.0, 0.1, 0.0, 1.0)
    black, white = (float(limit) for limit in ZScaleInterval().get_limits(values))
    level = float(np.median(values))
    noise = 1.4826 * float(np.median(np.abs(values - level))) or 1.0
    low = math.asinh(-BELOW)
    high = max(-low, math.asinh((float(values.max()) - level) / noise))
    step = (high - low) / (255 - FIRST_GREY)
    return Greys(level, noise, low, step, black, max(white, black + 1e-6 * noise))


def figure(path: Path) -> Picture | None:
    """A figure from disk, made smaller; None when it cannot be read."""
    try:
        with Pictures.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Pictures.DecompressionBombError):
        return None  # all that Pillow says of a file that is no picture, or a huge one
    picture.thumbnail((FIGURE_PIXELS, FIGURE_PIXELS), Pictures.Resampling.HAMMING)
    return _inline(picture, FIGURE_FORM)


def _inline(picture: Pictures.Image, form: dict[str, int]) -> Picture:
    content = BytesIO()
    picture.save(content, "WEBP", **form)
    text = base64.b64encode(content.getvalue()).decode("ascii")
    return Picture(f"data:image/webp;base64,{text}", *picture.size)
