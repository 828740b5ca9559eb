"""One run at a time in a folder: who holds it, who is gone, who waits."""

import fcntl
import json
import os
import re
import shlex
import socket
import subprocess
import sys

import pytest

from faulttable import tell
from lockcase import HOLD, holder
from photometrus.cli import main
from photometrus.errors import Held
from photometrus.io.lock import NAME, alone, lock_of, locked


def test_a_lock_is_gone_with_its_run(tmp_path):
    with locked(tmp_path / "p"):
        assert (tmp_path / "p" / NAME).is_file()
    assert list(tmp_path.iterdir()) == []  # it made the folder, and nothing came into it
    with locked(tmp_path / "p"):
        (tmp_path / "p" / "run.json").touch()
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / "p"):
        raise KeyboardInterrupt
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["run.json"]


def test_the_second_run_is_told_who_holds_the_folder(tmp_path, capsys):
    with holder(tmp_path) as process:
        words = [f"process {process.pid}", socket.gethostname(), "pipeline -target a", "-wait"]
        with pytest.raises(Held) as error, locked(tmp_path):
            pass
        assert all(word in str(error.value) for word in words)
        command = ["pipeline", "-target", "a", "-date", "20240606", "-band", "J"]
        code = main([*command, "-parent", str(tmp_path), "-archive", str(tmp_path)])
        told = capsys.readouterr().err
        tell("another run works in the folder", told, code)
        assert f"process {process.pid}" in told
        # Threads of one process, as those of a night, hold different folders.
        with locked(tmp_path / "other"), pytest.raises(Held), locked(tmp_path / "other"):
            pass


def test_a_killed_run_s_folder_is_taken_over(tmp_path, caplog):
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
        assert (tmp_path / NAME).is_file()
        with caplog.at_level("INFO", "photometrus"), locked(tmp_path):
            pass
    assert f"taken over from a run that was killed ({_user()} on" in caplog.text
    assert not (tmp_path / NAME).exists()


def _user() -> str:
    import getpass

    return getpass.getuser()


def test_a_lock_of_another_machine_is_believed(tmp_path, capsys):
    one = {"user": "eve", "host": "elsewhere", "pid": 1, "since": "2024", "command": "x"}
    path = tmp_path / NAME
    path.write_text(json.dumps(one))
    command = ["pipeline", "-target", "a", "-date", "20240606", "-band", "J"]
    code = main([*command, "-parent", str(tmp_path), "-archive", str(tmp_path)])
    told = capsys.readouterr().err
    tell("a run on another machine works in the folder, or did", told, code)
    # What the message says to type lets one in.
    subprocess.run(shlex.split(re.search("rm .*", told)[0]), check=True)
    with locked(tmp_path):
        pass
    path.write_text("{")  # cut off by a power cut: nobody holds it
    with locked(tmp_path):
        assert json.loads(path.read_text())["pid"] == os.getpid()


def test_a_lock_is_seen_by_who_does_not_want_it(tmp_path):
    assert lock_of(tmp_path) is None
    with holder(tmp_path) as process:
        seen = lock_of(tmp_path)
        assert (seen.state, seen.holder.pid) == ("held", process.pid)
        process.kill()
        process.wait()
        assert lock_of(tmp_path).state == "left"
    one = {"user": "eve", "host": "elsewhere", "pid": 1, "since": "2024", "command": "x"}
    (tmp_path / NAME).write_text(json.dumps(one))
    assert lock_of(tmp_path).state == "unknown"


def test_who_looks_at_a_lock_keeps_nobody_from_it(tmp_path, monkeypatch):
    path = tmp_path / NAME
    path.touch()
    with path.open() as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)  # as `lock_of` does, for a moment
        monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(looked_at, fcntl.LOCK_UN))
        with locked(tmp_path):
            assert lock_of(tmp_path).holder.pid == os.getpid()


def test_who_waits_gets_it(tmp_path):
    with holder(tmp_path) as first:
        command = [sys.executable, "-c", HOLD.replace('target a"', 'target b", wait=True')]
        with subprocess.Popen(
            [*command, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as second:
            first.communicate("go\n")
            assert second.stdout.readline() == "ready\n"
            assert json.loads((tmp_path / NAME).read_text())["pid"] == second.pid
            second.communicate("go\n")
    assert not (tmp_path / NAME).exists()


def test_a_store_is_changed_by_one_at_a_time(tmp_path):
    code = (
        "import logging, sys, time\nfrom pathlib import Path\n"
        "from photometrus.io.lock import alone\nlogging.basicConfig(level=0)\n"
        "path = Path(sys.argv[1])\n"
        "for _ in range(20):\n"
        "    with alone(path):\n"
        "        count = int((path / 'n').read_text())\n"
        "        time.sleep(0.002)\n"
        "        (path / 'n').write_text(str(count + 1))\n"
    )
    (tmp_path / "n").write_text("0")
    with alone(tmp_path):
        command = [sys.executable, "-c", code, str(tmp_path)]
        many = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
        said = [process.stderr.readline() for process in many]  # while it is ours
    assert [process.wait() for process in many] == [0, 0, 0]
    for text in said:
        tell("two runs change the same store of flats or of distortions", text)
    assert (tmp_path / "n").read_text() == "60"
