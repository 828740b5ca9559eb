"""Programs of others, which some options use."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from photometrus.config import Config
from photometrus.doctor.finding import Finding
from photometrus.errors import ServiceError
from photometrus.io.external.process import PACKAGES, find_program

ASTROMATIC = (("source-extractor", "sex"), ("scamp",), ("SWarp", "swarp"))
SYSTEM_CONFIGS = ("/etc/astrometry.cfg", "/usr/local/astrometry/etc/astrometry.cfg")
TIMEOUT_S = 5.0


def examine(config: Config) -> Iterator[Finding]:
    """What -engine astromatic and -astromnet need."""
    for names in ASTROMATIC:
        yield program(names, "-engine astromatic", needed=config.run.engine == "astromatic")
    found = program(("solve-field",), "-astromnet and astrom net", needed=config.run.astrometry_net)
    yield found
    if found.state == "ok":
        yield index_files(config.input.astrometry_net_cfg)


def program(names: tuple[str, ...], used_by: str, *, needed: bool) -> Finding:
    """Whether a program is installed and starts."""
    mend = f"Debian: apt install {PACKAGES[names[0]]}"
    try:
        path = find_program(*names)
    except ServiceError:
        words = f"not installed; only {used_by} needs it"
        return Finding(names[0], "problem" if needed else "warning", words, mend)
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
            stdin=subprocess.DEVNULL, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(names[0], "problem", f"{path} does not start: {error}", mend)
    number = re.search(r"\d+\.\d+[\w.]*", done.stdout + done.stderr)
    return Finding(names[0], "ok", f"{number[0] if number else 'there'} ({path})")


def index_files(given: str) -> Finding:
    """What solve-field looks stars up in."""
    built = "without them -astromnet builds its own from the catalogue; astrom net needs them"
    config = next((path for path in (given, *SYSTEM_CONFIGS) if path and Path(path).is_file()), "")
    if given and config != given:
        return Finding(
            "index files", "problem", f"{given}: no such file",
            "correct astrometry_net_cfg in the section [input] of the settings",
        )  # fmt: skip
    folders = []
    if config:
        text = Path(config).read_text(encoding="utf-8", errors="replace")
        folders = re.findall(r"^\s*add_path\s+(.+?)\s*$", text, re.M)
    n = sum(1 for folder in folders for _ in Path(folder).glob("*.fits"))
    if n:
        return Finding("index files", "ok", f"{n} in {', '.join(folders)} ({config})")
    return Finding(
        "index files", "warning", f"none; {built}",
        "Debian: apt install astrometry-data-tycho2; or data.astrometry.net, series 4100 or 5200",
    )  # fmt: skip
