"""The single steps on a small simulated chip, each on what the ones before left on disk."""

import shutil
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy.spatial import cKDTree

from photometrus import steps
from photometrus.cli import main
from photometrus.config import Config, load
from photometrus.errors import MissingInput, TooFewFrames, UsageError
from photometrus.flats import make_master, read_flat
from photometrus.instrument import BORDER_PIXELS, PIXEL_SCALE_ARCSEC
from photometrus.io import fitsfile, headfile, ldac, rampfile
from photometrus.products import Products
from photometrus.simulate.night import SimulateConfig, simulate_night
from photometrus.stages.sources import find_sources
from photometrus.wcs import pixel_to_sky, pointing_wcs, sky_to_pixel

CHIP = 2
SIZE = 768
TRIMMED = SIZE - 2 * BORDER_PIXELS
RAMPS = 5
NIGHT = date(2024, 6, 6)
FLATS = 4


@dataclass(frozen=True)
class Bench:
    """A night and an observation on disk, with every step done."""

    night: Path
    products: Products
    flats: Path
    config: Config

    @property
    def ramps(self):
        return self.products.ramps_on_disk(CHIP)

    @property
    def sky(self) -> Path:
        return self.products.sky(self.ramps)

    def copy(self, folder: Path) -> Products:
        """The observation in another folder, to do harm to."""
        shutil.copytree(self.products.root, folder)
        return replace(self.products, root=folder)


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    root = tmp_path_factory.mktemp("steps")
    night = root / "night"
    # No bad frame and no satellite here: what they do to a frame is the pipeline's to judge.
    config = SimulateConfig(
        size=SIZE, chips=(CHIP,), ramps=RAMPS, flats=FLATS, bad_frame=False, satellite=False
    )
    simulate_night(night, config)
    settings = load(
        None,
        {
            "input": {
                "archive": str(night),
                "catalog": str(night / "refcat_2mass.fits"),
                "flat_dir": str(root / "mflats"),
            }
        },
    )
    products = Products(root / "obs", "J")
    got = steps.get_data(products, "field1111", NIGHT, [CHIP], settings)
    assert len(got.made) == RAMPS
    assert not got.lost
    made = steps.auto_flat(Products(root / "flats", "J"), NIGHT, [CHIP], settings)
    assert [path.name for path in made.made] == [f"mflat.J.20240606.C{CHIP}.fits"]
    return Bench(night, products, root / "mflats", settings)


@pytest.fixture(scope="module")
def placed(bench):
    folder = bench.products.astrom(CHIP)
    result = steps.place(bench.products.ramps(CHIP), folder, bench.config)
    return bench, result


@pytest.fixture(scope="module")
def flattened(placed):
    bench, _ = placed
    folder = bench.products.flattened(CHIP)
    result = steps.flatten(bench.products.astrom(CHIP), folder, bench.flats, bench.config)
    return bench, result


@pytest.fixture(scope="module")
def subtracted(flattened):
    bench, _ = flattened
    folder = bench.products.flattened(CHIP)
    made = steps.make_sky(folder, bench.sky.parent, bench.config)
    assert made.made == [bench.sky]
    out = bench.products.subtracted(CHIP)
    return bench, steps.subtract_sky(folder, out, bench.sky.parent, bench.config)


@pytest.fixture(scope="module")
def shifted(subtracted, tmp_path_factory):
    bench, _ = subtracted
    products = bench.copy(tmp_path_factory.mktemp("shifted") / "obs")
    return bench, products, steps.shift(products.subtracted(CHIP), "J", bench.config)


def truth_of(bench: Bench) -> Table:
    """Stars of the sky (no galaxies) with their magnitudes."""
    table = Table.read(bench.night / "truth" / "truth.fits")
    return table[np.asarray(table["TYPE"]).astype(str) == "S"]


def nearest_source(sources: Table, wcs, stars: Table):
    """(index of star, index of source) of the pairs within 3 pixels."""
    x, y = sky_to_pixel(wcs, np.asarray(stars["RA"]), np.asarray(stars["DEC"]))
    edge = 12
    inside = np.flatnonzero((x > edge) & (x < TRIMMED - edge) & (y > edge) & (y < TRIMMED - edge))
    tree = cKDTree(np.stack([sources["x"], sources["y"]], axis=1))
    distance, index = tree.query(np.stack([x[inside], y[inside]], axis=1), distance_upper_bound=3.0)
    found = np.isfinite(distance)
    return inside[found], index[found], distance[found]


# ---------------------------------------------------------------- flats


def test_the_flat_knows_dead_pixels(bench):
    flat = read_flat(bench.flats / f"mflat.J.20240606.C{CHIP}.fits", (TRIMMED, TRIMMED))
    truth, _ = fitsfile.read_image(bench.night / "truth" / f"badpix_C{CHIP}.fits.fz")
    inside = slice(BORDER_PIXELS, -BORDER_PIXELS)
    dead = (truth.astype(int)[inside, inside] & 1) > 0
    assert dead.sum() > 100
    assert (flat.bad[dead] != 0).mean() > 0.95
    # Good pixels that are thought bad cost depth: the truth has under 1 % bad of any kind.
    assert (flat.bad != 0).mean() < 0.02
    assert np.median(flat.response[flat.bad == 0]) == pytest.approx(1.0, abs=0.01)


def test_genflat_with_and_without_the_log(bench, tmp_path):
    source = bench.products.root.parent / "flats"
    folder = tmp_path / "flats"
    shutil.copytree(source, folder)
    words = ["-date", "20240606", "-band", "J", "-chip", str(CHIP), "-quiet"]
    assert main(["process", "genflat", "-dir", str(folder), *words]) == 0
    made = folder / "mflats" / f"mflat.J.20240606.C{CHIP}.fits"
    with_log, _ = fitsfile.read_image(made)
    stored, _ = fitsfile.read_image(bench.flats / made.name)
    np.testing.assert_array_equal(with_log, stored)
    # A science ramp among them, and no log: the headers tell the FLATs apart.
    shutil.copy(bench.products.ramp(bench.ramps[0]), folder / f"C{CHIP}")
    for log in folder.glob("*.dat"):
        log.unlink()
    result = steps.make_flat(Products(folder, "J"), NIGHT, [CHIP], tmp_path, bench.config)
    assert any("the ramps' headers decide" in note for note in result.notes)
    without_log, header = fitsfile.read_image(result.made[0])
    assert header["NCOMBINE"] == FLATS
    np.testing.assert_array_equal(without_log, stored)


def test_genflat_costs_only_the_chip_that_lacks_flats(bench, tmp_path, capsys):
    folder = tmp_path / "flats"
    shutil.copytree(bench.products.root.parent / "flats", folder)
    words = ["-date", "20240606", "-band", "J", "-chip", f"{CHIP},4"]
    assert main(["process", "genflat", "-dir", str(folder), *words]) == 3
    assert "no FLAT ramps of band J" in capsys.readouterr().err
    assert main(["process", "genflat", "-dir", str(folder), *words[:-1], "4"]) == 1


def test_an_odd_first_flat_is_left_out_and_not_the_others(bench, tmp_path, caplog):
    ramps = sorted((bench.products.root.parent / "flats" / f"C{CHIP}").glob("*.ramp.fits"))
    odd = tmp_path / f"00000001C{CHIP}.ramp.fits"
    pixels, header = fits.getdata(ramps[0], header=True)
    fits.writeto(odd, pixels[: SIZE // 2], header)
    make_master([odd, *ramps], tmp_path / "mflat.fits", bench.config.flat)
    made, header = fitsfile.read_image(tmp_path / "mflat.fits")
    stored, _ = fitsfile.read_image(bench.flats / f"mflat.J.20240606.C{CHIP}.fits")
    np.testing.assert_array_equal(made, stored)
    assert header["NCOMBINE"] == FLATS
    assert [header[f"FRAM{k + 1:04d}"] for k in range(FLATS)] == [path.name for path in ramps]
    said = f"{odd.name} left out: {SIZE} x {SIZE // 2} pixels, most have {SIZE} x {SIZE}"
    assert said in caplog.text


def test_autoflat_of_a_band_without_flats(bench, tmp_path):
    with pytest.raises(MissingInput, match="no FLAT ramps of band Y"):
        steps.auto_flat(Products(tmp_path, "Y"), NIGHT, [CHIP], bench.config)


# ---------------------------------------------------------------- first WCS


def test_angle_gives_copies_with_a_wcs(placed):
    bench, result = placed
    assert [path.name for path in result.made] == [f"{ramp}.ramp.new" for ramp in bench.ramps]
    assert not result.lost
    for ramp, path in zip(bench.ramps, result.made, strict=True):
        raw, raw_header = fitsfile.read_image(bench.products.ramp(ramp))
        data, header = fitsfile.read_image(path)
        np.testing.assert_array_equal(data, raw)
        assert header["OBJNAME"] == raw_header["OBJNAME"]
        info = rampfile.frame_info(raw_header, path)
        expected = pointing_wcs(CHIP, (info.ra_deg, info.dec_deg), 48.0, trimmed=False)
        x, y = np.array([0.0, SIZE - 1.0, 300.0]), np.array([0.0, 100.0, SIZE - 1.0])
        # Cards hold 16 digits of degrees
        np.testing.assert_allclose(
            pixel_to_sky(fitsfile.header_wcs(header), x, y),
            pixel_to_sky(expected, x, y),
            rtol=0,
            atol=1e-10,
        )


def test_angle_takes_rot_val_where_the_header_s_is_junk(bench, tmp_path):
    ramps = tmp_path / "C"
    ramps.mkdir()
    source = bench.products.ramp(bench.ramps[0])
    with fits.open(source) as hdus:
        hdus[0].header["ROTOFF"] = ("9223372036854775807:9223372036854775807:000NaN", "")
        hdus.writeto(ramps / source.name)
    config = load(None, {"run": {"rotator_deg": 30.0}})
    result = steps.place(ramps, tmp_path / "new", config)
    assert "ROTOFF is unreadable in 1 of 1" in result.notes[0]
    _, header = fitsfile.read_image(result.made[0])
    info = rampfile.frame_info(header, result.made[0])
    expected = pointing_wcs(CHIP, (info.ra_deg, info.dec_deg), 30.0, trimmed=False)
    x, y = np.array([0.0, SIZE - 1.0]), np.array([SIZE - 1.0, 5.0])
    told = pixel_to_sky(fitsfile.header_wcs(header), x, y)
    np.testing.assert_allclose(told, pixel_to_sky(expected, x, y), rtol=0, atol=1e-10)
    _, usual = fitsfile.read_image(bench.products.placed(bench.ramps[0]))
    # 18 degrees about an axis 0.4 degrees away: the chip's corner is elsewhere
    assert (
        np.ptp(np.stack([told, pixel_to_sky(fitsfile.header_wcs(usual), x, y)]), axis=0).max() > 0.1
    )


# ---------------------------------------------------------------- flat field


def test_flatfield_moves_pixels_flags_and_wcs_together(flattened):
    bench, result = flattened
    assert [path.name for path in result.made] == [f"{ramp}.flat.fits" for ramp in bench.ramps]
    flat = read_flat(bench.flats / f"mflat.J.20240606.C{CHIP}.fits", (TRIMMED, TRIMMED))
    for ramp in bench.ramps:
        raw, raw_header = fitsfile.read_image(bench.products.placed(ramp))
        data, header = fitsfile.read_image(bench.products.flat_fielded(ramp))
        assert data.shape == (TRIMMED, TRIMMED)
        inside = raw[BORDER_PIXELS:-BORDER_PIXELS, BORDER_PIXELS:-BORDER_PIXELS]
        good = (inside < 60000) & np.isfinite(inside) & (flat.bad == 0)
        assert 0.9 < good.mean() < 1.0
        np.testing.assert_array_equal(np.isfinite(data), good)
        # float32: one rounding of the quotient
        np.testing.assert_allclose(data[good], inside[good] / flat.response[good], rtol=2e-7)
        x, y = np.array([0.0, TRIMMED - 1.0, 200.0]), np.array([0.0, 10.0, TRIMMED - 1.0])
        before = pixel_to_sky(fitsfile.header_wcs(raw_header), x + 4, y + 4)
        after = pixel_to_sky(fitsfile.header_wcs(header), x, y)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-10)
        assert header["FLATFILE"] == f"mflat.J.20240606.C{CHIP}.fits"


def test_flatfield_without_the_step_before(flattened, tmp_path):
    """Straight from the ramps: the same pixels, and the WCS of the pointing."""
    bench, _ = flattened
    flat = bench.flats / f"mflat.J.20240606.C{CHIP}.fits"
    result = steps.flatten(bench.products.ramps(CHIP), tmp_path, flat, bench.config)
    for path, ramp in zip(result.made, bench.ramps, strict=True):
        data, header = fitsfile.read_image(path)
        usual, usual_header = fitsfile.read_image(bench.products.flat_fielded(ramp))
        np.testing.assert_array_equal(data, usual)
        for key in ("CRPIX1", "CRPIX2", "CRVAL1", "CRVAL2", "CD1_1", "A_0_4"):
            assert header[key] == pytest.approx(usual_header[key], rel=1e-12)


def test_one_bad_frame_costs_one_frame(bench, tmp_path, capsys):
    ramps = tmp_path / "C2"
    shutil.copytree(bench.products.ramps(CHIP), ramps)
    names = sorted(path.name for path in ramps.iterdir())
    cut = ramps / names[1]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (ramps / names[2]).write_text("<html>not found</html>")
    (ramps / "holiday.ramp.fits").write_bytes((ramps / names[0]).read_bytes())
    out = tmp_path / "new"
    assert main(["astrom", "angle", "-input", str(ramps), "-output", str(out)]) == 3
    told = capsys.readouterr().err.splitlines()
    for name, why in (
        (names[1], "truncated"),
        (names[2], "FITS"),
        ("holiday", "not a ramp's name"),
    ):
        assert [line for line in told if name in line and why in line], name
    made = sorted(path.name.partition(".")[0] for path in out.iterdir())
    assert made == [name.partition(".")[0] for name in (names[0], *names[3:])]
    # With nothing but bad ones, it has failed
    for name in (names[0], *names[3:]):
        (ramps / name).unlink()
    assert main(["astrom", "angle", "-input", str(ramps), "-output", str(out)]) == 1


# ---------------------------------------------------------------- sky


def test_the_sky_is_in_adu_and_complete(subtracted):
    bench, _ = subtracted
    image, header = fitsfile.read_image(bench.sky)
    assert np.isfinite(image).all()
    levels = [
        float(np.nanmedian(fitsfile.read_image(bench.products.flat_fielded(ramp))[0]))
        for ramp in bench.ramps
    ]
    # Stars lift the median of a frame by less than 1 %
    assert np.median(image) == pytest.approx(np.median(levels), rel=0.01)
    assert header["SKYLEVEL"] == pytest.approx(np.median(levels), rel=0.01)
    assert header["NCOMBINE"] == RAMPS


def test_sky_subtraction_leaves_stars_and_no_sky(subtracted):
    bench, result = subtracted
    assert [path.name for path in result.made] == [f"{r}.sky.flat.fits" for r in bench.ramps]
    for ramp in bench.ramps:
        data, header = fitsfile.read_image(bench.products.sky_subtracted(ramp))
        good = np.isfinite(data)
        # Hot pixels are lost, too; the simulated detector has under 2 % bad pixels of all kinds.
        assert good.mean() > 0.95
        noise = header["SKYNOISE"]
        scatter = 1.4826 * np.median(np.abs(data[good] - np.median(data[good])))
        assert noise == pytest.approx(scatter, rel=0.1)
        # Half of the pixels have stars' wings below the noise: the median is above zero by a
        # fraction of it; the background itself is fitted to within 1 / sqrt(15000) of a cell's.
        assert abs(np.median(data[good])) < 0.1 * noise
        before, _ = fitsfile.read_image(bench.products.flat_fielded(ramp))
        assert np.nanmedian(before) > 20 * noise
        assert not good[np.isnan(before)].any()


def test_faint_stars_are_not_eaten(shifted):
    """Flux against truth is the same for faint stars as for bright ones."""
    bench, products, _ = shifted
    stars = truth_of(bench)
    offsets: dict[str, list[float]] = {"bright": [], "faint": []}
    for ramp in bench.ramps:
        data, header = fitsfile.read_image(products.sky_subtracted(ramp))
        bad = (~np.isfinite(data)).astype(np.uint8)
        sources = find_sources(np.nan_to_num(data), bad, header["SKYNOISE"], 7)
        sources = sources[sources["flags"] == 0]
        star, source, _ = nearest_source(sources, fitsfile.header_wcs(header), stars)
        mag = np.asarray(stars["Jmag"])[star]
        offset = mag + 2.5 * np.log10(np.asarray(sources["flux"])[source])
        offsets["bright"] += list(offset[(mag > 12.5) & (mag < 15)])
        offsets["faint"] += list(offset[(mag > 16) & (mag < 17)])
    assert min(len(values) for values in offsets.values()) > 30
    bright, faint = (np.median(values) for values in offsets.values())
    scatter = 1.4826 * np.median(np.abs(np.asarray(offsets["faint"]) - faint))
    # Five errors of the median of the faint ones, plus what windowed fluxes of stars with faint
    # neighbours are known to be worth: 0.02 mag.
    assert abs(faint - bright) < 5 * 1.25 * scatter / np.sqrt(len(offsets["faint"])) + 0.02


def test_a_sky_of_too_few_frames(flattened, tmp_path):
    bench, _ = flattened
    for ramp in bench.ramps[:2]:
        shutil.copy(bench.products.flat_fielded(ramp), tmp_path)
    with pytest.raises(TooFewFrames, match="2 frames, need 3"):
        steps.make_sky(tmp_path, tmp_path / "sky.fits", bench.config)
    assert not (tmp_path / "sky.fits").exists()


def test_a_frame_unlike_the_others_is_left_out(flattened, tmp_path):
    bench, _ = flattened
    for ramp in bench.ramps:
        shutil.copy(bench.products.flat_fielded(ramp), tmp_path)
    small, dark = (tmp_path / f"{ramp}.flat.fits" for ramp in bench.ramps[:2])
    data, header = fitsfile.read_image(small)
    fitsfile.write_image(small, data[:256, :256], header)
    data, header = fitsfile.read_image(dark)
    fitsfile.write_image(dark, np.full_like(data, np.nan), header)
    result = steps.make_sky(tmp_path, tmp_path / "sky", bench.config)
    assert dict(result.lost).keys() == {small.name, dark.name}
    assert "256 x 256" in dict(result.lost)[small.name]
    assert "no good pixels" in dict(result.lost)[dark.name]
    assert result.made[0].name == Products(Path(), "J").sky(bench.ramps[2:]).name


def test_which_sky_must_be_clear(subtracted, tmp_path):
    bench, _ = subtracted
    folder = bench.products.flattened(CHIP)
    with pytest.raises(MissingInput, match="process gensky"):
        steps.subtract_sky(folder, tmp_path / "out", tmp_path, bench.config)
    shutil.copy(bench.sky, tmp_path / bench.sky.name)
    shutil.copy(bench.sky, tmp_path / bench.sky.name.replace("0", "1", 1))
    with pytest.raises(UsageError, match="2 skies fit"):
        steps.subtract_sky(folder, tmp_path / "out", tmp_path, bench.config)
    image, header = fitsfile.read_image(bench.sky)
    fitsfile.write_image(tmp_path / "small.fits", image[:100, :100], header)
    with pytest.raises(MissingInput, match="100 x 100 pixels, the frames have 760 x 760"):
        steps.subtract_sky(folder, tmp_path / "out", tmp_path / "small.fits", bench.config)
    assert not (tmp_path / "out").exists()


def test_chips_are_not_mixed(flattened, tmp_path):
    bench, _ = flattened
    shutil.copy(bench.products.flat_fielded(bench.ramps[0]), tmp_path)
    shutil.copy(bench.products.flat_fielded(bench.ramps[1]), tmp_path / "01599131C3.flat.fits")
    with pytest.raises(UsageError, match="frames of chips 2, 3"):
        steps.make_sky(tmp_path, tmp_path / "sky", bench.config)


# ---------------------------------------------------------------- astrometry


def test_shift_finds_the_field(shifted):
    bench, products, result = shifted
    assert not result.lost
    assert len(result.made) == RAMPS
    stars = truth_of(bench)
    stars = stars[(stars["Jmag"] > 12.5) & (stars["Jmag"] < 15.5)]
    for ramp in bench.ramps:
        path = products.sky_subtracted(ramp)
        before, old_header = fitsfile.read_image(bench.products.sky_subtracted(ramp))
        data, header = fitsfile.read_image(path)
        np.testing.assert_array_equal(data, before)  # NaN where there was NaN
        # The simulated pointing is off by 5 to 20 arcsec, the chip by 20: it had to move.
        assert 3 < result.numbers[path.name]["moved_arcsec"] < 60
        assert header["CRVAL1"] != old_header["CRVAL1"]
        _, sources = ldac.read_ldac(products.sources(ramp))
        _, _, distance = nearest_source(sources, fitsfile.header_wcs(header), stars)
        assert distance.size >= 10
        # The 2MASS-like catalogue errs by 0.08 arcsec per star and axis. A third-degree polynomial
        # with its priors, fitted to n stars, errs by about sqrt(10 / n) of that, and the stars
        # themselves (SNR > 30) by 0.03: together below 0.12 arcsec for n > 20.
        assert result.numbers[path.name]["n_matched"] > 20
        assert np.median(distance) * PIXEL_SCALE_ARCSEC < 0.2


def test_shift_keeps_the_old_wcs_as_a_head(shifted):
    bench, products, _ = shifted
    x, y = np.array([0.0, 700.0, 350.0]), np.array([0.0, 300.0, 700.0])
    for ramp in bench.ramps:
        for head, frame in (
            (products.old_head(ramp), bench.products.sky_subtracted(ramp)),
            (products.head(ramp), products.sky_subtracted(ramp)),
        ):
            cards = headfile.read_head(head)
            assert cards["CTYPE1"] == "RA---TPV"
            told = fitsfile.header_wcs(cards).all_pix2world(x, y, 0)
            meant = pixel_to_sky(fitsfile.header_wcs(fitsfile.read_image(frame)[1]), x, y)
            # 1e-7 degrees: 0.4 mas, the exactness of the conversion from SIP to TPV
            np.testing.assert_allclose(told, meant, rtol=0, atol=1e-7)
    assert not list(products.root.rglob("*.part"))


def test_shift_leaves_a_frame_alone_that_it_cannot_find(subtracted, tmp_path):
    bench, _ = subtracted
    folder = tmp_path / "C2_sub"
    shutil.copytree(bench.products.subtracted(CHIP), folder)
    empty = folder / bench.products.sky_subtracted(bench.ramps[2]).name
    data, header = fitsfile.read_image(empty)
    noise = np.random.RandomState(3).normal(0, header["SKYNOISE"], data.shape)
    fitsfile.write_image(empty, noise.astype(np.float32), header)
    content = empty.read_bytes()
    result = steps.shift(folder, "J", bench.config)
    assert [name for name, _ in result.lost] == [empty.name]
    assert "not found" in result.lost[0][1]
    assert empty.read_bytes() == content
    assert not empty.with_suffix(".head").exists()
    assert len(result.made) == RAMPS - 1


def test_shift_turns_by_a_right_angle_when_the_header_lies(subtracted, tmp_path):
    bench, _ = subtracted
    for ramp in bench.ramps[:2]:
        path = bench.products.sky_subtracted(ramp)
        data, header = fitsfile.read_image(path)
        header["ROTOFF"] = 48.0 + 180.0
        fitsfile.write_image(tmp_path / path.name, data, header)
    result = steps.shift(tmp_path, "J", bench.config)
    assert len(result.made) == 2
    assert all(numbers["rms_arcsec"] < 0.3 for numbers in result.numbers.values())


def test_shift_without_a_catalogue_aligns_the_frames(subtracted, tmp_path):
    bench, _ = subtracted
    folder = tmp_path / "C2_sub"
    shutil.copytree(bench.products.subtracted(CHIP), folder)
    result = steps.shift(folder, "J", load(None, {"input": {"catalog": "none"}}))
    assert len(result.made) == RAMPS
    assert "aligned to" in result.notes[0]
    positions = []
    stars = truth_of(bench)
    stars = stars[(stars["Jmag"] > 12.5) & (stars["Jmag"] < 14.5)]
    for path in result.made:
        wcs = fitsfile.header_wcs(fitsfile.read_image(path)[1])
        _, sources = ldac.read_ldac(path.with_suffix(".cat"))
        ra, dec = pixel_to_sky(wcs, sources["x"], sources["y"])
        order = np.argsort(-np.asarray(sources["flux"]))[:60]
        positions.append(np.stack([ra[order], dec[order]], axis=1) * 3600)
    tree = cKDTree(positions[0])
    for other in positions[1:]:
        distance, _ = tree.query(other, distance_upper_bound=1.0)
        found = np.isfinite(distance)
        # Dithers of 60 arcsec leave at least 0.7 squared of a frame of 380 in common; of the 60
        # brightest about half.
        assert found.sum() > 15
        # Two centroids with errors of 0.03 arcsec per axis each, and the fit
        assert np.median(distance[found]) < 0.1


def test_a_catalogue_that_is_not_there_is_an_error(subtracted, tmp_path):
    bench, _ = subtracted
    shutil.copy(bench.products.sky_subtracted(bench.ramps[0]), tmp_path)
    with pytest.raises(MissingInput, match="absent.fits"):
        steps.shift(tmp_path, "J", load(None, {"input": {"catalog": "absent.fits"}}))


def test_the_band_must_be_right(subtracted, tmp_path):
    bench, _ = subtracted
    shutil.copy(bench.products.sky_subtracted(bench.ramps[0]), tmp_path)
    result = steps.shift(tmp_path, "H", bench.config)
    assert not result.made
    assert "band J in its header, not H" in result.lost[0][1]


def test_the_real_scamp(shifted, require_program, tmp_path):
    require_program("source-extractor", "sextractor", "sex")
    require_program("scamp")
    bench, products, _ = shifted
    folder = tmp_path / "C2_sub"
    shutil.copytree(products.subtracted(CHIP), folder)
    for old in (*folder.glob("*.head"), *folder.glob("*.cat")):
        old.unlink()
    result = steps.scamp(folder, "J", bench.config)
    assert not result.lost
    assert len(result.made) == RAMPS
    x, y = np.array([350.0, 100.0]), np.array([350.0, 650.0])
    for head in result.made:
        ours = fitsfile.header_wcs(fitsfile.read_image(head.with_suffix(".fits"))[1])
        theirs = fitsfile.header_wcs(headfile.read_head(head)).all_pix2world(x, y, 0)
        # Both err by the catalogue's 0.08 arcsec over sqrt(n / terms), n about 50: 0.04 each and
        # axis, five of them
        np.testing.assert_allclose(
            np.stack(theirs) * 3600, np.stack(pixel_to_sky(ours, x, y)) * 3600, rtol=0, atol=0.3
        )


def test_the_real_astrometry_net(shifted, require_program, tmp_path):
    require_program("solve-field")
    require_program("build-astrometry-index")
    bench, products, _ = shifted
    path = products.sky_subtracted(bench.ramps[0])
    shutil.copy(path, tmp_path)
    words = ["-input", str(tmp_path), "-output", str(tmp_path / "net"), "-quiet"]
    catalog = ["-catalog", bench.config.input.catalog]
    assert main(["astrom", "net", *words, *catalog]) == 0
    made = tmp_path / "net" / path.with_suffix(".new").name
    data, header = fitsfile.read_image(made)
    np.testing.assert_array_equal(data, fitsfile.read_image(path)[0])
    x, y = np.array([380.0]), np.array([380.0])
    ours = pixel_to_sky(fitsfile.header_wcs(fitsfile.read_image(path)[1]), x, y)
    theirs = fitsfile.header_wcs(header).all_pix2world(x, y, 0)
    # The matched stars of astrometry.net, 20 or more, err by 0.08 arcsec per axis
    np.testing.assert_allclose(
        np.stack(theirs) * 3600, np.stack(ours) * 3600, rtol=0, atol=5 * 0.08
    )


@pytest.mark.parametrize(
    ("words", "program"),
    [
        ("astrom astromatic -path {frames} -band J", "source-extractor"),
        ("astrom net -input {frames} -output {out}", "solve-field"),
    ],
)
def test_programs_that_are_not_installed(subtracted, words, program, capsys, monkeypatch, tmp_path):
    bench, _ = subtracted
    monkeypatch.setenv("PATH", str(tmp_path))
    frames = bench.products.subtracted(CHIP)
    assert main(words.format(frames=frames, out=tmp_path / "out").split()) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"{program}: not installed")
    assert told.count("\n") == 1


# ---------------------------------------------------------------- the chain by its commands


def test_the_commands_make_the_same(shifted, tmp_path):
    """The chain as a user types it leaves what the functions made, bit by bit."""
    bench, products, _ = shifted
    root, flats = tmp_path / "obs", bench.flats
    shutil.copytree(bench.products.ramps(CHIP), root / "C2")
    for words in (
        "astrom angle -input {0}/C2 -output {0}/C2_astrom",
        f"process flatfield -in_path {{0}}/C2_astrom -out_path {{0}}/C2_FF -flat_path {flats}",
        "process gensky -in_path {0}/C2_FF -sky_path {0}/sky",
        "process skysub -in_path {0}/C2_FF -out_path {0}/C2_sub -sky_path {0}/sky",
        f"astrom shift -dir {{0}}/C2_sub -band J -catalog {bench.config.input.catalog}",
    ):
        assert main([*words.format(root).split(), "-quiet"]) == 0
    again = replace(products, root=root)
    assert again.sky(bench.ramps).read_bytes() == bench.sky.read_bytes()
    for ramp in bench.ramps:
        one, two = products.sky_subtracted(ramp), again.sky_subtracted(ramp)
        assert two.read_bytes() == one.read_bytes()
        assert again.head(ramp).read_text() == products.head(ramp).read_text()


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        (lambda folder, config: steps.place(folder, folder, config), r"\*\.ramp\.fits"),
        (lambda folder, config: steps.flatten(folder, folder, folder, config), r"\*\.ramp\.new or"),
        (lambda folder, config: steps.make_sky(folder, folder, config), r"\*\.flat\.fits"),
        (lambda folder, config: steps.shift(folder, "J", config), r"\*\.sky\.flat\.fits"),
    ],
)
def test_an_empty_folder_says_what_should_be_there(tmp_path, step, wanted):
    with pytest.raises(MissingInput, match=wanted):
        step(tmp_path, Config())
    with pytest.raises(MissingInput, match="no such folder"):
        step(tmp_path / "nowhere", Config())


def test_sky_subtracted_frames_are_not_taken_for_flat_fielded(subtracted, tmp_path):
    bench, _ = subtracted
    shutil.copy(bench.products.sky_subtracted(bench.ramps[0]), tmp_path)
    with pytest.raises(MissingInput, match="no \\*.flat.fits"):
        steps.make_sky(tmp_path, tmp_path, bench.config)


# ---------------------------------------------------------------- stack


def test_a_stack_of_solved_frames(shifted, tmp_path):
    bench, products, _ = shifted
    parent = tmp_path / "obs"
    config = load(
        None,
        {
            "select": {"ramps": "1:", "exclude": str(bench.ramps[4])},
            "substacks": {"growing": True, "frames": 2},
            "run": {"exptime_map": True},
        },
    )
    result = steps.stack(products.subtracted(CHIP), parent, config)
    ramps = bench.ramps[1:4]
    out = replace(products, root=parent)
    assert result.made == [
        *(out.coadd(ramps), out.weight(ramps)),
        *(out.coadd(ramps, "inc002"), out.weight(ramps, "inc002")),
        out.exposure(ramps),
    ]
    assert result.lost == []
    assert [name for name, _ in result.left_out] == [str(bench.ramps[0]), str(bench.ramps[4])]
    header = fits.getheader(out.coadd(ramps), 1)
    assert [header[f"FRAM{k:04d}"] for k in (1, 2, 3)] == [str(ramp) for ramp in ramps]
    assert fits.getheader(out.coadd_wcs(ramps))["CRVAL1"] == header["CRVAL1"]
    seconds = fits.getdata(out.exposure(ramps))
    assert seconds.max() == pytest.approx(header["EXPTIME"], rel=1e-6)
    # Stars stand where the truth has them: a frame's own fit is good to 0.06", a stack of three
    # to half of that; a bright star's own centroid is better.
    data = fits.getdata(out.coadd(ramps)).astype(np.float32)
    weight = fits.getdata(out.weight(ramps))
    noise = 1.4826 * np.median(np.abs(data[weight > 0]))
    found = find_sources(data, (weight == 0).astype(np.uint8), noise, 18, config.sources)
    stars = truth_of(bench)
    stars = stars[(np.asarray(stars["Jmag"]) > 13) & (np.asarray(stars["Jmag"]) < 16)]
    wcs = fitsfile.header_wcs(header)
    _, _, distance = nearest_source(found, wcs, stars)
    assert distance.size > 10
    assert np.median(distance) * PIXEL_SCALE_ARCSEC < 0.1


def test_frames_that_are_not_solved_are_not_stacked(subtracted, tmp_path):
    bench, _ = subtracted
    result = steps.stack(bench.products.subtracted(CHIP), tmp_path, bench.config)
    assert not result.made
    assert len(result.lost) == RAMPS
    assert all("astrom shift" in reason for _, reason in result.lost)
    assert main(["process", "stack", "-in_path", str(bench.products.subtracted(CHIP))]) == 1


def test_process_stack_by_the_header(shifted, tmp_path, capsys):
    _, products, _ = shifted
    folder = products.subtracted(CHIP)
    words = ["process", "stack", "-in_path", str(folder), "-parent", str(tmp_path)]
    begins = [fits.getheader(path)["MJD-BEG"] for path in sorted(folder.glob("*.fits"))]
    after = f"MJD-BEG:>{0.5 * (begins[1] + begins[2]):.6f}"
    assert main([*words, "-header_filter", after, "-no_compress"]) == 0
    [path] = tmp_path.glob("stack/coadd.*.fits")
    assert fits.getheader(path)["NCOMBINE"] == RAMPS - 2
    told = capsys.readouterr().err
    assert told.count("left out") >= 2
    assert main([*words, "-exclude", "01500000-01999999"]) == 2
    assert "no ramp of 5 is left" in capsys.readouterr().err
    assert main([*words, "-engine", "astromatic"]) == 2


def test_a_sky_of_chosen_frames(flattened, tmp_path, capsys):
    bench, _ = flattened
    words = ["-in_path", str(bench.products.flattened(CHIP)), "-sky_path", str(tmp_path)]
    assert main(["process", "gensky", *words, "-rampnum", "4"]) == 0
    [path] = tmp_path.iterdir()
    assert fits.getheader(path)["NCOMBINE"] == 4
    assert "left out by -rampnum 4" in capsys.readouterr().err
