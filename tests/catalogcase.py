"""Catalogues with the columns of surveys: stars on caps of the sphere, whatever their place."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack

SKY = {"plain": (201.2, -0.52), "wrapped": (0.02, 3.0), "pole": (45.0, -89.95)}
"""Where the services have stars."""


def on_cap(random, n, centre, radius_deg):
    """Positions spread evenly over a cap: the cosine of the distance is uniform."""
    apart = np.degrees(np.arccos(1 - random.uniform(size=n) * (1 - np.cos(np.radians(radius_deg)))))
    stars = SkyCoord(*centre, unit="deg").directional_offset_by(
        random.uniform(0, 360, n) * u.deg, apart * u.deg
    )
    return Table({"RAJ2000": stars.ra.deg, "DEJ2000": stars.dec.deg})


def two_mass(n, centre, radius_deg, seed):
    random = np.random.RandomState(seed)
    rows = on_cap(random, n, centre, radius_deg)
    for band in "JHK":
        rows[f"{band}mag"] = np.round(random.uniform(8, 16, n), 3)
        rows[f"e_{band}mag"] = np.round(random.uniform(0.02, 0.1, n), 3)
    rows["errMaj"] = np.round(random.uniform(0.06, 0.2, n), 2)
    rows["errMin"] = 0.06
    rows["Qflg"] = random.choice(["AAA", "ABA", "AUA", "DAA"], n, p=[0.7, 0.1, 0.1, 0.1])
    rows["Rflg"] = random.choice(["222", "123", "322"], n, p=[0.8, 0.1, 0.1])
    rows["Cflg"] = random.choice(["000", "c00", "0s0"], n, p=[0.8, 0.1, 0.1])
    rows["XflgGAL"] = (random.uniform(size=n) < 0.1).astype(np.int16)
    return rows


def vhs(n, centre, radius_deg, seed):
    random = np.random.RandomState(seed)
    rows = on_cap(random, n, centre, radius_deg)
    rows["Mclass"] = random.choice([-1, -2, 1, 0, -9, -3], n, p=[0.5, 0.1, 0.2, 0.1, 0.05, 0.05])
    rows["Mclass"] = rows["Mclass"].astype(np.int16)
    for band in ("Y", "J", "H", "Ks"):
        rows[f"{band}ap3"] = np.round(random.uniform(11, 20, n), 3)
        rows[f"e_{band}ap3"] = np.round(random.uniform(0.005, 0.1, n), 3)
        rows[f"{band}perrbits"] = random.choice([0, 16, 256], n, p=[0.7, 0.2, 0.1])
        rows[f"{band}perrbits"] = rows[f"{band}perrbits"].astype(np.int16)
    return rows


def everywhere(survey):
    """A survey with stars at all places of `SKY`."""
    return vstack([survey(800, centre, 1.6, seed) for seed, centre in enumerate(SKY.values())])


def within(rows, centre, radius_deg):
    """The rows in a cone, by astropy."""
    stars = SkyCoord(rows["RAJ2000"], rows["DEJ2000"], unit="deg")
    return rows[stars.separation(SkyCoord(*centre, unit="deg")).deg <= radius_deg]
