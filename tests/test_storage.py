"""Disks that are full, fail, or may not be written: real ones, small; and who else is there.

Tests of what a command says hold its rows of docs/faults.md against it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faulttable import run, tell
from lockcase import holder
from photometrus import distortion_store
from photometrus.cli import main
from photometrus.config import Config, load
from photometrus.errors import StorageError
from photometrus.io.fz import fault
from photometrus.io.whole import free_bytes, make_folder, whole, write_text
from photometrus.products import JOURNAL, Products, RampId
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


@pytest.fixture
def failing_disk(tmp_path):
    """Gives a disk of 40 MB and a function that makes the kernel find an error on it.

    It is read-only from then on, also for files that are open: as with a cable, a controller or a
    block that goes bad.
    """
    image, folder = tmp_path / "disk.img", tmp_path / "failing"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(40 * MB)
    mount = ["mount", "-o", "loop,errors=remount-ro", str(image), str(folder)]
    for words in (["mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(image)], mount):
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            pytest.skip(f"no file system can be made here: {error}")
        if done.returncode:
            pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    words = ["findmnt", "-n", "-o", "SOURCE", str(folder)]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    trigger = Path("/sys/fs/ext4") / Path(found.stdout.strip()).name / "trigger_fs_error"
    yield folder, lambda: trigger.write_text("1")
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def calm(archive, tmp_path_factory) -> Path:
    """The observation reduced by a run that nothing disturbs."""
    parent = tmp_path_factory.mktemp("calm") / "p"
    said, code = run(*words(archive, parent))
    tell("there is room enough", said, code)
    return parent


def words(archive: Path, parent: Path, *more: str) -> list[str]:
    return [
        *("pipeline", "-parent", str(parent), "-target", "field1111", "-date", "20240606"),
        *("-band", "J", "-chip", "1", "-archive", str(archive), "-catalog", "none"),
        *("-flat_dir", str(archive / "flats"), "-no_plots", *more),
    ]


def products(parent: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(parent)): path.read_bytes()
        for path in parent.rglob("*")
        if path.is_file() and path.name not in ("run.json", JOURNAL)
    }


def assert_same(parent: Path, calm: Path) -> None:
    """All products have the bits of the undisturbed run, and there are no others."""
    found, expected = products(parent), products(calm)
    assert set(found) == set(expected)
    assert {name for name in found if found[name] != expected[name]} == set()


def begun(archive: Path, parent: Path) -> subprocess.Popen:
    """The real command, when it has begun to make the chip."""
    command = [sys.executable, "-m", "photometrus", *words(archive, parent)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not Products(parent, "J").in_making(1).exists():
        time.sleep(0.01)
    return process


def said_by(main_code: int, capsys) -> tuple[str, int]:
    """What a command in this process has said, and its exit code."""
    return "".join(capsys.readouterr()), main_code


def assert_no_half_file(parent: Path) -> None:
    assert not list(parent.rglob("*.part"))
    assert_whole(parent)


def assert_whole(parent: Path) -> None:
    for path in parent.rglob("*"):
        if path.suffix in (".fits", ".fz", ".new", ".cat"):
            assert fault(path, all_units=True) is None


# ---------------------------------------------------------------- a disk that is full


def test_too_little_room_is_said_before_anything_is_fetched(archive, small_disk, capsys):
    parent = small_disk(6) / "p"  # 2 MB of ramps and some 12 of products
    said, code = said_by(main(words(archive, parent)), capsys)
    tell("less room than is needed", said, code)
    assert str(parent) in said
    assert {path.suffix for path in parent.iterdir()} == {".dat", ".log"}


def test_a_disk_that_fills_up_ends_the_run_and_more_room_lets_it_go_on(archive, calm, small_disk):
    disk = small_disk(40)
    parent, ballast = disk / "p", disk / "ballast"
    with begun(archive, parent) as process:
        fill(ballast)
        error = process.communicate()[1]
    tell("the disk fills up while a chip is made", error, process.returncode)
    assert "No space" in error or "space on disk" in error or "requested and" in error
    assert_no_half_file(parent)
    ballast.unlink()
    assert run(*words(archive, parent))[1] == 0
    assert_same(parent, calm)


def test_a_disk_that_fills_up_while_ramps_come(archive, small_disk, capsys):
    parent = small_disk(1) / "p"  # for one ramp of the three
    getdata = ["getdata", *words(archive, parent)[1:13]]
    said, code = said_by(main(getdata), capsys)
    tell("the disk fills up while ramps come", said, code)
    assert_no_half_file(parent)


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


# ---------------------------------------------------------------- one that may not be written


def test_a_disk_that_may_not_be_written_is_said(archive, small_disk, capsys):
    disk = small_disk(6)
    (disk / "there").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    said, code = said_by(main(words(archive, disk / "p")), capsys)
    tell("the disk is read-only", said, code)
    said, code = said_by(main(words(archive, disk / "there")), capsys)
    tell("the disk is read-only, the folder is there", said, code)
    with pytest.raises(StorageError, match="Read-only"), whole(disk / "file") as part:
        part.write_text("x")


def test_a_disk_that_fails_while_a_chip_is_made(archive, calm, failing_disk):
    disk, fail = failing_disk
    parent = disk / "p"
    with begun(archive, parent) as process:
        fail()
        error = process.communicate()[1]
    fault = "the disk fails while a chip is made, and is read-only from then on"
    tell(fault, error, process.returncode)
    assert_whole(parent)
    # What was on it can be read: the rest is made elsewhere.
    elsewhere = disk.with_name("elsewhere")
    shutil.copytree(parent, elsewhere)
    assert run(*words(archive, elsewhere))[1] == 0
    assert_same(elsewhere, calm)


def test_a_store_of_flats_that_may_not_be_written(archive, small_disk, tmp_path, capsys):
    store = small_disk(6)
    subprocess.run(["mount", "-o", "remount,ro", str(store)], check=True)
    given = words(archive, tmp_path / "p", "-flat_dir", str(store))
    tell("the store of flats lacks one and may not be written", *said_by(main(given), capsys))


def test_a_store_of_distortions_that_may_not_be_written(small_disk, tmp_path, caplog):
    store, private = small_disk(1), tmp_path / ".distortions.J"
    subprocess.run(["mount", "-o", "remount,ro", str(store)], check=True)
    distortion_store.lend(store, private, "J")
    own = private / distortion_store.OWN / "distortion.J.C1.json"
    entry = {"night": "2024-06-06", "first": "01598971C1", "last": "01598985C1", "n_frames": 3,
             "n_reference": 100, "information": [[1.0]], "pull": [0.0]}  # fmt: skip
    own.write_text(json.dumps({"entries": [entry]}) + "\n")
    assert not distortion_store.give_back(private, store)
    tell("the store of distortions may not be written", caplog.text)
    subprocess.run(["mount", "-o", "remount,rw", str(store)], check=True)
    assert distortion_store.give_back(private, store)
    assert (store / own.name).read_text() == own.read_text()


def test_a_folder_that_may_not_be_written(archive, tmp_path, humble):
    parent = tmp_path / "p"
    parent.mkdir()
    parent.chmod(0o555)
    tell("a folder of somebody else's", *humble(*words(archive, parent)))


# ---------------------------------------------------------------- who else is there


def test_the_folder_of_a_killed_run_is_taken_over(archive, calm, tmp_path):
    parent = tmp_path / "p"
    with begun(archive, parent) as process:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    tell("the run before was killed", *run(*words(archive, parent)))
    assert_same(parent, calm)


def test_who_waits_goes_on_when_the_other_is_gone(archive, calm, tmp_path):
    parent = tmp_path / "p"
    shutil.copytree(calm, parent)
    command = [sys.executable, "-m", "photometrus", *words(archive, parent, "-wait")]
    with (
        holder(parent) as other,
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
    ):
        said = process.stderr.readline()
        assert "waiting" in said
        other.communicate("go\n")
        said += process.communicate()[1]
    tell("another run works in the folder, and -wait", said, process.returncode)


# ---------------------------------------------------------------- files


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
