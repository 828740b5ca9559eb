"""SExtractor, SCAMP and SWarp on our files."""

import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.votable import parse as parse_votable
from astropy.table import Table

from photometrus.errors import MissingInput, ServiceError, UsageError
from photometrus.io.external.process import find_program, run, told
from photometrus.io.headfile import read_head, write_head
from photometrus.io.ldac import write_reference

Options = Mapping[str, str | float]
"""Settings of a program by its own names; they are laid over the defaults here."""

SEXTRACTOR: Options = {
    "CATALOG_TYPE": "FITS_LDAC",
    "DETECT_THRESH": 2.0,
    "ANALYSIS_THRESH": 2.0,
    "DETECT_MINAREA": 5,
    "FILTER": "Y",
    "DEBLEND_NTHRESH": 32,
    "DEBLEND_MINCONT": 0.005,
    "BACK_SIZE": 64,
    "BACK_FILTERSIZE": 3,
    "BACKPHOTO_TYPE": "LOCAL",
    "GAIN": 1.8,
    # The frames' SATURATE counts a raw read, while their pixels are slopes.
    "SATUR_LEVEL": 60000.0,
    "SATUR_KEY": "NONE",
    "PIXEL_SCALE": 0,
    # A .head beside the image would silently overrule its header.
    "HEADER_SUFFIX": ".none",
    "MEMORY_PIXSTACK": 3_000_000,
    "MEMORY_OBJSTACK": 30_000,
    "WRITE_XML": "N",
    "VERBOSE_TYPE": "QUIET",
}
PARAMETERS = (
    *("NUMBER", "X_IMAGE", "Y_IMAGE", "XWIN_IMAGE", "YWIN_IMAGE", "ERRAWIN_IMAGE"),
    *("ERRBWIN_IMAGE", "ERRTHETAWIN_IMAGE", "FLUX_AUTO", "FLUXERR_AUTO", "MAG_AUTO"),
    *("MAGERR_AUTO", "FLUX_RADIUS", "FWHM_IMAGE", "ELONGATION", "ELLIPTICITY", "FLAGS"),
    *("SNR_WIN", "ALPHA_J2000", "DELTA_J2000"),
)
FILTER_FWHM_PIX = 2.5
"""Of the Gaussian that detection is smoothed with: the typical seeing."""

SCAMP: Options = {
    "POSITION_MAXERR": 2.0,
    "POSANGLE_MAXERR": 2.0,
    "PIXSCALE_MAXERR": 1.1,
    "MATCH_FLIPPED": "Y",  # PRIME's frames are mirrored
    "MATCH_RESOL": 1.0,  # its own choice takes ten times as long and ends at the same solution
    "CROSSID_RADIUS": 2.0,
    "STABILITY_TYPE": "EXPOSURE",  # each frame its own solution
    "MOSAIC_TYPE": "UNCHANGED",
    "PROJECTION_TYPE": "TPV",
    "ASTRINSTRU_KEY": "FILTER1,FILTER2,CHIP",
    "PHOTINSTRU_KEY": "FILTER1,FILTER2",
    "SN_THRESHOLDS": "10.0,100.0",
    "FWHM_THRESHOLDS": "1.0,20.0",
    "ELLIPTICITY_MAX": 0.5,
    "REF_SERVER": "vizier.cds.unistra.fr",
    "REF_TIMEOUT": 30,
    "CHECKPLOT_TYPE": "NONE",
    "CHECKPLOT_DEV": "NULL",
    "WRITE_XML": "Y",
    "VERBOSE_TYPE": "NORMAL",
}
TRUSTED_CONTRAST = 2.0
"""SCAMP's manual: a match with less contrast than this is chance."""

SWARP: Options = {
    "COMBINE_TYPE": "MEDIAN",
    "CLIP_SIGMA": 4.0,
    "CLIP_AMPFRAC": 0.3,
    "CELESTIAL_TYPE": "EQUATORIAL",
    "PROJECTION_TYPE": "TAN",
    "RESAMPLING_TYPE": "LANCZOS3",
    "FSCALASTRO_TYPE": "FIXED",
    "SUBTRACT_BACK": "Y",
    "BACK_SIZE": 128,
    "BACK_FILTERSIZE": 3,
    "GAIN_DEFAULT": 1.8,
    "MEM_MAX": 512,
    "COMBINE_BUFSIZE": 512,
    "COPY_KEYWORDS": (
        "OBJECT,FILTER1,FILTER2,CHIP,OBSERVER,OBJNAME,OBJTYPE,DITHTYP,DITHRAD,DITHPH,DITH_REP,NINT"
    ),
    "WRITE_XML": "N",
    "VERBOSE_TYPE": "QUIET",
}


def sextractor(
    image: Path,
    catalog: Path,
    *,
    weight: Path | None = None,
    options: Options | None = None,
    timeout_s: float = 300.0,
) -> None:
    """Write the sources of `image` to `catalog` (FITS_LDAC) with the real SExtractor.

    weight : inverse variance of the pixels, 0 = bad
    options : laid over `SEXTRACTOR`
    """
    program = find_program("source-extractor", "sextractor", "sex")
    with _folder(catalog.parent) as name:
        folder = Path(name)
        _link(image, folder / "image.fits")
        settings = {**SEXTRACTOR, "CATALOG_NAME": "sources.cat"}
        settings |= {"PARAMETERS_NAME": "columns.param", "FILTER_NAME": "gauss.conv"}
        if weight is not None:
            _link(weight, folder / "weight.fits")
            settings |= {"WEIGHT_TYPE": "MAP_WEIGHT", "WEIGHT_IMAGE": "weight.fits"}
        (folder / "columns.param").write_text("\n".join(PARAMETERS) + "\n", "ascii")
        (folder / "gauss.conv").write_text(_gaussian_filter(FILTER_FWHM_PIX), "ascii")
        _configure(folder, settings, options)
        output = run(program, ["image.fits", *CONFIGURED], folder=folder, timeout_s=timeout_s)
        _take(folder / "sources.cat", catalog, f"{image.name}: source-extractor", output.stderr)


@dataclass(frozen=True)
class ScampSolution:
    """What SCAMP found for one catalogue.

    contrasts : of the match in angle and scale, and in position
    n_matched : sources matched with the reference, after its clipping
    rms_arcsec : of the residuals to the reference along the two axes, bright sources
    """

    head: Path
    header: fits.Header
    contrasts: tuple[float, float]
    n_matched: int
    rms_arcsec: tuple[float, float]

    @property
    def trusted(self) -> bool:
        """Whether the match stands out from chance; SCAMP writes a solution in any case."""
        return min(self.contrasts) >= TRUSTED_CONTRAST


def scamp(
    catalogs: Sequence[Path],
    reference: Table | None,
    *,
    degree: int = 4,
    options: Options | None = None,
    timeout_s: float = 600.0,
) -> list[ScampSolution]:
    """Solve FITS_LDAC catalogues with the real SCAMP; leaves a ``.head`` beside each.

    reference : as `catalogs.reference` returns it; None lets SCAMP ask VizieR for 2MASS
    degree : of the distortion polynomial; PRIME's is 4, and 3 leaves 3" in the corners
    options : laid over `SCAMP`

    One solution per catalogue, in their order; ask each whether it is `trusted`.
    """
    if not catalogs:
        raise UsageError("scamp: no catalogues given")
    program = find_program("scamp")
    with _folder(catalogs[0].parent) as name:
        folder = Path(name)
        names = [f"{i:04d}.cat" for i in range(len(catalogs))]
        for catalog, link in zip(catalogs, names, strict=True):
            _link(catalog, folder / link)
        settings = {**SCAMP, "DISTORT_DEGREES": degree, "XML_NAME": "scamp.xml"}
        if reference is None:
            settings["ASTREF_CATALOG"] = "2MASS"
        else:
            write_reference(folder / "reference.ldac", reference)
            settings |= {"ASTREF_CATALOG": "FILE", "ASTREFCAT_NAME": "reference.ldac"}
        _configure(folder, settings, options)
        output = run(program, [*names, *CONFIGURED], folder=folder, timeout_s=timeout_s)
        fields = _scamp_fields(folder / "scamp.xml")
        solutions = []
        for i, catalog in enumerate(catalogs):
            head = catalog.with_suffix(".head")
            _take(folder / f"{i:04d}.head", head, f"{catalog.name}: scamp", output.stderr)
            solutions.append(_solution(head, fields[i]))
        return solutions


def swarp(
    images: Sequence[Path],
    out: Path,
    weight_out: Path,
    *,
    grid: fits.Header | None = None,
    weights: Sequence[Path] = (),
    options: Options | None = None,
    timeout_s: float = 1800.0,
) -> None:
    """Stack `images` with the real SWarp; a ``.head`` beside an image is its solution.

    grid : header with the WCS and NAXIS1, NAXIS2 of the stack (`tan_grid`), None for SWarp's own:
        all images, north up, median pixel scale
    weights : inverse variance of each image, 0 = bad
    options : laid over `SWARP`, e.g. ``{"COMBINE_TYPE": "CLIPPED"}``
    """
    if not images:
        raise UsageError("swarp: no images given")
    program = find_program("SWarp", "swarp")
    settings = {**SWARP, "IMAGEOUT_NAME": "stack.fits", "WEIGHTOUT_NAME": "stack.weight.fits"}
    with _folder(out.parent) as name:
        folder = Path(name)
        names = [f"{i:04d}.fits" for i in range(len(images))]
        for image, link in zip(images, names, strict=True):
            _link(image, folder / link)
            if image.with_suffix(".head").exists():
                _link(image.with_suffix(".head"), (folder / link).with_suffix(".head"))
        if weights:
            settings["WEIGHT_TYPE"] = "MAP_WEIGHT"
            for weight, link in zip(weights, names, strict=True):
                _link(weight, (folder / link).with_suffix(".weight.fits"))
        if grid is not None:
            _write_grid(folder / "stack.head", grid)
        _configure(folder, settings, options)
        output = run(program, [*names, *CONFIGURED], folder=folder, timeout_s=timeout_s)
        _take(folder / "stack.weight.fits", weight_out, f"{out.name}: swarp", output.stderr)
        _take(folder / "stack.fits", out, f"{out.name}: swarp", output.stderr)


def tan_grid(
    centre: tuple[float, float], shape: tuple[int, int], scale_arcsec: float
) -> fits.Header:
    """Header of a TAN image, north up and east left.

    centre : RA, Dec of its middle (degrees); shape : (ny, nx); scale_arcsec : of a pixel
    """
    ny, nx = shape
    scale = scale_arcsec / 3600.0
    return fits.Header(
        [
            *(("NAXIS", 2), ("NAXIS1", nx), ("NAXIS2", ny)),
            *(("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN")),
            *(("CUNIT1", "deg"), ("CUNIT2", "deg")),
            *(("CRVAL1", centre[0]), ("CRVAL2", centre[1])),
            *(("CRPIX1", (nx + 1) / 2), ("CRPIX2", (ny + 1) / 2)),
            *(("CD1_1", -scale), ("CD1_2", 0.0), ("CD2_1", 0.0), ("CD2_2", scale)),
            *(("RADESYS", "ICRS"), ("EQUINOX", 2000.0)),
        ]
    )


CONFIGURED = ("-c", "settings.txt")


def _configure(folder: Path, settings: Options, options: Options | None) -> None:
    """Write the file of settings that the program is told to read."""
    merged = {**settings, **(options or {})}
    lines = [f"{key} {value}\n" for key, value in merged.items()]
    (folder / CONFIGURED[1]).write_text("".join(lines), "ascii")


def _folder(beside: Path) -> AbstractContextManager[str]:
    """A folder to work in, on the disk where the result goes, and removed afterwards."""
    return tempfile.TemporaryDirectory(prefix=".photometrus-", dir=beside)


def _link(path: Path, link: Path) -> None:
    # The programs split names at blanks and commas, so they see names of ours only.
    if not path.exists():
        raise MissingInput(f"{path}: no such file")
    link.symlink_to(path.resolve())


def _take(made: Path, path: Path, who: str, stderr: str) -> None:
    """Move what a program made to its place; ServiceError when it made nothing."""
    if not made.exists():
        raise ServiceError(f"{who} left no {path.name}: {told(stderr)}")
    shutil.move(made, path)


def _write_grid(path: Path, grid: fits.Header) -> None:
    """The stack's .head: for an output, SWarp takes its size from there too."""
    write_head(path, grid)
    size = "".join(f"{fits.Card(f'NAXIS{i}', grid[f'NAXIS{i}'])!s}\n" for i in (1, 2))
    path.write_text(size + path.read_text("ascii"), "ascii")


def _gaussian_filter(fwhm_pix: float) -> str:
    """A round Gaussian in SExtractor's format for convolution."""
    half = int(np.ceil(fwhm_pix))
    offsets = np.arange(-half, half + 1)
    profile = np.exp(-4.0 * np.log(2.0) * (offsets / fwhm_pix) ** 2)
    rows = [" ".join(f"{value:.6f}" for value in row) for row in np.outer(profile, profile)]
    return "CONV NORM\n" + "\n".join(rows) + "\n"


def _scamp_fields(path: Path) -> Table:
    """SCAMP's own account of each catalogue."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its XML bends the standard in harmless ways
        document = parse_votable(path)
    for table in document.iter_tables():
        if "XY_Contrast" in {field.name for field in table.fields}:
            return table.to_table(use_names_over_ids=True)
    raise ServiceError("scamp: its report has no table of fields; SCAMP 2.10 is expected")


def _solution(head: Path, field: Any) -> ScampSolution:
    header = read_head(head)
    return ScampSolution(
        head,
        header,
        contrasts=(float(field["AS_Contrast"]), float(field["XY_Contrast"])),
        n_matched=int(field["NDeg_Reference"]),
        rms_arcsec=(header.get("ASTRRMS1", np.nan) * 3600, header.get("ASTRRMS2", np.nan) * 3600),
    )
