"""A chip's end of a reduction, made on the spot: frames, verdicts, residuals, a stack of noise."""

from dataclasses import replace

import numpy as np
from astropy.io.fits import Header
from astropy.table import Table

from photometrus.evidence import ChipEvidence, gather
from photometrus.frame import ArrayPixels, Bad, Coadd, Frame, FrameInfo
from photometrus.products import RampId
from photometrus.stages.background import Background
from photometrus.stages.coadd import common_grid
from photometrus.stages.masks import StarMask
from photometrus.track import Track, Verdict, flagged_shares
from photometrus.wcs import pointing_wcs

SHAPE = (256, 320)
WEIGHT = 0.25
MJD = 60467.79


def track(k: int, n_bad_rows: int = 0) -> Track:
    """The k-th frame; its sky grows by 2 % along x and falls by 1 % along y."""
    info = FrameInfo(
        RampId(1599131 + 7 * k, 1), "J", 201.3, -0.52, 48.0, 17.178, MJD + k / 2000,
        MJD + k / 2000 + 0.0002, 7, 60.0,
    )  # fmt: skip
    bad = np.zeros(SHAPE, np.uint8)
    bad[:n_bad_rows] = Bad.DEAD
    pixels = ArrayPixels(np.full(SHAPE, 500, np.float32), bad)
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, 4), np.linspace(-0.5, 0.5, 5), indexing="ij")
    mesh = (500 * (0.02 * x - 0.01 * y) + 3).astype(np.float32)
    frame = Frame(info, Header([("OBJNAME", "field1111")]), pixels,
                  pointing_wcs(1, (201.3, -0.52), 48.0))  # fmt: skip
    columns, rows = np.zeros(SHAPE[1], np.float32), np.zeros(SHAPE[0], np.float32)
    return Track(frame, Background(500.0, mesh, 64, columns, rows))


def verdict(name: str, reason: str = "", *, lost: bool = False) -> Verdict:
    """The verdict on a frame that has a reason not to be used, or none."""
    return Verdict(
        name, used=not reason, reason=reason, lost=lost, seeing_arcsec=1.5, ellipticity=0.05,
        sky_adu=500.0, noise_adu=5.0, transparency=1.0, rms_arcsec=0.11, internal_rms_arcsec=0.09,
    )  # fmt: skip


def residuals(n_tracks: int, n: int = 400) -> Table:
    """Stars of the catalogue in every frame, 0.1" of scatter about 30 mas east and 0 north."""
    random = np.random.RandomState(4)
    return Table(
        {
            "frame": np.repeat(np.arange(n_tracks), n),
            "x": random.uniform(0, SHAPE[1], n * n_tracks),
            "y": random.uniform(0, SHAPE[0], n * n_tracks),
            "d_east": random.normal(0.03, 0.1, n * n_tracks),
            "d_north": random.normal(0, 0.1, n * n_tracks),
        }
    )


def evidence(
    n_frames: int = 5,
    *,
    left_out: tuple[int, ...] = (2,),
    catalog: bool = True,
    notes: tuple[str, ...] = (),
) -> ChipEvidence:
    """What is known of the chip at the end."""
    tracks = [track(k, n_bad_rows=64) for k in range(n_frames)]
    reason = "cloud: transparency 0.25, at least 0.50; trailed: ellipticity 0.24, at most 0.23"
    verdicts = [verdict(one.name, reason if k in left_out else "") for k, one in enumerate(tracks)]
    verdicts.append(verdict("01599901C1", "truncated: 12 of 64 MB", lost=True))
    table = residuals(n_frames)
    numbers = {
        "n_given": n_frames + 1.0, "n_frames": float(n_frames - len(left_out)),
        "exposure_s": 85.9, "seeing_arcsec": 1.5, "ellipticity": 0.05, "sky_adu": 500.0,
        "noise_adu": 5.0, "n_matched": 400.0, "rms_arcsec": 0.11, "internal_rms_arcsec": 0.09,
        "masked_fraction": 0.2, "rejected_fraction": 0.0005,
    }  # fmt: skip
    numbers |= {f"flagged_{name}": share for name, share in flagged_shares(tracks).items()}
    return gather(
        stack(), tracks, verdicts, table if catalog else table[:0], star_mask(),
        numbers=numbers, notes=notes,
    )  # fmt: skip


def stack() -> Coadd:
    """Noise as the weight says, a bright star, and an edge that no frame saw."""
    wcs = pointing_wcs(1, (201.3, -0.52), 48.0)
    grid = common_grid([wcs], [SHAPE])
    random = np.random.RandomState(5)
    data = random.normal(0, WEIGHT**-0.5, grid.shape).astype(np.float32)
    data[100:110, 150:160] += 1000
    weight = np.full(grid.shape, WEIGHT, np.float32)
    data[:, :20] = weight[:, :20] = 0
    lost = np.zeros((-(-grid.shape[0] // 16), -(-grid.shape[1] // 16)), np.float32)
    lost[5, 5] = 0.02
    return Coadd(data, weight, grid.wcs, 4, 0.0005, rejected=lost, rejected_side=16)


def star_mask() -> StarMask:
    """Hides the bright star; on pixels of the stack's size."""
    grid = common_grid([pointing_wcs(1, (201.3, -0.52), 48.0)], [SHAPE])
    mask = np.zeros(grid.shape, np.uint8)
    mask[96:114, 146:164] = 1
    return StarMask(mask, grid, 0.0)


def without_rejected(given: ChipEvidence) -> ChipEvidence:
    """The same from an engine that does not count what it rejects."""
    return replace(given, rejected=None)
