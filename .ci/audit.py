"""Whether a library that photometrus needs has a known hole; asked where a service answers.

    python .ci/audit.py [REPORT]

Runs pip-audit (or reads its JSON report) and looks at our dependencies and at theirs. Fails when
one of them has a known vulnerability; says how many could be asked about.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

TIMEOUT_S = 300


def normal(name):
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name, found):
    """The set `found`, with a package's dependencies and theirs in it."""
    try:
        wanted = requires(name) or []
    except PackageNotFoundError:
        return found
    for text in wanted:
        other = normal(re.split(r"[\[<>=!~; (]", text)[0])
        if "extra ==" not in text and other not in found:
            found.add(other)
            needed(other, found)
    return found


def report(arguments):
    """What pip-audit found: a row per package; none when it could not be run."""
    if arguments:
        return json.loads(Path(arguments[0]).read_text(encoding="utf-8"))["dependencies"]
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
        )
        return json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return []


def main(arguments):
    ours = needed("photometrus", set())
    rows = [row for row in report(arguments) if normal(row["name"]) in ours]
    asked = [row for row in rows if "vulns" in row]
    if not asked:
        print(f"audit: no service answered for any of {len(ours)} libraries; nothing is known")
        return 0
    holes = [
        f"{row['name']} {row['version']}: {hole['id']}; mended in "
        f"{', '.join(hole.get('fix_versions', [])) or 'no version yet'}"
        for row in asked
        for hole in row["vulns"]
    ]
    print(f"audit: {len(asked)} of {len(ours)} libraries were asked about, {len(holes)} known holes")
    print("".join(f"  {hole}\n" for hole in holes), end="")
    return 1 if holes else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
