"""Python, the libraries, the compiled kernels."""

import importlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from photometrus import __version__, kernels
from photometrus.compiled import is_kept
from photometrus.doctor.finding import Finding

REINSTALL = "install photometrus anew: pip install --upgrade photometrus"


def examine() -> Iterator[Finding]:
    """Python and photometrus, libraries, kernels."""
    yield python()
    yield libraries()
    yield compiled()


def python() -> Finding:
    """The interpreter."""
    wanted = SpecifierSet(metadata("photometrus")["Requires-Python"] or "")
    words = f"photometrus {__version__}, Python {platform.python_version()} ({sys.executable})"
    if platform.python_version() in wanted:
        return Finding("python", "ok", words)
    return Finding("python", "problem", f"{words}; it must be {wanted}", "install a newer Python")


def libraries() -> Finding:
    """What pip should have installed with photometrus."""
    wrong, n = [], 0
    for line in requires("photometrus") or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        n += 1
        try:
            here = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(here, prereleases=True):
            wrong.append(f"{wanted.name} {here} is not {wanted.specifier}")
    if wrong:
        return Finding("libraries", "problem", "; ".join(wrong), REINSTALL)
    main = ", ".join(f"{name} {version(name)}" for name in ("numpy", "numba", "astropy", "dask"))
    return Finding("libraries", "ok", f"{n}, all new enough: {main}, ...")


def compiled() -> Finding:
    """Whether compiled kernels are kept, and are there."""
    functions = list(kernels_in(kernels))
    if not functions:
        return Finding(
            "kernels", "warning", "no folder may be written to keep them; every run compiles anew,"
            " a minute", "give a folder in the environment variable NUMBA_CACHE_DIR",
        )  # fmt: skip
    folders = {Path(function.stats.cache_path) for function in functions}
    closed = [folder for folder in folders if not _writable(folder)]
    if closed:
        return Finding(
            "kernels", "warning", f"{closed[0]}: not writable; every run compiles anew, a minute",
            "give a folder in the environment variable NUMBA_CACHE_DIR",
        )  # fmt: skip
    warm = sum(is_kept(function) for function in functions)
    where = ", ".join(str(folder) for folder in sorted(folders))
    if warm == 0:
        return Finding(
            "kernels", "warning", f"none is compiled yet: the first run takes longer ({where})",
            "photometrus warm compiles them now; else the first run does",
        )  # fmt: skip
    return Finding("kernels", "ok", f"{warm} of {len(functions)} are compiled and kept in {where}")


def kernels_in(package: Any) -> Iterator[Any]:
    """The functions of a package that numba compiles and keeps."""
    for info in iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for thing in vars(module).values():
            own = getattr(thing, "__module__", "") == module.__name__
            if own and hasattr(thing, "stats") and thing.stats.cache_path:
                yield thing


def _writable(folder: Path) -> bool:
    """Whether a file can be made in a folder, or the folder itself."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return os.access(there, os.W_OK | os.X_OK)
