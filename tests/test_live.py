"""What is seen while a command runs, what its log file says, and how it ends when it is stopped."""

import io
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from photometrus.cli.board import ENDS, MEASURING, REDUCING, Board
from photometrus.cli.live import View
from photometrus.cli.show import Screen
from photometrus.cli.words import clock, rate
from photometrus.io.journal import MAX_BYTES, Journal
from photometrus.simulate.config import SimulateConfig
from photometrus.simulate.night import simulate_night
from terminal import Terminal

SRC = Path(__file__).resolve().parents[1] / "src" / "photometrus"
FAST = ["-chip", "1,2", "-catalog", "none", "-no_shift", "-no_FF", "-keep", "final", "-no_plots"]
WITHIN_S = 5.0
"""Two seconds are promised; a busy machine of two cores may take longer to get there."""


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """Two small chips of a crowded field, well pointed: a second of work each."""
    config = SimulateConfig(
        size=512, chips=(1, 2), ramps=4, flats=0, density="bulge", bad_frame=False,
        dither_radius_arcsec=15.0, pointing_error_arcsec=(0.0, 2.0), chip_offset_arcsec=1.0,
    )  # fmt: skip
    return simulate_night(tmp_path_factory.mktemp("live") / "night", config)


def words(archive: object, parent: Path, *more: str) -> list[str]:
    """A quick reduction of the night."""
    what = ["-target", "field1111", "-date", "20240606", "-band", "J", "-archive", str(archive)]
    return ["pipeline", *what, *FAST, "-parent", str(parent), *more]


def getdata(archive: object, parent: Path) -> list[str]:
    """Its ramps and nothing else."""
    where = ["-archive", str(archive), "-parent", str(parent)]
    return [
        "getdata",
        "-target",
        "field1111",
        "-date",
        "20240606",
        "-band",
        "J",
        "-chip",
        "1,2",
    ] + where


# ---------------------------------------------------------------- the board


def told(board: Board, *lines: tuple[str, int, int, float]) -> list[str]:
    """What ended, after so much was told."""
    return [ended.words for line in lines for ended in board.tell(*line)]


def test_every_step_that_a_chip_or_a_stack_tells_has_its_column():
    known = {step for column in (*REDUCING, *MEASURING) for step in column.steps} | set(ENDS)
    said = set()
    for path in [*(SRC / "chip").glob("*.py"), *(SRC / "photometry").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        said |= set(re.findall(r'progress\(\s*(?:f"C\{[\w.]+\} |")([\w ]+)"', text))
        said |= set(re.findall(r'counted\("([\w ]+)"', text))
        said |= set(re.findall(r'step="([\w ]+)"', text))
    assert len(said) > 15
    assert said <= known
    for columns in (REDUCING, MEASURING):
        # The shares are of one whole.
        assert sum(column.share for column in columns) == pytest.approx(1.0)


def test_a_row_goes_from_step_to_step():
    board = Board(REDUCING, ["C1", "C2"])
    assert board.fraction() == 0
    assert board.left_s(0.0) is None
    assert told(board, ("C1 calibrate", 0, 4, 10.0), ("C1 calibrate", 4, 4, 11.0)) == [
        "C1 calibrate"
    ]
    # A step that begins ends what was open before it in its row; "first sky" is not "sky".
    assert told(board, ("C1 first sky", 0, 1, 11.0), ("C1 stars", 1, 4, 13.0)) == ["C1 first sky"]
    row = board.rows["C1"]
    assert [REDUCING[k].heading for k in row.cells] == ["calib", "sky 1", "stars"]
    assert row.cells[2].ended_s is None
    # 0.02 + 0.08 are done, and a quarter of 0.16, of one row of two
    assert board.fraction() == pytest.approx((0.10 + 0.16 / 4) / 2)
    # 4 s spent for 7 %: 93 / 7 times as much is left
    assert board.left_s(14.0) == pytest.approx(4.0 * 0.93 / 0.07)


def test_what_a_finished_row_took_tells_of_the_others():
    board = Board(REDUCING, ["C1", "C2"])
    told(board, ("C1 stars", 0, 4, 0.0), ("C1 coadd", 0, 1, 30.0), ("C1 finished", 1, 1, 40.0))
    assert board.rows["C1"].end == "finished"
    assert board.fraction() == pytest.approx(0.5)
    told(board, ("C2 stars", 0, 4, 40.0), ("C2 coadd", 0, 1, 70.0))
    assert board.fraction() == pytest.approx(0.5 + 0.75 / 2)  # 30 s of 40 s
    assert board.left_s(70.0) == pytest.approx(10.0)


def test_two_steps_in_one_column_and_a_row_that_begins_anew():
    board = Board(REDUCING, ["C1"])
    lines = [("C1 sky", 0, 1, 0.0), ("C1 sky", 1, 1, 1.0), ("C1 background", 0, 4, 1.0)]
    assert told(board, *lines, ("C1 background", 4, 4, 3.0)) == ["C1 sky", "C1 background"]
    assert told(board, ("C1 failed", 1, 1, 4.0)) == ["C1 failed"]
    assert board.fraction() == 1
    told(board, ("C1 calibrate", 0, 4, 5.0))
    assert board.rows["C1"].end == ""
    assert board.fraction() == 0


def test_what_stood_before_costs_no_time():
    board = Board(REDUCING, ["C1", "C2"])
    told(board, ("C1 as before", 1, 1, 0.0), ("C2 stars", 0, 4, 0.0), ("C2 coadd", 0, 1, 9.0))
    done = sum(column.share for column in REDUCING[:-2])
    assert board.left_s(9.0) == pytest.approx(9.0 * (1 - done) / done)


def test_a_night_knows_how_many_rows_will_come():
    board = Board(REDUCING, of_each_part=4)
    told(board, ("night", 0, 3, 0.0), ("field1 J C1 finished", 1, 1, 10.0))
    assert board.fraction() == pytest.approx(1 / 12)


def test_steps_without_a_row():
    board = Board(REDUCING, ["C1"])
    assert told(board, ("download", 0, 8, 0.0), ("download", 4, 8, 2.0)) == []
    assert board.single["download"].rate(2.0) == pytest.approx(2.0)
    assert told(board, ("download", 8, 8, 4.0), ("download", 8, 8, 5.0)) == ["download"]
    assert told(board, ("stars", 0, 8, 5.0)) == []  # of a single step: no row is named
    assert set(board.single) == {"download", "stars"}


def test_times_and_rates():
    assert [clock(seconds) for seconds in (0, 59.6, 754, 3723)] == [
        "0:00", "1:00", "12:34", "1:02:03",
    ]  # fmt: skip
    assert [rate(speed) for speed in (4.24, 0.2)] == ["4.2/s", "12/min"]


# ---------------------------------------------------------------- the picture


def picture(board: Board, width: int, height: int = 25, encoding: str = "utf-8") -> list[str]:
    """The lines that a terminal would show."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, height=height, force_terminal=True, color_system=None)
    console.print(View(board))
    file.flush()
    file.seek(0)
    lines = [line.rstrip() for line in file.read().splitlines()]
    assert max(map(len, lines)) <= width
    return lines


def a_board() -> Board:
    board = Board(REDUCING, ["C1", "C2", "C3", "C4"])
    now = time.monotonic() - 20
    told(board, ("download", 28, 28, now), ("flats", 0, 1, now))
    for chip in ("C1", "C2"):
        told(board, (f"{chip} calibrate", 19, 19, now), (f"{chip} stars", 7, 19, now + 9))
    told(board, ("C2 failed", 1, 1, now + 10), ("C4 as before", 1, 1, now))
    board.message = "12 of 12 tiles"
    return board


def test_the_table_of_chips_and_steps():
    flats, download, heading, c1, c2, c3, c4, whole, message = picture(a_board(), 80)
    assert flats.startswith("flats")
    assert download.startswith("download 28 ")
    names = " ".join(column.heading for column in REDUCING)
    assert " ".join(heading.split()) == names
    assert c1.split() == ["C1", "✓", "7/19", *"·······", "0:20"]  # no first sky was told: a blank
    assert c2.split() == ["C2", "✓", "✗", *"·······", "0:10"]
    assert c3.split() == ["C3", *"··········"]
    assert c4.split() == ["C4", *"=========="]
    assert re.search(r"\d+%  0:00", whole)
    assert message == "12 of 12 tiles"
    board = a_board()
    board.notes = [f"C{chip}: {'a long note ' * 9}" for chip in range(1, 5)]
    notes = picture(board, 80)[-4:-1]  # the last three, cut to the width
    assert [note[:4] for note in notes] == ["C2: ", "C3: ", "C4: "]
    # A wider one has room for the rate, too: 7 in 11 s
    assert "38/min" in picture(a_board(), 120)[3]


def test_a_narrow_terminal_has_a_bar_per_chip():
    lines = picture(a_board(), 60)
    assert [line for line in lines if re.match(r"C1 +━.* stars 7/19 +0:20$", line)]
    assert [line for line in lines if re.match(r"C2 +━.* failed +0:10$", line)]
    assert picture(a_board(), 30)


def test_a_terminal_without_unicode():
    text = "\n".join(picture(a_board(), 80, encoding="ascii"))
    assert text.isascii()
    assert re.search(r"C1 +x +7/19 +\.", text)


def test_a_low_terminal_shows_what_is_at_work():
    board = Board(REDUCING, of_each_part=4)
    told(board, ("night", 5, 9, 0.0))
    for field in range(9):
        for chip in range(1, 5):
            told(board, (f"field{field} J C{chip} stars", 1, 9, 1.0))
            if field < 5:
                told(board, (f"field{field} J C{chip} finished", 1, 1, 2.0))
    lines = picture(board, 80, height=16)
    assert len(lines) <= 16
    assert "field5 J C1" in "\n".join(lines)
    assert "field4 J" not in "\n".join(lines)
    assert "20 finished" in "\n".join(lines)


# ---------------------------------------------------------------- on a terminal, and without


def test_the_view_moves_on_a_real_terminal(night, tmp_path):
    with Terminal(words(night, tmp_path / "p"), 80) as terminal:
        assert terminal.wait() == 0
        seen = next(text for text in terminal.frames if re.search(r"^C1 +✓", text, re.M))
        assert "calib  sky 1  stars  solve" in seen
        assert re.search(r"%  0:\d\d", seen)
        last = terminal.text()
        assert not terminal.screen.cursor.hidden
    assert "calib  sky 1" not in last  # what moved is gone; the results stay
    assert "everything that was measured" in last
    # A note is seen when it comes, and stays once.
    assert any("C1: no reference catalogue" in text for text in terminal.frames)
    assert last.count("no reference catalogue") == 1
    assert b"\x1b[3" in terminal.raw  # in colour


def test_a_narrow_terminal_without_colour(night, tmp_path):
    with Terminal(words(night, tmp_path / "p"), 60, env={"NO_COLOR": "1"}) as terminal:
        assert terminal.wait() == 0
        assert any(re.search(r"^C1 +━+ +\w+", text, re.M) for text in terminal.frames)
    # SGR 30-37, 38, 90-97: a colour. Bold and dim are none.
    assert not re.search(rb"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])[;m]", terminal.raw)


def test_a_dumb_terminal_gets_lines(night, tmp_path):
    fetch = getdata(night, tmp_path / "p")
    with Terminal(fetch, 80, env={"TERM": "dumb"}) as terminal:
        assert terminal.wait() == 0
    assert b"\x1b" not in terminal.raw
    assert re.search(rb"\d\d:\d\d:\d\dZ download 8/8, \d", terminal.raw)


@pytest.fixture(scope="module")
def piped(night, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A run whose output is a file, chips at once in worker processes; and its folder."""
    parent = tmp_path_factory.mktemp("piped") / "p"
    command = [sys.executable, "-m", "photometrus", *words(night, parent, "-parallel")]
    return parent, subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_a_terminal_there_is_a_line_per_step(piped):
    _, done = piped
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert "\r" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if re.match(r"\d\d:\d\d:\d\dZ ", line)]
    told = [line.split(" ", 1)[1].rsplit(",", 1)[0] for line in lines]
    for chip in ("C1", "C2"):
        own = [line.removeprefix(f"{chip} ") for line in told if line.startswith(chip)]
        assert own == [
            "calibrate 4/4", "first sky", "stars 4/4", "astrometry", "star mask", "artifacts 4/4",
            "sky", "background 4/4", "coadd", "finished",
        ]  # fmt: skip
    assert "download 8/8" in told
    assert (done.stdout + done.stderr).count("no reference catalogue") == 1


def test_quiet_is_quiet(night, tmp_path):
    command = [sys.executable, "-m", "photometrus", *words(night, tmp_path / "p", "-quiet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    # One note for both chips: no catalogue was given. That it is not on the sky is no small thing.
    assert [line.split(": ")[:2] for line in done.stderr.splitlines()] == [["note", "C1 C2"]]
    assert "C2 stars 4/4" in (tmp_path / "p" / "photometrus.log").read_text()


# ---------------------------------------------------------------- the log file

LEVELS = "DEBUG|INFO|NOTICE|WARNING|ERROR|CRITICAL"
LINE = re.compile(rf"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z ({LEVELS}) *")


def test_the_log_file_has_it_all(piped):
    parent, _ = piped
    text = (parent / "photometrus.log").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert all(LINE.match(line) for line in lines)
    assert re.search(r"INFO +photometrus \S+, Python 3\.\d+\S*, numpy \d", lines[0])
    assert "command: photometrus pipeline -target field1111 -date 20240606 -band J" in lines[1]
    assert "C2 stars 4/4, " in text
    # Of a worker process:
    assert "WARNING chip.run: C2: no reference catalogue (none was asked for)" in text
    assert re.search(r"C1 +4/4", text)  # the table at the end
    assert lines[-1].endswith("exit code 0")


def test_the_log_file_grows_run_after_run_and_holds_no_password(night, tmp_path):
    parent = tmp_path / "p"
    command = [sys.executable, "-m", "photometrus"]
    with socket.socket() as nobody:  # bound, not listening: whoever comes is refused
        nobody.bind(("127.0.0.1", 0))
        url = f"http://me@127.0.0.1:{nobody.getsockname()[1]}/x"
        done = subprocess.run(
            [*command, *getdata(url, parent)], capture_output=True, text=True, check=False,
            env=os.environ | {"PHOTOMETRUS_WEB_PASSWORD": "s3cret"},
        )  # fmt: skip
    assert done.returncode == 1
    first = (parent / "photometrus.log").read_text()
    assert "s3cret" not in first + done.stderr
    assert " ERROR   archive http://me@127.0.0.1" in first
    subprocess.run([*command, *getdata(night, parent)], capture_output=True, check=True)
    assert (parent / "photometrus.log").read_text().startswith(first)


def test_no_password_of_an_address_reaches_the_log_file(tmp_path):
    screen = Screen(quiet=True)
    with screen.listening():
        screen.keep_journal(tmp_path, "photometrus", "1.0")
        logging.getLogger("photometrus").debug("asked sftp://me:s3cret@host/x")
    assert "asked sftp://me:***@host/x" in (tmp_path / "photometrus.log").read_text()


def test_a_large_log_file_is_put_aside(tmp_path):
    path = tmp_path / "photometrus.log"
    path.touch()
    os.truncate(path, MAX_BYTES)
    journal = Journal(path, str, pytest.fail)
    journal.write("new\nlines")
    journal.close()
    assert path.read_text().endswith("new\nlines\n")
    assert (tmp_path / "photometrus.log.1").stat().st_size == MAX_BYTES


def test_a_full_disk_ends_the_log_file_not_the_run(tmp_path):
    (tmp_path / "photometrus.log").symlink_to("/dev/full")
    said: list[str] = []
    journal = Journal(tmp_path / "photometrus.log", str, said.append)
    for _ in range(3):
        journal.write("x")
    journal.close()
    (line,) = said
    assert "No space left on device" in line


def test_no_log_file_where_there_can_be_none(tmp_path, capsys):
    (tmp_path / "photometrus.log").mkdir()
    screen = Screen()
    with screen.listening():
        screen.keep_journal(tmp_path, "photometrus", "1.0")
        logging.getLogger("photometrus").warning("still told")
    told = capsys.readouterr().err
    assert "no log file" in told
    assert "still told" in told


def test_a_bug_is_in_the_log_file_with_the_way_to_it(tmp_path):
    screen = Screen()
    with pytest.raises(ZeroDivisionError), screen.listening():
        screen.keep_journal(tmp_path, "photometrus", "1.0")
        print(1 / 0)
    lines = (tmp_path / "photometrus.log").read_text().splitlines()
    assert all(LINE.match(line) for line in lines)
    assert lines[-1].endswith("ZeroDivisionError: division by zero")
    assert "Traceback" in "\n".join(lines)


# ---------------------------------------------------------------- stopped


def stopped(terminal: Terminal, stop: object, code: int) -> str:
    """Stop it with Ctrl-C or a signal: at once, in good order, nothing left; what is said."""
    family = [psutil.Process(terminal.process.pid)]
    family += family[0].children(recursive=True)
    begun = time.monotonic()
    if stop == "Ctrl-C":
        terminal.type(b"\x03")
    else:
        terminal.process.send_signal(stop)
    assert terminal.wait() == code
    assert time.monotonic() - begun < WITHIN_S
    _, alive = psutil.wait_procs(family[1:], timeout=WITHIN_S)
    assert not alive
    text = terminal.text()
    assert not terminal.screen.cursor.hidden
    assert "Traceback" not in text
    assert "Exception" not in text
    assert text.replace("\n", "").count("stopped; what is finished is kept. To go on:") == 1
    assert "calib" not in text.split("stopped;")[1]  # nothing moves any more
    return text


def nothing_half_written(parent: Path) -> bool:
    """No file has its name that is not whole: names that end in .part are no names."""
    whole = [path for path in parent.rglob("*.fits*") if not path.name.endswith(".part")]
    return all(path.stat().st_size % 2880 == 0 for path in whole)


@pytest.mark.parametrize(("stop", "code"), [("Ctrl-C", 130), (signal.SIGTERM, 143)])
def test_stopped_while_chips_are_reduced(night, tmp_path, stop, code):
    parent = tmp_path / "p"
    with Terminal(words(night, parent), 100) as terminal:
        # C2 is far from its end when C1 has just begun.
        terminal.until(lambda text: re.search(r"^C1 +(✓|\d)", text, re.M))
        text = stopped(terminal, stop, code)
    assert "photometrus pipeline -target field1111" in text.replace("\n", "")
    assert nothing_half_written(parent)
    last = (parent / "photometrus.log").read_text().splitlines()
    assert [line for line in last if line.endswith("stopped by a signal")]


@pytest.mark.parametrize(("stop", "code"), [("Ctrl-C", 130), (signal.SIGTERM, 143)])
def test_stopped_with_worker_processes(night, tmp_path, stop, code):
    parent = tmp_path / "p"
    with Terminal(words(night, parent, "-parallel"), 100) as terminal:
        me = psutil.Process(terminal.process.pid)
        # Two workers, which need seconds to import what they work with, and a helper of theirs.
        terminal.until(lambda _: len(me.children(recursive=True)) >= 3)
        time.sleep(1.0)
        stopped(terminal, stop, code)
    assert nothing_half_written(parent)


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_stopped_while_a_server_is_silent(tmp_path):
    with silent_server() as url, Terminal(words(url, tmp_path / "p"), 100) as terminal:
        terminal.until(lambda text: "C2" in text)
        time.sleep(0.5)
        stopped(terminal, "Ctrl-C", 130)


def test_stopped_in_a_background_without_a_terminal(tmp_path):
    command = [sys.executable, "-m", "photometrus", "simulate", "-out", str(tmp_path / "n")]
    # Who runs these tests under nohup has children that are deaf to it.
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGHUP, inherited)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("sky: ")  # it is at work
    process.send_signal(signal.SIGHUP)
    text = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 129
    assert text.endswith(f"To go on:\n  photometrus simulate -out {tmp_path / 'n'}\n")
    assert "\x1b" not in text
    assert "Traceback" not in text
