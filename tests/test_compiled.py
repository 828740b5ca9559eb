"""Compiled kernels on disk: what is read is what was compiled of this source for these types."""

import numba
import numpy as np

from photometrus.compiled import _Files, is_kept, njit


def test_a_file_says_what_is_in_it(tmp_path):
    old, new = (
        _Files(str(tmp_path), "m.f-1.py311", "old"),
        _Files(str(tmp_path), "m.f-1.py311", "new"),
    )
    other = _Files(str(tmp_path), "m.f-12.py311", "old")
    old.save(("float32",), "old 32")
    other.save(("float32",), "another")
    assert new.load(("float32",)) is None
    # Two processes that begin at once, each with a signature of its own.
    new.save(("float32",), "new 32")
    _Files(str(tmp_path), "m.f-1.py311", "new").save(("float64",), "new 64")
    assert new.load(("float32",)) == "new 32"
    assert new.load(("float64",)) == "new 64"
    assert old.load(("float32",)) is None
    assert other.load(("float32",)) == "another"


def test_what_a_power_cut_left_is_nothing(tmp_path):
    files = _Files(str(tmp_path), "m.f-1.py311", "now")
    files.save(("float32",), "code")
    [path] = tmp_path.iterdir()
    for content in (b"", b"\0" * 100, path.read_bytes()[:-3]):
        path.write_bytes(content)
        assert files.load(("float32",)) is None


def test_a_kernel_runs_where_nothing_can_be_kept():
    @njit(cache=True)
    def total(values):
        found = 0.0
        for value in values:
            found += value
        return found

    total._cache._cache_file = _Files("/proc/self", "total.py311", "now")  # no file can be made
    assert total(np.arange(4.0)) == 6.0
    assert total(np.arange(4.0, dtype=np.float32)) == 6.0


SOURCE = """
def total(values):
    found = 0.0
    for value in values:
        found += value
    return found
"""


def made_of(path):
    """The function of SOURCE as a kernel of a module there."""
    names = {}
    exec(compile(SOURCE, path, "exec"), names)
    return njit(cache=True)(names["total"])


def test_whether_a_kernel_is_kept(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(SOURCE)
    assert not is_kept(made_of(path))
    made_of(path)(np.arange(4.0))
    assert is_kept(made_of(path))
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "module.py"
    other.write_text(SOURCE)
    assert not is_kept(made_of(other))


def test_a_kernel_runs_where_there_is_no_folder_for_it(monkeypatch):
    """As for a user without a home, and a package that somebody else has installed."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "/proc/nowhere")
    kernel = made_of("/proc/nowhere/module.py")
    assert not is_kept(kernel)
    assert kernel(np.arange(4.0)) == 6.0


def test_a_kernel_has_its_own_copies_of_those_that_it_calls():
    """Else the copy of whoever was loaded first would serve it, which may round in another way."""

    @njit(cache=True, fastmath={"reassoc"})
    def inner(values):
        found = np.float32(0.0)
        for value in values:
            found += value
        return found

    @njit(cache=True)
    def outer(values):
        return inner(values) + inner(values[1:])

    values = np.arange(8, dtype=np.float32)
    assert outer(values) == 56.0
    [text] = outer.inspect_llvm().values()
    functions = [line for line in text.splitlines() if line.startswith("define")]
    assert functions
    assert not [line for line in functions if "linkonce" in line or "weak" in line]
