"""A chip as a job: what travels to where it is reduced, here or on a cluster."""

import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from photometrus import distortion_store, origin
from photometrus.chip import reduce_chip
from photometrus.cluster import Cluster, connected
from photometrus.compiled import is_kept
from photometrus.config import Config, RunConfig
from photometrus.errors import ServiceError
from photometrus.flats import Flats
from photometrus.frame import NOTICE, Progress
from photometrus.io.content import stamp
from photometrus.io.whole import remove, settle, write_text
from photometrus.kernels.resample import lanczos_rows
from photometrus.memory import FULL_PIXELS, Room, room
from photometrus.optics import FieldFit
from photometrus.origin import Origin
from photometrus.products import Products, RampId
from photometrus.track import ChipResult
from photometrus.workers import cores, meanwhile, threads

log = logging.getLogger(__name__)

Done = Callable[[ChipResult], None]
"""Told of a chip when it is finished, in any order."""

PIXEL_BYTES = 4
NO_MATTER = {
    "run": ("parallel", "scheduler", "workers", "threads", "memory", "timeout_s"),
    "input": ("archive", "ftype", "flat_dir", "distortion_dir", "cache", "downloads"),
    # Which ramps they leave is told by the ramps.
    "select": ("ramps", "exclude"),
}
"""Settings with another value of which the same is made of the same files."""
NOT_OURS = ("chip", "transfer", "photometry", "detection", "psf", "psf_photometry", "hidden",
            "psf_widths", "growth", "apertures", "noise", "zeropoint", "completeness",
            "counterparts", "doubts", "target", "lightcurve")  # fmt: skip
"""Sections that say how files come or how a stack is measured, and not how it is made."""
FILES = {"catalog": "catalogue", "sky_override": "sky", "astrometry_net_cfg": "configuration"}
"""Settings of the input that may be files: it is their content that matters."""


@dataclass(frozen=True)
class Job:
    """One chip's reduction: small, so that it can travel to another machine."""

    products: Products
    ramps: list[RampId]
    chip: int
    config: Config
    flats: Flats
    find: Callable[..., Any]
    """The reference catalogue, as `chip.reduce_chip` wants it."""
    shared: FieldFit | None = None
    unavailable: str = ""
    """Why no service gives reference stars, when that is known."""
    earlier: Origin = field(default_factory=Origin)
    """What an earlier run made it from: files that stand since then are not read again."""

    def __call__(self, n_threads: int, progress: Progress) -> ChipResult:
        """Reduce the chip."""
        if not self.ramps:
            progress(f"C{self.chip} failed", 1, 1)
            return ChipResult(self.chip, error="no ramps")
        if not is_kept(lanczos_rows):
            log.log(NOTICE, "compiling the numerical kernels, once on this machine: about a minute")
        # From here on its products are not those of the record, until that is written anew.
        write_text(self.products.in_making(self.chip), _signature())
        settle([self.products.root])
        for path in self.products.unfinished(self.chip):
            remove(path)  # of a run that was killed while it wrote
        made_from = meanwhile(self.made_from)  # the inputs are read for their digests
        with threads(n_threads) as each:
            result = reduce_chip(
                self.products,
                self.ramps,
                self.config,
                self.flats,
                partial(self.find, unavailable=self.unavailable),
                self.shared,
                each=each,
                progress=progress,
            )
        return replace(result, made_from=made_from())

    @property
    def n_pixels(self) -> int:
        """Pixels of a frame, from the size of the largest ramp."""
        paths = [self.products.ramp(ramp) for ramp in self.ramps]
        sizes = [path.stat().st_size // PIXEL_BYTES for path in paths if path.is_file()]
        return min(max(sizes, default=FULL_PIXELS), FULL_PIXELS)

    def made_from(self) -> Origin:
        """Files, settings and versions that this job's products depend on."""
        own = self.config.for_chip(self.chip)
        settings = asdict(own)
        for section in NOT_OURS:
            del settings[section]
        for section, keys in NO_MATTER.items():
            for key in keys:
                del settings[section][key]
        if not own.substacks.growing:
            del settings["substacks"]["frames"]
        named = {f"ramp {ramp}": self.products.ramp(ramp) for ramp in self.ramps}
        for key, word in FILES.items():
            path = Path(settings["input"][key])
            if path.is_file():
                named[f"{word} {path.name}"] = path
                del settings["input"][key]
        flat = None
        if own.run.flat_field:
            flat = self.flats.nearest(self.products.band, self.chip, own.flat.max_days_away)
        if flat is not None:
            named[f"flat {flat.name}"] = flat

        def stamped(name: str) -> dict[str, Any]:
            return stamp(named[name], self.earlier.inputs.get(name)) or {}

        inputs = {name: stamped(name) for name in named}
        if self.unavailable:
            inputs[f"catalogue {own.input.catalog}"] = {"missing": self.unavailable}
        return Origin(
            origin.versions(), inputs, origin.plain(settings), origin.shared_digest(self.shared)
        )

    def elsewhere(self) -> "Job":
        """The same with nothing that only this process or folder knows: for another machine."""
        given = self.config.input
        store = distortion_store.store_folder(given.distortion_dir)
        placed = replace(
            given,
            distortion_dir=distortion_store.OFF if store is None else str(store.absolute()),
            catalog=_absolute(given.catalog) if Path(given.catalog).is_file() else given.catalog,
            sky_override=_absolute(given.sky_override),
            astrometry_net_cfg=_absolute(given.astrometry_net_cfg),
        )
        return replace(
            self,
            products=replace(self.products, root=self.products.root.absolute()),
            config=replace(self.config, input=placed),
            flats=replace(self.flats, folder=self.flats.folder.absolute()),
        )

    def at_home(self, result: ChipResult) -> ChipResult:
        """A result from elsewhere with the paths as they are called here."""
        root = self.products.root

        def home(path: Path | None) -> Path | None:
            return None if path is None else root / path.relative_to(root.absolute())

        return replace(
            result,
            made={root / path.relative_to(root.absolute()): n for path, n in result.made.items()},
            coadd=home(result.coadd),
            weight=home(result.weight),
            page=home(result.page),
            extras=[root / path.relative_to(root.absolute()) for path in result.extras],
        )


def _absolute(text: str) -> str:
    return str(Path(text).absolute()) if text else ""


def _signature() -> str:
    """Who makes something, and since when."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"{socket.gethostname()} {os.getpid()} {now}\n"


class Runner:
    """Runs jobs one after the other, or on a cluster that it starts or joins when it needs it.

    n_jobs : that there will be, in all calls; 0: many
    Use it in a `with`: at its end the cluster is left.
    """

    def __init__(self, config: RunConfig, n_jobs: int = 0) -> None:
        self.config = config
        self.n_jobs = n_jobs
        self._cluster: Cluster | None = None
        self._stack = ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def at_once(self) -> bool:
        """Whether jobs run on a cluster."""
        return self.config.parallel or self.config.workers > 0 or bool(self.config.scheduler)

    def __call__(self, jobs: Sequence[Job], progress: Progress, done: Done) -> list[ChipResult]:
        """What became of the chips, in order; bit for bit the same wherever they were reduced."""
        if not jobs:
            return []
        if self.config.scheduler or (self.at_once and self.n_jobs != 1):
            return self._on_cluster(jobs, progress, done)
        results = []
        for job in jobs:
            n_threads = self._room([job]).threads(self.config.threads or cores())
            results.append(job(n_threads, progress))
            done(results[-1])
        return results

    def _on_cluster(self, jobs: Sequence[Job], progress: Progress, done: Done) -> list[ChipResult]:
        def result_of(number: int, result: ChipResult | ServiceError) -> ChipResult:
            job = jobs[number]
            if isinstance(result, ServiceError):
                return ChipResult(job.chip, error=str(result))
            return job.at_home(result)

        def told(number: int, result: ChipResult | ServiceError) -> None:
            done(result_of(number, result))

        results = self._ready(jobs).run([job.elsewhere() for job in jobs], progress, told)
        return [result_of(number, result) for number, result in enumerate(results)]

    def _room(self, jobs: Sequence[Job]) -> Room:
        """The memory for jobs of this size."""
        return room(self.config.memory, max(job.n_pixels for job in jobs))

    def _ready(self, jobs: Sequence[Job]) -> Cluster:
        """The cluster; begun at the first call."""
        with self._lock:
            if self._cluster is None:
                self._cluster = self._stack.enter_context(
                    connected(
                        self.config.scheduler,
                        self.config.workers,
                        self.config.threads,
                        at_most=self.n_jobs,
                        room=self._room(jobs),
                    )
                )
            return self._cluster
