"""Imports go down the floors of docs/architecture.md, and what is slow is imported late."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "photometrus"
MODULES = sorted(SRC.rglob("*.py"))

FLOORS = [  # from the top down; rooms on one line do not import each other
    ["__main__", "api", "demo"],
    ["cli"],
    ["night", "warming"],
    ["doctor", "pipeline", "simulate", "steps"],
    ["arrivals", "jobs"],
    ["chip", "photometry", "serve"],
    ["astromatic", "distortion_store", "flats", "htmlreport", "ladder", "netrefine", "plots"],
    ["observation", "photometry_evidence"],
    ["evidence", "intermediate", "resume", "space", "stackfiles"],
    ["config", "report", "track"],
    ["lightcurve"],
    ["stages", "io"],
    ["adjustment", "distortion", "origin", "sighting"],
    ["calibration", "cluster", "optics", "reference", "selection"],
    ["epsf", "localcluster", "psfstars", "starfit", "substacks"],
    ["sourcetable"],
    ["frame", "groups", "pointspread", "wcs", "workers", "zerofit"],
    ["products"],
    ["cards", "kernels", "instrument", "memory", "systems"],
    ["passwords"],
    ["allocator", "compiled", "errors"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

LENT = {
    ("psfwidths", "widths"): {"Widths"},
    # A stage never imports a stage; these few types, settings and helpers are the exceptions.
    ("alone", "astrometry"): {"AstrometryConfig"},
    ("masks", "coadd"): {"CoaddConfig", "Grid", "Layer", "common_grid", "pixel_maps"},
    ("masks", "background"): {"smooth_mesh"},
    ("sky", "background"): {"Background", "BackgroundConfig", "Mask", "Rows", "smooth_mesh"},
    ("crowding", "background"): {"BackgroundConfig", "smooth_mesh"},
    ("detrend", "background"): {"BackgroundConfig", "smooth_mesh"},
    ("maps", "coadd"): {"CoaddConfig", "Grid", "Layer", "coadd"},
    ("quality", "coadd"): {"CoaddConfig"},
    ("empty", "background"): {"BackgroundConfig", "smooth_mesh"},
    ("detection", "empty"): {
        "FWHM_OF_SIGMA",
        "Empty",
        "EmptyConfig",
        "filtered",
        "find_empty",
        "full_size",
        "mesh",
        "seeing",
    },
    ("noise", "empty"): {"Empty", "EmptyConfig", "find_empty"},
    ("noise", "detection"): {"Detections"},
    ("growth", "detection"): {"Detections"},
    ("apertures", "detection"): {"Detections"},
    ("apertures", "growth"): {"GrowthCurve"},
    ("growth", "widths"): {"Widths", "measure_widths", "polynomial"},
    ("apertures", "noise"): {"Noise"},
    ("zeromodel", "calibrators"): {
        *("Colors", "ErrorCurve", "Measures", "Pairs", "colors", "first_of", "measures"),
    },
    ("zeropoint", "calibrators"): {"Pairs", "blend", "error_curve", "pair", "unfit"},
    ("zeropoint", "zeromodel"): {"Model", "Range", "fit_in_rounds", "flat_field"},
}
NOT_FOR = {
    # What a room must not know of, by the first word of an import.
    "stages": {"logging", "os", "pathlib", "subprocess", "sys", "rich"},
    "kernels": {"logging", "os", "pathlib", "astropy", "rich", "numba"},  # numba by `compiled`
    "simulate": {"rich"},
    "io": {"rich", "numba", "matplotlib"},
    "night": {"rich", "argparse", "matplotlib"},
    "pipeline": {"rich", "argparse", "matplotlib"},
    "steps": {"rich", "argparse", "matplotlib"},
    "cli": {"astropy", "numpy", "numba", "scipy"},
}
HEAVY = {"numpy", "numba", "scipy", "astropy", "matplotlib", "fsspec", "paramiko", "rich"}


def name_of(path: Path) -> tuple[str, ...]:
    """``stages/sky.py`` as ("stages", "sky"); a package's __init__ as the package."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path) -> Iterator[tuple[list[str], set[str]]]:
    """(module as words, names taken from it) of every import, at any depth of the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split("."), set()
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write it out"
            words = str(node.module).split(".")
            if words == ["photometrus"]:
                for alias in node.names:
                    yield [*words, alias.name], set()
            else:
                yield words, {alias.name for alias in node.names}


def ids(path: Path) -> str:
    return ".".join(name_of(path)) or "photometrus"


def test_every_room_has_its_floor():
    rooms = {name_of(path)[0] for path in MODULES if name_of(path)}
    assert rooms == set(FLOOR)


def test_the_drawing_shows_the_floors_and_what_is_in_the_rooms():
    text = (SRC.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = text.split("```")[1]
    floors = re.split("^─+$", drawing, flags=re.M)
    drawn = [sorted(re.findall(r"^ (\w+)/? ", floor, re.M)) for floor in floors]
    assert drawn == [sorted(rooms) for rooms in FLOORS]
    inside = " ".join(re.findall(r"^   (.+)$", drawing, re.M))
    told = set(re.findall(r"\w+", inside))
    # The shelves of io/catalogs and io/external are named, not listed.
    files = [name for name in map(name_of, MODULES) if len(name) > 1]
    shelves = {"catalogs", "external"}
    assert not [name for name in files if name[1] not in shelves and name[-1] not in told]
    assert shelves <= told


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_imports_go_down(path):
    here = name_of(path)
    if not here:  # the package's own face: the API's names, for whoever reads types
        ours = [words for words, _ in imports(path) if words[0] == "photometrus"]
        assert ours == [["photometrus", "api"]]
        return
    for words, names in imports(path):
        if words[0] != "photometrus" or words[1:] == ["__version__"]:
            continue
        room = words[1]
        if room != here[0]:
            assert FLOOR[here[0]] < FLOOR[room], f"{'.'.join(here)} must not import {room}"
        elif here[0] == "stages" and len(words) > 2 and len(here) > 1:
            lent = LENT.get((here[1], words[2]), set())
            assert names <= lent, f"{'.'.join(here)} takes {names - lent} of the stage {words[2]}"


def test_the_simulator_shares_no_code_with_what_it_tests():
    allowed = {"instrument", "products", "errors", "io", "simulate"}
    for path in MODULES:
        if name_of(path)[:1] == ("simulate",):
            ours = {words[1] for words, _ in imports(path) if words[0] == "photometrus"}
            assert ours <= allowed, f"{path.name} imports {ours - allowed}"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_rooms_keep_to_their_trade(path):
    here = name_of(path)
    if not here:
        return
    known = {words[0] for words, _ in imports(path)}
    assert not known & NOT_FOR.get(here[0], set())
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "print" not in calls
    assert not calls & {"eval", "exec"}
    if here[0] in ("stages", "kernels", "pipeline", "steps"):
        assert "open" not in calls, f"{'.'.join(here)}: only io opens anything"


@pytest.mark.parametrize(
    "words", [["-h"], ["pipeline", "-h"], ["simulate", "--help"], [], ["--version"]]
)
def test_help_imports_nothing_heavy(words):
    """The help comes at once: what takes a second to import is not there yet."""
    code = (
        "import sys; from photometrus.cli import main; code = main(sys.argv[1:]); "
        f"print('HEAVY', sorted({HEAVY!r} & set(sys.modules)), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_nothing_happens_at_import(tmp_path):
    """Importing everything makes no folder, starts no thread and changes no folder."""
    names = [".".join(("photometrus", *name_of(path))) for path in MODULES]
    names = [name for name in names if not name.endswith("__main__")]
    code = (
        "import importlib, logging, os, threading\n"
        f"for name in {names!r}:\n    importlib.import_module(name)\n"
        f"assert os.getcwd() == {str(tmp_path)!r}\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert not logging.getLogger('photometrus').handlers\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []
