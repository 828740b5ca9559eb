"""The judge is judged: known errors go into a synthetic stack, the same numbers come out."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.errors import MissingInput

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import accuracy
import helpers
from judge.causes import causes
from judge.clipping import clipping
from judge.depth import DEPTH_RADIUS_ARCSEC, expected_limit
from judge.empty import glow_arcsec
from judge.frames import frame_verdicts
from judge.scene import build_scene
from judge.shape import ellipticity, fwhm, shapes
from judge.stack import read_image, read_stack
from judge.total import total_flux
from judge.truth import Truth, moffat_within, read_truth

NPIX = 640
SCALE = 0.5  # arcsec per pixel
SIGMA = 2.0  # ADU per pixel, white
ZERO = 23.888
BETA = 3.3
FWHM_PIX = 3.2
FRAME_FWHM_PIX = (3.0, 3.4)
MEAN_MAS = (130.0, -90.0)
SCATTER_MAS = 20.0
FAINT_ERROR_MAG = 0.25  # put into every star fainter than 16
GRADIENT_ADU = 4.0  # across the stack
N_FAKE, N_HOLE = 4, 2
CENTRE = (201.3, -0.52)


def moffat(x, y, fwhm, flux):
    """An image of stars; each is drawn within 40 pixels, which holds 99.9 % of its light."""
    image = np.zeros((NPIX, NPIX))
    core2 = fwhm**2 / 4 / (2 ** (1 / BETA) - 1)
    rows, columns = np.mgrid[0:NPIX, 0:NPIX]
    for x0, y0, f in zip(x, y, flux, strict=True):
        box = np.s_[max(0, int(y0) - 40) : int(y0) + 41, max(0, int(x0) - 40) : int(x0) + 41]
        r2 = (columns[box] - x0) ** 2 + (rows[box] - y0) ** 2
        image[box] += f * (BETA - 1) / np.pi / core2 * (1 + r2 / core2) ** -BETA
    return image


def tan_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = CENTRE
    wcs.wcs.crpix = [NPIX / 2 + 0.5] * 2
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    wcs.wcs.set()
    return wcs


def exposure(k, fwhm, bad):
    return {
        "num": 1599131 + 7 * k,
        "date": "2024-06-06T16:10:00.000",
        "band": "J",
        "nframes": 7,
        "fwhm_px": fwhm,
        "beta": BETA,
        "extinction": 1.5 if bad else 0.0,
        "sky_e": 7000.0,
        "zp_e": 26.754,
        "bad": bad,
    }


@dataclass
class Case:
    parent: Path
    truth: Path
    numbers: dict
    mag: np.ndarray


def place_stars(random):
    """A jittered grid of isolated stars: pixels (0-based) and magnitudes, one of them variable."""
    axis = np.arange(45, NPIX - 40, 43.0)
    x, y = (a.ravel() + random.uniform(-3, 3, axis.size**2) for a in np.meshgrid(axis, axis))
    mag = random.permutation(np.linspace(13.0, 18.6, x.size))
    variable = np.argmin(np.abs(mag - 17.0))
    return x, y, mag, variable


def write_truth(folder, x, y, mag, variable):
    ra, dec = tan_wcs().all_pix2world(x, y, 0)
    table = Table({"RA": ra, "DEC": dec, "Jmag": mag})
    table["TYPE"] = "S"
    table["VAR"] = np.arange(len(mag)) == variable
    table["RE"] = 0.0
    table["X_C3"], table["Y_C3"] = x, y
    frames = [exposure(k, width, bad=False) for k, width in enumerate(FRAME_FWHM_PIX)]
    meta = {
        "args": {"size": NPIX, "gain": 2.0, "readnoise": 14.0, "fullwell": 90000.0},
        "pix": SCALE,
        "aureole": 0.0,
        "chips": {"3": {"exposures": [*frames, exposure(2, 4.0, bad=True)]}},
        "transient": {"ra": ra[variable], "dec": dec[variable], "mag": mag[variable], "chip": 3},
    }
    folder.mkdir()
    table.write(folder / "truth.fits")
    (folder / "meta.json").write_text(json.dumps(meta))


def write_stack(parent, data):
    header = tan_wcs().to_header()
    (parent / "stack").mkdir(parents=True)
    name = "Open-J.01599131-01599145.C3.fits"
    weight = np.full(data.shape, 1 / SIGMA**2, dtype=np.float32)
    weight[:5] = weight[-5:] = weight[:, :5] = weight[:, -5:] = 0
    weight[300:303, 100:103] = 0
    stack = fits.CompImageHDU(data.astype(np.float32), header, quantize_level=64)
    fits.HDUList([fits.PrimaryHDU(), stack]).writeto(parent / "stack" / f"coadd.{name}.fz")
    fits.writeto(parent / "stack" / f"weight.{name}", weight, header)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    random = np.random.RandomState(11)
    folder = tmp_path_factory.mktemp("judge")
    x, y, mag, variable = place_stars(random)
    write_truth(folder / "truth", x, y, mag, variable)
    east, north = (m + random.normal(0, SCATTER_MAS, x.size) for m in MEAN_MAS)
    flux = 10 ** (-0.4 * (mag + FAINT_ERROR_MAG * (mag > 16) - ZERO))
    shift = 1000 * SCALE
    stars = moffat(x - east / shift, y + north / shift, FWHM_PIX, flux)  # east is towards low x
    # Midway between the stars of the grid: nothing real is there.
    fake = 45 + 21.5 + 43 * np.array([2, 4, 6, 8, 10, 3])
    level = 12 * SIGMA * FWHM_PIX  # about 8 sigma in the matched filter
    sign = np.where(np.arange(len(fake)) < N_FAKE, level, -level) * 1.5
    stars += moffat(fake, np.roll(fake, 1), FWHM_PIX, sign)
    noise = random.normal(0, SIGMA, stars.shape)
    tilt = np.linspace(-0.5, 0.5, NPIX)[None, :] * GRADIENT_ADU
    parent = folder / "J"
    write_stack(parent, stars + noise + tilt)
    (parent / "C3_sub").mkdir()
    for k, width in enumerate(FRAME_FWHM_PIX):
        image = moffat(x, y, width, flux) + random.normal(0, SIGMA, stars.shape)
        name = f"{1599131 + 7 * k:08d}C3.sky.flat.fits"
        fits.writeto(parent / "C3_sub" / name, image.astype(np.float32), tan_wcs().to_header())
    record = {
        "frames": [
            {"name": "01599131C3", "verdict": "used"},
            {"name": "01599138C3", "verdict": "used"},
            {"name": "01599145C3", "verdict": "dropped: transparency 0.25"},
        ]
    }
    (parent / "run.json").write_text(json.dumps(record))
    numbers = accuracy.measure(parent, folder / "truth", 3, plot=folder / "residuals.png")
    return Case(parent, folder / "truth", numbers, mag)


def test_astrometric_offset_and_scatter_come_back(case):
    astrometry = case.numbers["astrometry"]
    n = astrometry["n_stars"]
    assert n > 60
    # The mean of n stars errs by scatter / sqrt(n), the scatter by scatter / sqrt(2 n); four of
    # them. Photon noise is below 20 mas for the faintest and 8 mas in the mean: 8 % in quadrature.
    assert astrometry["mean_ra_mas"] == pytest.approx(MEAN_MAS[0], abs=4 * SCATTER_MAS / n**0.5)
    assert astrometry["mean_dec_mas"] == pytest.approx(MEAN_MAS[1], abs=4 * SCATTER_MAS / n**0.5)
    margin = 4 / (2 * n) ** 0.5 + 0.08
    assert astrometry["rms_ra_mas"] == pytest.approx(SCATTER_MAS, rel=margin)
    assert astrometry["rms_dec_mas"] == pytest.approx(SCATTER_MAS, rel=margin)
    assert astrometry["n_clipped"] == 0
    assert astrometry["corners"]["n_stars"] >= 1


def test_zero_point_and_faint_error_come_back(case):
    photometry = case.numbers["photometry"]
    lost = -2.5 * np.log10(moffat_within(1.5 * FWHM_PIX, FWHM_PIX, BETA))
    # The ring at 3 to 5.5 FWHM holds wings of 1e-4 of the star per FWHM^2, so that 7 FWHM^2 of
    # aperture lose 0.1 %; the sampled profile and compression stay below that: 5 mmag.
    assert photometry["zero_point"] == pytest.approx(ZERO - lost, abs=0.005)
    assert photometry["mid_bias"] == pytest.approx(FAINT_ERROR_MAG, abs=4 * photometry["mid_error"])
    assert photometry["mid_error"] < 0.02
    bright = [b["bias"] for b in photometry["bins"] if b["mag"] < 15.5]
    assert np.max(np.abs(bright)) < 0.01


def test_sharpness_comes_back(case):
    fwhm = case.numbers["fwhm"]
    # One star of S/N 100 gives its width to about 1 %; the median of tens is five times better.
    assert fwhm["stack_arcsec"] == pytest.approx(FWHM_PIX * SCALE, rel=0.01)
    assert list(fwhm["frames"].values()) == pytest.approx(
        [f * SCALE for f in FRAME_FWHM_PIX], rel=0.01
    )
    assert fwhm["ratio"] == pytest.approx(FWHM_PIX / np.mean(FRAME_FWHM_PIX), rel=0.01)
    assert fwhm["truth_mean_arcsec"] == pytest.approx(np.mean(FRAME_FWHM_PIX) * SCALE)


def test_depth_comes_back(case):
    depth = case.numbers["depth"]
    radius = DEPTH_RADIUS_ARCSEC / SCALE
    sigma = SIGMA * np.pi**0.5 * radius
    # Some 3000 independent apertures: the MAD errs by 1.17 / sqrt(2 x 3000) = 1.5 %; four.
    assert depth["sigma_adu"] == pytest.approx(sigma, rel=0.06)
    assert depth["sigma_over_weight_map"] == pytest.approx(1, rel=0.06)
    assert depth["pixel_sigma_over_weight_map"] == pytest.approx(1, rel=0.02)
    # White noise is the same where stars are; n stars give it to 1.17 / sqrt(2 n); four of them.
    # Those made too faint by 0.25 mag are some 2 sigma faint, all of them alike within the range.
    assert depth["n_stars"] < 30 or depth["sigma_at_stars_over_empty"] == pytest.approx(
        1, abs=0.2 + 4 * 1.17 / (2 * depth["n_stars"]) ** 0.5
    )
    caught = moffat_within(radius, FWHM_PIX, BETA)
    limit = ZERO - 2.5 * np.log10(5 * sigma / caught)
    assert depth["limit_mag"] == pytest.approx(limit, abs=0.07)


def test_expected_depth_is_the_photons(case):
    truth = read_truth(case.truth, 3)
    frames = [truth.name(e) for e in truth.exposures[:1]]
    radius = DEPTH_RADIUS_ARCSEC / SCALE
    variance = np.pi * radius**2 * (7000 + 14**2 * 12 * 7 / 48)
    caught = moffat_within(radius, FRAME_FWHM_PIX[0], BETA)
    one = 26.754 + 2.5 * np.log10(caught / (5 * variance**0.5))
    assert expected_limit(truth, frames) == pytest.approx(one, abs=1e-6)
    # The same frame twice is deeper by 2.5 log10 sqrt(2).
    assert expected_limit(truth, []) != expected_limit(truth, [])  # NaN
    twice = Truth(truth.table, {**truth.meta, "chips": {"3": {}}}, 3)
    twice.meta["chips"]["3"]["exposures"] = [truth.exposures[0]] * 2
    assert expected_limit(twice, frames) == pytest.approx(one + 1.25 * np.log10(2))


def test_background_gradient_comes_back(case):
    background = case.numbers["background"]
    # A plane of full range g has rms g / sqrt(12); bins that the stars cover are missing: 10 %.
    assert background["rms_adu"] == pytest.approx(GRADIENT_ADU / 12**0.5, rel=0.1)
    assert background["white_noise_adu"] < 0.1
    assert background["halo"]["n_stars"] == 0  # no star brighter than 13


def test_what_is_not_there_is_counted(case):
    spurious = case.numbers["spurious"]
    assert spurious["n_detections"] == N_FAKE
    assert spurious["n_holes"] == N_HOLE
    # Searched is what stars leave dark: each hides a circle of its glow, the edge 20 + 5 pixels.
    area = ((NPIX - 50) * SCALE / 60) ** 2
    hidden = np.pi / 3600 * np.sum(glow_arcsec(case.mag) ** 2)
    # Circles that the edge cuts or that overlap hide less: at most a tenth of the area.
    assert spurious["area_arcmin2"] == pytest.approx(area - hidden, rel=0.1)
    assert spurious["per_10_arcmin2"] == pytest.approx(10 * N_FAKE / spurious["area_arcmin2"])
    # The frames hold the stars only, so that no frame can have made them.
    assert spurious["causes_of_detections"] == {"all frames": N_FAKE}


def test_causes_are_told_apart(case, tmp_path):
    """A frame with a trail, a star's ghost on the same pixel of a later frame, a bad pixel."""
    truth = read_truth(case.truth, 3)
    scene = build_scene(read_stack(case.parent, 3), truth)
    names = [truth.name(e) for e in truth.exposures[:2]]
    trail, ghost, defect = (45 + 21.5 + 43 * k for k in (1, 5, 7))
    at = np.array([trail, ghost, defect])
    (tmp_path / "C3_sub").mkdir()
    for k, name in enumerate(names):
        image, header = read_image(case.parent / "C3_sub" / f"{name}.sky.flat.fits")
        if k == 1:
            image = image + moffat(at, at, FWHM_PIX, np.full(3, 60 * SIGMA * FWHM_PIX)) * 1.0
        fits.writeto(tmp_path / "C3_sub" / f"{name}.sky.flat.fits", image.astype("f4"), header)
    bad = np.zeros((NPIX + 8, NPIX + 8), np.uint8)
    bad[round(defect) + 4, round(defect) + 4] = 1
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(bad)]).writeto(
        tmp_path / "badpix_C3.fits.fz"
    )
    # A saturated star of the first frame where the ghost is in the second (same WCS: same pixel).
    table = truth.table.copy()
    bright = len(table)
    table.add_row(table[0])
    ra, dec = tan_wcs().all_pix2world(ghost, ghost, 0)
    table["RA"][bright], table["DEC"][bright] = ra, dec
    table["Jmag"][bright] = truth.saturation_mag - 1
    ghosted = replace(scene, truth=Truth(table, truth.meta, 3), x=np.append(scene.x, -500.0),
                      y=np.append(scene.y, -500.0))  # fmt: skip
    found = causes(ghosted, tmp_path, tmp_path, names, at, at)
    assert found == ["one frame", "persistence", "bad pixel"]
    truth.exposures[1]["satellite"] = {"x0": 0.5}
    assert causes(ghosted, tmp_path, tmp_path, names, at[:1], at[:1]) == ["satellite"]
    truth.exposures[1].pop("satellite")


def test_whole_light_and_its_loss(case):
    stack = read_stack(case.parent, 3)
    tilt = np.linspace(-0.5, 0.5, NPIX)[None, :] * GRADIENT_ADU
    flat = replace(stack, data=(stack.data - tilt).astype(np.float32))
    scene = replace(build_scene(flat, read_truth(case.truth, 3)), fwhm_pix=FWHM_PIX)
    frames = [scene.truth.name(e) for e in scene.truth.exposures[:2]]
    found = total_flux(scene, 0.0, frames)["stars"]
    assert found["n"] >= 5
    # The profile is drawn within 40 pixels and centred on its pixel's middle: 0.5 %.
    assert abs(found["bias"]) < 0.005 + 3 * found["error"]
    # A sky that is 0.2 ADU too high takes 250 ADU of 1256 pixels: 2 % of a star of magnitude 13.6.
    dark = replace(scene, stack=replace(flat, data=flat.data - np.float32(0.2)))
    assert total_flux(dark, 0.0, frames)["stars"]["bias"] > found["bias"] + 0.01


def test_ellipticity_comes_back():
    wcs = tan_wcs()
    random = np.random.RandomState(17)
    x, y = (
        a.ravel() + random.uniform(-0.5, 0.5, 36)
        for a in np.meshgrid(*[np.arange(60, 600, 100)] * 2)
    )
    e1, e2, core2 = 0.10, -0.06, FWHM_PIX**2 / 4 / (2 ** (1 / BETA) - 1)
    rows, columns = np.mgrid[0:NPIX, 0:NPIX]
    image = np.zeros((NPIX, NPIX))
    for x0, y0 in zip(x, y, strict=True):
        dx, dy = columns - x0, rows - y0
        r2 = ((1 - e1) * dx**2 - 2 * e2 * dx * dy + (1 + e1) * dy**2) / np.sqrt(1 - e1**2 - e2**2)
        image += 2000 * (1 + r2 / core2) ** -BETA
    image += random.normal(0, SIGMA, image.shape)
    ra, dec = wcs.all_pix2world(x, y, 0)
    found = shapes(image.astype(np.float32), wcs, ra, dec, FWHM_PIX * SCALE)
    # Signal to noise 500: the shape of a star is good to 0.3 %, the median of 36 to 0.1 %.
    assert np.median(fwhm(found)) == pytest.approx(FWHM_PIX * SCALE, rel=0.005)
    # East is towards low x, so that the diagonal component changes its sign.
    assert np.median(ellipticity(found), axis=0) == pytest.approx([e1, -e2], abs=0.005)


def test_clipping_is_measured_against_the_unclipped_stack(case, tmp_path):
    stack = read_stack(case.parent, 3)
    write_stack(tmp_path, stack.data / 0.995)
    scene = build_scene(stack, read_truth(case.truth, 3))
    # The same pixels, 0.5 % brighter, but for the compression of one tile: 1 / 64 of the noise.
    assert clipping(scene, tmp_path)["bright_change"] == pytest.approx(-0.005, abs=0.0005)


def test_transient_comes_back(case):
    transient = case.numbers["transient"]
    assert transient["on_chip"]
    assert not transient["missed"]
    # Its own scatter of 20 mas about the mean offset; five of them, photon noise included.
    assert transient["offset_ra_mas"] == pytest.approx(MEAN_MAS[0], abs=5 * SCATTER_MAS)
    assert transient["offset_dec_mas"] == pytest.approx(MEAN_MAS[1], abs=5 * SCATTER_MAS)
    # sigma of a pixel 2, 72 pixels in the aperture: 17 ADU of 450; four of them.
    assert transient["mag_error"] == pytest.approx(FAINT_ERROR_MAG, abs=0.15)


def test_frames_and_plot(case):
    frames = case.numbers["frames"]
    assert frames["n_used"] == 2
    assert frames["bad_recognised"] is True
    assert frames["good_lost"] == 0
    assert (case.truth.parent / "residuals.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_are_json_and_the_command_agrees(case, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    code = accuracy.main([str(case.parent), str(case.truth), "--json", str(out)])
    assert json.loads(out.read_text()) == case.numbers
    assert code == 3  # the faint error is beyond the limit of 0.04
    assert "photometry.mid_bias" in capsys.readouterr().out


def test_reference_offset_is_told_from_the_stack_offset(case, tmp_path):
    table = Table.read(case.truth / "truth.fits")
    table["RAJ2000"] = table["RA"] + 0.050 / 3600 / np.cos(np.radians(CENTRE[1]))
    table["DEJ2000"] = table["DEC"] + 0.070 / 3600
    table["RAJ2000", "DEJ2000"].write(tmp_path / "refcat.fits")
    numbers = accuracy.measure(case.parent, case.truth, 3, tmp_path / "refcat.fits")["reference"]
    error = numbers["beyond_catalog_ra_error_mas"]
    assert numbers["catalog_mean_ra_mas"] == pytest.approx(50, abs=0.1)
    assert numbers["catalog_mean_dec_mas"] == pytest.approx(70, abs=0.1)
    assert numbers["beyond_catalog_ra_mas"] == pytest.approx(MEAN_MAS[0] - 50, abs=4 * error)
    assert numbers["beyond_catalog_dec_mas"] == pytest.approx(MEAN_MAS[1] - 70, abs=4 * error)


@pytest.mark.parametrize(
    ("record", "dropped", "weight"),
    [
        ({"frames": [{"ramp": "01599145C3", "status": "rejected"}]}, True, None),
        ({"chips": {"3": {"01599145C3": {"used": False, "weight": 0.1}}}}, True, 0.1),
        ({"C3": {"frames": {"01599145C3.ramp.fits": "lost: no stars"}}}, True, None),
        ({"frames": [{"name": "01599145C3", "verdict": "used", "weight": 0.06}]}, False, 0.06),
        ({"frames": [{"name": "01599145C3", "used": True, "verdict": "a bad flat"}]}, False, None),
    ],
)
def test_verdicts_are_read_whatever_they_are_called(tmp_path, record, dropped, weight):
    (tmp_path / "run.json").write_text(json.dumps(record))
    verdict = frame_verdicts(tmp_path, 3)["01599145C3"]
    assert verdict["dropped"] is dropped
    assert verdict["weight"] == weight
    assert frame_verdicts(tmp_path, 2) == {}


def test_area_slope_is_one_for_surface_brightness():
    random = np.random.RandomState(3)
    x, y = random.uniform(-1, 1, (2, 2000)) * 1000
    sky = 1 - 4e-8 * (x**2 + y**2)  # a strong radial cubic: 8 % of scale at the corner
    ra, dec = helpers.from_plane(x * sky, y * sky, CENTRE)
    table = Table({"RA": ra, "DEC": dec, "X_C3": x + 999.5, "Y_C3": y + 999.5})
    truth = Truth(table, {"args": {"size": 2000}}, 3)
    density = truth.pixel_density
    # 1 / (radial 1 - 3 k r^2) / (tangential 1 - k r^2); the cubic misses (k r^2)^2 = 0.001.
    r2 = x**2 + y**2
    expected = -2.5 * np.log10((1 - 12e-8 * r2) * (1 - 4e-8 * r2))
    on = np.hypot(x, y) < 900
    assert np.std((density - expected)[on]) < 0.005
    assert np.ptp(density[on]) > 0.1


def test_check_names_what_is_beyond_its_limit():
    numbers = {"a": {"b": 51.0, "ok": True}, "c": None, "name": "text"}
    limits = {"a.b": (None, 50.0), "a.ok": (1, None), "c": (0, 1), "d": (0, 1), "name": (0, 1)}
    assert accuracy.check(numbers, limits) == [
        "a.b = 51, at most 50 allowed",
        "c was not measured",
        "d was not measured",
        "name was not measured",
    ]
    assert accuracy.check({"a": -1.0}, {"a": (0.0, None)}) == ["a = -1, at least 0 required"]


def test_another_field_or_an_absent_product_is_said(case, tmp_path):
    with pytest.raises(MissingInput, match=r"no coadd\.\*\.C3"):
        accuracy.measure(tmp_path, case.truth, 3)
    with pytest.raises(MissingInput, match="no chip 1; it has 3"):
        accuracy.measure(case.parent, case.truth, 1)
    table = Table.read(case.truth / "truth.fits")
    random = np.random.RandomState(7)
    for axis, middle in zip(("RA", "DEC"), CENTRE, strict=True):
        table[axis] = middle + random.uniform(-0.045, 0.045, len(table))
    table.write(tmp_path / "truth.fits")
    (tmp_path / "meta.json").write_text((case.truth / "meta.json").read_text())
    with pytest.raises(MissingInput, match="agree on a shift"):
        accuracy.measure(case.parent, tmp_path, 3)


def test_planes_and_clipping():
    random = np.random.RandomState(5)
    ra, dec = 359.9 + random.uniform(0, 0.2, 50), random.uniform(-33, -32.8, 50)
    there = helpers.to_plane(ra % 360, dec, (0.0, -32.9))
    back = helpers.from_plane(*there, (0.0, -32.9))
    assert np.allclose((back[0] - ra + 180) % 360, 180, atol=1e-11)
    assert np.allclose(back[1], dec, atol=1e-11)
    values = np.append(random.normal(0, 1, 1000), [30.0, np.nan])
    kept = helpers.within(values, 5.0)
    assert not kept[-2:].any()
    assert kept[:-2].sum() >= 999  # one in 2e6 lies beyond 5 sigma


def test_time_best_and_machine():
    assert helpers.time_best(lambda: None, repeat=2) < 0.1
    assert "numpy" in helpers.machine()
