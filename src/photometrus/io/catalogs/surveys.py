"""Surveys of the Virtual Observatory: one row each.

Depth and bright limit are typical values of the survey's papers, for choosing among surveys and
for leaving saturated stars out; the magnitudes' own errors and flags decide on single stars.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from photometrus.errors import UsageError, nearest

VIZIER_TAP = "tap+https://tapvizier.cds.unistra.fr/TAPVizieR/tap"
VIZIER_MIRRORS = (
    "https://vizier.cds.unistra.fr",
    "https://vizier.cfa.harvard.edu",
    "https://vizier.idia.ac.za",
    "https://vizier.nao.ac.jp",
    "https://vizier.iucaa.in",
    "https://vizier.inasan.ru",
    "https://vizier.china-vo.org",
)
DATALAB = "tap+https://datalab.noirlab.edu/tap"
GAVO = "tap+https://dc.g-vo.org/tap"
ROE_WFCAM = "tap+http://tap.roe.ac.uk/wsa"


@dataclass(frozen=True)
class Reach:
    """What a survey sees in a band: 5 sigma depth and saturation of point sources, mag, native.

    everywhere : False where only a part of the survey's field was observed in the band
    """

    depth: float
    bright: float
    everywhere: bool = True


@dataclass(frozen=True)
class Survey:
    """One survey: how it is asked for, and what its numbers mean.

    family : whose columns and flags it has (`quality.FAMILIES`; "" for none)
    table : its name in ADQL, for services that do not call it otherwise
    services : in the order in which they are asked (`addresses` tells the form)
    columns : what is wanted of it, as the first service calls it; the first two are RA and Dec
    epoch_yr : of the positions, where no column tells
    reach : per band
    """

    name: str
    title: str
    family: str
    table: str
    services: tuple[str, ...]
    columns: tuple[str, ...]
    epoch_yr: float
    reach: Mapping[str, Reach]


def _vizier(table: str) -> tuple[str, ...]:
    """The services of a VizieR table: TAP at its home, then a cone search at every mirror."""
    return (VIZIER_TAP, *(f"scs+{m}/viz-bin/conesearch/{table}?" for m in VIZIER_MIRRORS))


def _mags(names: str, bands: str) -> tuple[str, ...]:
    """``Jap3 e_Jap3 Jperrbits`` for each of the bands, written ``Z Y J H Ks``."""
    return tuple(name.replace("J", band) for band in bands.split() for name in names.split())


_POSITION = ("RAJ2000", "DEJ2000")
_VISTA = "Jap3 e_Jap3 Jperrbits"

_ROWS = (
    Survey(
        *("VIKING", "VIKING DR4", "VISTA", '"II/382/viking4"'),
        _vizier("II/382/viking4"),
        (*_POSITION, "Mclass", *_mags(_VISTA, "Z Y J H"), "Ksap3", "e_Ksap3"),
        2012.0,
        {"Z": Reach(22.6, 13.5), "Y": Reach(21.7, 13.0)}
        | {"J": Reach(21.2, 12.5), "H": Reach(20.1, 12.5)},
    ),
    Survey(
        *("VIRAC2", "VVV Infrared Astrometric Catalogue 2", "VISTA", '"II/387/virac2"'),
        _vizier("II/387/virac2"),
        (
            *(*_POSITION, "e_RAJ2000", "e_DEJ2000", "pmRA", "pmDE"),
            *_mags("Jmag e_Jmag", "Z Y J H Ks"),
        ),
        2014.0,
        {"Z": Reach(20.5, 12.5), "Y": Reach(20.0, 12.5)}
        | {"J": Reach(19.5, 12.0), "H": Reach(18.5, 12.0)},
    ),
    Survey(
        *("VVV", "VVV DR2", "VISTA", '"II/348/vvv2"'),
        (*_vizier("II/348/vvv2"), "tap+https://archive.eso.org/tap_cat#VVV_bandMergedSourceCat_V3"),
        (
            *(*_POSITION, "mClass", *_mags("Jmag3 e_Jmag3 Jperrbits", "Z Y J H")),
            *("Ksmag3", "e_Ksmag3"),
        ),
        2011.0,
        {"Z": Reach(20.5, 12.5), "Y": Reach(20.0, 12.5)}
        | {"J": Reach(19.5, 12.5), "H": Reach(18.5, 12.5)},
    ),
    Survey(
        *("VHS", "VHS DR5", "VISTA", '"II/367/vhs_dr5"'),
        (*_vizier("II/367/vhs_dr5"), f"{DATALAB}#vhs_dr5.vhs_cat_v3"),
        (*_POSITION, "Mclass", *_mags(_VISTA, "Y J H"), "Ksap3", "e_Ksap3"),
        2013.0,
        {"Y": Reach(20.3, 12.5, False), "J": Reach(19.9, 12.0), "H": Reach(19.0, 12.0, False)},
    ),
    Survey(
        *("LAS", "UKIDSS Large Area Survey DR9", "UKIDSS", '"II/319/las9"'),
        (
            *_vizier("II/319/las9"),
            *(f"{DATALAB}#ukidss_dr11plus.lassource", f"{ROE_WFCAM}#UKIDSSDR11PLUS.lasSource"),
        ),
        (
            *(*_POSITION, "cl", "Ymag", "e_Ymag", "Yflags", "Jmag1", "e_Jmag1", "Jflags1"),
            *("Hmag", "e_Hmag", "Hflags", "Kmag", "e_Kmag"),
        ),
        2009.0,
        {"Y": Reach(20.2, 12.5, False)}
        | {"J": Reach(19.6, 12.5, False), "H": Reach(18.8, 12.5, False)},
    ),
    Survey(
        *("UHS", "UKIRT Hemisphere Survey DR3", "UKIDSS", "UHSDR3.uhsSource"),
        (ROE_WFCAM, f"{ROE_WFCAM}#UHSDR2.uhsSource"),
        (
            *("ra", "dec", "mergedClass", "jAperMag3", "jAperMag3Err", "jppErrBits"),
            *("hAperMag3", "hAperMag3Err", "hppErrBits", "kAperMag3", "kAperMag3Err"),
        ),
        2016.0,
        {"J": Reach(19.6, 12.5), "H": Reach(18.9, 12.5, False)},
    ),
    Survey(
        *("GCS", "UKIDSS Galactic Clusters Survey DR9", "UKIDSS", '"II/319/gcs9"'),
        (
            *_vizier("II/319/gcs9"),
            *(f"{DATALAB}#ukidss_dr11plus.gcssource", f"{ROE_WFCAM}#UKIDSSDR11PLUS.gcsSource"),
        ),
        (
            *(*_POSITION, "cl", "Zmag", "e_Zmag", "Ymag", "e_Ymag", "Jmag", "e_Jmag"),
            *("Hmag", "e_Hmag", "Kmag1", "e_Kmag1"),
        ),
        2008.0,
        {"Z": Reach(20.4, 12.5, False), "Y": Reach(20.3, 12.5, False)}
        | {"J": Reach(19.5, 12.5, False), "H": Reach(18.6, 12.5, False)},
    ),
    Survey(
        *("GPS", "UKIDSS Galactic Plane Survey DR6", "UKIDSS", '"II/316/gps6"'),
        (
            *_vizier("II/316/gps6"),
            *(f"{DATALAB}#ukidss_dr11plus.gpssource", f"{ROE_WFCAM}#UKIDSSDR11PLUS.gpsSource"),
        ),
        (
            *("RAICRS", "DEICRS", "Jmag", "e_Jmag", "Jflag", "Hmag", "e_Hmag", "Hflag"),
            *("Kmag1", "e_Kmag1"),
        ),
        2007.0,
        # Lucas et al. 2008, MNRAS 391, 136
        {"J": Reach(19.8, 13.25, False), "H": Reach(19.0, 12.75, False)},
    ),
    Survey(
        *("PS1", "Pan-STARRS1 3pi", "PS1", '"II/389/ps1_dr2"'),
        (
            *(VIZIER_TAP, f'{VIZIER_TAP}#"II/349/ps1"'),
            *_vizier("II/349/ps1")[1:],
        ),
        (
            *(*_POSITION, "e_RAJ2000", "e_DEJ2000", "Epoch", "Qual", "imag", "e_imag"),
            *("zmag", "e_zmag", "zKmag", "ymag", "e_ymag", "yKmag"),
        ),
        2012.5,
        {"Z": Reach(22.3, 14.0), "Y": Reach(21.4, 13.5)},  # Chambers et al. 2016
    ),
    Survey(
        *("SDSS", "SDSS DR16", "SDSS", '"V/154/sdss16"'),
        _vizier("V/154/sdss16"),
        (
            *("RA_ICRS", "DE_ICRS", "e_RA_ICRS", "e_DE_ICRS", "ObsDate", "mode", "class"),
            *("ipmag", "e_ipmag", "zpmag", "e_zpmag"),
        ),
        2005.0,
        {"Z": Reach(20.8, 14.0)},
    ),
    Survey(
        *("SkyMapper", "SkyMapper Southern Survey DR4", "SkyMapper", '"II/379/smssdr4"'),
        _vizier("II/379/smssdr4"),
        (
            *("RAICRS", "DEICRS", "flags", "ClassStar", "iPSF", "e_iPSF", "zPSF", "e_zPSF"),
            "Nzflags",
        ),
        2018.0,
        {"Z": Reach(19.5, 10.5)},
    ),
    Survey(
        *("DES", "DES DR2", "DES", '"II/371/des_dr2"'),
        _vizier("II/371/des_dr2"),
        (
            *("RA_ICRS", "DE_ICRS", "ExtClsCoad", "imag", "e_imag", "zmag", "e_zmag", "zFlag"),
            *("Ymag", "e_Ymag", "yFlag"),
        ),
        2016.0,
        {"Z": Reach(23.8, 15.5), "Y": Reach(22.4, 13.6)},  # Abbott et al. 2018, 2021
    ),
    Survey(
        *("2MASS", "Two Micron All Sky Survey", "2MASS", '"II/246/out"'),
        (*_vizier("II/246/out"), f"{GAVO}#twomass.data"),
        (
            *(*_POSITION, "errMaj", "errMin", "Jmag", "e_Jmag", "Hmag", "e_Hmag"),
            *("Kmag", "e_Kmag", "Qflg", "Rflg", "Cflg", "Xflg"),
        ),
        2000.0,  # observed 1997 to 2001; the catalogue has no proper motions
        {"J": Reach(16.5, 5.0), "H": Reach(15.8, 5.0)},
    ),
    Survey(
        *("Gaia", "Gaia DR3", "", '"I/355/gaiadr3"'),
        (*_vizier("I/355/gaiadr3"), f"{GAVO}#gaia.dr3lite"),
        (
            *("RA_ICRS", "DE_ICRS", "e_RA_ICRS", "e_DE_ICRS", "pmRA", "pmDE"),
            *("Gmag", "e_Gmag", "RPmag", "e_RPmag"),
        ),
        2016.0,
        {},  # no near-infrared magnitudes: for astrometry
    ),
)
SURVEYS = {survey.name: survey for survey in _ROWS}
"""In the order in which they are preferred, all else being equal."""

ALSO_CALLED = {
    "ukidss": "LAS",
    "ukidss las": "LAS",
    "ukidss gcs": "GCS",
    "ukidss gps": "GPS",
    "panstarrs": "PS1",
    "pan-starrs": "PS1",
    "gaia dr3": "Gaia",
}


def survey_named(source: str | Path) -> Survey | None:
    """The survey that `source` names, None when it is a path; UsageError when it is neither."""
    if isinstance(source, Path):
        return None
    names = {name.lower(): name for name in SURVEYS} | ALSO_CALLED
    if source.lower() in names:
        return SURVEYS[names[source.lower()]]
    if "/" in source or "." in source or Path(source).exists():
        return None
    raise UsageError(
        f"catalogue {source!r}: no such file, and the surveys are"
        f" {', '.join(SURVEYS)}{nearest(source.lower(), names)}"
    )
