"""Kernels are compiled once and kept on disk, whoever else compiles them meanwhile.

Numba's own files go by number, and an index names one before it is written: a process that is
killed between the two, or two processes at once after the source has changed, can leave the machine
code of one signature, or of older source, under the name of another. Here the name of a file says
what is in it, and there is no index. A disk that is full or may not be written costs time only, and
so does a user who has no folder that may be written.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import cpu_target


def njit(**options: Any) -> Callable[[Callable], Any]:
    """``numba.njit`` with these options; ``cache=True`` keeps what is compiled as said above."""
    keep = options.pop("cache", False)

    def compiled(function: Callable) -> Any:
        _with_own_copies()
        kernel: Any = numba.njit(**options)(function)
        if keep and hasattr(kernel, "py_func"):  # not with NUMBA_DISABLE_JIT
            with suppress(RuntimeError):  # no folder to keep it in
                kernel._cache = _Cache(function)
        return kernel

    return compiled


class _Library(JITCodeLibrary):
    """Machine code with copies of its own of the kernels that it calls.

    Numba lets whichever copy was loaded first in a process serve all callers, and copies with
    `fastmath` need not round alike: a process that compiles would give other bits than one that
    reads what that one has compiled.
    """

    def _optimize_final_module(self) -> None:
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage.name == "linkonce_odr":
                function.linkage = "internal"
        super()._optimize_final_module()


@cache
def _with_own_copies() -> None:
    """From now on machine code is made as `_Library` says."""
    cpu_target.target_context.codegen()._library_class = _Library


def is_kept(kernel: Any) -> bool:
    """Whether machine code of a kernel, from this very source, is on disk."""
    cache = getattr(kernel, "_cache", None)
    return isinstance(cache, _Cache) and cache.has_any()


class _Cache(FunctionCache):
    """Numba's, with other files."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        sources = _sources(Path(function.__code__.co_filename).parent)
        self._files = _Files(self._cache_path, self._impl.filename_base, sources)
        self._cache_file = self._files

    def has_any(self) -> bool:
        """Whether something of this source was saved, for whatever types."""
        return self._files.has_any()

    def _save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super()._save_overload(sig, data)


class _Files(IndexDataCacheFile):
    """A file for each signature, source and version."""

    def save(self, key: Any, data: Any) -> None:
        """Write it whole or not at all; what is of other source goes."""
        folder = Path(self._cache_path)
        begin = self._begin()
        for path in folder.glob(f"{begin}*.nbc"):
            if not path.name.startswith(f"{begin}{self._source_stamp}."):
                path.unlink(missing_ok=True)
        self._save_data(self._name(key), data)

    def load(self, key: Any) -> Any:
        """What was saved; None when there is nothing, or a power cut has spoilt it."""
        try:
            return self._load_data(self._name(key))
        except (OSError, EOFError, UnpicklingError):
            return None

    def has_any(self) -> bool:
        """Whether there is a file of this source."""
        return any(Path(self._cache_path).glob(f"{self._begin()}{self._source_stamp}.*.nbc"))

    def flush(self) -> None:
        """There is no index."""

    def _begin(self) -> str:
        return f"{Path(self._index_name).stem}."

    def _name(self, key: Any) -> str:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return f"{self._begin()}{self._source_stamp}.{digest}.nbc"


@cache
def _sources(folder: Path) -> str:
    """A digest of all modules of a folder: kernels call each other."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
