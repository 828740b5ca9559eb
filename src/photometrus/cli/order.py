"""A command as it was given: what its runner gets."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from photometrus import __version__
from photometrus import config as configuration
from photometrus.cli.command import Command
from photometrus.cli.options import overrides
from photometrus.cli.show import Screen
from photometrus.instrument import CHIPS

LIBRARIES = ("numpy", "scipy", "numba", "astropy", "sep", "distributed")


@dataclass(frozen=True)
class Order:
    """A command as it was given.

    given : values by the options' names; text : the command as typed, without passwords
    """

    command: Command
    given: dict[str, Any]
    screen: Screen
    text: str

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def get(self, name: str, otherwise: Any = None) -> Any:
        """The value of an option, or what holds without it."""
        return self.given.get(name, otherwise)

    @property
    def chips(self) -> tuple[int, ...]:
        """The chips asked for: all, unless said otherwise."""
        return self.given.get("chip", tuple(CHIPS))

    def keep_journal(self, folder: Path) -> None:
        """Write down all that is told from now on, in the folder's photometrus.log."""
        libraries = (f"{name} {version(name)}" for name in LIBRARIES)
        versions = (
            f"photometrus {__version__}, Python {platform.python_version()}, "
            f"{', '.join(libraries)}; {platform.platform()}, {os.cpu_count()} cores"
        )
        self.screen.keep_journal(folder, self.text, versions)

    def config(self) -> configuration.Config:
        """Defaults, the file, the options."""
        changes = overrides(self.command.options, self.given)
        return configuration.load(self.given.get("config"), changes)
