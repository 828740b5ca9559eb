"""A night of several fields and bands: stopped and gone on with, on a cluster whose worker dies."""

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import psutil
import pytest
from astropy.table import Table

from nights import fields, many_fields
from photometrus.arrivals import Material
from photometrus.cli import main
from photometrus.config import Config, load
from photometrus.distortion_store import MAX_ENTRIES, OWN, Entry, _entries, _write, give_back, lend
from photometrus.errors import MissingInput, UsageError
from photometrus.io.nightlog import parse_log
from photometrus.jobs import Job
from photometrus.night import NightRequest, parts_of
from photometrus.origin import changed
from photometrus.pipeline import _jobs
from photometrus.products import Products, RampId
from photometrus.resume import damage, recorded
from photometrus.selection import Choice
from test_cluster import running_cluster, wait_until

NIGHT = date(2024, 6, 6)
SMALL_BYTES = 20_000
"""Settings and paths are a few thousand; one frame of 100 x 100 pixels would be 40 000."""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Two fields in two bands, one chip's window of 768 pixels, three ramps each."""
    parts = fields(
        2, "JH", size=768, chips=(1,), ramps=3, flats=2, bad_frame=False, satellite=False
    )
    return many_fields(tmp_path_factory.mktemp("archive"), parts)


def words(archive: Path, root: Path, *more: str) -> list[str]:
    """The command."""
    return [
        *("night", "-date", "20240606", "-chip", "1", "-parent", str(root), "-quiet"),
        *("-archive", str(archive), "-catalog", str(archive / "refcat.fits"), "-no_plots"),
        *("-flat_dir", str(archive / "flats"), "-keep", "final", *more),
    ]


def products_of(root: Path) -> dict[str, Path]:
    """What was made, without what tells of the run."""
    return {
        str(path.relative_to(root)): path
        for path in root.rglob("*")
        if path.is_file() and path.name not in ("run.json", "config.toml", "night_20240606.ecsv")
    }


def assert_same(root: Path, other: Path) -> None:
    one, two = products_of(root), products_of(other)
    assert set(one) == set(two)
    for name in one:
        assert one[name].read_bytes() == two[name].read_bytes(), name


def records(root: Path) -> list[Path]:
    return sorted(root.glob("*/*/run.json"))


@pytest.fixture(scope="module")
def killed(archive, tmp_path_factory) -> tuple[Path, dict[Path, int]]:
    """A night that was killed after its second field; its stacks and when they were made."""
    root = tmp_path_factory.mktemp("killed") / "night"
    command = [sys.executable, "-m", "photometrus", *words(archive, root)]
    with subprocess.Popen(command, start_new_session=True) as process:
        wait_until(lambda: sum(map(done, records(root))) >= 2 or process.poll() is not None, 400)
        os.killpg(process.pid, signal.SIGKILL)
    stacks = {path: path.stat().st_mtime_ns for path in root.glob("*/*/stack/*") if whole(path)}
    return root, stacks


def whole(path: Path) -> bool:
    """A stack's file whose chip is in a record."""
    return path.suffix != ".part" and done(path.parents[1] / "run.json")


def done(record: Path) -> bool:
    """Whether a record is of an observation that is finished."""
    return json.loads(record.read_text())["state"] == "done"


@pytest.fixture(scope="module")
def resumed(archive, killed) -> Path:
    """The same, gone on with to its end."""
    root, _ = killed
    assert main(words(archive, root)) == 0
    return root


def test_what_is_done_is_not_done_again(killed, resumed):
    root, before = killed
    assert len(before) in (8, 12)  # 4 files per stack; a third may have been done meanwhile
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(root.glob("*/*/stack/coadd.*.fits.fz"))) == 4
    assert not list(root.rglob("*.part"))
    assert not list(root.glob(".night*"))


def test_the_table(resumed):
    table = Table.read(resumed / "night_20240606.ecsv")
    assert list(table["target"]) == ["field1111", "field2222"] * 2
    assert list(table["band"]) == ["J", "J", "H", "H"]
    assert set(table["state"][:2]) == {"as before"}
    assert table["state"][3] == "done"
    assert (table["chips"] == table["chips_asked"]).all()
    assert (table["frames_used"] == 3).all()
    assert (table["lost"] == 0).all()
    assert str(table["seeing_arcsec"].unit) == "arcsec"
    # The simulator's seeing is 1.2 to 1.7 arcsec, the pixels and the optics make it no sharper.
    assert ((table["seeing_arcsec"] > 1.1) & (table["seeing_arcsec"] < 2.1)).all()
    for folder in table["folder"]:
        assert len(list((resumed / folder / "stack").glob("coadd.*.C1.fits.fz"))) == 1
        assert (resumed / folder / "ramp_fit_log_2024-06-06.clean.dat").is_file()


def test_flats_are_made_once_for_a_band(archive, resumed):
    assert sorted(path.name for path in (archive / "flats").glob("mflat.*")) == [
        "mflat.H.20240606.C1.fits",
        "mflat.J.20240606.C1.fits",
    ]


def test_another_time_nothing_is_done(archive, resumed):
    before = {path: path.stat().st_mtime_ns for path in resumed.glob("*/*/*/*")}
    assert len(before) > 30
    assert main(words(archive, resumed)) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert set(Table.read(resumed / "night_20240606.ecsv")["state"]) == {"as before"}


def test_on_a_cluster_whose_worker_dies_the_products_are_the_same(archive, resumed, tmp_path):
    """Scheduler and workers started separately; one is killed while it reduces a chip."""
    root = tmp_path / "night"
    with running_cluster(tmp_path, 2) as (file, workers):
        command = words(archive, root, "-scheduler", str(file), "-band", "J")
        with subprocess.Popen([sys.executable, "-m", "photometrus", *command]) as process:
            wait_until(lambda: list(root.glob("*/*/sky")), 400)
            nanny = psutil.Process(workers.pid)
            busy = [p for p in nanny.children(recursive=True) if "spawn_main" in str(p.cmdline())]
            max(busy, key=lambda p: sum(p.cpu_times()[:2])).kill()
            assert process.wait(400) == 0
    for name in ("field1111_20240606", "field2222_20240606"):
        assert_same(resumed / name / "J", root / name / "J")
    table = Table.read(root / "night_20240606.ecsv")
    assert set(table["state"]) == {"done"}


# ---------------------------------------------------------------- which chip is done already


@pytest.fixture
def job(archive, resumed) -> Job:
    """The chip of the first field."""
    return job_of(archive, resumed, load(None, settings(archive)))


def settings(archive: Path, **run: object) -> dict[str, dict[str, object]]:
    given = {"catalog": str(archive / "refcat.fits"), "flat_dir": str(archive / "flats")}
    return {"input": given, "run": {"keep": "final", "pages": False, **run}}


def job_of(archive: Path, root: Path, config: Config) -> Job:
    products = Products(root / "field1111_20240606" / "J", "J")
    choice = Choice({1: products.ramps_on_disk(1)})
    return _jobs(Material(products, choice, NIGHT), config)[1]


def test_only_paths_and_settings_travel(job):
    [result] = recorded(job.products).values()
    assert len(pickle.dumps(job.elsewhere())) < SMALL_BYTES
    assert len(pickle.dumps(result)) < SMALL_BYTES


def test_a_record_gives_back_the_result(job):
    [result] = recorded(job.products).values()
    entry = json.loads(job.products.run_record.read_text())["chips"]["C1"]
    assert result.made_from == job.made_from()
    assert set(result.made) == set(job.products.root.glob("s*/*"))
    assert result.coadd == job.products.coadd(job.ramps)
    assert [verdict.frame for verdict in result.verdicts] == [str(ramp) for ramp in job.ramps]
    assert result.numbers["seeing_arcsec"] == entry["numbers"]["seeing_arcsec"]
    assert result.field_fit.n_reference == entry["field_fit"]["n_reference"]


def test_what_changes_the_stack_is_told(archive, resumed, job):
    def change(**run: object) -> str:
        other = job_of(archive, resumed, load(None, settings(archive, **run)))
        return changed(job.made_from(), other.made_from())

    assert change(parallel=True, workers=3, threads=1, scheduler="tcp://a:1") == ""
    assert change(keep="all") == "run.keep final → all"
    fewer = replace(job, ramps=job.ramps[:2])
    assert changed(job.made_from(), fewer.made_from()).endswith("is no longer among them")
    [result] = recorded(job.products).values()
    stiff = replace(job, shared=result.field_fit).made_from()
    assert changed(job.made_from(), stiff) == ""
    assert stiff.shared != job.made_from().shared


def test_a_chip_without_its_stack_is_not_done(job, tmp_path):
    products = Products(tmp_path, "J")
    products.run_record.write_text(job.products.run_record.read_text())
    assert damage(recorded(products)[1], products).endswith("is gone")
    assert damage(recorded(job.products)[1], job.products) == ""
    products.run_record.write_text("{")
    assert recorded(products) == {}


def test_what_a_killed_run_was_writing_is_found(tmp_path):
    products = Products(tmp_path, "J")
    ramps = [RampId(1599131, 1), RampId(1599131, 2)]
    paths = [products.coadd([ramps[0]]), products.sky([ramps[0]]), products.head(ramps[0])]
    others = [products.coadd([ramps[1]]), products.head(ramps[1]), products.ramp(ramps[0])]
    for path in [*paths, *others]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.0123abcd.part").touch()
    found = {path.name.removesuffix(".0123abcd.part") for path in products.unfinished(1)}
    assert found == {path.name for path in paths}


# ---------------------------------------------------------------- what a night holds


LOG = """\
DATEBEG filename OBJNAME OBJTYPE OBSERVER CHIP FILTER1 FILTER2
2024-06-06T18:00:00 01599124C1.fits.ramp FLAT FLAT PRIME 1 Open J
2024-06-06T18:00:30 01599131C1.fits.ramp a OBJECT NASA 1 Open J
2024-06-06T18:01:00 01599138C1.fits.ramp all sky grid OBJECT OU 1 Open H
2024-06-06T18:01:30 01599145C1.fits.ramp a OBJECT NASA 1 Open H
2024-06-06T18:02:00 01599152C1.fits.ramp a OBJECT nasa 1 Open J
2024-06-06T18:02:30 01599159C1.fits.ramp b OBJECT OU 1 Dark Dark
"""


def parts(**asked: object) -> list[tuple[str, str, int]]:
    request = NightRequest(NIGHT, Path(), (1,), **asked)
    return [(p.target, p.band, len(p.ramps)) for p in parts_of(parse_log(LOG), request)]


def test_a_night_is_its_fields_in_its_bands():
    assert parts() == [("a", "J", 2), ("all_sky_grid", "H", 1), ("a", "H", 1)]
    assert parts(targets=("all sky grid",)) == [("all_sky_grid", "H", 1)]
    assert parts(bands=("J",)) == [("a", "J", 2)]
    assert parts(observer="Nasa") == [("a", "J", 2), ("a", "H", 1)]


def test_what_a_night_does_not_have_is_said():
    with pytest.raises(UsageError, match="'c': not in night log"):
        parts(targets=("a", "c"))
    with pytest.raises(MissingInput, match="no OBJECT ramps of a Z"):
        parts(targets=("a",), bands=("Z",))


# ---------------------------------------------------------------- distortions


def entry(night: str, first: str) -> Entry:
    return Entry(night, first, first, 3, 50, [[1.0]], [0.0])


def test_fields_of_a_night_do_not_see_each_other_but_later_nights_see_all(tmp_path):
    store, name = tmp_path / "store", "distortion.J.C1.json"
    store.mkdir()
    old = entry("2024-06-01", "01500000C1")
    _write(store / name, [old])
    new = [entry("2024-06-06", f"0159900{k}C1") for k in range(2)]
    for k in range(2):
        lend(store, tmp_path / str(k), "J")
        _write(tmp_path / str(k) / OWN / name, [old, new[k]])
    lend(store, tmp_path / "0", "J")  # a second time: what is there stays
    for k in range(2):
        assert _entries(tmp_path / str(k) / name) == [old]
        assert _entries(tmp_path / str(k) / OWN / name) == [old, new[k]]
        give_back(tmp_path / str(k), store)
        give_back(tmp_path / str(k), store)
    assert _entries(store / name) == [old, *new]
    # One that contradicts what was stored stands in its place, beside those of its own night.
    lend(store, tmp_path / "2", "J")
    third = entry("2024-06-06", "01599009C1")
    _write(tmp_path / "2" / OWN / name, [third])
    (store / f"{name}.0badcafe.part").touch()  # a run was killed while it wrote
    give_back(tmp_path / "2", store)
    assert _entries(store / name) == [*new, third]
    assert [path.name for path in store.glob("*.json*")] == [name]
    _write(store / name, [entry("2024-06-07", f"{k:08d}C1") for k in range(20)])
    assert len(_entries(store / name)) == MAX_ENTRIES
