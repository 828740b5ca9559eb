"""The archive over a real sshd, a real web server and a folder."""

import os
import shutil
import socket
import subprocess
import threading
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import psutil
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
from photometrus.errors import MissingInput, PhotometrusError, ServiceError, UsageError
from photometrus.io import archive as archives
from photometrus.io import download as downloads
from photometrus.io import fz, nightlog, observed
from photometrus.io.archive import fetch_log, nights_near, open_archive
from photometrus.io.credentials import in_the_open, warn_of_plain_text
from photometrus.io.download import DownloadEvent, Downloads, download, write_failed
from photometrus.io.transport import parse_address
from photometrus.products import RampId, clean_log_name, log_name
from servers import HOST, free_port, make_key, web_server

TARGET, BAND = "GRB240825A", "H"
SERIALS = [1598997, 1599001, 1599005, 1599009, 1599013]


def fetch_night(url: str, folder: Path) -> Downloads:
    """The development night as a caller fetches it, all four chips."""
    with open_archive(url) as archive:
        table = nightlog.read_log(fetch_log(archive, NIGHT, folder))
        chosen = observed.select(table, TARGET, BAND)
        assert [ramp.serial for ramp in chosen] == SERIALS
        ramps = [ramp.on_chip(chip) for chip in (1, 2, 3, 4) for ramp in chosen]
        return download(archive, ramps, to(folder))


def check_night(result: Downloads, folder: Path, source: Path) -> None:
    assert result.missing == ()
    assert len(result.fetched) == 20
    assert {place.kind for place in result.sources.values()} == {"ramp_fz"}
    assert (folder / log_name(NIGHT)).read_bytes() == (source / LOGS / log_name(NIGHT)).read_bytes()
    assert (folder / clean_log_name(NIGHT)).read_text().startswith("DATEBEG filename OBJNAME")
    assert sorted(folder.rglob("*.part")) == []
    for ramp in result.fetched:
        path = to(folder)(ramp)
        with fits.open(path, memmap=False) as units:
            assert len(units) == 1
            assert units[0].data.shape == (1024, 1024)
            assert units[0].data.dtype == np.dtype(">f4")
            assert units[0].header["FILENAME"].startswith(f"{ramp.serial:08d}")
            assert units[0].header["CHIP"] == ramp.chip


# The whole way over each transport


def test_folder(shared_data, tmp_path):
    for root in (shared_data / "dev_small", shared_data / "dev_small" / "nfs"):
        folder = tmp_path / root.name
        check_night(fetch_night(str(root), folder), folder, shared_data / "dev_small/nfs")


@pytest.mark.parametrize("listing", [True, False])
@pytest.mark.parametrize("below", ["", "/nfs", "/nfs/"])
def test_web(shared_data, tmp_path, listing, below):
    with web_server(shared_data / "dev_small", listing=listing) as server:
        result = fetch_night(server.url + below, tmp_path)
    check_night(result, tmp_path, shared_data / "dev_small/nfs")


@pytest.mark.parametrize("below", ["dev_small", "dev_small/nfs"])
def test_ssh(shared_data, tmp_path, ssh, below):
    result = fetch_night(ssh.url(shared_data / below), tmp_path)
    check_night(result, tmp_path, shared_data / "dev_small/nfs")


def test_every_way_gives_the_same_bytes(shared_data, tmp_path, ssh, require_program):
    root = shared_data / "dev_small"
    ramps = [RampId(serial, 2) for serial in SERIALS[:2]]
    get(root, tmp_path / "folder", ramps)
    get(ssh.url(root), tmp_path / "ssh", ramps)
    with web_server(root) as server:
        get(server.url, tmp_path / "web", ramps)
    for ramp in ramps:
        there = [to(tmp_path / way)(ramp).read_bytes() for way in ("folder", "ssh", "web")]
        assert there[0] == there[1] == there[2]
    verify = require_program("fitsverify")
    paths = [str(to(tmp_path / "folder")(ramp)) for ramp in ramps]
    said = subprocess.run([verify, "-q", *paths], capture_output=True, text=True, check=False)
    assert said.stdout.count("verification OK") == 2, said.stdout


def test_unpacked_as_funpack_does(shared_data, tmp_path, require_program):
    funpack = require_program("funpack")
    name = "xion4/prime/ramp_fz/C4/01599000/01599001C4.fits.ramp.fz"
    packed = shared_data / "dev_small/nfs" / name
    subprocess.run([funpack, "-O", str(tmp_path / "theirs.fits"), str(packed)], check=True)
    fz.unpack(packed, tmp_path / "ours.fits")
    theirs, their_header = fits.getdata(tmp_path / "theirs.fits", header=True)
    ours, our_header = fits.getdata(tmp_path / "ours.fits", header=True)
    np.testing.assert_array_equal(ours, theirs)
    assert np.isnan(ours).any()
    # funpack adds its own checksum cards; every other card is the same
    drop = {"CHECKSUM", "DATASUM"}
    assert {k: our_header[k] for k in our_header if k not in drop} == {
        k: their_header[k] for k in their_header if k not in drop
    }


# What is fetched and what is not


def test_present_files_stay(made, tmp_path):
    ramp = RampId(7, 1)
    put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
    assert get(made, tmp_path, [ramp]).fetched == (ramp,)
    path = to(tmp_path)(ramp)
    before = path.stat().st_mtime_ns
    again = get(made, tmp_path, [ramp])
    assert (again.fetched, again.present) == ((), (ramp,))
    assert path.stat().st_mtime_ns == before
    assert get(made, tmp_path, [ramp], overwrite=True).fetched == (ramp,)
    assert path.stat().st_mtime_ns > before


@pytest.mark.parametrize("damage", ["empty", "short", "foreign", "odd"])
def test_damaged_files_are_fetched_again(made, tmp_path, damage):
    ramp = RampId(7, 1)
    source = put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
    path = to(tmp_path)(ramp)
    path.parent.mkdir()
    whole = source.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "short": whole[:-2880],
            "foreign": b"<html>".ljust(2880),
            "odd": whole + b"x",
        }[damage]
    )
    assert get(made, tmp_path, [ramp]).fetched == (ramp,)
    assert path.read_bytes() == whole


def test_a_ramp_that_is_asked_for_twice_is_fetched_once(made, tmp_path):
    put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
    assert get(made, tmp_path, [RampId(7, 1)] * 3).fetched == (RampId(7, 1),)


def test_what_is_missing_is_listed_and_the_rest_goes_on(made, tmp_path):
    for chip, disk in ((1, "home"), (2, "xion2"), (4, "xion4")):
        put(made, f"{disk}/prime/Data/ramp/00000007C{chip}.fits.ramp", image(7, chip))
    ramps = [RampId(7, chip) for chip in (1, 2, 3, 4)]
    result = get(made, tmp_path, ramps)
    assert [ramp.chip for ramp in result.fetched] == [1, 2, 4]
    assert result.missing == (
        (RampId(7, 3), "not in the archive as ramp, real_time_ramp, ramp_fz"),
    )
    listed = tmp_path / "failed_downloads_list.txt"
    write_failed(listed, result.missing)
    assert listed.read_text().split()[0] == "00000007C3"
    write_failed(listed, ())
    assert not listed.exists()
    write_failed(listed, ())


def test_missing_over_ssh(made, tmp_path, ssh):
    put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
    result = get(ssh.url(made), tmp_path, [RampId(7, 3), RampId(7, 1)])
    assert result.fetched == (RampId(7, 1),)
    assert [ramp for ramp, _ in result.missing] == [RampId(7, 3)]


def test_fall_backs_in_order(made, tmp_path):
    ramp = RampId(1599131, 3)
    packed = "xion4/prime/ramp_fz/C3/01599000/01599131C3.fits.ramp.fz"
    older = "xion3/prime/ramp_fz/C3/01599000/01599131C3.fits.ramp.fz"
    real_time = "xion3/prime/Data/ramp/01599131C3.fits.ramp"
    reprocessed = "xion4/prime/Data/reramp/C3/01599131C3.fits.ramp"
    for number, path in enumerate((older, packed, real_time, reprocessed)):
        put(made, path, np.full((8, 8), number, np.float32), packed=path.endswith("fz"))
        result = get(made, tmp_path, [ramp], overwrite=True)
        assert result.sources[ramp].path == path
        assert (fits.getdata(to(tmp_path)(ramp)) == number).all()
    for kind, path in (("real_time_ramp", real_time), ("ramp_fz", packed)):
        result = get(made, tmp_path, [ramp], overwrite=True, kind=kind)
        assert result.sources[ramp].path == path


def test_raw_frames_keep_their_type(made, tmp_path):
    data = np.arange(64, dtype=np.uint16).reshape(8, 8) + np.uint16(60000)
    put(made, "xion4/prime/Data/raw/00000007C3.fits", data)
    put(made, "xion4/prime/raw_fz/C4/00000000/00000007C4.fits.fz", data, packed=True)
    result = get(made, tmp_path, [RampId(7, 3), RampId(7, 4)], kind="raw")
    assert [result.sources[ramp].kind for ramp in result.fetched] == ["raw", "raw_fz"]
    for ramp in result.fetched:
        found = fits.getdata(to(tmp_path)(ramp))
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, data)


def test_serials_across_a_thousand(made, tmp_path):
    ramps = [RampId(serial, 1) for serial in (1598997, 1599001)]
    for ramp, thousand in zip(ramps, ("01598000", "01599000"), strict=True):
        path = f"xion4/prime/ramp_fz/C1/{thousand}/{ramp}.fits.ramp.fz"
        put(made, path, image(ramp.serial, 1), packed=True)
    assert get(made, tmp_path, ramps).fetched == tuple(ramps)


def test_unpacking_keeps_pixels_and_cards(made, tmp_path, require_program):
    ramp = RampId(7, 2)
    path = "xion4/prime/ramp_fz/C2/00000000/00000007C2.fits.ramp.fz"
    put(made, path, image(7, 2), packed=True)
    get(made, tmp_path, [ramp])
    with fits.open(to(tmp_path)(ramp), memmap=False) as units:
        np.testing.assert_array_equal(units[0].data, image(7, 2))
        header = units[0].header
    assert header["OBJNAME"] == "field1"
    assert header.comments["OBJNAME"] == "target"
    assert header["ROTOFF"] == "922:337:000NaN"
    assert not {key for key in header if key.startswith("Z") or key in fz.COMPRESSION_CARDS}
    assert "EXTNAME" not in header
    verify = require_program("fitsverify")
    done = subprocess.run([verify, "-q", str(to(tmp_path)(ramp))], capture_output=True, check=False)
    assert b"verification OK" in done.stdout


def test_a_ramp_that_is_cut_off_on_the_server_comes_as_it_is(made, tmp_path):
    source = put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
    cut = source.read_bytes()[:5000]
    source.write_bytes(cut)
    assert get(made, tmp_path, [RampId(7, 1)]).fetched == (RampId(7, 1),)
    assert to(tmp_path)(RampId(7, 1)).read_bytes() == cut


def test_a_compressed_ramp_that_is_cut_off_is_missing(made, tmp_path):
    path = "xion4/prime/ramp_fz/C1/00000000/00000007C1.fits.ramp.fz"
    source = put(made, path, image(7, 1), packed=True)
    whole = source.read_bytes()
    for n_bytes in (len(whole) - 2880, 2880 * 2, 2880, 2000):
        source.write_bytes(whole[:n_bytes])
        ((ramp, reason),) = get(made, tmp_path, [RampId(7, 1)]).missing
        assert ramp == RampId(7, 1)
        assert "truncated" in reason or "no image" in reason
        assert not to(tmp_path)(ramp).exists()


def test_spoiled_compressed_bytes_are_missing(made, tmp_path):
    path = "xion4/prime/ramp_fz/C1/00000000/00000007C1.fits.ramp.fz"
    source = put(made, path, image(7, 1), packed=True)
    content = bytearray(source.read_bytes())
    content[-6000:-3000] = b"\xff" * 3000
    source.write_bytes(content)
    ((_, reason),) = get(made, tmp_path, [RampId(7, 1)]).missing
    assert "not readable as compressed FITS" in reason
    assert sorted(tmp_path.rglob("*.part")) == []


@pytest.mark.parametrize("content", [b"", b"<html>we are sorry</html>"])
def test_what_is_no_fits_is_passed_over(made, tmp_path, content):
    bad = made / "xion4/prime/Data/reramp/C1/00000007C1.fits.ramp"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(content)
    ((_, reason),) = get(made, tmp_path, [RampId(7, 1)]).missing
    assert "reramp/C1/00000007C1.fits.ramp: " in reason
    put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
    result = get(made, tmp_path, [RampId(7, 1)])
    assert result.sources[RampId(7, 1)].kind == "real_time_ramp"


def test_ids_that_are_none_are_refused(made, tmp_path):
    for ramp in (RampId(7, 5), RampId(-1, 1), RampId(100_000_000, 1)):
        with pytest.raises(UsageError, match="expected a serial"):
            get(made, tmp_path, [ramp])
    with pytest.raises(UsageError, match="did you mean 'ramp'"):
        get(made, tmp_path, [RampId(7, 1)], kind="rampe")


def test_a_disk_that_cannot_be_written_ends_it(made, tmp_path):
    put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
    (tmp_path / "C1").write_text("a file where a folder should be")
    with pytest.raises(PhotometrusError, match="cannot be written"):
        get(made, tmp_path, [RampId(7, 1)])


def test_progress_is_told(made, tmp_path):
    ramps = [RampId(7, 1), RampId(7, 2), RampId(7, 3)]
    source = put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
    put(tmp_path, "C2/00000007C2.ramp.fits", image(7, 2))
    events: list[DownloadEvent] = []
    get(made, tmp_path, ramps, progress=events.append)
    last = {event.ramp: event.state for event in events}
    assert last == {ramps[0]: "fetched", ramps[1]: "present", ramps[2]: "missing"}
    size = source.stat().st_size
    assert DownloadEvent(ramps[0], "bytes", size, size) in events


def test_an_interruption_stops_the_workers(made, tmp_path):
    ramps = [RampId(serial, 1) for serial in range(50)]
    for ramp in ramps:
        put(made, f"home/prime/Data/ramp/{ramp}.fits.ramp", image(ramp.serial, 1))

    def interrupt(event: DownloadEvent) -> None:
        if event.state == "fetched":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(made, tmp_path, ramps, progress=interrupt)
    assert sorted(tmp_path.rglob("*.part")) == []
    assert len(list((tmp_path / "C1").iterdir())) < len(ramps)
    assert [t.name for t in threading.enumerate() if t.name.startswith("download")] == []


# Servers that stumble


@pytest.mark.parametrize("stumble", ["cut_off", "refuse"])
def test_a_transfer_that_breaks_is_tried_again(made, tmp_path, stumble):
    source = put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
    path = "/home/prime/Data/ramp/00000007C1.fits.ramp"
    with web_server(made) as server:
        getattr(server, stumble)[path] = archives.N_TRIES - 1
        assert get(server.url, tmp_path, [RampId(7, 1)]).fetched == (RampId(7, 1),)
        assert server.requests.count(path) == archives.N_TRIES
        assert to(tmp_path)(RampId(7, 1)).read_bytes() == source.read_bytes()
        # As often as it takes: what came further than the last time is no stumble.
        getattr(server, stumble)[path] = 10 * archives.N_TRIES
        ((_, reason),) = get(server.url, tmp_path, [RampId(7, 1)], overwrite=True).missing
    assert "broke off" in reason
    # What was there is still there
    assert to(tmp_path)(RampId(7, 1)).read_bytes() == source.read_bytes()


def test_a_transfer_that_falls_short_is_tried_again(made, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "RETRY_WAIT_S", 0.5)
    path = "home/prime/Data/ramp/00000007C1.fits.ramp"
    source = put(made, path, np.ones((1024, 1024), np.float32))  # four chunks
    whole = source.read_bytes()
    shortened = []

    def shorten(event: DownloadEvent) -> None:
        if event.state == "bytes" and not shortened:
            shortened.append(event)
            os.truncate(source, event.done_bytes)
            # Back long before the second try, long after the first has met the end
            threading.Timer(0.1, source.write_bytes, [whole]).start()

    assert get(made, tmp_path, [RampId(7, 1)], progress=shorten).fetched == (RampId(7, 1),)
    assert len(shortened) == 1
    assert to(tmp_path)(RampId(7, 1)).read_bytes() == whole


def test_a_broken_line_does_not_decide_for_another_reduction(made, tmp_path):
    put(made, "xion4/prime/Data/reramp/C1/00000007C1.fits.ramp", image(7, 1))
    put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(8, 1))
    with web_server(made) as server:
        server.refuse["/xion4/prime/Data/reramp/C1/00000007C1.fits.ramp"] = 99
        ((_, reason),) = get(server.url, tmp_path, [RampId(7, 1)]).missing
    assert "reramp" in reason
    assert "503" in reason


def test_a_server_that_goes_away_in_the_middle(made, tmp_path):
    ramps = [RampId(serial, 1) for serial in range(9)]
    for ramp in ramps:
        put(made, f"home/prime/Data/ramp/{ramp}.fits.ramp", image(ramp.serial, 1))
    with web_server(made) as server:
        archive = open_archive(server.url)
    with archive:
        result = download(archive, ramps, to(tmp_path))
    assert len(result.missing) == 9


def test_fewer_connections_than_workers_are_enough(made, tmp_path, monkeypatch):
    # No patience: who gets no connection must wait for another's, not try again
    monkeypatch.setattr(downloads, "RETRY_WAIT_S", 0.0)
    ramps = [RampId(serial, 1) for serial in range(12)]
    for ramp in ramps:
        put(made, f"home/prime/Data/ramp/{ramp}.fits.ramp", image(ramp.serial, 1))
    allowed = threading.Semaphore(2)

    class Limited(archives.Archive):
        def connect(self):
            if not allowed.acquire(blocking=False):
                raise ServiceError("the server allows two connections")
            return super().connect()

    with open_archive(str(made)) as archive:
        limited = Limited(archive.address, archive.mounts, archive.transport)
        assert download(limited, ramps, to(tmp_path), workers=6).missing == ()


# Opening


def test_the_archive_of_the_environment(made, monkeypatch):
    with pytest.raises(UsageError, match="PHOTOMETRUS_ARCHIVE"):
        open_archive()
    monkeypatch.setenv("PHOTOMETRUS_ARCHIVE", str(made))
    with open_archive() as archive:
        assert str(archive) == str(made)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/data", "expected a folder, http://"),
        ("sftp:///data", "no host"),
        ("http://host:port/data", "not a valid address"),
        ("prime@host.example:/data", "sftp://prime@host.example/data"),
        ("", "PHOTOMETRUS_ARCHIVE"),
        (" ", "expected a folder"),
    ],
)
def test_addresses_that_are_none(url, said):
    with pytest.raises(UsageError, match=said):
        open_archive(url)


def test_addresses():
    address = parse_address("sftp://me:s%3Acret@host:2222/data/a%20b/")
    assert (address.host, address.port, address.user) == ("host", 2222, "me")
    assert (address.password, address.root) == ("s:cret", "/data/a b")
    assert parse_address("ssh://host").scheme == "sftp"
    web = parse_address("https://me:secret@host/data/")
    assert (web.root, web.text) == ("https://host/data", "https://me@host/data")
    for shown in (address, web):
        assert "cret" not in repr(shown) + str(shown) + shown.text
    assert parse_address("file:///data/x").root == "/data/x"
    assert parse_address("~/x").root == str(Path.home() / "x")


def test_a_folder_that_is_no_archive(tmp_path):
    with pytest.raises(MissingInput, match="no such folder"):
        open_archive(str(tmp_path / "absent"))
    with pytest.raises(MissingInput, match="give the folder that holds nfs/"):
        open_archive(str(tmp_path))


def test_a_server_without_archive(tmp_path, ssh):
    with pytest.raises(MissingInput, match="give the folder that holds nfs/"):
        open_archive(ssh.url(tmp_path))


def test_the_observatorys_web_page_has_logs(tmp_path):
    page = tmp_path / "prime_staff/LOG/Ramp_LOG"
    page.mkdir(parents=True)
    shutil.copy(put_log(tmp_path / "made"), page)
    with web_server(tmp_path) as server, open_archive(f"{server.url}/prime_staff") as archive:
        assert len(nightlog.read_log(fetch_log(archive, NIGHT, tmp_path / "out"))) == 1


def test_nobody_answers():
    for scheme in ("http", "sftp"):
        with pytest.raises(ServiceError, match="check the address"):
            open_archive(f"{scheme}://{HOST}:{free_port()}/data")


def test_a_web_server_that_wants_a_password(made, tmp_path):
    with web_server(made, password="me:se cret") as server:
        for given in ("", "me:wrong@"):
            url = server.url.replace("://", f"://{given}")
            with pytest.raises(ServiceError, match="user and a password") as caught:
                open_archive(url)
            assert "wrong" not in str(caught.value)
        with open_archive(server.url.replace("://", "://me:se%20cret@")) as archive:
            assert fetch_log(archive, NIGHT, tmp_path).exists()


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://me:secret@archive.example/", True),
        ("http://me:secret@192.0.2.7:8080/data", True),
        ("http://me:secret@[2001:db8::7]/", True),
        ("http://with.netrc.example/", True),
        ("http://me@archive.example/", False),  # a user without a password
        ("http://archive.example/", False),
        ("https://me:secret@archive.example/", False),
        ("sftp://me:secret@archive.example/", False),
        ("http://me:secret@127.0.0.1:8080/", False),  # this machine, or the end of a tunnel
        ("http://me:secret@[::1]/", False),
        ("http://me:secret@localhost/", False),
    ],
)
def test_a_password_in_the_open_is_known(url, warned, tmp_path, monkeypatch):
    monkeypatch.delenv("PHOTOMETRUS_WEB_PASSWORD", raising=False)
    (tmp_path / "netrc").write_text("machine with.netrc.example login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert in_the_open(parse_address(url)) == warned


def test_a_password_in_the_open_is_warned_of_once(made, tmp_path, caplog):
    known = [one for several in psutil.net_if_addrs().values() for one in several]
    mine = [one.address for one in known if one.family == socket.AF_INET]
    addresses = [address for address in mine if not address.startswith("127.")]
    host = addresses[0] if addresses else HOST
    warn_of_plain_text.cache_clear()
    with web_server(made, password="me:se cret", host=host) as server:
        for folder in ("a", "b"):
            with open_archive(server.url.replace("://", "://me:se%20cret@")) as archive:
                assert fetch_log(archive, NIGHT, tmp_path / folder).exists()
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == (1 if addresses else 0)
    for words in warnings:
        assert words.startswith(f"archive http://me@{host}:")
        assert "use https:// or sftp://" in words
        assert "cret" not in words


def test_an_unknown_host_key_is_refused(made, ssh, monkeypatch):
    monkeypatch.delenv("PHOTOMETRUS_KNOWN_HOSTS")
    with pytest.raises(ServiceError, match=f"ssh-keyscan -p {ssh.port} {HOST}") as caught:
        open_archive(ssh.url(made))
    assert "SHA256:" in str(caught.value)


def test_the_users_known_hosts_are_read(made, ssh, monkeypatch, no_settings_of_this_machine):
    monkeypatch.delenv("PHOTOMETRUS_KNOWN_HOSTS")
    folder = no_settings_of_this_machine / ".ssh"
    folder.mkdir()
    shutil.copy(ssh.known_hosts, folder / "known_hosts")
    with open_archive(ssh.url(made)) as archive:
        assert archive.mounts == ("",)


def test_a_changed_host_key_is_refused(made, ssh, monkeypatch, tmp_path):
    make_key(tmp_path / "other")
    known = tmp_path / "known_hosts"
    known.write_text(f"[{HOST}]:{ssh.port} {(tmp_path / 'other.pub').read_text()}")
    monkeypatch.setenv("PHOTOMETRUS_KNOWN_HOSTS", str(known))
    with pytest.raises(ServiceError, match="another machine answers"):
        open_archive(ssh.url(made))


def test_a_wrong_key_is_refused(made, ssh, monkeypatch, tmp_path):
    make_key(tmp_path / "other")
    monkeypatch.setenv("PHOTOMETRUS_SSH_KEY", str(tmp_path / "other"))
    monkeypatch.setenv("PHOTOMETRUS_SSH_PASSWORD", "xyzzy-1")
    with pytest.raises(ServiceError, match="refuses user") as caught:
        open_archive(ssh.url(made).replace("@", ":plugh-2@"))
    for secret in ("xyzzy-1", "plugh-2"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("variable", ["PHOTOMETRUS_SSH_KEY", "PHOTOMETRUS_KNOWN_HOSTS"])
def test_a_setting_that_names_no_file(made, ssh, monkeypatch, variable):
    monkeypatch.setenv(variable, "/nowhere/at/all")
    with pytest.raises(MissingInput, match=f"{variable}=/nowhere/at/all"):
        open_archive(ssh.url(made))


def test_secrets_are_not_logged(made, ssh, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PHOTOMETRUS_SSH_PASSWORD", "xyzzy-1")
    with caplog.at_level("DEBUG"), open_archive(ssh.url(made).replace("@", ":plugh-2@")) as it:
        fetch_log(it, NIGHT, tmp_path)
        shown = repr(it) + str(it)
    assert "connected to" in caplog.text
    for secret in ("xyzzy-1", "plugh-2"):
        assert secret not in shown + caplog.text


# Logs and nights


def test_a_night_without_log_names_those_that_have_one(made, tmp_path):
    put_log(made, date(2024, 8, 20))
    with open_archive(str(made)) as archive:
        with pytest.raises(MissingInput, match="2024-08-25, 2024-08-20"):
            fetch_log(archive, date(2024, 8, 24), tmp_path)
        with pytest.raises(MissingInput, match="nor is there one within 14 days"):
            fetch_log(archive, date(2023, 8, 24), tmp_path)
    assert list(tmp_path.glob("*.dat")) == []


def test_nights_near(made, tmp_path, ssh):
    for day in (20, 22, 28, 31):
        put_log(made, date(2024, 8, day))
    expected = [date(2024, 8, day) for day in (22, 28, 20, 31)]
    with open_archive(str(made)) as archive:
        assert nights_near(archive, NIGHT, 4) == expected
        assert nights_near(archive, NIGHT, 9, reach_days=5) == expected[:3]
    with open_archive(ssh.url(made)) as archive:
        assert nights_near(archive, NIGHT, 1) == expected[:1]


def test_a_page_of_excuses_is_no_log(made, tmp_path):
    put_log(made, content="<!DOCTYPE html><p>404, we are sorry</p>")
    with open_archive(str(made)) as archive, pytest.raises(MissingInput, match="no night log"):
        fetch_log(archive, NIGHT, tmp_path)


def test_a_log_of_strange_bytes_is_kept_as_it_is(made, tmp_path):
    content = b"\xff\xfe\0" * 100
    (made / LOGS / log_name(NIGHT)).write_bytes(content)
    with open_archive(str(made)) as archive:
        path = fetch_log(archive, NIGHT, tmp_path)
    assert path.read_bytes() == content
    with pytest.raises(MissingInput, match="not text"):
        nightlog.read_log(path)


def test_a_log_that_breaks_off(made, tmp_path):
    path = f"/{LOGS}/{log_name(NIGHT)}"
    with web_server(made) as server, open_archive(server.url) as archive:
        server.cut_off[path] = archives.N_TRIES - 1
        assert fetch_log(archive, NIGHT, tmp_path).stat().st_size > 0
        server.refuse[path] = archives.N_TRIES
        with pytest.raises(ServiceError, match="try again later"):
            fetch_log(archive, NIGHT, tmp_path)


def test_every_shelf_of_every_chip():
    address = parse_address("file:///archive")
    with_nfs = archives.Archive(address, ("nfs/",), None)
    without = replace(with_nfs, mounts=("",))
    for chip, disk in ((1, "home"), (2, "xion2"), (3, "xion3"), (4, "xion4")):
        ramp = RampId(1599131, chip)
        paths = [place.path for place in without.places(ramp)]
        assert paths[0] == f"xion4/prime/Data/reramp/C{chip}/01599131C{chip}.fits.ramp"
        assert paths[1] == f"{disk}/prime/Data/ramp/01599131C{chip}.fits.ramp"
        assert paths[2] == f"xion4/prime/ramp_fz/C{chip}/01599000/01599131C{chip}.fits.ramp.fz"
        assert [f"nfs/{path}" for path in paths] == [p.path for p in with_nfs.places(ramp)]
