"""The bridge to SExtractor, SCAMP, SWarp and astrometry.net, by really running them."""

import os
import subprocess
import time

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from photometrus.errors import MissingInput, ServiceError, UsageError
from photometrus.instrument import CHIP_CRPIX, CHIPS
from photometrus.io import external
from photometrus.io.catalogs import separation_deg
from photometrus.io.headfile import write_head
from photometrus.io.ldac import read_ldac, write_ldac

CENTRE = (201.2, -0.52)
SCALE_ARCSEC = 0.497
N_PIX = 1024
FWHM_PIX = 2.6
ZERO_POINT = 23.88


def stars_around(centre, radius_deg, n, seed):
    """`n` stars spread evenly over a circle, as `catalogs.reference` would give them."""
    random = np.random.RandomState(seed)
    # Evenly in a disk, then onto the sky; small enough for the tangent plane to do.
    radius, angle = radius_deg * np.sqrt(random.uniform(size=n)), random.uniform(0, 2 * np.pi, n)
    dec = centre[1] + radius * np.sin(angle)
    ra = centre[0] + radius * np.cos(angle) / np.cos(np.radians(centre[1]))
    # Star counts rise by 10**0.3 per magnitude.
    mag = 17.0 + np.log10(random.uniform(10 ** (-0.3 * 6.0), 1.0, n)) / 0.3
    return Table(
        {
            "ra_deg": ra,
            "dec_deg": dec,
            "pos_err_arcsec": np.full(n, 0.05),
            "pm_ra_mas_yr": np.zeros(n),
            "pm_dec_mas_yr": np.zeros(n),
            "epoch_yr": np.full(n, 2024.5),
            "mag": mag,
            "mag_err": np.full(n, 0.03),
        }
    )


def mirrored_header(centre=CENTRE, rotation_deg=2.0, n_pix=N_PIX):
    """A TAN frame of PRIME's parity (det CD > 0)."""
    scale, angle = SCALE_ARCSEC / 3600.0, np.radians(rotation_deg)
    header = fits.Header()
    header.update(
        {
            "SIMPLE": True,
            "BITPIX": -32,
            "NAXIS": 2,
            "NAXIS1": n_pix,
            "NAXIS2": n_pix,
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "CRVAL1": centre[0],
            "CRVAL2": centre[1],
            "CRPIX1": (n_pix + 1) / 2,
            "CRPIX2": (n_pix + 1) / 2,
            "CD1_1": scale * np.cos(angle),
            "CD1_2": -scale * np.sin(angle),
            "CD2_1": scale * np.sin(angle),
            "CD2_2": scale * np.cos(angle),
            "RADESYS": "ICRS",
            "EQUINOX": 2000.0,
            "FILTER1": "Open",
            "FILTER2": "J",
            "CHIP": 3,
            "OBJNAME": "field1111",
            "EXPTIME": 8.58,
            "DATE-OBS": "2024-06-06",
            "MJD-OBS": 60467.0,
        }
    )
    return header


def rendered(stars, header, seed, noise=1.5):
    """An image of Gaussian stars with white noise; and the true pixels (0-based) and fluxes."""
    x, y = WCS(header).all_world2pix(stars["ra_deg"], stars["dec_deg"], 0)
    flux = 10 ** (0.4 * (ZERO_POINT - np.asarray(stars["mag"])))
    image = np.random.RandomState(seed).normal(0.0, noise, (N_PIX, N_PIX)).astype(np.float32)
    sigma, half = FWHM_PIX / 2.3548, 8
    inside = (x > half) & (x < N_PIX - half - 1) & (y > half) & (y < N_PIX - half - 1)
    for xi, yi, fi in zip(x[inside], y[inside], flux[inside], strict=True):
        i, j = round(yi), round(xi)
        rows, cols = np.mgrid[i - half : i + half + 1, j - half : j + half + 1]
        profile = np.exp(-((rows - yi) ** 2 + (cols - xi) ** 2) / (2 * sigma**2))
        image[rows, cols] += (fi * profile / (2 * np.pi * sigma**2)).astype(np.float32)
    return image, Table({"x": x[inside], "y": y[inside], "flux": flux[inside]})


def nearest(x, y, x0, y0):
    """For each (x0, y0) the index of the nearest (x, y) and its distance."""
    apart = np.hypot(np.subtract.outer(x0, x), np.subtract.outer(y0, y))
    return apart.argmin(axis=1), apart.min(axis=1)


@pytest.fixture(scope="module")
def reference():
    # 300 stars in a field of 8.5': over the 12' circle around it.
    return stars_around(CENTRE, 0.1, 600, seed=1)


@pytest.fixture(scope="module")
def frames(tmp_path_factory, reference):
    """Two frames of the same stars, the second moved and turned; names with a blank."""
    folder = tmp_path_factory.mktemp("two frames")
    paths, truths = [], []
    for i, (move, turn) in enumerate(((0.0, 2.0), (0.004, 2.3))):
        header = mirrored_header((CENTRE[0] + move, CENTRE[1] - move), turn)
        image, truth = rendered(reference, header, seed=10 + i)
        path = folder / f"0159913{i}C3.sky.flat.fits"
        fits.writeto(path, image, header)
        paths.append(path)
        truths.append(truth)
    return paths, truths


def test_a_missing_program_tells_how_to_get_it():
    with pytest.raises(ServiceError, match=r"no-such-sex: not installed; .* -engine native"):
        external.find_program("no-such-sex", "nor-this")


def test_a_failing_program_tells_its_last_lines(tmp_path):
    script = "echo one >&2; echo 'file not found' >&2; echo '   ' >&2; exit 3"
    with pytest.raises(ServiceError, match="sh: failed with code 3: file not found$"):
        external.run("/bin/sh", ["-c", script], folder=tmp_path, timeout_s=10)


def test_a_killed_program_tells_the_signal(tmp_path):
    with pytest.raises(ServiceError, match="killed by SIGSEGV"):
        external.run("/bin/sh", ["-c", "kill -SEGV $$"], folder=tmp_path, timeout_s=10)


def test_a_slow_program_is_killed_with_its_children(tmp_path):
    begin = time.monotonic()
    script = "sleep 60 & echo $! > child; wait"
    with pytest.raises(ServiceError, match="not done after 0.5 s"):
        external.run("/bin/sh", ["-c", script], folder=tmp_path, timeout_s=0.5)
    assert time.monotonic() - begin < 10
    child = int((tmp_path / "child").read_text())
    end = time.monotonic() + 5
    while _runs(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid):
    """Whether a process is there and no zombie."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_no_shell_sees_the_arguments(tmp_path):
    output = external.run("/bin/echo", ["$(id); `id` *"], folder=tmp_path, timeout_s=10)
    assert output.stdout == "$(id); `id` *\n"
    assert "HOME" in os.environ  # the environment goes along, in English
    output = external.run("/usr/bin/env", [], folder=tmp_path, timeout_s=10)
    assert "LC_ALL=C\n" in output.stdout
    assert f"HOME={os.environ['HOME']}\n" in output.stdout


def test_sextractor_finds_the_stars(require_program, frames, tmp_path):
    require_program("source-extractor", "sextractor", "sex")
    paths, truths = frames
    catalog = tmp_path / "a b.cat"
    external.sextractor(paths[0], catalog)
    header, sources = read_ldac(catalog)
    assert header["CHIP"] == 3
    bright = truths[0][truths[0]["flux"] > 2000.0]
    which, apart = nearest(sources["x"], sources["y"], bright["x"], bright["y"])
    alone = nearest(truths[0]["x"], truths[0]["y"], bright["x"], bright["y"])[1] == 0.0
    assert alone.all()
    # Flux 2000 in noise 1.5: the effective area is 4 pi sigma**2 = 15 pixels, so S/N = 340 and
    # the centroid's error is 1.1/340 = 0.003 pixels. Blends are further off: take the median;
    # a forgotten 1-based pixel would give 1.4.
    assert np.median(apart) < 5 * 0.003
    assert (apart < 1.0).mean() > 0.95
    assert np.median(sources["flux"][which] / bright["flux"]) == pytest.approx(1.0, abs=0.06)
    # The median image is FWHM 2.6; SExtractor's estimate of it is good to some 10 %.
    assert np.median(sources["fwhm_pix"][which]) == pytest.approx(FWHM_PIX, rel=0.15)
    assert [p.name for p in tmp_path.iterdir()] == ["a b.cat"]  # nothing is left behind


def test_sextractor_reports_an_image_that_is_none(require_program, tmp_path):
    require_program("source-extractor", "sextractor", "sex")
    (tmp_path / "bad.fits").write_text("no FITS")
    with pytest.raises(ServiceError, match="source-extractor"):
        external.sextractor(tmp_path / "bad.fits", tmp_path / "bad.cat")
    with pytest.raises(MissingInput, match=r"absent\.fits"):
        external.sextractor(tmp_path / "absent.fits", tmp_path / "bad.cat")
    assert not (tmp_path / "bad.cat").exists()


def perturbed(header, arcsec=20.0, degrees=0.1):
    """The header as the telescope would write it: off by some arcseconds and turned."""
    wrong = header.copy()
    wrong["CRVAL1"] += arcsec / 3600.0
    wrong["CRVAL2"] -= arcsec / 3600.0
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    cd = rotation @ np.array(
        [[header["CD1_1"], header["CD1_2"]], [header["CD2_1"], header["CD2_2"]]]
    )
    for i in (0, 1):
        for j in (0, 1):
            wrong[f"CD{i + 1}_{j + 1}"] = cd[i, j]
    return wrong


@pytest.fixture(scope="module")
def solved(tmp_path_factory, frames, reference):
    """Copies of the two frames with wrong headers, our source lists, and SCAMP's solutions."""
    folder = tmp_path_factory.mktemp("solved frames")
    random = np.random.RandomState(3)
    images, catalogs = [], []
    for path, truth in zip(*frames, strict=True):
        image, header = fits.getdata(path, header=True)
        wrong = perturbed(header)
        images.append(folder / path.name)
        fits.writeto(images[-1], image, wrong)
        sources = truth[truth["flux"] > 100.0]
        snr = sources["flux"] / 6.0
        error = FWHM_PIX / 2.3548 / snr
        for axis in ("x", "y"):
            sources[axis] += random.normal(0.0, 1.0, len(sources)) * error
            sources[f"{axis}_err"] = error
        sources["flux_err"] = 6.0
        sources["fwhm_pix"] = FWHM_PIX
        catalogs.append(images[-1].with_suffix(".cat"))
        write_ldac(catalogs[-1], wrong, sources)
    return images, catalogs, external.scamp(catalogs, reference, degree=2)


def test_scamp_solves_our_source_lists(require_program, request, frames, reference):
    require_program("scamp")
    images, catalogs, solutions = request.getfixturevalue("solved")
    for solution, truth, catalog in zip(solutions, frames[1], catalogs, strict=True):
        assert solution.head == catalog.with_suffix(".head")
        assert solution.head.exists()
        assert solution.trusted
        assert solution.n_matched > 50
        assert solution.header["CTYPE1"] == "RA---TPV"
        wcs = WCS(solution.header)
        ra, dec = wcs.all_pix2world(truth["x"], truth["y"], 0)
        i, apart_deg = nearest_on_sky(reference, ra, dec)
        # The truth has no error of its own, the reference none here; the source lists have at
        # most 0.06 pixels = 30 mas, so the fit to 100 or more is good to a few mas. 20" before.
        assert np.sqrt(np.mean((apart_deg * 3.6e6) ** 2)) < 20.0
    assert {path.suffix for path in images[0].parent.iterdir()} == {".fits", ".cat", ".head"}


def nearest_on_sky(reference, ra, dec):
    apart = np.array(
        [
            separation_deg(reference["ra_deg"], reference["dec_deg"], a, d)
            for a, d in zip(ra, dec, strict=True)
        ]
    )
    return apart.argmin(axis=1), apart.min(axis=1)


def test_scamp_does_not_trust_another_field(require_program, request, tmp_path):
    require_program("scamp")
    catalogs = request.getfixturevalue("solved")[1]
    copy = tmp_path / "other.cat"
    copy.write_bytes(catalogs[0].read_bytes())
    elsewhere = stars_around(CENTRE, 0.1, 600, seed=99)
    try:
        (solution,) = external.scamp([copy], elsewhere, degree=1)
    except ServiceError:
        return
    assert not solution.trusted


def test_swarp_stacks_with_our_head_files(require_program, frames, tmp_path):
    require_program("SWarp", "swarp")
    images = []
    for path in frames[0]:
        image, header = fits.getdata(path, header=True)
        images.append(tmp_path / path.name)
        fits.writeto(images[-1], image, perturbed(header))
        # The truth as a TPV solution, which must overrule the wrong header of the image.
        tpv = header.copy()
        tpv["CTYPE1"], tpv["CTYPE2"] = "RA---TPV", "DEC--TPV"
        tpv["PV1_1"], tpv["PV2_1"], tpv["FLXSCALE"] = 1.0, 1.0, 1.0
        write_head(images[-1].with_suffix(".head"), tpv)
    grid = external.tan_grid(CENTRE, (900, 950), SCALE_ARCSEC)
    out, weight = tmp_path / "coadd.fits", tmp_path / "weight.fits"
    options = {"COMBINE_TYPE": "AVERAGE", "SUBTRACT_BACK": "N"}
    external.swarp(images, out, weight, grid=grid, options=options)
    stack, header = fits.getdata(out, header=True)
    assert stack.shape == (900, 950)
    assert fits.getdata(weight).shape == (900, 950)
    assert header["OBJNAME"] == "field1111"
    np.testing.assert_allclose(
        WCS(header, fix=False).all_pix2world([0, 949], [0, 899], 0),
        WCS(grid).all_pix2world([0, 949], [0, 899], 0),
        atol=1e-9,
    )
    # A star of the truth must be where the grid says: the flux-weighted centre of 5 x 5 pixels.
    brightest = frames[1][0][np.argsort(-frames[1][0]["flux"])[:20]]
    first = WCS(fits.getheader(frames[0][0]))
    x, y = WCS(grid).all_world2pix(*first.all_pix2world(brightest["x"], brightest["y"], 0), 0)
    offsets = []
    for xi, yi in zip(x, y, strict=True):
        i, j = round(yi), round(xi)
        if not (10 < i < 890 and 10 < j < 940):
            continue
        box = stack[i - 3 : i + 4, j - 3 : j + 4]
        rows, cols = np.mgrid[i - 3 : i + 4, j - 3 : j + 4]
        total = box.sum()
        offsets.append(((box * cols).sum() / total - xi, (box * rows).sum() / total - yi))
    assert len(offsets) >= 10
    # S/N > 1000, so noise is 0.002 pixels; the cut at 7 pixels pulls by up to 0.05. Without the
    # .head the stars are 40 pixels off.
    assert np.abs(np.median(offsets, axis=0)).max() < 0.05


def test_swarp_reads_what_scamp_wrote(require_program, request, tmp_path, reference):
    require_program("scamp")
    require_program("SWarp", "swarp")
    images, _, solutions = request.getfixturevalue("solved")
    assert all(
        image.with_suffix(".head") == s.head for image, s in zip(images, solutions, strict=True)
    )
    out = tmp_path / "coadd.fits"
    external.swarp(images, out, tmp_path / "weight.fits", options={"COMBINE_TYPE": "CLIPPED"})
    stack, header = fits.getdata(out, header=True)
    bright = reference[np.argsort(reference["mag"])[:40]]
    x, y = WCS(header, fix=False).all_world2pix(bright["ra_deg"], bright["dec_deg"], 0)
    inside = (x > 20) & (x < stack.shape[1] - 20) & (y > 20) & (y < stack.shape[0] - 20)
    peaks = [
        stack[round(b) - 1 : round(b) + 2, round(a) - 1 : round(a) + 2].max()
        for a, b in zip(x[inside], y[inside], strict=True)
    ]
    # The 40 brightest have some 1e4 ADU in 8 pixels; noise is 1.5/sqrt(2).
    assert inside.sum() > 10
    assert np.median(peaks) > 100.0
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def chip_wcs(chip, centre):
    """The real WCS of a chip, with its distortion, centred somewhere on the sky."""
    row = CHIPS[chip]
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.crval, wcs.wcs.crpix = centre, [CHIP_CRPIX] * 2
    wcs.wcs.cd = row.cd
    header = wcs.to_header()
    header.update({f"CD{i + 1}_{j + 1}": row.cd[i][j] for i in (0, 1) for j in (0, 1)})
    for i in (1, 2):
        for key in (f"PC{i}_1", f"PC{i}_2", f"CDELT{i}"):
            header.remove(key, ignore_missing=True)
    header["A_ORDER"] = header["B_ORDER"] = 4
    for i in range(5):
        header[f"A_{i}_{4 - i}"], header[f"B_{i}_{4 - i}"] = row.sip_a[i], row.sip_b[i]
    return WCS(header)


@pytest.mark.parametrize("per_square_degree", [600, 20000], ids=["sparse", "dense"])
def test_solve_field_solves_a_whole_chip(require_program, tmp_path, per_square_degree):
    require_program("solve-field")
    require_program("build-astrometry-index")
    radius = 0.6
    n = round(np.pi * radius**2 * per_square_degree)
    reference = stars_around(CENTRE, radius, n, seed=5)
    random = np.random.RandomState(6)
    wcs = chip_wcs(3, (CENTRE[0] + 0.02, CENTRE[1] + 0.03))
    x, y = wcs.all_world2pix(reference["ra_deg"], reference["dec_deg"], 0)
    seen = (x > 0) & (x < 4088) & (y > 0) & (y < 4088) & (random.uniform(size=n) < 0.8)
    found = int(seen.sum())
    flux = 10 ** (0.4 * (25.0 - reference["mag"][seen] + random.normal(0, 0.1, found)))
    false = found // 5
    sources = Table(
        {
            "x": np.append(x[seen] + random.normal(0, 0.1, found), random.uniform(0, 4088, false)),
            "y": np.append(y[seen] + random.normal(0, 0.1, found), random.uniform(0, 4088, false)),
            "flux": np.append(flux, random.choice(flux, false)),
        }
    )
    folder = tmp_path / "an index"
    config = external.build_index(reference, folder)
    header = external.solve_field(
        sources, shape=(4088, 4088), config=config, near=(*CENTRE, 1.0), tweak_order=4
    )
    corners = np.array([[0, 0], [0, 4087], [4087, 0], [4087, 4087], [2044, 2044]], dtype=float)
    ra, dec = WCS(header).all_pix2world(corners, 0).T
    true_ra, true_dec = wcs.all_pix2world(corners, 0).T
    apart = [
        separation_deg(np.array(a), np.array(d), ta, td) * 3600
        for a, d, ta, td in zip(ra, dec, true_ra, true_dec, strict=True)
    ]
    # Index stars and sources agree to 0.1 pixel; a polynomial of degree 4 at its corners, with
    # only some hundred stars, is good to a few of these: 0.5". The distortion alone is 7".
    assert max(apart) < 0.5, apart


def test_solve_field_says_when_it_finds_nothing(require_program, tmp_path):
    require_program("solve-field")
    reference = stars_around(CENTRE, 0.5, 900, seed=7)
    config = external.build_index(reference, tmp_path / "index", presets=(4,))
    random = np.random.RandomState(8)
    noise = Table({name: random.uniform(0, 4088, 60) for name in ("x", "y", "flux")})
    with pytest.raises(ServiceError, match="solve-field: no solution within 5 s"):
        external.solve_field(
            noise, shape=(4088, 4088), config=config, near=(*CENTRE, 1.0), time_limit_s=5
        )
    with pytest.raises(UsageError, match="shape"):
        external.solve_field(noise, config=config)


def test_solve_field_solves_an_image(require_program, frames, tmp_path, reference):
    require_program("solve-field")
    # 8.5': quads of 2.8' to 4'.
    config = external.build_index(reference, tmp_path / "index", presets=(0, 1))
    stripped = tmp_path / "no wcs.fits"
    fits.writeto(stripped, fits.getdata(frames[0][0]))
    header = external.solve_field(stripped, config=config, near=(*CENTRE, 0.5))
    truth = WCS(fits.getheader(frames[0][0]))
    ra, dec = WCS(header).all_pix2world([100, 900], [100, 900], 0)
    true_ra, true_dec = truth.all_pix2world([100, 900], [100, 900], 0)
    # Bright centroids are good to 0.05 pixels; five of those.
    assert np.abs((ra - true_ra) * 3600).max() < 0.15
    assert np.abs((dec - true_dec) * 3600).max() < 0.15


def test_an_index_needs_stars(require_program, tmp_path):
    require_program("build-astrometry-index")
    with pytest.raises(ServiceError, match="no index from 2 reference stars"):
        external.build_index(stars_around(CENTRE, 0.5, 2, seed=1), tmp_path / "index")
