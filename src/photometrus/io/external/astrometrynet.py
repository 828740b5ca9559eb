"""astrometry.net: solve a field, and build the index that it needs from a reference catalogue."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from photometrus.errors import MissingInput, ServiceError, UsageError
from photometrus.io.external.process import find_program, run, told
from photometrus.io.fitsfile import read_header

SCALE_ARCSEC = (0.45, 0.55)
"""Bounds of the pixel scale."""
PRESETS = (2, 4)
"""Sizes of the quads of stars: 4'-5.6' and 8'-11', for a chip of 34' dense or sparse in stars."""
MARGIN_S = 30.0
"""What solve-field may take beyond its limit, which counts the search only."""
CONFIG = "astrometry.cfg"
WCS_CARD = re.compile(
    r"(WCSAXES|CTYPE\d|CUNIT\d|CRVAL\d|CRPIX\d|CD\d_\d|LONPOLE|LATPOLE|EQUINOX|(A|B|AP|BP)_\w+)$"
)
"""Of what solve-field writes; the rest tells of the file and of the search."""


def build_index(
    reference: Table, folder: Path, *, presets: Sequence[int] = PRESETS, timeout_s: float = 300.0
) -> Path:
    """Build astrometry.net index files from a reference catalogue; the path of their config.

    reference : as `catalogs.reference` returns it
    folder : where the index files and their config go, made if missing
    presets : sizes of quads in astrometry.net's numbering (`PRESETS`)

    ServiceError when no preset gives an index, for example from too few stars.
    """
    program = find_program("build-astrometry-index")
    folder.mkdir(parents=True, exist_ok=True)
    stars = reference[np.argsort(np.asarray(reference["mag"]), kind="stable")]
    stars = Table({"RA": stars["ra_deg"], "DEC": stars["dec_deg"], "MAG": stars["mag"]})
    made, failures = [], []
    with tempfile.TemporaryDirectory(prefix=".photometrus-", dir=folder) as name:
        work = Path(name)
        stars.write(work / "stars.fits")
        for preset in presets:
            index = f"index-{preset:02d}.fits"
            args = ["-i", "stars.fits", "-o", index, "-P", str(preset), "-S", "MAG"]
            # -E: only where there are stars, -M: without temporary files
            args += ["-A", "RA", "-D", "DEC", "-I", str(900 + preset), "-E", "-M"]
            try:
                run(program, args, folder=work, timeout_s=timeout_s)
            except ServiceError as error:
                failures.append(str(error))
                continue
            made.append((work / index).replace(folder / index))
    if not made:
        raise ServiceError(
            f"no index from {len(stars)} reference stars: {failures[-1]}; give more with -catalog"
        )
    config = folder / CONFIG
    # "autoindex" reads the folder; its name may hold blanks, since the rest of the line counts.
    config.write_text(f"add_path {folder.resolve()}\nautoindex\ninparallel\n")
    return config


def solve_field(
    source: Path | Table,
    *,
    shape: tuple[int, int] | None = None,
    config: Path | None = None,
    near: tuple[float, float, float] | None = None,
    scale_arcsec: tuple[float, float] = SCALE_ARCSEC,
    tweak_order: int = 2,
    options: Sequence[str] = (),
    time_limit_s: float = 60.0,
) -> fits.Header:
    """The WCS (TAN or TAN-SIP) of an image or a list of sources by the real ``solve-field``.

    source : a FITS image, or a Table with `x`, `y` (pixels, 0-based) and `flux`
    shape : (ny, nx) of the frame, needed with a Table
    config : of the index files (`build_index`); None for the system's
    near : RA, Dec and radius of where to look, degrees; None for the whole sky
    tweak_order : of the SIP polynomial; 0 or 1 for none
    options : more arguments, e.g. ``("--downsample", "4")``
    time_limit_s : of the search

    Either parity is tried. ServiceError when it finds no solution.
    """
    program = find_program("solve-field")
    with tempfile.TemporaryDirectory(prefix="photometrus-") as name:
        folder = Path(name)
        if isinstance(source, Table):
            if shape is None:
                raise UsageError("solve-field: a list of sources needs the shape of its frame")
            args = _source_list(source, shape, folder / "field.xyls")
        else:
            if not source.exists():
                raise MissingInput(f"{source}: no such image")
            (folder / "field.fits").symlink_to(source.resolve())
            args = ["field.fits"]
        low, high = scale_arcsec
        args += ["--scale-units", "arcsecperpix"]
        args += ["--scale-low", str(low), "--scale-high", str(high)]
        args += ["--no-plots", "--no-verify", "--dir", ".", "--temp-dir", ".", "--out", "field"]
        args += ["--wcs", "solution.wcs", "--cpulimit", str(round(time_limit_s))]
        # Our sources are clean and spread; these two steps need Python of the system.
        args += ["--no-remove-lines", "--uniformize", "0"]
        for product in ("--new-fits", "--rdls", "--match", "--corr", "--index-xyls", "--solved"):
            args += [product, "none"]
        args += ["--tweak-order", str(tweak_order)] if tweak_order > 1 else ["--no-tweak"]
        if config is not None:
            args += ["--config", str(config.resolve())]
        if near is not None:
            for option, value in zip(("--ra", "--dec", "--radius"), near, strict=True):
                args += [option, f"{value:.7f}"]
        output = run(program, [*args, *options], folder=folder, timeout_s=time_limit_s + MARGIN_S)
        solution = folder / "solution.wcs"
        if not solution.exists():
            raise ServiceError(
                f"solve-field: no solution within {time_limit_s:g} s:"
                f" {told(output.stderr, output.stdout)}"
            )
        found = read_header(solution)
    return fits.Header([card for card in found.cards if WCS_CARD.match(card.keyword)])


def _source_list(sources: Table, shape: tuple[int, int], path: Path) -> list[str]:
    """Write the list of sources, 1-based and brightest first; the arguments that go with it."""
    order = np.argsort(-np.asarray(sources["flux"], dtype=np.float64), kind="stable")
    listed = Table(
        {
            "X": np.asarray(sources["x"], dtype=np.float64)[order] + 1.0,
            "Y": np.asarray(sources["y"], dtype=np.float64)[order] + 1.0,
            "FLUX": np.asarray(sources["flux"], dtype=np.float64)[order],
        }
    )
    listed.write(path, format="fits")
    size = ["--width", str(shape[1]), "--height", str(shape[0])]
    return [path.name, *size, "--x-column", "X", "--y-column", "Y", "--sort-column", "FLUX"]
