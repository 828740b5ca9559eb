"""The recipe: a stack on disk to magnitudes, limits, targets and their files."""

import logging
import math
from dataclasses import replace
from pathlib import Path

from astropy.table import Table

from photometrus.config import Config
from photometrus.errors import PhotometrusError, UsageError
from photometrus.frame import Progress, Stack, no_progress
from photometrus.instrument import BANDS
from photometrus.io.stackfile import read_stack
from photometrus.photometry import answers, files, pictures
from photometrus.photometry.calibrating import Zero, add_magnitudes, find_stars, zero_points
from photometrus.photometry.faint import Faint, faintest, injected, proven
from photometrus.photometry.request import Photometry, PhotometryRequest
from photometrus.photometry.sources import Measures, measure_sources
from photometrus.products import StackProducts
from photometrus.sighting import Calibration, Sighting, Target
from photometrus.stages.completeness import Completeness
from photometrus.stages.noise import true_weights
from photometrus.stages.target import search_new
from photometrus.wcs import pixel_scale_arcsec
from photometrus.workers import Each

log = logging.getLogger(__name__)


def measure_stack(
    request: PhotometryRequest,
    config: Config,
    *,
    each: Each = map,
    progress: Progress = no_progress,
) -> Photometry:
    """Magnitudes, limits and targets of one stack, and their files beside it.

    Raises PhotometrusError for what stops everything: no such stack, no band, no sources. Without
    stars to calibrate with, or with a zero point that cannot be trusted, the sources are written in
    ADU, and `refused` says why.
    """
    run = StackRun(request, config, each, progress)
    if request.query_only:
        return run.only_query()
    return run.measure()


class StackRun:
    """One stack on its way through photometry."""

    def __init__(
        self, request: PhotometryRequest, config: Config, each: Each, progress: Progress
    ) -> None:
        self.request, self.config, self.each, self.progress = request, config, each, progress
        self.notes: list[str] = []
        self.made: list[Path] = []

    def measure(self) -> Photometry:
        """The whole of it."""
        stack = self.open()
        stars, refused = self.find()
        measured = measure_sources(
            true_weights(stack, self.config.noise), self.config, self.each, self.progress
        )
        self.notes += measured.notes
        zero = None if stars is None else self.calibrate(measured, stars)
        if zero is not None:
            refused = zero.psf.refused
        faint = faintest(measured, self.config)
        put_in = self.inject(measured, faint)
        if put_in is not None:
            factor = proven(faint, put_in)
            faint = faint.times(factor)
            measured = replace(measured, limit_factor=factor)
        sightings, found, sources = self.look(measured, zero)
        result = self.result(measured, zero, faint, put_in, (sightings, found, sources), refused)
        self.write(result, measured, zero, put_in)
        if self.config.photometry.plots:
            self.draw(result, measured, zero, faint, put_in)
        return result

    def open(self) -> Stack:
        """The stack; UsageError when nobody knows its band."""
        stack = read_stack(self.request.stack, band=self.request.band)
        if stack.info.band not in BANDS:
            raise UsageError(
                f"{self.request.stack}: its header does not say which band it is; give -band"
            )
        self.stack = stack
        self.scale_arcsec = pixel_scale_arcsec(stack.wcs)
        return stack

    def only_query(self) -> Photometry:
        """The catalogue's stars and nothing else."""
        stack = self.open()
        stars = find_stars(stack.wcs, stack.data.shape, stack.info.band, self.config, self.notes)
        path = files.write_query(self.products(str(stars.meta["survey"])), stars)
        nothing = math.nan
        return Photometry(
            stack.info, "", Table(), None, nothing, nothing, nothing, nothing, made=[path],
            notes=self.notes,
        )  # fmt: skip

    def find(self) -> tuple[Table | None, str]:
        """The stars to calibrate with, and why there are none.

        Before anything is measured: a name that is none is not worth waiting for.
        """
        self.progress("catalogue", 0, 1)
        stack = self.stack
        try:
            stars = find_stars(
                stack.wcs, stack.data.shape, stack.info.band, self.config, self.notes
            )
        except PhotometrusError as error:
            file = Path(self.config.photometry.catalog).is_file()
            if isinstance(error, UsageError) and not file:
                raise
            return None, str(error)
        self.progress("catalogue", 1, 1)
        return stars, ""

    def calibrate(self, measured: Measures, stars: Table) -> Zero:
        """The zero points, trusted or not, and the sources' magnitudes by those that are."""
        self.progress("zero point", 0, 1)
        stack = self.stack
        shape = stack.data.shape
        zero = zero_points(measured.sources, stars, stack.wcs, stack.info, shape, self.config)
        if self.request.query:
            self.made.append(files.write_query(self.products(zero.survey), stars))
        self.notes += list(zero.psf.notes)
        add_magnitudes(measured.sources, zero)
        self.progress("zero point", 1, 1)
        return zero

    def inject(self, measured: Measures, faint: Faint) -> Completeness | None:
        """What is found of stars that are put in."""
        if not self.config.photometry.completeness or self.request.targets_only:
            return None
        self.progress("completeness", 0, 1)
        try:
            return injected(measured, faint, self.config, self.each)
        except PhotometrusError as error:
            self.notes.append(str(error))
            return None

    def look(
        self, measured: Measures, zero: Zero | None
    ) -> tuple[list[Sighting], list[Table], Table]:
        """What is at the targets; the sources with what the catalogue says of them."""
        if zero is None or not zero.psf.trusted:
            if self.request.targets:
                self.notes.append("no target is judged without a zero point")
            return [], [], measured.sources
        searching = [t for t in self.request.targets if answers.is_search(t, self.config)]
        halves = None
        if searching:
            halves = answers.halves_of(self.request.stack, measured, self.config)
            if halves is None:
                self.notes.append(
                    "new sources were not looked for in both halves of the frames: make them with"
                    " photometrus stack -alt"
                )
        info = self.stack.info
        sources = answers.judged(measured, zero, info, self.scale_arcsec, halves, self.config)
        sightings, found = [], []
        for target in self.request.targets:
            sightings.append(answers.answer(target, sources, measured, zero, self.config))
            new = answers.is_search(target, self.config)
            found.append(search_new(sources, target, self.config.target) if new else Table())
        return sightings, found, sources

    def result(
        self,
        measured: Measures,
        zero: Zero | None,
        faint: Faint,
        put_in: Completeness | None,
        looked: tuple[list[Sighting], list[Table], Table],
        refused: str,
    ) -> Photometry:
        """All of it in numbers."""
        sightings, found, sources = looked
        limits = [math.nan] * 3
        if zero is not None and zero.psf.trusted:
            fluxes = [5 * faint.error_adu, 3 * faint.error_adu]
            fluxes.append(math.nan if put_in is None else put_in.half_flux)
            middle = self.middle(zero)
            limits = [middle - 2.5 * math.log10(flux) if flux > 0 else math.nan for flux in fluxes]
        return Photometry(
            info=self.stack.info,
            system="" if zero is None else zero.system,
            sources=sources,
            zero_point=None if zero is None else zero.psf,
            limit_5sigma=limits[0],
            limit_3sigma=limits[1],
            limit50=limits[2],
            fwhm_arcsec=measured.psf.fwhm_pix * self.scale_arcsec,
            sightings=sightings,
            new_sources=found,
            made=self.made,
            notes=self.notes,
            refused=refused,
        )

    def middle(self, zero: Zero) -> float:
        """The zero point in the middle of the stack, in the system of the magnitudes."""
        ny, nx = self.stack.data.shape
        return zero.brief((nx - 1) / 2, (ny - 1) / 2).zero_point

    def products(self, survey: str) -> StackProducts:
        """The names of what is made."""
        info = self.stack.info
        folder = self.request.stack.parent
        return StackProducts(
            folder, info.name, info.band, info.chip, survey, self.request.target_name
        )

    def brief(self, zero: Zero | None, target: Target | None = None) -> Calibration:
        """The calibration in short, at the middle of the stack or at a target."""
        if zero is None:
            nan = math.nan
            return Calibration(self.stack.info.band, "AB", nan, "none", 0, nan, nan, nan)
        ny, nx = self.stack.data.shape
        x, y = (nx - 1) / 2, (ny - 1) / 2
        if target is not None:
            x, y = answers.pixel(self.stack.wcs, target)
        return zero.brief(x, y)

    def write(
        self,
        result: Photometry,
        measured: Measures,
        zero: Zero | None,
        put_in: Completeness | None,
    ) -> None:
        """The tables, the reports, the regions."""
        if self.request.plots_only:
            return
        products = self.products("none" if zero is None else zero.survey)
        meta = files.catalog_meta(self.stack.info, self.brief(zero), zero, self.numbers(result))
        if put_in is not None:
            meta["recovered_adu"] = [float(flux) for flux in put_in.fluxes]
            meta["recovered"] = [round(float(share), 4) for share in put_in.fraction]
        if not self.request.targets_only:
            parquet = self.config.photometry.parquet
            self.made += files.write_sources(
                products, result.sources, self.brief(zero), meta, parquet
            )
            if zero is not None:
                self.made.append(
                    files.write_stars(products, zero, self.config.zeropoint.clip_sigma)
                )
            self.made.append(
                files.regions(
                    products, result.sources, result.sightings, self.scale_arcsec,
                    self.stack.info.band,
                )
            )  # fmt: skip
        if zero is not None:
            self.write_targets(result, products, zero, meta)
        if self.config.photometry.keep:
            self.made += files.write_kept(products, measured)

    def write_targets(
        self, result: Photometry, products: StackProducts, zero: Zero, meta: dict[str, object]
    ) -> None:
        """What there is to say of each target."""
        many = len(result.sightings) > 1
        for k, sighting in enumerate(result.sightings, start=1):
            location = k if many else 0
            brief = self.brief(zero, sighting.target)
            paths, text = files.write_sighting(
                products,
                sighting,
                brief,
                self.stack.info,
                scale_arcsec=self.scale_arcsec,
                location=location,
                t0_mjd=self.request.t0_mjd,
                meta=meta,
            )
            self.made += paths
            result.reports.append(text)
            if answers.is_search(sighting.target, self.config):
                found = result.new_sources[k - 1]
                self.made.append(files.write_new(products, found, brief, meta, location))

    def numbers(self, result: Photometry) -> dict[str, object]:
        """What was measured on the stack as a whole, for the tables' metadata."""
        return {
            "limit_5sigma": result.limit_5sigma,
            "limit_3sigma": result.limit_3sigma,
            "limit_50_percent": result.limit50,
            "fwhm_arcsec": result.fwhm_arcsec,
            "pixel_scale_arcsec": self.scale_arcsec,
            "galactic_extinction_corrected": False,
            "notes": list(self.notes),
            "command": self.request.command,
        }

    def draw(
        self,
        result: Photometry,
        measured: Measures,
        zero: Zero | None,
        faint: Faint,
        put_in: Completeness | None,
    ) -> None:
        """The two pages and the finding charts."""
        self.progress("plots", 0, 1)
        products = self.products("none" if zero is None else zero.survey)
        evidence = pictures.evidence(
            result, measured, zero, faint, put_in, self.middle(zero) if zero else math.nan
        )
        if not self.request.targets_only:
            self.made += pictures.draw_pages(products, evidence)
        if zero is not None:
            self.made += pictures.draw_charts(products, result, measured, zero)
        self.progress("plots", 1, 1)
