"""astrometry.net on the stack: its solution is taken when it is the better one."""

import tempfile
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.config import Config
from photometrus.errors import ServiceError
from photometrus.frame import Coadd
from photometrus.io import external, fitsfile
from photometrus.reference import agreement
from photometrus.stages.sources import find_sources

SEARCH_RADIUS_DEG = 1.0
TWEAK_ORDER = 2


def refine_coadd(coadd: Coadd, catalog: Table | None, config: Config) -> tuple[WCS, str]:
    """The better of the stack's WCS and astrometry.net's, and a note that says which and why.

    The index files are those of `input.astrometry_net_cfg`; without it an index is built from the
    reference catalogue. Raises ServiceError when the programs are not there, fail, or there is
    nothing to build an index from.
    """
    sources = coadd_sources(coadd, config)
    centre = coadd.wcs.wcs.crval
    with tempfile.TemporaryDirectory(prefix="photometrus-index-") as name:
        if config.input.astrometry_net_cfg:
            index = Path(config.input.astrometry_net_cfg)
        elif catalog is not None:
            index = external.build_index(catalog, Path(name))
        else:
            raise ServiceError(
                "no index: give input.astrometry_net_cfg in the configuration, or -catalog FILE"
            )
        header = external.solve_field(
            sources,
            shape=coadd.data.shape,
            config=index,
            near=(float(centre[0]), float(centre[1]), SEARCH_RADIUS_DEG),
            tweak_order=TWEAK_ORDER,
        )
    theirs = fitsfile.header_wcs(header)
    if catalog is None:
        return theirs, "astrometry.net: solved; there is no catalogue to compare it with"
    n_ours, rms_ours = agreement(sources, catalog, coadd.wcs)
    n_theirs, rms_theirs = agreement(sources, catalog, theirs)
    words = (
        f'{rms_theirs:.3f}" with {n_theirs} stars, before it {rms_ours:.3f}" with {n_ours} stars'
    )
    if n_theirs >= 0.9 * n_ours and rms_theirs < rms_ours:
        return theirs, f"astrometry.net: its solution was taken ({words})"
    return coadd.wcs, f"astrometry.net: solved, but ours is the better solution and kept ({words})"


def coadd_sources(coadd: Coadd, config: Config) -> Table:
    """Stars of the stack: x, y, flux... as `find_sources` gives them."""
    seen = coadd.weight > 0
    noise = float(np.sqrt(1.0 / np.median(coadd.weight[seen]))) if seen.any() else float("nan")
    bad = (~seen).astype(np.uint8)
    return find_sources(coadd.data, bad, noise, 2, config.sources)
