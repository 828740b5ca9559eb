"""Photometry with a survey's service, over many epochs, and right after the pipeline."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

import dachs
import stackcase
from conftest import skip_unless_ci
from photometrus.cli import main
from photometrus.io.catalogs import services
from servers import web_server
from stackcase import EMPTY, TRANSIENT, write_stack

STEM = "coadd.Open-J.01599131-01599329.C3"
FAST = ("-no_plots", "-no_completeness")
NOWHERE = "http://127.0.0.1:9"
VEGA_TO_AB = 0.916  # J of VISTA, Gonzalez-Fernandez et al. 2018


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    return write_stack(tmp_path_factory.mktemp("sky"))


@pytest.fixture
def folder(sky, tmp_path) -> Path:
    return Path(shutil.copytree(sky.stack.parent, tmp_path / "stack"))


@pytest.fixture
def loopback_only(monkeypatch, tmp_path):
    """Nobody but this machine answers, and the cache is empty: its folder."""
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    monkeypatch.setenv("HTTPS_PROXY", NOWHERE)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PHOTOMETRUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(services, "PAUSE_S", 0.0)
    return tmp_path / "cache"


def vhs_of(sky) -> Table:
    """The stars with the columns of VHS."""
    stars = sky.stars[sky.stars["mag"] < stackcase.DEPTH]
    ra, dec = WCS(sky.header).all_pix2world(stars["x"], stars["y"], 0)
    table = Table({"RAJ2000": ra, "DEJ2000": dec})
    table["Mclass"] = np.full(len(stars), -1, np.int16)
    random = np.random.RandomState(5)
    for band, color in (("Y", 0.3), ("J", 0.0), ("H", -0.4), ("Ks", -0.5)):
        table[f"{band}ap3"] = stars["mag"] + color + random.normal(0, 0.02, len(stars))
        table[f"e_{band}ap3"] = np.full(len(stars), 0.02)
        table[f"{band}perrbits"] = np.zeros(len(stars), np.int16)
    return table


def two_mass_of(sky) -> Table:
    """The same stars with those of 2MASS."""
    table = vhs_of(sky)["RAJ2000", "DEJ2000", "Jap3", "e_Jap3", "Hap3", "e_Hap3"]
    table.rename_columns(["Jap3", "e_Jap3", "Hap3", "e_Hap3"], ["Jmag", "e_Jmag", "Hmag", "e_Hmag"])
    table["Kmag"], table["e_Kmag"] = table["Hmag"] - 0.1, table["e_Hmag"]
    table["errMaj"], table["errMin"] = 0.08, 0.06
    table["Qflg"], table["Rflg"], table["Cflg"] = "AAA", "222", "000"
    table["Xflg"] = np.zeros(len(table), np.int16)
    return table


@pytest.fixture(scope="module")
def vo(sky):
    if not dachs.installed():
        skip_unless_ci("GAVO DaCHS or PostgreSQL is not installed")
    with dachs.serve({"vhs": vhs_of(sky), "twomass": two_mass_of(sky)}) as running:
        yield running


def photometry(folder: Path, *words) -> int:
    given = ("photometry", "-filepath", folder / f"{STEM}.fits", *FAST, *words)
    return main([str(word) for word in given])


def assert_calibrated(folder: Path, survey: str, sky) -> None:
    table = Table.read(folder / f"{STEM}.{survey}.ecsv")
    to_ab = VEGA_TO_AB if survey == "VHS" else stackcase.J_TO_AB
    # 85 stars of 0.02 mag, and half a hundredth between two papers' offsets.
    assert abs(table.meta["zero_point"] - (23.88 + to_ab)) < 0.025
    assert table.meta["n_stars"] > 50


def test_a_survey_is_asked_once_and_then_no_more(
    vo, sky, folder, loopback_only, monkeypatch, capsys
):
    monkeypatch.setenv("PHOTOMETRUS_VO_VHS", vo.tap("vhs"))
    assert photometry(folder, "-survey", "VHS") == 0
    assert_calibrated(folder, "VHS", sky)
    first = Table.read(folder / f"{STEM}.VHS.ecsv")
    # The best survey of the field is VHS, too; nobody is there who could be asked.
    monkeypatch.delenv("PHOTOMETRUS_VO_VHS")
    (folder / f"{STEM}.VHS.ecsv").unlink()
    assert photometry(folder) == 0
    again = Table.read(folder / f"{STEM}.VHS.ecsv")
    np.testing.assert_array_equal(again["JMAG_PSF"], first["JMAG_PSF"])


def test_the_next_survey_steps_in(vo, sky, folder, loopback_only, monkeypatch, tmp_path, capsys):
    """VHS's service answers with what is no table."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "sync").write_text("<html>Bad gateway</html>")
    with web_server(tmp_path / "web") as garbage:
        monkeypatch.setenv("PHOTOMETRUS_VO_VHS", f"tap+{garbage.url}#vhs")
        monkeypatch.setenv("PHOTOMETRUS_VO_LAS", f"tap+{NOWHERE}/tap#las")
        monkeypatch.setenv("PHOTOMETRUS_VO_2MASS", vo.tap("twomass"))
        assert photometry(folder) == 0
    assert_calibrated(folder, "2MASS", sky)
    told = " ".join("".join(capsys.readouterr()).split())
    assert "2MASS was asked instead of VHS: VHS: no service answered" in told


@pytest.mark.parametrize("survey", [("-survey", "VHS"), ()])
def test_without_any_network_one_line_says_so_and_a_file_works(
    sky, folder, loopback_only, tmp_path, capsys, survey
):
    assert photometry(folder, *survey) == 3
    told = capsys.readouterr().err.splitlines()
    assert len([line for line in told if "not calibrated: " in line]) == 1
    assert not [line for line in told if "Traceback" in line or "Warning" in line]
    table = Table.read(folder / f"{STEM}.none.ecsv")
    assert np.isfinite(table["FLUX_PSF"]).sum() > 200
    assert photometry(folder, "-catalog", sky.catalog(tmp_path / "stars.fits")) == 0


# ---------------------------------------------------------------- many epochs


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two epochs in J, the second 1.5 mag fainter, one in H, one stack of nothing."""
    root = tmp_path_factory.mktemp("tree")
    first = write_stack(root / "a", mjd=60467.8, transient_mag=16.5)
    stars = first.stars
    write_stack(root / "b", mjd=60468.8, transient_mag=18.0, seed=2, stars=stars, chip=2)
    write_stack(root / "c", mjd=60469.8, transient_mag=16.0, seed=3, stars=stars, band="H")
    lost = write_stack(root / "d", mjd=60470.8, seed=4, stars=stars)
    fits.writeto(
        lost.stack, np.full((900, 900), 5.0, np.float32), fits.getheader(lost.stack), overwrite=True
    )
    return root, first


def test_a_light_curve_of_two_bands(tree, tmp_path, capsys):
    root, sky = tree
    stars = Table.read(sky.catalog(tmp_path / "stars.fits"))
    # Stars of no colour, so that one column does for both bands.
    stars["Hmag"], stars["e_Hmag"] = stars["Jmag"], stars["e_Jmag"]
    stars.write(tmp_path / "stars.fits", overwrite=True)
    ra, dec = sky.at(TRANSIENT)
    words = (
        *("-path", root, "-grb_ra", ra, "-grb_dec", dec, "-catalog", tmp_path / "stars.fits"),
        *("-magsys", "Vega", "-out", tmp_path / "out", "-t0", "2024-06-06T18:14:52.8"),
    )
    code = main(["lightcurve", *(str(word) for word in words)])
    told = capsys.readouterr()
    # Three are measured, and that one is not is told.
    assert code == 3
    assert "its noise is zero" in " ".join((told.out + told.err).split())
    table = Table.read(tmp_path / "out" / "lightcurve.target.ecsv")
    assert list(table["band"]) == ["J", "J", "H"]
    assert list(table["chip"]) == [3, 2, 3]
    assert (tmp_path / "out" / "lightcurve.target.png").stat().st_size > 10_000
    assert abs(table["since_t0"][0] - 1 / 24) < 1e-4
    truth = np.array([16.5, 18.0, 16.0])
    assert all(table["detection"])
    # Two errors in 95 of 100 cases; three here, and the catalogue's 0.02 over some 85 stars.
    assert all(np.abs(table["mag"] - truth) < 3 * np.hypot(table["mag_err"], 0.004))
    assert len(table.meta["lost"]) == 1
    assert "its noise is zero" in next(iter(table.meta["lost"].values()))


def test_a_light_curve_of_nothing_has_limits(tree, tmp_path, capsys):
    root, sky = tree
    ra, dec = sky.at(EMPTY)
    words = ("-path", root / "b", "-grb_ra", ra, "-grb_dec", dec, "-grb_name", "nothing",
             "-catalog", sky.catalog(tmp_path / "stars.fits"), "-band", "J")  # fmt: skip
    assert main(["lightcurve", *(str(word) for word in words)]) == 0
    row = Table.read(root / "b" / "lightcurve.nothing.ecsv")[0]
    assert not row["detection"]
    assert not np.isfinite(row["mag"])
    # As in test_photometry_cli: 5 sigma are 20.15 in AB.
    assert abs(row["limit_5sigma"] - 20.15) < 0.06
    assert abs(row["limit_3sigma"] - row["limit_5sigma"] - 2.5 * np.log10(5 / 3)) < 1e-6


def test_a_light_curve_of_what_cannot_be_measured_fails(tree, tmp_path, capsys):
    root, sky = tree
    ra, dec = sky.at(TRANSIENT)
    words = ("-path", root / "d", "-grb_ra", ra, "-grb_dec", dec,
             "-catalog", sky.catalog(tmp_path / "stars.fits"))  # fmt: skip
    assert main(["lightcurve", *(str(word) for word in words)]) == 1
    assert "none could be measured" in capsys.readouterr().err


# ---------------------------------------------------------------- after the pipeline


# Where and how bright the transient is: truth/meta.json.
RA, DEC, MAG = "83.475608", "-32.566903", 17.0


@pytest.fixture(scope="module")
def whole(shared_data, tmp_path_factory) -> tuple[Path, list[str]]:
    """A window of two chips, from the archive to the report: its folder, and the command."""
    data, folder = shared_data / "dev_small", tmp_path_factory.mktemp("whole")
    words = (
        *("-parent", folder / "p", "-target", "GRB240825A", "-date", "20240825", "-band", "H"),
        *("-chip", "1,2", "-archive", data, "-catalog", data / "refcat_2mass.fits"),
        *("-flat_dir", folder / "flats", "-keep", "final", "-no_plots"),
        *("-grb_ra", RA, "-grb_dec", DEC, "-grb_radius", "5arcsec", "-t0", "2024-08-25T15:52:59"),
    )
    command = ["full", *(str(word) for word in words)]
    assert main(command) in (0, 3)
    return folder / "p", command


def test_the_whole_way_from_the_archive_to_the_report(whole):
    parent, _ = whole
    stem = "GRB_H_C1_{}_local_01598997".format
    row = Table.read(parent / "stack" / f"{stem('Data')}.ecsv")[0]
    # AB; the zero point of a few dozen stars of 2MASS adds a hundredth.
    assert abs(row["HpsfMag"] - (MAG + 1.374)) < 2 * np.hypot(row["HpsfMag_Err"], 0.02)
    report = (parent / "stack" / f"{stem('Report')}.txt").read_text()
    assert re.search(r"T-T0 \(mid\)\s+17\.8 min", report)
    other = (parent / "stack" / f"{stem('Report').replace('C1', 'C2')}.txt").read_text()
    assert "not on this stack" in other
    for chip in (1, 2):
        (made,) = (parent / "stack").glob(f"coadd*.C{chip}.local.ecsv")
        assert Table.read(made).meta["n_stars"] >= 5


def test_what_full_has_measured_stands(whole, capsys):
    parent, command = whole

    def again(*more: str) -> tuple[str, str]:
        """What is shown, and what is told beside it."""
        assert main([*command, *more]) in (0, 3)
        told = capsys.readouterr()
        return told.out[told.out.index("magnitudes:") :], " ".join(told.err.split())

    def times() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in parent.glob("stack/*")}

    shown, told = again("-restart")
    assert "measured" not in told
    before = times()
    stands = "{}: measured before of the same; -restart measures it again".format
    names = [f"coadd.Open-H.01598997-01599013.C{chip}" for chip in (1, 2)]
    same, told = again()
    assert same == shown
    assert all(stands(name) in told for name in names)
    assert times() == before
    # Somebody has measured one of them in another way meanwhile.
    (catalog,) = parent.glob("stack/coadd*.C2.local.ecsv")
    catalog.write_text(catalog.read_text().replace("AB", "BA"))
    same, told = again()
    assert same == shown
    assert stands(names[0]) in told
    assert f"{names[1]} is measured again: stack/{catalog.name} changed" in told
    other, told = again("-magsys", "Vega")
    assert f"{names[0]} is measured again: photometry.magsys AB → Vega" in told
    assert other != shown
    (parent / "photometry.json").write_text("{")  # of an older version, or anybody's
    same, told = again()
    assert same == shown
    assert "measured" not in told
