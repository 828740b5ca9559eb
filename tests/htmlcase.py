"""A folder as the pipeline and photometry leave it, with words in it that mean harm."""

import json

import numpy as np
from astropy.io import fits
from astropy.table import Table
from PIL import Image

from photometrus.io.fitsfile import write_compressed

HOSTILE = "<script>alert(1)</script>"
BREAKOUT = "</script><img src=x onerror=alert(2)>'\"&"
SIZE = (260, 300)
CENTRES = {1: (83.45, -32.55), 2: (83.75, -32.55), 3: (83.45, -32.85), 4: (83.75, -32.85)}
"""Where C1 is north-west of the axis, C2 north-east, C3 south-west, C4 south-east."""
N_FRAMES = 3
SCALE_DEG = 0.497 / 3600
TARGET = (83.452, -32.553)


def header(chip: int) -> fits.Header:
    ny, nx = SIZE
    ra, dec = CENTRES[chip]
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec}
    cards |= {"CRPIX1": nx / 2 + 0.5, "CRPIX2": ny / 2 + 0.5, "OBJNAME": HOSTILE, "BAND": "H"}
    cards |= {"CD1_1": -SCALE_DEG, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": SCALE_DEG}
    return fits.Header(list(cards.items()))


def frame(chip: int, k: int) -> dict:
    return {
        "frame": f"{1598997 + k:08d}C{chip}", "used": k != 1, "lost": False,
        "reason": "" if k != 1 else f"cloud {BREAKOUT}", "level": "full", "level_reason": BREAKOUT,
        "seeing_arcsec": (1.9, None, 10.2)[k], "ellipticity": 0.05, "sky_adu": 2000.0 + k,
        "noise_adu": 17.5, "transparency": 1.0, "n_matched": 40, "rms_arcsec": 0.1,
        "internal_rms_arcsec": 0.02,
    }  # fmt: skip


def make_tree(root):
    """A folder as the pipeline and photometry leave it: four chips, three frames each."""
    stack, random, chips = root / "stack", np.random.RandomState(3), {}
    stack.mkdir(parents=True)
    for chip in CENTRES:
        name = f"coadd.Open-H.01598997-01598999.C{chip}"
        data = random.normal(0, 1, SIZE).astype(np.float32)
        data[40, 70] = 500.0
        write_compressed(stack / f"{name}.fits.fz", data, header(chip), 16.0)
        page = stack / f"qa.Open-H.01598997-01598999.C{chip}.png"
        Image.new("RGB", (60, 90), "white").save(page)
        chips[f"C{chip}"] = {
            "coadd": f"stack/{name}.fits.fz", "page": f"stack/{page.name}", "error": "",
            "notes": [f"few stars {BREAKOUT}"],
            "numbers": {"exposure_s": 34.0, "seeing_arcsec": 1.9, "rms_arcsec": 0.1},
            "frames": [frame(chip, k) for k in range(N_FRAMES)],
        }  # fmt: skip
    record = {
        "photometrus": "0.1.0", "python": "3.11.7", "libraries": {"numpy": "2.4.6"},
        "command": f"photometrus pipeline -target {BREAKOUT}", "night": "2024-08-25", "band": "H",
        "started": "2024-08-26T08:00:00+00:00", "finished": "2024-08-26T08:01:00+00:00",
        "missing": [], "notes": [BREAKOUT], "chips": chips,
    }  # fmt: skip
    (root / "run.json").write_text(json.dumps(record))
    (root / "config.toml").write_text(f"# {BREAKOUT}\n")
    measure(stack)
    return root


def measure(stack) -> None:
    """What photometry leaves beside the stack of C1: a star of the catalogue, another, a target."""
    name, (ra, dec) = "coadd.Open-H.01598997-01598999.C1", CENTRES[1]
    columns = {
        "ALPHA_J2000": [ra, ra + 0.01], "DELTA_J2000": [dec, dec + 0.01],
        "HMAG_PSF": [14.0, 15.0], "HMAG_CAT": np.ma.MaskedArray([14.0, 0.0], [False, True]),
    }  # fmt: skip
    meta = {"band": "H", "survey": BREAKOUT, "zero_point": 25.3, "limit_5sigma": 19.1}
    Table(columns, meta=meta).write(stack / f"{name}.VHS.ecsv", format="ascii.ecsv")
    said = {
        "target": HOSTILE, "ra_deg": TARGET[0], "dec_deg": TARGET[1], "verdict": "new",
        "stack": name, "band": "H", "system": "AB", "mag": 18.34, "mag_err": 0.1,
        "mag_sys_err": 0.0, "limit_3sigma": 19.6,
    }  # fmt: skip
    (stack / "GRB_H_C1_Report_VHS_01598997.json").write_text(json.dumps(said))
    (stack / "GRB_H_C1_Report_VHS_01598997.txt").write_text(f"We detect {BREAKOUT}\n")
