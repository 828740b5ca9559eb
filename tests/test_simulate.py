"""The simulator: its geometry against published numbers, its physics against closed forms."""

import ast
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.errors import UsageError
from photometrus.instrument import CHIP_CRPIX, CHIPS, UNSOLVED_ADU
from photometrus.products import RampId
from photometrus.simulate import records, sequence, sky
from photometrus.simulate.config import check, stream
from photometrus.simulate.detector import (
    DEAD,
    HOT,
    PERSISTENCE_ADU,
    PERSISTENCE_S,
    UNSOLVED,
    Afterglow,
    grow_unsolved,
    make_detector,
)
from photometrus.simulate.geometry import (
    Pointing,
    field_to_sky,
    optics_of,
    sky_to_field,
    template_optics,
)
from photometrus.simulate.kernels import add_profiles, expose
from photometrus.simulate.light import lamp_nodes, sky_nodes
from photometrus.simulate.night import SimulateConfig, simulate_night

SMALL = SimulateConfig(size=512, chips=(3,), ramps=5, seed=11)


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    return simulate_night(tmp_path_factory.mktemp("night"), SMALL)


@pytest.fixture(scope="module")
def meta(night) -> dict:
    return json.loads((night / "truth/meta.json").read_text())


def ramp(root: Path, serial: int, chip: int = 3, layout: str = "nfs") -> Path:
    return records.ramp_path(root, RampId(serial, chip), layout)


# ---- geometry -------------------------------------------------------------------------------

# Arcminutes East and North of the axis at ROTOFF 48: centre (from the template), then the
# trimmed corners (0,0), (0,4088), (4088,0), (4088,4088) (from the older offset table).
PUBLISHED = {
    1: [(-18.80, 18.99), (-1.56, 35.75), (-2.03, 1.83), (-35.34, 36.05), (-35.96, 2.28)],
    2: [(19.08, 18.59), (36.19, 35.11), (35.74, 1.33), (2.42, 35.89), (1.82, 1.96)],
    3: [(-19.12, -18.67), (-36.02, -35.25), (-35.90, -1.48), (-2.25, -35.71), (-1.96, -1.78)],
    4: [(18.81, -19.33), (1.72, -36.10), (1.99, -2.17), (35.48, -36.18), (35.91, -2.42)],
}
CORNERS_X = np.array([2048.0, 4.0, 4.0, 4092.0, 4092.0])
CORNERS_Y = np.array([2048.0, 4.0, 4092.0, 4.0, 4092.0])


@pytest.mark.parametrize("chip", CHIPS)
def test_chips_lie_where_the_published_tables_say(chip):
    field = template_optics(chip).to_field(CORNERS_X, CORNERS_Y)
    ra, dec = field_to_sky(*field, Pointing(10.0, -30.0, 48.0))
    east, north = sky_to_field(ra, dec, Pointing(10.0, -30.0, 0.0))
    off = np.hypot(*(np.stack([east, north]) * 60 - np.array(PUBLISHED[chip]).T))
    assert off[0] < 0.015  # the table is rounded to 0.01'
    assert off[1:].max() < 0.12  # the two published tables agree to 0.1' at the corners


@pytest.mark.parametrize("chip", CHIPS)
def test_pixels_agree_with_a_fits_reader_of_the_template(chip):
    row = CHIPS[chip]
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header["CRPIX1"] = header["CRPIX2"] = CHIP_CRPIX + 4  # of the whole detector
    header["CRVAL1"], header["CRVAL2"] = row.crval_deg
    for i in range(2):
        for j in range(2):
            header[f"CD{i + 1}_{j + 1}"] = row.cd[i][j]
    header["A_ORDER"] = header["B_ORDER"] = 4
    for i in range(5):
        header[f"A_{i}_{4 - i}"], header[f"B_{i}_{4 - i}"] = row.sip_a[i], row.sip_b[i]
    x, y = stream(1, "here").uniform(0, 4096, (2, 200))
    ra, dec = field_to_sky(*template_optics(chip).to_field(x, y), Pointing(0.0, 0.0, 0.0))
    there_ra, there_dec = WCS(header).all_pix2world(x, y, 0)
    # Both are double precision: 1e-10 degrees is 0.4 microarcseconds.
    assert np.abs((ra - there_ra + 180) % 360 - 180).max() < 1e-10
    assert np.abs(dec - there_dec).max() < 1e-10


@pytest.mark.parametrize("kind", ["radial", "template"])
@pytest.mark.parametrize(("ra", "dec"), [(201.3, -0.52), (0.001, 89.0), (359.999, -89.0)])
def test_pixels_go_to_the_sky_and_back(kind, ra, dec):
    optics = optics_of(2, replace(SMALL, distortion=kind))
    pointing = Pointing(ra, dec, 137.0)
    x, y = stream(2, "here").uniform(-100, 4196, (2, 300))
    there = field_to_sky(*optics.to_field(x, y), pointing)
    assert ((there[0] >= 0) & (there[0] < 360)).all()
    back = optics.to_pixels(*sky_to_field(*there, pointing))
    assert np.abs(back[0] - x).max() < 1e-6
    assert np.abs(back[1] - y).max() < 1e-6


def test_angles_on_the_sky_do_not_depend_on_the_pointing():
    field = template_optics(4).to_field(CORNERS_X, CORNERS_Y)
    seen = []
    for pointing in (Pointing(0.0, 0.0, 0.0), Pointing(359.9, 89.0, 77.0)):
        vectors = sky.unit_vectors(*field_to_sky(*field, pointing))
        seen.append(np.linalg.norm(vectors[:, None] - vectors[None], axis=-1))
    assert np.abs(seen[0] - seen[1]).max() < 1e-13


def test_radial_distortion_is_what_was_asked_at_the_outer_corner():
    asked = replace(SMALL, chip_offset_arcsec=0.0, distortion_pix=17.0)
    corner = np.array([4.0]), np.array([4.0])  # of C3, the farthest from the axis
    bent = np.hypot(*optics_of(3, asked).to_field(*corner))
    straight = np.hypot(*optics_of(3, replace(asked, distortion_pix=0.0)).to_field(*corner))
    # Its centre may lie 2 x 60 pixels off in 6080: 3 x 2 % of 17 pixels, and the corner is 0.3 %
    # nearer than assumed.
    assert (straight - bent)[0] * 3600 / 0.497 == pytest.approx(17.0, abs=1.2)


def test_template_scale_falls_outwards():
    scale = np.sqrt(template_optics(1).pixel_area(CORNERS_X, CORNERS_Y))
    # C1's inner corner is (0,4088), its outer one (4088,0): published as 0.504" and 0.490".
    assert scale[2] == pytest.approx(0.504, abs=0.0025)
    assert scale[3] == pytest.approx(0.490, abs=0.0025)


# ---- light and detector ---------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "expected"), [(3.2, 1 - 17.0**-2.2), (0.0, 1 - np.exp(-8.0))])
def test_a_profile_holds_its_flux(beta, expected):
    # Seen to q = 16: Moffat (1 + q)^(1 - beta) is left out, Gaussian exp(-q / 2).
    top = 1000.0 / np.pi / 6.0 * ((beta - 1) if beta else 0.5)
    cut = top * (17.0**-beta if beta else np.exp(-8.0))
    image = np.zeros((101, 101), dtype=np.float32)
    here = np.array([50.3]), np.array([49.8])
    inverse = np.array([[1 / 4.0, 0.0, 1 / 9.0]])
    add_profiles(image, *here, np.array([1000.0]), inverse, np.array([beta]), cut)
    # Pixels on the edge are in or out as a whole: half a pixel of 8, where little is left.
    assert image.sum() / 1000.0 == pytest.approx(expected, abs=1e-3)
    y, x = np.mgrid[:101, :101]
    assert (image * x).sum() / image.sum() == pytest.approx(50.3, abs=2e-3)
    assert (image * y).sum() / image.sum() == pytest.approx(49.8, abs=2e-3)


@pytest.mark.parametrize(("reads", "level"), [(2, 3000.0), (7, 500.0), (22, 100.0)])
def test_noise_is_that_of_a_line_through_the_reads(reads, level):
    gain, read_noise = 1.8, 14.0
    image = np.full((512, 512), level, dtype=np.float32)
    nodes = np.zeros((12, 12))
    limits = np.array([gain, read_noise, 4e4, UNSOLVED_ADU])
    expose(image, np.ones_like(image), nodes, 64, np.zeros(512), reads, limits, 99)
    # The same by brute force: Poisson steps and read noise, fitted.
    draw = stream(reads, "reads")
    steps = draw.poisson(level * gain, (20000, reads))
    counts = (np.cumsum(steps, axis=1) + read_noise * draw.normal(size=steps.shape)) / gain
    slopes = np.polyfit(np.arange(reads), counts.T, 1)[0]
    # 20000 draws know their scatter to 1 / sqrt(40000) = 0.5 %: four of them.
    assert image.std() == pytest.approx(slopes.std(), rel=0.02)
    # The mean of 262144 pixels: five times scatter / 512.
    assert image.mean() == pytest.approx(level, abs=5 * slopes.std() / 512)


def test_pixels_that_saturate_lose_reads_and_then_are_unsolved():
    image = np.zeros((256, 256), dtype=np.float32)
    image[:, 0], image[:, 1], image[:, 2] = 5000.0, 8000.0, 25000.0
    limits = np.array([1.8, 14.0, 4e4, UNSOLVED_ADU])
    nodes = np.zeros((8, 8))
    expose(image, np.ones_like(image), nodes, 64, np.zeros(256), 7, limits, 5)
    assert (image[:, 2] == UNSOLVED_ADU).all()
    # 5 of 7 reads at 8000: variance 1.2 x 26 / 120 against 1.2 x 50 / 336 at 5000: 1.53 x 1.6.
    # The ratio of two variances of 256 values is known to sqrt(4 / 256) = 12 %.
    assert image[:, 1].var() / image[:, 0].var() == pytest.approx(1.46 * 1.6, rel=0.5)
    grow_unsolved(image)
    assert (image[:, 1] == UNSOLVED_ADU).all()
    assert (image[:, 3] == UNSOLVED_ADU).all()
    assert (image[:, 4] < 100).all()


def test_persistence_decays_and_is_forgotten():
    glow = Afterglow()
    slopes = np.zeros((8, 8), dtype=np.float32)
    slopes[2, 3] = UNSOLVED_ADU
    slopes[5, 5] = 1000.0  # 7000 of 40000 ADU: traps nothing
    glow.dose(slopes, 7)
    assert glow.index.tolist() == [2 * 8 + 3]
    assert glow.adu[0] == pytest.approx(PERSISTENCE_ADU)
    glow.wait(PERSISTENCE_S)
    assert glow.adu[0] == pytest.approx(PERSISTENCE_ADU / np.e)
    glow.wait(20 * PERSISTENCE_S)
    assert len(glow.index) == 0


def test_the_sky_and_a_flat_light_a_pixel_by_its_area():
    config = replace(SMALL, size=4096, distortion="template")
    optics = optics_of(1, config)
    area = optics.pixel_area(CORNERS_X, CORNERS_Y)
    node = (CORNERS_Y / 64).astype(int), (CORNERS_X / 64).astype(int)
    exposure = sequence.observation(config)[0]
    plain = replace(exposure, air=replace(exposure.air, glow=(0.0,) * 7))
    light = sky_nodes(optics, plain, config)[node]
    # Corners lie 4 pixels from a node or 60 from the next: 1e-3 of the area changes in 64 pixels.
    assert light / light[0] == pytest.approx(area / area[0], rel=1.5e-3)
    lamp = lamp_nodes(optics, sequence.flats(config)[0], config)[node]
    # The lamp's own slope: 0.4 % per degree, over less than one degree.
    assert lamp / lamp[0] == pytest.approx(area / area[0], rel=5e-3)


def test_bad_pixels_are_there_and_c4_is_the_worst():
    detectors = {c: make_detector(c, optics_of(c, SMALL), SMALL) for c in (3, 4)}
    for detector in detectors.values():
        for bit in (DEAD, HOT, UNSOLVED):
            assert (detector.bad & bit).any()
        assert detector.response[detector.bad == 0].std() > 0.01
        assert detector.response[(detector.bad & DEAD) > 0].max() < 0.55
    fraction = {c: (d.bad > 0).mean() for c, d in detectors.items()}
    assert 0.005 < fraction[3] < 0.03
    assert fraction[4] > 1.3 * fraction[3]


# ---- the night ------------------------------------------------------------------------------


def test_the_tree_is_the_archives(night, meta):
    science = [e["num"] for e in meta["chips"]["3"]["exposures"]]
    assert science == [1598971 + 7 * k for k in range(5)]
    folder = night / "nfs/xion4/prime/Data/reramp/C3"
    assert len(list(folder.glob("*C3.fits.ramp"))) == 9  # and 4 FLATs
    assert (folder / "01598971C3.fits.ramp").is_file()
    assert (night / "nfs/prime01/work/LOG/Ramp_LOG/ramp_fit_log_2024-06-06.dat").is_file()
    for name in ("refcat_2mass.fits", "refcat_deep.fits", "truth/truth.fits"):
        assert (night / name).is_file()
    assert not list(night.rglob("*.part"))


def test_other_layouts(tmp_path):
    tiny = replace(SMALL, size=128, ramps=5, flats=1, chips=(2, 3))
    packed = simulate_night(tmp_path / "fz", replace(tiny, layout="nfs_fz"))
    # 1598971 + 4 x 7 = 1598999; one more would cross the thousand, so cross it here.
    crossing = replace(tiny, layout="nfs_fz", first_serial=1598990)
    simulate_night(packed, crossing)
    for serial, folder in ((1598997, "01598000"), (1599004, "01599000")):
        path = packed / f"nfs/xion4/prime/ramp_fz/C2/{folder}/{serial:08d}C2.fits.ramp.fz"
        assert path.is_file()
    plain = simulate_night(tmp_path / "sftp", replace(tiny, layout="sftp"))
    for chip, disk in ((2, "xion2"), (3, "xion3")):
        assert ramp(plain, 1598971, chip, "sftp").parent == plain / disk / "prime/Data/ramp"
        assert ramp(plain, 1598971, chip, "sftp").is_file()
    assert (plain / "prime01/work/LOG/Ramp_LOG/ramp_fit_log_2024-06-06.dat").is_file()
    # Compressed at a quarter of the noise: 65535, NaN and the border survive.
    exact = fits.getdata(ramp(plain, 1598971, 3, "sftp"))
    lossy = fits.getdata(ramp(packed, 1598971, 3, "nfs_fz"), 1)
    assert (np.isnan(exact) == np.isnan(lossy)).all()
    assert ((exact == UNSOLVED_ADU) == (lossy > 65000)).all()
    assert (lossy[:4] == 0).all()
    inside = exact[4:-4, 4:-4], lossy[4:-4, 4:-4]
    noise = 1.4826 * np.nanmedian(np.abs(inside[0] - np.nanmedian(inside[0])))
    assert np.nanstd(inside[0] - inside[1]) < 0.5 * noise


def test_same_seed_same_bytes_whatever_chips_are_asked(tmp_path):
    tiny = replace(SMALL, size=128, ramps=3, flats=1, chips=(3,), layout="nfs_fz")
    alone = simulate_night(tmp_path / "alone", tiny)
    four = simulate_night(tmp_path / "four", replace(tiny, chips=(4, 3, 1)))
    other = simulate_night(tmp_path / "other", replace(tiny, seed=12))
    files = sorted(p.relative_to(alone) for p in alone.rglob("*") if p.is_file())
    assert len(files) == 3 + 1 + 1 + 2 + 2 + 1  # ramps, FLAT, log, catalogues, truth, bad pixels
    for name in files:
        if name.parts[0] == "truth" and name.name in ("truth.fits", "meta.json"):
            continue  # these speak of all chips
        assert (alone / name).read_bytes() == (four / name).read_bytes(), name
    again = simulate_night(tmp_path / "again", tiny)
    for name in files:
        assert (alone / name).read_bytes() == (again / name).read_bytes(), name
    first = ramp(alone, 1598971, 3, "nfs_fz")
    assert first.read_bytes() != ramp(other, 1598971, 3, "nfs_fz").read_bytes()


def test_a_small_chip_is_the_corner_of_a_larger_one(tmp_path):
    # What is placed by the window (transient, satellite) is left out.
    config = replace(SMALL, ramps=1, flats=1, transient_mag=None, satellite=False)
    small = simulate_night(tmp_path / "small", replace(config, size=192))
    large = simulate_night(tmp_path / "large", replace(config, size=256))
    for serial in (1598971, 1598971 - 11 * 7):
        a, b = fits.getdata(ramp(small, serial)), fits.getdata(ramp(large, serial))
        inner = slice(4, 187)  # the last column may be a neighbour of what is outside
        np.testing.assert_array_equal(a[inner, inner], b[inner, inner])
        assert (a[:, :4] == 0).all()
        assert (a[188:] == 0).all()


def test_stars_stand_where_the_truth_says_and_are_as_bright(night, meta):
    truth = Table.read(night / "truth/truth.fits")
    bad = fits.getdata(night / "truth/badpix_C3.fits.fz", 1) > 0
    optics = optics_of(3, SMALL)
    detector = make_detector(3, optics, SMALL)
    offsets, zeros = [], []
    for note in meta["chips"]["3"]["exposures"]:
        if note["bad"]:
            continue
        data = fits.getdata(ramp(night, note["num"])).astype(float)
        usable = ~bad & np.isfinite(data) & (data < 6e4)
        data = (data / detector.response) - np.nanmedian((data / detector.response)[usable])
        pointing = Pointing(note["ra_true"], note["dec_true"], note["rot_true"])
        x, y = optics.to_pixels(*sky_to_field(truth["RA"], truth["DEC"], pointing))
        bright = (truth["TYPE"] == "S") & (truth["Jmag"] > 12.5) & (truth["Jmag"] < 16)
        for k in np.nonzero(bright & (np.minimum(x, y) > 20) & (np.maximum(x, y) < 490))[0]:
            near = np.hypot(x - x[k], y - y[k]) < 18
            if (truth["Jmag"][near] < truth["Jmag"][k] + 3).sum() > 1:
                continue
            i, j = round(x[k]), round(y[k])
            box = slice(j - 8, j + 9), slice(i - 8, i + 9)
            rows, cols = np.mgrid[box]
            aperture = np.hypot(rows - y[k], cols - x[k]) < 7.5
            if not usable[box][aperture].all():
                continue
            flux = data[box][aperture].sum()
            core = np.hypot(rows - y[k], cols - x[k]) < 4
            total = data[box][core].sum()
            offsets.append(
                (
                    (data[box][core] * cols[core]).sum() / total - x[k],
                    (data[box][core] * rows[core]).sum() / total - y[k],
                )
            )
            zeros.append(truth["Jmag"][k] + 2.5 * np.log10(flux) + note["extinction"])
    assert len(zeros) > 15
    # Centroids of J < 16 within 50 pixels: noise 8 ADU x sqrt(50) x 2 px / 1400 ADU = 0.08 px,
    # so the median of 15 is good to 0.03; pixelation of the aperture adds a little.
    assert np.abs(np.median(offsets, axis=0)).max() < 0.06
    # The aperture misses 1.2 % aureole and 1-2 % of the Moffat; noise as above: 0.08 / sqrt(15).
    assert np.median(zeros) == pytest.approx(meta["zp_adu"]["J"] - 0.025, abs=0.04)


def test_frames_hold_what_spoils_them(night, meta):
    notes = meta["chips"]["3"]["exposures"]
    assert [n["bad"] for n in notes] == [False, False, True, False, False]
    assert notes[2]["extinction"] > notes[1]["extinction"] + 1.4
    assert notes[2]["trail_px"] == 5.0
    assert [n["satellite"] is not None for n in notes] == [False, False, False, True, False]
    levels = np.array([n["sky_adu"] for n in notes])
    assert 0.005 < levels[~np.array([n["bad"] for n in notes])].std() / levels.mean() < 0.1
    data = fits.getdata(ramp(night, notes[0]["num"]))
    assert data.dtype == np.dtype(">f4")
    assert data.shape == (512, 512)
    inner = data[4:-4, 4:-4]
    assert np.isnan(inner).any()
    assert (inner == UNSOLVED_ADU).any()
    assert (data[-4:] == 0).all()
    assert np.nanmedian(inner) == pytest.approx(notes[0]["sky_adu"], rel=0.1)
    trail = notes[3]["satellite"]
    with_trail = fits.getdata(ramp(night, notes[3]["num"]))
    along = np.arange(-30, 31)
    angle = np.radians(trail["ang"])
    rows = np.round(trail["y0"] + along * np.sin(angle)).astype(int)
    cols = np.round(trail["x0"] + along * np.cos(angle)).astype(int)
    excess = np.nanmedian(with_trail[rows, cols]) - np.nanmedian(with_trail)
    assert excess > 0.7 * trail["peak"]  # half a pixel off the middle: exp(-0.06)


def test_pointing_errors_are_as_asked(meta):
    errors = []
    for note in meta["chips"]["3"]["exposures"]:
        true = Pointing(note["ra_true"], note["dec_true"], 0.0)
        at = sky_to_field(np.array(note["ra_hdr"]), np.array(note["dec_hdr"]), true)
        errors.append(np.hypot(*at) * 3600)
        assert abs(note["rot_true"] - note["rot_hdr"]) == pytest.approx(0.06, abs=0.01)
    assert min(errors) > 4.99
    assert max(errors) < 20.01
    assert np.ptp(errors) > 0.5


def test_the_transient_is_on_every_chip_and_in_no_catalogue(night, meta):
    truth = Table.read(night / "truth/truth.fits")
    row = truth[truth["TYPE"] == "T"]
    assert len(row) == 1
    assert row["VAR"][0]
    assert meta["transient"]["mag"] == 17.5
    assert 0.2 * 512 < row["X_C3"][0] < 0.8 * 512
    here = sky.unit_vectors(np.array(row["RA"]), np.array(row["DEC"]))
    for name in ("2mass", "deep"):
        table = Table.read(night / f"refcat_{name}.fits")
        there = sky.unit_vectors(np.array(table["RAJ2000"]), np.array(table["DEJ2000"]))
        assert np.degrees(np.linalg.norm(there - here, axis=1).min()) * 3600 > 2.0
    without = sky.truth_table(sky.make_scene(SMALL), {3: optics_of(3, SMALL)}, SMALL)
    assert not (without["TYPE"] == "T").any()


def test_flats_in_pairs_give_the_response(night):
    serials = [1598971 - 7 * (14 - k) for k in range(4)]
    levels = [fits.getdata(ramp(night, s)).astype(float)[4:-4, 4:-4] for s in serials]
    medians = [np.nanmedian(level) for level in levels]
    assert all(a > 1.1 * b for a, b in zip(medians, medians[1:], strict=False))
    flat = levels[0] - levels[2]
    flat /= np.nanmedian(flat)
    detector = make_detector(3, optics_of(3, SMALL), SMALL)
    good = detector.bad[4:-4, 4:-4] == 0
    response = detector.response[4:-4, 4:-4]
    ratio = flat / response
    ratio /= np.nanmedian(ratio[good])
    # Noise of two FLATs of 3700 and 2400 ADU per frame: 26 ADU in a difference of 1340: 2 %. The
    # mean of 128 x 128 pixels: 0.02 %; the lamp's slope and the pixel area over 4': 0.1 %.
    for rows in (slice(0, 128), slice(300, 428)):
        for cols in (slice(0, 128), slice(300, 428)):
            usable = good[rows, cols] & np.isfinite(ratio[rows, cols])
            assert np.mean(ratio[rows, cols][usable]) == pytest.approx(1.0, abs=2.5e-3)


def test_flats_only_at_the_end(tmp_path):
    config = replace(SMALL, flat_time="end")
    science, flats = sequence.observation(config), sequence.flats(config)
    assert flats[0].start > science[-1].start
    assert flats[0].serial > science[-1].serial
    assert all(a.level_adu < b.level_adu for a, b in zip(flats, flats[1:], strict=False))
    both = sequence.flats(replace(config, flat_time="both"))
    assert len(both) == 2 * config.flats
    assert len({e.serial for e in both}) == len(both)


# ---- what the observatory writes ------------------------------------------------------------


def test_the_log_is_as_dirty_as_the_real_one(night):
    text = records.log_path(night, SMALL).read_text()
    lines = text.splitlines()
    assert lines[0].startswith("# DATEBEG, filename,OBJNAME,")
    for name in records.NAMES_WITH_BLANKS:
        assert f"C1.fits.ramp {name} OBJECT " in text
    assert any(line.startswith("Warning") for line in lines)
    assert any(line.startswith("ERROR") for line in lines)
    assert any("!" in line for line in lines)
    rows = [line.split(" ") for line in lines if "C1.fits.ramp field1111 OBJECT NASA" in line]
    assert all(len(row) == 20 for row in rows)
    wanted = [row for row in rows if row[6:8] == ["Open", "J"]]
    assert [row[1] for row in wanted] == [f"{1598971 + 7 * k:08d}C1.fits.ramp" for k in range(5)]
    assert [row[-1] for row in wanted] == list("12345")
    assert {tuple(row[6:8]) for row in rows} == {("Open", "J"), ("Open", "H"), ("Z", "Open")}
    stamped = [line.split(" ")[0] for line in lines if line.startswith("2024-06-0")]
    assert stamped == sorted(stamped)
    serials = [line.split(" ")[1] for line in lines if line.startswith("2024-") and "!" not in line]
    assert len(set(serials)) == len(serials)


def test_a_log_without_header_and_dirt():
    config = replace(SMALL, log_header=False, log_dirt=False, blocks=2)
    science, flats = sequence.observation(config), sequence.flats(config)
    lines = records.log_text(science, flats, config).splitlines()
    assert len(lines) == 2 * 5 + 4
    assert all(len(line.split(" ")) == 20 for line in lines)
    repeats = [line.split(" ")[-1] for line in lines if " field1111 " in line]
    assert repeats == list("1234512345")  # INT 1 begins a new block


def header(config: SimulateConfig) -> fits.Header:
    return records.header_of(sequence.observation(config)[0], 3, config)


def test_rotoff_is_written_right_or_wrong():
    assert header(SMALL)["ROTOFF"] == 48.0
    assert header(replace(SMALL, rotoff="wrong"))["ROTOFF"] == 138.0
    assert header(replace(SMALL, rotoff="junk"))["ROTOFF"].startswith("92233720368547")
    assert "ROTOFF" not in header(replace(SMALL, rotoff="absent"))


def test_header_of_a_field_just_south_of_the_equator():
    found = header(SMALL)
    assert found["DEC"].startswith("-00:3")
    assert found["DEC-D"] == pytest.approx(-0.52, abs=0.02)
    assert found["EXPTIME"] == pytest.approx(7 * 2.863)
    assert found["EXPTIMEE"] == pytest.approx(6 * 2.863)
    assert found["MJD-BEG"] == pytest.approx(60467.8, abs=0.5)
    assert found["FILTER1"], found["FILTER2"] == ("Open", "J")
    assert 1.0 <= found["AIRMASS"] < 2.0
    found = header(replace(SMALL, band="Z"))
    assert (found["FILTER1"], found["FILTER2"]) == ("Z", "Open")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-0.5064, "-00:30:23.04"),
        (0.0, "00:00:00.00"),
        (-1e-9, "00:00:00.00"),
        (59.9999999, "60:00:00.00"),
        (-89.5, "-89:30:00.00"),
    ],
)
def test_sexagesimal(value, text):
    assert records.sexagesimal(value, decimals=2) == text


def test_mjd_of_a_known_moment():
    start = sequence.at(SMALL, 18.0)
    assert records.mjd(start) == pytest.approx(60467.75, abs=1e-9)  # 2024-06-06T18:00


# ---- the sky --------------------------------------------------------------------------------


def test_star_counts_follow_the_density():
    number = {}
    for density in ("sparse", "normal", "bulge"):
        scene = sky.make_scene(replace(SMALL, density=density))
        chips = np.pi * sky.SCENE_RADIUS_DEG**2 / sky.CHIP_AREA_DEG2
        number[density] = ((scene.kind == "S") & (scene.mags["J"] < 19.0)).sum() / chips
        assert scene.radius_arcsec.max() > 4.0  # some galaxies are 30" across
    # Poisson: 1893 per chip, 8 chips: 0.8 %; five of them.
    assert number["sparse"] == pytest.approx(3000 * 10**-0.2, rel=0.04)
    assert number["normal"] > 2 * number["sparse"]
    assert number["bulge"] > 40000


def test_catalogues_are_of_epoch_2000_with_errors(night):
    scene = sky.make_scene(SMALL)
    table = sky.catalogue(scene, sky.TWOMASS, SMALL)
    field = Pointing(SMALL.ra_deg, SMALL.dec_deg, 0.0)
    star = (scene.kind == "S") & (scene.mags["J"] < 17)
    now = np.stack(sky_to_field(scene.ra_deg[star], scene.dec_deg[star], field), axis=1)
    then = np.stack(sky_to_field(table["RAJ2000"], table["DEJ2000"], field), axis=1)
    distance, partner = sky.cKDTree(now).query(then)
    close = (distance < 1.5 / 3600) & (table["Jmag"] < 14) & (table["XflgGAL"] == 0)
    assert close.sum() > 500
    moved = (now[partner[close]] - then[close]) * 3.6e6  # mas
    motion = scene.pm_mas[star][partner[close]]
    years = sky.epoch_of(SMALL) - 2000.0
    assert years == pytest.approx(24.43, abs=0.01)
    left = moved - motion * years
    scatter = 1.4826 * np.median(np.abs(left - np.median(left, axis=0)), axis=0)
    # 80 mas, known to 1 / sqrt(2 x 500) x 1.6 = 5 % of it; two of them.
    assert scatter == pytest.approx([80.0, 80.0], rel=0.1)
    assert np.abs(np.median(left, axis=0)).max() < 50  # the catalogue's own offset, 15 mas rms
    without = 1.4826 * np.median(np.abs(moved - np.median(moved, axis=0)))
    assert without > 1.05 * scatter.mean()  # proper motion is in it
    saved = Table.read(night / "refcat_2mass.fits")
    assert len(saved) == len(table)
    assert str(saved["RAJ2000"].unit) == "deg"


def test_sersic_mixtures_hold_half_of_their_light_inside_the_half_light_radius():
    for sersic in (1, 4):
        flux, width = sky.gaussian_mixture(sersic)
        assert flux.sum() == pytest.approx(1.0)
        inside = (flux * (1 - np.exp(-0.5 / width**2))).sum()
        # Seven Gaussians end where a real n = 4 profile still holds some per cent.
        assert inside == pytest.approx(0.5, abs=0.06)


# ---- what is asked --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"band": "K"}, "band 'K'"),
        ({"size": 64}, "simulate.size 64"),
        ({"size": 8192}, "4096"),
        ({"chips": (5,)}, "simulate.chips"),
        ({"chips": ()}, "simulate.chips"),
        ({"ramps": 0}, "simulate.ramps 0"),
        ({"nframes": 1}, "simulate.nframes 1"),
        ({"dec_deg": 91.0}, "simulate.dec_deg 91.0"),
        ({"ra_deg": float("nan")}, "simulate.ra_deg nan"),
        ({"rotoff": "jnk"}, "did you mean 'junk'"),
        ({"layout": "http"}, "simulate.layout 'http'"),
        ({"density": "galaxy"}, "simulate.density"),
        ({"target": "all sky"}, "simulate.target 'all sky'"),
        ({"seeing_arcsec": (2.0, 1.0)}, "simulate.seeing_arcsec"),
        ({"first_serial": 10}, "simulate.first_serial 10"),
        ({"transient_mag": 99.0}, "simulate.transient_mag 99.0"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path, change, says):
    with pytest.raises(UsageError, match="(?s).+") as caught:
        simulate_night(tmp_path / "none", replace(SMALL, **change))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_defaults_can_be_simulated():
    check(SimulateConfig())
    assert SimulateConfig().night == date(2024, 6, 6)


def test_the_simulator_shares_no_code_with_what_it_tests():
    folder = Path(records.__file__).parent
    allowed = ("photometrus.instrument", "photometrus.products", "photometrus.errors")
    allowed += ("photometrus.io.whole",)
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("photometrus"):
                assert node.module.startswith(("photometrus.simulate", *allowed)), path.name
