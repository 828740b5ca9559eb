"""What is made of the rows of commands: completion for shells, the manual page."""

import argparse
import re
from typing import Any

from photometrus import __version__
from photometrus.cli.command import Command
from photometrus.cli.commands import COMMANDS, GROUPS, SAMPLE
from photometrus.cli.options import Option, spelled
from photometrus.cli.reading import FILES, FOLDERS, OneOf

INTRODUCTION = """\
photometrus reduces observations of the PRIME telescope (four chips of 4096 x 4096 pixels, bands
Z, Y, J, H): from ramps in an archive to one stack per chip with astrometry and a weight map, and
from there to magnitudes, limits and light curves."""
FILES_TOLD = (
    ("PARENT/stack/", "the stacks, with weights, flags and a page of plots each"),
    ("PARENT/report.html", "all of it on one page for a browser"),
    ("PARENT/run.json", "everything that was measured, and with what"),
    ("PARENT/photometrus.log", "everything that was told, run after run"),
)
VARIABLES = (
    ("PHOTOMETRUS_ARCHIVE", "address of the archive, where no -archive is given"),
    ("PHOTOMETRUS_FLATS", "store of master flats"),
    ("PHOTOMETRUS_DISTORTIONS", "store of distortions, or none"),
    ("PHOTOMETRUS_CACHE", "what catalogue services answered"),
)
CODES = (
    ("0", "done"),
    ("1", "failed"),
    ("2", "the command was wrong"),
    ("3", "done, with losses, listed in a table"),
    ("130, 143", "stopped by Ctrl-C or a signal: the same command goes on"),
)


# ---------------------------------------------------------------- the tree of commands


def script(shell: str) -> str:
    """The completion of all commands for bash, zsh or fish."""
    import shtab

    text = shtab.complete(tree(), shell)
    if shell == "fish":
        # What fish calls an old-style option: one dash, many letters; shtab takes it for one letter
        text = re.sub(r"^(complete .*?) -s (\w\w)", r"\1 -o \2", text, flags=re.M)
    return text.rstrip("\n") + "\n"


def tree() -> argparse.ArgumentParser:
    """All commands as argparse knows them, for shtab; nothing is parsed with it."""
    root = argparse.ArgumentParser("photometrus", add_help=False)
    root.add_argument("-h", help="help", action="store_true")
    root.add_argument("-version", help="the version", action="store_true")
    branches = root.add_subparsers()
    groups: dict[str, Any] = {}
    for name, command in COMMANDS.items():
        first, _, second = name.partition(" ")
        if not second:
            parser = _branch(branches, first, command)
            if any(other.startswith(f"{first} ") for other in COMMANDS):
                groups[first] = parser.add_subparsers()
        else:
            if first not in groups:
                group = branches.add_parser(first, help=GROUPS[first], add_help=False)
                groups[first] = group.add_subparsers()
            _branch(groups[first], second, command)
    return root


def _branch(where: Any, name: str, command: Command) -> argparse.ArgumentParser:
    parser = where.add_parser(name, help=_plain(command.summary), add_help=False)
    for option in command.options:
        if option.name == command.bare:
            # Only `completion` has one that is no file or folder.
            choices = option.read.choices if isinstance(option.read, OneOf) else None
            _complete(parser.add_argument(option.name, choices=choices), option)
            continue
        words = _plain(option.words)
        if option.shown:
            choices = option.read.choices if isinstance(option.read, OneOf) else None
            _complete(parser.add_argument(f"-{option.name}", help=words, choices=choices), option)
        else:
            parser.add_argument(f"-{option.name}", help=words, action="store_true")
    return parser


def _complete(action: Any, option: Option) -> None:
    import shtab

    if option.read in FILES:
        action.complete = shtab.FILE
    elif option.read in FOLDERS:
        action.complete = shtab.DIRECTORY


def _plain(words: str) -> str:
    """Words for a help of argparse, where a per cent sign is something else."""
    return words.replace("%", "%%")


# ---------------------------------------------------------------- the page


def page() -> str:
    """The manual page, in roff."""
    lines = [
        f'.TH PHOTOMETRUS 1 "" "photometrus {__version__}" "User Commands"',
        ".SH NAME",
        _roff("photometrus - from a night of PRIME ramps to stacks, magnitudes and limits"),
        ".SH SYNOPSIS",
        ".B photometrus",
        ".I COMMAND",
        "[options]",
        ".SH DESCRIPTION",
        _roff(INTRODUCTION),
        ".PP",
        _roff("Options are written -date or --date, with their full names. To begin:"),
        ".PP",
        *_sample(SAMPLE),
        ".SH COMMANDS",
    ]
    for name, command in COMMANDS.items():
        lines += _command(name, command)
    for title, rows in (
        ("FILES", FILES_TOLD), ("ENVIRONMENT", VARIABLES), ("EXIT STATUS", CODES),
    ):  # fmt: skip
        lines.append(f".SH {title}")
        for term, words in rows:
            lines += [".TP", f".B {_roff(term)}", _roff(words)]
    return "\n".join(lines) + "\n"


def _command(name: str, command: Command) -> list[str]:
    needed = [spelled(option) for option in command.options if option.needed]
    lines = [f".SS {_roff(' '.join(['photometrus', name, *needed, '[options]']))}"]
    lines += [_roff(command.about), ".PP", *_sample(command.sample)]
    for option in command.options:
        words = option.words
        if option.default:
            words += f" (default: {option.default})"
        lines += [".TP", f".B {_roff(spelled(option))}", _roff(words)]
    return lines


def _sample(text: str) -> list[str]:
    return [".nf", _roff(f"  {text}"), ".fi"]


def _roff(text: str) -> str:
    """Text as roff takes it: hyphens that stay hyphens, no line that looks like a request."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in safe.split("\n"))
