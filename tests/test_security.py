"""What must not happen: passwords in the open, code out of data, text that acts.

Each fault holds its row of docs/faults.md, "Security", against what is said.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.table import Table

from archivecase import (  # noqa: F401 - fixtures, some of them for every test
    LOGS,
    NIGHT,
    image,
    made,
    no_settings_of_this_machine,
    put,
    put_log,
    short_waits,
)
from faulttable import run, tell
from photometrus import cli
from photometrus.cli.show import clean
from photometrus.config import dump, load
from photometrus.errors import PhotometrusError, UsageError
from photometrus.io import catalogs
from photometrus.io.catalogs import files
from photometrus.io.transport import parse_address
from photometrus.passwords import holds_password, without_password
from photometrus.products import log_name
from servers import HOST, Line, web_server

ROOT = Path(__file__).resolve().parents[1]
LOGGED = ["log", "-date", "20240825", "-archive"]
SECRET = "xyzzy-1"  # noqa: S105 - of nobody


@pytest.fixture
def ask(capsys):
    def command(*words: object) -> tuple[str, int]:
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        return "".join(capsys.readouterr()), code

    return command


# Passwords


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        (f"sftp://me:{SECRET}@host/", True),
        (f"-archive=https://me:{SECRET}@host:22/a", True),
        (f"postgresql://me:{SECRET}@host/db", True),
        (f"sftp://me:a/b@{SECRET}@host/", True),
        (f"sftp://:{SECRET}@host/", True),
        ("sftp://me@host:2222/data", False),
        ("http://host:8080/data@2024/x", False),
        ("http://[::1]:80/a@b", False),
        ("field:1@2", False),
    ],
)
def test_passwords_are_found_and_hidden(text, holds):
    assert holds_password(text) == holds
    assert SECRET not in without_password(f"could not reach {text} today")
    assert SECRET not in clean(f"could not reach {text} today")
    if not holds:
        assert without_password(text) == text


def test_passwords_where_others_read_them(ask, tmp_path, made):
    url = f"sftp://me:{SECRET}@host/data"
    said, code = run(*LOGGED, url)
    tell("a password in an address on the command line", said, code)
    settings = tmp_path / "prime.toml"
    settings.write_text(f'[input]\narchive = "{url}"\n')
    more, code = ask("log", "-date", "20240825", "-config", settings)
    tell("a password in an address in a configuration", more, code)
    assert SECRET not in said + more


@pytest.mark.parametrize("secret", [f"{SECRET}/x", f"{SECRET}#x", f"a@{SECRET}/x", f"{SECRET}?"])
@pytest.mark.parametrize("scheme", ["sftp", "https"])
def test_a_password_that_breaks_its_address(scheme, secret):
    with pytest.raises(UsageError) as caught:
        parse_address(f"{scheme}://me:{secret}@host/data")
    assert SECRET not in str(caught.value)


def test_a_password_of_the_environment_is_written_nowhere(made, tmp_path, monkeypatch):
    """The archive's address may hold one there; neither record nor settings nor messages do."""
    with web_server(made, password=f"me:{SECRET}") as server:
        put(made, "home/prime/Data/ramp/00000007C1.fits.ramp", image(7, 1))
        url = server.url.replace("://", f"://me:{SECRET}@")
        parent = tmp_path / "out"
        words = ["pipeline", "-target", "field1", "-date", "20240825", "-band", "J", "-chip", "1"]
        options = ["-parent", parent, "-catalog", "none", "-no_FF", "-no_plots", "-verbose"]
        said, code = run(*words, *options, PHOTOMETRUS_ARCHIVE=url)
    assert code == 1  # a stand-in for a ramp; the record is written all the same
    assert "disks below" in said
    assert SECRET not in said
    written = [path for path in parent.rglob("*") if path.is_file()]
    assert {"run.json", "config.toml"} <= {path.name for path in written}
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    assert json.loads((parent / "run.json").read_text())["command"].startswith("photometrus ")


def test_a_password_of_the_keyring(made, tmp_path, monkeypatch, ask):
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend

    class Here(KeyringBackend):
        priority = 1

        def get_password(self, service, username):
            return {(HOST, "me"): SECRET}.get((service, username))

        def set_password(self, service, username, password):
            raise AssertionError("nothing is stored")

    before = keyring.get_keyring()
    keyring.set_keyring(Here())
    try:
        with web_server(made, password=f"me:{SECRET}") as server:
            said, code = ask(*LOGGED, server.url.replace("://", "://me@"))
            assert (code, SECRET in said) == (0, False)
            assert ask(*LOGGED, server.url.replace("://", "://you@"))[1] == 1
    finally:
        keyring.set_keyring(before)


def test_settings_are_written_without_passwords():
    with pytest.raises(UsageError, match="a password in an address"):
        load(None, {"run": {"scheduler": f"tcp://me:{SECRET}@host:1"}})
    assert "sftp://me@host/x" in dump(load(None, {"input": {"archive": "sftp://me@host/x"}}))


# Text that acts


def test_what_a_log_says_is_text(made, ask):
    row = (made / LOGS / log_name(NIGHT)).read_text()
    name = "[red]<script>$x^2$"
    put_log(made, content=row.replace("field1", name) + row.replace("field1", "\x1b[31mred"))
    said, code = ask(*LOGGED, made)
    tell("a log whose names steer a terminal", said, code)
    assert name in said
    assert "\x1b" not in said


def test_what_a_server_says_is_text(made, ask):
    reason = (b"404 File not found", b"503 \x1b[31mred\x07 [red]")
    with (
        web_server(made) as server,
        Line(int(server.url.split(":")[-1]), edit=lambda piece: piece.replace(*reason)) as line,
    ):
        said, code = ask(*LOGGED, f"http://{HOST}:{line.port}/")
    tell("a server whose messages steer a terminal", said, code)
    assert "\x1b" not in said


# Code and entities out of data

ROW = (
    '<VOTABLE version="1.3"><RESOURCE><TABLE><FIELD name="ra" datatype="double"/>'
    '<FIELD name="dec" datatype="double"/><FIELD name="Jmag" datatype="float"/>'
    '<FIELD name="e_Jmag" datatype="char" arraysize="*"/><DATA><TABLEDATA>'
    "<TR><TD>1</TD><TD>2</TD><TD>3</TD><TD>{}</TD></TR>"
    "</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
)
LAUGHS = '<!ENTITY l0 "lollollollol">' + "".join(
    f'<!ENTITY l{k} "{f"&l{k - 1};" * 10}">' for k in range(1, 10)
)


def document(entities: str, text: str) -> str:
    return f'<?xml version="1.0"?>\n<!DOCTYPE VOTABLE [{entities}]>\n{ROW.format(text)}'


def test_a_votable_that_laughs_a_billion_times(tmp_path, ask, made):
    """Gigabytes out of a kilobyte: astropy's expat stops it. So it does in a service's answer."""
    path = tmp_path / "laughs.vot"
    path.write_text(document(LAUGHS, "&l9;"))
    with pytest.raises(UsageError) as caught:
        files.read(path)
    tell("a VOTable of a billion laughs", str(caught.value))
    with web_server(tmp_path) as server:
        service = f"scs+{server.url}/laughs.vot?"
        with pytest.raises(PhotometrusError) as caught:
            catalogs.calibrators("2MASS", (1.0, 2.0), 0.1, "J", cache=tmp_path, services=[service])
    tell("a catalogue service that laughs a billion times", str(caught.value))


def test_a_votable_that_asks_for_a_file(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    asked = []
    with web_server(tmp_path) as server:
        for number, where in enumerate((f"file://{tmp_path}/secret", f"{server.url}/secret")):
            path = tmp_path / f"{number}.vot"
            path.write_text(document(f'<!ENTITY x SYSTEM "{where}">', "&x;"))
            rows = files.read(path)
            assert SECRET not in str(rows)
        asked = list(server.requests)
    assert asked == []
    tell("a VOTable that asks for a file of this machine", "")


def test_a_catalogue_with_code_in_it(tmp_path):
    path = tmp_path / "stars.ecsv"
    Table({"ra": [1.0], "dec": [2.0], "Jmag": [3.0]}).write(path)
    evil = f"# meta: !!python/object/apply:pathlib.Path.touch [{tmp_path}/touched]\n# schema"
    path.write_text(path.read_text().replace("# schema", evil))
    with pytest.raises(UsageError) as caught:
        files.read(path)
    assert not (tmp_path / "touched").exists()
    tell("a catalogue with code in it", str(caught.value))


CALLS = {"eval", "exec", "compile", "__import__"}
WORDS = {"shell", "allow_pickle", "verify"}
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "telnetlib", "ftplib"}


def source_nodes() -> Iterator[tuple[Path, ast.AST]]:
    """Every piece of every module."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


def imported(node: ast.AST) -> set[str]:
    """The libraries that a piece of source imports."""
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [str(node.module)]
    return {name.split(".")[0] for name in names}


def test_no_code_out_of_data():
    n_calls = 0
    for path, node in source_nodes():
        names = {getattr(name, "name", name) for name in getattr(node, "names", [])}
        if names != {"UnpicklingError"}:  # an error that is caught reads nothing
            assert not imported(node) & MODULES, path
        if isinstance(node, ast.Call):
            n_calls += 1
            if isinstance(node.func, ast.Name):
                assert node.func.id not in CALLS, path
            # no shell, no pickles, and certificates are verified
            assert not {word.arg for word in node.keywords} & WORDS, path
    assert n_calls > 1000


# Libraries


def test_every_library_is_listed_with_its_reason():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", text.split("## Libraries")[1], re.M)
    told = {
        name.strip().lower(): reason.strip() for names, reason in rows for name in names.split(",")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    needed = {re.split(r"[\[<>=!~; ]", name)[0].lower() for name in wanted}
    assert not [name for name in needed if len(told.get(name, "")) < 10]


def test_what_is_imported_is_a_dependency():
    """No library comes along by chance, with another one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["postgresql"]]
    wanted += project["optional-dependencies"]["keyring"]
    known = {re.split(r"[\[<>=!~; ]", name)[0].replace("-", "_").lower() for name in wanted}
    # IPython is asked for only where a notebook is, which has it.
    known |= {"pil", "mpl_toolkits", "ipython", "photometrus", *sys.stdlib_module_names}
    found = {name.lower() for _, node in source_nodes() for name in imported(node)}
    assert found - known == set()


def test_the_audit_says_what_it_could_not_ask(tmp_path):
    """Where no service answers the audit passes and says so; with a finding it fails."""
    script = ROOT / ".ci/audit.py"
    clear = {"name": "astropy", "version": "2.0", "vulns": []}
    bad = {"name": "numpy", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["3"]}]}
    not_ours = {**bad, "name": "setuptools"}
    skipped = {"name": "rich", "skip_reason": "not found"}
    for rows, code, said in (
        ([clear, skipped, not_ours], 0, "1 of"),
        ([clear, bad], 1, "numpy 1: X-1; mended in 3"),
        ([], 0, "no service answered"),
    ):
        path = tmp_path / "audit.json"
        path.write_text(json.dumps({"dependencies": rows}))
        done = subprocess.run(
            [sys.executable, script, path], capture_output=True, text=True, check=False
        )
        assert (done.returncode, said in done.stdout) == (code, True), done.stdout + done.stderr
