"""Real servers on loopback for tests: an sshd with SFTP, and a web server.

Each is a context manager that serves until it is left::

    with ssh_server(tmp_path, require_program("sshd")) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        open_archive(server.url(folder))

    with web_server(folder) as server:
        open_archive(server.url)
"""

import base64
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0

SSHD_CONFIG = """
Port {port}
ListenAddress {host}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/user_key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
PermitRootLogin yes
StrictModes no
UsePAM no
MaxStartups 100
Subsystem sftp internal-sftp
ForceCommand internal-sftp
LogLevel VERBOSE
"""


@dataclass(frozen=True)
class SshServer:
    """A running sshd: any folder of this machine is its to serve, to the bearer of the key.

    environment : variables that let photometrus in
    """

    port: int
    folder: Path

    def url(self, path: Path) -> str:
        return f"sftp://{getpass.getuser()}@{HOST}:{self.port}{path}"

    @property
    def key(self) -> Path:
        return self.folder / "user_key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PHOTOMETRUS_KNOWN_HOSTS": str(self.known_hosts),
            "PHOTOMETRUS_SSH_KEY": str(self.key),
        }


def make_key(path: Path) -> None:
    """A new key pair: `path` and `path`.pub."""
    keygen = shutil.which("ssh-keygen") or "/usr/bin/ssh-keygen"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def ssh_server(folder: Path, sshd: str) -> Iterator[SshServer]:
    """Runs the program `sshd` with keys and configuration in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    make_key(folder / "host_key")
    make_key(folder / "user_key")
    if os.geteuid() == 0:
        # Debian's sshd, run by root without its service, misses the folder it separates into
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = SshServer(free_port(), folder)
    config = folder / "sshd_config"
    config.write_text(SSHD_CONFIG.format(port=server.port, host=HOST, folder=folder))
    host_key = (folder / "host_key.pub").read_text()
    server.known_hosts.write_text(f"[{HOST}]:{server.port} {host_key}")
    said = folder / "sshd.log"
    with said.open("wb") as output:
        process = subprocess.Popen(
            [sshd, "-D", "-e", "-f", str(config)], stdout=output, stderr=output
        )
        try:
            _wait_for_port(server.port, process, said)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=START_TIMEOUT_S)


def _wait_for_port(port: int, process: subprocess.Popen, said: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"sshd ended: {said.read_text()}"
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"sshd does not listen on {port}: {said.read_text()}")


@dataclass
class WebServer:
    """A running web server, and what it is to do wrong.

    listing : whether it shows folders
    password : ``user:password`` that it wants
    cut_off : path -> how many times to send only half of the file
    refuse : path -> how many times to answer 503
    before : called with a path before it is answered, and may take its time
    requests : the paths it was asked for
    """

    url: str = ""
    listing: bool = True
    password: str = ""
    cut_off: Counter[str] = field(default_factory=Counter)
    refuse: Counter[str] = field(default_factory=Counter)
    before: Callable[[str], object] | None = None
    requests: list[str] = field(default_factory=list)


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args, state: WebServer, **kwargs) -> None:
        self.state = state
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        self.state.requests.append(self.path)
        if self.state.before is not None:
            self.state.before(self.path)
        wanted = base64.b64encode(self.state.password.encode()).decode()
        if wanted and self.headers.get("Authorization") != f"Basic {wanted}":
            self.send_error(HTTPStatus.UNAUTHORIZED)
        elif self._once(self.state.refuse):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
        elif self._once(self.state.cut_off):
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
        else:
            super().do_GET()

    def _once(self, counter: Counter[str]) -> bool:
        """True, and one less to go, when the path is still to be treated so."""
        again = counter[self.path] > 0
        counter[self.path] -= again
        return again

    def list_directory(self, path):
        if self.state.listing:
            return super().list_directory(path)
        self.send_error(HTTPStatus.NOT_FOUND)
        return None

    def log_message(self, *args) -> None:
        pass


@contextmanager
def web_server(root: Path, *, listing: bool = True, password: str = "") -> Iterator[WebServer]:
    """Serves `root` at ``http://127.0.0.1:<port>``."""
    state = WebServer(listing=listing, password=password)
    handler = partial(_Handler, state=state, directory=str(root))
    server = ThreadingHTTPServer((HOST, 0), handler)
    server.daemon_threads = True
    state.url = f"http://{HOST}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
