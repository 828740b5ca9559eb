"""Find a program of others and run it: time limit, captured output, nothing left running."""

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from photometrus.errors import ServiceError

log = logging.getLogger(__name__)

PACKAGES = {
    "source-extractor": "source-extractor",
    "scamp": "scamp",
    "SWarp": "swarp",
    "solve-field": "astrometry.net",
    "build-astrometry-index": "astrometry.net",
}
"""The Debian package of each program."""

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TOLD_LINES = 3


@dataclass(frozen=True)
class Output:
    """What a program wrote to its two outputs."""

    stdout: str
    stderr: str


def find_program(*names: str) -> str:
    """Path of the first of `names` that is installed; ServiceError that tells how to get it."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    package = PACKAGES.get(names[0], names[0])
    raise ServiceError(
        f"{names[0]}: not installed; get it (Debian: apt install {package}) or use -engine native"
    )


def run(program: str, args: Sequence[str], *, folder: Path, timeout_s: float) -> Output:
    """What `program` wrote, run in `folder` as its current folder.

    program : path, as `find_program` gives it
    timeout_s : after so many seconds the program and all that it started are killed

    ServiceError when it cannot be started, takes too long, or ends with another code than 0; the
    message has the last meaningful lines that it wrote.
    """
    name = Path(program).name
    command = [program, *args]
    log.debug("%s", command)
    begin = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C"},  # decimal points, messages in English
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # its own group, so that its children can be killed with it
        )
    except OSError as error:
        raise ServiceError(f"{name}: cannot be started: {error}") from error
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ServiceError(
            f"{name}: not done after {timeout_s:g} s, killed; give it more time"
        ) from None
    finally:
        # Also when interrupted, and for children that outlive their parent.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
    if process.returncode != 0:
        raise ServiceError(f"{name}: {_ending(process.returncode)}: {told(stderr, stdout)}")
    log.info("%s: done in %.1f s", name, time.monotonic() - begin)
    return Output(stdout, stderr)


def told(*outputs: str) -> str:
    """The last meaningful lines of the first output that has any, as one line."""
    for output in outputs:
        lines = [line.strip(" >*\r") for line in ESCAPES.sub("", output).splitlines()]
        lines = [line for line in lines if re.search(r"[A-Za-z]", line)]
        complaints = [line for line in lines if re.search(r"error|fail|cannot|not ", line, re.I)]
        if complaints or lines:
            return " / ".join((complaints or lines)[-TOLD_LINES:])
    return "it said nothing"


def _ending(code: int) -> str:
    if code >= 0:
        return f"failed with code {code}"
    return f"killed by {signal.Signals(-code).name}"
