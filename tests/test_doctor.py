"""What a visit to the doctor shows, and what it says where something is wrong."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from photometrus import kernels
from photometrus.cli import main
from photometrus.config import Config, InputConfig, RunConfig
from photometrus.doctor import installation, places, programs, services
from photometrus.io.catalogs import SURVEYS
from photometrus.products import flat_name
from photometrus.simulate.config import SimulateConfig
from photometrus.simulate.night import simulate_night


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """An archive with one tiny night."""
    root = tmp_path_factory.mktemp("night")
    return simulate_night(root, SimulateConfig(size=128, chips=(1,), ramps=1, flats=0))


@pytest.fixture
def nowhere(monkeypatch):
    """Every survey's service is a port of this machine where nobody listens."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"scs+http://127.0.0.1:{nobody.getsockname()[1]}/x?"
        for name in SURVEYS:
            monkeypatch.setenv(f"PHOTOMETRUS_VO_{name.upper()}", url)
        monkeypatch.delenv("PHOTOMETRUS_ARCHIVE", raising=False)
        yield url


# ---------------------------------------------------------------- the installation


def test_python_and_the_libraries_are_as_the_tests_need_them():
    assert installation.python().state == "ok"
    found = installation.libraries()
    assert found.state == "ok", found.words


def test_a_library_that_is_too_old_or_missing(monkeypatch):
    needs = ["numpy>=99", "nosuchlibrary>=1", "rich>=13", 'psycopg>=3; extra == "postgresql"']
    monkeypatch.setattr(installation, "requires", lambda name: needs)
    found = installation.libraries()
    assert found.state == "problem"
    assert re.search(r"numpy [\d.]+ is not >=99; nosuchlibrary is missing$", found.words)
    assert "pip install" in found.mend


def test_kernels_and_where_they_are_kept(tmp_path, monkeypatch):
    functions = list(installation.kernels_in(kernels))
    assert len(functions) > 50
    assert {function.__module__.split(".")[1] for function in functions} == {"kernels"}
    # A folder of its own, as numba is told before it is imported: nothing is compiled there.
    # Then one is.
    code = (
        "import numpy as np\nfrom photometrus.doctor import installation as i\n"
        "print(i.compiled())\n"
        "from photometrus.kernels.sorting import sort\nsort(np.ones(2), 2)\nprint(i.compiled())"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "jit")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    cold, warm = done.stdout.splitlines()
    assert "warning" in cold
    assert "none is compiled yet" in cold
    assert f"1 of {len(functions)} are compiled" in warm


# ---------------------------------------------------------------- places


def test_a_disk_with_room_and_a_folder_that_nobody_may_write(tmp_path):
    found = places.disk(tmp_path / "not" / "yet" / "there")
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    # Some GB may come and go between two looks.
    (told,) = re.findall(r"^([\d.]+) GB free", found.words)
    assert float(told) * 1e9 == pytest.approx(free, abs=3e9)
    closed = places.disk(Path("/proc/here"))
    assert closed.state == "problem"
    assert "-parent" in closed.mend


def test_a_small_disk(tmp_path):
    """A real one, of 8 MB, where mounting is allowed."""
    code = (
        "from pathlib import Path; from photometrus.doctor import places; "
        "print(places.disk(Path('disk')))"
    )
    mount = f'mount -t tmpfs -o size=8m none disk && {sys.executable} -c "{code}"'
    (tmp_path / "disk").mkdir()
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mount], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode != 0 and "mount" in done.stderr + done.stdout:
        pytest.skip(f"no mounting here: {done.stderr.strip()}")
    assert "state='problem'" in done.stdout
    assert "0.0 GB free" in done.stdout


def test_flats_by_band_and_chip(tmp_path):
    assert places.flats(tmp_path / "none", asked=True).state == "warning"
    for chip in (1, 2, 4):
        (tmp_path / flat_name("J", date(2024, 6, 6), chip)).touch()
    (tmp_path / flat_name("J", date(2024, 6, 9), 1)).touch()
    found = places.flats(tmp_path, asked=True)
    assert found.state == "ok"
    assert found.words.startswith("Z none, Y none, J C124 to 20240609, H none (")


def test_distortions_and_catalogues(tmp_path):
    for name in ("distortion.J.C1.json", "distortion.J.C3.json", "other.json"):
        (tmp_path / name).touch()
    assert places.distortions(tmp_path).words.startswith("J C13 (")
    assert places.distortions(None).state == "ok"
    (tmp_path / "2MASS.v1").mkdir()
    (tmp_path / "2MASS.v1" / "1.fits").touch()
    assert places.tiles(tmp_path).words.startswith("2MASS 1 tiles (")
    file = tmp_path / "file"
    file.touch()
    shut = places.tiles(file)
    assert shut.state == "warning"
    assert "not a folder" in shut.words


# ---------------------------------------------------------------- programs


def test_a_program_that_is_not_there(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    found = list(programs.examine(Config()))
    assert [one.state for one in found] == ["warning"] * 4
    assert "apt install source-extractor" in found[0].mend
    asked = list(programs.examine(Config(run=RunConfig(engine="astromatic"))))
    assert [one.state for one in asked] == ["problem"] * 3 + ["warning"]


def test_programs_that_are_there_tell_their_version(require_program):
    require_program("scamp")
    found = programs.program(("scamp",), "-engine astromatic", needed=False)
    assert found.state == "ok"
    assert re.match(r"\d+\.\d+\S* \(/", found.words)


def test_a_program_that_does_not_start(tmp_path, monkeypatch):
    broken = tmp_path / "scamp"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs.program(("scamp",), "-engine astromatic", needed=False).state == "problem"


def test_index_files(tmp_path):
    config = tmp_path / "astrometry.cfg"
    config.write_text(f"# comment\nadd_path {tmp_path}\nautoindex\n")
    assert programs.index_files(str(config)).state == "warning"
    (tmp_path / "index-01.fits").touch()
    assert programs.index_files(str(config)).words.startswith(f"1 in {tmp_path} (")
    assert programs.index_files(str(tmp_path / "none.cfg")).state == "problem"


# ---------------------------------------------------------------- archive and services


def test_an_archive_that_has_the_night(night):
    found = services.archive(str(night), date(2024, 6, 6))
    assert found.state == "ok"
    assert found.words.endswith("answers; it has the log of 2024-06-06")
    other = services.archive(str(night), date(2024, 6, 8))
    assert other.state == "warning"
    assert other.words.endswith("no log of 2024-06-08; the nearest with one: 2024-06-06")
    assert services.archive(str(night), None).state == "warning"  # none of these days


def test_no_archive_and_one_that_is_none(tmp_path, monkeypatch):
    monkeypatch.delenv("PHOTOMETRUS_ARCHIVE", raising=False)
    assert services.archive("", None).state == "warning"
    assert services.archive(str(tmp_path), None).state == "problem"
    assert services.archive("gopher://x", None).state == "problem"


def test_silence_is_waited_for_once(nowhere, monkeypatch):
    """A server that takes connections and says nothing costs the time that was given, not more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setenv("PHOTOMETRUS_VO_2MASS", f"scs+{url}x?")
        config = Config(input=InputConfig(archive=url))
        begun = time.monotonic()
        archive, catalogues = services.examine(config, None, 1.0)
        assert time.monotonic() - begun < 3.0  # 1 s, and what a busy machine adds
    assert (archive.state, archive.words) == ("problem", "no answer within 1 s")
    assert (catalogues.state, catalogues.words) == ("warning", "none of 2 hosts answers")


def test_a_service_that_answers_anything_is_there(nowhere, monkeypatch, tmp_path):
    from servers import web_server

    with web_server(tmp_path) as server:
        monkeypatch.setenv("PHOTOMETRUS_VO_2MASS", f"scs+{server.url}/no/such/path?")
        _, catalogues = services.examine(Config(), None, 5.0)
    assert catalogues.words.startswith("1 of 2 hosts answer; nobody gives ")
    assert "2MASS" not in catalogues.words


# ---------------------------------------------------------------- the command


def test_the_visit_in_words(nowhere, night, tmp_path, capsys):
    words = ["doctor", "-archive", str(night), "-date", "20240606", "-parent", str(tmp_path)]
    assert main(words) == 0
    told = capsys.readouterr().out
    for what in (
        "python",
        "libraries",
        "kernels",
        "memory",
        "disk",
        "flats",
        "distortions",
        "catalogues here",
        "archive",
        "catalogue services",
        "solve-field",
        "terminal",
    ):
        assert re.search(rf"^(ok|warning) +{what} ", told, re.M), what
    assert re.search(r"^ +-> give a file of stars with -catalog", told, re.M)
    assert "a reduction can begin; " in told


def test_the_visit_for_programs(nowhere, tmp_path, capsys):
    words = ["doctor", "-archive", str(tmp_path), "-json"]
    assert main(words) == 1
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["archive"]["state"] == "problem"
    assert found["archive"]["mend"]
    assert all(set(one) == {"what", "state", "words", "mend"} for one in found.values())
    assert all(one["mend"] for one in found.values() if one["state"] != "ok")


def test_quiet_tells_problems_only(nowhere, tmp_path, capsys):
    assert main(["doctor", "-archive", str(tmp_path), "-quiet"]) == 1
    told = capsys.readouterr()
    assert [line.split()[:2] for line in told.out.splitlines()] == [
        ["problem", "archive"], ["->", "try"],
    ]  # fmt: skip
    assert "1 problem to mend" in told.err


def test_offline_it_ends_in_seconds(tmp_path):
    """Without any network at all: a network namespace of its own, where that is allowed."""
    alone = ["unshare", "-rn"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0:
        alone = []
    env = {k: v for k, v in os.environ.items() if not k.startswith("PHOTOMETRUS_VO_")}
    begun = time.monotonic()
    done = subprocess.run(
        [*alone, sys.executable, "-m", "photometrus", "doctor", "-timeout", "3"],
        env=env, capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    # 3 s, and to import all that is looked at on a busy machine
    assert time.monotonic() - begun < 30
    assert done.returncode == 0, done.stdout
    if alone:
        assert re.search(r"warning +catalogue services none of \d+ hosts answers", done.stdout)
