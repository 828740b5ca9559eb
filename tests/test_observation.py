"""The main command from the archive to the stacks, on real servers, at full size and in windows."""

import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from photometrus.arrivals import Request
from photometrus.config import load
from photometrus.io import external, ldac
from photometrus.io.stackfile import stem
from photometrus.pipeline import reduce_folder, reduce_observation
from photometrus.products import JOURNAL, Products, RampId
from photometrus.simulate.night import SimulateConfig, simulate_night
from servers import ssh_server, web_server

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import accuracy  # noqa: E402
from judge.catalog import read_catalog  # noqa: E402
from judge.magnitudes import measure_catalog  # noqa: E402
from judge.stack import read_stack  # noqa: E402
from judge.truth import read_truth  # noqa: E402

NIGHT = date(2024, 6, 6)
CHIPS = (1, 2, 3, 4)


def command(*arguments: str, environment: dict[str, str] | None = None):
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "photometrus", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        timeout=900,
        check=False,
    )


def pipeline(parent: Path, archive: str, night: Path, *more: str, environment=None):
    """The seed document's command on a simulated night."""
    return command(
        *("pipeline", "-parent", str(parent), "-target", "field1111", "-date", "20240606"),
        *("-band", "J", "-archive", archive, "-catalog", str(night / "refcat_2mass.fits")),
        *("-flat_dir", str(night / "flats"), *more),
        environment=environment,
    )


TELL_TIME = ("run.json", "config.toml", "report.html", JOURNAL)
"""Products that tell when, and by which command, they were made."""


def science(night: Path, n: int) -> list[RampId]:
    """The serials (on chip 1) of the target's ramps, from the truth."""
    exposures = json.loads((night / "truth" / "meta.json").read_text())["chips"]["1"]["exposures"]
    return [RampId(int(exposure["num"]), 1) for exposure in exposures][:n]


def assert_tree(parent: Path, ramps: list[RampId], *, keep: str = "all", chips=CHIPS) -> None:
    """Every product is there under exactly its name, and nothing half-written."""
    products = Products(parent, "J")
    wanted = {products.run_record, products.config, products.html_report}
    wanted |= {parent / "ramp_fit_log_2024-06-06.dat", parent / "ramp_fit_log_2024-06-06.clean.dat"}
    wanted.add(parent / JOURNAL)
    for chip in chips:
        mine = [ramp.on_chip(chip) for ramp in ramps]
        wanted |= {products.sky(mine), products.coadd(mine), products.coadd_wcs(mine)}
        wanted |= {products.weight(mine), products.stack_flags(mine), products.page(mine)}
        wanted |= {products.ramp(ramp) for ramp in mine}
        if keep == "all":
            for make in ("placed", "flat_fielded", "sky_subtracted", "flags", "sources", "head",
                         "old_head"):  # fmt: skip
                wanted |= {getattr(products, make)(ramp) for ramp in mine}
    found = {path for path in parent.rglob("*") if path.is_file()}
    assert found == wanted


def assert_fits(files: list[Path], fitsverify: str) -> None:
    """No error by fitsverify; its two warnings are LDAC's own column name with blanks."""
    for path in files:
        out = subprocess.run([fitsverify, str(path)], capture_output=True, text=True, check=False)
        assert "and 0 error(s)" in out.stdout, f"{path.name}: {out.stdout[-800:]}"


@pytest.fixture(scope="session")
def full_night(tmp_path_factory) -> Path:
    """A night of four full-size chips, nine ramps each, in J."""
    return simulate_night(tmp_path_factory.mktemp("full") / "night", SimulateConfig(seed=11))


@pytest.fixture(scope="session")
def small_night(tmp_path_factory) -> Path:
    """The windows of 1024 pixels of four chips, five ramps each, rather crowded."""
    config = SimulateConfig(size=1024, ramps=5, seed=3, density="bulge", rotoff="junk")
    return simulate_night(tmp_path_factory.mktemp("small") / "night", config)


@pytest.fixture(scope="session")
def small_reduction(small_night, tmp_path_factory) -> Path:
    """The small night reduced serially, fetched from a web server."""
    parent = tmp_path_factory.mktemp("serial") / "field1111"
    with web_server(small_night) as server:
        done = pipeline(parent, server.url, small_night)
    assert done.returncode == 0, done.stderr
    return parent


# ---------------------------------------------------------------- full size


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_full_size_from_sshd(full_night, tmp_path, require_program):
    parent = tmp_path / "field1111"
    with ssh_server(tmp_path / "ssh", require_program("sshd")) as server:
        done = pipeline(parent, server.url(full_night), full_night, environment=server.environment)
    assert done.returncode == 0, done.stderr + done.stdout
    ramps = science(full_night, 9)
    assert_tree(parent, ramps)
    keep = [*parent.glob("stack/*[!g]"), *parent.glob("sky/*"), *parent.glob("C2*/*1?C2.*[!d]")]
    assert_fits([path for path in keep if path.is_file()], require_program("fitsverify"))
    numbers = accuracy.measure(parent, full_night / "truth", 1)
    assert accuracy.check(numbers) == []
    shutil.rmtree(parent)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_full_size_over_http_with_three_broken_ramps(full_night, tmp_path):
    archive = tmp_path / "archive"
    shutil.copytree(full_night, archive, copy_function=os.link)
    truncated, absent, empty = (
        ramp.on_chip(chip)
        for ramp, chip in zip(science(full_night, 9)[1:4], (1, 3, 2), strict=True)
    )
    folder = archive / "nfs/xion4/prime/Data/reramp"

    def replace(ramp: RampId, content: bytes | None) -> None:
        path = folder / f"C{ramp.chip}" / f"{ramp}.fits.ramp"
        whole = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content or whole[: len(whole) // 2])

    replace(truncated, b"")
    replace(absent, None)
    path = folder / "C2" / f"{empty}.fits.ramp"
    with fits.open(path) as hdus:
        hdus[0].data[:] = np.nan
        path.unlink()
        hdus.writeto(path)

    parent = tmp_path / "field1111"
    with web_server(archive) as server:
        done = pipeline(parent, server.url, full_night, "-keep", "final")
    assert done.returncode == 3, done.stderr + done.stdout
    record = json.loads((parent / "run.json").read_text())
    lost = {
        frame["frame"]: frame["reason"]
        for chip in record["chips"].values()
        for frame in chip["frames"]
        if frame["lost"]
    } | {entry["frame"]: entry["reason"] for entry in record["missing"]}
    assert set(lost) == {str(truncated), str(absent), str(empty)}
    assert "truncated" in lost[str(truncated)]
    assert "unusable" in lost[str(empty)]
    for name in lost:
        assert name in done.stdout + done.stderr
    assert len(list(parent.glob("stack/coadd.*.fits.fz"))) == 4
    assert not list(parent.glob("C?_sub"))
    listed = (parent / "failed_downloads_list.txt").read_text()
    assert str(absent) in listed
    shutil.rmtree(parent)


@pytest.fixture(scope="session")
def development_chip(shared_data, tmp_path_factory) -> Path:
    """The full-size development chip, reduced."""
    data, parent = shared_data / "dev_full", tmp_path_factory.mktemp("development") / "p"
    done = command(
        *("pipeline", "-parent", str(parent), "-target", "field1111", "-date", "20240606"),
        *("-band", "J", "-chip", "3", "-archive", str(data), "-astromnet"),
        *("-catalog", str(data / "refcat_2mass.fits"), "-flat_dir", str(parent.parent / "flats")),
    )
    assert done.returncode == 0, done.stderr
    return parent


@pytest.mark.slow
def test_development_chip_at_full_size(development_chip, shared_data, tmp_path, require_program):
    data = shared_data / "dev_full"
    numbers = accuracy.measure(development_chip, data / "truth", 3, data / "refcat_2mass.fits")
    assert accuracy.check(numbers) == []
    # astrometry.net solved the full-size stack with an index built from the catalogue; whichever
    # solution was kept passes the check above.
    record = json.loads((development_chip / "run.json").read_text())
    notes = " ".join(record["chips"]["C3"]["notes"])
    require_program("solve-field")
    assert "astrometry.net" in notes
    assert "solved" in notes or "its solution was taken" in notes
    # The real SCAMP reads every .cat as it is.
    catalogs = sorted((development_chip / "C3_sub").glob("*.cat"))
    copies = [Path(shutil.copy(path, tmp_path)) for path in catalogs]
    require_program("scamp")
    table = Table.read(data / "refcat_2mass.fits")
    reference = Table(
        {
            "ra_deg": table["RAJ2000"],
            "dec_deg": table["DEJ2000"],
            "pos_err_arcsec": np.full(len(table), 0.1),
            "pm_ra_mas_yr": np.zeros(len(table)),
            "pm_dec_mas_yr": np.zeros(len(table)),
            "epoch_yr": np.full(len(table), 2000.0),
            "mag": table["Jmag"],
            "mag_err": table["e_Jmag"],
        }
    )
    solutions = external.scamp(copies, reference)
    assert all(solution.trusted for solution in solutions)
    # A catalogue with 0.1" of scatter per axis; SCAMP quotes the rms of the bright matched stars.
    assert all(max(solution.rms_arcsec) < 0.25 for solution in solutions)


@pytest.mark.slow
@pytest.mark.parametrize("stars", ["deep", "2mass"])
def test_photometry_of_the_development_chip(development_chip, shared_data, stars):
    data = shared_data / "dev_full"
    transient = json.loads((data / "truth" / "meta.json").read_text())["transient"]
    (stack,) = (development_chip / "stack").glob("coadd.*73.C3.fits*")
    done = command(
        *("photometry", "-filepath", str(stack), "-catalog", str(data / f"refcat_{stars}.fits")),
        *("-magsys", "native", "-grb_ra", str(transient["ra"]), "-grb_dec", str(transient["dec"])),
        *("-no_plots", "-no_completeness"),
    )
    assert done.returncode == 0, done.stderr
    truth = read_truth(data / "truth", 3)
    published = read_catalog(stack.with_name(f"{stem(stack)}.local.ecsv"), truth.band, 0.0)
    numbers = measure_catalog(published, truth, read_stack(development_chip, 3))
    limits = {
        "psf.bright.rms": (None, 0.010),
        "aper.bright.rms": (None, 0.010),
        "psf.snr_10_20.offset": (-0.02, 0.02),
        "aper.snr_10_20.offset": (-0.02, 0.02),
    }
    if stars == "deep":
        limits |= {"psf.bright.offset": (-0.005, 0.005)}
    else:
        limits |= {"psf.zero_point_pull": (-1.0, 1.0)}
    assert accuracy.check(numbers, limits) == []
    (row,) = Table.read(stack.with_name("GRB_J_C3_Data_local_01599131.ecsv"))
    assert abs(row["JpsfMag"] - transient["mag"]) < 2 * row["JpsfMag_Err"]


def test_development_windows(shared_data, tmp_path):
    data = shared_data / "dev_small"
    config = load(
        None,
        {
            "input": {
                "archive": str(data),
                "catalog": str(data / "refcat_2mass.fits"),
                "flat_dir": str(tmp_path / "flats"),
            }
        },
    )
    request = Request("GRB240825A", date(2024, 8, 25), "H", CHIPS, tmp_path / "p")
    observation = reduce_observation(request, config)
    assert observation.complete, observation
    for chip in CHIPS:
        numbers = accuracy.measure(tmp_path / "p", data / "truth", chip)
        limits = dict(accuracy.WINDOW)
        if numbers["transient"]["on_chip"] is not True:
            del limits["transient.missed"]
        assert accuracy.check(numbers, limits) == []
    # Each window has some 30 catalogue stars: too few for scale, rotation and distortion of its
    # own. All four have them in common.
    assert all(any("all chips" in note for note in one.notes) for one in observation.chips)


# ---------------------------------------------------------------- windows


def test_small_tree_and_record(small_reduction, small_night, require_program):
    ramps = science(small_night, 5)
    assert_tree(small_reduction, ramps)
    other = {".json", ".toml", ".dat", ".head", ".png", ".html", ".log"}
    files = [path for path in small_reduction.rglob("*") if path.suffix not in other]
    files = [path for path in files if path.is_file()]
    assert_fits(files, require_program("fitsverify"))
    record = json.loads((small_reduction / "run.json").read_text())
    assert set(record["chips"]) == {"C1", "C2", "C3", "C4"}
    for chip in record["chips"].values():
        assert (small_reduction / chip["page"]).is_file()
        assert len(chip["frames"]) == 5
        assert [frame["used"] for frame in chip["frames"]].count(False) == 1  # the bad frame


def test_headers_tell_time_exposure_and_provenance(small_reduction, small_night):
    [path] = small_reduction.glob("stack/coadd.*.C1.fits.fz")
    header = fits.getheader(path, 1)
    frames = [header[f"FRAM{k:04d}"] for k in range(1, header["NCOMBINE"] + 1)]
    ramps = [fits.getheader(small_reduction / "C1" / f"{name}.ramp.fits") for name in frames]
    assert header["EXPTIME"] == pytest.approx(sum(ramp["EXPTIMEE"] for ramp in ramps))
    middle = np.mean([0.5 * (ramp["MJD-BEG"] + ramp["MJD-END"]) for ramp in ramps])
    # The header's times have 8 decimals of a day: 1 ms.
    assert header["MJD-AVG"] == pytest.approx(middle, abs=2e-8)
    for key in ("OBJECT", "FILTER1", "FILTER2", "CHIP", "OBSERVER", "OBJNAME", "OBJTYPE"):
        assert key in header
    assert header["PIPELINE"].startswith("photometrus ")
    assert WCS(header).wcs.ctype[0] == "RA---TAN"


def test_bad_pixels_do_not_reach_the_stack(small_reduction):
    for path in small_reduction.glob("stack/coadd.*.fits.fz"):
        data = fits.getdata(path)
        weight = fits.getdata(str(path).replace("coadd", "weight").replace(".fits.fz", ".fits"))
        assert np.isfinite(data).all()
        assert np.isfinite(weight).all()
        assert (data[weight == 0] == 0).all()
        # Nothing of 65535, or of its ringing, is left: the brightest stars of the simulator
        # reach a few thousand ADU per frame.
        assert data.max() < 30000


def test_parallel_gives_the_same_bits(small_night, small_reduction, tmp_path):
    parent = tmp_path / "field1111"
    done = pipeline(parent, str(small_night), small_night, "-parallel")
    assert done.returncode == 0, done.stderr
    serial = {p.relative_to(small_reduction): p for p in small_reduction.rglob("*") if p.is_file()}
    parallel = {p.relative_to(parent): p for p in parent.rglob("*") if p.is_file()}
    assert set(serial) == set(parallel)
    for name in set(serial) - {Path(name) for name in TELL_TIME}:
        assert serial[name].read_bytes() == parallel[name].read_bytes(), name


def test_swarp_reads_our_heads(small_reduction, tmp_path, require_program):
    require_program("SWarp", "swarp")
    images = sorted((small_reduction / "C2_sub").glob("*.sky.flat.fits"))[:2]
    header = fits.getheader(next(small_reduction.glob("stack/weight.*.C2.fits")))
    external.swarp(images, tmp_path / "out.fits", tmp_path / "w.fits", grid=header)
    theirs = fits.getdata(tmp_path / "out.fits")
    ours = fits.getdata(next(small_reduction.glob("stack/coadd.*.C2.fits.fz")))
    assert theirs.shape == ours.shape
    places = [stars_of(image) for image in (ours, theirs)]
    distance, nearest = cKDTree(places[1]).query(places[0], distance_upper_bound=2.0)
    found = np.isfinite(distance)
    assert found.sum() > 50
    # The same stars on the same pixels. Two frames against four: centroids of stars of S/N 50
    # agree to 0.02 pixel each, their median to 0.02 / sqrt(50).
    offset = places[0][found] - places[1][nearest[found]]
    assert np.abs(np.median(offset, axis=0)).max() < 0.03


def stars_of(image: np.ndarray) -> np.ndarray:
    """Windowed centroids (x, y) of the bright stars of a stack."""
    data = np.ascontiguousarray(image, dtype=np.float32)
    data = data - sep.Background(data, mask=data == 0).back()
    noise = 1.4826 * np.median(np.abs(data[image != 0]))
    found = sep.extract(data, 20.0, err=noise, minarea=9)
    x, y, _ = sep.winpos(data, found["x"], found["y"], 1.5)
    return np.stack([x, y], axis=1)


def test_engine_astromatic(small_night, tmp_path, require_program):
    for name in (("source-extractor", "sex"), ("scamp",), ("SWarp", "swarp")):
        require_program(*name)
    done = pipeline(
        tmp_path / "p", str(small_night), small_night, "-engine", "astromatic", "-chip", "2"
    )
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "p").glob("stack/coadd.*.C2.fits.fz")
    wcs = WCS(fits.getheader(path, 1))
    data = fits.getdata(path)
    assert data.shape == fits.getdata(next((tmp_path / "p").glob("stack/weight.*"))).shape
    reference = Table.read(small_night / "refcat_2mass.fits")
    x, y = wcs.all_world2pix(reference["RAJ2000"], reference["DEJ2000"], 0)
    bright = (reference["Jmag"] > 12) & (reference["Jmag"] < 14)
    inside = bright & (x > 20) & (y > 20) & (x < data.shape[1] - 20) & (y < data.shape[0] - 20)
    peaks = [
        data[int(b) - 3 : int(b) + 4, int(a) - 3 : int(a) + 4].max()
        for a, b in zip(x[inside], y[inside], strict=True)
    ]
    # Stars stand where the catalogue says: far above the noise, nearly all of them.
    noise = 1.4826 * np.median(np.abs(data[data != 0] - np.median(data[data != 0])))
    assert np.mean(np.array(peaks) > 10 * noise) > 0.9
    _, sources = ldac.read_ldac(next((tmp_path / "p" / "C2_sub").glob("*.cat")))
    assert len(sources) > 100


def test_without_a_catalogue_the_frames_are_aligned_to_each_other(
    small_night, small_reduction, tmp_path
):
    config = load(None, {"input": {"catalog": "none", "flat_dir": str(small_night / "flats")}})
    shutil.copytree(small_reduction / "C4", tmp_path / "C4")
    observation = reduce_folder(tmp_path, "J", [4], config)
    [result] = observation.chips
    assert not result.error
    assert any("pointing" in note for note in result.notes)
    with_catalog = json.loads((small_reduction / "run.json").read_text())["chips"]["C4"]
    # Aligned: stars of different frames fall on each other as well as with a catalogue.
    assert (
        result.numbers["internal_rms_arcsec"]
        < 1.2 * (with_catalog["numbers"]["internal_rms_arcsec"])
    )


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_few_frames(small_night, small_reduction, tmp_path, n_frames):
    (tmp_path / "C3").mkdir()
    ramps = sorted((small_reduction / "C3").iterdir())
    for path in [ramps[0], ramps[1], ramps[3]][:n_frames]:  # the third is the bad frame
        shutil.copy(path, tmp_path / "C3")
    config = load(
        None,
        {
            "input": {
                "catalog": str(small_night / "refcat_2mass.fits"),
                "flat_dir": str(small_night / "flats"),
            }
        },
    )
    [result] = reduce_folder(tmp_path, "J", [3], config).chips
    assert not result.error
    assert result.numbers["n_frames"] == n_frames
    assert any("smooth sky" in note for note in result.notes) == (n_frames < 3)


def test_without_a_page_there_is_none_of_another_stack(small_night, small_reduction, tmp_path):
    shutil.copytree(small_reduction / "C4", tmp_path / "C4")
    page = Products(tmp_path, "J").page([ramp.on_chip(4) for ramp in science(small_night, 5)])
    page.parent.mkdir()
    page.touch()
    report = Products(tmp_path, "J").html_report
    report.touch()
    config = load(
        None,
        {
            "run": {"pages": False},
            "input": {"catalog": "none", "flat_dir": str(small_night / "flats")},
        },
    )
    [result] = reduce_folder(tmp_path, "J", [4], config).chips
    assert not result.error
    assert result.page is None
    assert not page.exists()
    assert not report.exists()


def test_wrong_rotator_is_found_among_the_stars(tmp_path):
    night = simulate_night(
        tmp_path / "night",
        SimulateConfig(size=2048, chips=(3,), ramps=4, seed=5, rotoff="wrong", bad_frame=False),
    )
    done = pipeline(tmp_path / "p", str(night), night, "-chip", "3")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "p/run.json").read_text())["chips"]["C3"]
    assert any("rotator" in note for note in record["notes"])
    assert all(frame["level"] == "full" for frame in record["frames"])


def test_a_flat_is_made_from_the_science_frames_when_there_is_none(
    small_night, small_reduction, tmp_path
):
    shutil.copytree(small_reduction / "C1", tmp_path / "C1")
    catalog = str(small_night / "refcat_2mass.fits")
    config = load(None, {"input": {"catalog": catalog, "flat_dir": str(tmp_path / "empty")}})
    [result] = reduce_folder(tmp_path, "J", [1], config).chips
    assert not result.error
    assert any("science frames" in note for note in result.notes)
