"""The command `photometry` on stacks of known skies: what it writes, says, refuses, survives."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from matplotlib.figure import Figure
from matplotlib.image import imread as read_png
from matplotlib.text import Text

import stackcase
from photometrus.cli import main
from photometrus.products import JOURNAL
from photometrus.wcs import pointing_wcs, sky_to_pixel, tpv_cards
from stackcase import EMPTY, GHOST, J_TO_AB, SIDE, TRANSIENT, write_stack

STEM = "coadd.Open-J.01599131-01599329.C3"
FAST = ("-no_plots", "-no_completeness")
T0 = "2024-06-06T18:14:52.8"  # an hour before the middle of the exposures


def photometry(*words) -> int:
    return main(["photometry", *(str(word) for word in words)])


def aimed(sky, pixel=TRANSIENT) -> tuple[str, ...]:
    ra, dec = sky.at(pixel)
    return ("-grb_ra", f"{ra:.6f}", "-grb_dec", f"{dec:.6f}")


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A stack with its halves; nobody writes beside it."""
    return write_stack(tmp_path_factory.mktemp("sky"), halves=True)


@pytest.fixture(scope="module")
def stars(sky, tmp_path_factory) -> Path:
    return sky.catalog(tmp_path_factory.mktemp("catalog") / "stars.fits")


@pytest.fixture
def folder(sky, tmp_path) -> Path:
    """A copy of the stack's folder."""
    return Path(shutil.copytree(sky.stack.parent, tmp_path / "stack"))


@pytest.fixture(scope="module")
def done(sky, stars, tmp_path_factory):
    """Everything that can be made, with the position in hours and degrees."""
    folder = Path(shutil.copytree(sky.stack.parent, tmp_path_factory.mktemp("all") / "stack"))
    before = names(folder)
    ra, dec = (Angle(value, "deg") for value in sky.at(TRANSIENT))
    code = photometry(
        *("-filepath", folder / sky.stack.name, "-catalog", stars, "-t0", T0),
        *("-grb_ra", ra.to_string("hourangle", sep=":", precision=3)),
        *("-grb_dec", dec.to_string(sep=":", precision=2), "-grb_name", "GRB240606A"),
        *("-parquet", "-exp_query", "-keep"),
    )
    assert code == 0
    return folder, names(folder) - before


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def catalog(folder: Path, survey: str = "local", stem: str = STEM) -> Table:
    return Table.read(folder / f"{stem}.{survey}.ecsv")


# ---------------------------------------------------------------- what is made


def test_everything_is_written_under_its_name(done):
    _, made = done
    assert made == {
        f"{STEM}.local.ecsv", f"{STEM}.local.parquet", f"{STEM}.local.reg",
        f"{STEM}.local.calibration.png", f"{STEM}.local.depth.png",
        f"{STEM}.segments.fits", f"{STEM}.left.fits", f"{STEM}.psf.fits",
        "Resid_3-sig_Data_J_C3_local.ecsv", "local_C3_query_01599131.ecsv",
        "GRB240606A_J_C3_Data_local_01599131.ecsv", "GRB240606A_J_C3_Chart_local_01599131.png",
        "GRB240606A_J_C3_Report_local_01599131.txt", "GRB240606A_J_C3_Report_local_01599131.json",
    }  # fmt: skip


def test_magnitudes_are_those_that_were_put_in(done, sky):
    table = catalog(done[0])
    assert table.meta["system"] == "AB"
    x, y = np.asarray(table["X_IMAGE"]) - 1, np.asarray(table["Y_IMAGE"]) - 1  # FITS's pixels
    off = np.hypot(x[:, None] - sky.stars["x"], y[:, None] - sky.stars["y"])
    k, near = off.argmin(axis=0), off.min(axis=0) < 0.5
    apart = np.hypot(
        *(np.subtract.outer(sky.stars[axis], sky.stars[axis]) for axis in ("x", "y"))
    ) + np.diag(np.full(len(sky.stars), 1e3))  # fmt: skip
    good = near & (apart.min(axis=1) > 15) & (sky.stars["mag"] < 17)
    assert np.count_nonzero(good) > 50
    for kind in ("PSF", "APER"):
        difference = np.asarray(table[f"JMAG_{kind}"])[k[good]] - sky.stars["mag"][good]
        # The catalogue's scatter of 0.02 over some 85 stars, and faint stars' own.
        assert abs(np.median(difference) - J_TO_AB) < 0.012, kind
        error = np.asarray(table[f"e_JMAG_{kind}"])[k[good]]
        assert 0.7 < 1.4826 * np.median(np.abs(difference - np.median(difference)) / error) < 1.4


def test_both_systems_differ_by_the_offset_in_all_columns(done):
    table = catalog(done[0])
    for kind in ("PSF", "AUTO", "APER"):
        offset = table[f"JMAG_{kind}"] - table[f"JMAG_{kind}_Vega"]
        assert np.isfinite(offset).sum() > 250
        # Both are written to four digits.
        np.testing.assert_allclose(np.ma.filled(offset, J_TO_AB), J_TO_AB, atol=3e-4)


def test_parquet_holds_what_ecsv_holds(done):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    text = catalog(done[0])
    columns = pyarrow.parquet.read_table(done[0] / f"{STEM}.local.parquet")
    assert columns.column_names == text.colnames
    # ECSV is rounded to what is written of each magnitude.
    flux = np.asarray(columns["FLUX_PSF"])
    np.testing.assert_allclose(flux, np.asarray(text["FLUX_PSF"]), rtol=1e-4, atol=1e-2)


def test_the_transient_is_within_two_errors_and_the_report_tells_its_time(done, sky):
    folder, _ = done
    row = Table.read(folder / "GRB240606A_J_C3_Data_local_01599131.ecsv")[0]
    truth = sky.transient_mag + J_TO_AB
    assert abs(row["JpsfMag"] - truth) < 2 * row["JpsfMag_Err"]
    report = (folder / "GRB240606A_J_C3_Report_local_01599131.txt").read_text()
    assert "GRB240606A" in report
    assert re.search(r"T-T0 \(mid\)\s+60\.0 min|T-T0 \(mid\)\s+1\.0+ h", report)
    assert "not in" in report
    assert "Galactic extinction" in report


def test_the_image_without_stars_and_the_query_are_what_they_say(done, sky):
    folder, _ = done
    left = fits.getdata(folder / f"{STEM}.left.fits")
    x, y = (round(v) for v in TRANSIENT)
    box = np.s_[y - 3 : y + 4, x - 3 : x + 4]
    assert np.abs(left[box].sum()) < 0.2 * fits.getdata(sky.stack)[box].sum()
    query = Table.read(folder / "local_C3_query_01599131.ecsv")
    assert len(query) == np.count_nonzero(sky.stars["mag"] < stackcase.DEPTH)


@pytest.mark.parametrize("system", ["Vega", "native"])
def test_the_other_system_is_the_other_way_round(done, folder, stars, system):
    """2MASS is in Vega, so that its own is that."""
    assert photometry("-filepath", folder / f"{STEM}.fits", "-catalog", stars, *FAST,
                      "-magsys", system) == 0  # fmt: skip
    table, ab = catalog(folder), catalog(done[0])
    for kind in ("PSF", "AUTO", "APER"):
        np.testing.assert_array_equal(table[f"JMAG_{kind}"], ab[f"JMAG_{kind}_Vega"])
        np.testing.assert_array_equal(table[f"JMAG_{kind}_AB"], ab[f"JMAG_{kind}"])
    for name in ("zero_point", "limit_5sigma", "limit_3sigma"):
        assert abs(ab.meta[name] - table.meta[name] - J_TO_AB) < 3e-4


def test_nothing_there_is_a_limit(folder, sky, stars, capsys):
    code = photometry("-filepath", folder / f"{STEM}.fits", "-catalog", stars, *FAST,
                      *aimed(sky, EMPTY))  # fmt: skip
    assert code == 0
    told = capsys.readouterr().out
    found = re.search(r"No source within 4\": J > (\d\d\.\d\d) \(AB, 5 sigma\)", told)
    assert found
    # The PSF's squares sum up to 4 / (5 pi alpha**2), alpha = 3.73 pixels: 54.5 pixels count, each
    # with 2.7 / sqrt(2) ADU; the noise is told to 5 %.
    assert abs(float(found[1]) - (24.774 - 2.5 * np.log10(5 * 14.1))) < 0.05
    report = (folder / "GRB_J_C3_Report_local_01599131.txt").read_text()
    assert "no new source is detected" in report


def test_many_positions_have_a_number_each(folder, sky, stars, tmp_path, capsys):
    outside = sky.at((-300.0, 400.0))
    places = [sky.at(TRANSIENT), sky.at(EMPTY), outside]
    listed = tmp_path / "places.txt"
    rows = [f"{ra:.6f} {dec:.6f} {name}" for (ra, dec), name in zip(places, "abc", strict=True)]
    listed.write_text("\n".join(["# ra dec name", *rows]))
    code = photometry("-filepath", folder / f"{STEM}.fits", "-catalog", stars, *FAST,
                      "-grb_coordlist", listed)  # fmt: skip
    assert code == 0
    reports = [
        (folder / f"GRB_J_C3_Report_local_01599131_loc_{k}.txt").read_text() for k in (1, 2, 3)
    ]
    assert "we detect a source" in reports[0]
    assert "no new source is detected" in reports[1]
    assert "not on this stack" in reports[2]
    assert not (folder / "GRB_J_C3_Report_local_01599131.txt").exists()


def test_a_large_circle_is_searched_in_both_halves(folder, sky, stars, capsys):
    wide = ("-filepath", folder / f"{STEM}.fits", "-catalog", stars, *FAST, *aimed(sky),
            "-grb_radius", "4arcmin")  # fmt: skip
    new = folder / "New_Sources_J_C3_Data_local_01599131.ecsv"

    def near(pixel) -> Table:
        table = Table.read(new)
        x, y = sky_to_pixel(WCS(sky.header), table["ALPHA_J2000"], table["DELTA_J2000"])
        return table[np.hypot(x - pixel[0], y - pixel[1]) < 2]

    assert photometry(*wide) == 0
    assert "both halves" not in "".join(capsys.readouterr())
    assert near(TRANSIENT)["RANK"][0] == 1
    ghost = near(GHOST)
    assert ghost["RANK"][0] == 0
    assert ghost["REASON"][0] != ""
    for path in folder.glob("*alt*"):
        path.unlink()
    assert photometry(*wide) == 0
    assert "both halves" in "".join(capsys.readouterr())
    # One stack alone cannot tell; both are as bright as they are.
    assert min(near(GHOST)["RANK"][0], near(TRANSIENT)["RANK"][0]) > 0


def test_only_what_was_asked_for_is_written(folder, sky, stars):
    given = ("-filepath", folder / f"{STEM}.fits", "-catalog", stars)
    before = names(folder)
    assert photometry(*given, "-exp_query_only") == 0
    assert names(folder) - before == {"local_C3_query_01599131.ecsv"}
    before = names(folder)
    assert photometry(*given, *FAST, *aimed(sky), "-grb_only") == 0
    target = "GRB_J_C3_{}_local_01599131.{}".format
    assert names(folder) - before == {
        target("Data", "ecsv"), target("Report", "txt"), target("Report", "json")
    }  # fmt: skip
    tables = {path.name: path.read_bytes() for path in folder.glob("GRB_*")}
    before = names(folder)
    assert photometry(*given, *aimed(sky), "-plots_only", "-grb_only", "-magsys", "Vega") == 0
    assert names(folder) - before == {target("Chart", "png")}
    assert all((folder / name).read_bytes() == content for name, content in tables.items())


def test_the_stars_of_the_zero_point_are_those_that_are_wanted(folder, stars):
    code = photometry("-filepath", folder / f"{STEM}.fits", "-catalog", stars, *FAST, "-sigma", "2",
                      "-mag_low", "14", "-mag_high", "16.5", "-crop", "70")  # fmt: skip
    assert code == 0
    table = Table.read(folder / "Resid_2-sig_Data_J_C3_local.ecsv")
    used = table[table["used"]]
    assert len(used) >= 20
    # The limits hold for the mean of what catalogue and stack say: the catalogue's own 0.02 is off.
    assert used["mag"].min() > 14 - 0.06
    assert used["mag"].max() < 16.5 + 0.06
    for axis in "xy":
        assert 70 <= used[axis].min() < 110
        assert SIDE - 110 < used[axis].max() < SIDE - 70


def test_other_threads_give_the_same(folder, stars):
    """Bytes, but for the command that is on record."""
    seen = []
    for n in (1, 2):
        assert photometry("-filepath", folder / f"{STEM}.fits", "-catalog", stars, "-no_plots",
                          "-threads", n) == 0  # fmt: skip
        text = (folder / f"{STEM}.local.ecsv").read_text()
        assert f"-threads {n}" in text
        seen.append(text.replace(f"-threads {n}", ""))
    assert seen[0] == seen[1]


# ---------------------------------------------------------------- other stacks


def test_a_stack_without_weight_and_flags(folder, stars, capsys):
    for path in (*folder.glob("weight*"), *folder.glob("flags*")):
        path.unlink()
    assert photometry("-filepath", folder / f"{STEM}.fits", "-catalog", stars, *FAST) == 0
    # Equal weights are what the weight map has too: the same limit.
    assert abs(catalog(folder).meta["limit_5sigma"] - 20.15) < 0.03


def test_another_programs_header(sky, tmp_path, capsys):
    """As SWarp leaves it, and with the polynomial of SCAMP: magnitudes at the right places."""
    header = fits.Header({"OBJECT": "elsewhere", "EXPTIME": 160.0})
    wcs = pointing_wcs(1, sky.at((450.0, 450.0)), 48.0)
    wcs.wcs.crval = sky.at((450.0, 450.0))
    wcs.wcs.crpix = wcs.sip.crpix[:] = [450.0, 450.0]
    cards = tpv_cards(wcs)
    header.update(cards)
    image = tmp_path / "swarped.fits"
    fits.writeto(image, fits.getdata(sky.stack), header)
    weight = fits.getdata(sky.paths["weight"])
    fits.writeto(tmp_path / "swarped.weight.fits", weight, header)
    bright = sky.stars[sky.stars["mag"] < stackcase.DEPTH]
    ra, dec = WCS(header).all_pix2world(bright["x"], bright["y"], 0)
    errors = np.full(len(ra), 0.02)
    Table({"RAJ2000": ra, "DEJ2000": dec, "Jmag": bright["mag"], "e_Jmag": errors}).write(
        tmp_path / "stars.fits"
    )
    ra, dec = (float(v) for v in WCS(header).all_pix2world(*TRANSIENT, 0))
    code = photometry("-filepath", image, "-band", "J", "-catalog", tmp_path / "stars.fits", *FAST,
                      "-grb_ra", ra, "-grb_dec", f"{dec:.6f}")  # fmt: skip
    assert code == 0
    told = capsys.readouterr().out
    # A polynomial that is passed over puts it 3 pixels, 1.5", away.
    assert float(re.search(r"S/N [\d.]+, ([\d.]+)\" from the position", told)[1]) < 0.15
    assert (tmp_path / "swarped.local.ecsv").is_file()


def test_a_real_mosaic_in_galactic_coordinates(shared_data, tmp_path, capsys):
    """Spitzer's: its own table calibrates it, and sources are where the table has them, in ICRS."""
    from astropy.coordinates import SkyCoord

    data = shared_data / "real" / "spitzer_glimpse_I2"
    image = Path(shutil.copy(data / "spitzer_example_image.fits", tmp_path))
    table = Table.read(data / "spitzer_example_catalog.xml")
    places = SkyCoord(table["l"], table["b"], unit="deg", frame="galactic").icrs
    stars = Table(
        {"RAJ2000": places.ra.deg, "DEJ2000": places.dec.deg,
         "Jmag": table["mag4_5"].filled(np.nan),
         "e_Jmag": (1.0857 * table["df4_5"] / table["f4_5"]).filled(np.nan)}
    )  # fmt: skip
    stars.write(tmp_path / "glimpse.fits")
    code = photometry("-filepath", image, "-band", "J", "-catalog", tmp_path / "glimpse.fits",
                      "-mag_low", "5", "-magsys", "native", *FAST)  # fmt: skip
    assert code == 0
    found = catalog(tmp_path, stem="spitzer_example_image")
    assert found.meta["n_stars"] > 80
    sources = SkyCoord(found["ALPHA_J2000"], found["DELTA_J2000"], unit="deg")
    k, apart, _ = places.match_to_catalog_sky(sources)
    bright = (stars["Jmag"] < 11) & (apart.arcsec < 1.2)
    # GLIMPSE's positions are good to 0.3", and the pixels are 1.2".
    assert np.count_nonzero(bright) > 60
    assert np.median(apart.arcsec[bright]) < 0.4
    difference = np.asarray(found["JMAG_PSF"])[k[bright]] - stars["Jmag"][bright]
    # GLIMPSE quotes 0.05 to 0.2 mag.
    assert abs(np.median(difference)) < 0.05


def test_one_broken_stack_does_not_stop_the_others(folder, stars, capsys):
    (folder / STEM.replace("C3", "C1.fits")).write_bytes(b"SIMPLE  = broken")
    for path in folder.glob("*.C3.fits"):
        if ".alt" not in path.name:
            shutil.copy(path, folder / path.name.replace(".C3.", ".C2."))
    code = photometry("-stackpath", folder, "-catalog", stars, *FAST)
    assert code == 3
    told = "".join(capsys.readouterr())
    assert "C1.fits: " in told
    assert "not readable as FITS" in told
    for chip in (2, 3):
        assert len(catalog(folder, stem=STEM.replace("C3", f"C{chip}"))) > 200


# ---------------------------------------------------------------- refusals


def other_field(sky, path):
    sky.catalog(path, shift_deg=0.5)


def next_field(sky, path):
    sky.catalog(path, shift_deg=0.02)


def other_magnitudes(sky, path):
    table = Table.read(sky.catalog(path))
    table["Jmag"] = np.random.RandomState(3).permutation(table["Jmag"])
    table.write(path, overwrite=True)


def no_row(sky, path):
    Table.read(sky.catalog(path))[:0].write(path, overwrite=True)


def no_such_band(sky, path):
    table = Table.read(sky.catalog(path))
    table.rename_columns(["Jmag", "e_Jmag"], ["Kmag", "e_Kmag"])
    table.write(path, overwrite=True)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (other_field, "0 stars of local calibrate, at least 5 needed"),
        (next_field, "another field, or the astrometry is wrong"),
        (other_magnitudes, "another band or another field"),
        (no_row, "0 stars of local calibrate, at least 5 needed"),
        (no_such_band, "no J magnitudes"),
    ],
)
def test_what_cannot_be_trusted_is_refused_with_a_reason(
    sky, folder, tmp_path, capsys, make, reason
):
    make(sky, tmp_path / "stars.fits")
    code = photometry("-filepath", folder / f"{STEM}.fits", "-catalog", tmp_path / "stars.fits",
                      *FAST, *aimed(sky))  # fmt: skip
    assert code == 3
    told = "".join(capsys.readouterr())
    assert "not calibrated: " in told
    assert reason in " ".join(told.split())
    (written,) = folder.glob(f"{STEM}.*.ecsv")
    table = Table.read(written)
    assert np.isfinite(table["FLUX_PSF"]).sum() > 200
    for name in table.colnames:
        if "MAG_" in name and not name.endswith("_CAT"):
            assert not np.isfinite(np.ma.filled(table[name].astype(float), np.nan)).any(), name
    assert not list(folder.glob("GRB_*"))


@pytest.mark.parametrize(
    ("make", "reason", "shown"),
    [
        (other_field, "0 stars of local calibrate, at least 5 needed", "no zero point"),
        (other_magnitudes, "another band or another field", "REFUSED: see the notes"),
    ],
)
def test_without_calibrators_the_pages_are_made_and_say_why(
    sky, folder, tmp_path, capsys, monkeypatch, make, reason, shown
):
    """No star for a zero point, or one that is refused: both pages are there."""
    texts: list[str] = []
    save = Figure.savefig

    def reading(figure, *where, **how):
        texts.extend(text.get_text() for text in figure.findobj(Text))
        return save(figure, *where, **how)

    monkeypatch.setattr(Figure, "savefig", reading)
    make(sky, tmp_path / "stars.fits")
    words = ("-catalog", tmp_path / "stars.fits", "-no_completeness", *aimed(sky))
    assert photometry("-filepath", folder / f"{STEM}.fits", *words) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert f"{STEM}: not calibrated: " in told
    assert reason in told
    assert "no target is judged without a zero point" in told
    pages = list(folder.glob(f"{STEM}.*.png"))
    assert len(pages) == 2
    assert all(read_png(page).std() > 0.05 for page in pages)  # something is drawn
    assert shown in texts
    assert any(reason in " ".join(text.split()) for text in texts)


@pytest.mark.parametrize(
    ("header", "image", "words", "reason"),
    [
        ({"BAND": "J"}, None, (), "no celestial WCS in its header; solve it"),
        (None, np.nan, (), "no pixel has a weight"),
        (None, 7.0, (), "its noise is zero"),
        ({"BAND": ""}, None, (), "WCS"),
        (None, None, ("-survey", "VHX"), "did you mean"),
        (None, None, ("-plots_only",), "-no_plots does not"),
        (None, None, ("-grb_only",), "-grb_only needs a target"),
        (None, None, ("-grb_ra", "10"), "both -grb_ra and -grb_dec"),
    ],
)
def test_what_is_impossible_is_said_in_one_line(
    sky, stars, tmp_path, capsys, header, image, words, reason
):
    data = fits.getdata(sky.stack) if image is None else np.full((SIDE, SIDE), image, np.float32)
    head = fits.getheader(sky.stack) if header is None else fits.Header(header)
    fits.writeto(tmp_path / "any.fits", data, head)
    stars = () if "-survey" in words else ("-catalog", stars)
    assert photometry("-filepath", tmp_path / "any.fits", *stars, *FAST, *words) == 2
    told = capsys.readouterr().err
    assert reason in told
    assert len([line for line in told.splitlines() if reason in line]) == 1
    assert "Traceback" not in told
    assert names(tmp_path) - {JOURNAL} == {"any.fits"}


def test_a_stack_of_unknown_band_is_refused_before_it_is_measured(sky, stars, tmp_path, capsys):
    header = fits.getheader(sky.stack)
    del header["BAND"]
    fits.writeto(tmp_path / "any.fits", fits.getdata(sky.stack), header)
    assert photometry("-filepath", tmp_path / "any.fits", "-catalog", stars, *FAST) == 2
    told = capsys.readouterr().err
    assert "give -band" in told
    assert "fluxes" not in told


def test_one_star_is_measured_and_not_calibrated(sky, stars, folder, capsys):
    data = fits.getdata(sky.stack)
    x, y = (round(v) for v in TRANSIENT)
    box = np.s_[y - 15 : y + 16, x - 15 : x + 16]
    lonely = np.random.RandomState(1).normal(0, 1.9, data.shape).astype(np.float32)
    lonely[box] = data[box]
    path = folder / f"{STEM}.fits"
    fits.writeto(path, lonely, fits.getheader(path), overwrite=True)
    assert photometry("-filepath", path, "-catalog", stars, *FAST) == 3
    table = catalog(folder)
    assert table["SNR_WIN"].max() > 30
    assert np.sum(table["SNR_WIN"] > 8) == 1


def test_a_hole_at_the_target_is_not_a_limit(sky, stars, folder, capsys):
    path = folder / f"{STEM}.fits"
    data = fits.getdata(path)
    data[400:500, 400:500] = np.nan
    fits.writeto(path, data, fits.getheader(path), overwrite=True)
    assert photometry("-filepath", path, "-catalog", stars, *FAST, *aimed(sky)) == 0
    assert "not on the stack, or all its pixels there are bad" in capsys.readouterr().out
    report = (folder / "GRB_J_C3_Report_local_01599131.txt").read_text()
    assert "not on this stack" in report
    assert ">" not in report


def test_passwords_stay_with_whoever_typed_them(sky, folder, capsys, monkeypatch):
    url = "postgresql://me:s3cret@127.0.0.1:1/prime"
    words = ("-filepath", folder / f"{STEM}.fits", "-catalog")
    assert photometry(*words, url, *FAST) == 2
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    assert photometry(*words, url.replace(":s3cret", ""), *FAST) == 3
    told = "".join(capsys.readouterr())
    assert "a password in an address" in told
    assert "not calibrated" in told
    assert "s3cret" not in told
    assert not [path for path in folder.iterdir() if b"s3cret" in path.read_bytes()]


# ---------------------------------------------------------------- names are only text

EVIL = r"$\frac{$<script>[red]} # \x1b[31m ../../x"


def test_names_of_targets_are_only_text(sky, stars, folder, tmp_path, capsys):
    """A name that steers a terminal, a path, a figure or a page ends as a name."""
    ra, dec = sky.at(TRANSIENT)
    name = EVIL.replace(r"\x1b", "\x1b")
    words = ("-filepath", folder / f"{STEM}.fits", "-catalog", stars, "-no_completeness")
    assert photometry(*words, *aimed(sky), "-grb_name", name) == 2
    listed = tmp_path / "positions.ecsv"
    Table({"ra": [ra], "dec": [dec], "name": [name]}).write(listed)
    before = {*tmp_path.rglob("*"), *tmp_path.parent.glob("*")}
    assert photometry(*words, "-grb_coordlist", listed) == 0
    assert "\x1b" not in "".join(capsys.readouterr())
    made = {*tmp_path.rglob("*"), *tmp_path.parent.glob("*")} - before
    assert {path.parent for path in made} <= {folder, folder.parent}
    assert [path.name for path in made if path.parent == folder.parent] in ([], [JOURNAL])
    assert [path for path in made if "Chart" in path.name]
    assert not [path for path in made if b"\x1b" in path.read_bytes() and path.suffix != ".png"]
