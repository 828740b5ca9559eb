"""What the benchmarks share: timing, the machine, robust statistics, the sky as a plane."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Numbers = dict[str, Any]
"""What was measured: nested dicts that JSON can hold."""

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median over that of the mean, for a normal distribution."""


def time_best(function: Callable[[], object], repeat: int = 3) -> float:
    """Seconds of the fastest of `repeat` calls of `function`."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def machine() -> str:
    """One line: processor cores, Python and the versions that decide speed."""
    parts = [f"{name} {version(name)}" for name in ("numpy", "numba", "astropy", "sep")]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, " + ", ".join(parts)


def robust_sigma(values: Array) -> float:
    """Standard deviation from the median absolute deviation; NaN for an empty array."""
    if len(values) == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))))


def median_of_finite(values: Array) -> float:
    """Median of the finite values, NaN when there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


def within(values: Array, n_sigma: float, rounds: int = 10) -> Array:
    """Which values lie within `n_sigma` robust sigmas of the median of those kept; bool (n,)."""
    keep = np.isfinite(values)
    for _ in range(rounds):
        if not keep.any():
            break
        limit = n_sigma * robust_sigma(values[keep])
        new = np.isfinite(values) & (np.abs(values - np.median(values[keep])) <= limit)
        if (new == keep).all():
            break
        keep = new
    return keep


def fit_plane_clipped(terms: Array, values: Array, sigma: Array) -> tuple[Array, Array, Array]:
    """Weighted linear fit with 4-sigma clipping.

    terms : float (n, k); values, sigma : float (n,)
    returns coefficients (k,), their errors (k,), and which values were kept (n,)
    """
    keep = within(values, 6.0)
    for _ in range(6):
        weighted = terms[keep] / sigma[keep, None]
        coeff, *_ = np.linalg.lstsq(weighted, values[keep] / sigma[keep], rcond=None)
        pull = (values - terms @ coeff) / sigma
        scale = robust_sigma(pull[keep])
        keep = np.abs(pull) <= 4 * scale
    weighted = terms[keep] / sigma[keep, None]
    errors = np.sqrt(np.diag(np.linalg.pinv(weighted.T @ weighted))) * max(scale, 1e-12)
    return coeff, errors, keep


def polynomial(x: Array, y: Array, order: int) -> Array:
    """The terms ``x**i * y**j`` with ``i + j <= order``; float (n, k), the constant first."""
    powers = [(i, j) for i in range(order + 1) for j in range(order + 1 - i)]
    return np.stack([x**i * y**j for i, j in powers], axis=-1)


def to_plane(ra: Array, dec: Array, centre: tuple[float, float]) -> tuple[Array, Array]:
    """Gnomonic projection about `centre`: east and north in arcsec; all angles in degrees."""
    ra0, dec0 = np.radians(centre)
    ra, dec = np.radians(ra), np.radians(dec)
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    east = np.cos(dec) * np.sin(ra - ra0) / cosine
    north = np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)
    return np.degrees(east) * 3600, np.degrees(north / cosine) * 3600


def from_plane(east: Array, north: Array, centre: tuple[float, float]) -> tuple[Array, Array]:
    """The inverse of `to_plane`: RA and Dec in degrees."""
    ra0, dec0 = np.radians(centre)
    xi, eta = np.radians(np.asarray(east) / 3600), np.radians(np.asarray(north) / 3600)
    down = np.cos(dec0) - eta * np.sin(dec0)
    ra = ra0 + np.arctan2(xi, down)
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, down))
    return np.degrees(ra) % 360, np.degrees(dec)


def flatten(numbers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts as (``a.b.c``, value); lists are left out."""
    for key, value in numbers.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            yield f"{prefix}{key}", value


def plain(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """`value` without NumPy: what `json` writes, with None for NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
