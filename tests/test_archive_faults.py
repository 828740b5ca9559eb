"""What goes wrong with an archive, tried with a real sshd, a real nginx and real folders.

Each test holds its rows of docs/faults.md against what is said. `run` is the real command in a
process of its own; `ask` the same command in this process, which is quicker.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from archivecase import (  # noqa: F401 - fixtures, some of them for every test
    LOGS,
    NIGHT,
    get,
    image,
    made,
    no_settings_of_this_machine,
    put,
    put_log,
    short_waits,
    ssh,
    sshd,
    to,
)
from faulttable import run, table, tell
from photometrus import cli
from photometrus.io import archive as archives
from photometrus.io import download as downloads
from photometrus.io import sftp
from photometrus.io.arriving import Arriving
from photometrus.products import RampId, clean_log_name, log_name
from servers import HOST, Line, Nginx, free_port, make_key, nginx_server, web_server

RAMP = RampId(7, 1)
REAL_TIME = "home/prime/Data/ramp/00000007C1.fits.ramp"
REPROCESSED = "xion4/prime/Data/reramp/C1/00000007C1.fits.ramp"
PACKED = "xion4/prime/ramp_fz/C1/00000000/00000007C1.fits.ramp.fz"
LARGE = np.random.RandomState(1).normal(100, 5, (700, 700)).astype(np.float32)
"""2 MB: much more than all else that travels before it."""
MIDDLE = 700_000
LOG_ROW = (
    "2024-08-25T16:1{minute}:00.000 {file} {name} OBJECT NASA 1 Open J "
    "11.44 8.58 8.58 4 Circle 37.5 17.2 1 86.993 2451 5 1\n"
)


@pytest.fixture
def nginx(made, tmp_path, require_program) -> Iterator[Nginx]:
    """An nginx that serves the made archive."""
    with nginx_server(tmp_path / "nginx", made, require_program("nginx")) as server:
        yield server


@pytest.fixture
def quick(tmp_path) -> Path:
    """Settings with little patience."""
    path = tmp_path / "quick.toml"
    path.write_text("[transfer]\nsilence_s = 2.0\nmax_file_s = 20.0\nmax_file_gb = 0.05\n")
    return path


@pytest.fixture
def ask(capsys) -> Callable[..., tuple[str, int]]:
    def command(*words: object) -> tuple[str, int]:
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        return "".join(capsys.readouterr()), code

    return command


def wanted(archive: object, parent: Path, *more: object) -> list[object]:
    """The words of a command that fetches ramp 7 of chip 1."""
    return [
        *("getdata", "-target", "field1", "-date", "20240825", "-band", "J", "-chip", "1"),
        *("-archive", archive, "-parent", parent, *more),
    ]


def logged(archive: object) -> list[object]:
    return ["log", "-date", "20240825", "-archive", archive]


# Addresses, and servers that do not answer


def test_addresses_that_lead_nowhere(ask, tmp_path):
    tell("no archive is given", *run("log", "-date", "20240825"))
    tell("an address of a kind that we do not know", *ask(*logged("ftp://host/data")))
    tell("an address that is none", *ask(*logged("http://host:port/data")))
    tell("the archive's folder is not there", *ask(*logged(tmp_path / "absent")))
    tell("a folder that is no archive", *ask(*logged(tmp_path)))


def test_nobody_listens(ask):
    tell("the web server refuses the connection", *ask(*logged(f"http://{HOST}:{free_port()}/")))
    tell("the SSH server refuses the connection", *run(*logged(f"sftp://{HOST}:{free_port()}/")))


def test_somebody_listens_and_says_nothing(ask, quick, monkeypatch):
    monkeypatch.setattr(sftp, "CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server((HOST, 0)) as mute:
        port = mute.getsockname()[1]
        words = ("-config", quick)
        tell("the web server says nothing", *ask(*logged(f"http://{HOST}:{port}/"), *words))
        tell("the SSH server says nothing", *ask(*logged(f"sftp://{HOST}:{port}/")))


def test_somebody_listens_and_hangs_up():
    """In a process of its own: nothing of what paramiko logs gets to the terminal."""
    with socket.create_server((HOST, 0)) as rude:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    rude.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        port = rude.getsockname()[1]
        said, code = run(*logged(f"sftp://{HOST}:{port}/"))
        tell("the SSH server hangs up", said, code)
        assert len(said.splitlines()) == 1
        rude.shutdown(socket.SHUT_RDWR)


def test_an_ssh_server_that_falls_silent_after_the_keys(ask, made, ssh, monkeypatch):
    # 1600 bytes: greeting and keys are through, the answers after the login are not
    monkeypatch.setattr(sftp, "GREETING_TIMEOUT_S", 1.0)
    with Line(ssh.port, stall_at=[1600]) as line:
        ssh.know(line.port)
        tell("the SSH server falls silent in the login", *ask(*logged(ssh.url(made, line.port))))


# Who are you, who am I


def test_passwords_and_keys_that_are_wrong(ask, made, ssh, monkeypatch, tmp_path):
    url = ssh.url(made)
    make_key(tmp_path / "other")
    monkeypatch.setenv("PHOTOMETRUS_SSH_KEY", str(tmp_path / "other"))
    tell("a wrong SSH key", *ask(*logged(url)))
    monkeypatch.setenv("PHOTOMETRUS_SSH_PASSWORD", "xyzzy-1")
    said, code = run(*logged(url), "-verbose")
    tell("a wrong SSH password", said, code)
    assert "xyzzy" not in said
    keygen = shutil.which("ssh-keygen")
    locked = tmp_path / "locked"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "geheim", "-f", str(locked)], check=True)
    monkeypatch.setenv("PHOTOMETRUS_SSH_KEY", str(locked))
    monkeypatch.delenv("PHOTOMETRUS_SSH_PASSWORD")
    tell("a key file with a passphrase that is not given", *ask(*logged(url)))
    monkeypatch.setenv("PHOTOMETRUS_SSH_KEY", str(tmp_path / "absent"))
    tell("the key file is not there", *ask(*logged(url)))
    (tmp_path / "absent").write_text("no key at all\n")
    tell("the key file is no key", *ask(*logged(url)))


def test_host_keys(ask, made, ssh, monkeypatch, tmp_path):
    monkeypatch.setenv("PHOTOMETRUS_KNOWN_HOSTS", str(tmp_path / "known_hosts"))
    known = tmp_path / "known_hosts"
    known.touch()
    said, code = run(*logged(ssh.url(made)))
    tell("the server's host key is not known", said, code)
    # What the message says is what one can type
    (scan,) = [part for part in said.split(": ") if part.startswith("ssh-keyscan")]
    found = subprocess.run(scan.split(" >>")[0].split(), capture_output=True, check=True)
    known.write_bytes(found.stdout)
    assert ask(*logged(ssh.url(made)))[1] == 0
    make_key(tmp_path / "other")
    known.write_text(f"[{HOST}]:{ssh.port} {(tmp_path / 'other.pub').read_text()}")
    tell("the server's host key has changed", *run(*logged(ssh.url(made))))
    known.write_bytes(b"what is this?\n\0\xff\xfe 1 2 3\n")
    tell("the file of known hosts is spoiled", *ask(*logged(ssh.url(made))))


def test_a_web_server_that_wants_a_password(ask, made, tmp_path, require_program, monkeypatch):
    users = tmp_path / "users"
    users.write_text("me:{PLAIN}right\n")
    guard = f'auth_basic "prime"; auth_basic_user_file {users};'
    with nginx_server(tmp_path / "n", made, require_program("nginx"), guard) as server:
        url = server.url.replace("://", "://me@")
        monkeypatch.setenv("PHOTOMETRUS_WEB_PASSWORD", "wrong")
        said, code = ask(*logged(url), "-verbose")
        tell("a wrong web password", said, code)
        monkeypatch.setenv("PHOTOMETRUS_WEB_PASSWORD", "right")
        assert ask(*logged(url))[1] == 0
        netrc = Path(os.environ["HOME"]) / ".netrc"
        netrc.write_text(f"machine {HOST} login me password right\n")
        netrc.chmod(0o600)
        assert ask(*logged(server.url))[1] == 0


def test_a_certificate_that_nobody_signed(ask, made, tmp_path, require_program):
    program = require_program("nginx")
    with nginx_server(tmp_path / "n", made, program, ssl=True) as server:
        tell(
            "a certificate that nobody has signed",
            *ask(*logged(server.url.replace("http://", "https://"))),
        )


def test_a_password_is_not_taken_elsewhere(ask, made, tmp_path, require_program, monkeypatch):
    """A redirect to another server goes there without it."""
    program = require_program("nginx")
    monkeypatch.setenv("PHOTOMETRUS_WEB_PASSWORD", "xyzzy-1")
    with nginx_server(tmp_path / "there", made, program) as there:
        away = f"return 302 {there.url}$request_uri;"
        with nginx_server(tmp_path / "here", made, program, away) as here:
            said, code = ask(*logged(here.url.replace("://", "://me@")))
        asked = (there.folder / "access.log").read_text().splitlines()
        first = (here.folder / "access.log").read_text().splitlines()
    tell("a server that sends us on to another one", said, code)
    assert len(first) > 1
    assert all('"Basic ' in line for line in first)
    assert len(asked) > 1
    assert all(line.endswith('"-"') for line in asked)


# The line breaks


def test_the_web_line_breaks_in_mid_file(made, nginx, tmp_path, ask):
    source = put(made, REAL_TIME, LARGE)
    with Line(nginx.port, cut_at=[MIDDLE, MIDDLE // 2]) as line:
        said, code = ask(*wanted(nginx.url_at(line.port), tmp_path / "here", "-verbose"))
    tell("a web transfer breaks off in mid-file", said, code)
    assert to(tmp_path / "here")(RAMP).read_bytes() == source.read_bytes()
    first, *others = nginx.asked(f" /{REAL_TIME}")
    assert (first[0], first[2]) == ("200", '"-"')
    # What came is not asked for again; how much of it was read before the end, the machine decides
    assert {answer[0] for answer in others} == {"206"}
    assert all(int(re.findall(r"\d+", answer[2])[0]) > 0 for answer in others)


def test_the_ssh_line_breaks_in_mid_file(made, ssh, tmp_path):
    source = put(made, REAL_TIME, LARGE)
    with Line(ssh.port, cut_at=[MIDDLE, MIDDLE]) as line:
        ssh.know(line.port)
        said, code = run(*wanted(ssh.url(made, line.port), tmp_path / "here", "-verbose"))
        # 2 MB and what is under way when it breaks: without going on it would be 3.4 MB
        assert line.n_bytes < 2.5 * MIDDLE + source.stat().st_size / 2
    tell("an SFTP transfer breaks off in mid-file", said, code)
    assert to(tmp_path / "here")(RAMP).read_bytes() == source.read_bytes()


def test_the_sshd_of_a_connection_is_killed(made, ssh, tmp_path):
    source = put(made, REAL_TIME, np.tile(LARGE, (2, 3)))
    killed = []

    def kill(event: downloads.DownloadEvent) -> None:
        if event.state == "bytes" and not killed:
            killed.append(ssh.kill_sessions())

    result = get(ssh.url(made), tmp_path, [RAMP], progress=kill)
    assert result.fetched == (RAMP,)
    assert killed[0] > 0
    assert to(tmp_path)(RAMP).read_bytes() == source.read_bytes()


@pytest.mark.parametrize("way", ["web", "ssh"])
def test_a_file_that_changes_while_the_line_is_down(made, nginx, ssh, tmp_path, way, ask):
    source = put(made, REAL_TIME, LARGE)

    def change() -> None:
        source.unlink()
        put(made, REAL_TIME, LARGE[::-1])
        os.utime(source, (1e9, 1e9))

    with Line(nginx.port if way == "web" else ssh.port, cut_at=[MIDDLE]) as line:
        ssh.know(line.port)
        line.on_cut = change
        url = nginx.url_at(line.port) if way == "web" else ssh.url(made, line.port)
        said, code = ask(*wanted(url, tmp_path / "here"))
    tell("the file on the server changes while the line is down", said, code)
    assert to(tmp_path / "here")(RAMP).read_bytes() == source.read_bytes()


def test_a_line_that_breaks_again_and_again(made, nginx, tmp_path, ask):
    put(made, REAL_TIME, LARGE)
    # The first brings something; the next three break off in the head of the answer
    with Line(nginx.port, cut_at=[MIDDLE, *[100] * 20]) as line:
        said, code = ask(*wanted(nginx.url_at(line.port), tmp_path / "here"))
    tell("a transfer breaks off again and again", said, code)
    assert sorted((tmp_path / "here").rglob("*.part")) == []
    assert "00000007C1" in (tmp_path / "here/failed_downloads_list.txt").read_text()


@pytest.mark.parametrize("way", ["web", "ssh"])
def test_a_line_that_falls_silent_in_mid_file(made, nginx, ssh, tmp_path, way, ask, quick):
    source = put(made, REAL_TIME, LARGE)
    with Line(nginx.port if way == "web" else ssh.port, stall_at=[MIDDLE]) as line:
        ssh.know(line.port)
        url = nginx.url_at(line.port) if way == "web" else ssh.url(made, line.port)
        said, code = ask(*wanted(url, tmp_path / "here", "-verbose", "-config", quick))
    tell("a transfer falls silent in mid-file", said, code)
    assert to(tmp_path / "here")(RAMP).read_bytes() == source.read_bytes()


@pytest.fixture(params=["web", "ssh"])
def killed(request, made, nginx, ssh, tmp_path) -> Iterator[tuple[Path, Path, str, Line]]:
    """A run that was killed (-9) in mid-file: what is on the server and here, and the way there."""
    source = put(made, REAL_TIME, LARGE)
    goal = to(tmp_path / "here")(RAMP)
    part = goal.with_name(f"{goal.name}.part")
    with Line(nginx.port if request.param == "web" else ssh.port, stall_at=[MIDDLE]) as line:
        ssh.know(line.port)
        url = nginx.url_at(line.port) if request.param == "web" else ssh.url(made, line.port)
        words = [*map(str, wanted(url, tmp_path / "here"))]
        command = [sys.executable, "-m", "photometrus", *words]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            # Four blocks of 64 kB and some
            while process.poll() is None and not (part.exists() and part.stat().st_size > 3e5):
                time.sleep(0.02)
            process.kill()
        yield source, part, url, line


def test_a_run_that_is_killed_in_mid_file(killed, tmp_path, ask):
    """What has come stays, and the next command asks for the rest only."""
    source, part, url, line = killed
    before = line.n_bytes
    said, code = ask(*wanted(url, tmp_path / "here", "-verbose"))
    tell("a run is killed in mid-file", said, code)
    assert to(tmp_path / "here")(RAMP).read_bytes() == source.read_bytes()
    # The log and what greetings take are less than a block of 64 kB
    assert line.n_bytes - before < source.stat().st_size - 3 * 65536
    assert [path.name for path in part.parent.iterdir()] == ["00000007C1.ramp.fits"]


def test_a_file_that_changes_after_a_run_was_killed(killed, made, tmp_path, ask):
    source, part, url, _ = killed
    source.unlink()
    put(made, REAL_TIME, LARGE[::-1])
    os.utime(source, (1e9, 1e9))
    said, code = ask(*wanted(url, tmp_path / "here"))
    assert code == 0, said
    assert to(tmp_path / "here")(RAMP).read_bytes() == source.read_bytes()
    assert [path.name for path in part.parent.iterdir()] == ["00000007C1.ramp.fits"]


def test_what_a_killed_run_left_is_believed_when_it_is_known(tmp_path):
    """Not after the machine was started anew, nor of another source, nor where a link leads."""
    goal = tmp_path / "C1" / "00000007C1.ramp.fits"

    def left(source: str = "here ramp", **note: str) -> Arriving:
        arriving = Arriving(goal, packed=False, source="here ramp")
        with arriving.open(0, "state 1") as file:
            file.write(bytes(200_000))
        if note:
            arriving.note.write_text(json.dumps(json.loads(arriving.note.read_text()) | note))
        return Arriving(goal, packed=False, source=source)

    again = left()
    assert (again.n_bytes, again.mark) == (3 * 65536, "state 1")
    assert again.path.stat().st_size == again.n_bytes
    assert left(boot="another").n_bytes == 0
    other = left("there ramp")
    other.remove()  # it has begun nothing
    assert (other.n_bytes, other.path.is_file()) == (0, True)
    half = left()
    half.note.write_bytes(half.note.read_bytes()[:20])
    assert Arriving(goal, packed=False, source="here ramp").n_bytes == 0
    linked = left()
    precious = linked.path.replace(tmp_path / "precious")
    linked.path.symlink_to(precious)
    anew = Arriving(goal, packed=False, source="here ramp")
    assert anew.n_bytes == 0
    with anew.open(0, "state 2") as file:
        file.write(b"x")
    assert precious.read_bytes() == bytes(3 * 65536)
    anew.finish()
    assert [path.name for path in goal.parent.iterdir()] == [goal.name]


def test_a_trickle(made, tmp_path, require_program, ask, quick):
    put(made, REAL_TIME, LARGE)
    quick.write_text("[transfer]\nmax_file_s = 1.0\n")
    slow = f"location = /{REAL_TIME} {{ limit_rate 20k; }}"
    with nginx_server(tmp_path / "n", made, require_program("nginx"), slow) as server:
        said, code = ask(*wanted(server.url, tmp_path / "here", "-config", quick))
    tell("a transfer that trickles", said, code)


def test_a_line_that_drips(made, ssh, tmp_path, ask, quick):
    """No silence is long, but a piece of the file would take half an hour."""
    put(made, REAL_TIME, LARGE)
    quick.write_text("[transfer]\nmax_file_s = 4.0\n")
    with Line(ssh.port, drip_at=[MIDDLE]) as line:
        ssh.know(line.port)
        begun = time.monotonic()
        said, code = ask(*wanted(ssh.url(made, line.port), tmp_path / "here", "-config", quick))
        assert time.monotonic() - begun < 30
    tell("a transfer that drips", said, code)


# What is not there, or is not what it says


def test_answers_that_are_no_ramp(made, nginx, tmp_path, require_program, ask):
    tell("a ramp is not in the archive", *run(*wanted(nginx.url, tmp_path / "here")))
    put(made, REAL_TIME, image(7, 1))
    page = made / "page.html"
    page.write_text("<!DOCTYPE html><title>welcome</title>")
    for fault, rule in (
        ("the server forbids a file", "deny all;"),
        ("the server is out of order", "return 503;"),
        ("a web page in place of a ramp, with status 200", "rewrite ^ /page.html break;"),
        ("the server redirects in a circle", "return 302 $request_uri;"),
    ):
        extra = f"location = /{REAL_TIME} {{ {rule} }}"
        with nginx_server(tmp_path / "n", made, require_program("nginx"), extra) as server:
            tell(fault, *ask(*wanted(server.url, tmp_path / "here")))
    with nginx_server(tmp_path / "n", made, require_program("nginx"), "return 302 /;") as server:
        tell("all of the server redirects in a circle", *ask(*logged(server.url)))
    extra = f"location /{LOGS}/ {{ rewrite ^ /page.html break; }}"
    with nginx_server(tmp_path / "n", made, require_program("nginx"), extra) as server:
        tell("a web page in place of the night log", *ask(*logged(server.url)))


def test_no_log(made, ask):
    put_log(made, NIGHT.replace(day=20))
    (made / LOGS / log_name(NIGHT)).unlink()
    tell("the night has no log", *ask(*logged(made)))


@pytest.mark.parametrize(
    ("fault", "factor"),
    [("a Content-Length that is too large", 2), ("a Content-Length that is too small", 0.5)],
)
def test_a_wrong_content_length(made, nginx, tmp_path, fault, factor, ask, quick):
    size = put(made, REAL_TIME, LARGE).stat().st_size
    right, wrong = (f"Content-Length: {int(n)}".encode() for n in (size, factor * size))
    with Line(nginx.port, edit=lambda piece: piece.replace(right, wrong)) as line:
        words = wanted(nginx.url_at(line.port), tmp_path / "here", "-config", quick)
        tell(fault, *ask(*words))


def test_files_without_end(made, nginx, ssh, tmp_path, ask, quick):
    sparse = put(made, REAL_TIME, image(7, 1))
    with sparse.open("r+b") as file:
        file.truncate(60_000_000)  # the limit is 50 MB
    for url in (nginx.url, ssh.url(made), made):
        tell(
            "a file is larger than the limit", *ask(*wanted(url, tmp_path / "a", "-config", quick))
        )
    assert [status for status, *_ in nginx.asked(f" /{REAL_TIME}")] == ["200"]
    with web_server(made) as server:
        server.endless = (f"/{REAL_TIME}",)
        said, code = run(*wanted(server.url, tmp_path / "b", "-config", quick))
    tell("a file has no end", said, code)
    assert sorted((tmp_path / "b").rglob("*.part")) == []
    with (made / LOGS / log_name(NIGHT)).open("r+b") as file:
        file.truncate(archives.MAX_LOG_BYTES + 1)
    tell("the night log has no end", *ask(*logged(made)))


def test_bombs(made, tmp_path, ask, quick):
    source = put(made, PACKED, image(7, 1), packed=True)
    with fits.open(source, disable_image_compression=True, mode="update") as units:
        units[1].header["ZNAXIS1"] = units[1].header["ZNAXIS2"] = 100_000
    tell("a small `.fz` that claims a huge image", *ask(*wanted(made, tmp_path, "-config", quick)))
    source.unlink()
    # One piece of 64 kB that is 60 MB of noughts
    unit = fits.CompImageHDU(
        np.zeros((4000, 4000), np.float32),
        compression_type="GZIP_1",
        quantize_level=0,
        tile_shape=(4000, 4000),
    )
    unit.writeto(source)
    assert source.stat().st_size < 100_000
    tell("a `.fz` with a bomb in it", *ask(*wanted(made, tmp_path, "-config", quick)))


def test_files_that_are_cut_or_spoiled(made, tmp_path, ask):
    source = put(made, REAL_TIME, image(7, 1))
    whole = source.read_bytes()
    source.write_bytes(whole[:9000])
    tell("a ramp that is cut off, or still being written", *run(*wanted(made, tmp_path)))
    assert to(tmp_path)(RAMP).read_bytes() == whole[:9000]
    source.write_bytes(whole)
    assert ask(*wanted(made, tmp_path))[1] == 0
    assert to(tmp_path)(RAMP).read_bytes() == whole
    for fault, content in (("an empty file", b""), ("a file of noise", os.urandom(5000))):
        source.write_bytes(content)
        tell(fault, *ask(*wanted(made, tmp_path, "-overwrite")))
    source.unlink()
    packed = put(made, PACKED, image(7, 1), packed=True)
    whole = packed.read_bytes()
    packed.write_bytes(whole[:-2880])
    tell("a `.fz` that is cut off", *ask(*wanted(made, tmp_path, "-overwrite")))
    spoiled = bytearray(whole)
    spoiled[-6000:-3000] = b"\xff" * 3000
    packed.write_bytes(spoiled)
    tell("a `.fz` with spoiled bytes", *ask(*wanted(made, tmp_path, "-overwrite")))


def test_a_file_that_grows(made, tmp_path):
    """What was announced is taken, not what is added meanwhile; the next run fetches it anew."""
    whole = put(made, REAL_TIME, np.tile(LARGE, (2, 1))).read_bytes()
    source = made / REAL_TIME
    source.write_bytes(whole[:2_000_000])

    def grow(event: downloads.DownloadEvent) -> None:
        if event.state == "bytes":
            source.write_bytes(whole)

    assert get(made, tmp_path, [RAMP], progress=grow).fetched == (RAMP,)
    assert to(tmp_path)(RAMP).read_bytes() == whole[:2_000_000]
    assert get(made, tmp_path, [RAMP]).fetched == (RAMP,)
    assert to(tmp_path)(RAMP).read_bytes() == whole
    tell("a ramp grows while it is fetched", "")


# Night logs


@pytest.mark.parametrize(
    ("fault", "content"),
    [
        ("the night log is empty", b""),
        ("the night log is binary", b"\x7fELF\0\x01\xff\xfe" * 500),
        ("the night log is 50 MB of noughts", b"\0" * 50_000_000),
        ("the night log is 50 MB in one line", b"field1 " * 7_000_000),
    ],
)
def test_logs_that_are_none(made, fault, content, ask):
    (made / LOGS / log_name(NIGHT)).write_bytes(content)
    tell(fault, *ask(*logged(made)))


def test_a_log_that_ends_in_mid_line(made, ask):
    log = made / LOGS / log_name(NIGHT)
    row = LOG_ROW.format(minute=2, file="00000011C1.fits.ramp", name="field1")
    log.write_text(log.read_text() + row[:70])
    said, code = ask(*logged(made))
    tell("the night log ends in mid-line", said, code)
    assert "field1" in said


def test_a_log_of_50_mb(made, ask):
    row = LOG_ROW.format(minute=2, file="{:08d}C1.fits.ramp", name="field1")
    log = made / LOGS / log_name(NIGHT)
    log.write_text(log.read_text() + "Warning: no dome, no telescope\n" * (50_000_000 // 31))
    said, code = ask(*logged(made))
    tell("the night log has 50 MB of warnings", said, code)
    assert "field1" in said
    log.write_text("".join(row.format(k) for k in range(50_000_000 // len(row))))
    tell("the night log has 50 MB of ramps", *ask(*logged(made)))


def test_names_that_try_to_leave_the_folder(made, tmp_path, ask):
    put_log(
        made,
        content=LOG_ROW.format(minute=2, file="../../../etc/x00000009C1.fits.ramp", name="field1")
        + LOG_ROW.format(minute=3, file="00000007C1.fits.ramp", name="../../outside"),
    )
    put(made, REAL_TIME, image(7, 1))
    said, code = ask(*logged(made))
    tell("a file name in the log that leaves the folder", said, code)
    parent = tmp_path / "deep/er/night"
    words = ["night", "-date", "20240825", "-archive", made, "-parent", parent, "-chip", "1"]
    said, code = run(*words, "-catalog", "none", "-no_FF", "-no_plots")
    tell("a target's name in the log that leaves the folder", said, code)
    outside = [path for path in tmp_path.rglob("*.ramp.fits") if parent not in path.parents]
    assert outside == []
    assert not list(tmp_path.rglob("outside*"))


# Links, folders, pipes, rights


def test_links_in_the_archive(made, tmp_path, ask):
    source = put(made, REAL_TIME, image(7, 1))
    moved = source.rename(tmp_path / "elsewhere.fits")
    source.symlink_to(moved)
    assert ask(*wanted(made, tmp_path / "here"))[1] == 0
    moved.unlink()
    tell("a link in the archive to nowhere", *ask(*wanted(made, tmp_path / "a")))
    source.unlink()
    source.symlink_to(source)
    tell("a link in the archive to itself", *ask(*wanted(made, tmp_path / "b")))


def test_folders_and_pipes_in_the_archive(made, nginx, ssh, tmp_path, ask):
    (made / REAL_TIME).mkdir(parents=True)
    for number, url in enumerate((made, ssh.url(made))):
        tell("a folder in place of a ramp", *ask(*wanted(url, tmp_path / str(number))))
    assert ask(*wanted(nginx.url, tmp_path / "web"))[1] == 1  # nginx: forbidden
    (made / REAL_TIME).rmdir()
    os.mkfifo(made / REAL_TIME)
    for url in (made, ssh.url(made)):
        tell("a pipe in place of a ramp", *ask(*wanted(url, tmp_path / "pipe")))


def test_rights(made, tmp_path, humble):
    source = put(made, REAL_TIME, image(7, 1))
    here = tmp_path / "here"
    here.mkdir()
    source.chmod(0o000)
    tell("a ramp that may not be read", *humble(*wanted(made, here)))
    source.chmod(0o644)
    here.chmod(0o555)
    tell("a parent folder that may not be written", *humble(*wanted(made, here / "x")))
    (made / LOGS).chmod(0o000)
    tell("the night logs may not be read", *humble(*logged(made)))


def test_links_in_the_parent_folder(made, tmp_path, ask):
    put(made, REAL_TIME, image(7, 1))
    parent, other = tmp_path / "parent", tmp_path / "other"
    for folder in (parent, other):
        folder.mkdir()
    (parent / "C1").symlink_to(other)
    tell("a folder of the products is a link", *ask(*wanted(made, parent)))
    assert (other / "00000007C1.ramp.fits").is_file()
    # A link in place of a file is replaced, not followed
    precious = tmp_path / "precious"
    precious.write_text("mine")
    for name in ("00000007C1.ramp.fits", "00000007C1.ramp.fits.part"):
        (other / name).unlink(missing_ok=True)
        (other / name).symlink_to(precious)
    for name in (log_name(NIGHT), clean_log_name(NIGHT), "failed_downloads_list.txt"):
        (parent / name).unlink(missing_ok=True)
        (parent / name).symlink_to(precious)
    said, code = ask(*wanted(made, parent, "-overwrite"))
    tell("a product's name is a link", said, code)
    assert precious.read_text() == "mine"
    assert not (other / "00000007C1.ramp.fits").is_symlink()


def test_names_that_are_taken(made, tmp_path, ask):
    put(made, REAL_TIME, image(7, 1))
    for fault, name, is_folder in (
        ("a file where a folder should be", "C1", False),
        ("a folder where a ramp should be", "C1/00000007C1.ramp.fits/x", True),
        ("a folder where the night log should be", f"{log_name(NIGHT)}/x", True),
    ):
        parent = tmp_path / fault.replace(" ", "_")
        path = parent / name
        path.parent.mkdir(parents=True)
        path.mkdir() if is_folder else path.touch()
        tell(fault, *(ask if is_folder else run)(*wanted(made, parent)))


# The table


def test_every_row_has_its_test():
    here = Path(__file__).parent
    for row in table():
        file, _, name = row.test.strip("`").partition("::")
        text = (here / file).read_text(encoding="utf-8")
        assert f"def {name}(" in text, row
        if "import" in text and "faulttable" in text:  # the others hold their rows in another way
            assert row.fault in text, row
        assert not row.says or row.says.count("`") % 2 == 0, row
    names = [row.fault for row in table()]
    assert len(names) == len(set(names))
