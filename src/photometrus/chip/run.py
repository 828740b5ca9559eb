"""One chip's reduction while it runs: what it was given, and what became known on the way."""

import logging
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from astropy.table import Table

from photometrus.config import Config
from photometrus.flats import Flats
from photometrus.frame import LISTED, Progress
from photometrus.io.spool import scratch_folder
from photometrus.optics import FieldFit
from photometrus.products import Products, RampId
from photometrus.stages.astrometry import JointSolution
from photometrus.track import Track, Verdict
from photometrus.workers import Each

log = logging.getLogger(__name__)

Reference = Callable[[tuple[float, float]], Table | None]
"""Gives the reference catalogue around a telescope axis (degrees), None for none."""


@dataclass(eq=False)
class Run:
    """A chip's inputs; its verdicts, notes and numbers so far."""

    products: Products
    chip: int
    config: Config
    flats: Flats
    reference: Reference
    each: Each
    progress: Progress
    ramps: list[RampId]
    shared: FieldFit | None = None
    field_fit: FieldFit | None = None
    joint: JointSolution | None = None
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    """Numbers of the chip, as they become known."""
    made: list[Path] = field(default_factory=list)
    """What is written, noted before it is begun."""
    scratch: ExitStack = field(default_factory=ExitStack)
    """What is to be cleared away at the end."""

    def counted(self, step: str, total: int, first: int = 0) -> Each:
        """`each` that reports how many items are done, but for so many that come first."""

        def wrapped(function: Callable, items: Iterable[Any]):
            self.progress(f"C{self.chip} {step}", 0, total)
            for k, result in enumerate(self.each(function, items), start=1 - first):
                self.progress(f"C{self.chip} {step}", max(0, k), total)
                yield result

        return wrapped

    def scratch_folder(self, what: str) -> Path:
        """A new folder beside the products that vanishes at the end."""
        prefix = self.products.scratch(self.chip, what)
        return self.scratch.enter_context(scratch_folder(self.products.root, prefix))

    def note(self, text: str) -> None:
        """Keep what the user should know; once."""
        if text not in self.notes:
            log.warning("C%d: %s", self.chip, text, extra=LISTED)
            self.notes.append(text)

    def lose(self, frames: Iterable[tuple[str, Any]]) -> None:
        """Frames that go no further, and why."""
        for name, reason in frames:
            text = re.sub(rf"^{name}(\.ramp\.fits)?: ", "", str(reason))
            log.warning("%s: %s", name, text, extra=LISTED)
            self.verdicts[name] = Verdict(name, used=False, reason=text, lost=True)

    def all_verdicts(self) -> list[Verdict]:
        """All frames' verdicts so far, in order."""
        return [self.verdicts[name] for name in sorted(self.verdicts)]

    def used(self, tracks: list[Track]) -> list[Track]:
        """The tracks that go into the stack."""
        return [track for track in tracks if self.verdicts[track.name].used]
