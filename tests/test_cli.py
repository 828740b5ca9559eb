import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from photometrus import __version__
from photometrus.arrivals import Request
from photometrus.cli import main, manual, parser
from photometrus.cli.commands import COMMANDS, SAMPLE, simulate
from photometrus.cli.commands.pipeline import show_observation
from photometrus.cli.options import overrides
from photometrus.cli.reading import angle, chips
from photometrus.cli.show import PLAIN_WIDTH, Screen
from photometrus.cli.words import clean, retold
from photometrus.config import Config, dump, load
from photometrus.errors import StorageError, UsageError
from photometrus.frame import LISTED
from photometrus.observation import Observation
from photometrus.pipeline import reduce_observation
from photometrus.products import JOURNAL
from photometrus.simulate.config import SimulateConfig
from photometrus.simulate.night import simulate_night
from photometrus.track import ChipResult, Verdict

OPTIONS = {
    # The commands and options that users were promised.
    "pipeline": "parent target date band chip rot_val parallel no_download astromnet no_shift no_FF"
    " sky_override archive catalog flat_dir engine keep config sigma ftype rampnum exclude include"
    " header_filter increm alt num exptime_map depth_map",
    "stack": "parent chip band sigma rot_val no_FF sky_override compress no_compress net_refine"
    " no_shift engine catalog flat_dir keep parallel config rampnum exclude include header_filter"
    " increm alt num exptime_map depth_map",
    "photometry": "filepath stackpath band survey catalog crop sigma mag_low mag_high grb_ra"
    " grb_dec grb_radius grb_coordlist grb_name grb_only exp_query exp_query_only no_plots"
    " plots_only keep magsys t0 det_cut",
    "full": "parent target date band chip survey crop mag_low mag_high grb_ra grb_dec grb_radius"
    " grb_coordlist grb_name grb_only exp_query exp_query_only no_plots plots_only magsys t0",
    "lightcurve": "path grb_ra grb_dec survey catalog magsys t0",
    "night": "date target band observer chip parent scheduler workers parallel keep archive",
    "getdata": "date target band chip parent archive ftype overwrite rampnum exclude",
    "log": "date target archive",
    "process genflat": "dir date chip band",
    "process autoflat": "date band chip archive no_download dir",
    "process flatfield": "in_path out_path flat_path",
    "process gensky": "in_path sky_path sigma rampnum exclude",
    "process skysub": "in_path out_path sky_path",
    "process stack": "in_path parent rampnum exclude header_filter increm alt num exptime_map"
    " depth_map compress no_compress",
    "astrom angle": "input output rot_val",
    "astrom shift": "dir band catalog",
    "astrom astromatic": "path band",
    "astrom net": "input output",
    "report": "parent",
    "serve": "path host port",
    "simulate": "out size chip ramps band density seed",
    "config": "config out",
    "config show": "config out",
    "config init": "config out",
    "doctor": "parent archive date flat_dir timeout json",
    "completion": "shell",
    "warm": "",
    "man": "",
}
HERE = Path(__file__).parent
PIPELINE = ["pipeline", "-target", "field1111", "-date", "20240606", "-band", "J"]


def parse(*words):
    command, rest = parser.find_command(words)
    return parser.parse(command, rest)


def failure(capsys, *words) -> str:
    """The one line that a wrong command gets, exit code 2."""
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.endswith("\n")
    assert told.err.count("\n") == 1
    return told.err


# ---------------------------------------------------------------- words to values


@pytest.mark.parametrize("name", OPTIONS)
def test_the_promised_options_are_there(name):
    assert set(OPTIONS[name].split()) <= {option.name for option in COMMANDS[name].options}


def test_every_command_is_where_its_name_says_and_has_a_help(capsys):
    assert set(OPTIONS) == set(COMMANDS)
    for name, command in COMMANDS.items():
        words = name.split()
        assert command.run.__module__ == f"photometrus.cli.commands.{words[0]}"
        # `config show` is the same as `config`.
        assert command.run.__name__ == words[-1] or name == "config show"
        assert main([*name.split(), "-h"]) == 0
        text = capsys.readouterr().out
        assert command.sample in text
        for option in command.options:
            assert f"-{option.name}" in text
        # 96 columns, but for commands to copy: the sample and what the last lines say
        body = text.removesuffix(command.after + "\n").replace(command.sample, "")
        assert max(map(len, body.splitlines())) <= 100


@pytest.mark.parametrize("name", COMMANDS)
def test_one_dash_or_two(name):
    """Every option, in both spellings and with = or a blank, has the same value."""
    samples = {
        "chip": "1,3", "date": "20240606", "band": "H", "rot_val": "50", "engine": "astromatic",
        "keep": "final", "density": "bulge", "flat_time": "end", "dither": "Random",
        "distortion": "template", "rotoff": "junk", "layout": "sftp", "seeing": "1,2",
        "pointing_error": "1,2", "ftype": "raw", "config": __file__, "sky_override": __file__,
        "exclude": "01599152", "include": "all", "header_filter": "AIRMASS:<1.5",
        "scheduler": "tcp://a:8786", "t0": "2024-06-06T16:02:11", "magsys": "Vega",
        "filepath": __file__, "grb_coordlist": "[(1,2)]", "shell": "zsh",
        "memory": "4GB",
    }  # fmt: skip
    command = COMMANDS[name]
    needed = [
        f"-{option.name}={samples.get(option.name, '7')}"
        for option in command.options
        if option.needed
    ]
    for option in command.options:
        if option.name == "h":
            continue
        value = samples.get(option.name, "7")
        forms = (
            [[f"-{option.name}", value], [f"--{option.name}", value], [f"--{option.name}={value}"]]
            if option.shown
            else [[f"-{option.name}"], [f"--{option.name}"]]
        )
        values = [parser.parse(command, [*needed, *form])[option.name] for form in forms]
        assert values[1:] == values[:-1]


def test_the_sample_commands_are_right():
    for command in COMMANDS.values():
        words = command.sample.split()[1:]
        found, rest = parser.find_command(words)
        assert found is command
        try:
            parser.parse(command, rest)
        except UsageError as error:
            # What it names does not exist here; anything else would be a wrong sample.
            assert "no such file" in str(error)


def test_values_are_read():
    given = parse(*PIPELINE, "-chip", "3,1,3", "-rot_val", "-45.7", "--parent", "a b/c")
    assert given == {
        "target": "field1111",
        "date": date(2024, 6, 6),
        "band": "J",
        "chip": (1, 3),
        "rot_val": -45.7,
        "parent": Path("a b/c"),
    }
    assert parse(*PIPELINE, "-date", "2024-06-07")["date"] == date(2024, 6, 7)  # the last counts


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        ("48", 48.0),
        ("172800arcsec", 48.0),
        ('172800"', 48.0),
        ("-34560arcsec", -9.6),
        ("-45.7", -45.7),
        ("1e1", 10.0),
        ("12.5deg", 12.5),
        ("-.5", -0.5),
    ],
)
def test_angles(text, degrees):
    assert angle(text) == pytest.approx(degrees, rel=1e-15)
    assert parse(*PIPELINE, "-rot_val", text)["rot_val"] == angle(text)


def test_an_angle_in_arcsec_without_its_unit(capsys):
    assert "did you mean 172800arcsec?" in failure(capsys, *PIPELINE, "-rot_val", "172800")


@pytest.mark.parametrize("text", ["5", "0", "1;2", "", "a", "1,", "1..4", "-1", "١"])
def test_chips_that_are_none(text):
    with pytest.raises(ValueError, match="chips 1,2,3,4"):
        chips(text)


def test_options_are_laid_over_the_config(tmp_path):
    file = tmp_path / "prime.toml"
    file.write_text("[sky]\nclip_sigma = 9.0\nsmooth_pix = 64\n")
    words = "-no_FF -no_shift -astromnet -parallel -keep final -no_compress -rot_val 50 -sigma 4"
    given = parse(*PIPELINE, *words.split(), "-config", str(file), "-catalog", "none")
    config = load(given["config"], overrides(COMMANDS["pipeline"].options, given))
    assert config.sky.clip_sigma == 4.0
    assert config.sky.smooth_pix == 64
    assert config.run.rotator_deg == 50.0
    assert not config.run.flat_field
    assert not config.run.search_pointing
    assert not config.run.compress
    assert config.run.astrometry_net
    assert config.run.parallel
    assert config.run.keep == "final"
    assert config.input.catalog == "none"


def test_only_what_was_given_is_laid_over():
    assert overrides(COMMANDS["pipeline"].options, parse(*PIPELINE)) == {}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_the_help_tells_the_true_defaults(command):
    for option in command.options:
        if option.key:
            section, key = option.key.split(".")
            held = getattr(getattr(Config(), section), key)
            if not option.shown:
                assert isinstance(held, bool)
                assert isinstance(option.value, bool)
            elif option.default and held != "":
                assert option.read(option.default) == held


def test_the_simulator_s_defaults_are_true():
    held = SimulateConfig()
    for option in COMMANDS["simulate"].options:
        field = simulate.FIELDS.get(option.name, option.name)
        if option.name in ("out", "verbose", "quiet", "h"):
            continue
        assert hasattr(held, field), option.name
        if option.shown:
            assert option.read(option.default) == getattr(held, field), option.name
        else:
            assert getattr(held, field) is not option.value


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "told"),
    [
        # The seed document's own sample, with its forgotten dash
        (
            "pipeline -parent ../../field1111/ -target field1111 date 20240606 -band J",
            "'date' has no dash; did you mean '-date 20240606'?",
        ),
        ("pipeline parallel -target f", "did you mean '-parallel'?"),
        ("pipeline -target f band J", "did you mean '-band J'?"),
        ("pipeline -dat 20240606", "did you mean '-date YYYYMMDD'?"),
        ("pipeline --dates 20240606", "did you mean '-date YYYYMMDD'?"),
        ("pipeline -filter J", "did you mean '-band BAND'?"),
        ("pipeline -objname f", "did you mean '-target FIELD'?"),
        ("pipeline -no_ff", "did you mean '-no_FF'?"),
        ("pipeline --no-download", "did you mean '-no_download'?"),
        ("pipeline -band j", "did you mean 'J'?"),
        ("night -date 20240606 -band J,K", "PRIME has Z, Y, J, H"),
        ("night -date 20240606 -scheduler head", "expected tcp://host:8786"),
        ("pipeline -band Ks", "PRIME has Z, Y, J, H"),
        ("pipeline -date 6/6/2024", "expected yyyymmdd"),
        ("pipeline -date 20240631", "expected yyyymmdd"),
        ("pipeline -date -band J", "write -date YYYYMMDD"),
        ("pipeline -band", "write -band BAND"),
        ("pipeline -band=", "write -band BAND"),
        ("pipeline -parallel=yes", "-parallel takes no value"),
        ("pipeline -engine astro", "did you mean 'astromatic'?"),
        ("pipeline -keep none", "expected all, final"),
        ("pipeline -sigma 0", "above 0"),
        ("pipeline -sigma nan", "finite"),
        ("pipeline -threads -1", "whole number"),
        ("pipeline -config /nowhere.toml", "no such file"),
        ("pipeline -sky_override /nowhere.fits", "no such file"),
        ("pipeline -target f -date 20240606", "-band missing; for example: " + SAMPLE),
        ("pipeline -size 5", "it belongs to simulate"),
        ("pipeline -rampnum -5", "a slice"),
        ("pipeline -rampnum 1.5", "the first five"),
        ("pipeline -exclude 1152", "a serial 01599152"),
        ("pipeline -exclude 01599145-01599131", "turn the two round"),
        ("pipeline -header_filter AIRMASS", "KEY:value"),
        ("stack -increm -num 0", "1 or more"),
        ("pipeline -incremental", "did you mean '-increm'?"),
        ("pipeline -target field 1111", "a value with blanks needs quotes"),
        ("pipeline --", "no option '--'"),
        ("pipelne", "did you mean 'pipeline'?"),
        ("multi_master.py -target f", "here it is: photometrus pipeline"),
        ("pipeline -chip 1, 2", "what is '2' after '-chip 1,'; no blank after a comma?"),
        ("shift", "did you mean 'astrom shift'?"),
        ("log 20240606", "what is '20240606'? Did you mean '-date 20240606'?"),
        (f"stack {HERE} -band J", f"Did you mean '-parent {HERE}'?"),
        (f"photometry {HERE}", f"Did you mean '-stackpath {HERE}'?"),
        (f"photometry {__file__}", f"Did you mean '-filepath {__file__}'?"),
        (f"photometry -filepath {HERE}", "expected a file, this is a folder"),
        ("help pipelin", "did you mean 'pipeline'?"),
        ("-target f", "before the command"),
        ("process", "genflat, autoflat, flatfield, gensky, skysub"),
        ("process -h", "which step?"),
        ("astrom shft", "did you mean 'shift'?"),
        ("getdata -ftype rmp", "did you mean 'ramp'?"),
        ("simulate -out x -seeing 1", "two numbers"),
        ("simulate -out x -size 50", "simulate.size 50: must be between"),
        (f"simulate -out {__file__}", "this is a file"),
    ],
)
def test_a_mistake_gets_one_line_with_the_way_out(capsys, words, told):
    assert told in failure(capsys, *words.split())


WORDS = [
    "-target", "f", "-date", "20240606", "-band", "J", "--", "-", "=", "-=", "--band=", "-45.7",
    "-x", "date", "", " ", "-rot_val", "1e400", "\x1b[31m", "-chip", "1,2", "-parallel", "ü",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(COMMANDS)),
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=6)), max_size=8),
)
def test_no_words_whatever_are_a_bug(name, words):
    try:
        given_values = parser.parse(COMMANDS[name], words)
    except UsageError as error:
        assert str(error).startswith(f"photometrus {name}")
    else:
        needed = {option.name for option in COMMANDS[name].options if option.needed}
        assert needed <= set(given_values)


# ---------------------------------------------------------------- help, version, overview


@pytest.mark.parametrize("words", ["help stack", "-h stack", "--help stack", "stack -h"])
def test_help_of_a_command_in_any_order(capsys, words):
    assert main(words.split()) == 0
    assert capsys.readouterr().out.startswith("usage: photometrus stack -parent DIR")


def test_a_folder_that_is_not_there_is_not_served(capsys, tmp_path):
    assert main(["serve", str(tmp_path / "absent")]) == 1
    assert "absent: no such folder" in capsys.readouterr().err


def test_the_overview_is_short(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 12
    for name in COMMANDS:
        assert name.split()[0] in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_long_help_teaches(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert parser.BEGIN[2][1] in text
    assert "Exit codes" in text
    for name in COMMANDS:
        assert name in text


def test_the_manual_page_is_the_one_that_is_installed(capsys, require_program):
    assert main(["man"]) == 0
    page = capsys.readouterr().out
    root = Path(__file__).resolve().parents[1]
    assert (root / "docs" / "photometrus.1").read_text() == page, (
        "photometrus man > docs/photometrus.1"
    )
    man = require_program("man")
    command = [man, "--warnings", "-E", "UTF-8", "-l", "-"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    text = re.sub(r"-\n +", "-", done.stdout)
    for name, command in COMMANDS.items():
        assert f"photometrus {name}" in text
        assert all(f"-{option.name}" in text for option in command.options)


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    """What each shell completes: (shell, words) to the choices."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "n512").mkdir()
    made = {}
    for shell in ("bash", "zsh", "fish"):
        made[shell] = folder / f"completion.{shell}"
        made[shell].write_text(manual.script(shell))
    return made


def completed(program: str, script: Path, line: str) -> set[str]:
    """What bash or fish offers at the end of a line."""
    if program.endswith("fish"):
        code = f'source {script}; complete -C "photometrus {line}"'
    else:
        words = shlex.join([*line.split(), *([""] if line.endswith(" ") else [])])
        code = (
            f"source {script}; COMP_WORDS=(photometrus {words});"
            " COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); _shtab_photometrus;"
            ' printf "%s\\n" "${COMPREPLY[@]}"'
        )
    done = subprocess.run(
        [program, "-c", code], capture_output=True, text=True, check=True, cwd=script.parent
    )
    assert done.stderr == ""
    return {row.split("\t")[0].strip() for row in done.stdout.splitlines()}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_shells_complete(completion, require_program, shell):
    program, script = require_program(shell), completion[shell]
    assert completed(program, script, "pip") == {"pipeline"}
    assert {"genflat", "skysub"} <= completed(program, script, "process ")
    assert completed(program, script, "pipeline -eng") == {"-engine"}
    assert completed(program, script, "pipeline -engine ") >= {"native", "astromatic"}
    assert completed(program, script, "stack -parallel -net") >= {"-net_refine"}
    assert any("n512" in one for one in completed(program, script, "stack -parent n"))


def test_zsh_reads_its_completion(completion, require_program):
    code = f"autoload -Uz compinit; compinit -u -D; source {completion['zsh']}"
    done = subprocess.run(
        [require_program("zsh"), "-c", f"{code} 2>/dev/null; print $_comps[photometrus]"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    subprocess.run([require_program("zsh"), "-n", completion["zsh"]], check=True)
    assert completion["zsh"].read_text().startswith("#compdef photometrus")


def test_the_version(capsys):
    for word in ("--version", "-version", "version"):
        assert main([word]) == 0
        assert capsys.readouterr().out == f"photometrus {__version__}\n"


# ---------------------------------------------------------------- what reaches the terminal


def test_text_of_others_is_only_text(capsys):
    evil = "field\x1b[2J\x1b]0;title\x07 [red]x[/red] :smile: \u202eabc\nline\r2"
    assert "\x1b" not in clean(evil)
    assert "\n" not in clean(evil)
    assert "\u202e" not in clean(evil)
    screen = Screen()
    screen.line(evil)
    screen.table("t [bold]", ("a",), [(evil,)])
    screen.losses([(evil, evil, evil)])
    with screen.listening(), screen.progress() as progress:
        progress(evil, 1, 1)
        import logging

        logging.getLogger("photometrus.io").warning("%s", evil)
    told = capsys.readouterr()
    for text in (told.out, told.err):
        assert "[red]x[/red] :smile:" in text
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert "warning: field" in told.err


def test_an_error_with_control_characters_is_one_line(capsys):
    line = failure(capsys, "pipeline", "-target", "f", "\x1b[31mevil\x1b[0m\nmore")
    assert "\x1b" not in line


@pytest.mark.parametrize(("width", "below"), [(200, False), (76, False), (60, True), (14, False)])
def test_on_a_narrow_terminal_the_last_column_is_below(capsys, width, below):
    path = f"stack/{'x' * 40}.fits.fz"
    screen = Screen()
    screen.out.width = width
    screen.table("t", ("chip", "frames ", "stack"), [("C1", "4/5", path), ("C2", "5/5", path)])
    told = capsys.readouterr().out
    assert (f"\nC1: {path}\nC2: {path}\n" in told) == below
    assert told.count("x") == 80


def test_quiet_tells_losses_only(capsys):
    screen = Screen(quiet=True)
    screen.line("done")
    screen.table("t", ("a",), [("b",)])
    screen.step("working")
    with screen.progress() as progress:
        progress("sky", 1, 1)
    assert capsys.readouterr() == ("", "")
    screen.losses([("01599131C3", "not used", "truncated")])
    assert "truncated" in capsys.readouterr().err


def test_progress_without_a_terminal_is_lines(capsys):
    with Screen().progress() as progress:
        for k in range(4):
            progress("C1 sky", k, 3)
    # Only the last: the others came within the same minute.
    assert re.fullmatch(r"\d\d:\d\d:\d\dZ C1 sky 3/3, 0.0 s\n", capsys.readouterr().err)


def test_what_the_result_lists_is_told_once(capsys):
    log = logging.getLogger("photometrus.chip.run")
    screen = Screen()
    with screen.listening():
        with screen.progress():
            log.warning("C1: the sky changes", extra=LISTED)
            log.warning("a worker is lost")
        screen.notes(["C1: the sky changes", "C1: the sky changes"])
    assert capsys.readouterr().err == "warning: a worker is lost\nnote: C1: the sky changes\n"
    # Without a result nobody lists it.
    with screen.listening(), pytest.raises(StorageError), screen.progress():
        log.warning("C1: the sky changes", extra=LISTED)
        raise StorageError("no space left")
    assert capsys.readouterr().err == "warning: C1: the sky changes\n"
    with screen.listening(), screen.progress(listed=False):
        log.warning("C1: the sky changes", extra=LISTED)
    assert capsys.readouterr().err == "warning: C1: the sky changes\n"


def test_a_note_of_several_chips_is_one_line(tmp_path):
    chips = [
        ChipResult(1, notes=["few stars", "no catalogue", "few stars"]),
        ChipResult(3, notes=["no catalogue"]),
    ]
    told = Observation(chips, tmp_path / "run.json", notes=["no FLATs", "C1: few stars"]).told
    assert told == ["no FLATs", "C1: few stars", "C1 C3: no catalogue"]


def test_a_password_is_not_retold():
    text = retold(["getdata", "-archive", "sftp://me:se%20cret@host:22/x", "-target", "a b"])
    assert text == "photometrus getdata -archive 'sftp://me:***@host:22/x' -target 'a b'"
    assert retold(["-archive", "http://host:80/x"]) == "photometrus -archive http://host:80/x"


# ---------------------------------------------------------------- results and exit codes


def verdict(frame: str, reason: str = "", *, lost: bool = False) -> Verdict:
    return Verdict(frame, used=not reason, reason=reason, lost=lost, seeing_arcsec=1.2)


def stacked(chip: int, parent: Path, *verdicts: Verdict) -> ChipResult:
    return ChipResult(
        chip,
        coadd=parent / "stack" / f"coadd.Open-J.01599131-01599173.C{chip}.fits.fz",
        verdicts=list(verdicts),
        numbers={"seeing_arcsec": 1.234, "rms_arcsec": 0.0312, "sky_adu": 487.6},
    )


def test_results_and_losses_in_tables(capsys, tmp_path):
    good = stacked(1, tmp_path, verdict("01599131C1"), verdict("01599138C1"))
    judged = stacked(3, tmp_path, verdict("01599131C3"), verdict("01599138C3", "trailed"))
    cut_off = verdict("01599138C2", "truncated", lost=True)
    worse = stacked(2, tmp_path, verdict("01599131C2"), cut_off)
    none = ChipResult(4, error="C4: no ramps")
    missing = [("01599145C2", "not in the archive as ramp")]
    cases = [
        ([good], [], 0),
        # Judged, and left out because the stack is better without it: nothing is lost
        ([good, judged], [], 0),
        ([good, worse], [], 3),
        ([good], missing, 3),
        ([good, none], [], 3),
        ([none], missing, 1),
    ]
    for results, lost, code in cases:
        observation = Observation(results, tmp_path / "run.json", lost)
        assert show_observation(Screen(), tmp_path, observation, 12.3) == code
    capsys.readouterr()
    observation = Observation([good, worse, judged, none], tmp_path / "run.json", missing)
    show_observation(Screen(), tmp_path, observation, 12.3)
    told = capsys.readouterr()
    (row,) = [line for line in told.out.splitlines() if "C1 " in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    path = "stack/coadd.Open-J.01599131-01599173.C1.fits.fz"
    assert cells == ["C1", "2/2", "1.23", "31", "-", "488", path]
    lines = told.err.splitlines()
    for what, happened, why in (
        ("01599145C2", "not downloaded", "not in the archive as ramp"),
        ("01599138C2", "lost", "truncated"),
        ("01599138C3", "left out", "trailed"),
        ("C4", "no stack", "C4: no ramps"),
    ):
        assert [line for line in lines if what in line and happened in line and why in line]
    assert len(path) < PLAIN_WIDTH


def test_a_bug_shows_itself(monkeypatch):
    """Only what we can explain becomes one line."""
    monkeypatch.setattr("photometrus.config.dump", lambda config: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["config"])


def test_a_reader_that_has_enough(tmp_path):
    """``photometrus config | head -1`` ends without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "photometrus", "config"],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


# ---------------------------------------------------------------- commands that need no pixels


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """An archive with one tiny night."""
    root = tmp_path_factory.mktemp("night")
    return simulate_night(root, SimulateConfig(size=128, chips=(1, 2), ramps=3, flats=0))


def test_config_shows_what_holds(capsys, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[sky]\nclip_sigma = 9.0\n")
    assert main(["config", "-config", str(file), "-out", str(tmp_path / "all.toml")]) == 0
    capsys.readouterr()
    assert load(tmp_path / "all.toml").sky.clip_sigma == 9.0
    assert "is there already" in failure(capsys, "config", "-out", str(tmp_path / "all.toml"))
    assert main(["config"]) == 0
    shown = tmp_path / "shown.toml"
    shown.write_text(capsys.readouterr().out)
    assert load(shown) == Config()
    file.write_text("[sky]\nclip_sgma = 9.0\n")
    assert "did you mean 'clip_sigma'" in failure(capsys, "config", "-config", str(file))


def test_config_init_has_words_on_every_setting(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "mine.toml"
    file.write_text("[sky]\nclip_sigma = 9.0\n[chip.3.sky]\nclip_sigma = 6.0\n")
    assert main(["config", "init"]) == 0
    text = (tmp_path / "photometrus.toml").read_text()
    assert load(tmp_path / "photometrus.toml") == Config()
    assert "# clip_sigma = 3.0  # rejection among the frames" in text
    assert "# prior_arcsec = [ 30.0, " in text
    assert "]  # How far the optics may differ" in text  # words of several lines, in one
    # With its comments taken off, every setting is there, and has its default.
    bare = tmp_path / "bare.toml"
    bare.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.M))
    everything = tomllib.loads(dump(Config()))
    del everything["chip"]
    assert tomllib.loads(bare.read_text()) == everything
    capsys.readouterr()
    assert "is there already" in failure(capsys, "config", "init")
    assert main(["config", "init", "-config", str(file), "-out", "again.toml"]) == 0
    assert load(tmp_path / "again.toml") == load(file)


def test_log_tells_whether_the_field_was_observed(capsys, night):
    where = ["log", "-date", "20240606", "-archive", str(night)]
    assert main(where) == 0
    everything = capsys.readouterr().out
    assert "field2222" in everything
    assert main([*where, "-target", "field1111"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if " field" in line]
    assert {row.split("│")[3].strip() for row in rows[1:]} == {"J", "H", "Z"}
    assert main([*where, "-target", "field1111", "-band", "Y"]) == 1
    assert "not observed in band Y" in capsys.readouterr().err
    assert main([*where, "-target", "field11111"]) == 1
    assert "did you mean 'field1111'?" in capsys.readouterr().err
    assert main(["log", "-date", "20240608", "-archive", str(night)]) == 1
    assert "2024-06-06" in capsys.readouterr().err


def test_getdata_lists_what_is_missing(capsys, night, tmp_path):
    ramps = sorted((night / "nfs/xion4/prime/Data/reramp/C2").glob("*.fits.ramp"))
    gone = ramps[1]
    aside = tmp_path / "aside"
    gone.rename(aside)
    parent = tmp_path / "obs"
    words = ["getdata", *PIPELINE[1:], "-archive", str(night), "-parent", str(parent)]
    words += ["-chip", "1,2"]
    try:
        assert main(words) == 3
    finally:
        aside.rename(gone)
    name = gone.name.partition(".")[0]
    assert [
        line for line in capsys.readouterr().err.splitlines() if name in line and "not " in line
    ]
    listed = (parent / "failed_downloads_list.txt").read_text()
    assert listed.startswith(name)
    assert len(listed.splitlines()) == 1
    assert len(list((parent / "C2").glob("*.ramp.fits"))) == 2
    assert (parent / "ramp_fit_log_2024-06-06.clean.dat").exists()
    # Once more: only what lacks comes, and nothing is listed any more
    before = {path: path.stat().st_mtime_ns for path in parent.glob("C?/*")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not (parent / "failed_downloads_list.txt").exists()
    assert main([*words, "-overwrite"]) == 0
    assert all(path.stat().st_mtime_ns > time for path, time in before.items())


@pytest.mark.parametrize("command", ["pipeline", "getdata", "night"])
@pytest.mark.parametrize("wrong", [("-target", "feild1111"), ("-date", "20240608")])
def test_what_is_not_there_leaves_nothing(night, tmp_path, command, wrong):
    given = dict([("-target", "field1111"), ("-date", "20240606"), ("-band", "J"), wrong])
    words = [command, *(word for option in given.items() for word in option)]
    words += ["-archive", str(night), "-parent"]
    code = 2 if wrong[0] == "-target" else 1
    assert main([*words, str(tmp_path / "field" / "J")]) == code
    assert list(tmp_path.iterdir()) == []
    # A folder that was there stays, and holds what was told.
    (tmp_path / "mine").mkdir()
    assert main([*words, str(tmp_path / "mine")]) == code
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [JOURNAL]


def test_in_a_script_a_wrong_target_leaves_nothing(night, tmp_path):
    request = Request("feild1111", date(2024, 6, 6), "J", (1,), tmp_path / "field" / "J")
    with pytest.raises(UsageError, match="did you mean 'field1111'"):
        reduce_observation(request, load(None, {"input": {"archive": str(night)}}))
    assert list(tmp_path.iterdir()) == []


def test_no_archive_is_a_usage_error(capsys, monkeypatch):
    monkeypatch.delenv("PHOTOMETRUS_ARCHIVE", raising=False)
    assert "PHOTOMETRUS_ARCHIVE" in failure(capsys, "log", "-date", "20240606")


def test_simulate_writes_a_night(capsys, tmp_path):
    words = "-size 128 -chip 2 -ramps 2 -flats 0 -target FRB -band Z -no_dirt -transient none"
    assert main(["simulate", "-out", str(tmp_path / "n"), *words.split()]) == 0
    capsys.readouterr()
    archive = ["-archive", str(tmp_path / "n")]
    assert main(["log", "-date", "20240606", "-target", "FRB", "-band", "Z", *archive]) == 0
    assert main(["simulate", "-out", str(tmp_path / "n"), *words.split(), "-quiet"]) == 0
    capsys.readouterr()
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    assert "give an empty one" in failure(capsys, "simulate", "-out", str(other))


def test_completion_and_its_shells(capsys):
    assert main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == manual.script("bash")
    assert "did you mean 'fish'?" in failure(capsys, "completion", "fihs")


def test_the_help_comes_at_once():
    """Within half a second of work, the interpreter's own start included."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "photometrus", "-h"], capture_output=True, check=True)
    after = os.times()
    used = after.children_user + after.children_system
    assert used - before.children_user - before.children_system < 0.5
