"""The docs say what the code does: options, settings, keywords, products, commands to copy."""

import ast
import dataclasses
import html
import re
import shlex
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import photometrus
from photometrus.cli import parser
from photometrus.cli.commands import COMMANDS
from photometrus.cli.options import COMMON
from photometrus.config import Config
from photometrus.frame import Bad, Coadd, FrameInfo
from photometrus.instrument import BANDS
from photometrus.io import results
from photometrus.io.fitsfile import COPY_KEYWORDS, coadd_header
from photometrus.lightcurve import COLUMNS as CURVE_COLUMNS
from photometrus.photometry.files import STAR_COLUMNS
from photometrus.products import (
    JOURNAL,
    Products,
    RampId,
    StackProducts,
    clean_log_name,
    flat_name,
    log_name,
)
from photometrus.sighting import AtPosition, Calibration, Sighting, Target
from photometrus.sourcetable import WORDS
from photometrus.stages.coadd import common_grid
from photometrus.track import ChipResult, Verdict
from photometrus.wcs import pointing_wcs, tpv_cards

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
WRITERS = ["io/fitsfile.py", "intermediate.py", "stackfiles.py", "chip/files.py", "flats.py",
           "wcs.py", "steps/pixels.py", "steps/fields.py"]  # fmt: skip
"""Modules that write FITS keywords."""
KEYWORD = re.compile(r"[A-Z][A-Z0-9_-]{2,7}")
GENERAL = {option.name for option in COMMON}


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def sections(text: str) -> dict[str, str]:
    """The text under each second-level heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> Iterator[list[str]]:
    """The cells of the rows of a section's tables, without headings."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


# ---------------------------------------------------------------- options


def test_every_command_has_its_section_and_no_other():
    assert set(sections(read("commands.md"))) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_its_command_section(name):
    told, said = {}, {}
    for option, value, without, words in rows(sections(read("commands.md"))[name]):
        told[option.strip("`-")] = (value.strip("`"), without.strip("`"))
        said[option.strip("`-")] = html.unescape(words).replace("`", "")
    real = {}
    for option in COMMANDS[name].options:
        if option.name not in GENERAL:
            real[option.name] = (option.shown, "needed" if option.needed else option.default)
            # The docs may say more than the help.
            assert said.get(option.name, "").startswith(option.words.replace("`", ""))
    assert told == real


def test_options_of_every_command_are_told_once():
    before = read("commands.md").partition("\n## ")[0]
    assert {cells[0].strip("`-") for cells in rows(before)} == GENERAL


# ---------------------------------------------------------------- settings


def test_every_setting_is_told_with_its_default():
    told = {}
    for title, text in sections(read("config.md")).items():
        section = title.strip("[]")
        for key, default, *_ in rows(text):
            value = tomllib.loads(f"x = {default.strip('`')}")["x"]
            told[f"{section}.{key.strip('`')}"] = tuple(value) if isinstance(value, list) else value
    assert told == dict(settings(Config()))


def settings(part: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its default, a section's in a section too."""
    for key in dataclasses.fields(part):
        value = getattr(part, key.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{where}{key.name}.")
        elif where:
            yield f"{where}{key.name}", value


def test_every_section_is_read_by_somebody():
    sources = (ROOT / "src/photometrus").rglob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    used = set(re.findall(r"\b(?:config|own|settings)\.(\w+)\b", text))
    sections = {key.split(".")[0] for key, _ in settings(Config())}
    assert sections <= used, sorted(sections - used)


def test_every_setting_of_an_option_names_it():
    told = {}
    for title, text in sections(read("config.md")).items():
        for key, _, _, *option in rows(text):
            if option and option[0]:
                told[f"{title.strip('[]')}.{key.strip('`')}"] = option[0].strip("`-")
    keys: dict[str, set[str]] = {}
    for command in COMMANDS.values():
        for option in command.options:
            keys.setdefault(option.key, set()).add(option.name)
    for key, option in told.items():
        assert option in keys[key], f"config.md: {key} is not set by -{option}"


# ---------------------------------------------------------------- keywords


def written(path: Path) -> set[str]:
    """The FITS keywords that a module writes: header["KEY"] = ..., rows and dicts of cards."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        candidates: list[ast.expr | None] = []
        if isinstance(node, ast.Assign):
            candidates = [
                sub.slice
                for target in node.targets
                for sub in ast.walk(target)
                if isinstance(sub, ast.Subscript)
            ]
        elif isinstance(node, ast.Dict):
            tuples = (isinstance(value, ast.Tuple) for value in node.values)
            candidates = [key for key, card in zip(node.keys, tuples, strict=True) if card]
        elif isinstance(node, ast.Tuple) and len(node.elts) > 2:
            # A row of a table of cards: a keyword, then something computed.
            candidates = [] if isinstance(node.elts[1], ast.Constant) else [node.elts[0]]
        for one in candidates:
            if isinstance(one, ast.Constant) and KEYWORD.fullmatch(str(one.value)):
                found.add(str(one.value))
    return found


def told_keywords() -> set[str]:
    """Keywords in products.md; ranges such as ``CD1_1`` ... ``CD2_2`` are told by their ends."""
    text = sections(read("products.md"))["Header keywords"]
    return set(re.findall(r"`([A-Z][A-Z0-9_-]{2,7})`", text))


@pytest.mark.parametrize("name", WRITERS)
def test_every_keyword_that_is_written_is_told(name):
    keywords = written(ROOT / "src" / "photometrus" / name)
    assert keywords or name == "wcs.py"
    missing = {key for key in keywords if key not in told_keywords()}
    assert not missing, f"docs/products.md does not tell of {sorted(missing)}"


def test_every_keyword_of_a_stack_is_told():
    wcs = pointing_wcs(1, (201.3, -0.52), 48.0)
    grid = common_grid([wcs], [(120, 120)])
    pixels = np.ones(grid.shape, np.float32)
    info = FrameInfo(
        RampId(1599131, 1), "J", 201.3, -0.52, 48.0, 17.178, 60467.79, 60467.7902, 7, 60.0
    )
    ramp = fits.Header([("OBJNAME", "field1111"), ("CHIP", 1), ("DITHRAD", 60.0)])
    header = coadd_header(Coadd(pixels, pixels, grid.wcs, 1, 0.0), [info], [ramp])
    header.update(tpv_cards(wcs))
    told = told_keywords() | {"FRAM0001"}
    assert "`FRAM0001` ..." in read("products.md")
    families = re.compile(r"(CD[12]_[12]|PV[12]_\d+)$")
    keys = [*header, *COPY_KEYWORDS]
    missing = [key for key in keys if key not in told and not families.match(key)]
    assert not missing


# ---------------------------------------------------------------- products


def test_every_product_is_told():
    text = read("products.md")
    night = date(2024, 6, 6)
    products = Products(Path(), "J")
    first, last = RampId(1599131, 1), RampId(1599173, 1)
    of_ramp = ("ramp", "placed", "flat_fielded", "sky_subtracted", "sources", "head", "old_head",
               "flags")  # fmt: skip
    paths = [getattr(products, name)(first) for name in of_ramp]
    paths += [getattr(products, name)([first, last]) for name in ("sky", "coadd", "coadd_wcs")]
    paths += [products.page([first, last]), products.stack_flags([first, last])]
    paths += [products.weight([first, last]), products.run_record, products.config]
    paths += [products.html_report, Path(JOURNAL)]
    paths += [products.exposure([first, last]), products.depth([first, last])]
    for part in ("inc005", "alt1"):
        paths += [products.coadd([first, last], part), products.weight([first, last], part)]
    paths += [products.failed_downloads, Path(log_name(night)), Path(clean_log_name(night))]
    for path in paths:
        assert f"| `{path.as_posix()}` |" in text
    assert f"`{flat_name('J', night, 1)}`" in text
    for band in BANDS:
        assert f"`{Products(Path(), band).filters}`" in text


def photometry() -> dict[str, str]:
    """The parts of products.md's section on photometry by their titles; "" what comes first."""
    text = sections(read("products.md"))["Photometry"]
    parts = re.split(r"^### (.+)$", text, flags=re.M)
    return {"": parts[0]} | dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_product_of_photometry_is_told():
    stack = "coadd.Open-J.01599131-01599173.C1"
    products = StackProducts(Path(), stack, "J", 1, "VHS")
    paths = [products.catalog(), products.catalog(parquet=True), products.regions, products.query]
    paths += [products.data(1), products.data(2), products.data(1, 2), products.new_sources()]
    paths += [products.report(), products.report().with_suffix(".json"), products.chart()]
    paths += [products.residuals(), products.calibration_page, products.depth_page]
    paths += [products.kept(kind) for kind in ("segments", "left", "psf")]
    assert {path.name for path in paths} == {
        cells[0].strip("`") for cells in rows(photometry()[""])
    }


def test_every_column_of_the_sources_is_told_with_its_unit():
    text = photometry()["All sources"]
    told = {cells[0].strip("`"): (cells[1], cells[2]) for cells in rows(text)}
    more = {"RANK", "DISTANCE", "P_CHANCE", "REASON"}  # of new sources only
    real = {row.name.format(b="J"): (row.unit, row.words) for row in results.COLUMNS}
    assert told == {name: said for name, said in real.items() if name not in more}
    assert all(f"`{name}`" in text for name in more)


def test_every_column_of_a_target_is_told():
    nothing = Sighting(
        Target("GRB", 201.3, -0.5, 5.0), AtPosition(*[1.0] * 6), Table(), "limit", ""
    )
    calibration = Calibration("J", "AB", 0.9, "VHS", 9, 25.0, 0.001, 0.01)
    table = results.target_table(nothing, calibration, 0.5, {})
    text = photometry()["The target"]
    told = set(re.findall(r"`([A-Za-z]\w+)`", text))
    alike = {name.replace(kind, "psf") for name in table.colnames for kind in ("aper", "auto")}
    assert set(table.colnames) - told == {
        name for name in table.colnames if re.search(r"aper|auto|psfME_CM_|Limit_x", name)
    }
    assert {name for name in alike if "psf" in name} <= told
    assert set(table.meta) - {"sentence"} <= told | {"radius_arcsec"}


def test_every_doubt_is_told():
    told = re.findall(r"^\| (\d+) \| (.+) \|$", photometry()["DOUBTS"], re.M)
    assert {int(bit): words for bit, words in told} == {bit.value: w for bit, w in WORDS.items()}


def test_every_column_of_a_light_curve_is_told():
    told = {
        cells[0].strip("`"): tuple(cells[1:]) for cells in rows(photometry()["The light curve"])
    }
    assert told == CURVE_COLUMNS


def test_every_column_of_the_zero_point_s_stars_is_told():
    text = photometry()["The stars of the zero point"]
    assert set(STAR_COLUMNS) <= set(re.findall(r"\w+", text))


def test_every_key_of_the_record_is_told():
    text = sections(read("products.md"))["run.json"]
    told = set(re.findall(r"`([a-z_]+)`", text)) | set(re.findall(r"`chips\.C1\.([a-z_]+)`", text))
    real = {field.name for field in dataclasses.fields(Verdict)}
    real |= {field.name for field in dataclasses.fields(ChipResult)}
    real -= {"chip", "verdicts", "look"}  # the record does not hold pixels
    source = (ROOT / "src/photometrus/observation.py").read_text(encoding="utf-8")
    record = source[source.index("def write_record") :]
    real |= set(re.findall(r'^ {8}"(\w+)":', record, flags=re.M)) - {"chips"}
    folder = ROOT / "src/photometrus/chip"
    rooms = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    numbers = rooms["judgement"].split("def numbers")[1]
    real |= set(re.findall(r'^ {8}"(\w+)":', numbers, flags=re.M))
    chip = "".join(rooms.values())
    real |= set(re.findall(r'(?:numbers|measured)\["(\w+)"\] =', chip))
    real |= {f"flagged_{flag.name.lower()}" for flag in Bad if flag is not Bad.EDGE}
    assert real <= told, sorted(real - told)


def test_every_flag_is_told():
    told = {
        int(bit): name.strip("`")
        for bit, name, _ in re.findall(
            r"^\| (\d+) \| (`\w+`) \| (.+) \|$", read("products.md"), re.M
        )
    }
    assert told == {flag.value: flag.name for flag in Bad}
    assert {f"FLAG{min(Bad).value}", f"FLAG{max(Bad).value}"} <= told_keywords()


def test_every_variable_of_the_environment_is_told():
    sources = (ROOT / "src").rglob("*.py")
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    real = set(re.findall(r"\bPHOTOMETRUS_[A-Z_]+[A-Z]\b(?!\{)", text)) - {"PHOTOMETRUS_VO"}
    guide = read("user-guide.md")
    told = set(re.findall(r"`(PHOTOMETRUS_[A-Z0-9_]+)`", guide))
    assert real <= told
    assert {name for name in told - real if "_VO_" not in name} == set()


def test_every_page_is_on_the_map():
    text = read("index.md")
    trees = "\n".join(re.findall(r"^```{toctree}\n(.*?)^```", text, re.M | re.S))
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages <= set(re.findall(r"^(?:.* <)?([\w-]+)>?$", trees, re.M))
    assert pages <= set(re.findall(r"\]\(([\w-]+)\.md\)", text))


def test_every_public_name_is_told():
    text = read("api.md")
    told = set(re.findall(r"^\.\. auto\w+:: (\w+)$", text, re.M))
    assert told == set(photometrus.__all__)
    functions = {cells[0].strip("`") for cells in rows(text)}
    assert functions == {name for name in told if name[0].islower()}


# ---------------------------------------------------------------- commands to copy, links


def commands() -> list[str]:
    """Every ``photometrus ...`` line in the code blocks of the docs."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^ *```\w*\n(.*?)^ *```", page.read_text("utf-8"), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip().startswith("photometrus "):
                    found.append(line.strip())
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("line", commands())
def test_commands_in_the_docs_are_right(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stack = "stack/coadd.Open-J.01599131-01599329.C2.fits.fz"
    made = "field1111_20240606/J/stack/coadd.Open-J.01598971-01598999.C1.fits.fz"
    names = ("prime.toml", "sky.fits", "positions.csv", "stack.fits", stack, made)
    for name in names:  # files that an option wants
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("ra,dec\n344.5,1.02\n")
    alone = re.split(r" [>|] ", line)[0]  # where the shell sends it is the shell's
    words = shlex.split(alone, comments=True)[1:]
    if words == ["-h"] or words == ["-version"]:
        return
    command, rest = parser.find_command(words)
    if rest != ["-h"]:
        parser.parse(command, rest)


def test_there_are_commands_to_check():
    assert len(commands()) > 20
    assert {parser.find_command(shlex.split(line)[1:])[0].name for line in commands()} == set(
        COMMANDS
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), f"{page.name}: no {name}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{page.name}: no heading for #{anchor} in {there.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_paths_of_the_source_exist(page):
    """Modules that the docs name in backticks are there."""
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:src|tests|benchmarks|io|stages|kernels|cli)/[\w/]+\.py)`", text):
        new = {"stages/nonlinearity.py", "tests/test_nonlinearity.py"}  # the newcomer's example
        places = [ROOT / name, ROOT / "src" / "photometrus" / name]
        assert name in new or any(place.is_file() for place in places), f"{page.name}: {name}"


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    for page in PAGES:
        wanted = set(re.findall(r"`make (\w+)`", page.read_text(encoding="utf-8")))
        assert wanted <= targets, page.name
