"""The commands as functions: plain values in, the recipes' results out.

Whatever is not given is as the command has it. Each function raises `PhotometrusError` with the
sentence that the command would print.
"""

from photometrus.api.beginning import load_config, night_log, simulate_night
from photometrus.api.measuring import light_curve, measure_coadd, read_stack
from photometrus.api.pictures import Picture, picture
from photometrus.api.reducing import (
    reduce_chip,
    reduce_folder,
    reduce_night,
    reduce_observation,
)
from photometrus.config import Config
from photometrus.errors import PhotometrusError
from photometrus.frame import Stack
from photometrus.night import NightReport
from photometrus.observation import Observation
from photometrus.photometry.request import Photometry
from photometrus.sighting import Target
from photometrus.track import ChipResult

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
