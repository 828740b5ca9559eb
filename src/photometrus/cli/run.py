"""One function per command: values in, one call of a recipe or step, tables out, an exit code.

What a recipe needs is imported in the function that calls it: numba and astropy take a second.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus import config as configuration
from photometrus.cards import figure
from photometrus.cli.board import REDUCING
from photometrus.cli.command import DONE, FAILED, LOSSES
from photometrus.cli.order import Order
from photometrus.cli.show import Screen
from photometrus.errors import UsageError
from photometrus.instrument import CHIPS
from photometrus.products import Products, default_parent

if TYPE_CHECKING:
    from photometrus.night import NightReport
    from photometrus.observation import Observation
    from photometrus.steps import StepResult

SIMULATE_FIELDS = {
    "chip": "chips",
    "date": "night",
    "ra": "ra_deg",
    "dec": "dec_deg",
    "seeing": "seeing_arcsec",
    "transient": "transient_mag",
    "dither": "dither_type",
    "dither_radius": "dither_radius_arcsec",
    "rot_val": "rotator_deg",
    "pointing_error": "pointing_error_arcsec",
    "chip_offset": "chip_offset_arcsec",
    "rotator_error": "rotator_error_deg",
    "no_bad_frame": "bad_frame",
    "no_satellite": "satellite",
    "no_dirt": "log_dirt",
    "no_log_header": "log_header",
}
"""Options of ``simulate`` whose field in SimulateConfig is called otherwise."""
NO_FIELDS = ("out", "quiet", "verbose")


# ---------------------------------------------------------------- recipes


def pipeline(order: Order) -> int:
    """The whole of it."""
    return reduced(order)[0]


def reduced(order: Order) -> tuple[int, "Observation"]:
    """An observation downloaded, reduced and shown: the exit code, and what became of it."""
    from photometrus.arrivals import Request
    from photometrus.pipeline import reduce_observation

    target, night, band = order["target"], order["date"], order["band"]
    request = Request(
        target=target,
        night=night,
        band=band,
        chips=order.chips,
        parent=order.get("parent", default_parent(target, night, band)),
        download=not order.get("no_download", False),
        command=order.text,
        restart=order.get("restart", False),
        wait=order.get("wait", False),
    )
    config = order.config()
    order.keep_journal(request.parent)
    begun = time.monotonic()
    with order.screen.progress(REDUCING, chip_rows(order.chips)) as progress:
        observation = reduce_observation(request, config, progress=progress)
    seconds = time.monotonic() - begun
    return show_observation(order.screen, request.parent, observation, seconds), observation


def chip_rows(chips: Iterable[int]) -> list[str]:
    """What the rows of chips are called while they are reduced."""
    return [f"C{chip}" for chip in chips]


def night(order: Order) -> int:
    """All of a night."""
    from photometrus.night import NightRequest, reduce_night

    root = order.get("parent", Path())
    request = NightRequest(
        night=order["date"],
        root=root,
        chips=order.chips,
        targets=order.get("target", ()),
        bands=order.get("band", ()),
        observer=order.get("observer", ""),
        command=order.text,
        restart=order.get("restart", False),
        wait=order.get("wait", False),
    )
    config = order.config()
    order.keep_journal(root)
    begun = time.monotonic()
    with order.screen.progress(REDUCING, of_each_part=len(order.chips)) as progress:
        report = reduce_night(request, config, progress=progress)
    show_night(order.screen, report, time.monotonic() - begun)
    if report.failed:
        return FAILED
    return DONE if report.complete else LOSSES


def show_night(screen: Screen, report: "NightReport", seconds: float) -> None:
    """The table of a night, and what is not in it."""
    columns = ("field", "band", "chips ", "frames ", 'seeing " ', "sky ADU ", "left out ", "lost ",
               "s ", "state", "folder")  # fmt: skip
    rows = [
        (
            row["target"],
            row["band"],
            f"{row['chips']}/{row['chips_asked']}",
            f"{row['frames_used']}/{row['frames']}",
            figure(row["seeing_arcsec"], 2),
            figure(row["sky_adu"], 0),
            row["left_out"],
            row["lost"],
            figure(row["seconds"], 0),
            row["state"],
            row["folder"],
        )
        for row in report.table
    ]
    screen.table(f"night of {report.table.meta['night']}", columns, rows)
    losses = []
    for one in report.outcomes:
        name = f"{one.target} {one.band}"
        if one.observation is None:
            losses.append((name, "failed", one.error))
        else:
            losses += [(f"{name} {what}", how, why) for what, how, why in one.observation.losses]
    screen.losses(losses, "Not in the stacks")
    screen.line(f"{seconds:.0f} s; the table: {report.path}")


def stack(order: Order) -> int:
    """Chips on disk."""
    from photometrus.pipeline import reduce_folder

    parent, band = order["parent"], order["band"]
    products = Products(parent, band)
    # Without -chip, a chip of which nothing is there has not been asked for.
    there = tuple(chip for chip in CHIPS if any(products.ramps(chip).glob("*.ramp.fits")))
    chips = order.get("chip", there or tuple(CHIPS))
    config = order.config()
    if parent.is_dir():
        order.keep_journal(parent)
    begun = time.monotonic()
    with order.screen.progress(REDUCING, chip_rows(chips)) as progress:
        observation = reduce_folder(
            parent,
            band,
            chips,
            config,
            command=order.text,
            restart=order.get("restart", False),
            wait=order.get("wait", False),
            progress=progress,
        )
    return show_observation(order.screen, parent, observation, time.monotonic() - begun)


def show_observation(
    screen: Screen, parent: Path, observation: "Observation", seconds: float
) -> int:
    """The tables of an observation, and the exit code."""
    from photometrus.track import CHIP_COLUMNS, below

    screen.table(f"{parent}", CHIP_COLUMNS, [chip.row(parent) for chip in observation.chips])
    screen.losses(observation.losses, "Not in the stacks")
    for note in observation.notes:
        screen.warn(f"note: {note}")
    for result in observation.chips:
        for note in result.notes:
            screen.warn(f"note: C{result.chip}: {note}")
    for result in observation.chips:
        for path in result.extras:
            if not path.name.startswith("weight."):
                screen.line(f"C{result.chip}: also {below(path, parent)}")
    screen.line(f"{seconds:.0f} s; everything that was measured: {observation.record}")
    page = Products(observation.record.parent, "").html_report
    if page.is_file():
        screen.line(f"all of it on one page, for a browser: {page}")
    if all(result.coadd is None for result in observation.chips):
        return FAILED
    return DONE if observation.complete else LOSSES


# ---------------------------------------------------------------- steps


def _step(order: Order, call: "Callable[..., StepResult]", where: Path) -> int:
    """Run a step with a progress bar, tell what it made and lost; the exit code."""
    with order.screen.progress() as progress:
        result = call(progress=progress)
    screen = order.screen
    if result.numbers:
        columns = ("frame", "stars ", "rms mas ", 'moved " ')
        rows = [
            (
                name,
                figure(numbers.get("n_matched"), 0),
                figure(numbers.get("rms_arcsec"), 0, 1000),
                figure(numbers.get("moved_arcsec"), 1),
            )
            for name, numbers in sorted(result.numbers.items())
        ]
        screen.table(str(where), columns, rows)
    lost = [(name, "not used", reason) for name, reason in result.lost]
    screen.losses([*lost, *((name, "left out", reason) for name, reason in result.left_out)])
    for note in result.notes:
        screen.warn(f"note: {note}")
    screen.line(_made(result, where))
    if not result.made:
        return FAILED
    return LOSSES if result.lost else DONE


def _made(result: "StepResult", where: Path) -> str:
    if not result.made:
        return f"nothing was made of {result.given} in {where}"
    if len(result.made) == 1:
        return f"{result.made[0]}"
    return f"{len(result.made)} files in {where}: {result.made[0].name} ... {result.made[-1].name}"


def getdata(order: Order) -> int:
    """Log and ramps."""
    from photometrus import steps

    target, night, band = order["target"], order["date"], order["band"]
    parent = order.get("parent", default_parent(target, night, band))
    where = (Products(parent, band), target, night, order.chips)
    overwrite = order.get("overwrite", False)
    order.keep_journal(parent)
    return _step(
        order, partial(steps.get_data, *where, order.config(), overwrite=overwrite), parent
    )


def log(order: Order) -> int:
    """The table of a night."""
    from photometrus import steps

    rows = steps.night_log(
        order["date"], order.config(), order.get("target", ""), order.get("band", "")
    )
    columns = ("field", "type", "band", "ramps ", "repeats ", "exposure s ", "start (UTC)",
               "end (UTC)", "first ", "last ", "observer")  # fmt: skip
    names = ("target", "type", "band", "ramps", "repeats", "exposure", "start", "end", "first",
             "last", "observer")  # fmt: skip
    forms = {"exposure": ".2f", "first": "08d", "last": "08d"}  # serials as in files' names
    cells = [tuple(format(row[name], forms.get(name, "")) for name in names) for row in rows]
    order.screen.table(f"night of {order['date'].isoformat()}", columns, cells)
    return DONE if len(rows) else FAILED


def process_genflat(order: Order) -> int:
    """Master flats from FLAT ramps on disk."""
    from photometrus import steps

    folder = order["dir"]
    out = Path(order.get("flat_dir", folder / "mflats"))
    what = (Products(folder, order["band"]), order["date"], order.chips, out)
    return _step(order, partial(steps.make_flat, *what, order.config()), out)


def process_autoflat(order: Order) -> int:
    """Master flats from the archive."""
    from photometrus import steps
    from photometrus.flats import store_folder

    night, config = order["date"], order.config()
    products = Products(order.get("dir", Path(f"flats_{night:%Y%m%d}")), order["band"])
    fetch = not order.get("no_download", False)
    call = partial(steps.auto_flat, products, night, order.chips, config, fetch=fetch)
    return _step(order, call, store_folder(config.input.flat_dir))


def process_flatfield(order: Order) -> int:
    """Trim and divide by a flat."""
    from photometrus import steps

    paths = (order["in_path"], order["out_path"], order["flat_path"])
    return _step(order, partial(steps.flatten, *paths, order.config()), order["out_path"])


def process_gensky(order: Order) -> int:
    """Make a sky."""
    from photometrus import steps

    paths = (order["in_path"], order["sky_path"])
    return _step(order, partial(steps.make_sky, *paths, order.config()), order["sky_path"])


def process_skysub(order: Order) -> int:
    """Subtract a sky."""
    from photometrus import steps

    paths = (order["in_path"], order["out_path"], order["sky_path"])
    return _step(order, partial(steps.subtract_sky, *paths, order.config()), order["out_path"])


def process_stack(order: Order) -> int:
    """Stack solved frames."""
    from photometrus import steps

    folder = order["in_path"]
    parent = order.get("parent", folder.absolute().parent)
    call = partial(steps.stack, folder, parent, order.config())
    return _step(order, call, parent / "stack")


def astrom_angle(order: Order) -> int:
    """First WCS."""
    from photometrus import steps

    paths = (order["input"], order["output"])
    return _step(order, partial(steps.place, *paths, order.config()), order["output"])


def astrom_shift(order: Order) -> int:
    """Find and fit."""
    from photometrus import steps

    call = partial(steps.shift, order["dir"], order["band"], order.config())
    return _step(order, call, order["dir"])


def astrom_astromatic(order: Order) -> int:
    """SExtractor and SCAMP."""
    from photometrus import steps

    call = partial(steps.scamp, order["path"], order["band"], order.config())
    return _step(order, call, order["path"])


def astrom_net(order: Order) -> int:
    """astrometry.net."""
    from photometrus import steps

    paths = (order["input"], order["output"])
    radius_deg = order.get("rad", 1.0)
    call = partial(steps.solve_field, *paths, order.config(), radius_deg=radius_deg)
    return _step(order, call, order["output"])


# ---------------------------------------------------------------- the rest


def simulate(order: Order) -> int:
    """A night."""
    from photometrus.simulate.night import SimulateConfig, simulate_night

    values = {
        SIMULATE_FIELDS.get(name, name): value
        for name, value in order.given.items()
        if name not in NO_FIELDS
    }
    out = order["out"]
    if out.is_dir() and any(out.iterdir()) and not (out / "truth").is_dir():
        raise UsageError(f"-out {out}: a folder with other things in it; give an empty one")
    begun = time.monotonic()
    simulate_night(out, SimulateConfig(**values), progress=order.screen.step)
    order.screen.line(f"{out}: done in {time.monotonic() - begun:.0f} s")
    return DONE


def warm(order: Order) -> int:
    """The kernels."""
    from photometrus.warming import warm

    with order.screen.progress() as progress:
        seconds = warm(progress)
    order.screen.line(f"the numerical kernels are compiled ({seconds:.0f} s)")
    return DONE


def config(order: Order) -> int:
    """The settings."""
    from photometrus.io.whole import write_text

    text = configuration.dump(order.config())
    out = order.get("out")
    if out is None:
        order.screen.raw(text)
        return DONE
    if out.exists():
        raise UsageError(f"-out {out}: is there already; give another name")
    write_text(out, text)
    order.screen.line(f"{out}: change what you like, give it with -config {out}")
    return DONE


config_show = config


def config_init(order: Order) -> int:
    """A file of settings to begin with."""
    out = order.get("out", Path("photometrus.toml"))
    if out.exists():
        raise UsageError(f"-out {out}: is there already; give another name")
    out.write_text(configuration.commented(order.config()), encoding="utf-8")
    order.screen.line(f"{out}: uncomment and change what you like, give it with -config {out}")
    return DONE
