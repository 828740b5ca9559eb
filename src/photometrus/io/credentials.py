"""Where the password for an archive comes from, so that nobody reads it over a shoulder."""

import os

from photometrus.io.transport import Address, login_name

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
