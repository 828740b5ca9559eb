"""From the words of the command line to a command and its values, with errors that teach.

``argparse`` reads the values and lays out the help. What it would do to single-dash options -
abbreviate them, take ``-45.7arcsec`` for an option, say ``unrecognized arguments`` - is settled
before it sees them: `tidied` brings every option into the form ``-name=value``.
"""

import argparse
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Any, NoReturn

from photometrus.cli.command import Command
from photometrus.cli.commands import COMMANDS, GROUPS, SAMPLE, members, overview
from photometrus.cli.options import Option, spelled
from photometrus.cli.reading import FILES, FOLDERS, night
from photometrus.errors import PhotometrusError, UsageError, nearest

NUMBER = re.compile(r"-[0-9.]")
NIGHT = re.compile(r"\d{8}|\d{4}-\d\d-\d\d")
OTHER_WORDS = {
    "filter": "band", "filt": "band", "object": "target", "objname": "target", "field": "target",
    "rot": "rot_val", "rotoff": "rot_val", "catalogue": "catalog", "survey": "catalog",
    "help": "h", "night": "date", "url": "archive", "astrometrynet": "astromnet",
    "noflat": "no_FF", "no_flat": "no_FF", "skip": "exclude", "reject": "exclude",
    "ramplist": "exclude", "n_ramps": "rampnum", "incremental": "increm", "alternate": "alt",
    "exposure_map": "exptime_map",
}  # fmt: skip
"""What else people call an option."""
BESIDE = ("process", "astrom", "simulate", "warm", "config", "completion", "man")
"""Commands for single steps, trying out, the installation, settings, comfort."""
EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 the command was wrong, 3 done with losses (in a table),\n"
    "130 or 143 stopped by Ctrl-C or a signal"
)

OTHER_COMMANDS = {
    "multi_master": "pipeline",
    "master": "stack",
    "super_master": "night",
    "tds": "night",
    "logger": "log",
    "single_photometry": "photometry",
    "photomgrb": "photometry",
}
"""What the older scripts call them."""


def find_command(words: Sequence[str]) -> tuple[Command, list[str]]:
    """The command that the first words name, and the words after it; UsageError otherwise."""
    first, rest = words[0], list(words[1:])
    if first in COMMANDS:
        step = " ".join(words[:2])
        return (COMMANDS[step], rest[1:]) if rest and step in COMMANDS else (COMMANDS[first], rest)
    if first in GROUPS:
        steps = members(first)
        if not rest or rest[0].startswith("-"):
            raise UsageError(f"photometrus {first}: which step? {', '.join(steps)}")
        if rest[0] in steps:
            return COMMANDS[f"{first} {rest[0]}"], rest[1:]
        raise UsageError(
            f"photometrus {first}: no step {rest[0]!r}; there are {', '.join(steps)}"
            f"{nearest(rest[0], steps)}"
        )
    if first.startswith("-"):
        raise UsageError(f"{first!r} before the command; write for example: {SAMPLE}")
    names = [name for name, _ in overview()]
    for group in GROUPS:
        if first in members(group):
            raise UsageError(f"no command {first!r}; did you mean '{group} {first}'?")
    older = OTHER_COMMANDS.get(first.removesuffix(".py").lower())
    if older is not None:
        raise UsageError(f"no command {first!r}; here it is: photometrus {older}")
    raise UsageError(f"no command {first!r}; there are {', '.join(names)}{nearest(first, names)}")


def tidied(command: Command, words: Sequence[str]) -> list[str]:
    """The words with every option as ``-name`` or ``-name=value``.

    Raises UsageError with the nearest right spelling for what is no option, has lost its dash or
    lacks its value.
    """
    options = {option.name: option for option in command.options} | {"help": _help(command)}
    out: list[str] = []
    rest = list(words)
    if command.bare and rest and not rest[0].startswith("-"):
        out.append(f"-{command.bare}={rest.pop(0)}")
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or NUMBER.match(word):
            raise UsageError(_stray(command, options, word, rest, out))
        name, equals, value = word.lstrip("-").partition("=")
        option = options.get(name)
        if option is None:
            raise UsageError(_unknown(command, options, word.partition("=")[0], name))
        if not option.shown:
            if equals:
                raise UsageError(f"photometrus {command.name}: -{name} takes no value")
            out.append(f"-{option.name}")
            continue
        if not equals:
            if not rest or (rest[0].startswith("-") and not NUMBER.match(rest[0])):
                raise UsageError(f"photometrus {command.name}: no value; write {spelled(option)}")
            value = rest.pop(0)
        if not value.strip():
            raise UsageError(f"photometrus {command.name}: empty value; write {spelled(option)}")
        out.append(f"-{option.name}={value}")
    return out


def _help(command: Command) -> Option:
    return next(option for option in command.options if option.name == "h")


def _stray(
    command: Command, options: dict[str, Option], word: str, rest: list[str], done: list[str]
) -> str:
    """What to say of a word that stands where an option should."""
    where = f"photometrus {command.name}"
    meant = _meant(word, options, cutoff=0.75)
    if meant is not None:
        value = rest[0] if rest and meant.shown and not rest[0].startswith("-") else meant.shown
        return f"{where}: {word!r} has no dash; did you mean '{f'-{meant.name} {value}'.strip()}'?"
    before = done[-1].replace("=", " ", 1) if done else ""
    way_out = (
        "no blank after a comma" if before.endswith(",") else "a value with blanks needs quotes"
    )
    hint = f" after {before!r}; {way_out}" if "=" in "".join(done[-1:]) else ""
    fits = None if hint else _fitting(command, word)
    if fits is not None:
        return f"{where}: what is {word!r}? Did you mean '-{fits.name} {word}'?"
    return (
        f"{where}: what is {word!r}{hint}? Options begin with a dash, for example: {command.sample}"
    )


def _fitting(command: Command, word: str) -> Option | None:
    """The first option of a command whose value a word looks like: a night, a folder, a file."""
    what = next(iter(command.groups.values()))
    looks: list[Any] = [night] if NIGHT.fullmatch(word) else []
    looks += FOLDERS if Path(word).is_dir() else FILES if Path(word).is_file() else ()
    return next((option for option in what if option.read in looks), None)


def _unknown(command: Command, options: dict[str, Option], word: str, name: str) -> str:
    """What to say of an option that is none of this command's."""
    where = f"photometrus {command.name}"
    meant = _meant(name, options, cutoff=0.55)
    if meant is not None:
        return f"{where}: no option {word!r}; did you mean '{spelled(meant)}'?"
    others = [c.name for c in COMMANDS.values() if any(o.name == name for o in c.options)]
    hint = f"it belongs to {' and '.join(others[:3])}; " if others else ""
    return f"{where}: no option {word!r}; {hint}photometrus {command.name} -h lists them"


def _meant(word: str, options: dict[str, Option], *, cutoff: float) -> Option | None:
    """The option that a misspelled word probably stands for."""
    name = word.lower().replace("-", "_")
    name = OTHER_WORDS.get(name, name)
    by_lower = {known.lower(): option for known, option in options.items()}
    close = get_close_matches(name, by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError; `tidied` leaves nothing that gets here but a bug."""
        raise UsageError(f"{self.prog}: {message}")


def build(command: Command) -> Parser:
    """The parser of one command."""
    needed = " ".join(spelled(option) for option in command.options if option.needed)
    parser = Parser(
        prog=f"photometrus {command.name}",
        usage=" ".join(filter(None, ("photometrus", command.name, needed, "[options]"))),
        description=f"{command.about}\n\n  {command.sample}",
        epilog=command.after,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=26, width=96
        ),
        add_help=False,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for title, options in command.groups.items():
        group = parser.add_argument_group(title)
        for option in options:
            _add(group, option, command)
    return parser


def _add(group: Any, option: Option, command: Command) -> None:
    words = option.words.replace("%", "%%")
    if option.needed:
        words += " (needed)"
    elif option.default:
        words += f" (default: {option.default})"
    names = [f"-{option.name}"]
    if option.name == "h":
        group.add_argument(*names, action="help", help=words)
    elif option.shown:
        read = partial(read_value, option, command)
        group.add_argument(*names, dest=option.name, metavar=option.shown, type=read, help=words)
    else:
        group.add_argument(
            *names, dest=option.name, action="store_const", const=option.value, help=words
        )


def read_value(option: Option, command: Command, text: str) -> Any:
    """The value of an option from its text; UsageError that names both."""
    where = f"photometrus {command.name}: -{option.name}"
    try:
        return option.read(text)
    except PhotometrusError as error:
        raise UsageError(f"{where}: {error}") from None
    except ValueError as error:
        raise UsageError(f"{where} {text!r}: {error}") from None


def parse(command: Command, words: Sequence[str]) -> dict[str, Any]:
    """The values that were given, by the names of their options.

    Raises UsageError; SystemExit(0) after printing the help that was asked for.
    """
    given = vars(build(command).parse_args(tidied(command, words)))
    missing = [option for option in command.options if option.needed and option.name not in given]
    if missing:
        names = " and ".join(f"-{option.name}" for option in missing)
        raise UsageError(
            f"photometrus {command.name}: {names} missing; for example: {command.sample}"
        )
    return given


BEGIN = (
    ("all there?", "photometrus doctor"),
    ("observed?", "photometrus log -date 20240606"),
    ("reduce it", "photometrus pipeline -target field1111 -date 20240606 -band J"),
    ("look at it", "field1111_20240606/J/report.html; the stacks are in stack/"),
    ("measure it", "photometrus photometry -stackpath field1111_20240606/J/stack"),
)
"""The way that most people go."""


def short_help() -> str:
    """What it is for, the way to a stack, all commands, where more is said; in a dozen lines."""
    lines = ["photometrus: from a night of PRIME ramps to stacks, magnitudes and limits"]
    lines += [f"  {words:10s} {command}" for words, command in BEGIN]
    lines.append("Stopped, by whatever? Type the same command: it goes on. Commands:")
    most = ", ".join(name for name, _ in overview() if name not in BESIDE)
    lines += wrap(most, 78, initial_indent="  ", subsequent_indent="  ")
    lines.append(f"  also {', '.join(name for name, _ in overview() if name in BESIDE)}")
    lines.append("photometrus COMMAND -h explains one; photometrus -h tells more")
    return "\n".join(lines) + "\n"


def long_help(version: str) -> str:
    """The overview, what each command does, and what holds for all of them."""
    lines = [f"photometrus {version}", short_help(), "What they do:"]
    lines += [f"  {n:18s} {c.summary}" for n, c in COMMANDS.items()]
    lines += [
        "",
        "Options are written -date or --date, with their full names.",
        "Settings: defaults, then -config FILE.toml, then options; photometrus config shows them.",
        "Environment: PHOTOMETRUS_ARCHIVE (URL), PHOTOMETRUS_FLATS (folder), PHOTOMETRUS_CACHE.",
        EXIT_CODES,
        "To read: docs/user-guide.md beside the source; photometrus man | man -l -",
    ]
    return "\n".join(lines) + "\n"
