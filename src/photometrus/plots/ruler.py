"""Lines of words one below the other: headings, rows of numbers, paragraphs."""

import textwrap

from matplotlib.axes import Axes

from photometrus.plots.style import FAINT, INK, LIGHT

ROW_INCHES, LINE_INCHES = 0.145, 0.108


class Ruler:
    """Where the next line goes, in inches from the top of the axes.

    letters : of a line of a paragraph
    elsewhere : where all of what does not fit is told
    """

    def __init__(self, axes: Axes, letters: int = 70, elsewhere: str = "run.json") -> None:
        box = axes.get_window_extent()
        dpi = axes.figure.dpi
        self.axes = axes
        self.letters = letters
        self.elsewhere = elsewhere
        self.y = 0.0
        axes.set_xlim(0, box.width / dpi)
        axes.set_ylim(box.height / dpi, 0)
        axes.set_axis_off()

    @property
    def width(self) -> float:
        """Of a line, inches."""
        return self.axes.get_xlim()[1]

    @property
    def left(self) -> int:
        """Lines that still fit."""
        return int((self.axes.get_ylim()[0] - self.y) / LINE_INCHES)

    def skip(self) -> None:
        """An empty line."""
        self.y += LINE_INCHES

    def heading(self, words: str) -> None:
        """Bold words on a rule."""
        self.axes.text(0, self.y, words, fontsize=7.5, fontweight="bold", va="top")
        self.y += 0.15
        self.axes.plot([0, self.width], [self.y, self.y], color=INK, linewidth=0.7, clip_on=False)
        self.y += 0.04

    def row(self, words: str, value: str) -> None:
        """Words at the left and their value at the right, on a thin rule."""
        middle = self.y + ROW_INCHES / 2
        self.axes.text(0, middle, words, va="center_baseline")
        self.axes.text(self.width, middle, value, va="center_baseline", ha="right")
        self.y += ROW_INCHES
        self.axes.plot([0, self.width], [self.y, self.y], color=LIGHT, linewidth=0.5, clip_on=False)

    def paragraphs(self, entries: list[tuple[str, str]], color: str, leave: int = 0) -> None:
        """Entries with a mark each; when they do not all fit, how many more there are.

        leave : lines to be left free
        """
        for k, (mark, text) in enumerate(entries):
            lines = textwrap.wrap(text, self.letters)
            more = len(entries) - k
            if len(lines) + (more > 1) > self.left - leave:
                self._line("", f"and {more} more: see {self.elsewhere}", FAINT)
                return
            for line in lines:
                self._line(mark, line, color)
                mark = ""

    def _line(self, mark: str, text: str, color: str) -> None:
        self.axes.text(0, self.y, mark, va="top", fontsize=6, color=color, fontweight="bold")
        self.axes.text(0.15, self.y, text, va="top", fontsize=6)
        self.y += LINE_INCHES
