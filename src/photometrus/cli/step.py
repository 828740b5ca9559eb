"""A single step as its commands run it: with a progress bar, tables, an exit code."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from photometrus.cards import figure
from photometrus.cli.command import DONE, FAILED, LOSSES

if TYPE_CHECKING:
    from photometrus.cli.order import Order
    from photometrus.steps import StepResult


def run_step(
    order: "Order", call: "Callable[..., StepResult]", where: Path, *, fate: str = "not used"
) -> int:
    """Run a step with a progress bar, tell what it made and lost; the exit code.

    fate : what happened to what is lost
    """
    with order.screen.progress() as progress:
        result = call(progress=progress)
    screen = order.screen
    if result.numbers:
        columns = ("frame", "stars ", "rms mas ", 'moved " ')
        rows = [
            (
                name,
                figure(numbers.get("n_matched"), 0),
                figure(numbers.get("rms_arcsec"), 0, 1000),
                figure(numbers.get("moved_arcsec"), 1),
            )
            for name, numbers in sorted(result.numbers.items())
        ]
        screen.table(str(where), columns, rows)
    lost = [(name, fate, reason) for name, reason in result.lost]
    screen.losses([*lost, *((name, "left out", reason) for name, reason in result.left_out)])
    screen.notes(result.notes)
    screen.line(_made(result, where))
    if not result.made:
        return FAILED
    return LOSSES if result.lost else DONE


def _made(result: "StepResult", where: Path) -> str:
    if not result.made:
        return f"nothing was made of {result.given} in {where}"
    if len(result.made) == 1:
        return f"{result.made[0]}"
    return f"{len(result.made)} files in {where}: {result.made[0].name} ... {result.made[-1].name}"
