"""A small made archive, what comes of asking it, and who may ask."""

import os
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from conftest import skip_unless_ci
from photometrus.io import download as downloads
from photometrus.io.archive import open_archive
from photometrus.io.download import Downloads, download
from photometrus.io.limits import TransferConfig
from photometrus.products import RampId, log_name
from servers import SshServer, ssh_server

NIGHT = date(2024, 8, 25)
LOGS = "prime01/work/LOG/Ramp_LOG"
PIXELS = 64


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch, tmp_path_factory):
    """Neither the user's known hosts and keys, nor a proxy, nor an archive set outside."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in os.environ:
        if name.startswith("PHOTOMETRUS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return home


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Between tries 20 ms instead of half a second."""
    monkeypatch.setattr(downloads, "RETRY_WAIT_S", 0.02)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory) -> SshServer:
    """One sshd for all tests here."""
    program = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        skip_unless_ci("sshd is not installed")
    with ssh_server(tmp_path_factory.mktemp("sshd"), program) as server:
        yield server


@pytest.fixture
def ssh(sshd, monkeypatch) -> SshServer:
    """The sshd, with its key and ours known."""
    for name, value in sshd.environment.items():
        monkeypatch.setenv(name, value)
    return sshd


def image(serial: int, chip: int) -> np.ndarray:
    """Small stand-in for a ramp, different for each, with a NaN and an unsolved pixel."""
    data = np.random.RandomState(serial % 1000 + chip).normal(100, 5, (PIXELS, PIXELS))
    data[3, 4], data[5, 6] = np.nan, 65535.0
    return data.astype(np.float32)


def put(root: Path, path: str, data: np.ndarray, *, packed: bool = False) -> Path:
    """A FITS file in a made archive."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    header = fits.Header([("OBJNAME", "field1", "target"), ("ROTOFF", "922:337:000NaN")])
    if packed:
        unit = fits.CompImageHDU(data, header, compression_type="GZIP_1", quantize_level=0)
        fits.HDUList([fits.PrimaryHDU(), unit]).writeto(file)
    else:
        fits.PrimaryHDU(data, header).writeto(file)
    return file


def put_log(root: Path, night: date = NIGHT, content: str | None = None) -> Path:
    row = (
        "2024-08-25T16:10:00.000 00000007C1.fits.ramp field1 OBJECT NASA 1 Open J "
        "11.44 8.58 8.58 4 Circle 37.5 17.2 1 86.993 2451 5 1\n"
    )
    file = root / LOGS / log_name(night)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(row if content is None else content)
    return file


def to(folder: Path):
    return lambda ramp: folder / f"C{ramp.chip}" / f"{ramp}.ramp.fits"


def get(
    root: Path | str,
    folder: Path,
    ramps: list[RampId],
    limits: TransferConfig | None = None,
    **options,
) -> Downloads:
    with open_archive(str(root), limits) as archive:
        return download(archive, ramps, to(folder), **options)


@pytest.fixture
def made(tmp_path) -> Path:
    """An archive in the SFTP generation's layout with a log and no ramps."""
    root = tmp_path / "made"
    put_log(root)
    return root
