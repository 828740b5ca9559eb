"""Kernels are compiled once and kept on disk, whoever else compiles them meanwhile.

Numba's own files go by number, and an index names one before it is written: a process that is
killed between the two, or two processes at once after the source has changed, can leave the machine
code of one signature, or of older source, under the name of another. Here the name of a file says
what is in it, and there is no index. A disk that is full or may not be written costs time only, and
so does a user who has no folder that may be written.
"""

import hashlib
from collections.abc import Callable, Iterator
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
    """Whether an earlier process has left machine code of this kernel, of this source, on disk."""
    cached = getattr(kernel, "_cache", None)
    if cached is None:  # with NUMBA_DISABLE_JIT there is nothing to keep
        return True
    return isinstance(cached, _Cache) and any(cached.files.current())


class _Cache(FunctionCache):
    """Numba's, with other files."""

    def __init__(self, function: Callable) -> None:
        super().__init__(function)
        sources = _sources(Path(function.__code__.co_filename).parent)
        self.files = _Files(self._cache_path, self._impl.filename_base, sources)
        self._cache_file = self.files

    def _save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super()._save_overload(sig, data)


class _Files(IndexDataCacheFile):
    """A file for each signature, source and version."""

    def current(self) -> Iterator[Path]:
        """Those of this source, of any signature."""
        return self._files(self._source_stamp)

    def _files(self, stamp: str) -> Iterator[Path]:
        stem = Path(self._index_name).stem
        return Path(self._cache_path).glob(f"{stem}.{stamp}.*.nbc")

    def save(self, key: Any, data: Any) -> None:
        """Write it whole or not at all; what is of other source goes."""
        for path in set(self._files("*")) - set(self.current()):
            path.unlink(missing_ok=True)
        self._save_data(self._name(key), data)

    def load(self, key: Any) -> Any:
        """What was saved; None when there is nothing, or a power cut has spoilt it."""
        try:
            return self._load_data(self._name(key))
        except (OSError, EOFError, UnpicklingError):
            return None

    def flush(self) -> None:
        """There is no index."""

    def _name(self, key: Any) -> str:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return f"{Path(self._index_name).stem}.{self._source_stamp}.{digest}.nbc"


@cache
def _sources(folder: Path) -> str:
    """A digest of all modules of a folder: kernels call each other."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
