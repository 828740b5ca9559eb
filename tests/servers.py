"""Real servers on loopback for tests: an sshd with SFTP, and a web server.

Each is a context manager that serves until it is left::

    with ssh_server(tmp_path, require_program("sshd")) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        open_archive(server.url(folder))

    with web_server(folder) as server:
        open_archive(server.url)

    with nginx_server(tmp_path / "nginx", folder, require_program("nginx")) as server:
        open_archive(server.url)

    with Line(server.port, cut_at=[300_000]) as line:
        open_archive(server.url_at(line.port))  # breaks off once, in a large file
"""

import base64
import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
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
PasswordAuthentication yes
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
    pid: int = 0

    def url(self, path: Path, port: int = 0) -> str:
        return f"sftp://{getpass.getuser()}@{HOST}:{port or self.port}{path}"

    def know(self, port: int) -> None:
        """Make its key known also behind another port."""
        host_key = (self.folder / "host_key.pub").read_text()
        with self.known_hosts.open("a") as file:
            file.write(f"[{HOST}]:{port} {host_key}")

    def kill_sessions(self) -> int:
        """Kill (-9) what serves the connections, not what listens; how many there were."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for pid in listed:
            os.kill(int(pid), signal.SIGKILL)
        return len(listed)

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
            yield replace(server, pid=process.pid)
        finally:
            process.terminate()
            process.wait(timeout=START_TIMEOUT_S)


def _wait_for_port(port: int, process: subprocess.Popen, said: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"server ended: {said.read_text()}"
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"server does not listen on {port}: {said.read_text()}")


NGINX_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  log_format asked '$status $body_bytes_sent "$http_range" $request_uri "$http_authorization"';
  access_log {folder}/access.log asked;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen {host}:{port}{ssl};
    root {root};
    {extra}
  }}
}}
"""


@dataclass(frozen=True)
class Nginx:
    """A running nginx."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        return f"http://{HOST}:{port}"

    def asked(self, part: str) -> list[list[str]]:
        """[status, bytes, range] of each request whose path holds `part`, in their order."""
        lines = (self.folder / "access.log").read_text().splitlines()
        return [line.split()[:3] for line in lines if part in line]


@contextmanager
def nginx_server(
    folder: Path, root: Path, nginx: str, extra: str = "", *, ssl: bool = False
) -> Iterator[Nginx]:
    """Runs the program `nginx` with its files in `folder`; `extra` goes into its server block.

    ssl : with a certificate that nobody has signed
    """
    folder.mkdir(parents=True, exist_ok=True)
    if ssl:
        names = ["-keyout", "key.pem", "-out", "cert.pem", "-subj", f"/CN={HOST}"]
        make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
        openssl = shutil.which("openssl") or "/usr/bin/openssl"
        subprocess.run([openssl, *make], cwd=folder, check=True, capture_output=True)
        extra += f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;"
    server = Nginx(free_port(), folder)
    config = folder / "nginx.conf"
    config.write_text(
        NGINX_CONFIG.format(
            folder=folder,
            host=HOST,
            port=server.port,
            root=root,
            extra=extra,
            ssl=" ssl" if ssl else "",
        )
    )
    said = folder / "nginx.log"
    command = [nginx, "-e", str(said), "-p", str(folder), "-c", str(config)]
    with said.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            _wait_for_port(server.port, process, said)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=START_TIMEOUT_S)


class Line:
    """A TCP line to a real server, and what is wrong with the line.

    cut_at : the first connection that has brought so many bytes breaks off there, then the next
    stall_at : the same, but it falls silent
    drip_at : the same, but what follows comes letter by letter, twenty in a second
    edit : changes what the server sends, piece by piece
    """

    def __init__(
        self,
        port: int,
        *,
        cut_at: Iterable[int] = (),
        stall_at: Iterable[int] = (),
        drip_at: Iterable[int] = (),
        edit: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self.to_port = port
        self.cut_at = list(cut_at)
        self.stall_at = list(stall_at)
        self.drip_at = list(drip_at)
        self.edit = edit
        self.on_cut: Callable[[], None] | None = None
        self.n_bytes = 0
        self.stop = threading.Event()

    def __enter__(self) -> "Line":
        self.listener = socket.create_server((HOST, 0))
        self.listener.settimeout(0.1)
        self.port = self.listener.getsockname()[1]
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(timeout=5)
        self.listener.close()

    def _accept(self) -> None:
        while not self.stop.is_set():
            with suppress(TimeoutError):
                here, _ = self.listener.accept()
                there = socket.create_connection((HOST, self.to_port))
                for pump, ends in ((self._ask, (here, there)), (self._answer, (there, here))):
                    thread = threading.Thread(target=pump, args=ends, daemon=True)
                    self.threads.append(thread)
                    thread.start()

    def _pieces(self, source: socket.socket) -> Iterator[bytes]:
        source.settimeout(0.1)
        while not self.stop.is_set():
            with suppress(TimeoutError):
                piece = source.recv(16384)
                if not piece:
                    return
                yield piece

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            for piece in self._pieces(client):
                server.sendall(piece)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        n_bytes = 0
        with suppress(OSError), server, client:
            for piece in self._pieces(server):
                sent = self.edit(piece) if self.edit else piece
                n_bytes += len(sent)
                if self.stall_at and n_bytes >= self.stall_at[0]:
                    self.stall_at.pop(0)
                    self.stop.wait()
                if self.drip_at and n_bytes >= self.drip_at[0]:
                    self.drip_at.pop(0)
                    for letter in sent:
                        client.sendall(bytes([letter]))
                        self.stop.wait(0.05)
                if self.cut_at and n_bytes >= self.cut_at[0]:
                    self.cut_at.pop(0)
                    if self.on_cut:
                        self.on_cut()
                    client.shutdown(socket.SHUT_RDWR)
                    return
                self.n_bytes += len(sent)
                client.sendall(sent)


@dataclass
class WebServer:
    """A running web server, and what it is to do wrong.

    listing : whether it shows folders
    password : ``user:password`` that it wants
    cut_off : path -> how many times to send only half of the file
    refuse : path -> how many times to answer 503
    endless : paths that never end
    before : called with a path before it is answered, and may take its time
    requests : the paths it was asked for
    """

    url: str = ""
    listing: bool = True
    password: str = ""
    cut_off: Counter[str] = field(default_factory=Counter)
    refuse: Counter[str] = field(default_factory=Counter)
    endless: tuple[str, ...] = ()
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
        elif self.path in self.state.endless:
            self.send_response(HTTPStatus.OK)
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b"SIMPLE  =                    T".ljust(1 << 16))
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
def web_server(
    root: Path, *, listing: bool = True, password: str = "", host: str = HOST
) -> Iterator[WebServer]:
    """Serves `root` at ``http://127.0.0.1:<port>``, or another address of this machine."""
    state = WebServer(listing=listing, password=password)
    handler = partial(_Handler, state=state, directory=str(root))
    server = ThreadingHTTPServer((host, 0), handler)
    server.daemon_threads = True
    state.url = f"http://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
