"""A real Virtual Observatory service on loopback: GAVO DaCHS over its own PostgreSQL cluster.

It serves tables by TAP and by Simple Cone Search. Debian packages:
python3-gavo, postgresql, postgresql-15-q3c, postgresql-15-pgsphere.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from astropy.table import Table

SETTINGS = """\
[general]
rootDir: {root}
group: {group}
[web]
user: {user}
serverPort: {port}
serverURL: http://127.0.0.1:{port}
bindAddress: 127.0.0.1
[async]
defaultMAXREC: 1000000
[ivoa]
dalDefaultLimit: 1000000
"""

RESOURCE = """\
<resource schema="surveys">
  <meta name="title">Surveys</meta>
  <meta name="description">Stars with the columns of surveys</meta>
  <meta name="creationDate">2024-01-01T00:00:00Z</meta>
  <meta name="subject">stars</meta>
  <meta name="creator">photometrus tests</meta>
{tables}
</resource>
"""
TABLE = """\
  <table id="{name}" onDisk="True" adql="True" mixin="//scs#q3cindex">
    <column name="raj2000" type="double precision" unit="deg" ucd="pos.eq.ra;meta.main"/>
    <column name="dej2000" type="double precision" unit="deg" ucd="pos.eq.dec;meta.main"/>
    <column name="designation" type="text" ucd="meta.id;meta.main"/>
{columns}
  </table>
  <data id="import_{name}">
    <sources>{name}.csv</sources><csvGrammar/>
    <make table="{name}"><rowmaker idmaps="*"/></make>
  </data>
  <service id="cone_{name}" allowed="scs.xml">
    <meta name="shortName">{name}</meta>
    <meta name="testQuery">
      <meta name="ra">1</meta><meta name="dec">1</meta><meta name="sr">1</meta>
    </meta>
    <dbCore queriedTable="{name}"><FEED source="//scs#coreDescs"/></dbCore>
  </service>
"""


@dataclass(frozen=True)
class Dachs:
    """The addresses of a running service, in the form that `catalogs.reference` takes."""

    root: str
    database: str
    """URL of the PostgreSQL database behind it, which has q3c."""

    def tap(self, name: str) -> str:
        return f"tap+{self.root}/tap#surveys.{name}"

    def scs(self, name: str) -> str:
        return f"scs+{self.root}/surveys/q/cone_{name}/scs.xml?"


def installed() -> bool:
    """Whether DaCHS and PostgreSQL's server programs are on this machine."""
    return shutil.which("dachs") is not None and _postgres_programs() is not None


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serve(tables: Mapping[str, Table]) -> Iterator[Dachs]:
    """Serve tables (RAJ2000, DEJ2000 and others) from a new database, until the block is left."""
    # Not in pytest's own folder, which is closed to the user that the database runs as.
    with (
        tempfile.TemporaryDirectory(prefix="dachs-", ignore_cleanup_errors=True) as folder,
        _serve(Path(folder), tables) as dachs,
    ):
        yield dachs


@contextlib.contextmanager
def _serve(folder: Path, tables: Mapping[str, Table]) -> Iterator[Dachs]:
    programs = _postgres_programs()
    assert programs is not None
    # PostgreSQL refuses root; its package makes this user.
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    port, database_port = free_port(), free_port()
    root = folder / "root"
    inputs = root / "inputs" / "surveys"
    inputs.mkdir(parents=True)
    described = [_describe(inputs, name, table) for name, table in tables.items()]
    (inputs / "q.rd").write_text(RESOURCE.format(tables="".join(described)), "ascii")
    settings = folder / "gavo.rc"
    group = subprocess.run(
        ["id", "-gn", user.pw_name], capture_output=True, text=True, check=True
    ).stdout.strip()
    settings.write_text(
        SETTINGS.format(root=root, user=user.pw_name, group=group, port=port), "ascii"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "GAVOSETTINGS": str(settings),
        "LC_ALL": "C.UTF-8",
    }
    as_user: dict[str, object] = {"cwd": folder, "env": environment, "stdin": subprocess.DEVNULL}
    if os.getuid() == 0:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)
        as_user |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def run(*command: str) -> None:
        with (folder / "setup.log").open("a") as out:
            done = subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, timeout=120, check=False, **as_user
            )
        assert done.returncode == 0, (command, (folder / "setup.log").read_text()[-2000:])

    run(str(programs / "initdb"), "-D", "pg", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
    logs = (folder / "servers.log").open("w")
    database = subprocess.Popen(
        [
            *(str(programs / "postgres"), "-D", "pg", "-p", str(database_port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            *("-c", "fsync=off"),
        ],
        **as_user,
        stdout=logs,
        stderr=logs,
        start_new_session=True,
    )
    server = None
    try:
        at = ("-h", "127.0.0.1", "-p", str(database_port))
        _wait(lambda: _accepts(database_port), 30.0, folder)
        run(str(programs / "createdb"), *at, "gavo")
        run("dachs", "init", "-d", f"dbname=gavo host=127.0.0.1 port={database_port}")
        run("dachs", "imp", "surveys/q")
        server = subprocess.Popen(
            ["dachs", "serve", "debug"], **as_user, stdout=logs, stderr=logs, start_new_session=True
        )
        address = f"http://127.0.0.1:{port}"
        _wait(lambda: _available(address), 60.0, folder)
        yield Dachs(address, f"postgresql://{user.pw_name}@127.0.0.1:{database_port}/gavo")
    finally:
        for process in (server, database):
            if process is not None:
                # SIGINT is PostgreSQL's "fast": it does not wait for clients.
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        logs.close()


def _describe(folder: Path, name: str, table: Table) -> str:
    """Write a table's rows; what DaCHS must know of it."""
    rows = table.copy()
    rows.rename_columns(["RAJ2000", "DEJ2000"], ["raj2000", "dej2000"])
    kinds = {"f": "", "i": ' type="smallint" required="True"', "U": ' type="text"'}
    columns = [
        f'    <column name="{column}"{kinds[rows[column].dtype.kind]}/>'
        for column in rows.colnames[2:]
    ]
    rows["designation"] = [f"s{i}" for i in range(len(rows))]
    rows.write(folder / f"{name}.csv", format="ascii.csv")
    return TABLE.format(name=name, columns="\n".join(columns))


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def _available(address: str) -> bool:
    with (
        contextlib.suppress(OSError, urllib.error.URLError),
        urllib.request.urlopen(f"{address}/tap/availability", timeout=5) as answer,
    ):
        return b"true" in answer.read()
    return False


def _wait(ready, seconds: float, folder: Path) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, (folder / "servers.log").read_text()[-2000:]
        time.sleep(0.1)
