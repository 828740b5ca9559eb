"""What comes before: settings, what was observed, a night to try things out."""

from datetime import date
from pathlib import Path
from typing import Any

from astropy.table import Table

from photometrus import steps
from photometrus.api import values
from photometrus.api.progress import Tell, shown
from photometrus.api.values import PathLike, Settings
from photometrus.config import Config
from photometrus.errors import UsageError
from photometrus.simulate import night as simulator


def load_config(path: PathLike | None = None, settings: Settings | None = None) -> Config:
    """The configuration: the defaults, a TOML file over them, changes over both.

    Parameters
    ----------
    path : str or Path, optional
        A TOML file, as `-config` takes it.
    settings : dict, optional
        Changes, as in `reduce_observation`.

    Returns
    -------
    Config
        To be given as `config`.

    Raises
    ------
    PhotometrusError
        No such file, an unknown key (with the nearest right one), a value of the wrong type.
    """
    return values.configured(path, settings, {})


def night_log(
    date: str | date,
    target: str = "",
    band: str = "",
    *,
    archive: PathLike | None = None,
    config: Config | PathLike | None = None,
) -> Table:
    """What was observed in a night: ``photometrus log``.

    Parameters
    ----------
    date : str or datetime.date
        The night.
    target, band : str, optional
        Only these.
    archive, config
        As in `reduce_observation`.

    Returns
    -------
    astropy.table.Table
        A row for each target and band.

    Raises
    ------
    PhotometrusError
        No archive, no log of that night, or no such target in it: the message says what there is.
    """
    settled = values.configured(config, None, {"input.archive": archive})
    chosen = values.band_of(band) if band else ""
    return steps.night_log(values.night_of(date), settled, target, chosen)


def simulate_night(out: PathLike, *, progress: Tell = True, **what: Any) -> Path:
    """Make a night to try things out: ``photometrus simulate``.

    Parameters
    ----------
    out : str or Path
        Folder for the archive, the reference catalogues and the truth.
    progress : bool or callable
        As in `reduce_observation`.
    **what
        What it shall be, by the names of ``photometrus.simulate.config.SimulateConfig``: ``size``
        of a chip in pixels (4096), ``chips``, ``ramps``, ``band``, ``target``, ``night``,
        ``ra_deg``, ``dec_deg``, ``seed``, ``density``, ``transient_mag`` ...

    Returns
    -------
    Path
        The folder: give it as `archive`.

    Raises
    ------
    PhotometrusError
        A value that cannot be simulated, or a folder with other things in it.
    """
    root, wanted = values.path_of(out), values.simulation(what)
    if root.is_dir() and any(root.iterdir()) and not (root / "truth").is_dir():
        raise UsageError(f"{root}: a folder with other things in it; give an empty one")
    exposures = (wanted.exposures + wanted.flats) * len(wanted.chips)
    with shown(progress) as tell:
        done = iter(range(exposures))

        def told(sentence: str) -> None:
            if sentence.endswith(("OBJECT", "FLAT")):
                tell("ramps", next(done, exposures), exposures)

        return simulator.simulate_night(root, wanted, progress=told)
