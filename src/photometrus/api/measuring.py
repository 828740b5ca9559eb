"""Stacks to magnitudes: one of them, or all below a folder."""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from astropy.table import Table

from photometrus.api import values
from photometrus.api.progress import Tell, shown
from photometrus.api.values import PathLike, Settings
from photometrus.config import Config
from photometrus.frame import Stack
from photometrus.io import stackfile
from photometrus.io.results import write_table
from photometrus.photometry.curve import curve_below
from photometrus.photometry.recipe import measure_stack
from photometrus.photometry.request import Photometry, PhotometryRequest
from photometrus.plots.lightcurve import draw_light_curve
from photometrus.track import ChipResult
from photometrus.workers import cores, threads


def measure_coadd(
    stack: PathLike | ChipResult,
    *,
    ra: float | str | None = None,
    dec: float | str | None = None,
    radius: float | str = 4.0,
    name: str = "GRB",
    t0: str | float | datetime | None = None,
    targets: Iterable[Any] = (),
    band: str = "",
    survey: str | None = None,
    catalog: PathLike | None = None,
    config: Config | PathLike | None = None,
    settings: Settings | None = None,
    progress: Tell = True,
) -> Photometry:
    """Magnitudes, limits and targets of a stack: ``photometrus photometry``.

    Parameters
    ----------
    stack : str, Path or ChipResult
        A stack of ours, of another program, or a chip that was reduced.
    ra, dec : float or str, optional
        A target: degrees, or ``"22:58:17.28"``, ``"+01:01:36.3"``.
    radius : float or str
        Of its error circle: arcseconds, or ``"2arcmin"``. Above 60" new sources are searched for.
    name : str
        Of the target, in the names of files.
    t0 : str, float or datetime, optional
        Of the event, UTC: ISO, MJD or JD.
    targets : list, optional
        More of them: ``(ra, dec)``, ``(ra, dec, name, radius)`` or `Target`.
    band : str, optional
        Where the header does not say it.
    survey : str, optional
        To calibrate with; without it the one that covers the field best.
    catalog : str or Path, optional
        A file of stars, or ``postgresql://...``, instead.
    config, settings, progress
        As in `reduce_observation`: ``{"photometry.magsys": "Vega"}``, ``{"photometry.plots":
        False}``.

    Returns
    -------
    Photometry
        Sources, zero point, limits, an answer for each target, and the files that were made beside
        the stack.

    Raises
    ------
    PhotometrusError
        No such stack, no band, no WCS, no sources.
    """
    path = values.stack_of(stack)
    at = values.moment(t0)
    request = PhotometryRequest(
        stack=path,
        band=values.band_of(band) if band else "",
        targets=values.targets_of(ra, dec, radius, name, targets),
        target_name=name,
        t0_mjd=None if math.isnan(at) else at,
        command="photometrus.measure_coadd",
    )
    settled = values.configured(
        config, settings, {"photometry.survey": survey, "photometry.catalog": catalog}
    )
    with shown(progress) as tell, threads(settled.run.threads or cores()) as each:
        return measure_stack(request, settled, each=each, progress=tell)


def light_curve(
    folder: PathLike,
    ra: float | str,
    dec: float | str,
    *,
    band: str = "",
    t0: str | float | datetime | None = None,
    name: str = "target",
    out: PathLike | None = None,
    survey: str | None = None,
    catalog: PathLike | None = None,
    config: Config | PathLike | None = None,
    settings: Settings | None = None,
    progress: Tell = True,
) -> Table:
    """One position on all stacks below a folder: ``photometrus lightcurve``.

    Parameters
    ----------
    folder : str or Path
        With ``stack/coadd.*`` anywhere below it.
    ra, dec : float or str
        The position.
    band : str, optional
        Only this one.
    t0 : str, float or datetime, optional
        Of the event, UTC.
    name : str
        Of the target, in the names of files.
    out : str or Path, optional
        Folder for ``lightcurve.<name>.ecsv`` and ``.png``; without it no file is written.
    survey, catalog, config, settings, progress
        As in `measure_coadd`.

    Returns
    -------
    astropy.table.Table
        A row for each stack in order of time; its columns are in docs/products.md.

    Raises
    ------
    PhotometrusError
        No stack holds the position, or none could be measured.
    """
    settled = values.configured(
        config, settings, {"photometry.survey": survey, "photometry.catalog": catalog}
    )
    with shown(progress) as tell:
        table = curve_below(
            values.path_of(folder),
            values.right_ascension(ra),
            values.declination(dec),
            settled,
            band=values.band_of(band) if band else "",
            t0_mjd=values.moment(t0),
            progress=tell,
        )
    if out is not None:
        path = values.path_of(out) / f"lightcurve.{name}.ecsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, table)
        draw_light_curve(path.with_suffix(".png"), table, name)
    return table


def read_stack(path: PathLike | ChipResult, *, band: str = "") -> Stack:
    """A stack with its weights and flags, as arrays.

    Parameters
    ----------
    path : str, Path or ChipResult
        The stack; the weight map and the flags are found beside it.
    band : str, optional
        Where the header does not say it.

    Returns
    -------
    Stack
        ``data`` in ADU, ``weight`` in 1/ADU², ``flags``, ``wcs``, ``info``.

    Raises
    ------
    PhotometrusError
        No such file, no image in it, no WCS.
    """
    return stackfile.read_stack(values.stack_of(path), band=values.band_of(band) if band else "")
