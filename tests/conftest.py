"""What all tests share: real programs, the development data, the simulated night."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

# As in the recipe: small matrices are solved faster by one BLAS thread than by two.
threadpool_limits(1, user_api="blas")

# No test may leave something in the store of whoever runs it, or depend on what is there.
os.environ["PHOTOMETRUS_DISTORTIONS"] = "none"

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


LONGEST = (
    "test_observation.py",
    "test_live.py",
    "test_bad_frames.py",
    "test_memory.py",
    "test_api.py",
)
"""Files that take minutes: begun first, so that no process is left with one at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all else in its order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


def skip_unless_ci(reason: str) -> None:
    """Skip a test, but never in CI: there, what is missing is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI must have it)")
    pytest.skip(reason)


@pytest.fixture
def require_program():
    """Gives a function that returns the path of an installed program, or skips the test."""

    def find(*names: str) -> str:
        for name in names:
            found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin")
            if found:
                return found
        return skip_unless_ci(f"{' / '.join(names)} is not installed") or ""

    return find


@pytest.fixture
def humble(require_program) -> Callable[..., tuple[str, int]]:
    """The real command without the right to overrule rights, also when root runs the tests."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        drop = "--bounding-set=-dac_override,-dac_read_search"
        prefix = [require_program("setpriv"), drop, "--"]

    def command(*words: object) -> tuple[str, int]:
        whole = [*prefix, sys.executable, "-m", "photometrus", *map(str, words)]
        done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=120)
        return done.stdout + done.stderr, done.returncode

    return command


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data, or a skip where it is absent and this is not CI."""
    if not DATA.is_dir():
        skip_unless_ci(f"no development data at {DATA}")
    return DATA
