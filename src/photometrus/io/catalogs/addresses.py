"""Where a survey is asked: its own services, or those that somebody gave."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from photometrus.errors import UsageError
from photometrus.io.catalogs.surveys import Survey

SERVICES_VARIABLE = "PHOTOMETRUS_VO_{survey}"
"""Environment variable with the services of a survey, in place of its own."""


@dataclass(frozen=True)
class Service:
    """Where a survey can be asked: ``tap+https://host/tap#table`` or ``scs+https://host/cone``.

    Or ``postgresql://user@host/database#table``, a mirror of one's own.
    """

    protocol: str
    url: str = field(repr=False)  # may hold a password
    table: str

    @property
    def host(self) -> str:
        """The host and port, for messages: nothing that could be a password."""
        return re.sub(r"^\w+://(.*@)?", "", self.url).split("/")[0] or "localhost"

    def __str__(self) -> str:
        if self.protocol == "postgresql":
            return f"postgresql://{self.host}#{self.table}"
        return f"{self.protocol}+{re.sub('//[^/@]*@', '//', self.url)}"


def services_of(survey: Survey, given: Sequence[str] = ()) -> list[Service]:
    """Where to ask: what is given, else $PHOTOMETRUS_VO_<SURVEY>, else the survey's own row."""
    variable = os.environ.get(SERVICES_VARIABLE.format(survey=survey.name.upper()), "")
    return [
        service_named(text, survey.table, survey.name)
        for text in given or variable.split() or survey.services
    ]


def service_named(text: str, table: str, name: str) -> Service:
    """A service as it is written; `table` where it names none, `name` for the message."""
    mirror = re.fullmatch(r"(postgres(?:ql)?://[^#]+)(?:#(.+))?", text)
    if mirror is not None:
        return Service("postgresql", mirror[1], mirror[2] or f"prime_{name.lower()}_local")
    match = re.fullmatch(r"(tap|scs)\+(https?://[^#]+)(?:#(.+))?", text)
    if match is None:
        raise UsageError(
            f"service {text.split('@')[-1]!r} of {name}: expected tap+https://host/tap#table,"
            " scs+https://host/cone? or postgresql://user@host/database#table"
        )
    return Service(match[1], match[2], match[3] or table)
