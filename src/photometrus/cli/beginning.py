"""The commands of first contact, as rows: doctor, settings, completion, manual."""

from photometrus.cli.command import Command
from photometrus.cli.options import (
    ARCHIVE,
    COMMON,
    DATE,
    FLAT_DIR,
    HELP,
    SHELLS,
    Option,
    folder,
    one_of,
    path,
    positive,
)

DOCTOR = Command(
    "doctor",
    "is all there that a reduction needs? How to mend what is not",
    "Looks at the installation, the machine, disk, flats and other stores, the archive, the\n"
    "catalogue services, optional programs and the terminal; and says how to mend what is wrong.",
    {
        "What": (
            Option("parent", "folder where products are to go", "DIR", folder, default="."),
            ARCHIVE,
            Option("date", "a night whose log the archive should have", DATE.shown, DATE.read,
                   default="any of the last days"),
            FLAT_DIR,
            Option("timeout", "longest wait for the network, s", "S", positive, default="8"),
        ),
        "How": (Option("json", "for programs: a list of objects"),),
        "General": COMMON,
    },
    "photometrus doctor -archive sftp://me@prime/ -date 20240606",
    "Exit code 0: a reduction can begin; 1: something must be mended before.",
    room="health",
)  # fmt: skip
SETTINGS = Command(
    "config",
    "the settings, all with their values",
    "Shows every setting as TOML: the defaults, or what FILE makes of them. Keep what you change\n"
    "and give it with -config; options on the command line go before it.",
    {
        "What": (Option("out", "write it there instead", "FILE", path),),
        "General": COMMON,
    },
    "photometrus config -out prime.toml",
    "A file with words on every setting:  photometrus config init",
)
SHOW = Command(
    "config show",
    "the same as config alone",
    SETTINGS.about,
    SETTINGS.groups,
    "photometrus config show -config prime.toml",
    SETTINGS.after,
)
INIT = Command(
    "config init",
    "a file of settings to begin with, with words on each",
    "Writes every setting with its default and what it means, as comments: what you uncomment\n"
    "and change holds.",
    {
        "What": (Option("out", "the file", "FILE", path, default="photometrus.toml"),),
        "General": COMMON,
    },
    "photometrus config init -out prime.toml",
    "Then:  photometrus pipeline ... -config prime.toml",
)
COMPLETION = Command(
    "completion",
    "what makes the TAB key complete commands and options",
    "Writes what bash, zsh or fish needs to complete commands, options and values. Each of these\n"
    "does it for good:\n\n"
    "  photometrus completion bash > ~/.local/share/bash-completion/completions/photometrus\n"
    "  photometrus completion zsh > ~/.zfunc/_photometrus    (a folder of $fpath)\n"
    "  photometrus completion fish > ~/.config/fish/completions/photometrus.fish",
    {
        "What": (
            Option("shell", "bash, zsh or fish", "SHELL", one_of(*SHELLS), needed=True),
        ),
        "General": (HELP,),
    },
    "photometrus completion -shell bash",
    room="manual",
    bare="shell",
)  # fmt: skip
MANUAL = Command(
    "man",
    "the manual page",
    "Writes the manual page, all commands with all options, as man wants it. pip installs it,\n"
    "too, in share/man/man1 of the environment.",
    {"General": (HELP,)},
    "photometrus man",
    "To read it:  photometrus man | man -l -",
    room="manual",
)
BEGINNING = (DOCTOR, SETTINGS, SHOW, INIT, COMPLETION, MANUAL)
