"""Files from an SSH server: SFTP with the server's key verified.

fsspec's own default trusts any key that it meets for the first time; here a key must be among the
known hosts of the user, of the machine, or of a file that the environment names.
"""

import logging
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

from photometrus.errors import MissingInput, ServiceError
from photometrus.io.credentials import SSH_PASSWORD_VARIABLE, password_for
from photometrus.io.limits import TransferConfig
from photometrus.io.transport import (
    CONNECT_TIMEOUT_S,
    AbsentError,
    Address,
    Stream,
    Transport,
    login_name,
)

log = logging.getLogger(__name__)

KNOWN_HOSTS_VARIABLE = "PHOTOMETRUS_KNOWN_HOSTS"
KEY_VARIABLE = "PHOTOMETRUS_SSH_KEY"
MACHINE_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")
SSH_PORT = 22
REQUESTS_TIMEOUT_S = 10.0
GREETING_TIMEOUT_S = 2 * CONNECT_TIMEOUT_S
"""For all of it: connection, keys, login, the first answer."""


class UnknownHostError(paramiko.SSHException):
    """The server's key is not among the known hosts."""


class _RefuseUnknown(paramiko.MissingHostKeyPolicy):
    """No key is trusted at first sight."""

    def missing_host_key(self, client: Any, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        raise UnknownHostError(f"{key.get_name()} {key.fingerprint}")


class VerifiedSFTP(SFTPFileSystem):
    """fsspec's SFTP with known hosts; never cached, since each thread needs its own."""

    cachable = False

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        for path in (None, *_known_hosts_files()):
            try:
                self.client.load_system_host_keys(path and str(path))
            except (ValueError, OSError, paramiko.hostkeys.InvalidHostKey) as error:
                raise MissingInput(
                    f"{path or '~/.ssh/known_hosts'}: not a file of known SSH hosts ({error}); "
                    "correct it, or let ssh-keyscan write it anew"
                ) from error
        self.client.set_missing_host_key_policy(_RefuseUnknown())
        # paramiko waits for ever for a server that falls silent between login and first answer
        watch = threading.Timer(GREETING_TIMEOUT_S, self.client.close)
        watch.daemon = True
        watch.start()
        try:
            self.client.connect(self.host, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()
        except BaseException:
            self.client.close()
            raise
        finally:
            watch.cancel()


class SftpTransport(Transport):
    """SFTP through fsspec and paramiko."""

    broken = (paramiko.SSHException, *Transport.broken)
    read_bytes = 1 << 15  # more at once waits for all of it, however slow the line

    def close(self) -> None:
        """End the connection."""
        self.fs.client.close()

    def _open(self, path: str, begin: int, mark: str) -> Stream:
        state = self.fs.ftp.stat(path)
        if not stat.S_ISREG(state.st_mode or stat.S_IFREG):
            raise AbsentError("not a file")
        size_bytes = state.st_size or 0
        self.check_size(size_bytes)  # before each piece of it is asked for
        file = self.fs.open(path, "rb")
        now = f"{state.st_mtime} {size_bytes}"
        begin = begin if mark == now else 0
        if begin < size_bytes:
            file.seek(begin)
            file.prefetch(size_bytes)
            _await_requests(file, size_bytes - begin)
        return Stream(self, file, size_bytes, begin, now)


def _await_requests(file: paramiko.SFTPFile, n_bytes: int) -> None:
    """Waits until paramiko's helper thread has asked for every piece.

    Measured with paramiko 5.1, four threads on loopback: a reader that overtakes the helper makes
    it think that all is done; from there on each 32 kB waits for the one before (19 MB/s), else
    160 MB/s. A limit on requests under way has the same effect (7 MB/s). The answers cannot fill
    the memory meanwhile: the server stops at the channel's window of 2 MB until they are read.
    """
    n_requests = -(-n_bytes // file.MAX_REQUEST_SIZE)
    asked: Any = getattr(file, "_prefetch_extents", range(n_requests))
    deadline = time.monotonic() + REQUESTS_TIMEOUT_S
    while len(asked) < n_requests and time.monotonic() < deadline:
        time.sleep(0.001)


def _without_tracebacks() -> None:
    """A thread of paramiko's that reads ahead ends with its line: nobody need see its traceback."""
    usual = threading.excepthook
    if getattr(usual, "reads_ahead", False):
        return

    def hook(args: Any) -> None:
        if args.thread is not None and "_prefetch_thread" in args.thread.name:
            log.debug("%s: %s", args.thread.name, args.exc_value)
        else:
            usual(args)

    hook.reads_ahead = True  # type: ignore[attr-defined]
    threading.excepthook = hook


def connect_sftp(address: Address, limits: TransferConfig | None = None) -> SftpTransport:
    """An SSH server that knows us and that we know. Raises ServiceError with the way out."""
    _without_tracebacks()
    port = address.port or SSH_PORT
    user = login_name(address)
    options = {
        "port": port,
        "username": user,
        "password": password_for(address),
        "key_filename": _key_file(),
        "timeout": CONNECT_TIMEOUT_S,
        "banner_timeout": CONNECT_TIMEOUT_S,
        "auth_timeout": CONNECT_TIMEOUT_S,
    }
    where = f"archive {address.text}"
    scan = f"ssh-keyscan -p {port} {address.host}"
    try:
        fs = VerifiedSFTP(address.host, **options)
    except UnknownHostError as error:
        raise ServiceError(
            f"{where}: the server's key ({error}) is not known here; compare it with the "
            f"observatory's and add it: {scan} >> ~/.ssh/known_hosts (or to the file named by "
            f"{KNOWN_HOSTS_VARIABLE})"
        ) from error
    except paramiko.BadHostKeyException as error:
        raise ServiceError(
            f"{where}: the server's key is not the known one: another machine answers, or the key "
            f"was changed; ask the observatory, then ssh-keygen -R '{_known_name(address, port)}' "
            f"and {scan} >> ~/.ssh/known_hosts"
        ) from error
    except paramiko.AuthenticationException as error:
        raise ServiceError(
            f"{where}: the server refuses user {user!r} ({error}); name the user in the address "
            f"(sftp://user@host/...) and a key or password by {KEY_VARIABLE} or "
            f"{SSH_PASSWORD_VARIABLE} or a keyring, or load the key with ssh-add"
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise ServiceError(
            f"{where}: no SSH connection to {address.host} port {port} ({_reason(error)}); check "
            "the address, the port and the network"
        ) from error
    log.debug("connected to %s", address.text)
    transport = SftpTransport(address, fs, limits)
    channel = fs.ftp.get_channel()
    if channel is not None:
        channel.settimeout(transport.limits.silence_s)
    return transport


def _reason(error: Exception) -> str:
    """What paramiko means."""
    said = str(error).removeprefix("[Errno None] ")
    silent = ("No existing session", "Negotiation failed", "protocol banner", "Timeout")
    if not said or isinstance(error, TimeoutError) or any(words in said for words in silent):
        return "it does not answer, or speaks no SSH"
    return said


def _known_name(address: Address, port: int) -> str:
    """A server's name as known_hosts files spell it."""
    return address.host if port == SSH_PORT else f"[{address.host}]:{port}"


def _known_hosts_files() -> list[Path]:
    """Files of known hosts beside the user's own."""
    files = [MACHINE_KNOWN_HOSTS] if MACHINE_KNOWN_HOSTS.is_file() else []
    named = os.environ.get(KNOWN_HOSTS_VARIABLE)
    if named:
        files.append(_existing(named, KNOWN_HOSTS_VARIABLE))
    return files


def _key_file() -> str | None:
    """The private key that the environment names; MissingInput when it is none."""
    named = os.environ.get(KEY_VARIABLE)
    if not named:
        return None
    path = _existing(named, KEY_VARIABLE)
    try:
        paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError):
        pass  # the passphrase is tried later; an agent may hold the same key
    except (paramiko.SSHException, paramiko.pkey.UnknownKeyType, ValueError, OSError) as error:
        raise MissingInput(
            f"{KEY_VARIABLE}={named}: not a private key ({str(error).split('. ')[0]}); give the "
            "file that has a .pub beside it"
        ) from error
    return str(path)


def _existing(named: str, variable: str) -> Path:
    path = Path(named).expanduser()
    if not path.is_file():
        raise MissingInput(f"{variable}={named}: no such file; correct or unset {variable}")
    return path
