"""Where the password for an archive comes from, so that nobody reads it over a shoulder."""

import ipaddress
import logging
import netrc
import os
from functools import cache
from pathlib import Path

from photometrus.io.transport import Address, login_name

log = logging.getLogger(__name__)

SSH_PASSWORD_VARIABLE = "PHOTOMETRUS_SSH_PASSWORD"  # noqa: S105 - a name, not a password
WEB_PASSWORD_VARIABLE = "PHOTOMETRUS_WEB_PASSWORD"  # noqa: S105 - a name, not a password


def password_for(address: Address) -> str | None:
    """The password for an address: its own, the environment's, or the keyring's.

    An address with a password can only come from the environment. The keyring, when the package
    of that name is installed, is asked for the user at the host.
    """
    ssh = address.scheme == "sftp"
    variable = SSH_PASSWORD_VARIABLE if ssh else WEB_PASSWORD_VARIABLE
    return address.password or os.environ.get(variable) or _from_keyring(address)


def in_the_open(address: Address) -> bool:
    """Whether a password would travel as plain text: by http, and to another machine."""
    if address.scheme != "http" or _is_here(address.host.strip("[]")):
        return False
    return bool(_from_netrc(address.host) if address.user is None else password_for(address))


@cache
def warn_of_plain_text(text: str) -> None:
    """Say it, once for each address; `text` is without the password."""
    log.warning(
        "%s: the password travels as plain text, which others on the way can read; use https:// "
        "or sftp:// if the server has it, or a tunnel (ssh -L)",
        text,
    )


def _is_here(host: str) -> bool:
    """Whether a host is this machine, by its name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def _from_netrc(host: str) -> str | None:
    """The password that ``~/.netrc`` has for a host, which is sent where no user is given."""
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return found[2] if found else None


def _from_keyring(address: Address) -> str | None:
    if address.user is None:
        return None
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        return keyring.get_password(address.host, login_name(address))
    except KeyringError:
        return None
