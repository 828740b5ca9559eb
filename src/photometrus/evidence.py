"""What speaks for a chip's stack, or against it: small tables and maps for its page.

All of it is taken from what the recipe holds when the stack is made; nothing is read from disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.frame import Coadd, Image
from photometrus.kernels.blocks import block_means
from photometrus.kernels.mesh import cell_modes
from photometrus.stages.background import Background
from photometrus.stages.masks import StarMask
from photometrus.track import Track, Verdict

PICTURE_PIXELS = 750
"""The longer side of the picture of the stack, at most."""
WEIGHT_PIXELS = 450
"""The same of the map of its weight."""
BACKGROUND_PIXELS = 64
"""Side of a cell of the residual background."""
MIN_CELL_SHARE = 0.2
"""A cell with fewer pixels without stars tells nothing."""
DEPTH_RADIUS_ARCSEC = 1.5
"""Of the aperture whose depth is told."""


@dataclass(frozen=True, eq=False)
class Map:
    """A map of the stack in blocks of pixels: float32 (gy, gx), NaN where nothing is known."""

    values: Image
    side_pix: int


@dataclass(frozen=True, eq=False)
class ChipEvidence:
    """What the page of a chip shows."""

    target: str
    band: str
    chip: int
    frames: Table
    """Of every frame that was judged, in order of time: name, begin_mjd, used, reason, sky_adu,
    slope_x and slope_y (change of the sky from edge to edge, as a fraction of its level),
    seeing_arcsec, ellipticity, transparency, rms_arcsec, internal_rms_arcsec."""
    lost: list[Verdict]
    """Of the frames that were not judged."""
    notes: list[str]
    numbers: dict[str, float]
    depth_adu: float
    """5 sigma in an aperture on empty sky, from the weight's median, ADU per frame."""
    flagged: dict[str, float]
    """Cause: share of the frames' pixels with this flag."""
    residuals: Table
    """Stars of the used frames less the catalogue's: x, y (pixels), d_east, d_north (arcsec);
    empty without a catalogue."""
    wcs: WCS
    """Of the first used frame."""
    chip_shape: tuple[int, int]
    stack_wcs: WCS
    stack: Map
    weight: Map
    background: Map
    """What is left of the sky where no star is, in units of the noise of a cell's mean."""
    rejected: Map | None
    """Share of the values, by weight, that the combination rejected; None when not recorded."""


def gather(
    result: Coadd,
    tracks: Sequence[Track],
    verdicts: Sequence[Verdict],
    residuals: Table,
    stars: StarMask,
    *,
    numbers: dict[str, float],
    notes: Sequence[str],
) -> ChipEvidence:
    """The evidence of a chip.

    tracks : all that were judged, those of the stack and others, in order of time
    verdicts : on these and on the frames that came less far
    residuals : of the joint solution; `frame` is a track's number
    stars : what the sky was measured without
    """
    known = {verdict.frame: verdict for verdict in verdicts}
    used = np.array([known[track.name].used for track in tracks])
    first = next(track for track in tracks if known[track.name].used)
    judged = {track.name for track in tracks}
    weight = reduced(result.weight, WEIGHT_PIXELS)
    flagged = {
        name.removeprefix("flagged_"): value
        for name, value in numbers.items()
        if name.startswith("flagged_")
    }
    return ChipEvidence(
        target=str(first.frame.header.get("OBJNAME", first.frame.header.get("OBJECT", ""))),
        band=first.frame.info.band,
        chip=first.frame.info.ramp.chip,
        frames=_frames(tracks, known),
        lost=[verdict for verdict in verdicts if verdict.frame not in judged],
        notes=list(notes),
        numbers=numbers,
        depth_adu=_depth(float(np.nanmedian(weight.values)), result.wcs),
        flagged=flagged,
        residuals=residuals[used[np.asarray(residuals["frame"], int)]],
        wcs=first.frame.wcs,
        chip_shape=first.pixels.shape,
        stack_wcs=result.wcs,
        stack=reduced(result.data, PICTURE_PIXELS),
        weight=weight,
        background=_background(result, stars),
        rejected=None if result.rejected is None else Map(result.rejected, result.rejected_side),
    )


def reduced(image: Image, longest: int) -> Map:
    """An image in blocks that make its longer side at most so many pixels."""
    return binned(image, max(1, -(-max(image.shape) // longest)))


def binned(image: Image, side: int) -> Map:
    """The means of an image's blocks; pixels that are 0 or NaN count for nothing."""
    ny, nx = image.shape
    out = np.empty((-(-ny // side), -(-nx // side)), np.float32)
    block_means(image, side, out)
    return Map(out, side)


def _frames(tracks: Sequence[Track], verdicts: dict[str, Verdict]) -> Table:
    rows = []
    for track in tracks:
        verdict = verdicts[track.name]
        slope_x, slope_y = _slopes(track.background)
        rows.append(
            {
                "name": track.name,
                "begin_mjd": track.frame.info.begin_mjd,
                "used": verdict.used,
                "reason": verdict.reason,
                "sky_adu": verdict.sky_adu,
                "slope_x": slope_x,
                "slope_y": slope_y,
                "seeing_arcsec": verdict.seeing_arcsec,
                "ellipticity": verdict.ellipticity,
                "transparency": verdict.transparency,
                "rms_arcsec": verdict.rms_arcsec,
                "internal_rms_arcsec": verdict.internal_rms_arcsec,
            }
        )
    return Table(rows)


def _slopes(background: Background) -> tuple[float, float]:
    """How much the sky changes along x and y, from edge to edge, as a fraction of its level."""
    gy, gx = background.mesh.shape
    y, x = (g.ravel() for g in np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in (gy, gx)),
                                           indexing="ij"))  # fmt: skip
    plane = np.stack([np.ones(x.size), x, y], axis=1)
    _, slope_x, slope_y = np.linalg.lstsq(plane, background.mesh.ravel(), rcond=None)[0]
    return float(slope_x / background.scale), float(slope_y / background.scale)


def _depth(weight: float, wcs: WCS) -> float:
    """5 sigma of an aperture with pixels of this inverse variance, in the image's unit."""
    pixel_area = abs(np.linalg.det(wcs.pixel_scale_matrix)) * 3600**2
    return float(5 * np.sqrt(np.pi * DEPTH_RADIUS_ARCSEC**2 / pixel_area / weight))


def _background(result: Coadd, stars: StarMask) -> Map:
    """The clipped means of cells without stars, in units of what their pixels' weights allow."""
    cell = BACKGROUND_PIXELS
    ny, nx = result.data.shape
    shape = (-(-ny // cell), -(-nx // cell))
    values, scatter = np.empty(shape, np.float32), np.empty(shape, np.float32)
    count = np.empty(shape, np.int32)
    hidden = stars.seen_by(result.wcs, result.data.shape)
    for y0 in range(0, ny, 8 * cell):
        rows = slice(y0, min(ny, y0 + 8 * cell))
        hide = (hidden(rows.start, rows.stop) != 0) | (result.weight[rows] <= 0)
        cell_modes(result.data[rows], hide.view(np.uint8), cell, y0, values, scatter, count)
    weight = binned(result.weight, cell).values
    with np.errstate(invalid="ignore"):  # cells that nobody saw
        values *= np.sqrt(weight * count)
    values[count < MIN_CELL_SHARE * cell**2] = np.nan
    return Map(values, cell)
