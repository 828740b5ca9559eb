"""The table of faults in docs/faults.md, held against what is really said.

A test of a fault calls `tell` with the fault's name as it stands in the table, what the command
said and its exit code. FAULTS_SHOW=FILE writes what was said into a file and holds nothing.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "faults.md"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Row:
    """fault, what photometrus says (``...`` stands for anything), what comes of it, the test."""

    fault: str
    says: str
    outcome: str
    test: str


def table() -> list[Row]:
    """The rows of all sections."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and "::" in cells[3]:
            found.append(Row(*cells))
    return found


def tell(fault: str, said: str, code: int | None = None) -> None:
    """Hold the row of a fault against what was said and the exit code.

    Blanks and the lines of tables do not count, since tables break long sentences.
    """
    if os.environ.get("FAULTS_SHOW"):
        with Path(os.environ["FAULTS_SHOW"]).open("a") as file:
            file.write(f"\n=== {fault}\n{said.strip()[-1500:]}\n--- exit {code}\n")
        return
    (row,) = [row for row in table() if row.fault == fault]
    assert "Traceback" not in said, said
    if code is not None:
        assert f"exit {code}" in row.outcome, f"{fault}: exit {code}\n{said}"
    rest = _squeezed(said)
    for message in re.findall(r"`([^`]+)`", row.says):
        for part in filter(None, map(_squeezed, message.split("..."))):
            assert part in rest, f"{fault}: {part!r} not in (the rest of)\n{said}"
            rest = rest.split(part, 1)[1]


def _squeezed(text: str) -> str:
    return re.sub(r"[\s│]+", "", text)


def run(*words: object, **environment: str) -> tuple[str, int]:
    """The real command in a process of its own: all that it said, and its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "photometrus", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        env={**os.environ, **environment},
    )
    return done.stdout + done.stderr, done.returncode
