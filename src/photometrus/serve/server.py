"""The server: who may ask, what for, and what is answered. It reads, and writes nothing."""

import hashlib
import ipaddress
import logging
import os
import re
import socket
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes

from photometrus.errors import MissingInput, PhotometrusError
from photometrus.htmlreport.page import UNFIT, page
from photometrus.io.below import open_below
from photometrus.products import Products
from photometrus.serve import pages
from photometrus.serve.tree import Tree, check_links, report_stamp

log = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long a client may say nothing."""
MAX_AT_ONCE = 64
"""Connections; more are refused."""
MAX_REPORTS = 8
"""Reports that are kept in memory."""
TEXT, PAGE = "text/plain; charset=utf-8", "text/html; charset=utf-8"
KINDS = dict.fromkeys((".txt", ".log", ".json", ".toml", ".dat", ".ecsv", ".csv", ".reg"), TEXT)
KINDS |= {".png": "image/png"} | dict.fromkeys(
    (".fits", ".fz", ".wcs", ".head", ".cat", ".parquet", ".new"), "application/octet-stream"
)
"""What is given out, by the end of its name; nothing else is."""
HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(?::\d+)?")
"""Name or address, and a port."""
NOTHING = "default-src 'none'; frame-ancestors 'none'; sandbox"
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
    " frame-ancestors 'none'; sandbox allow-scripts allow-downloads allow-modals"
)
"""Beside the stricter one that a report states itself: whatever is in the file on disk, it reaches
nobody, and has no part in this server's other pages."""


class Server(ThreadingHTTPServer):
    """Shows the observations below a folder. Raises PhotometrusError when it cannot listen."""

    daemon_threads = True

    def __init__(self, top: Path, host: str, port: int) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.tree = Tree(top)
        self.names = {"localhost", host.lower(), socket.gethostname().lower()} - {""}
        self.reports: dict[Path, tuple[tuple[int, ...], bytes]] = {}
        self.building = threading.Lock()
        self.free = threading.BoundedSemaphore(MAX_AT_ONCE)
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise PhotometrusError(
                f"port {port} of {host}: cannot be listened at ({error.strerror or error}); give"
                " another with -port, or 0 for any"
            ) from error

    @property
    def url(self) -> str:
        """Its address for a browser on this machine."""
        host = str(self.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}/"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can ask."""
        return ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, if there are not too many."""
        if not self.free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The same, in that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the library's
        """Whoever went away before the answer was through is no reason for a traceback."""
        log.info("%s: went away", client_address[0])

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server.

        A page on the web can let a name of its own point here, and would then read what is shown;
        it cannot do so with an address, nor with our own names.
        """
        name = HOST.fullmatch(host)
        if name is None:
            return False
        try:
            ipaddress.ip_address(name[1].strip("[]"))
        except ValueError:
            return name[1].lower() in self.names
        return True

    def report(self, folder: Path) -> bytes:
        """The page of an observation, made anew when its files have changed since."""
        check_links(self.tree.top, folder)
        stamp = report_stamp(folder)
        with self.building:  # one at a time: it is work for a core
            kept = self.reports.pop(folder, None)
            if kept is None or kept[0] != stamp:
                kept = stamp, _report(folder, max(stamp))
            self.reports[folder] = kept  # the latest stands last
            while len(self.reports) > MAX_REPORTS:
                del self.reports[next(iter(self.reports))]
        return kept[1]


def _report(folder: Path, changed: int) -> bytes:
    """The report on disk, if it is newer than all that it shows; else one made in memory."""
    path = Products(folder, "").html_report
    if path.is_file() and not path.is_symlink() and path.stat().st_mtime_ns > changed:
        return path.read_bytes()
    return page(folder).encode()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    server_version = "photometrus"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S

    def do_GET(self) -> None:  # noqa: N802 - the library's
        """Answer, or say why not."""
        if not self.server.knows(self.headers.get("Host", "")):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this server has another name")
            return
        try:
            self._answer()
        except MissingInput as error:
            log.info("%s: %s", self.path, error)
            self._refuse(HTTPStatus.NOT_FOUND, "nothing of that name is shown here")
        except (PhotometrusError, *UNFIT) as error:
            log.warning("%s: %s", self.path, error)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "it cannot be read; see the terminal")

    do_HEAD = do_GET  # noqa: N815 - the library's

    def _refuse_method(self) -> None:
        self.close_connection = True  # what it sent is not read
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "this server only shows; it takes nothing")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse_method  # noqa: N815

    def _answer(self) -> None:
        tree = self.server.tree
        asked = self.path.partition("?")[0].split("/")[1:]
        room, *parts = [os.fsdecode(unquote_to_bytes(part)) for part in asked] or ["*"]
        if (room, parts) == ("", []):
            self._send_text(pages.index_page(tree), PAGE, pages.policy())
        elif (room, parts) == ("rows", []):
            self._send_text(pages.rows_fragment(tree), PAGE, NOTHING)
        elif room == "live" and parts[-1:] == [""]:
            found = tree.row(parts[:-1])
            self._send_text(pages.observation_fragment(tree, found), PAGE, NOTHING)
        elif room == "o" and parts[-1:] == [""]:
            found = tree.row(parts[:-1])
            self._send_text(pages.observation_page(tree, found), PAGE, pages.policy())
        elif room == "o" and parts[-1:] == ["report.html"]:
            folder = tree.top.joinpath(*tree.row(parts[:-1]).parts)
            self._send(self.server.report(folder), PAGE, REPORT_POLICY)
        elif room == "o" and parts:
            self._send_file(parts)
        else:
            raise MissingInput(f"{self.path}: no page of this server")

    def _send_text(self, text: str, kind: str, policy: str) -> None:
        """A page; to who has it already, only that."""
        content = text.encode("utf-8", "replace")  # names on disk may be in any code
        mark = f'"{hashlib.sha256(content).hexdigest()}"'
        if self.headers.get("If-None-Match") == mark:
            self._head(HTTPStatus.NOT_MODIFIED, kind, policy, mark=mark)
            return
        self._send(content, kind, policy, mark=mark)

    def _send(self, content: bytes, kind: str, policy: str, mark: str = "") -> None:
        self._head(HTTPStatus.OK, kind, policy, length=len(content), mark=mark)
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_file(self, parts: list[str]) -> None:
        kind = KINDS.get(Path(parts[-1]).suffix)
        if kind is None:
            raise MissingInput(f"{parts[-1]!r}: not of a kind that is shown")
        file, known = open_below(self.server.tree.top, parts)
        with file:
            self._head(HTTPStatus.OK, kind, NOTHING, length=known.st_size)
            if self.command != "HEAD":
                self._copy(file, known.st_size)

    def _copy(self, file: BinaryIO, size: int) -> None:
        """So much of a file as was announced, even when it grows meanwhile."""
        while size > 0 and (block := file.read(min(size, 1 << 20))):
            self.wfile.write(block)
            size -= len(block)
        if size:
            self.close_connection = True  # it has become shorter: the client must not wait

    def _head(
        self, status: HTTPStatus, kind: str, policy: str, *, length: int = 0, mark: str = ""
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(length))
        self.send_header("Content-Security-Policy", policy)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-cache")
        if self.close_connection:
            self.send_header("Connection", "close")
        if mark:
            self.send_header("ETag", mark)
        self.end_headers()

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        content = f"{status.value} {status.phrase}: {words}\n".encode()
        self._head(status, TEXT, NOTHING, length=len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's
        """Requests are for -verbose."""
        log.info("%s %s", self.client_address[0], format % args)
