"""A tree of observations as a server shows it, asked over HTTP."""

import html
import http.client
import json
import os
import re
import shutil
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from htmlcase import BREAKOUT, HOSTILE, make_tree
from lockcase import holder
from photometrus.cli import main
from photometrus.errors import MissingInput, PhotometrusError
from photometrus.htmlreport.page import write_report
from photometrus.htmlreport.tree import find_observations
from photometrus.io.below import open_below
from photometrus.io.lock import NAME, locked
from photometrus.serve import server as rooms
from photometrus.serve.pages import observation_page
from photometrus.serve.server import Server
from photometrus.serve.tree import SILENT_AFTER_S, Tree

ODD = f"{BREAKOUT.replace('/', '')} #?%2e.txt"
"""A file's name that would be more than a name, in a page or in a link."""
STACK = "stack/coadd.Open-H.01598997-01598999.C1.fits.fz"


@contextmanager
def serving(top):
    with Server(top, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    """One observation that is done, one that runs, one that is damaged; and what is none of ours.

    Beside them a secret, and links to it.
    """
    folder = tmp_path_factory.mktemp("served")
    (folder / "secret").mkdir()
    (folder / "secret/key.txt").write_text("the secret\n")
    top = folder / "top"
    make_tree(top / "one & only_20240825" / "H")
    running = run(top)
    bad = top / "bad_20240825" / "H"
    bad.mkdir(parents=True)
    (bad / "run.json").write_text("{")
    (top / "link").symlink_to(folder / "secret")
    done = top / "one & only_20240825" / "H"
    (done / "key.txt").symlink_to(folder / "secret/key.txt")
    (done / "again.txt").symlink_to("config.toml")
    (done / ".hidden.txt").write_text("hidden\n")
    (done / "notes.py").write_text("no product\n")
    (done / ODD).write_text("odd\n")
    os.mkfifo(done / "pipe.txt")
    with locked(running, "photometrus pipeline"):
        yield top


def run(top, **changes):
    """An observation of which one chip of four is done; whether it still runs its lock tells."""
    root = top / "running_20240825" / "H"
    if not root.exists():
        make_tree(root)
        (root / "photometrus.log").write_text(
            f"2024-08-26T08:00:00.123Z INFO    command: x\n"
            f"2024-08-26T08:00:01.123Z INFO    C2 sky 3/9 {HOSTILE}\n"
        )
    record = json.loads((root / "run.json").read_text())
    record |= {"state": "running", "chips_asked": [1, 2, 3, 4]} | changes
    record["chips"] = {"C1": record["chips"]["C1"]}
    (root / "run.json").write_text(json.dumps(record))
    return root


@pytest.fixture(scope="module")
def server(top):
    with serving(top) as server:
        yield server


@pytest.fixture
def ask(server):
    """Gives a function that asks for a path: status, headers, content."""

    def ask(path, method="GET", **headers):
        asked = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
        asked.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            asked.putheader(name.replace("_", "-"), value)
        asked.endheaders()
        answer = asked.getresponse()
        content = answer.read()
        asked.close()
        return answer.status, answer.headers, content

    return ask


ONE = "/o/one%20%26%20only_20240825/H/"


def test_all_observations_are_found_and_told(ask, top):
    assert find_observations(top) == [
        top / "bad_20240825/H", top / "one & only_20240825/H", top / "running_20240825/H"
    ]  # fmt: skip
    assert find_observations(top / "bad_20240825/H") == [top / "bad_20240825/H"]
    status, headers, content = ask("/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    text = content.decode()
    assert f'href="{ONE}report.html"' in text
    for said in ("Complete", "Running: 1 of 4 chips done", "Cannot be read", "19.10", "1.90",
                 "C2 sky 3/9 &lt;script&gt;"):  # fmt: skip
        assert said in text
    assert HOSTILE not in text
    assert str(top) not in text


def test_a_report_is_given_and_made_anew_when_it_is_old(ask, top):
    folder = top / "one & only_20240825" / "H"
    status, headers, content = ask(f"{ONE}report.html")
    assert status == 200
    assert "sandbox allow-scripts" in headers["Content-Security-Policy"]
    assert b"8 of 12 frames are in 4 stacks" in content
    assert not (folder / "report.html").exists()  # it only reads
    write_report(folder)
    (folder / "report.html").write_bytes(content + b"<!-- from disk -->")
    assert ask(f"{ONE}report.html")[2] == content  # nothing has changed: as before
    record = json.loads((folder / "run.json").read_text())
    record["chips"]["C1"]["frames"][0]["used"] = False
    (folder / "run.json").write_text(json.dumps(record))
    assert b"7 of 12 frames are in 4 stacks" in ask(f"{ONE}report.html")[2]
    write_report(folder)
    path = folder / "report.html"
    path.write_bytes(path.read_bytes() + b"<!-- from disk -->")
    os.utime(folder / "run.json")  # changed, and then the report was written
    later = time.time() + 10
    os.utime(path, (later, later))
    assert ask(f"{ONE}report.html")[2].endswith(b"<!-- from disk -->")
    path.unlink()


def test_products_are_given_and_nothing_else(ask, top):
    folder = top / "one & only_20240825" / "H"
    status, headers, content = ask(ONE + STACK)
    assert (status, content) == (200, (folder / STACK).read_bytes())
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Content-Type-Options"] == "nosniff"
    status, headers, content = ask(f"{ONE}config.toml")
    assert content.decode() == f"# {BREAKOUT}\n"
    assert headers["Content-Type"].startswith("text/plain")
    assert ask(f"{ONE}again.txt")[2] == content  # a link that stays within
    assert ask(ONE + STACK, "HEAD")[::2] == (200, b"")
    listed = ask(ONE)[2].decode()
    assert STACK in listed
    assert "key.txt" not in listed
    assert ODD not in listed
    (link,) = re.findall(r'href="(/o/[^"]*%231?[^"]*)"', listed)
    assert ask(html.unescape(link))[2] == b"odd\n"


@pytest.mark.parametrize(
    "path",
    [
        "/o/../../secret/key.txt", "/o/%2e%2e/secret/key.txt", "/o/..%2fsecret/key.txt",
        "/o/link/key.txt", f"{ONE}key.txt", f"{ONE}.hidden.txt", f"{ONE}notes.py",
        f"{ONE}pipe.txt", f"{ONE}stack", f"{ONE}stack/", f"{ONE}%00.txt", f"{ONE}nothing.txt",
        f"{ONE}..%5C..%5Csecret/key.txt", "/o//etc/passwd", "/o/", "/o", "/live/", "/x",
        "/etc/passwd", "/o/link/", "/live/%ff/", "/o/" + "a/" * 500, "*", "/o/" + "a" * 5000 + "/",
    ],
)  # fmt: skip
def test_no_way_leads_out(ask, path):
    status, headers, content = ask(path)
    assert status == 404
    assert b"secret" not in content
    assert headers["Content-Security-Policy"].endswith("sandbox")


PARTS = ["..", ".", "", "link", "key.txt", "secret", "p", "x.txt", "a\0", "/etc/passwd", "\\", "~"]


@given(st.lists(st.sampled_from(PARTS) | st.text(max_size=4), max_size=5))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_place_below_is_below(tmp_path, parts):
    top = tmp_path / "top"
    if not top.exists():
        (top / "p").mkdir(parents=True)
        (tmp_path / "secret").mkdir()
        (tmp_path / "secret/key.txt").write_text("secret")
        (top / "p/x.txt").write_text("public")
        (top / "link").symlink_to(tmp_path / "secret")
        (top / "p/key.txt").symlink_to("../../secret/key.txt")
    try:
        file, _ = open_below(top, parts)
    except MissingInput:
        assert parts != ["p", "x.txt"]
    else:
        with file:
            assert (parts, file.read()) == (["p", "x.txt"], b"public")


def test_who_exchanges_a_folder_for_a_link_meanwhile_gains_nothing(tmp_path, monkeypatch):
    top = tmp_path / "top"
    (top / "p").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    for folder in (top / "p", tmp_path / "secret"):
        (folder / "x.txt").write_text(folder.name)
    real = os.open

    def exchange(*words, **more):
        monkeypatch.setattr(os, "open", real)
        (top / "p").rename(top / "before")
        (top / "p").symlink_to(tmp_path / "secret")
        return real(*words, **more)

    monkeypatch.setattr(os, "open", exchange)  # the look is over, the first opening comes
    with pytest.raises(MissingInput, match="not readable"):
        open_below(top, ["p", "x.txt"])


def test_a_report_with_links_that_lead_out_is_not_made(tmp_path):
    top = tmp_path / "top"
    root = make_tree(top / "p")
    secret = tmp_path / "secret.toml"
    secret.write_text("secret = 1\n")
    (root / "config.toml").unlink()
    (root / "config.toml").symlink_to(secret)
    (top / "q").mkdir()
    (top / "q/run.json").symlink_to(root / "nothing")
    with serving(top) as server:
        asked = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
        for path in ("/o/p/report.html", "/o/q/report.html"):
            asked.request("GET", path)
            answer = asked.getresponse()
            assert answer.status == 404
            assert b"secret" not in answer.read()
        asked.request("GET", "/")
        text = asked.getresponse().read().decode()
        assert "a link that leaves the tree" in text
        asked.close()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200), ("localhost:9", 200), ("LOCALHOST", 200), ("[::1]:80", 200),
        ("192.0.2.7", 200), (socket.gethostname(), 200), ("evil.example", 421), ("", 421),
        ("127.0.0.1.evil.example:8765", 421), ("localhost@evil.example", 421), ("[::1", 421),
        ("localhost:80:80", 421), ("evil.example:80", 421),
    ],
)  # fmt: skip
def test_only_names_of_this_server_are_answered(ask, host, status):
    # What a page on the web could do with a name of its own that leads here (DNS rebinding).
    assert ask("/", Host=host)[0] == status
    assert ask(f"{ONE}config.toml", Host=host)[0] == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_takes_nothing(ask, method):
    status, headers, _ = ask(ONE, method, Content_Length="5")
    assert status == 405
    assert headers["Connection"] == "close"


def test_who_has_it_already_gets_only_that(ask):
    _, headers, content = ask("/rows")
    assert content
    assert ask("/rows", If_None_Match=headers["ETag"])[::2] == (304, b"")


def age(root):
    """All of an observation as if nothing had happened for a while."""
    before = time.time() - SILENT_AFTER_S - 1
    for path in (root / "run.json", root / "photometrus.log", root / "stack"):
        if path.exists():
            os.utime(path, (before, before))


def write_log(root, text):
    with (root / "photometrus.log").open("a") as journal:
        journal.write(f"2024-08-26T08:00:02.123Z INFO    {text}\n")


def test_a_run_is_followed_by_its_lock(tmp_path):
    top = tmp_path / "top"
    root = run(top)
    tree = Tree(top)
    with holder(root) as process:
        (row,) = tree.rows()
        assert (row.state, row.said, row.again) == ("running", "Running: 1 of 4 chips done", "")
        assert row.step.startswith("C2 sky 3/9")
        write_log(root, "C3 flats 1/9")
        assert tree.rows()[0].step == "C3 flats 1/9"
        age(root)  # a long step: it runs all the same
        assert tree.rows()[0].state == "running"
        process.kill()
        process.wait()
        (row,) = tree.rows()
        assert (row.state, row.said) == ("interrupted", "Interrupted: 1 of 4 chips done")
        assert row.again == json.loads((root / "run.json").read_text())["command"]
    text = observation_page(tree, row)
    assert f"To go on: <code>{escape(row.again)}</code>" in text
    with holder(root):  # who goes on
        assert tree.rows()[0].state == "running"
        run(top, state="done")
        assert (tree.rows()[0].state, tree.rows()[0].said) == ("running", "Running anew")
    (root / NAME).unlink()
    assert tree.rows()[0].state == "good"


def test_a_night_is_its_observations(tmp_path):
    """The log of a night lies in the folder that holds them all."""
    write_log(tmp_path, "command: photometrus night")
    assert find_observations(tmp_path) == [tmp_path]  # nothing has begun
    root = run(tmp_path)
    assert find_observations(tmp_path) == [root]
    assert [row.parts for row in Tree(tmp_path).rows()] == [("running_20240825", "H")]


def test_a_download_without_a_record_is_followed(tmp_path):
    top = tmp_path / "top"
    root = run(top)
    tree = Tree(top)
    (root / "run.json").unlink()
    with holder(root) as process:
        assert [(row.state, row.step[:3]) for row in tree.rows()] == [("running", "C2 ")]
        process.kill()
        process.wait()
        assert [(row.state, row.again) for row in tree.rows()] == [
            ("interrupted", "photometrus pipeline -target a")
        ]
    (root / NAME).unlink()  # of `getdata`, which has no lock
    assert tree.rows()[0].state == "running"
    age(root)
    assert (tree.rows()[0].state, tree.rows()[0].said) == ("silent", "Running, but silent")
    write_log(root, "stopped by a signal")
    assert (tree.rows()[0].state, tree.rows()[0].again) == ("interrupted", "x")
    write_log(root, "exit code 0")
    assert (tree.rows()[0].state, tree.rows()[0].said) == ("ended", "Not reduced")
    shutil.rmtree(root)
    tree.looked = float("-inf")
    assert tree.rows() == []


def test_a_run_on_another_machine_is_believed_until_it_is_silent(tmp_path):
    top = tmp_path / "top"
    root = run(top)
    one = {"user": "eve", "host": "elsewhere", "pid": 1, "since": "2024", "command": "x"}
    (root / NAME).write_text(json.dumps(one))
    tree = Tree(top)
    assert tree.rows()[0].state == "running"
    age(root)
    assert tree.rows()[0].said == "Running, but silent: 1 of 4 chips done"
    (root / NAME).unlink()  # it came to an end, and had not made it
    assert tree.rows()[0].said == "Interrupted: 1 of 4 chips done"


def test_names_in_other_codes_and_halves_of_characters(tmp_path):
    top = tmp_path / "top"
    root = make_tree(top / os.fsdecode(b"f\xff\xfe") / "H")
    record = json.loads((root / "run.json").read_text())
    record["notes"] = ["half \ud800 of a character"]
    (root / "run.json").write_text(json.dumps(record))
    with serving(top) as server:
        asked = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
        for path in ("/", "/o/f%FF%FE/H/", "/o/f%FF%FE/H/report.html", "/o/f%FF%FE/H/run.json"):
            asked.request("GET", path)
            answer = asked.getresponse()
            assert (path, answer.status) == (path, 200)
            answer.read()
        asked.close()
    write_report(root)


def test_too_many_at_once_are_refused_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "MAX_AT_ONCE", 2)
    make_tree(tmp_path / "p")
    with serving(tmp_path) as server:
        held = [socket.create_connection(server.server_address[:2]) for _ in range(2)]
        for one in held:
            one.sendall(b"GET / HTTP/1.1\r\n")  # and never the rest
        deadline = time.monotonic() + 10
        while server.free._value and time.monotonic() < deadline:
            time.sleep(0.01)
        more = socket.create_connection(server.server_address[:2])
        more.settimeout(10)
        assert more.recv(100) == b""
        more.close()
        held[0].sendall(b"Host: localhost\r\nConnection: close\r\n\r\n")
        assert held[0].recv(100).startswith(b"HTTP/1.1 200 OK")
        for one in held:
            one.close()


def test_a_port_that_is_taken_is_an_error_with_a_way_out(tmp_path, server, capsys):
    taken = server.server_address[1]
    with pytest.raises(PhotometrusError, match=rf"port {taken} of 127.0.0.1: cannot be listened"):
        Server(tmp_path, "127.0.0.1", taken)
    assert main(["serve", str(tmp_path), "-port", str(taken)]) == 1
    assert "give another with -port" in capsys.readouterr().err
    assert main(["serve", str(tmp_path), "-port", "70000"]) == 2


def test_reports_of_a_whole_tree(tmp_path, capsys):
    make_tree(tmp_path / "a" / "H")
    make_tree(tmp_path / "b" / "H")
    assert main(["report", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*/H/report.html"))) == 2
    (tmp_path / "b/H/run.json").write_text("{")
    assert main(["report", str(tmp_path)]) == 3
    assert "not the record of an observation" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "a/H/run.json").write_text("{")
    assert main(["report", str(tmp_path)]) == 1
