"""How an observation was made: what went in, and which settings are not the defaults."""

import tomllib
from collections.abc import Iterator
from typing import Any

from photometrus import config as configuration
from photometrus.config import Config
from photometrus.passwords import without_password


def changed_settings(text: str) -> list[tuple[str, str, str]]:
    """(key, value, default) of each setting in a ``config.toml`` that is not the default's.

    Settings of an older version that are not there any more have no default; a text that is no
    TOML has no settings.
    """
    try:
        values = dict(_flat(tomllib.loads(text)))
    except tomllib.TOMLDecodeError:
        return []
    defaults = dict(_flat(tomllib.loads(configuration.dump(Config()))))
    return [
        (key, said(value), said(defaults[key]) if key in defaults else "–")
        for key, value in values.items()
        if key not in defaults or value != defaults[key]
    ]


def said(value: Any) -> str:
    """A setting as TOML has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return without_password(f'"{value}"' if isinstance(value, str) else str(value))


def _flat(table: dict[str, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """``section.key`` and value of all settings, section by section."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value
