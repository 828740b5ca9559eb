"""Parts of a stack and the maps beside it: which frames, what is in the files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from photometrus.cli import main
from photometrus.config import load
from photometrus.errors import UsageError
from photometrus.simulate.night import SimulateConfig, simulate_night
from photometrus.stackfiles import check_extras
from photometrus.stages.coadd import CoaddConfig, Layer, coadd, common_grid
from photometrus.stages.maps import depth_map, exposure_map
from photometrus.substacks import SubstackConfig, substacks
from photometrus.wcs import pointing_wcs, shifted

SCALE = 0.497


def parts(n, **config):
    return {part.name: part.frames for part in substacks(n, SubstackConfig(**config))}


# ---------------------------------------------------------------- which frames


def test_growing_stacks_end_before_the_whole():
    assert parts(12, growing=True) == {"inc005": tuple(range(5)), "inc010": tuple(range(10))}
    assert list(parts(10, growing=True)) == ["inc005"]
    assert parts(5, growing=True) == {}
    assert list(parts(4, growing=True, frames=1)) == ["inc001", "inc002", "inc003"]


@pytest.mark.parametrize("n", [2, 3, 8, 9])
def test_interleaved_stacks_share_no_frame_and_leave_none_out(n):
    both = parts(n, alternating=True)
    assert list(both) == ["alt1", "alt2"]
    assert sorted(both["alt1"] + both["alt2"]) == list(range(n))
    assert all(k % 2 == 0 for k in both["alt1"])
    assert len(both["alt1"]) - len(both["alt2"]) in (0, 1)


def test_nothing_is_made_that_was_not_asked_for():
    assert parts(20) == {}
    assert parts(1, alternating=True, growing=True, frames=1) == {}


@pytest.mark.parametrize(
    "asked",
    [
        {"substacks": {"growing": True}},
        {"substacks": {"alternating": True}},
        {"run": {"exptime_map": True}},
        {"run": {"depth_map": True}},
    ],
)
def test_only_the_native_engine_makes_them(asked):
    check_extras(load(None, asked))
    run = {**asked.get("run", {}), "engine": "astromatic"}
    with pytest.raises(UsageError, match="need -engine native"):
        check_extras(load(None, {**asked, "run": run}))
    check_extras(load(None, {"run": {"engine": "astromatic"}}))


# ---------------------------------------------------------------- maps


def flat_layer(wcs, shape=(120, 130), bad=None):
    bad = np.zeros(shape, np.uint8) if bad is None else bad

    def rows(y0, y1):
        pixels = np.full((y1 - y0, shape[1]), 5.0, np.float32)
        return pixels, bad[y0:y1].copy(), np.full_like(pixels, 0.25)

    return Layer(rows, shape, wcs, 1.3)


@pytest.mark.parametrize("config", [CoaddConfig(), CoaddConfig("median", pixel_area="jacobian")])
def test_the_exposure_is_that_of_the_frames_with_a_good_value(config):
    base = pointing_wcs(1, (150.0, -20.0), 48.0)
    bad = np.zeros((120, 130), np.uint8)
    bad[60:80, 40:60] = 1
    layers = [flat_layer(base), flat_layer(shifted(base, 9.9, 4.9)), flat_layer(base, bad=bad)]
    grid = common_grid([one.wcs for one in layers], [one.shape for one in layers], config)
    seconds = exposure_map(layers, [17.0, 20.0, 40.0], grid, config)
    # Each frame by itself says where it has a value.
    alone = [coadd([one], grid, config).weight > 0 for one in layers]
    wanted = 17.0 * alone[0] + 20.0 * alone[1] + 40.0 * alone[2]
    np.testing.assert_array_equal(seconds, wanted.astype(np.float32))
    assert set(np.unique(seconds)) == {0, 20, 37, 57, 77}


def noise(shape, seed=0):
    return np.random.RandomState(seed).normal(0, 1, shape).astype(np.float32)


def summed_squares(radius_pix, n=101):
    """Of the parts of pixels that are in a circle: how much of their variance a sum over it has."""
    x = (np.arange(9 * n) + 0.5) / n - 4.5
    inside = (x[:, None] ** 2 + x**2 <= radius_pix**2).reshape(9, n, 9, n)
    return (inside.mean(axis=(1, 3)) ** 2).sum()


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_the_depth_is_that_of_empty_apertures(factor):
    """Of white noise that is `factor` times what the weights say, with stars in it."""
    sigma = 3.0
    data = factor * sigma * noise((400, 500))
    data[20::60, 20::60] += 1e4
    weight = np.full(data.shape, sigma**-2, np.float32)
    weight[:, 250:] /= 4  # twice the error, which the noise follows
    data[:, 250:] *= 2
    depth, found = depth_map(data, weight, SCALE)
    # 200000 / 29 apertures that do not overlap: a percentile to 1.5 / sqrt(7000) = 2 %, and two of
    # them; a twelfth of a per cent of stars, each in 29 apertures, shift the median by 1 %.
    assert found == pytest.approx(factor, rel=0.06)
    # 9 x 9 points per pixel of the rim: right to some parts in a thousand.
    want = 5 * found * sigma * np.sqrt(summed_squares(1.5 / SCALE))
    np.testing.assert_allclose(depth[4:-4, 4:246], want, rtol=3e-3)
    np.testing.assert_allclose(depth[4:-4, 254:-4], 2 * want, rtol=3e-3)
    # The circle reaches 3.02 pixels: it must be on the stack wholly, corners of pixels included.
    assert np.isnan(depth[:3]).all()
    assert np.isnan(depth[:, -3:]).all()


def test_around_a_hole_there_is_no_depth():
    weight = np.ones((41, 41), np.float32)
    weight[20, 20] = 0
    before = weight.copy()
    depth, _ = depth_map(noise(weight.shape), weight, SCALE)
    assert np.isnan(depth[20, 17:24]).all()
    assert np.isfinite(depth[20, [15, 25]]).all()
    assert np.isfinite(depth[16, 24])
    np.testing.assert_array_equal(weight, before)


def test_a_stack_smaller_than_the_aperture_has_no_depth():
    depth, factor = depth_map(noise((5, 5)), np.ones((5, 5), np.float32), SCALE)
    assert np.isnan(depth).all()
    assert np.isnan(factor)


# ---------------------------------------------------------------- a real reduction


@dataclass(frozen=True)
class Reduced:
    """An observation with everything beside its stack."""

    parent: Path
    used: list[str]

    def stack(self, part: str = "") -> tuple[np.ndarray, fits.Header]:
        middle = f".{part}" if part else ""
        [path] = self.parent.glob(f"stack/coadd.Open-J.????????-????????{middle}.C3.fits.fz")
        return fits.getdata(path), fits.getheader(path, 1)

    def image(self, kind: str, part: str = "") -> tuple[np.ndarray, fits.Header]:
        middle = f".{part}" if part else ""
        [path] = self.parent.glob(f"stack/{kind}.Open-J.????????-????????{middle}.C3.fits")
        return fits.getdata(path), fits.getheader(path)


@pytest.fixture(scope="module")
def reduced(tmp_path_factory) -> Reduced:
    """A window of 1024 pixels, six ramps of which one is bad."""
    root = tmp_path_factory.mktemp("substacks")
    config = SimulateConfig(size=1024, chips=(3,), ramps=6, seed=4, density="sparse")
    night = simulate_night(root / "night", config)
    words = ["-target", "field1111", "-date", "20240606", "-band", "J", "-chip", "3"]
    words += ["-archive", str(night), "-flat_dir", str(root / "flats")]
    words += ["-catalog", str(night / "refcat_2mass.fits"), "-parent", str(root / "obs")]
    more = ["-keep", "final", "-increm", "-num", "2", "-alt", "-exptime_map", "-depth_map"]
    assert main(["pipeline", *words, *more]) == 0
    record = json.loads((root / "obs" / "run.json").read_text())["chips"]["C3"]
    used = [frame["frame"] for frame in record["frames"] if frame["used"]]
    assert len(used) == 5
    return Reduced(root / "obs", used)


WANTED = {"inc002": [0, 1], "inc004": [0, 1, 2, 3], "alt1": [0, 2, 4], "alt2": [1, 3]}


@pytest.mark.parametrize("part", WANTED)
def test_a_part_has_its_frames_and_the_grid_of_the_whole(reduced, part):
    whole, whole_header = reduced.stack()
    data, header = reduced.stack(part)
    names = [reduced.used[k] for k in WANTED[part]]
    assert [header[f"FRAM{k:04d}"] for k in range(1, header["NCOMBINE"] + 1)] == names
    share = len(names) / 5
    assert header["EXPTIME"] == pytest.approx(share * whole_header["EXPTIME"])
    assert header["GAIN"] == pytest.approx(share * whole_header["GAIN"])
    assert data.shape == whole.shape
    for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD2_2"):
        assert header[key] == whole_header[key]
    weight, weight_header = reduced.image("weight", part)
    assert weight_header["BUNIT"] == "adu-2"
    assert weight.max() < reduced.image("weight")[0].max()
    assert (data[weight == 0] == 0).all()
    # The same stars, sky and scale: what is left of the whole is its noise. Frames differ in their
    # seeing, so stars are left out: nine tenths of a sparse field are sky.
    both = (weight > 0) & (whole != 0)
    rest = (data - whole)[both]
    sigma = np.sqrt(1 / np.median(weight[both]))
    assert abs(np.median(rest)) < 0.05 * sigma
    assert 1.4826 * np.median(np.abs(rest)) < 1.2 * sigma


def test_interleaved_weights_add_up_to_the_whole(reduced):
    """Inverse variances add: where nothing was rejected, those of the parts to that of all."""
    total = reduced.image("weight", "alt1")[0] + reduced.image("weight", "alt2")[0]
    whole = reduced.image("weight")[0]
    seen = whole > 0
    same = np.isclose(total[seen], whole[seen], rtol=1e-5)
    assert same.mean() > 0.99


def test_what_was_made_is_in_the_record(reduced):
    record = json.loads((reduced.parent / "run.json").read_text())["chips"]["C3"]
    assert all((reduced.parent / path).is_file() for path in record["extras"])
    assert len(record["extras"]) == 2 * len(WANTED) + 2
    everything = {path.name for path in reduced.parent.glob("stack/*")}
    named = {Path(path).name for path in (*record["extras"], record["coadd"], record["weight"])}
    name = record["coadd"].split("/")[1]
    beside = {name.replace(".fits.fz", ".wcs"), name.replace("coadd", "flags"),
              name.replace("coadd", "qa").replace(".fits.fz", ".png")}  # fmt: skip
    assert everything - named == beside


def test_the_exposure_map_of_a_real_stack(reduced):
    seconds, header = reduced.image("exptime")
    weight, _ = reduced.image("weight")
    assert header["BUNIT"] == "s"
    assert seconds.max() == pytest.approx(header["EXPTIME"], rel=1e-6)
    np.testing.assert_array_equal(seconds > 0, weight > 0)
    frames = seconds / (header["EXPTIME"] / 5)
    np.testing.assert_allclose(frames, np.round(frames), atol=1e-4)
    assert set(np.unique(np.round(frames))) == {0, 1, 2, 3, 4, 5}


def test_the_depth_map_is_the_scatter_of_empty_apertures(reduced):
    depth, header = reduced.image("depth")
    assert header["BUNIT"] == "adu"
    # In the difference of the interleaved stacks there are no sources: its noise is known without
    # looking at the sky of the stack, from which the map's own factor comes.
    one, two = (reduced.stack(part)[0] for part in ("alt1", "alt2"))
    errors = [reduced.image("weight", part)[0] for part in ("alt1", "alt2")]
    seen = (errors[0] > 0) & (errors[1] > 0)
    variance = sum(np.where(seen, 1 / np.where(seen, weight, 1), 0) for weight in errors)
    both, factor = depth_map(one - two, np.where(seen, 1 / np.maximum(variance, 1e-9), 0), SCALE)
    # Both noises are of 36000 apertures: 1 % each. Faint stars and the sky's structure are in one
    # of them, stars of unequal seeing in the other: a twentieth.
    assert header["NOISEFAC"] == pytest.approx(factor, rel=0.05)
    # The depths of the two halves and of the whole are those of their frames: half the inverse
    # variance each, four times the variance in the difference.
    good = np.isfinite(depth) & np.isfinite(both) & (depth < 1.05 * np.nanmin(depth))
    assert good.sum() > 1e5
    assert np.median(both[good] / depth[good]) == pytest.approx(2, rel=0.08)
