"""Surveys of the Virtual Observatory: one row each, and where they are asked."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from photometrus.errors import UsageError, nearest

SERVICES_VARIABLE = "PHOTOMETRUS_VO_{survey}"
"""Environment variable with the services of a survey, in place of its own."""

VIZIER_MIRRORS = (
    "https://vizier.cds.unistra.fr",
    "https://vizier.cfa.harvard.edu",
    "https://vizier.idia.ac.za",
    "https://vizier.nao.ac.jp",
    "https://vizier.iucaa.in",
    "https://vizier.inasan.ru",
    "https://vizier.china-vo.org",
)


@dataclass(frozen=True)
class Service:
    """Where a survey can be asked: ``tap+https://host/tap#table`` or ``scs+https://host/cone``."""

    protocol: str
    url: str
    table: str

    def __str__(self) -> str:
        return f"{self.protocol}+{self.url}"


@dataclass(frozen=True)
class Survey:
    """One survey: how it is asked for, and what its numbers mean.

    table : its name in ADQL, for services that do not call it otherwise
    services : in the order in which they are asked (`Service` tells the form)
    columns : what is wanted of it; the first two are RA and Dec
    """

    name: str
    table: str
    services: tuple[str, ...]
    columns: tuple[str, ...]
    epoch_yr: float
    mag_system: str


def _vizier(table: str) -> tuple[str, ...]:
    """The services of a VizieR table: TAP at its home, then a cone search at every mirror."""
    cones = tuple(f"scs+{mirror}/viz-bin/conesearch/{table}?" for mirror in VIZIER_MIRRORS)
    return ("tap+https://tapvizier.cds.unistra.fr/TAPVizieR/tap", *cones)


SURVEYS = {
    survey.name: survey
    for survey in (
        Survey(
            "2MASS",
            '"II/246/out"',
            (*_vizier("II/246/out"), "tap+https://dc.g-vo.org/tap#twomass.data"),
            (
                *("RAJ2000", "DEJ2000", "errMaj", "errMin", "Jmag", "e_Jmag", "Hmag", "e_Hmag"),
                *("Kmag", "e_Kmag", "Qflg", "Xflg"),
            ),
            2000.0,  # observed 1997 to 2001; the catalogue has no proper motions
            "Vega",
        ),
        Survey(
            "Gaia",
            '"I/355/gaiadr3"',
            _vizier("I/355/gaiadr3"),
            (
                *("RA_ICRS", "DE_ICRS", "e_RA_ICRS", "e_DE_ICRS", "pmRA", "pmDE"),
                *("Gmag", "e_Gmag", "RPmag", "e_RPmag"),
            ),
            2016.0,
            "Vega",
        ),
    )
}


def survey_named(source: str | Path) -> Survey | None:
    """The survey that `source` names, None when it is a path; UsageError when it is neither."""
    if isinstance(source, Path):
        return None
    names = {name.lower(): name for name in SURVEYS}
    if source.lower() in names:
        return SURVEYS[names[source.lower()]]
    if "/" in source or "." in source or Path(source).exists():
        return None
    raise UsageError(
        f"catalogue {source!r}: no such file, and the surveys are"
        f" {', '.join(SURVEYS)}{nearest(source.lower(), names)}"
    )


def services_of(survey: Survey, given: Sequence[str] = ()) -> list[Service]:
    """Where to ask: what is given, else $PHOTOMETRUS_VO_<SURVEY>, else the survey's own row."""
    variable = os.environ.get(SERVICES_VARIABLE.format(survey=survey.name.upper()), "")
    return [_service(text, survey) for text in given or variable.split() or survey.services]


def _service(text: str, survey: Survey) -> Service:
    match = re.fullmatch(r"(tap|scs)\+(https?://[^#]+)(?:#(.+))?", text)
    if match is None:
        raise UsageError(
            f"service {text!r} of {survey.name}: expected tap+https://host/tap#table or"
            " scs+https://host/cone?"
        )
    return Service(match[1], match[2], match[3] or survey.table)
