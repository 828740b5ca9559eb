"""Ramps to stacks: an observation, a folder, a chip, a night."""

from collections.abc import Iterable, Sequence
from datetime import date

from photometrus import night, pipeline
from photometrus.api import values
from photometrus.api.progress import Tell, shown
from photometrus.api.values import PathLike, Settings
from photometrus.arrivals import Request
from photometrus.config import Config
from photometrus.errors import UsageError
from photometrus.night import NightReport, NightRequest
from photometrus.observation import Observation
from photometrus.products import Products, default_parent
from photometrus.track import ChipResult


def reduce_observation(
    target: str,
    date: str | date,
    band: str,
    *,
    parent: PathLike | None = None,
    chips: int | str | Iterable[int] | None = None,
    archive: PathLike | None = None,
    catalog: PathLike | None = None,
    download: bool = True,
    restart: bool = False,
    config: Config | PathLike | None = None,
    settings: Settings | None = None,
    progress: Tell = True,
) -> Observation:
    """Download an observation and reduce every chip of it to a stack: ``photometrus pipeline``.

    Parameters
    ----------
    target : str
        Field, as the night log's OBJNAME calls it.
    date : str or datetime.date
        Night of the observation, ``"20240606"`` or ``"2024-06-06"``.
    band : str
        Z, Y, J or H.
    parent : str or Path, optional
        Folder of the observation, made if missing; ``<target>_<date>/<band>`` without it.
    chips : int, list of int or str, optional
        ``1``, ``[1, 3]`` or ``"1,3"``; all four without it.
    archive : str or Path, optional
        A folder, ``https://...`` or ``sftp://user@host/...``; without it the environment's
        ``PHOTOMETRUS_ARCHIVE``.
    catalog : str or Path, optional
        Reference stars: a file, the name of a survey, or ``"none"``; 2MASS without it.
    download : bool
        False: the ramps are in `parent` already.
    restart : bool
        True: chips are made again that were made of the same files with the same settings.
    config : Config, str or Path, optional
        Settings, or a TOML file of them.
    settings : dict, optional
        Changes to them: ``{"sky": {"clip_sigma": 4.0}}`` or ``{"sky.clip_sigma": 4.0}``; for one
        chip ``{"chip.3.sky.clip_sigma": 6.0}``. Their names are in docs/config.md.
    progress : bool or callable
        True: shown in a notebook and on a terminal. A function is told (step, done, of).

    Returns
    -------
    Observation
        Each chip's stack, numbers, and a verdict on each frame. What stopped a chip or a frame is
        in it, too: see ``losses``.

    Raises
    ------
    PhotometrusError
        What stops everything: no archive, no log of that night, no such target in it.

    Notes
    -----
    With ``{"run.parallel": True}`` chips are reduced at once in processes of their own: a script
    must then call this below ``if __name__ == "__main__":``, as with `multiprocessing`.
    """
    when, name = values.night_of(date), values.band_of(band)
    request = Request(
        target=target,
        night=when,
        band=name,
        chips=values.chips_of(chips),
        parent=values.path_of(parent or default_parent(target, when, name)),
        download=download,
        restart=restart,
        command="photometrus.reduce_observation",
    )
    settled = values.configured(
        config, settings, {"input.archive": archive, "input.catalog": catalog}
    )
    with shown(progress) as tell:
        return pipeline.reduce_observation(request, settled, progress=tell)


def reduce_folder(
    parent: PathLike,
    band: str,
    chips: int | str | Iterable[int] | None = None,
    *,
    catalog: PathLike | None = None,
    config: Config | PathLike | None = None,
    settings: Settings | None = None,
    restart: bool = False,
    progress: Tell = True,
) -> Observation:
    """Reduce ramps that are on disk: ``photometrus stack``.

    Parameters
    ----------
    parent : str or Path
        Folder of the observation, with the ramps in ``C1`` ... ``C4``.
    band : str
        Z, Y, J or H.
    chips : int, list of int or str, optional
        Without it those that have ramps there.
    catalog, config, settings, restart, progress
        As in `reduce_observation`.

    Returns
    -------
    Observation
        As in `reduce_observation`.

    Raises
    ------
    PhotometrusError
        There are no ramps, or none that can be read.
    """
    root, name = values.path_of(parent), values.band_of(band)
    wanted = values.chips_of(chips)
    if chips is None:
        products = Products(root, name)
        wanted = tuple(chip for chip in wanted if products.ramps_on_disk(chip)) or wanted
    settled = values.configured(config, settings, {"input.catalog": catalog})
    command = "photometrus.reduce_folder"
    with shown(progress) as tell:
        return pipeline.reduce_folder(
            root, name, wanted, settled, command=command, restart=restart, progress=tell
        )


def reduce_chip(
    parent: PathLike,
    band: str,
    chip: int,
    *,
    catalog: PathLike | None = None,
    config: Config | PathLike | None = None,
    settings: Settings | None = None,
    progress: Tell = True,
) -> ChipResult:
    """Reduce one chip whose ramps are on disk: ``photometrus stack -chip 1``.

    Parameters
    ----------
    parent : str or Path
        Folder of the observation, with the ramps in ``C1`` ... ``C4``.
    band : str
        Z, Y, J or H.
    chip : int
        1 to 4.
    catalog, config, settings, progress
        As in `reduce_observation`.

    Returns
    -------
    ChipResult
        ``coadd`` is the path of the stack, None when there is none: then ``error`` says why.

    Raises
    ------
    PhotometrusError
        There are no ramps, or none that can be read.
    """
    chips = values.chips_of(chip)
    if len(chips) != 1:
        raise UsageError(f"chip {chip!r}: one chip; reduce_folder takes several")
    observation = reduce_folder(
        parent, band, chips, catalog=catalog, config=config, settings=settings, progress=progress
    )
    return observation.chips[0]


def reduce_night(
    date: str | date,
    parent: PathLike = ".",
    *,
    targets: str | Sequence[str] = (),
    bands: str | Sequence[str] = (),
    observer: str = "",
    chips: int | str | Iterable[int] | None = None,
    archive: PathLike | None = None,
    catalog: PathLike | None = None,
    config: Config | PathLike | None = None,
    settings: Settings | None = None,
    progress: Tell = True,
) -> NightReport:
    """Reduce all that was observed in a night, or a part of it: ``photometrus night``.

    Parameters
    ----------
    date : str or datetime.date
        The night.
    parent : str or Path
        Every field in every band has a folder below it.
    targets, bands : str or list of str, optional
        Only these.
    observer : str, optional
        Only what the log says is of this observer.
    chips, archive, catalog, config, settings, progress
        As in `reduce_observation`.

    Returns
    -------
    NightReport
        ``table`` has a row for each field and band, ``outcomes`` the observations.

    Raises
    ------
    PhotometrusError
        What stops everything: no archive, no log, nothing of what was asked for in it.
    """
    request = NightRequest(
        night=values.night_of(date),
        root=values.path_of(parent),
        chips=values.chips_of(chips),
        targets=(targets,) if isinstance(targets, str) else tuple(targets),
        bands=values.bands_of(bands),
        observer=observer,
        command="photometrus.reduce_night",
    )
    settled = values.configured(
        config, settings, {"input.archive": archive, "input.catalog": catalog}
    )
    with shown(progress) as tell:
        return night.reduce_night(request, settled, progress=tell)
