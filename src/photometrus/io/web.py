"""Files from a web server: every request is for an exact path, no listing is needed."""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
from fsspec.implementations.http import HTTPFileSystem

from photometrus.errors import ServiceError
from photometrus.io.transport import (
    CONNECT_TIMEOUT_S,
    READ_TIMEOUT_S,
    AbsentError,
    Address,
    BrokenError,
    Transport,
)

UNAUTHORIZED, FORBIDDEN, TOO_MANY, SERVER_FAILED = 401, 403, 429, 500


class WebTransport(Transport):
    """HTTP through fsspec and aiohttp."""

    broken = (aiohttp.ClientError, asyncio.TimeoutError, *Transport.broken)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns statuses and exceptions into ours: 429 and 5xx may pass, other refusals stay."""
        with super().explained():
            try:
                yield
            except aiohttp.ClientResponseError as error:
                words = f"HTTP {error.status} {error.message}".strip()
                if error.status == TOO_MANY or error.status >= SERVER_FAILED:
                    raise BrokenError(words) from error
                raise AbsentError(words) from error

    def has_folder(self, path: str) -> bool | None:
        """True when the server shows the folder. None when not: many servers show none."""
        try:
            with self.open(f"{path}/"):
                return True
        except AbsentError:
            return None

    def _open(self, path: str) -> tuple[Any, int | None]:
        # block_size 0: one request that streams; a size: spares the request that asks for it
        file = self.fs.open(path, "rb", block_size=0, size=1)
        headers = file.r.headers
        length = None if "Content-Encoding" in headers else headers.get("Content-Length")
        return file, None if length is None else int(length)


def connect_web(address: Address) -> WebTransport:
    """A web server that answers. Raises ServiceError when it does not, or wants a password."""
    options: dict[str, Any] = {
        # sock_read, not total: a ramp may take minutes, a silence may not
        "timeout": aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S
        ),
        "headers": {"Accept-Encoding": "identity", **_authorization(address)},
        "trust_env": True,
    }
    fs = HTTPFileSystem(client_kwargs=options, skip_instance_cache=True)
    transport = WebTransport(address, fs)
    try:
        with transport.open(""):
            pass
    except AbsentError as error:
        if str(error).startswith(f"HTTP {UNAUTHORIZED}"):
            raise ServiceError(
                f"archive {address.text}: the server wants a user and a password, or refuses "
                f"these; give them as {address.scheme}://user:password@{address.host}/..."
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
    token = base64.b64encode(f"{address.user}:{address.password or ''}".encode()).decode()
    return {"Authorization": f"Basic {token}"}
