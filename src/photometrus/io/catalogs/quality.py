"""What a survey's own flags say: which magnitudes to trust, and what is no star.

The rules belong to families of surveys that one pipeline made (`FAMILIES`), so that a file with
a family's columns is treated as the survey itself is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table

from photometrus.io.catalogs.lookup import Alias, Column, Columns

Rule = Callable[[Column], Column]
"""Values to bool."""


def _one_of(*values: float) -> Rule:
    return lambda column: np.isin(column, values)


def _below(limit: float) -> Rule:
    return lambda column: column < limit  # False where the flag is unknown


def _above(limit: float) -> Rule:
    return lambda column: column > limit


def _bits(wanted: int, unwanted: int = 0) -> Rule:
    def rule(column: Column) -> Column:
        bits = np.nan_to_num(column).astype(np.int64)
        return np.asarray(((bits & wanted) == wanted) & ((bits & unwanted) == 0))

    return rule


def _letter(position: int, allowed: str) -> Rule:
    return lambda column: np.isin([text[position : position + 1] for text in column], [*allowed])


@dataclass(frozen=True)
class Cut:
    """What the first of the columns of these names that is there must hold."""

    names: tuple[str, ...]
    rule: Rule
    text: bool = False


@dataclass(frozen=True)
class Family:
    """Surveys that one pipeline made.

    system : of its magnitudes, "AB" or a name of `magnitudes.SYSTEMS`
    markers : columns that no other family has; one of them names the family of a file, unless
        it has one of those in `without` as well
    cuts : for all bands (key "") or for one; every one whose column is there must be passed
    galaxies : a source that is one of these is no star; `kron` as well: point-spread minus Kron
        magnitude beyond a limit (Farrow et al. 2014, MNRAS 437, 748: 0.05)
    wavelengths_nm : of filters that are not PRIME's but go by the same letter
    labels : what the family calls its bands, where it is not our letter
    """

    system: str
    markers: tuple[str, ...]
    cuts: Mapping[str, tuple[Cut, ...]]
    galaxies: tuple[Cut, ...] = ()
    without: tuple[str, ...] = ()
    kron: tuple[tuple[str, str], ...] = ()
    wavelengths_nm: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def _two_mass(position: int) -> tuple[Cut, ...]:
    """The n-th letter of Skrutskie et al. 2006's flags: S/N > 7, not saturated, not confused."""
    return (
        Cut(("Qflg", "ph_qual"), _letter(position, "AB"), text=True),
        Cut(("Rflg", "rd_flg"), _letter(position, "12"), text=True),
        Cut(("Cflg", "cc_flg"), _letter(position, "0"), text=True),
    )


def _error_bits(limit: float, *patterns: str) -> dict[str, tuple[Cut, ...]]:
    """Per band the column of post-processing error bits; 256 and more are warnings."""
    return {
        band: (Cut(tuple(p.replace("J", band) for p in patterns), _below(limit)),)
        for band in ("Z", "Y", "J", "H")
    }


# Merged class: -1 star, -2 probably, 1 galaxy, -3 probably, 0 noise, -9 saturated.
_CLASSIFIED = Cut(("Mclass", "mergedClass", "cl"), _one_of(-1, -2, 1, -3))
_GALAXY = Cut(("Mclass", "mergedClass", "cl"), _one_of(1, -3))
_XSC = Cut(("XflgGAL", "Xflg", "gal_contam"), _one_of(1, 2))
_OPTICAL = {"Z": "z", "Y": "y", "I": "i"}

FAMILIES: dict[str, Family] = {
    "2MASS": Family(
        "2MASS",
        ("Qflg", "ph_qual", "j_m"),
        {"J": _two_mass(0), "H": _two_mass(1), "K": _two_mass(2)},
        (_XSC,),
        ("Ymag", "Zmag"),
        labels={"K": "Ks"},
    ),
    "VISTA": Family(
        "VISTA",
        ("Jap3", "Hap3", "Jmag3", "Jperrbits", "ksapermag3"),
        {"": (_CLASSIFIED,), **_error_bits(256, "Jperrbits", "JppErrBits")},
        (_GALAXY,),
        labels={"K": "Ks"},
    ),
    "UKIDSS": Family(
        "UKIDSS",
        ("Jmag1", "Kmag1", "j_1apermag3", "k_1apermag3", "kapermag3"),
        {"": (_CLASSIFIED,), **_error_bits(256, "Jflags1", "Jflags", "Jflag", "JppErrBits")},
        (_GALAXY,),
    ),
    "PS1": Family(
        "AB",
        ("zKmag", "yKmag"),
        # bit 4: good measurement; 64, 128: suspect or poor in the stack; 1, 2: extended
        {"": (Cut(("Qual",), _bits(4, 64 | 128)),)},
        (Cut(("Qual",), lambda q: ~_bits(0, 1 | 2)(q)),),
        kron=(("zmag", "zKmag"), ("ymag", "yKmag")),
        wavelengths_nm={"I": 752.0, "Z": 866.0, "Y": 962.0},  # Tonry et al. 2012, ApJ 750, 99
        labels=_OPTICAL,
    ),
    "SkyMapper": Family(
        "AB",
        ("zPSF",),
        {"": (Cut(("flags",), _below(4)),), "Z": (Cut(("Nzflags",), _below(1)),)},
        (Cut(("ClassStar",), _below(0.5)),),
        wavelengths_nm={"I": 779.0, "Z": 916.0},  # Bessell et al. 2011, PASP 123, 789
        labels=_OPTICAL,
    ),
    "SDSS": Family(
        "AB",
        ("zpmag",),
        {"": (Cut(("mode",), _one_of(1)),)},
        (Cut(("class",), _one_of(3)),),
        wavelengths_nm={"I": 748.0, "Z": 893.0},  # Fukugita et al. 1996, AJ 111, 1748
        labels=_OPTICAL,
    ),
    "DES": Family(
        "AB",
        ("ExtClsCoad",),
        {"Z": (Cut(("zFlag",), _below(4)),), "Y": (Cut(("yFlag",), _below(4)),)},
        (Cut(("ExtClsCoad",), _above(1)),),  # 0, 1: stars; Abbott et al. 2021, ApJS 255, 20
        wavelengths_nm={"I": 783.0, "Z": 926.0, "Y": 990.0},
        labels={"Z": "z", "Y": "Y", "I": "i"},
    ),
    "": Family(  # of no survey: what can mean nothing else counts
        "",
        (),
        {"": (_CLASSIFIED,), "J": _two_mass(0), "H": _two_mass(1), "K": _two_mass(2)},
        (_GALAXY, _XSC),
    ),
}
_OUR_GALAXY = Cut(("extended",), _one_of(1))
"""In files that we wrote ourselves."""


def family_of(rows: Table) -> str:
    """The family whose column the table has; "" when it has none's."""
    found = Columns(rows)
    for name, family in FAMILIES.items():
        if any(map(found.find, family.markers)) and not any(map(found.find, family.without)):
            return name
    return ""


def trusted(rows: Table, band: str, family: str) -> Column:
    """Whether the family's flags let a row's magnitude in `band` pass; bool (n,)."""
    good = np.ones(len(rows), bool)
    cuts = FAMILIES[family].cuts
    for cut in (*cuts.get("", ()), *cuts.get(band, ())):
        holds = _holds(Columns(rows), cut)
        if holds is not None:
            good &= holds
    return good


def extended(rows: Table, family: str) -> Column:
    """Whether a row is a galaxy, or a star on top of one; bool (n,)."""
    found = Columns(rows)
    galaxy = np.zeros(len(rows), bool)
    for cut in (_OUR_GALAXY, *FAMILIES[family].galaxies):
        holds = _holds(found, cut)
        if holds is not None:
            galaxy |= holds
    for psf, kron in FAMILIES[family].kron:
        if found.find(psf) and found.find(kron):
            galaxy |= found.values(Alias(psf)) - found.values(Alias(kron)) > 0.05
    return galaxy


def _holds(found: Columns, cut: Cut) -> Column | None:
    """Where the cut's rule is true; None when the table has none of its columns."""
    name = next((name for name in cut.names if found.find(name)), None)
    if name is None:
        return None
    return cut.rule(found.texts(name) if cut.text else found.values(Alias(name)))
