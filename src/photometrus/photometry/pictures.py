"""The pictures of a stack's photometry: what the pages show, gathered; and the finding charts."""

import math
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.calibration import MAG, ZeroPoint
from photometrus.evidence import Map
from photometrus.frame import Image
from photometrus.photometry.answers import pixel
from photometrus.photometry.calibrating import Zero
from photometrus.photometry.faint import Faint
from photometrus.photometry.request import Photometry
from photometrus.photometry.sources import Measures
from photometrus.photometry_evidence import (
    Calibration,
    Depth,
    Line,
    PhotometryEvidence,
    Place,
    gather_psf,
)
from photometrus.plots.finding_chart import draw_finding_chart
from photometrus.plots.photometry.pages import draw_calibration, draw_depth
from photometrus.products import StackProducts
from photometrus.report import magnitude_words
from photometrus.sighting import Sighting
from photometrus.stages.completeness import Completeness

CELLS = 12
"""Of the map of the position term, from its middle to its edge."""


def evidence(
    result: Photometry,
    measured: Measures,
    zero: Zero | None,
    faint: Faint,
    put_in: Completeness | None,
    zero_mag: float,
) -> PhotometryEvidence:
    """What the pages show.

    zero_mag : the zero point in the middle of the stack; NaN: magnitudes are instrumental
    """
    shape = measured.stack.data.shape
    trusted = zero is not None and zero.psf.trusted
    at = zero_mag if trusted else 0.0
    sources = result.sources
    if not trusted:
        flux = np.asarray(sources["flux_psf"], float)
        with np.errstate(invalid="ignore", divide="ignore"):
            sources = sources.copy()
            sources["mag_psf"] = np.where(flux > 0, -2.5 * np.log10(np.abs(flux)), np.nan)
            sources["mag_psf_err"] = MAG * sources["flux_psf_err"] / np.abs(flux)
    sighting = result.sightings[0] if result.sightings else None
    return PhotometryEvidence(
        stack=result.info.name,
        band=result.info.band,
        shape=shape,
        system=result.system if trusted else "",
        sources=sources,
        depth=_depth(faint, put_in, at),
        calibration=_calibration(zero, at) if zero is not None else None,
        refusal=result.refused,
        psf=gather_psf(
            measured.psf, measured.stack.data, result.fwhm_arcsec / measured.psf.fwhm_pix
        ),
        target=_place(sighting, measured.stack.wcs) if sighting else None,
        notes=list(result.notes),
    )


def _depth(faint: Faint, put_in: Completeness | None, at: float) -> Depth:
    def mag(flux: Image | float) -> Image:
        flux = np.asarray(flux, float)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(flux > 0, at - 2.5 * np.log10(flux), np.nan)

    table, half, half_err = None, math.nan, math.nan
    if put_in is not None:
        table = Table(
            {
                "mag": mag(put_in.fluxes),
                "injected": put_in.injected,
                "recovered": put_in.recovered,
            }
        )
        half = float(mag(put_in.half_flux))
        half_err = MAG * put_in.half_flux_err / put_in.half_flux
    return Depth(
        limit_5sigma=float(mag(5 * faint.error_adu)),
        limit_3sigma=float(mag(3 * faint.error_adu)),
        limits=Map(mag(5 * faint.errors), faint.side_pix),
        completeness=table,
        limit50=half,
        limit50_err=half_err,
    )


def _calibration(zero: Zero, at: float) -> Calibration:
    zp: ZeroPoint = zero.psf
    stars = zp.stars.copy()
    offset = zp.offset(zero.system)
    if "mag" in stars.colnames:
        stars["mag"] = np.asarray(stars["mag"], float) + offset
    color = None
    if zp.color_term:
        color = Line(zp.color_term, zp.color_term_err, zp.color_pivot)
    return Calibration(
        survey=zero.survey,
        zero_point=at if zp.trusted else zp.value + offset,
        err_stat=zp.err_stat,
        err_sys=zp.err_sys,
        scatter=zp.scatter,
        n_stars=zp.n_stars,
        stars=stars,
        trend=Line(zp.slope, zp.slope_err, zp.pivot_mag + offset, zp.intercept, zp.intercept_err),
        color_term=color,
        color=zp.color_name,
        position=_position(zp),
    )


def _position(zp: ZeroPoint) -> Map | None:
    """The position term in cells over the image that was calibrated; None without one."""
    if zp.field.degree == 0:
        return None
    side = max(1, int(zp.field.half_pix / CELLS))
    reach = 2 * zp.field.centre[0] + 1, 2 * zp.field.centre[1] + 1
    y, x = np.mgrid[side / 2 : reach[1] : side, side / 2 : reach[0] : side]
    return Map(zp.field.at(x.ravel(), y.ravel()).reshape(x.shape), side)


def _place(sighting: Sighting, wcs: WCS) -> Place:
    x, y = pixel(wcs, sighting.target)
    return Place(sighting.target.name, x, y, sighting.at.limit_5sigma)


def draw_pages(products: StackProducts, shown: PhotometryEvidence) -> list[Path]:
    """The two pages; their paths."""
    draw_calibration(products.calibration_page, shown)
    draw_depth(products.depth_page, shown)
    return [products.calibration_page, products.depth_page]


def draw_charts(
    products: StackProducts, result: Photometry, measured: Measures, zero: Zero
) -> list[Path]:
    """A finding chart for each target that is on the stack; their paths."""
    paths = []
    many = len(result.sightings) > 1
    for k, sighting in enumerate(result.sightings, start=1):
        if sighting.verdict == "not covered":
            continue
        paths.append(products.chart(k if many else 0))
        brief = zero.brief(*pixel(measured.stack.wcs, sighting.target))
        draw_finding_chart(
            paths[-1],
            measured.stack.data,
            measured.stack.wcs,
            sighting,
            sources=result.sources,
            stars=zero.stars,
            title=magnitude_words(sighting, brief),
        )
    return paths
