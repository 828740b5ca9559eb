"""What an earlier command measured of the same stacks: it stands, or why it does not."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from photometrus import origin
from photometrus.config import Config
from photometrus.frame import NOTICE
from photometrus.io.content import Stamp, stamp
from photometrus.io.stackfile import beside
from photometrus.io.whole import write_text
from photometrus.origin import Origin, changed
from photometrus.photometry.answers import halves_beside
from photometrus.photometry.calibrating import INSTEAD
from photometrus.photometry.request import Photometry, PhotometryRequest, Told

log = logging.getLogger(__name__)

SECTIONS = ("photometry", "detection", "crowding", "psf", "psf_photometry", "hidden", "psf_widths",
            "growth", "apertures", "noise", "zeropoint", "completeness", "counterparts", "doubts",
            "target")  # fmt: skip
"""Settings that say how a stack is measured."""


@dataclass(frozen=True)
class Standing:
    """The record of an observation's photometry, ``photometry.json``: one entry for each stack.

    An entry counts when its stack, its settings and our code are what they were, and all files that
    were made are there with the content that they had.
    """

    path: Path

    def of(self, request: PhotometryRequest, config: Config) -> Told | None:
        """What was told of a stack, when the same would come of it; else it is said why not."""
        try:
            entry = self._entries()[request.stack.name]
            then, told = Origin(**entry["made_from"]), Told(**entry["told"])
            made = dict(entry["made"])
            why = changed(then, made_from(request, config, then))
        except (KeyError, TypeError, AttributeError):
            return None  # there is none, or one of an older version
        why = why or next(self._damage(made), "")
        what = request.stack.name.split(".fits")[0]
        if why:
            log.log(NOTICE, "%s is measured again: %s", what, why)
            return None
        log.log(NOTICE, "%s: measured before of the same; -restart measures it again", what)
        return replace(told, made=[str(self.path.parent / name) for name in made])

    def keep(self, request: PhotometryRequest, config: Config, result: Photometry) -> None:
        """Write down what came of a stack. Not without stars of the catalogue that was wanted.

        Raises StorageError.
        """
        entries = self._entries()
        entries.pop(request.stack.name, None)
        if result.zero_point is not None and not any(INSTEAD in note for note in result.notes):
            root = self.path.parent
            entries[request.stack.name] = {
                "made_from": asdict(made_from(request, config)),
                "made": {str(path.relative_to(root)): stamp(path) for path in result.made},
                "told": asdict(result.told()),
            }
        write_text(self.path, json.dumps(entries, indent=1) + "\n")

    def _entries(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def _damage(self, made: dict[str, Stamp]) -> Iterator[str]:
        """Files that are not as they were made."""
        for name, then in made.items():
            now = stamp(self.path.parent / name, then)
            if now is None or now["content"] != then["content"]:
                yield f"{name} {'is gone' if now is None else 'changed'}"


def made_from(request: PhotometryRequest, config: Config, earlier: Origin | None = None) -> Origin:
    """Files, settings and versions that a stack's photometry depends on.

    earlier : what was known of them: files that stand since then are not read again
    """
    settings = {name: asdict(getattr(config, name)) for name in SECTIONS}
    asked = asdict(request)
    for name in ("stack", "command"):
        del asked[name]
    named = {"stack": request.stack}
    for kind in ("weight", "flags"):
        path = beside(request.stack, kind)
        if path is not None:
            named[kind] = path
    for path in halves_beside(request.stack):
        named[path.name] = path
    catalog = Path(config.photometry.catalog)
    if catalog.is_file():
        named[f"catalogue {catalog.name}"] = catalog
        del settings["photometry"]["catalog"]
    known = {} if earlier is None else earlier.inputs
    inputs = {name: stamp(path, known.get(name)) or {} for name, path in named.items()}
    # As JSON gives them back.
    plain = json.loads(json.dumps(origin.plain({**settings, "request": asked})))
    return Origin(origin.versions(photometry=True), inputs, plain)
