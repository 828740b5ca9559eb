"""Maps of a stack: what is left of the sky, the weight, what was rejected."""

from typing import Any

import numpy as np
from astropy.wcs import WCS
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.image import AxesImage

from photometrus.evidence import BACKGROUND_PIXELS, ChipEvidence, Map
from photometrus.plots.style import NOTHING, head, say_nothing_known

LEAST_REJECTED = 2.0
"""Per cent at the dark end of the map: noise alone, a few in ten thousand, stays pale."""


def draw_background(axes: Axes, evidence: ChipEvidence) -> None:
    """The residual background between the stars."""
    values = evidence.background.values
    known = values[np.isfinite(values)]
    if not known.size:
        say_nothing_known(axes, "Residual background", "stars everywhere")
        return
    rms = float(np.sqrt(np.mean(known**2)))
    limit = max(3.0, float(np.ceil(np.percentile(np.abs(known), 99))))
    image = _draw(axes, evidence.background, evidence.stack_wcs, "PuOr_r", Normalize(-limit, limit))
    color_bar(axes, image, extend="both")
    words = f"{BACKGROUND_PIXELS}-pixel means / their noise; rms {rms:.2f}"
    head(axes, "Residual background", words)


def draw_weight(axes: Axes, evidence: ChipEvidence) -> None:
    """The inverse variance."""
    values = evidence.weight.values
    image = _draw(axes, evidence.weight, evidence.stack_wcs, "cividis",
                  Normalize(0, float(np.nanmax(values))))  # fmt: skip
    color_bar(axes, image)
    head(axes, "Weight", f"of a pixel, 1/ADU²; median {np.nanmedian(values):.3g}")


def draw_rejected(axes: Axes, evidence: ChipEvidence) -> None:
    """Where values were rejected."""
    title = "Rejected values"
    if evidence.rejected is None:
        say_nothing_known(axes, title, "not counted by this engine")
        return
    percent = Map(100 * evidence.rejected.values, evidence.rejected.side_pix)
    known = percent.values[np.isfinite(percent.values)]
    highest = max(LEAST_REJECTED, float(np.percentile(known, 99.9)))
    image = _draw(axes, percent, evidence.stack_wcs, "BuPu", PowerNorm(0.5, 0, highest))
    color_bar(axes, image, extend="max")
    head(axes, title, f"% in blocks of {percent.side_pix} pixels; mean {known.mean():.3f}")


def color_bar(axes: Axes, image: ScalarMappable, **more: Any) -> None:
    """A narrow bar at the right, as high as the axes."""
    bar = axes.inset_axes((1.03, 0, 0.035, 1))
    figure = axes.get_figure()
    assert figure is not None
    colors = figure.colorbar(image, cax=bar, **more)
    colors.outline.set_linewidth(0.4)


def _draw(axes: Axes, mapped: Map, wcs: WCS, cmap: str, norm: Normalize) -> AxesImage:
    """A map with the distance from its centre, arcmin, east to the left."""
    scale = 60 * float(np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))) * mapped.side_pix
    ny, nx = mapped.values.shape
    extent = (nx * scale / 2, -nx * scale / 2, -ny * scale / 2, ny * scale / 2)
    axes.set_facecolor(NOTHING)
    image = axes.imshow(mapped.values, cmap=cmap, norm=norm, extent=extent)
    axes.set_anchor("NW")
    axes.set_xlabel("east, north (arcmin)")
    axes.locator_params(nbins=5)
    return image
