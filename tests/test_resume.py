"""The same command again: what stands, what is made again and why, and what a kill leaves."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from astropy.io import fits

from photometrus.cli import main
from photometrus.origin import Origin, changed, plain, versions
from photometrus.products import Products
from photometrus.simulate.night import SimulateConfig, simulate_night

SIZE = 400
KILLS = Path(__file__).resolve().parents[1] / "benchmarks" / "kills.py"


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """A small window of one chip, three ramps."""
    config = SimulateConfig(
        size=SIZE,
        chips=(1,),
        ramps=3,
        flats=2,
        density="bulge",
        bad_frame=False,
        satellite=False,
    )
    return simulate_night(tmp_path_factory.mktemp("archive") / "night", config)


@pytest.fixture(scope="module")
def parent(archive, tmp_path_factory) -> Path:
    """The observation, reduced once; the tests go on with it in their order."""
    folder = tmp_path_factory.mktemp("reduced") / "p"
    assert again(archive, folder) == 0
    return folder


def again(archive: Path, parent: Path, *more: str) -> int:
    """The command: its exit code."""
    return main(
        [
            *("pipeline", "-parent", str(parent), "-target", "field1111", "-date", "20240606"),
            *("-band", "J", "-chip", "1", "-archive", str(archive), "-catalog", "none"),
            *("-flat_dir", str(archive / "flats"), "-keep", "final", "-no_plots", *more),
        ]
    )


def times(parent: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in parent.glob("s*/*")}


def bits(parent: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in parent.glob("s*/*")}


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_what_was_made_of_the_same_stands(archive, parent, capsys):
    before = times(parent)
    assert len(before) == 5  # sky, stack, weight, flags, WCS
    [ramp] = parent.glob("C1/01598971C1*")
    os.utime(ramp)  # another time, the same content
    assert again(archive, parent, "-threads", "1") == 0
    assert times(parent) == before
    assert "C1: made before of the same; -restart makes all again" in capsys.readouterr().out


def test_the_record_says_what_it_was_made_from(parent):
    record = json.loads((parent / "run.json").read_text())["chips"]["C1"]
    made_from = record["made_from"]
    assert made_from["settings"]["sky.clip_sigma"] == 3.0
    assert "photometry.survey" not in made_from["settings"]
    assert made_from["versions"] == versions()
    ramps = [name for name in made_from["inputs"] if name.startswith("ramp ")]
    assert ramps == ["ramp 01598971C1", "ramp 01598978C1", "ramp 01598985C1"]
    assert "flat mflat.J.20240606.C1.fits" in made_from["inputs"]
    stamp = made_from["inputs"][ramps[0]]
    assert stamp["bytes"] == (parent / "C1/01598971C1.ramp.fits").stat().st_size
    assert record["made"] == {
        str(path.relative_to(parent)): path.stat().st_size for path in parent.glob("s*/*")
    }


def test_another_setting_makes_it_again_and_says_so(archive, parent, capsys):
    before = bits(parent)
    assert again(archive, parent, "-no_FF") == 0
    told = said(capsys)
    assert "C1 is made again: flat mflat.J.20240606.C1.fits is no longer among them" in told
    assert "run.flat_field on → off" in told
    assert bits(parent) != before
    assert again(archive, parent) == 0
    assert "run.flat_field off → on" in said(capsys)
    assert bits(parent) == before


def test_a_product_that_is_gone_or_cut_off_makes_it_again(archive, parent, capsys):
    before = bits(parent)
    [weight] = parent.glob("stack/weight.*")
    os.truncate(weight, 2880)
    assert again(archive, parent) == 0
    assert f"C1 is made again: stack/{weight.name} changed" in said(capsys)
    assert bits(parent) == before
    weight.unlink()
    assert again(archive, parent, "-restart") == 0
    assert "again:" not in said(capsys)
    assert bits(parent) == before


def test_a_ramp_with_other_content_makes_it_again(archive, parent, capsys):
    path = parent / "C1/01598978C1.ramp.fits"
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[100, 100] += 1
    assert again(archive, parent, "-no_download") == 0
    assert "C1 is made again: ramp 01598978C1 changed" in said(capsys)
    assert again(archive, parent, "-no_download", "-exclude", "01598978") == 0
    assert "ramp 01598978C1 is no longer among them" in said(capsys)


def test_a_chip_that_was_in_the_making_is_not_believed(archive, parent, capsys):
    Products(parent, "J").in_making(1).touch()
    half = parent / "stack" / "coadd.Open-J.01598971-01598985.C1.fits.fz.0123abcd.part"
    half.touch()
    assert again(archive, parent, "-no_download", "-exclude", "01598978") == 0
    assert "C1 is made again: a run was stopped while it made it" in said(capsys)
    assert not half.exists()
    hidden = [path.name for path in parent.iterdir() if path.name.startswith(".")]
    assert hidden == []


THEN = Origin(
    {"photometrus": "1", "code": "a", "numpy": "2.0"},
    {"ramp 01598971C1": {"bytes": 1, "modified": 1, "content": "x"}},
    {"run.pages": True, "run.keep": "all", "sky.clip_sigma": 3.0, "input.catalog": "2MASS"},
)


def test_each_kind_of_change_is_named():
    def now(**change: object) -> str:
        return changed(THEN, replace(THEN, **change))

    assert now() == ""
    assert now(versions=THEN.versions | {"numpy": "2.1"}) == "numpy 2.0 → 2.1"
    assert now(versions=THEN.versions | {"code": "b"}) == "the code of photometrus changed"
    more = {"ramp 01598985C1": {"content": "y"}}
    assert now(inputs=THEN.inputs | more) == "ramp 01598985C1 is new"
    touched = {"ramp 01598971C1": {"bytes": 1, "modified": 2, "content": "x"}}
    assert now(inputs=touched) == ""
    assert now(settings=THEN.settings | {"sky.clip_sigma": 4.0}) == "sky.clip_sigma 3 → 4"
    many = dict.fromkeys("abcde", 0)
    assert now(settings=THEN.settings | many).endswith(" and 2 more")


def test_what_asks_for_less_makes_nothing_again():
    less = THEN.settings | {"run.pages": False, "run.keep": "final"}
    assert changed(THEN, replace(THEN, settings=less)) == ""
    assert changed(replace(THEN, settings=less), THEN) == "run.keep final → all, run.pages off → on"


def test_a_catalogue_that_did_not_answer_is_asked_again():
    silent = {"catalogue 2MASS": {"missing": "no network"}}
    offline = replace(THEN, inputs=THEN.inputs | silent)
    assert changed(offline, offline) == ""
    assert changed(offline, THEN) == "catalogue 2MASS did not answer then"


def test_settings_are_as_json_gives_them_back():
    settings = {"sky": {"clip_sigma": 3.0, "range": (1, 2)}, "one": ""}
    found = plain(settings)
    assert found == {"sky.clip_sigma": 3.0, "sky.range": [1, 2], "one": ""}
    assert json.loads(json.dumps(found)) == found


def test_killed_at_random_instants_the_bits_are_the_same(tmp_path):
    """The short form of benchmarks/kills.py, which does 200 on four chips."""
    words = [sys.executable, str(KILLS), "-work", str(tmp_path), "-kills", "5", "-chips", "1,2"]
    environment = os.environ | {"PHOTOMETRUS_DISTORTIONS": str(tmp_path / "run" / "distortions")}
    done = subprocess.run(
        [*words, "-size", str(SIZE)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'kills':" in done.stdout.splitlines()[-1]
