"""Memory that may be used: how it is said, what fits into it, and that a reduction stays in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from photometrus.cli import main
from photometrus.errors import UsageError
from photometrus.memory import FULL_PIXELS, Room, machine_bytes, read_size, room
from photometrus.simulate.night import SimulateConfig, simulate_night

GB = 10**9
SIZE = 512
N_RAMPS = 60


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4 * GB), ("800MB", 800 * 10**6), ("1.5 g", 1_500_000_000), ("2GiB", 2 << 30),
        ("50%", 4 * GB), ("100%", 8 * GB), ("3000000k", 3 * GB), ("1TB", 1000 * GB),
    ],
)  # fmt: skip
def test_sizes_as_people_write_them(text, size):
    assert read_size(text, 8 * GB) == size


@pytest.mark.parametrize("text", ["", "4", "GB", "-4GB", "0%", "120%", "4 pounds", "4GB5"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="expected"):
        read_size(text, 8 * GB)


def test_what_the_machine_has_is_within_its_memory():
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < machine_bytes() <= physical
    assert room("50%").total_bytes == machine_bytes() // 2
    assert room("").total_bytes == machine_bytes()


def test_more_memory_more_threads_and_chips():
    fits = [room(f"{gb}GB").threads(16) for gb in (2, 3, 4, 8, 64)]
    assert fits == sorted(fits)
    assert fits[0] >= 1
    assert fits[-1] == 16
    assert [room(f"{gb}GB").jobs(8) for gb in (1, 3, 64)] == [1, 2, 8]
    # A smaller chip needs less.
    assert Room(GB, FULL_PIXELS // 16).jobs(8) >= 1


@pytest.mark.parametrize("n_jobs", [1, 2, 4])
def test_what_is_said_to_fit_fits(n_jobs):
    there = Room(6 * GB, FULL_PIXELS)
    n_threads = there.threads(64, n_jobs) if n_jobs <= there.jobs(n_jobs) else 0
    assert n_threads == 0 or n_jobs * there.needed(n_threads) <= 6 * GB


def test_too_little_says_what_is_needed_and_the_way_out():
    with pytest.raises(UsageError, match=r"1\.00 GB of memory: a chip needs .* more -memory"):
        Room(GB, FULL_PIXELS).threads(2)
    with pytest.raises(UsageError, match=r"4 chips at once need .* fewer -workers"):
        Room(4 * GB, FULL_PIXELS).threads(2, 4)
    with pytest.raises(UsageError, match="run.memory = 'much'"):
        room("much")


@pytest.fixture(scope="module")
def observed(tmp_path_factory) -> Path:
    """A window of a chip in 60 ramps, on disk."""
    folder = tmp_path_factory.mktemp("memory")
    config = SimulateConfig(
        size=SIZE, chips=(1,), ramps=N_RAMPS, flats=2, seed=7, bad_frame=False, satellite=False
    )
    night = simulate_night(folder / "night", config)
    given = ("-date", "20240606", "-band", "J", "-target", "field1111", "-chip", "1")
    assert main(["getdata", *given, "-parent", str(folder / "tree"), "-archive", str(night)]) == 0
    # Blocks so small that they are as small with few ramps as with many.
    (folder / "small.toml").write_text("[sky]\nblock_mb = 1.0\n[coadd]\nblock_mb = 4.0\n")
    return folder


def peak_bytes(observed: Path, *more: str) -> int:
    """Peak resident memory of the reduction in a process of its own."""
    command = [
        *(sys.executable, "-m", "photometrus", "stack", "-parent", str(observed / "tree")),
        *("-band", "J", "-no_FF", "-no_plots", "-keep", "final", "-quiet", "-restart"),
        *("-catalog", str(observed / "night" / "refcat_2mass.fits"), *more),
    ]
    # Linux counts the memory of whoever starts a process as the process's own: here that may be
    # gigabytes of other tests, so a small process stands between.
    weigh = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
    weighed = [sys.executable, "-c", weigh, *command]
    return int(subprocess.run(weighed, check=True, stdout=subprocess.PIPE).stdout) * 1024


def test_flat_in_the_number_of_ramps_and_within_what_was_given(observed):
    small = ("-config", str(observed / "small.toml"), "-memory", "480MB")
    for which in (("-rampnum", "9"), ()):  # who compiles kernels takes 0.4 GB more
        peak_bytes(observed, *small, *which)
    few = peak_bytes(observed, *small, "-rampnum", "9")
    many = peak_bytes(observed, *small)
    kept = (N_RAMPS - 9) * SIZE**2 * 5
    # Whoever keeps the pixels of a frame and their flags, 5 bytes each, keeps 67 MB more. A block
    # of 16 rows of 51 frames more, data and weights, is 4 MB; the rest is tables.
    assert many - few < 0.4 * kept
    assert many < 480e6


def test_less_than_a_chip_needs_is_one_line(observed, capsys):
    given = ("-parent", str(observed / "tree"), "-band", "J")
    assert main(["stack", *given, "-memory", "200MB"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "GB of memory" in line]
    assert "a chip needs" in line
    assert main(["stack", *given, "-memory", "much"]) == 2
    assert "-memory 'much': expected memory" in capsys.readouterr().err
