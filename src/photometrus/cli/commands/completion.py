"""`photometrus completion`: what a shell needs to complete commands."""

from typing import TYPE_CHECKING

from photometrus.cli.command import DONE, Command
from photometrus.cli.options import HELP, Option
from photometrus.cli.reading import one_of

if TYPE_CHECKING:
    from photometrus.cli.order import Order

SHELLS = ("bash", "zsh", "fish")


def completion(order: "Order") -> int:
    """What a shell needs."""
    from photometrus.cli.manual import script

    order.screen.raw(script(order["shell"]))
    return DONE


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
    bare="shell",
    run=completion,
)  # fmt: skip
