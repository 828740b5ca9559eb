"""Ramps that arrive while the chips before are reduced: from a web server that waits for them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from photometrus.simulate.night import SimulateConfig, simulate_night
from servers import web_server

WAIT_S = 240.0


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """Windows of two chips, three ramps each."""
    config = SimulateConfig(
        size=512, chips=(1, 2), ramps=3, flats=2, seed=5, density="bulge", bad_frame=False,
        satellite=False,
    )  # fmt: skip
    return simulate_night(tmp_path_factory.mktemp("arrivals") / "night", config)


def words(night: Path, parent: Path, archive: str, *more: str) -> list[str]:
    return [
        *("pipeline", "-parent", str(parent), "-target", "field1111", "-date", "20240606"),
        *("-band", "J", "-chip", "1,2", "-archive", archive, "-keep", "final", "-no_plots"),
        *("-catalog", str(night / "refcat_2mass.fits"), "-flat_dir", str(night / "flats"), *more),
    ]


def is_ramp(path: str, chip: int) -> bool:
    return path.endswith(".ramp") and f"C{chip}." in path


def stacks(parent: Path) -> dict[str, str]:
    """Digests of stacks and skies, by name."""
    found = [path for folder in ("stack", "sky") for path in (parent / folder).glob("*")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def run(words: list[str]) -> int:
    """The command in a process of its own; its exit code.

    Not in this one: a kernel that another test has called with other types serves these, too, and
    rounds in another way.
    """
    return subprocess.run([sys.executable, "-m", "photometrus", *words], check=False).returncode


@pytest.fixture(scope="module")
def serial(night, tmp_path_factory) -> dict[str, str]:
    """The products of a run whose second chip could not arrive before the first was done."""
    parent = tmp_path_factory.mktemp("serial") / "field1111"
    waited: list[bool] = []

    def hold(path: str) -> None:
        if is_ramp(path, 2) and len(waited) < 3:  # its FLATs come after them
            waited.append(until(lambda: list(parent.glob("stack/coadd.*.C1.fits.fz"))))

    # The kernels are compiled first, which may take longer than a silent server is waited for.
    assert run(words(night, parent.with_name("first"), str(night))) == 0
    with web_server(night) as server:
        server.before = hold
        assert run(words(night, parent, server.url)) == 0
    assert len(waited) == 3
    assert all(waited)
    return stacks(parent)


def until(true) -> bool:
    """Wait until it is so; whether it became so."""
    never = threading.Event()
    for _ in range(int(WAIT_S / 0.05)):
        if true():
            return True
        never.wait(0.05)
    return False


def test_a_chip_is_reduced_before_the_next_has_arrived(serial):
    assert len([name for name in serial if name.startswith("coadd")]) == 4


def test_the_same_bytes_as_when_all_is_on_disk(night, serial, tmp_path):
    parent = tmp_path / "field1111"
    assert run(["getdata", *words(night, parent, str(night))[1:13]]) == 0
    more = ("-no_download", "-parallel", "-workers", "2")
    assert run(words(night, parent, str(night), *more)) == 0
    assert stacks(parent) == serial


def recorded(parent: Path) -> dict:
    """The chips of the record; none before there is one."""
    path = parent / "run.json"
    return json.loads(path.read_text())["chips"] if path.exists() else {}


@pytest.mark.skipif(sys.platform != "linux", reason="process groups")
def test_interrupted_while_one_is_reduced_and_another_arrives(night, serial, tmp_path):
    parent = tmp_path / "field1111"
    go_on = threading.Event()

    def hold(path: str) -> None:
        if is_ramp(path, 2):
            go_on.wait(WAIT_S)

    with web_server(night) as server:
        server.before = hold
        with subprocess.Popen(
            [sys.executable, "-m", "photometrus", *words(night, parent, server.url)],
            start_new_session=True, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert until(lambda: "C1" in recorded(parent) or process.poll() is not None)
            os.killpg(process.pid, signal.SIGINT)
            go_on.set()
            told = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told
    assert not list(parent.rglob("*.part"))
    assert len(list(parent.glob("stack/coadd.*.fits.fz"))) == 1
