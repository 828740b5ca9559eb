"""Disks that are full, or may not be written: real ones, small."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from photometrus.cli import main
from photometrus.config import Config, load
from photometrus.errors import StorageError
from photometrus.io.fz import fault
from photometrus.io.whole import free_bytes, make_folder, whole, write_text
from photometrus.products import Products, RampId
from photometrus.simulate.night import SimulateConfig, simulate_night
from photometrus.space import RAMP_BYTES, check_room

MB = 1_000_000


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A small window of one chip, three ramps of 0.64 MB."""
    config = SimulateConfig(
        size=400,
        chips=(1,),
        ramps=3,
        flats=2,
        density="bulge",
        bad_frame=False,
        satellite=False,
    )
    return simulate_night(tmp_path_factory.mktemp("archive") / "night", config)


@pytest.fixture
def small_disk(tmp_path):
    """Gives a function that mounts a file system of so many MB; skips where that is not allowed."""
    mounted = []

    def mount(size_mb: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no tmpfs may be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def words(archive: Path, parent: Path, *more: str) -> list[str]:
    return [
        *("pipeline", "-parent", str(parent), "-target", "field1111", "-date", "20240606"),
        *("-band", "J", "-chip", "1", "-archive", str(archive), "-catalog", "none", "-quiet"),
        *("-flat_dir", str(archive / "flats"), "-no_plots", *more),
    ]


def products(parent: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(parent)): path.read_bytes()
        for path in parent.rglob("*")
        if path.is_file() and path.name != "run.json"
    }


def test_too_little_room_is_said_before_anything_is_fetched(archive, small_disk, capsys):
    parent = small_disk(6) / "p"  # 2 MB of ramps and some 12 of products
    assert main(words(archive, parent)) == 1
    told = capsys.readouterr().err
    assert str(parent) in told
    for word in ("needed (2 MB ramps,", "6 MB free", "another -parent", "-keep final"):
        assert word in told
    assert sorted(path.suffix for path in parent.iterdir()) == [".dat", ".dat"]


def test_a_disk_that_fills_up_ends_the_run_and_more_room_lets_it_go_on(archive, small_disk):
    disk = small_disk(40)
    parent, ballast, calm = disk / "p", disk / "ballast", disk / "calm"
    assert main(words(archive, calm)) == 0
    expected = {name.replace("/calm", "/p"): content for name, content in products(calm).items()}
    command = [sys.executable, "-m", "photometrus", *words(archive, parent)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not Products(parent, "J").in_making(1).exists():
            time.sleep(0.01)
        fill(ballast)
        error = process.stderr.read()
        assert process.wait() == 1, error
    assert "cannot be written" in error
    assert "No space" in error or "space on disk" in error or "requested and" in error
    assert "type the same command to go on" in error
    assert "Traceback" not in error
    for path in parent.rglob("*"):
        assert path.suffix != ".part"
        if path.suffix in (".fits", ".fz", ".new", ".cat"):
            assert fault(path, all_units=True) is None
    ballast.unlink()
    assert main(words(archive, parent)) == 0
    found = products(parent)
    assert set(found) == set(expected)
    assert {name for name in found if found[name] != expected[name]} == set()


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def test_a_disk_that_may_not_be_written_is_said(archive, small_disk, capsys):
    disk = small_disk(6)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert main(words(archive, disk / "p")) == 1
    assert "Read-only file system" in capsys.readouterr().err
    with pytest.raises(StorageError, match="Read-only"), whole(disk / "file") as part:
        part.write_text("x")


def test_a_folder_that_cannot_be_is_said():
    nowhere = Path("/proc/photometrus")
    with pytest.raises(StorageError, match="choose another -parent"):
        make_folder(nowhere)
    with pytest.raises(StorageError, match="/proc/photometrus/file: cannot be written"):
        write_text(nowhere / "file", "x")


def test_a_file_that_fails_leaves_the_one_before(tmp_path, small_disk):
    path = small_disk(1) / "file"
    write_text(path, "before")
    with pytest.raises(StorageError, match="No space left"):
        write_text(path, "x" * 2 * MB)
    assert path.read_text() == "before"
    assert [one.name for one in path.parent.iterdir()] == ["file"]


def test_the_estimate_follows_what_is_kept(tmp_path, caplog):
    products = Products(tmp_path / "new", "J")
    ramps = {chip: [RampId(1598971 + 7 * k, chip) for k in range(9)] for chip in (1, 2, 3, 4)}

    def needed(config: Config, coming: int = 36) -> float:
        """GB, by the line that is told."""
        caplog.clear()
        with caplog.at_level("INFO", "photometrus"):
            check_room(products, ramps, config, coming=coming)
        return float(caplog.text.split("about ")[1].split(" GB")[0])

    final = load(None, {"run": {"keep": "final"}})
    maps = load(None, {"run": {"keep": "final", "depth_map": True}})
    assert free_bytes(products.root) > 12e9, "this test needs a disk with some room"
    ramp = RAMP_BYTES / 1e9
    # -keep all has three images per ramp more.
    assert needed(Config()) - needed(final) == pytest.approx(36 * 3 * ramp, abs=0.11)
    assert needed(final) - needed(final, 0) == pytest.approx(36 * ramp, abs=0.11)
    assert needed(maps) - needed(final) == pytest.approx(4 * 1.2 * ramp, abs=0.11)


def test_what_is_there_needs_no_room(tmp_path, caplog):
    products = Products(tmp_path, "J")
    ramps = [RampId(1598971, 1)]
    for path in (products.ramp(ramps[0]), products.sky(ramps), products.weight(ramps)):
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            os.truncate(file.fileno(), 500 * MB)
    with caplog.at_level("INFO", "photometrus"):
        check_room(products, {1: ramps}, load(None, {"run": {"keep": "final"}}))
    # The sky is there, and 500 of 600 MB of a weight map: 100 left, 210 for the stack, 70 small.
    assert "about 0.4 GB needed (0 MB ramps" in caplog.text
