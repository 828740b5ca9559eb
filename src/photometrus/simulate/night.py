"""A night at the telescope, written as its archive would keep it, with the truth beside it."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from photometrus.instrument import (
    FRAME_TIME_S,
    GAIN_E_PER_ADU,
    PIXEL_SCALE_ARCSEC,
    READ_NOISE_E,
)
from photometrus.io.whole import whole
from photometrus.products import RampId
from photometrus.simulate.config import (
    SKY_MAG_ARCSEC2,
    ZEROPOINT_ADU,
    SimulateConfig,
    check,
)
from photometrus.simulate.detector import Afterglow, Detector, make_detector, read_ramp
from photometrus.simulate.geometry import Optics, optics_of
from photometrus.simulate.kernels import MAX_RADIUS_PIX
from photometrus.simulate.light import (
    AUREOLE_PART,
    draw_satellite,
    draw_sources,
    lamp_nodes,
    seconds_between,
    sky_nodes,
)
from photometrus.simulate.records import header_of, log_path, log_text, ramp_path, write_ramp
from photometrus.simulate.sequence import Exposure, flats, observation, stamp_of
from photometrus.simulate.sky import (
    DEEP,
    TWOMASS,
    Scene,
    catalogue,
    joined,
    make_scene,
    near_chips,
    transient_on,
    truth_table,
)

__all__ = ["SimulateConfig", "simulate_night"]


def simulate_night(
    root: Path, config: SimulateConfig, *, progress: Callable[[str], None] | None = None
) -> Path:
    """Write a night below `root` and give `root` back.

    The archive as the observatory lays it out (night log, ramps, FLATs), the reference catalogues
    `refcat_2mass.fits` and `refcat_deep.fits`, and `truth/`: `truth.fits`, `meta.json` and a map
    of each chip's bad pixels. One frame is held in memory at a time. The same config gives the
    same bytes, and a chip is the same whichever others are made.

    progress : called with a sentence before each part
    Raises UsageError when a value of the config is impossible.
    """
    check(config)
    tell = progress or (lambda _: None)
    chips = sorted(set(config.chips))
    tell(f"sky: {config.density} field at {config.ra_deg:.4f} {config.dec_deg:+.4f}")
    scene = make_scene(config)
    optics = {chip: optics_of(chip, config) for chip in chips}
    transients = [
        transient_on(chip, optics[chip], scene, config)
        for chip in chips
        if config.transient_mag is not None
    ]
    full = joined([scene, *(part for part, _ in transients)])
    science, lamps = observation(config), flats(config)

    truth = root / "truth"
    truth.mkdir(parents=True, exist_ok=True)
    write_table(truth / "truth.fits", truth_table(full, optics, config))
    tables = {survey.name: catalogue(scene, survey, config) for survey in (TWOMASS, DEEP)}
    for name, table in tables.items():
        write_table(root / f"refcat_{name}.fits", table)
    log = log_path(root, config)
    write_text(log, log_text(science, lamps, config))

    notes: dict[str, Any] = {}
    for chip in chips:
        tell(f"C{chip}: detector")
        detector = make_detector(chip, optics[chip], config)
        write_bad_map(truth / f"badpix_C{chip}.fits.fz", detector)
        exposures = expose_chip(root, detector, optics[chip], full, config, tell)
        notes[str(chip)] = chip_notes(detector, optics[chip], config) | {"exposures": exposures}
    facts = [fact for _, fact in transients]
    meta = {
        "args": asdict(config)
        | {
            "night": config.night.isoformat(),
            "gain": GAIN_E_PER_ADU,
            "readnoise": READ_NOISE_E,
        },
        "zp_e": {band: zero_e(band) for band in ZEROPOINT_ADU},
        "zp_adu": ZEROPOINT_ADU,
        "gain": GAIN_E_PER_ADU,
        "sky_mag": SKY_MAG_ARCSEC2,
        "pix": PIXEL_SCALE_ARCSEC,
        "aureole": AUREOLE_PART,
        "mag_system": "Vega",
        "pixels": "0-based, whole detector, telescope at the field's centre, rotator as asked",
        "flat": "response x pixel area: see photometrus.simulate.detector",
        "chips": notes,
        "transient": facts[0] if facts else None,
        "transients": facts,
        "log": log.name,
        "nref": [len(tables["2mass"]), len(tables["deep"])],
    }
    write_text(truth / "meta.json", json.dumps(meta, indent=1) + "\n")
    return root


def zero_e(band: str) -> float:
    """Magnitude of one electron per second."""
    return ZEROPOINT_ADU[band] + 2.5 * float(np.log10(GAIN_E_PER_ADU / FRAME_TIME_S))


def expose_chip(
    root: Path,
    detector: Detector,
    optics: Optics,
    scene: Scene,
    config: SimulateConfig,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Write all ramps of a chip in the order of time; what was true of the science ramps."""
    near, _ = near_chips(scene, {detector.chip: optics}, config, MAX_RADIUS_PIX)
    local = scene.take(np.nonzero(near)[0])
    night = sorted(observation(config) + flats(config), key=lambda exposure: exposure.start)
    afterglow = Afterglow()
    before = night[0]
    notes = []
    for exposure in night:
        ramp = RampId(exposure.serial, detector.chip)
        tell(f"{ramp} {exposure.kind}")
        afterglow.wait(seconds_between(before, exposure))
        before = exposure
        light = np.zeros((config.size, config.size), dtype=np.float32)
        if exposure.kind == "FLAT":
            nodes = lamp_nodes(optics, exposure, config)
        else:
            nodes = sky_nodes(optics, exposure, config)
            stars = draw_sources(light, local, optics, exposure, config)
            satellite = (
                draw_satellite(light, detector.chip, exposure, config)
                if exposure.air.satellite
                else None
            )
            notes.append(
                exposure_notes(exposure, config)
                | {"satellite": satellite, "nstars_in": stars}
                | {"sky_adu": float(np.median(nodes))}
                | {"sky_e": float(np.median(nodes)) * GAIN_E_PER_ADU * config.nframes}
            )
        slopes = read_ramp(light, nodes, detector, afterglow, config, exposure.serial)
        header = header_of(exposure, detector.chip, config)
        path = ramp_path(root, ramp, config.layout)
        write_ramp(path, slopes, header, compress=config.layout == "nfs_fz")
    return notes


def chip_notes(detector: Detector, optics: Optics, config: SimulateConfig) -> dict[str, Any]:
    """The numbers of a chip that do not change during the night."""
    boresight_x, boresight_y = optics.to_pixels(np.zeros(1), np.zeros(1))
    left, area = distortion(optics, config)
    return {
        # Seen from the template: the stars' images are displaced by this.
        "offset": [-optics.shift_pix[0], -optics.shift_pix[1]],
        "distortion_k": config.distortion_pix if config.distortion == "radial" else None,
        "distortion_beyond_linear_px": left,
        "pixel_area_range_arcsec2": area,
        "boresight": [float(boresight_x[0]), float(boresight_y[0])],
        "scale_err": optics.scale_error,
        "bend_px": optics.bend_pix,
        "response_median": float(np.median(detector.response[detector.bad == 0])),
    }


def distortion(optics: Optics, config: SimulateConfig) -> tuple[float, list[float]]:
    """Rms (pixels, both axes) that a straight fit to the window leaves, and its pixels' areas."""
    axis = np.linspace(4, config.size - 5, 33)
    x, y = (a.ravel() for a in np.meshgrid(axis, axis))
    field = np.stack(optics.to_field(x, y), axis=1)
    design = np.stack([np.ones_like(x), x - x.mean(), y - y.mean()], axis=1)
    left = field - design @ np.linalg.lstsq(design, field, rcond=None)[0]
    area = optics.pixel_area(x, y)
    rms = float(np.sqrt(np.mean(np.sum(left**2, axis=1))) * 3600 / PIXEL_SCALE_ARCSEC)
    return rms, [float(area.min()), float(area.max())]


def exposure_notes(exposure: Exposure, config: SimulateConfig) -> dict[str, Any]:
    """The numbers behind one science ramp."""
    air = exposure.air
    return {
        "num": exposure.serial,
        "k": exposure.index - 1,
        "band": config.band,
        "date": stamp_of(exposure.start),
        "objname": exposure.target,
        "objtype": exposure.kind,
        "observer": config.observer,
        "ra_hdr": exposure.header.ra_deg,
        "dec_hdr": exposure.header.dec_deg,
        "ra_true": exposure.true.ra_deg,
        "dec_true": exposure.true.dec_deg,
        "rot_hdr": config.rotator_deg,
        "rot_true": exposure.true.rotator_deg,
        "exptime": config.exposure_s,
        "nframes": config.nframes,
        "dithtyp": config.dither_type,
        "dithrad": config.dither_radius_arcsec,
        "dithph": exposure.phase_deg,
        "dith_rep": 1,
        "nint": exposure.planned,
        "int": exposure.index,
        "tempdet": exposure.detector_k,
        "focus": exposure.focus,
        "airmass": exposure.airmass,
        "fwhm_px": air.fwhm_pix,
        "beta": air.beta,
        "fwhm_tilt": list(air.tilt),
        "e_track": list(air.ellipticity),
        "trail_px": air.trail_pix,
        "trail_ang": air.trail_deg,
        "extinction": air.extinction_mag,
        "sky_mul": air.sky_factor,
        "grad": list(air.glow),
        "bad": air.bad,
        "rotoff": config.rotoff,
        "zp_e": zero_e(config.band) + 2.5 * float(np.log10(config.exposure_s)),
    }


def write_bad_map(path: Path, detector: Detector) -> None:
    """The map of bad pixels: bits 1 dead, 2 hot, 4 never solved."""
    hdu = fits.CompImageHDU(detector.bad, compression_type="RICE_1")
    with whole(path) as part:
        hdu.writeto(part, overwrite=True)


def write_table(path: Path, table: Table) -> None:
    """Write a FITS table, whole or not at all."""
    with whole(path) as part:
        table.write(part, format="fits", overwrite=True)


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
