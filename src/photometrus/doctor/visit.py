"""The whole of a visit to the doctor."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from photometrus.config import Config
from photometrus.doctor import installation, machine, places, programs, services
from photometrus.doctor.finding import Finding


def examine(
    config: Config, parent: Path, night: date | None = None, *, timeout_s: float = 8.0
) -> Iterator[Finding]:
    """Everything, in the order in which it will be needed; each as soon as it is known.

    parent : where products are to go; night : whose log the archive should have
    timeout_s : how long the archive and the services may be silent, all together
    """
    yield from installation.examine()
    yield from machine.examine(config)
    yield from places.examine(config, parent)
    yield from services.examine(config, night, timeout_s)
    yield from programs.examine(config)
