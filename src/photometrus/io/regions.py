"""Regions for DS9."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table

from photometrus.io.whole import whole
from photometrus.sighting import Sighting
from photometrus.sourcetable import Status, column


@dataclass(frozen=True)
class Circle:
    """A circle on the sky for DS9."""

    ra_deg: float
    dec_deg: float
    radius_arcsec: float
    color: str
    text: str = ""


COLORS = {
    Status.NEW: "red",
    Status.AGREES: "green",
    Status.DIFFERS: "magenta",
    Status.BELOW_LIMIT: "cyan",
}


def circles(
    sources: Table, sightings: Sequence[Sighting], scale_arcsec: float, band: str
) -> list[Circle]:
    """Every source, coloured by what the catalogue says of it, and the targets' circles."""
    status = column(sources, "status", Status.BELOW_LIMIT)
    sizes = np.clip(np.nan_to_num(column(sources, "fwhm", 4.0), nan=4.0) * scale_arcsec, 0.5, 30.0)
    out = [
        Circle(float(ra), float(dec), float(size), COLORS[Status(int(value))])
        for ra, dec, size, value in zip(
            sources["ra_deg"], sources["dec_deg"], sizes, status, strict=True
        )
    ]
    for sighting in sightings:
        place = sighting.target
        at = (place.ra_deg, place.dec_deg, place.radius_arcsec)
        out.append(Circle(*at, "yellow", place.name))
        best = sighting.best
        if best is not None:
            text = f"{place.name} {band} = {best['mag_psf']:.2f}"
            out.append(Circle(float(best["ra_deg"]), float(best["dec_deg"]), 3.0, "orange", text))
    return out


def write_regions(path: Path, shapes: Iterable[Circle]) -> None:
    """A region file of DS9."""
    lines = ["# Region file format: DS9 version 4.1", "global width=1", "fk5"]
    for shape in shapes:
        # Braces end a text in DS9, and it has no way to write one.
        text = shape.text.translate({ord("{"): "(", ord("}"): ")", ord("\n"): " "})
        label = f" text={{{text}}}" if text else ""
        lines.append(
            f'circle({shape.ra_deg:.7f},{shape.dec_deg:.7f},{shape.radius_arcsec:.2f}")'
            f" # color={shape.color}{label}"
        )
    with whole(path) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
