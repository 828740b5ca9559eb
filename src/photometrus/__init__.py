"""photometrus: from a night of PRIME ramps to calibrated, stacked, astrometrically exact images."""

from importlib.metadata import version

__version__ = version("photometrus")
