"""The stack: fluxes, places, weights, and what must not get into it."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from astropy.wcs import WCS

from photometrus.errors import TooFewFrames
from photometrus.frame import Bad
from photometrus.stages.coadd import CoaddConfig, Grid, Layer, coadd, common_grid, pixel_maps
from photometrus.wcs import (
    from_plane,
    offset_position,
    pixel_to_sky,
    pointing_wcs,
    shifted,
    sky_to_pixel,
    to_plane,
)
from photometrus.workers import threads
from synth import AXIS, add_star, noisy, star_image

SHAPE = (260, 280)
SCALE = 0.497
CENTRE = (150.0, -20.0)
CONFIG = CoaddConfig()


def tan(east=0.0, north=0.0, turn_deg=0.0, flip=False, scale=SCALE, centre=CENTRE, shape=SHAPE):
    """A plain TAN of a frame whose middle is at an offset (arcsec) from the field's centre."""
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    mirror = np.diag([1.0 if flip else -1.0, 1.0])
    out = WCS(naxis=2)
    out.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    ra, dec = from_plane(np.float64(east), np.float64(north), centre)
    out.wcs.crval = (float(ra), float(dec))
    out.wcs.crpix = ((shape[1] + 1) / 2, (shape[0] + 1) / 2)
    out.wcs.cd = np.array([[c, s], [-s, c]]) @ mirror * scale / 3600
    out.wcs.set()
    return out


def layer(image, wcs, noise=1.0, bad=None, factor=1.0):
    image = np.asarray(image, np.float32)
    bad = np.zeros(image.shape, np.uint8) if bad is None else bad
    inverse = np.broadcast_to(np.float32(1 / noise**2), image.shape)

    def rows(y0, y1):
        return image[y0:y1].copy(), bad[y0:y1].copy(), np.ascontiguousarray(inverse[y0:y1])

    return Layer(rows, image.shape, wcs, factor)


def stack(layers, config=CONFIG, each=map):
    grid = common_grid([y.wcs for y in layers], [y.shape for y in layers], config)
    return coadd(layers, grid, config, each=each)


PLACES = [(0.0, 0.0), (31.3, -22.7), (-35.1, 18.2), (-20.4, -33.8), (12.9, 37.7)]


def sky_of(places=PLACES):
    xi, eta = np.array(places).T
    return from_plane(xi, eta, CENTRE)


def stars_seen(wcs, flux=10000.0, fwhm=3.0, shape=SHAPE):
    """A frame's image of the field's stars."""
    x, y = sky_to_pixel(wcs, *sky_of())
    return star_image(shape, x, y, flux, fwhm)


def measured(result, radius=12):
    """Flux and centroid error (pixels) of each of the field's stars on the stack."""
    x, y = sky_to_pixel(result.wcs, *sky_of())
    yy, xx = np.mgrid[: result.data.shape[0], : result.data.shape[1]]
    out = []
    for px, py in zip(x, y, strict=True):
        near = (xx - px) ** 2 + (yy - py) ** 2 < radius**2
        value = result.data[near].astype(float)
        total = value.sum()
        # A windowed centroid, to be insensitive to the far wings' ripples.
        w = np.exp(-((xx[near] - px) ** 2 + (yy[near] - py) ** 2) / 8) * value
        out.append((total, 2 * (w * (xx[near] - px)).sum() / w.sum(),
                    2 * (w * (yy[near] - py)).sum() / w.sum()))  # fmt: skip
    return np.array(out).T


VIEWS = {
    "shift": [{"east": 3.37, "north": -2.11}],
    "turn": [{"east": 1.9, "north": 4.3, "turn_deg": 0.7}],
    "flip": [{"east": -2.2, "north": 0.8, "turn_deg": -0.7, "flip": True}],
    "all": [
        {},
        {"east": 3.37, "north": -2.11, "turn_deg": 0.7},
        {"east": -4.1, "north": 3.3, "turn_deg": 48, "flip": True},
        {"east": 2.7, "north": 5.9, "turn_deg": 180},
        {"east": -1.3, "north": -6.6, "turn_deg": -90, "flip": True},
    ],
}


def lanczos(t):
    """Weights of six taps at positions t right of the third, summing to 1, float64."""
    d = t - np.arange(-2, 4)
    w = np.where(np.abs(d) < 3, np.sinc(d) * np.sinc(d / 3), 0)
    return w / w.sum(axis=1, keepdims=True)


def worst_displacement(t):
    """How far off a plane's value is at worst, in pixels of its slope."""
    return np.abs(lanczos(t) @ np.arange(-2, 4) - t[:, 0]).max()


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("fwhm", [2.5, 3.5])
def test_fluxes_and_places_survive(name, fwhm):
    views = [tan(**view) for view in VIEWS[name]]
    result = stack([layer(stars_seen(view, fwhm=fwhm), view) for view in views])
    flux, dx, dy = measured(result)
    # The weights sum to 1: what is lost or won of a star's light averages out over its pixels.
    np.testing.assert_allclose(flux, 10000, rtol=1e-3)
    # A smooth thing is displaced by what Lanczos makes of a slope: 0.02 pixels (10 mas) at worst.
    t = np.linspace(0, 1, 501)[:, None]
    assert worst_displacement(t) < 0.021
    assert max(np.abs(dx).max(), np.abs(dy).max()) < worst_displacement(t)
    assert result.n_frames == len(views)
    # Frames differ in the ripples around a star that is undersampled.
    assert result.rejected_fraction < 3e-4


@pytest.mark.parametrize("area", ["flat", "jacobian"])
def test_the_distorted_chip_keeps_surface_brightness_or_flux(area):
    # The chip's outer corner: pixels of 0.490" there, 2.5 % less in area than the grid's.
    base = pointing_wcs(1, AXIS, 48.0)
    corner = (3700.0, 300.0)
    window = replace_crpix(base, 3560, 170)
    ra, dec = pixel_to_sky(window, 140.0, 130.0)
    np.testing.assert_allclose((ra, dec), pixel_to_sky(base, *corner), atol=1e-12)
    image = star_image(SHAPE, [140.0], [130.0], 10000, 3.0)
    config = CoaddConfig(pixel_area=area)
    result = stack([layer(image, window)], config)
    level = stack([layer(np.full(SHAPE, 7.0), window)], config)
    x, y = sky_to_pixel(result.wcs, ra, dec)
    xi, eta = to_plane(
        *pixel_to_sky(
            window, np.array([139.5, 140.5, 140, 140]), np.array([130, 130, 129.5, 130.5])
        ),
        (float(ra), float(dec)),
    )
    pixel = abs((xi[1] - xi[0]) * (eta[3] - eta[2]) - (xi[3] - xi[2]) * (eta[1] - eta[0]))
    ratio = pixel / SCALE**2
    assert abs(ratio - 1) > 0.005
    yy, xx = np.mgrid[: result.data.shape[0], : result.data.shape[1]]
    flux = result.data[(xx - x) ** 2 + (yy - y) ** 2 < 144].sum()
    middle = level.data[int(y), int(x)]
    if area == "flat":  # the sky stays at its level; a star's pixels are fewer or more
        assert middle == pytest.approx(7, rel=1e-5)
        assert flux == pytest.approx(10000 * ratio, rel=1e-3)
    else:  # a star keeps its flux, and the level of the sky changes
        # The area is one for 16 x 16 pixels; it changes by 3 % over 2000.
        assert middle == pytest.approx(7 / ratio, rel=16 * 0.03 / 2000)
        assert flux == pytest.approx(10000, rel=1e-3)


def replace_crpix(wcs, x0, y0):
    """The WCS of the window of an image that begins at pixel (x0, y0)."""
    out = wcs.deepcopy()
    crpix = np.array(wcs.wcs.crpix) - [x0, y0]
    out.wcs.crpix = crpix
    out.sip = type(wcs.sip)(wcs.sip.a, wcs.sip.b, wcs.sip.ap, wcs.sip.bp, crpix)
    out.wcs.set()
    return out


def kept_variance():
    """What Lanczos-3 leaves of a white pixel's variance, mean over all phases, per axis."""
    return (lanczos(np.linspace(0, 1, 1001)[:, None]) ** 2).sum(axis=1).mean()


@pytest.mark.parametrize("combine", ["clipped", "median"])
def test_weights_are_the_inverse_variance(combine):
    rs = np.random.RandomState(0)
    noises = [2.0, 3.0, 2.0, 5.0, 2.5] if combine == "clipped" else [2.0] * 5
    layers = [
        layer(noisy(np.zeros(SHAPE), s, rs), tan(*rs.uniform(-3, 3, 2), 0.7 * k), s)
        for k, s in enumerate(noises, start=1)
    ]
    result = stack(layers, replace(CONFIG, combine=combine))
    inner = result.weight > 0.999 * result.weight.max()
    assert inner.sum() > 30000
    n = len(noises)
    want = sum(1 / s**2 for s in noises)
    if combine == "median":
        want *= 2 / np.pi
    assert result.weight.max() == pytest.approx(want, rel=1e-5)
    pull = (result.data * np.sqrt(result.weight))[inner]
    # Interpolation correlates neighbours: a pixel's own scatter is smaller than its weight says,
    # by a factor that is Lanczos' alone. 30000 pixels, four of which are like one: 0.8 %. The
    # median of five: 1.434 instead of pi/2 times the variance of a mean.
    factor = kept_variance() ** 2 * (1.434 / (np.pi / 2) if combine == "median" else 1)
    assert pull.var() == pytest.approx(factor, rel=5 * 0.012 + 0.01)
    # Sums over 10 x 10 pixels do not know of the interpolation but at their edges: 4 * 10 of 100
    # pixels share half of their noise with the neighbours, a few percent.
    ny, nx = (k // 10 * 10 for k in result.data.shape)
    blocks = (result.data * np.sqrt(result.weight))[:ny, :nx].reshape(ny // 10, 10, nx // 10, 10)
    whole = inner[:ny, :nx].reshape(ny // 10, 10, nx // 10, 10).all(axis=(1, 3))
    sums = blocks.sum(axis=(1, 3))[whole] / 10
    large = 1.434 / (np.pi / 2) if combine == "median" else 1.0
    # From 300 blocks: 8 %.
    assert sums.var() == pytest.approx(large, abs=4 * 0.082 + 0.05)
    assert n == 5


def test_brighter_weights_count_for_more():
    views = [tan(), tan(), tan()]
    layers = [
        layer(np.full(SHAPE, v), w, s)
        for v, w, s in zip((1, 1.5, 2), views, (1, 2, 4), strict=True)
    ]
    result = stack(layers, replace(CONFIG, clip_sigma=100))
    want = (1 + 1.5 / 4 + 2 / 16) / (1 + 1 / 4 + 1 / 16)
    inner = result.weight > 0
    np.testing.assert_allclose(result.data[inner], want, rtol=1e-5)


def test_flux_factors_bring_frames_to_one_scale():
    rs = np.random.RandomState(1)
    views = [tan(*rs.uniform(-3, 3, 2)) for _ in range(3)]
    transparency = [1.0, 0.5, 0.8]
    layers = [
        layer(t * stars_seen(v), v, noise=2.0, factor=1 / t)
        for t, v in zip(transparency, views, strict=True)
    ]
    result = stack(layers)
    np.testing.assert_allclose(measured(result)[0], 10000, rtol=1e-3)
    assert result.weight.max() == pytest.approx(sum(t**2 for t in transparency) / 4, rel=1e-5)


def test_cosmic_rays_and_a_trail_are_rejected_and_counted():
    rs = np.random.RandomState(2)
    views = [tan(*rs.uniform(-3, 3, 2), turn_deg=0.3 * k) for k in range(5)]
    images = [noisy(stars_seen(v), 1.0, rs) for v in views]
    clean = stack([layer(i, v) for i, v in zip(images, views, strict=True)])
    dirty = [image.copy() for image in images]
    hits = rs.uniform(20, 240, (40, 2)).astype(int)
    for k, (y, x) in enumerate(hits):
        dirty[k % 5][y, x] += rs.uniform(200, 5000)
    for x in range(20, 260):
        add_star(dirty[2], x, 40 + 0.7 * x, 400, 2.5)
    result = stack([layer(i, v) for i, v in zip(dirty, views, strict=True)])
    # Where all five frames are (two could not judge), outside of stars (see the seeing below).
    sky = (clean.weight > 4.9) & (clean.data < 2)
    off = np.where(sky, result.data - clean.data, 0)
    # A hit of 5000 has ripples down to the rejection limit of 4 sigma, a fifth of which (the
    # frame's share) stays: 0.8 sigma of a frame, added to noise that was 0.45.
    assert np.abs(off).max() < 2.0
    assert np.abs(off).mean() < 0.05
    assert 0.005 < result.rejected_fraction < 0.05
    assert clean.rejected_fraction < 5e-4
    # An unclipped mean would show them all.
    bare = stack(
        [layer(i, v) for i, v in zip(dirty, views, strict=True)], replace(CONFIG, clip_sigma=1e9)
    )
    assert np.abs(bare.data - clean.data)[sky].max() > 20


def test_varying_seeing_does_not_eat_the_cores_of_stars():
    rs = np.random.RandomState(3)
    views = [tan(*rs.uniform(-3, 3, 2), turn_deg=0.2 * k) for k in range(6)]
    fwhm = [2.8, 3.0, 3.1, 3.3, 3.4, 3.6]
    layers = [
        layer(noisy(stars_seen(v, flux=1e6, fwhm=f), 1.0, rs), v)
        for v, f in zip(views, fwhm, strict=True)
    ]
    result = stack(layers)
    # Noise: 21 pixels of 1 / sqrt(6) are 9 of a million. Stars of 1e6 are 1e5 sigma in each
    # pixel: what tolerance does not cover would be cut. In the wings, where seeing makes factors
    # of 2, a share of the light below 1 % may be.
    np.testing.assert_allclose(measured(result, radius=12)[0], 1e6, rtol=0.012)
    greedy = stack(layers, replace(CONFIG, clip_tolerance=0.0))
    assert np.abs(measured(greedy, radius=12)[0] / 1e6 - 1).max() > 0.02


def scene(n, rs, size=SHAPE):
    layers = []
    for k in range(n):
        view = tan(*rs.uniform(-8, 8, 2), turn_deg=0.5 * k, flip=bool(k % 2), shape=size)
        image = noisy(stars_seen(view, shape=size), 3.0, rs)
        bad = (rs.uniform(size=size) < 0.01).astype(np.uint8)
        bad[100:106, 90:97] = 4
        image[bad > 0] = 1e5
        layers.append(layer(image, view, 3.0, bad))
    return layers


def test_blocks_and_threads_do_not_change_a_bit():
    layers = scene(4, np.random.RandomState(4))
    whole = stack(layers, replace(CONFIG, block_mb=1000))
    small = replace(CONFIG, block_mb=0.01)
    with threads(3) as each:
        for config, run in ((small, map), (small, each), (CONFIG, each)):
            again = stack(layers, config, run)
            np.testing.assert_array_equal(again.data, whole.data)
            np.testing.assert_array_equal(again.weight, whole.weight)
            assert again.rejected_fraction == whole.rejected_fraction


def test_bad_pixels_do_not_get_into_the_stack():
    rs = np.random.RandomState(5)
    view = tan(1.1, 0.7, turn_deg=0.7)  # every phase of the kernel
    image = noisy(np.full(SHAPE, 10.0), 0.5, rs)
    bad = np.zeros(SHAPE, np.uint8)
    bad[60, 70] = 1  # alone
    bad[100:112, 120:140] = 4  # a hole
    image[bad > 0] = 65535
    result = stack([layer(image, view, 0.5, bad)])
    inner = result.weight > 0
    # Nothing of the 65535: what is left is noise about 10 and a filled pixel's neighbourhood.
    assert np.abs(result.data[inner] - 10).max() < 6 * 0.5
    assert (result.data[~inner] == 0).all()
    x, y = sky_to_pixel(
        result.wcs, *pixel_to_sky(view, np.array([70.0, 130.0]), np.array([60.0, 106.0]))
    )
    for px, py in zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
        assert result.weight[py, px] == 0
    # The hole is no larger than itself and the reach of the kernel's main lobe.
    lost = (~inner)[20:-20, 20:-20].sum()
    assert 12 * 20 <= lost <= 16 * 24 + 9
    second = stack([layer(image, view, 0.5, bad), layer(np.full(SHAPE, 10.0), tan(5.1, 4.3), 0.5)])
    assert (second.weight[30:-30, 30:-30] > 0).all()


def test_the_median_is_the_median():
    views = [tan(), tan(), tan(), tan()]
    layers = [layer(np.full(SHAPE, v), w) for v, w in zip((1, 2, 4, 500), views, strict=True)]
    result = stack(layers, replace(CONFIG, combine="median"))
    inner = result.weight > 0
    assert (result.data[inner] == 3).all()
    np.testing.assert_allclose(result.weight[inner], 4 * 2 / np.pi, rtol=1e-6)


def test_no_layer_and_a_layer_elsewhere():
    with pytest.raises(TooFewFrames):
        coadd([], Grid(tan(), (10, 10)))
    views = [tan(), tan(east=7200)]
    grid = common_grid(views[:1], [SHAPE])
    here = coadd([layer(np.ones(SHAPE), views[0])], grid)
    both = coadd([layer(np.ones(SHAPE), v) for v in views], grid)
    np.testing.assert_array_equal(both.data, here.data)
    np.testing.assert_array_equal(both.weight, here.weight)


# ------------------------------------------------------------ grid and map


@pytest.mark.parametrize("axis", [(150.0, -20.0), (0.01, 0.1), (77.0, 89.3), (12.0, -89.5)])
def test_the_grid_holds_all_frames_and_hardly_more(axis):
    rs = np.random.RandomState(6)
    base = pointing_wcs(2, axis, 48.0)
    views = [shifted(base, *rs.uniform(-60, 60, 2)) for _ in range(4)]
    grid = common_grid(views, [(4088, 4088)] * 4)
    ny, nx = grid.shape
    t = np.linspace(0, 4087, 30)
    zero = 0 * t
    x, y = np.concatenate([[t, zero], [t, zero + 4087], [zero, t], [zero + 4087, t]], axis=1)
    gx, gy = np.concatenate(
        [np.stack(sky_to_pixel(grid.wcs, *pixel_to_sky(v, x, y))) for v in views], axis=1
    )
    assert gx.min() > 0.5
    assert gy.min() > 0.5
    assert gx.max() < nx - 1.5
    assert gy.max() < ny - 1.5
    # Within the two pixels of margin and one of rounding on every side.
    assert max(gx.min(), gy.min(), nx - 1 - gx.max(), ny - 1 - gy.max()) < 5
    cd = grid.wcs.pixel_scale_matrix * 3600
    np.testing.assert_allclose(cd, [[-SCALE, 0], [0, SCALE]], atol=1e-12)
    centre = pixel_to_sky(grid.wcs, (nx - 1) / 2, (ny - 1) / 2)
    np.testing.assert_allclose(centre, grid.wcs.wcs.crval, atol=1e-9)


def test_the_grids_scale_can_be_chosen():
    grid = common_grid([tan()], [SHAPE], CoaddConfig(pixel_scale_arcsec=2 * SCALE))
    assert grid.shape[0] == pytest.approx(SHAPE[0] / 2, abs=6)


@pytest.mark.parametrize("axis", [(150.0, -20.0), (0.0, 89.0)])
def test_the_map_is_good_to_a_thousandth_of_a_pixel(axis):
    wcs = pointing_wcs(1, axis, 48.0)
    grid = common_grid([wcs], [(4088, 4088)])
    step = CONFIG.map_step_pix
    [(map_x, map_y)] = pixel_maps(grid, [wcs], step)
    ny, nx = grid.shape
    assert map_x.shape == map_y.shape
    assert (map_x.shape[0] - 1) * step >= ny - 1
    assert (map_x.shape[1] - 1) * step >= nx - 1
    rs = np.random.RandomState(7)
    x, y = rs.randint(0, nx, 2000), rs.randint(0, ny, 2000)
    truth = sky_to_pixel(wcs, *pixel_to_sky(grid.wcs, x, y))
    inside = (truth[0] > 0) & (truth[0] < 4087) & (truth[1] > 0) & (truth[1] < 4087)
    fx, fy = x / step % 1, y / step % 1
    i, j = x // step, y // step
    for nodes, want in ((map_x, truth[0]), (map_y, truth[1])):
        got = (1 - fy) * ((1 - fx) * nodes[j, i] + fx * nodes[j, i + 1]) + fy * (
            (1 - fx) * nodes[j + 1, i] + fx * nodes[j + 1, i + 1]
        )
        # A fourth-order term of 20 pixels at 2048 bends by 12 * 20 / 2048**2 = 6e-5 per pixel**2;
        # times 16**2 / 8, in x and in y: 0.004 at the very corner, a tenth of that on average.
        assert np.abs(got - want)[inside].max() < 0.004
        assert np.sqrt(np.mean((got - want)[inside] ** 2)) < 0.001


def test_the_zero_of_right_ascension_is_crossed():
    centre = offset_position((0.0, 10.0), 0.001, 90.0)
    view = tan(centre=centre)
    result = stack([layer(np.full(SHAPE, 3.0), view)])
    assert result.data.shape[1] < SHAPE[1] + 10
    assert result.data[20:-20, 20:-20] == pytest.approx(3.0)


# ------------------------------------------------------------ flags


def test_flags_of_the_frames_are_in_the_stack():
    views = [tan(), tan(east=4.2, north=-3.1), tan(east=-5.5, north=2.2)]
    layers = []
    for k, view in enumerate(views):
        bad = np.zeros(SHAPE, np.uint8)
        x, y = sky_to_pixel(view, *sky_of())
        for a, b in zip(np.round(x).astype(int), np.round(y).astype(int), strict=True):
            bad[b - 3 : b + 4, a - 3 : a + 4] = Bad.SATURATED  # the same on the sky: all frames
        bad[60 + k, 70] |= Bad.COSMIC
        layers.append(layer(stars_seen(view), view, bad=bad))
    result = stack(layers)
    assert result.flags.dtype == np.uint8
    x, y = sky_to_pixel(result.wcs, *sky_of())
    for a, b in zip(np.round(x).astype(int), np.round(y).astype(int), strict=True):
        assert (result.flags[b - 2 : b + 3, a - 2 : a + 3] & Bad.SATURATED).all()
        assert (result.weight[b - 1 : b + 2, a - 1 : a + 2] == 0).all()
    # Nothing else is: seven pixels and one for the nearest, on either axis.
    assert np.count_nonzero(result.flags & Bad.SATURATED) <= len(x) * 8 * 8
    # A ray of one frame is told, though the others have a value there.
    ray = (result.flags & Bad.COSMIC) != 0
    assert 2 <= np.count_nonzero(ray) <= 6
    assert (result.weight[ray] > 0).all()
    # An edge is where no frame reaches, and nowhere else.
    edge = (result.flags & Bad.EDGE) != 0
    assert (result.weight[edge] == 0).all()
    assert (result.flags[edge] == Bad.EDGE).all()
    np.testing.assert_array_equal(edge, (result.weight == 0) & (result.flags & ~Bad.EDGE == 0))
    assert edge[0].all()
    assert not edge[40:-40, 40:-40].any()


def test_the_scatter_of_pixels_is_told():
    rs = np.random.RandomState(12)
    views = [tan(east=0.31 * k, north=0.17 * k, turn_deg=1.0) for k in range(4)]
    result = stack([layer(rs.normal(0, 1, SHAPE), view) for view in views])
    inner = np.s_[20:-20, 20:-20]
    pull = (result.data * np.sqrt(result.weight))[inner]
    # 50000 pixels that share some of theirs: 1 %. Turned by a degree, all sub-pixel phases occur.
    assert pull.std() == pytest.approx(result.pixel_scatter, rel=0.02)


# ------------------------------------------------------------ clipping and seeing


@pytest.mark.parametrize("flux", [3e3, 3e4, 3e5])
def test_clipping_leaves_bright_stars_their_flux_when_the_seeing_varies(flux):
    # Seeing between 2.5 and 3.5 pixels, 40 %: peaks differ by a factor of two.
    rs = np.random.RandomState(13)
    layers = []
    for k, fwhm in enumerate((2.5, 3.5, 2.8, 3.2, 2.6, 3.4, 3.0, 2.9, 3.1)):
        view = tan(*rs.uniform(-6, 6, 2), turn_deg=0.1 * k)
        image = stars_seen(view, flux, fwhm)
        photons = rs.normal(0, 1, SHAPE) * np.sqrt(image / 10)
        layers.append(layer(noisy(image + photons, 1.0, rs), view))
    grid = common_grid([one.wcs for one in layers], [one.shape for one in layers])
    clipped = coadd(layers, grid, CONFIG)
    mean = coadd(layers, grid, replace(CONFIG, combine="mean"))
    assert clipped.rejected_fraction > 0
    ratio = measured(clipped)[0] / measured(mean)[0]
    # What is asked for: 0.2 %. Noise that both have cancels; in 450 pixels of noise 1/3 what is
    # clipped at four sigma, one in 10000, is nothing.
    np.testing.assert_allclose(ratio, 1, atol=0.002)


# ------------------------------------------------------------ memory


def peak_mb(n, config, size):
    view = tan(shape=size)

    def rows(y0, y1):
        part = y1 - y0, size[1]
        return np.zeros(part, np.float32), np.zeros(part, np.uint8), np.ones(part, np.float32)

    layers = [Layer(rows, size, view) for _ in range(n)]
    grid = common_grid([view], [size])
    tracemalloc.start()
    try:
        coadd(layers, grid, config)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_frames():
    size = (600, 500)
    config = replace(CONFIG, block_mb=6.0)
    peak_mb(2, config, size)
    few, many = peak_mb(10, config, size), peak_mb(40, config, size)
    # Stack, weight and flags: 2 * 1.2 + 0.3 MB, the block 6 MB, one frame's rows below 1 MB; the
    # coordinate maps: 2 * 8 bytes per 16 x 16 pixels, 0.02 MB a frame; the block's middles and
    # flags, 5 bytes for each of the 150 x 500 pixels of ten frames' block: 0.4 MB.
    for n, peak in ((10, few), (40, many)):
        assert peak < 2.7 + 6 + 1.5 + 0.03 * n + 4 / n
