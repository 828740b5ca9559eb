"""The words of a page: key numbers, frames that were left out, notes."""

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes

from photometrus.evidence import DEPTH_RADIUS_ARCSEC, ChipEvidence
from photometrus.plots.ruler import Ruler
from photometrus.plots.style import FAINT, VERMILLION

NOTES_LINES = 6
"""That are left to the notes when many frames are not in the stack."""


def draw_words(axes: Axes, evidence: ChipEvidence) -> None:
    """Key numbers, flagged pixels, frames that are not in the stack, notes; as far as they fit."""
    ruler = Ruler(axes)
    ruler.heading("Key numbers")
    for words, value in key_numbers(evidence):
        ruler.row(words, value)
    flagged = [f"{cause} {100 * share:.3f} %" for cause, share in evidence.flagged.items()]
    for k in range(0, len(flagged), 2):
        ruler.row("" if k else "Flagged pixels", "     ".join(flagged[k : k + 2]))
    ruler.skip()
    ruler.heading("Not in the stack")
    entries = [(str(k), f"{name}: {reason}") for k, name, reason in left_out_frames(evidence)]
    entries += [("–", f"{one.frame}: {one.reason}") for one in evidence.lost]
    notes = [("–", note) for note in evidence.notes]
    ruler.paragraphs(
        entries or [("", "nothing: every frame is used")], VERMILLION,
        leave=NOTES_LINES if notes else 0,
    )  # fmt: skip
    if notes:
        ruler.skip()
        ruler.heading("Notes")
        ruler.paragraphs(notes, FAINT)


def left_out_frames(evidence: ChipEvidence) -> Iterator[tuple[int, str, str]]:
    """(number on the page, name, reason) of each judged frame that is not in the stack."""
    frames = evidence.frames
    for number, k in enumerate(np.flatnonzero(~np.asarray(frames["used"], bool)), start=1):
        yield number, str(frames["name"][k]), str(frames["reason"][k])


def key_numbers(evidence: ChipEvidence) -> Iterator[tuple[str, str]]:
    """(what, value with its unit), in order; what is not known is a dash."""
    numbers = evidence.numbers

    def number(name: str, form: str, unit: str = "", factor: float = 1.0) -> str:
        value = numbers.get(name, float("nan")) * factor
        return f"{value:{form}}{unit}" if np.isfinite(value) else "–"

    def pair(first: str, second: str, unit: str) -> str:
        return f"{first}, {second}{unit}" if {first, second} != {"–"} else "–"

    matched = number("n_matched", ".0f") if len(evidence.residuals) else "–"
    seeing = number("seeing_arcsec", ".2f", "″")
    level, noise = number("sky_adu", ".1f"), number("noise_adu", ".2f")
    rms, internal = (
        number(f"{name}_arcsec", ".0f", factor=1e3) for name in ("rms", "internal_rms")
    )
    yield "Frames in the stack", f"{numbers['n_frames']:.0f} of {numbers['n_given']:.0f}"
    yield "Exposure", number("exposure_s", ".0f", " s")
    yield "Seeing, ellipticity: mean of the frames", pair(seeing, number("ellipticity", ".3f"), "")
    yield "Sky level, noise of a pixel", pair(level, noise, " ADU")
    yield f"5σ in an aperture of {DEPTH_RADIUS_ARCSEC}″ radius", f"{evidence.depth_adu:.1f} ADU"
    yield "Catalogue stars per frame", matched
    yield "Mean offset east, north", _offset(evidence)
    yield "Rms per axis: to the catalogue, among dithers", pair(rms, internal, " mas")
    yield "Sky hidden by stars", number("masked_fraction", ".1f", " %", 100)
    yield "Values rejected when combining", number("rejected_fraction", ".3f", " %", 100)


def _offset(evidence: ChipEvidence) -> str:
    residuals = evidence.residuals
    if not len(residuals):
        return "–"
    # Zero added: no minus before a zero.
    east, north = (
        round(1e3 * float(np.mean(residuals[name])), 1) + 0.0 for name in ("d_east", "d_north")
    )
    return f"{east:+.1f}, {north:+.1f} mas".replace("-", "−")
