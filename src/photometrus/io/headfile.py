"""A ``.head`` file: FITS cards as lines, which SCAMP writes and SWarp reads."""

import re
from pathlib import Path

from astropy.io import fits

from photometrus.errors import MissingInput, UsageError
from photometrus.io.damage import readable, reading
from photometrus.io.whole import whole

CARD = 80
"""Characters of a FITS card."""
STRUCTURE = re.compile(
    r"(SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|"
    r"CHECKSUM|DATASUM|ZDATASUM|ZHECKSUM|END)$"
)
"""Cards that tell how pixels are stored; in a .head they would overrule the image's own."""


def write_head(path: Path, header: fits.Header) -> None:
    """Write a WCS (and whatever else) as a ``.head`` file that SWarp and SCAMP read.

    header : cards to write; those that describe how pixels are stored are left out, and PC with
        CDELT becomes CD, the form these programs know; not changed

    Written whole or not at all. UsageError for SIP, which both ignore silently: fit TPV instead.
    """
    if str(header.get("CTYPE1", "")).endswith("-SIP"):
        raise UsageError(
            f"{path.name}: SWarp and SCAMP do not know SIP; give a TAN or TPV solution"
        )
    cards = [
        card
        for card in with_cd(header).cards
        if not STRUCTURE.match(card.keyword) and (card.keyword or card.comment or card.value)
    ]
    lines = [str(card)[start : start + CARD] for card in cards for start in starts(str(card))]
    with whole(path) as part:
        part.write_text("".join(line + "\n" for line in [*lines, "END".ljust(CARD)]), "ascii")


def read_head(path: Path, *, extension: int = 0) -> fits.Header:
    """The cards of a ``.head`` file, fixed or free format.

    extension : which header, when there are several, each closed by END

    MissingInput when there is no such file; UsageError when it is not one of these.
    """
    try:
        text = path.read_text("latin-1")
    except FileNotFoundError:
        raise MissingInput(
            f"{path}: no such header file; `photometrus astrom astromatic` writes them"
        ) from None
    blocks: list[list[fits.Card]] = [[]]
    for number, line in enumerate(text.splitlines(), start=1):
        if line.rstrip() == "END":
            blocks.append([])
        elif line.strip():
            blocks[-1].append(_card_of(line, f"{path}: line {number}"))
    blocks = [block for block in blocks if block]
    if extension >= len(blocks):
        raise UsageError(f"{path}: {len(blocks)} headers, asked for number {extension + 1}")
    with reading(path, "a header", UsageError):
        return readable(fits.Header(blocks[extension]))


def _card_of(line: str, where: str) -> fits.Card:
    """The card that a line of a .head file stands for; free format is brought into columns."""
    text = line.encode("ascii", "replace").decode().rstrip()
    if re.match(r"(HISTORY|COMMENT|CONTINUE|HIERARCH| {8})", text.ljust(8)):
        return fits.Card.fromstring(text[:CARD].ljust(CARD))
    match = re.match(r"\s*([A-Za-z0-9_-]{1,8})\s*=\s*(.*)$", text)
    if match is None:
        raise UsageError(f"{where}: {text[:40]!r} is no FITS card")
    fixed = f"{match[1].upper():8s}= {match[2]}"
    # A comment may be cut, a value may not; a slash after column 80 can only be a comment.
    return fits.Card.fromstring(fixed[:CARD].ljust(CARD))


def starts(text: str) -> range:
    """Where the cards of a text without line ends begin."""
    return range(0, len(text), CARD)


def with_cd(header: fits.Header) -> fits.Header:
    """A copy in which the linear part of the WCS is a CD matrix."""
    copy = header.copy()
    if "CD1_1" in header or "CRPIX1" not in header:
        return copy
    for i in (1, 2):
        for j in (1, 2):
            pc = header.get(f"PC{i}_{j}", float(i == j))
            copy[f"CD{i}_{j}"] = pc * header.get(f"CDELT{i}", 1.0)
            copy.remove(f"PC{i}_{j}", ignore_missing=True)
    for i in (1, 2):
        copy.remove(f"CDELT{i}", ignore_missing=True)
    return copy
