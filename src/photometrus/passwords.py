"""Passwords in addresses: found, refused where others read along, taken out of what is shown."""

import re

from photometrus.errors import UsageError

ANYWHERE = re.compile(r"(?<=://)([^/@:\s\[]*):(?!\d+/)[^\s'\"]*@")
"""``user:secret@`` after ``://``, also when the secret holds what should have been written ``%2F``;
a port (``host:80/a@b``) is none."""
WAYS = (
    "a key or ssh-agent, the variables PHOTOMETRUS_SSH_PASSWORD and PHOTOMETRUS_WEB_PASSWORD, a "
    "keyring, or ~/.pgpass for a database"
)


def holds_password(text: str) -> bool:
    """Whether an address with a password is in the text."""
    return ANYWHERE.search(text) is not None


def without_password(text: str) -> str:
    """The text with three stars for every password of an address in it."""
    return ANYWHERE.sub(r"\1:***@", text)


def refuse_password(text: str, where: str) -> None:
    """UsageError when the text holds a password; `where` says who could read it there."""
    if holds_password(text):
        raise UsageError(
            f"a password in an address {where}; leave it out (sftp://user@host/...) and use {WAYS}"
        )
