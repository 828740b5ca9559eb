"""photometrus: from a night of PRIME ramps to calibrated, stacked, astrometrically exact images.

The commands as functions, for scripts and notebooks::

    import photometrus

    observation = photometrus.reduce_observation("field1111", "20240606", "J", archive="night")
    photometrus.measure_coadd(observation.chips[0], ra="13:25:12.3", dec="-00:31:12")

What they are is in docs/api.md. Nothing heavy is imported before one of them is asked for.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from photometrus.api import (
        ChipResult,
        Config,
        NightReport,
        Observation,
        PhotometrusError,
        Photometry,
        Picture,
        Stack,
        Target,
        light_curve,
        load_config,
        measure_coadd,
        night_log,
        picture,
        read_stack,
        reduce_chip,
        reduce_folder,
        reduce_night,
        reduce_observation,
        simulate_night,
    )

__version__ = version("photometrus")

__all__ = [
    "ChipResult",
    "Config",
    "NightReport",
    "Observation",
    "Photometry",
    "PhotometrusError",
    "Picture",
    "Stack",
    "Target",
    "light_curve",
    "load_config",
    "measure_coadd",
    "night_log",
    "picture",
    "read_stack",
    "reduce_chip",
    "reduce_folder",
    "reduce_night",
    "reduce_observation",
    "simulate_night",
]


def __getattr__(name: str) -> Any:
    """What the package's face promises, fetched when it is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'photometrus' has no attribute {name!r}")
    return getattr(import_module("photometrus.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
