"""Reference catalogues: a file on disk, a survey of the Virtual Observatory, a database.

Whatever the source, a table with the same columns comes out: `reference` for positions,
`calibrators` for magnitudes; `choose_surveys` tells which survey suits a field. Surveys are asked
through TAP, Simple Cone Search or PostgreSQL, one service after the other; what came is kept by
tiles of the sky, so that a field that was asked once costs no network again.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table

from photometrus.errors import UsageError, nearest
from photometrus.io.catalogs import postgres
from photometrus.io.catalogs.addresses import Service, service_named, services_of
from photometrus.io.catalogs.calibrate import photometric_columns
from photometrus.io.catalogs.choice import BANDS, Choice, choose_surveys, reach_of
from photometrus.io.catalogs.columns import separation_deg, standard_columns
from photometrus.io.catalogs.files import read
from photometrus.io.catalogs.naming import known_names
from photometrus.io.catalogs.services import Enquiry
from photometrus.io.catalogs.surveys import SURVEYS, Survey, survey_named
from photometrus.io.catalogs.tiles import Cone, cached, default_cache

__all__ = [
    "SURVEYS",
    "Choice",
    "Survey",
    "calibrators",
    "choose_surveys",
    "reference",
    "separation_deg",
    "services_of",
    "standard_columns",
]

log = logging.getLogger(__name__)


def reference(
    source: str | Path,
    centre: tuple[float, float],
    radius_deg: float,
    band: str,
    *,
    cache: Path | None = None,
    services: Sequence[str] = (),
    timeout_s: float = 60.0,
) -> Table:
    """The reference stars within a circle on the sky.

    source : a file (FITS, FITS_LDAC, ECSV, VOTable, CSV, Parquet), a survey's name (`SURVEYS`) or
        ``postgresql://user@host/database#table``
    centre, radius_deg : the circle: RA, Dec (degrees, ICRS) and its radius
    band : Z, Y, J or H; where the catalogue lacks it, the nearest in wavelength that it has
    cache : folder for what surveys answered; None means $PHOTOMETRUS_CACHE, or the user's
    services : where to ask instead of $PHOTOMETRUS_VO_<SURVEY> (addresses with blanks between)
        and of the survey's own, each ``tap+https://host/tap#table``, ``scs+https://host/cone?``
        or ``postgresql://user@host/database#table``
    timeout_s : longest silence of a service, seconds

    returns a Table with `ra_deg`, `dec_deg` (float64, ICRS at `epoch_yr`), `pos_err_arcsec` (one
    axis; 0.1 where the catalogue does not tell), `pm_ra_mas_yr` (times cos Dec), `pm_dec_mas_yr`
    (0 where unknown), `epoch_yr`, `mag`, `mag_err` (NaN where there is none: a limit, or a
    catalogue without errors) and `extended` (bool). `meta`: `source`, `mag_system`, `mag_band`,
    `proper_motions`, `pos_err_assumed`, `n`. Brightest first, whatever the order of the source;
    rows without a position or magnitude are left out.

    Raises MissingInput (no such file), UsageError (columns, survey's name), ServiceError.
    """
    _check_band(band)
    cone = (centre[0] % 360.0, centre[1], radius_deg)
    rows, survey, name = _rows(source, cone, band, cache, services, timeout_s)
    stars = standard_columns(rows, band, name, epoch_yr=survey.epoch_yr if survey else None)
    stars.meta["mag_system"] = str(rows.meta.get("MAGSYS", "Vega"))
    return _within(stars, cone)


def calibrators(
    source: str | Path,
    centre: tuple[float, float],
    radius_deg: float,
    band: str,
    *,
    cache: Path | None = None,
    services: Sequence[str] = (),
    timeout_s: float = 60.0,
) -> Table:
    """The stars within a circle on the sky that can calibrate magnitudes in a band of PRIME.

    source, centre, radius_deg, band, cache, services, timeout_s : as `reference` takes them;
        ``postgresql://user@host/database`` without a table takes the best survey that is there

    returns the columns of `reference` but with `mag`, `mag_err` in `band` itself (in the
    catalogue's own photometric system; transformed where it lacks the band), and `color`,
    `color_err` (NaN where unknown), `extended` (bool), `good` (bool: has an error, passes the
    survey's own flags, is not saturated in it). Rows without a magnitude in the band are left
    out; those that are not `good` are not. `meta`:
    `source`, `survey` ("local" for a file), `mag_system` ("Vega" or "AB"),
    `photometric_system` ("2MASS", "VISTA", "UKIDSS", "AB"), `to_ab` and `to_vega` (mag, to add),
    `transform` and `transform_reference` ("" when native), `transform_err` (mag, common to all
    stars; NaN when it cannot be told), `color_name` ("" when there is none), `depth` and `bright`
    (mag, NaN when unknown), `epoch` (year), `notes` (list of str), `n`.

    Raises MissingInput (no such file), UsageError (columns, survey's name, no such band and no
    published transform), ServiceError.
    """
    _check_band(band)
    _check_survey(source, band)
    cone = (centre[0] % 360.0, centre[1], radius_deg)
    rows, survey, name = _rows(source, cone, band, cache, services, timeout_s)
    return _within(photometric_columns(rows, band, survey, name), cone)


def _check_band(band: str) -> None:
    if band not in BANDS:
        raise UsageError(f"band {band!r}: known are {', '.join(BANDS)}{nearest(band, BANDS)}")


def _check_survey(source: str | Path, band: str) -> None:
    """UsageError before a network is asked for what a survey cannot have."""
    if _is_database(source):
        return
    survey = survey_named(source)
    if survey is not None and reach_of(survey, band) is None:
        able = [one.name for one in SURVEYS.values() if reach_of(one, band)]
        raise UsageError(
            f"{survey.name}: no {band} magnitudes, and no published transform; these have"
            f" {', '.join(able)}"
        )


def _is_database(source: str | Path) -> bool:
    return isinstance(source, str) and source.startswith(("postgresql://", "postgres://"))


def _rows(
    source: str | Path,
    cone: Cone,
    band: str,
    cache: Path | None,
    services: Sequence[str],
    timeout_s: float,
) -> tuple[Table, Survey | None, str]:
    """A catalogue's own rows in and around a cone, the survey they are of, and its name."""
    if _is_database(source):
        mirror, survey = _mirror(str(source), cone, band, timeout_s)
        return postgres.query(mirror, cone, known_names(), timeout_s), survey, str(mirror)
    survey = survey_named(source)
    if survey is None:
        return read(Path(source)), None, str(source)
    folder = cache if cache is not None else default_cache()
    enquiry = Enquiry(survey, services_of(survey, services), timeout_s, folder)
    return cached(survey.name, cone, folder, enquiry), survey, survey.name


def _mirror(source: str, cone: Cone, band: str, timeout_s: float) -> tuple[Service, Survey | None]:
    """The table of a database that is meant, and the survey that it mirrors, if its name tells."""
    names = {f"prime_{name.lower()}_local": survey for name, survey in SURVEYS.items()}
    url, _, table = source.partition("#")
    if not table:
        there = postgres.mirrors(url, timeout_s)
        best = (f"prime_{one.survey.lower()}_local" for one in choose_surveys(band, *cone))
        table = next((name for name in best if name in there), "")
    if not table:
        raise UsageError(
            f"{service_named(url, '', 'the mirror')}: no table prime_<survey>_local of a survey"
            f" that has {band} in this field; name one with #table"
        )
    service = service_named(f"{url}#{table}", table, "the mirror")
    return service, names.get(table.split(".")[-1])


def _within(stars: Table, cone: Cone) -> Table:
    """The stars in a cone, brightest first."""
    ra, dec, radius = cone
    stars = stars[separation_deg(stars["ra_deg"], stars["dec_deg"], ra, dec) <= radius]
    stars = stars[np.lexsort((stars["dec_deg"], stars["ra_deg"], stars["mag"]))]
    stars.meta["n"] = len(stars)
    log.info("%s: %d stars within %.3f deg", stars.meta["source"], len(stars), radius)
    return stars
