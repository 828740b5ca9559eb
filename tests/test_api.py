"""The commands as functions: the same products, plain arguments, results that show themselves."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import nbformat
import numpy as np
import pytest
from astropy.time import Time
from nbclient import NotebookClient
from PIL import Image

import photometrus
from photometrus import api
from photometrus.api import values
from photometrus.api.progress import shown
from photometrus.cli import main
from photometrus.config import Config, load
from photometrus.errors import MissingInput, UsageError
from photometrus.sighting import Target
from photometrus.track import ChipResult, Verdict
from stackcase import SIDE, TRANSIENT, write_stack
from test_layers import HEAVY

FAST = {"photometry": {"plots": False, "completeness": False}}


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """A chip of 512 pixels, five ramps, one of them bad."""
    out = tmp_path_factory.mktemp("night") / "archive"
    told: list[tuple[str, int, int]] = []
    made = photometrus.simulate_night(
        out, size=512, chips=1, ramps=5, night="20240606", progress=lambda *what: told.append(what)
    )
    assert told == [("ramps", n, 9) for n in range(9)]  # 5 of the field and 4 FLATs
    return made


def settings(night: Path) -> dict[str, object]:
    return {"input.flat_dir": str(night / "flats"), "run": {"keep": "final"}}


@pytest.fixture(scope="module")
def observation(night, tmp_path_factory) -> photometrus.Observation:
    return photometrus.reduce_observation(
        parent=tmp_path_factory.mktemp("field1111"),
        target="field1111",
        date="20240606",
        band="J",
        archive=night,
        catalog=night / "refcat_2mass.fits",
        chips=[1],
        settings=settings(night),
    )


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A stack of known stars, with its catalogue; nobody writes beside it."""
    sky = write_stack(tmp_path_factory.mktemp("sky"))
    sky.paths["catalog"] = sky.catalog(sky.stack.parent / "stars.fits")
    return sky


# ---------------------------------------------------------------- the face


def test_import_brings_nothing_heavy():
    code = f"import photometrus, sys; dir(photometrus); print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_face_names_what_the_api_has():
    assert photometrus.__all__ == api.__all__
    assert set(photometrus.__all__) <= set(dir(photometrus))
    for name in photometrus.__all__:
        assert getattr(photometrus, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no attribute 'reduce_everything'"):
        photometrus.reduce_everything  # noqa: B018 - it is the asking that fails


# ---------------------------------------------------------------- reductions


def test_an_observation_is_as_the_command_makes_it(observation, night, tmp_path, capsys):
    words = ["pipeline", "-parent", str(tmp_path), "-target", "field1111", "-date", "20240606"]
    words += ["-band", "J", "-chip", "1", "-archive", str(night), "-keep", "final"]
    words += ["-catalog", str(night / "refcat_2mass.fits"), "-flat_dir", str(night / "flats")]
    assert main(words) == 0
    mine = observation.record.parent
    made = sorted(path.relative_to(mine) for path in mine.glob("*/*") if path.suffix != ".png")
    assert len(made) >= 10  # five ramps, a sky, and the four files of a stack
    for path in made:
        assert (tmp_path / path).read_bytes() == (mine / path).read_bytes(), path
    assert observation.complete
    assert json.loads(observation.record.read_text())["command"] == "photometrus.reduce_observation"


def test_an_observation_shows_itself(observation):
    html = observation._repr_html_()
    assert '<td style="text-align:right">4/5</td>' in html
    assert "coadd.Open-J.01598971-01598999.C1.fits.fz</td>" in html
    assert "01598985C1" in html and "cloud: transparency" in html
    assert repr(observation).endswith("C1.fits.fz>], 1 not in it>")


def test_a_chip_alone(observation, night, tmp_path):
    parent = Path(shutil.copytree(observation.record.parent, tmp_path / "field1111"))
    steps = set()
    chip = photometrus.reduce_chip(
        parent,
        "J",
        1,
        catalog=night / "refcat_2mass.fits",
        settings={**settings(night), "select.exclude": "01598985"},
        progress=lambda step, done, of: steps.add(step),
    )
    assert chip.coadd is not None and chip.coadd.is_file() and not chip.error
    assert sum(verdict.used for verdict in chip.verdicts) == 4
    assert {"C1 stars", "C1 coadd"} <= steps
    html = chip._repr_html_()
    assert html.count("in the stack") == 4 and "left out by -exclude" in html
    picture = photometrus.picture(chip)
    with Image.open(picture.save(tmp_path / "stack.png")) as image:
        assert image.format == "PNG" and image.width > 640
    assert picture._repr_png_()[0] == picture.png
    assert picture.title == "field1111 J C1: 4 frames, 69 s"  # 4 x 6 x 2.863 s


def test_a_night_and_its_log(night, tmp_path):
    table = photometrus.night_log("2024-06-06", "field1111", "J", archive=night)
    assert list(table["ramps"]) == [5]
    report = photometrus.reduce_night(
        date(2024, 6, 6),
        tmp_path,
        targets="field1111",
        bands="J",
        chips="1",
        archive=night,
        catalog="none",
        settings=settings(night),
    )
    assert list(report.table["chips"]) == [1]
    assert report.path.parent == tmp_path


def test_what_the_command_would_say(night, tmp_path):
    with pytest.raises(photometrus.PhotometrusError, match="did you mean|which has field1111"):
        photometrus.reduce_observation("feild1111", "20240606", "J", archive=night, parent=tmp_path)
    with pytest.raises(UsageError, match="unknown key 'clip_sgma'; did you mean 'clip_sigma'"):
        photometrus.load_config(settings={"sky.clip_sgma": 4})
    with pytest.raises(MissingInput, match="no ramps|no \\*.ramp.fits"):
        photometrus.reduce_folder(tmp_path, "J")
    with pytest.raises(UsageError, match="no 'chip'; did you mean 'chips'"):
        photometrus.simulate_night(tmp_path / "new", chip=1)
    (tmp_path / "mine.txt").write_text("not to be lost")
    with pytest.raises(UsageError, match="give an empty one"):
        photometrus.simulate_night(tmp_path)


# ---------------------------------------------------------------- measurements


def test_a_stack_is_measured(sky, tmp_path):
    folder = Path(shutil.copytree(sky.stack.parent, tmp_path / "stack"))
    ra, dec = sky.at(TRANSIENT)
    photometry = photometrus.measure_coadd(
        folder / sky.stack.name, ra=ra, dec=dec, name="GRB240606A", targets=[(ra, dec + 0.01)],
        catalog=sky.paths["catalog"], settings={**FAST, "photometry.magsys": "Vega"},
    )  # fmt: skip
    at, other = photometry.sightings
    assert at.verdict == "new" and other.target.name == "GRB240606A"
    # An error of the flux, and of the zero point, which is asked for to 0.02 mag: five of both.
    best = at.sources[0]
    assert abs(best["mag_psf"] - sky.transient_mag) < 5 * np.hypot(best["mag_psf_err"], 0.02)
    assert all(path.is_file() for path in photometry.made)
    html = photometry._repr_html_()
    assert "magnitudes: Vega" in html and "GRB240606A: " in html
    assert repr(photometry).startswith(f"<Photometry: stack {photometry.info.name}, sources ")


def test_a_light_curve(sky, tmp_path):
    folder = Path(shutil.copytree(sky.stack.parent, tmp_path / "stack"))
    ra, dec = sky.at(TRANSIENT)
    table = photometrus.light_curve(
        folder.parent, ra, dec, catalog=sky.paths["catalog"], settings=FAST, out=tmp_path,
        t0=datetime(2024, 6, 6, tzinfo=UTC),
    )  # fmt: skip
    assert list(table["detection"]) == [True]
    assert 0 < table["since_t0"][0] < 1
    assert (tmp_path / "lightcurve.target.ecsv").is_file()
    assert (tmp_path / "lightcurve.target.png").is_file()


def test_a_stack_as_arrays(sky):
    stack = photometrus.read_stack(str(sky.stack), band="J")
    assert stack.data.shape == stack.weight.shape == (SIDE, SIDE)
    assert f"{SIDE} x {SIDE}" in stack._repr_html_() and f"{SIDE} x {SIDE} pix" in repr(stack)
    assert photometrus.picture(stack).png.startswith(b"\x89PNG")


def test_a_chip_without_a_stack_says_why():
    with pytest.raises(MissingInput, match="C2: no stack: none of 9 ramps is usable"):
        photometrus.picture(ChipResult(2, error="none of 9 ramps is usable"))


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("given", [3, "3", [3], (3, 3), np.array([3])])
def test_chips_as_people_write_them(given):
    assert values.chips_of(given) == (3,)


def test_nights_and_moments_as_people_write_them():
    for given in ("20240606", "2024-06-06", date(2024, 6, 6), datetime(2024, 6, 6, 23)):
        assert values.night_of(given) == date(2024, 6, 6)
    mjd = Time("2024-06-06T18:00:00").mjd
    for given in ("2024-06-06T18:00:00", mjd, mjd + 2400000.5, datetime(2024, 6, 6, 18)):
        assert values.moment(given) == pytest.approx(mjd, abs=1e-8)
    assert np.isnan(values.moment(None))


def test_targets_as_people_write_them():
    one = Target("a", 15.0, -0.5, 120.0)
    found = values.targets_of("01:00:00", "-00:30:00", "2arcmin", "a", [one, (15, -0.5, "b", 5)])
    assert found == (one, one, Target("b", 15.0, -0.5, 5.0))
    assert values.targets_of(None, None, 4.0, "a", []) == ()
    for wrong, words in {
        (15.0, None): "both ra and dec",
        (400.0, 0.0): "ra 400.0: a right ascension is",
        (15.0, "north"): "dec 'north': expected degrees",
    }.items():
        with pytest.raises(UsageError, match=words):
            values.targets_of(*wrong, 4.0, "a", [])
    with pytest.raises(UsageError, match="target 'vega'"):
        values.targets_of(None, None, 4.0, "a", ["vega"])


def test_settings_lie_over_each_other(tmp_path):
    assert values.configured(None, None, {"input.archive": None}) == Config()
    file = tmp_path / "prime.toml"
    file.write_text("[sky]\nclip_sigma = 4\n[input]\narchive = 'here'\n")
    base = load(file)
    for given in (file, str(file), base):
        made = photometrus.load_config(given) if given is not base else base
        changed = values.configured(
            given, {"sky.min_frames": 4, "chip": {3: {"sky.clip_sigma": 6}}}, {"input.archive": "x"}
        )
        assert made == base
        assert changed.sky == replace(base.sky, min_frames=4)
        assert changed.for_chip(3).sky.clip_sigma == 6.0
        assert changed.input.archive == "x"
    assert base.input.archive == "here"
    with pytest.raises(UsageError, match="chip.7: PRIME has chips 1 to 4"):
        values.configured(base, {"chip.7.sky.clip_sigma": 6}, {})


# ---------------------------------------------------------------- what is seen


def test_nothing_is_told_where_nobody_looks(capfd):
    for tell in (True, False):
        with shown(tell) as progress:
            progress("sky", 1, 1)
            import logging

            logging.getLogger("photometrus.io").warning("lost")
    assert capfd.readouterr() == ("", "")


def test_what_comes_from_files_is_only_text():
    evil = "<script>alert(1)</script>"
    chip = ChipResult(1, verdicts=[Verdict(evil, used=False, reason=evil)], notes=[evil])
    html = photometrus.Observation([chip], Path(evil, "run.json"), notes=[evil])._repr_html_()
    for text in (html, chip._repr_html_()):
        assert "<script" not in text and "&lt;script&gt;" in text


def test_in_a_notebook_bars_move_and_go_away():
    """In a real kernel: what a saved notebook holds at the end."""
    book = nbformat.v4.new_notebook()
    cell = (
        "import threading, time\nfrom photometrus.api.progress import shown\n"
        "with shown(True) as tell:\n"
        "    for n in range(4):\n"
        "        other = threading.Thread(target=tell, args=('C1 <sky>', n, 3))\n"
        "        other.start(); other.join(); time.sleep(0.25)\n"
        "    assert 'C1 &lt;sky&gt; 2/3' in seen[-2], seen\n"
    )
    spy = (
        "import photometrus.api.progress as room\nseen = []\nnow = room.Cell._now\n"
        "def spied(self):\n    shown = now(self); seen.append(shown.html); return shown\n"
        "room.Cell._now = spied\n"
    )
    broken = "with shown(True) as tell:\n    raise KeyboardInterrupt\n"
    book.cells = [nbformat.v4.new_code_cell(text) for text in (spy, cell, broken)]
    client = NotebookClient(book, timeout=60, kernel_name="python3", allow_errors=True)
    client.execute()
    _, moved, stopped = (cell.outputs for cell in book.cells)
    assert [out.output_type for out in moved] == ["display_data"], moved
    assert moved[0].data["text/html"].startswith("<small>done in ")
    assert stopped[0].data["text/plain"].startswith("stopped after ")
