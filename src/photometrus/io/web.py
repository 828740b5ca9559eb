"""Files from a web server: every request is for an exact path, no listing is needed."""

import asyncio
import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from photometrus.errors import ServiceError
from photometrus.io.credentials import (
    WEB_PASSWORD_VARIABLE,
    in_the_open,
    password_for,
    warn_of_plain_text,
)
from photometrus.io.limits import TransferConfig
from photometrus.io.transport import (
    CONNECT_TIMEOUT_S,
    AbsentError,
    Address,
    BrokenError,
    Stream,
    Transport,
)

PARTIAL, UNAUTHORIZED, SERVER_FAILED = 206, 401, 500
PASSING = (416, 429)
"""No such part of the file, as it was announced; too many requests."""
PART = re.compile(r"bytes (\d+)-\d+/(\d+)")


class WebTransport(Transport):
    """HTTP through fsspec and aiohttp."""

    broken = (aiohttp.ClientError, asyncio.TimeoutError, *Transport.broken)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns statuses and exceptions into ours: some refusals may pass, the others stay."""
        with super().explained():
            try:
                yield
            except aiohttp.TooManyRedirects as error:
                raise AbsentError("it redirects in a circle") from error
            except aiohttp.ClientResponseError as error:
                words = f"HTTP {error.status} {error.message}".strip()
                if error.status in PASSING or error.status >= SERVER_FAILED:
                    raise BrokenError(words) from error
                raise AbsentError(words) from error

    def has_folder(self, path: str) -> bool | None:
        """True when the server shows the folder. None when not: many servers show none."""
        try:
            with self.open(f"{path}/"):
                return True
        except AbsentError:
            return None

    def _open(self, path: str, begin: int, mark: str) -> Stream:
        asked = {"Range": f"bytes={begin}-", "If-Range": mark} if begin else {}
        # block_size 0: one request that streams; a size: spares the request that asks for it
        file = self.fs.open(path, "rb", block_size=0, size=1, headers=asked)
        headers = file.r.headers
        length = None if "Content-Encoding" in headers else headers.get("Content-Length")
        size_bytes = None if length is None else int(length)
        if file.r.status != PARTIAL:
            return Stream(self, file, size_bytes, 0, _mark(headers))
        found = PART.fullmatch(headers.get("Content-Range", ""))
        if found is None or int(found[1]) != begin:
            raise BrokenError(f"HTTP {PARTIAL} with another part than byte {begin} onwards")
        return Stream(self, file, int(found[2]), begin, mark)


def _mark(headers: Mapping[str, str]) -> str:
    """What a later request can name to get the rest of this very file and no other."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def connect_web(address: Address, limits: TransferConfig | None = None) -> WebTransport:
    """A web server that answers. Raises ServiceError when it does not, or wants a password."""
    limits = limits or TransferConfig()
    if in_the_open(address):
        warn_of_plain_text(f"archive {address.text}")
    options: dict[str, Any] = {
        # A ramp may take minutes, a silence may not; total: for heads that come letter by letter
        "timeout": aiohttp.ClientTimeout(
            total=2 * limits.max_file_s, sock_connect=CONNECT_TIMEOUT_S, sock_read=limits.silence_s
        ),
        "headers": {"Accept-Encoding": "identity", **_authorization(address)},
        "trust_env": True,
    }
    fs = HTTPFileSystem(client_kwargs=options, skip_instance_cache=True)
    transport = WebTransport(address, fs, limits)
    try:
        with transport.open(""):
            pass
    except AbsentError as error:
        if str(error).startswith(f"HTTP {UNAUTHORIZED}"):
            raise ServiceError(
                f"archive {address.text}: the server wants a user and a password, or refuses "
                f"these; give the user as {address.scheme}://user@{address.host}/... and the "
                f"password by {WEB_PASSWORD_VARIABLE} or a keyring"
            ) from error
    except BrokenError as error:
        raise ServiceError(
            f"archive {address.text}: no answer ({error}); check the address and the network"
        ) from error
    return transport


def _authorization(address: Address) -> dict[str, str]:
    """The header that lets a user in (a redirect to elsewhere drops it); none without a user."""
    if address.user is None:
        return {}
    password = password_for(address) or ""
    token = base64.b64encode(f"{address.user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {token}"}
