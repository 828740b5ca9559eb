"""The products on the way, which users know: placed, flat-fielded, sky-subtracted frames."""

import numpy as np
from astropy.table import Table

from photometrus.frame import Flags, Image
from photometrus.io import fitsfile, headfile, ldac
from photometrus.kernels.resample import fill_bad
from photometrus.products import Products
from photometrus.track import Track
from photometrus.wcs import pointing_wcs, tpv_cards


def write_frame(products: Products, track: Track, rotator_deg: float) -> None:
    """All products of one frame, in the order in which they are made."""
    write_placed(products, track, rotator_deg)
    data, bad = track.pixels.rows(0, track.pixels.shape[0])
    write_flat_fielded(products, track, np.where(bad != 0, np.float32(np.nan), data), rotator_deg)
    data, bad = track.without_sky(0, track.pixels.shape[0])
    write_flags(products, track, bad)
    fill_bad(data, bad, 8)
    write_subtracted(products, track, data)
    write_solution(products, track, rotator_deg)
    write_sources(products, track, track.sources)


def write_placed(products: Products, track: Track, rotator_deg: float) -> None:
    """The ramp with its first WCS, from header and focal plane."""
    frame, raw = track.frame, track.pixels.raw
    axis = (frame.info.ra_deg, frame.info.dec_deg)
    wcs = pointing_wcs(frame.info.ramp.chip, axis, rotator_deg, trimmed=False)
    header = fitsfile.product_header(frame.header, wcs, raw.shape)
    fitsfile.write_image(
        products.placed(frame.info.ramp), raw.rows(0, raw.shape[0]), header, sync=False
    )


def write_flat_fielded(products: Products, track: Track, data: Image, rotator_deg: float) -> None:
    """The trimmed, flat-fielded frame; unusable pixels are NaN. The WCS moves with the trim."""
    frame = track.frame
    axis = (frame.info.ra_deg, frame.info.dec_deg)
    wcs = pointing_wcs(frame.info.ramp.chip, axis, rotator_deg)
    header = fitsfile.product_header(frame.header, wcs, data.shape)
    header["FLATFILE"] = (track.pixels.flat.source[:40], "flat field")
    fitsfile.write_image(products.flat_fielded(frame.info.ramp), data, header, sync=False)


def write_subtracted(products: Products, track: Track, data: Image) -> None:
    """The sky-subtracted frame with its solved WCS; unusable pixels are interpolated."""
    frame = track.frame
    header = fitsfile.product_header(frame.header, frame.wcs, data.shape)
    header["FLATFILE"] = (track.pixels.flat.source[:40], "flat field")
    measured = [
        ("SKYLEVEL", track.background.scale, "[adu] sky that was subtracted"),
        ("SKYNOISE", track.noise, "[adu] scatter of a sky pixel"),
        ("SEEING", frame.quality.seeing_arcsec, "[arcsec] FWHM of the stars"),
        ("ELLIPT", frame.quality.ellipticity, "ellipticity that all stars share"),
        ("TRANSP", frame.quality.transparency, "relative to the median frame"),
        ("ASTRRMS", frame.solution.rms_arcsec, "[arcsec] rms per axis to the catalogue"),
        ("ASTRINT", frame.solution.internal_rms_arcsec, "[arcsec] rms per axis, dithers"),
    ]
    header["ASTRLEV"] = (frame.solution.level, "step of the astrometric ladder")
    header["ASTRNUM"] = (frame.solution.n_matched, "catalogue stars in the solution")
    for key, value, text in measured:
        if np.isfinite(value):
            header[key] = (round(float(value), 5), text)
    fitsfile.write_image(products.sky_subtracted(frame.info.ramp), data, header, sync=False)


def write_solution(products: Products, track: Track, rotator_deg: float) -> None:
    """The frame's WCS for SWarp (``.head``), and the one before refinement in ``old/``."""
    frame = track.frame
    solved = tpv_cards(frame.wcs)
    solved["FLXSCALE"] = (track.flux_factor, "flux scale to the median frame")
    headfile.write_head(products.head(frame.info.ramp), solved)
    pointed = pointing_wcs(
        frame.info.ramp.chip, (frame.info.ra_deg, frame.info.dec_deg), rotator_deg
    )
    headfile.write_head(products.old_head(frame.info.ramp), tpv_cards(pointed))


def write_sources(products: Products, track: Track, sources: Table) -> None:
    """The frame's sources as FITS_LDAC, which SCAMP reads."""
    frame = track.frame
    header = fitsfile.product_header(frame.header, None, track.pixels.shape)
    header.update(tpv_cards(frame.wcs))
    header["NAXIS1"], header["NAXIS2"] = track.pixels.shape[1], track.pixels.shape[0]
    ldac.write_ldac(products.sources(frame.info.ramp), header, sources)


def write_flags(products: Products, track: Track, bad: Flags) -> None:
    """Why which of its pixels are not used."""
    frame = track.frame
    header = fitsfile.product_header(frame.header, frame.wcs, bad.shape)
    fitsfile.write_flags(products.flags(frame.info.ramp), bad, header)
