"""The same stages one at a time: a folder in, a folder out, on what the others left on disk.

One bad frame costs one frame: it is in `StepResult.lost` with the reason, the rest goes on.
"""

from photometrus.steps.data import auto_flat, get_data, make_flat, night_log
from photometrus.steps.fields import scamp, shift, solve_field
from photometrus.steps.frames import StepResult
from photometrus.steps.pixels import flatten, make_sky, place, subtract_sky
from photometrus.steps.stacks import stack

__all__ = [
    "StepResult",
    "auto_flat",
    "flatten",
    "get_data",
    "make_flat",
    "make_sky",
    "night_log",
    "place",
    "scamp",
    "shift",
    "solve_field",
    "stack",
    "subtract_sky",
]
