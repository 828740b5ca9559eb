"""A real image against its published catalogue: photometrus and photutils on the same stars.

    python benchmarks/spitzer.py FOLDER [--work DIR]

FOLDER holds the GLIMPSE mosaic (IRAC 4.5 micron, MJy/sr) and the part of the catalogue on it. One
zero point per method, the median, is taken away; the scatter is what is left, 1.4826 MAD.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import NDData
from astropy.stats import sigma_clipped_stats
from astropy.table import Table
from astropy.wcs import WCS
from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture, aperture_photometry
from photutils.background import LocalBackground
from photutils.psf import EPSFBuilder, PSFPhotometry, SourceGrouper, extract_stars

from helpers import machine, robust_sigma

IMAGE, CATALOG = "spitzer_example_image.fits", "spitzer_example_catalog.xml"
BAND = "J"
"""What the file of stars calls the 4.5 micron band: any band's name does."""
APERTURE_PIX, RING_PIX = 3.0, (8.0, 14.0)
MATCH_ARCSEC = 1.0
EPSF_STARS, EPSF_SIDE = 40, 25


def published(folder: Path) -> Table:
    """RAJ2000, DEJ2000, Jmag, e_Jmag of the catalogue's stars, brightest first."""
    rows = Table.read(folder / CATALOG, format="votable")
    rows = rows[np.isfinite(np.ma.filled(rows["mag4_5"].astype(float), np.nan))]
    sky = SkyCoord(rows["l"], rows["b"], unit="deg", frame="galactic").icrs
    error = 1.0857 * np.asarray(rows["df4_5"], float) / np.asarray(rows["f4_5"], float)
    mag = np.asarray(rows["mag4_5"], float)
    stars = Table({"RAJ2000": sky.ra.deg, "DEJ2000": sky.dec.deg, f"{BAND}mag": mag})
    stars[f"e_{BAND}mag"] = error
    return stars[np.argsort(mag)]


def with_photometrus(folder: Path, stars: Table, work: Path) -> dict[str, np.ndarray]:
    """Magnitudes of the stars, NaN where none is found, by the real command."""
    stars.write(work / "stars.fits", overwrite=True)
    image = work / "image.fits"
    image.write_bytes((folder / IMAGE).read_bytes())
    command = [sys.executable, "-m", "photometrus", "photometry", "-filepath", str(image)]
    command += ["-band", BAND, "-catalog", str(work / "stars.fits"), "-magsys", "Vega"]
    command += ["-mag_low", "7", "-no_plots", "-no_completeness"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    tables = list(work.glob("*.ecsv"))
    found = next((t for t in map(Table.read, tables) if "FLUX_PSF" in t.colnames), None)
    if found is None:
        raise SystemExit(done.stdout + done.stderr)
    print(done.stdout)
    sky = SkyCoord(found["ALPHA_J2000"], found["DELTA_J2000"], unit="deg")
    wanted = SkyCoord(stars["RAJ2000"], stars["DEJ2000"], unit="deg")
    row, apart, _ = wanted.match_to_catalog_sky(sky)
    near = apart.arcsec < MATCH_ARCSEC
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            kind: np.where(
                near, -2.5 * np.log10(np.asarray(found[f"FLUX_{kind}"], float)[row]), np.nan
            )
            for kind in ("PSF", "APER", "AUTO")
        }


def with_photutils(folder: Path, stars: Table) -> dict[str, np.ndarray]:
    """The same by photutils: aperture and ring, and its effective PSF at the stars' positions."""
    with fits.open(folder / IMAGE) as hdus:
        data, wcs = hdus[0].data.astype(float), WCS(hdus[0].header)
    sky = SkyCoord(stars["RAJ2000"], stars["DEJ2000"], unit="deg")
    x, y = wcs.world_to_pixel(sky)
    places = np.stack([x, y], axis=1)
    ring = ApertureStats(data, CircularAnnulus(places, *RING_PIX)).median
    aperture = CircularAperture(places, APERTURE_PIX)
    flux = np.asarray(aperture_photometry(data, aperture)["aperture_sum"]) - ring * aperture.area
    ny, nx = data.shape
    side = EPSF_SIDE
    good = (x > side) & (y > side) & (x < nx - side) & (y < ny - side)
    _, sky_level, _ = sigma_clipped_stats(data)
    few = Table({"x": x[good][:EPSF_STARS], "y": y[good][:EPSF_STARS]})
    builder = EPSFBuilder(oversampling=2, maxiters=8, progress_bar=False)
    epsf, _ = builder(extract_stars(NDData(data - sky_level), few, size=side))
    fit = PSFPhotometry(
        epsf,
        (5, 5),
        grouper=SourceGrouper(5.0),
        local_bkg_estimator=LocalBackground(*RING_PIX),
        aperture_radius=APERTURE_PIX,
    )
    fitted = fit(data, init_params=Table({"x": x, "y": y}))
    fitted.sort("id")
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "APER": -2.5 * np.log10(flux),
            "PSF": -2.5 * np.log10(np.asarray(fitted["flux_fit"], float)),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    print(machine())
    stars = published(given.folder)
    with tempfile.TemporaryDirectory(prefix="photometrus-spitzer-") as folder:
        ours = with_photometrus(given.folder, stars, given.work or Path(folder))
    theirs = with_photutils(given.folder, stars)
    true = np.asarray(stars[f"{BAND}mag"])
    same = np.ones(true.size, bool)
    for mags in (*ours.values(), *theirs.values()):
        same &= np.isfinite(mags)
    print(f"{true.size} published stars, {same.sum()} measured in every way")
    print(f"published error, median: {np.median(stars[f'e_{BAND}mag'][same]):.3f}")
    for label, which in (("all", same), ("the brighter half", same & (true < np.median(true)))):
        for name, sets in (("photometrus", ours), ("photutils", theirs)):
            for kind, mags in sets.items():
                off = (mags - true)[which]
                wild = np.sum(np.abs(off - np.median(off)) > 0.3)
                print(
                    f"{label:18s} {name:12s} {kind:5s} n {which.sum()}"
                    f" scatter {robust_sigma(off):.3f}, off by more than 0.3: {wild}"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
