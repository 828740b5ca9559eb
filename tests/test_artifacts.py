"""What is not the sky's: cores, trails, cosmic rays, afterglow: found, and not invented."""

import numpy as np
import pytest
from scipy import ndimage

from photometrus.frame import Bad, Marks
from photometrus.kernels.artifacts import Expectation, subtract_expected
from photometrus.stages.artifacts import (
    ArtifactsConfig,
    Compared,
    find_artifacts,
    find_cores,
    find_trails,
    fit_afterglow,
    grow_cores,
    persistence,
    without_hot,
)
from photometrus.stages.coadd import CoaddConfig, Layer
from photometrus.stages.masks import find_stars, shallow_stack
from photometrus.wcs import pixel_to_sky, pointing_wcs, shifted, sky_to_pixel
from synth import AXIS, lattice, noisy, star_image, untouched

NOISE = 5.0
CONFIG = ArtifactsConfig()
NO_CORES = np.empty(0, np.int64)


def moffat(shape, x, y, peak, fwhm, beta=3.0):
    """A star with real wings, sampled at the pixels' centres."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    scale = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    return peak * (1 + ((xx - x) ** 2 + (yy - y) ** 2) / scale**2) ** -beta


def image_of(index, shape):
    """A bool image that is set at flat indices."""
    out = np.zeros(shape, bool)
    out.reshape(-1)[index] = True
    return out


# ---------------------------------------------------------------- saturated cores

CROSS = ndimage.generate_binary_structure(2, 1)
BOX = (80, 90)


@pytest.mark.parametrize("peak", [6e4, 3e5, 3e6])
def test_cores_of_unsolved_pixels_are_found(peak):
    rs = np.random.RandomState(0)
    star = moffat(BOX, 44.3, 39.6, peak, 3.0)
    # The plateau, and the four neighbours that its charge spills into.
    unsolved = ndimage.binary_dilation(star > 20000, CROSS)
    data = noisy(np.where(unsolved, 0, star), NOISE, rs)
    bad = unsolved.astype(np.uint8) * Bad.UNSOLVED
    for y, x in ((10, 10), (10, 11), (70, 80), (45, 12)):  # dead ramps here and there
        bad[y, x], data[y, x] = Bad.UNSOLVED, 0
    with untouched(data, bad):
        found = find_cores(data, bad, NOISE)
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(image_of(found, BOX), unsolved)


def test_many_dead_ramps_without_a_star_are_no_core():
    data = noisy(np.zeros(BOX), NOISE, np.random.RandomState(1))
    bad = np.zeros(BOX, np.uint8)
    bad[30:36, 40:46] = Bad.UNSOLVED
    assert find_cores(data, bad, NOISE).size == 0


@pytest.mark.parametrize("peak", [6e4, 3e5, 3e6])
@pytest.mark.parametrize("collapsed", [False, True])
def test_flat_tops_are_found_with_what_is_inside(peak, collapsed):
    rs = np.random.RandomState(2)
    star = moffat(BOX, 44.3, 39.6, peak, 3.0)
    top = star > 15000
    data = np.minimum(star, 15000) * np.where(top, rs.normal(1, 0.03, BOX), 1)
    middle = star > 6 * 15000
    if collapsed:  # it saturated before the second read: its slope may be anything
        data[middle] = rs.uniform(-50, 3000, np.count_nonzero(middle))
    data = noisy(data, NOISE, rs)
    core = image_of(find_cores(data, np.zeros(BOX, np.uint8), NOISE), BOX)
    assert core[top].all()
    # What is above 0.85 of a pixel of the top (3 % more or less) hangs on to it, nothing beyond.
    assert not core[star < 0.85 * 0.9 * 15000].any()


@pytest.mark.parametrize("fwhm", [2.5, 3.0, 4.0, 5.0, 6.0])
@pytest.mark.parametrize("kind", ["gauss", "moffat"])
def test_an_unsaturated_star_has_no_core(fwhm, kind):
    rs = np.random.RandomState(int(10 * fwhm))
    empty = np.zeros((40, 40), np.uint8)
    for x, y in rs.uniform(19, 20, (60, 2)):
        if kind == "gauss":
            star = star_image((40, 40), [x], [y], 30000 * fwhm**2, fwhm)
        else:
            star = moffat((40, 40), x, y, 26000, fwhm, 2.5)
        assert star.max() > 200 * CONFIG.core_sigma
        # Photon noise of 30000 ADU is below 1 % of it.
        data = noisy(star * rs.normal(1, 0.005, star.shape), NOISE, rs)
        assert find_cores(data, empty, NOISE).size == 0, (x, y)


@pytest.mark.parametrize("scale", [3.0, 6.0, 10.0, 20.0])
@pytest.mark.parametrize("height", [900.0, 20000.0])
def test_a_bright_galaxy_has_no_core(scale, height):
    yy, xx = np.mgrid[:160, :170]
    radius = np.hypot((xx - 81.3) / 1.0, (yy - 78.6) / 0.7)
    galaxy = ndimage.gaussian_filter(height * np.exp(-radius / scale), 1.3)
    data = noisy(galaxy, NOISE, np.random.RandomState(3))
    assert find_cores(data, np.zeros(data.shape, np.uint8), NOISE).size == 0


def test_cores_grow_and_stay_in_the_frame():
    bad = np.zeros((9, 10), np.uint8)
    bad[4, 5] = Bad.HOT
    grow_cores(bad, np.array([4 * 10 + 5, 0]), 2)
    yy, xx = np.mgrid[:9, :10]
    want = ((yy - 4) ** 2 + (xx - 5) ** 2 <= 5) | (yy**2 + xx**2 <= 5)
    np.testing.assert_array_equal(bad & Bad.SATURATED != 0, want)
    assert bad[4, 5] == Bad.SATURATED | Bad.HOT


# ---------------------------------------------------------------- trails

FIELD = (1000, 1100)


def trail(start, end, peak, sagitta=0.0, width=2.0, shape=FIELD):
    """A line from (x, y) to (x, y), Gaussian across, bent by `sagitta` pixels; and its middle.

    width : standard deviation across, pixels
    returns image, and the distance of each pixel from the line (inf beyond its ends)
    """
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    (x0, y0), (x1, y1) = start, end
    length = np.hypot(x1 - x0, y1 - y0)
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    along = ((xx - x0) * ux + (yy - y0) * uy) / length
    across = -(xx - x0) * uy + (yy - y0) * ux - 4 * sagitta * along * (1 - along)
    distance = np.where((along >= 0) & (along <= 1), np.abs(across), np.inf)
    return peak * np.exp(-0.5 * (distance / width) ** 2), distance


def through(angle_deg, middle=(560.0, 470.0), reach=2000.0):
    """The ends of a line through the frame."""
    c, s = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    (x, y) = middle
    return (x - reach * c, y - reach * s), (x + reach * c, y + reach * s)


def compared(data, hide=None, bad=None):
    """A frame of which the others say that nothing is there."""
    nothing = np.zeros(data.shape, np.uint8)
    ny, nx = data.shape
    # A stack of the same size, one pixel of which is one of the frame's; it reaches a bit further.
    zeros = np.zeros((ny + 4, nx + 4), np.float32)
    x, y = np.meshgrid(np.arange(0, nx + 32, 32.0), np.arange(0, ny + 32, 32.0))
    seen = Expectation(zeros, zeros, x + 1, y + 1, 32, np.float32(1))
    return Compared(
        data.astype(np.float32), nothing.copy() if bad is None else bad, seen,
        nothing if hide is None else hide, NOISE, 10.0,
    )  # fmt: skip


def marked(frame):
    """The pixels flagged as trail, and what was found."""
    with untouched(frame.left):
        found = find_artifacts(frame, NO_CORES)
    return (frame.bad & Bad.TRAIL) != 0, found


@pytest.mark.parametrize("angle", [0, 3, 17.5, 30, 44, 45, 46, 60, 88, 90, 91, 120, 135, 151, 177])
def test_trails_are_found_at_any_angle(angle):
    image, distance = trail(*through(angle), 3 * NOISE)
    frame = compared(noisy(image, NOISE, np.random.RandomState(angle_seed(angle))))
    flagged, found = marked(frame)
    assert len(found.trails) == 1
    # Two sigma to either side, nearly everywhere; and no broader than twelve pixels and a few.
    assert flagged[distance < 4].mean() > 0.97
    assert not flagged[(distance > 20) & (distance < np.inf)].any()
    np.testing.assert_array_equal(found.marks.index, np.flatnonzero(frame.bad))


def angle_seed(angle):
    return int(10 * angle) + 7


@pytest.mark.parametrize("angle", [10, 75, 130])
@pytest.mark.parametrize("sagitta", [-10.0, 5.0, 10.0])
def test_a_trail_bent_by_the_distortion_is_followed(angle, sagitta):
    image, distance = trail(*through(angle, reach=550), 3 * NOISE, sagitta)
    flagged, found = marked(compared(noisy(image, NOISE, np.random.RandomState(70))))
    assert len(found.trails) == 1
    assert flagged[distance < 3].mean() > 0.95
    assert not flagged[(distance > 20) & (distance < np.inf)].any()


@pytest.mark.parametrize("angle", [5, 50, 140])
def test_a_faint_trail_is_found(angle):
    # One sigma at its peak, seen in no pixel: sqrt(2 pi) * 2 pixels wide and 1000 long, 5000 sigma
    # over 8 x 1000 pixels of bins, 5000 / sqrt(8000) = 56.
    image, distance = trail(*through(angle), 1.0 * NOISE)
    flagged, found = marked(compared(noisy(image, NOISE, np.random.RandomState(71))))
    assert len(found.trails) == 1
    assert flagged[distance < 2].mean() > 0.9


@pytest.mark.parametrize("angle", [20, 65, 155])
def test_a_trail_that_ends_in_the_frame_ends_there(angle):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    start, end = (550 - 2000 * c, 480 - 2000 * s), (550.0, 480.0)
    image, distance = trail(start, end, 4 * NOISE)
    flagged, found = marked(compared(noisy(image, NOISE, np.random.RandomState(72))))
    assert len(found.trails) == 1
    assert flagged[distance < 4].mean() > 0.95
    yy, xx = np.mgrid[: FIELD[0], : FIELD[1]]
    beyond = (xx - end[0]) * c + (yy - end[1]) * s
    # Its extent is known to a 32nd of the line through the frame, 1500 at most: two of them.
    assert not flagged[beyond > 2 * 1500 / 32].any()


def test_two_trails_that_cross_are_two():
    one, d_one = trail(*through(25), 4 * NOISE)
    two, d_two = trail(*through(115, middle=(400.0, 600.0)), 2 * NOISE)
    flagged, found = marked(compared(noisy(one + two, NOISE, np.random.RandomState(73))))
    assert len(found.trails) == 2
    for distance in (d_one, d_two):
        assert flagged[distance < 3].mean() > 0.95
    assert flagged.mean() < 1.5 * (np.minimum(d_one, d_two) < 12).mean()


def test_a_trail_is_found_among_stars_that_are_hidden():
    rs = np.random.RandomState(74)
    x, y = lattice(FIELD, 30, 5, rs)
    stars = star_image(FIELD, x, y, 20000, 3.0)
    image, distance = trail(*through(33), 3 * NOISE)
    hide = (stars > 0.2 * NOISE).astype(np.uint8)
    assert 0.05 < hide.mean() < 0.3
    flagged, found = marked(compared(noisy(image + stars, NOISE, rs), hide))
    assert len(found.trails) == 1
    assert flagged[distance < 4].mean() > 0.95  # on the stars, too


@pytest.mark.parametrize("seed", range(50))
def test_no_trail_is_invented(seed):
    rs = np.random.RandomState(1000 + seed)
    shape = (500, 520)
    x, y = rs.uniform(0, 1, (2, 150)) * np.array(shape[::-1])[:, None]
    stars = star_image(shape, x, y, 300 * (1 - rs.uniform(0, 1, 150)) ** -1.2, 3.0)
    bad = np.zeros(shape, np.uint8)
    data = noisy(stars, NOISE, rs)
    for column in rs.randint(0, 520, 4):  # known bad columns, some of a part of the chip
        rows = slice(None) if rs.uniform() < 0.5 else slice(0, rs.randint(500))
        data[rows, column] += 500
        bad[rows, column] = Bad.DEAD
    data[:, rs.randint(520)] += 0.3 * NOISE  # and a weak one that nobody knows of
    hide = (stars > 0.3 * NOISE).astype(np.uint8)
    frame = compared(data, hide, bad)
    assert find_trails(frame.left, frame.unusable(), NOISE, CONFIG) == []


def test_a_seam_is_no_trail():
    # Half of the frame lies higher: significant along a line, but no ridge.
    data = noisy(np.where(np.arange(FIELD[1]) > 500, 0.5 * NOISE, 0) + np.zeros(FIELD), NOISE,
                 np.random.RandomState(75))  # fmt: skip
    flagged, found = marked(compared(data))
    assert found.trails == ()
    assert not flagged.any()


# ---------------------------------------------------------------- cosmic rays

SEEING_PIX = (2.4, 3.6, 2.9, 2.6, 3.3, 3.0)  # 1.2" to 1.8"
WINDOW = (380, 420)
FLOOR = 4 * NOISE / np.sqrt(4 * len(SEEING_PIX))
"""Of the range of nine pixels of noise of the stack, each of four pixels of all frames: four sigma
(three are expected)."""


def rays(shape, rs, n, low, high):
    """Cosmic rays: tracks of one to four pixels, each pixel between `low` and `high` ADU."""
    out = np.zeros(shape)
    for _ in range(n):
        y, x = rs.randint(5, shape[0] - 5), rs.randint(5, shape[1] - 5)
        dy, dx = ((0, 1), (1, 0), (1, 1))[rs.randint(3)]
        for k in range(rs.randint(1, 5)):
            out[y + k * dy, x + k * dx] = rs.uniform(low, high)
    return out


def dithered(seed, flux, n_rays=120, factors=None):
    """Frames of the same stars in changing seeing, each with rays of its own: layers, truth."""
    rs = np.random.RandomState(seed)
    base = pointing_wcs(1, AXIS, 48.0)
    x, y = lattice(WINDOW, 40, 30, rs)
    ra, dec = pixel_to_sky(base, x, y)
    layers, hits, stars, images = [], [], [], []
    for k, fwhm in enumerate(SEEING_PIX):
        factor = 1.0 if factors is None else factors[k]
        wcs = shifted(base, *(rs.uniform(-8, 8, 2) if k else (0, 0)))
        star = star_image(WINDOW, *sky_to_pixel(wcs, ra, dec), flux * factor, fwhm)
        hit = rays(WINDOW, rs, n_rays, 11 * NOISE, 200 * NOISE)
        # Photons: 10 electrons per ADU, as `compared` says.
        image = noisy(star + rs.normal(0, 1, WINDOW) * np.sqrt(star / 10) + hit, NOISE, rs)
        layers.append(layer_of(image, wcs, 1 / factor))
        images.append(image)
        hits.append(hit > 0)
        stars.append(star)
    return layers, images, hits, stars


def layer_of(image, wcs, factor):
    nothing = np.zeros(image.shape, np.uint8)
    inverse = np.full(image.shape, 1 / NOISE**2, np.float32)

    def rows(y0, y1):
        return image[y0:y1].copy(), nothing[y0:y1].copy(), inverse[y0:y1].copy()

    return Layer(rows, image.shape, wcs, factor)


@pytest.mark.parametrize("factors", [None, (1.0, 0.7, 0.9, 1.0, 0.6, 0.8)])
def test_cosmic_rays_are_found_and_stars_are_not(factors):
    layers, images, hits, stars = dithered(80, 20000.0, factors=factors)
    shallow = shallow_stack(layers, CoaddConfig())
    mask = find_stars(shallow)
    seen = missed = 0
    invented = 0
    for layer, image, hit, star in zip(layers, images, hits, stars, strict=True):
        seen_of_others = shallow.seen_by(layer.wcs, WINDOW, layer.flux_factor)
        left = image.copy()
        subtract_expected(left, seen_of_others)
        hide = mask.seen_by(layer.wcs, WINDOW)(0, WINDOW[0])
        bad = np.zeros(WINDOW, np.uint8)
        frame = Compared(left, bad, seen_of_others, hide, NOISE, 10.0, FLOOR)
        with untouched(left, hide, *seen_of_others[:4]):
            find_artifacts(frame, NO_CORES)
        cosmic = (bad & Bad.COSMIC) != 0
        inside = np.isfinite(left)
        empty = inside & (star < 0.05 * NOISE)
        seen += (hit & empty).sum()
        missed += (hit & empty & ~cosmic).sum()
        # What is flagged beside a ray is its neighbours', 2.5 sigma high by chance or by its light.
        far = inside & ~ndimage.binary_dilation(hit, np.ones((3, 3)))
        invented += (cosmic & far).sum()
    # On empty sky the range of nine pixels of the stack is that of noise, nothing is allowed for it
    # beyond 5.5 sigma, and the ray has 11: its noise would have to be -5.5 sigma. Where a ray of
    # another frame passed the stack's clipping the range is larger: some per cent.
    assert seen > 1000
    assert missed < 0.02 * seen
    # 5.5 sigma in 10^6 pixels: 0.02 by chance. Stars of 500 sigma peaks in changing seeing: none.
    assert invented == 0


def test_faint_sources_of_one_frame_only_are_flagged_in_their_frame_only():
    # A ray in the first frame does not reach the expectation of the others.
    layers, images, hits, _ = dithered(81, 0.0)
    shallow = shallow_stack(layers, CoaddConfig())
    for k in (1, 3):
        expected = np.zeros(WINDOW, np.float32)
        subtract_expected(expected, shallow.seen_by(layers[k].wcs, WINDOW, 1.0))
        # Rays up to 200 sigma in six frames, 2.5 pixels of 160000 each and 120 a frame: had they
        # all stayed, a stack pixel in fifty would hold 200 * 5 / 24 ADU and more.
        seen = np.isfinite(expected)
        assert np.mean(np.abs(expected[seen]) > 10 * NOISE / np.sqrt(24)) < 2e-3


def test_with_one_frame_cosmic_rays_are_told_by_their_sharpness():
    rs = np.random.RandomState(82)
    shape = (500, 520)
    for fwhm in (2.6, 3.5):
        x, y = lattice(shape, 35, 15, rs)
        star = star_image(shape, x, y, 10 ** rs.uniform(2.5, 5, x.size), fwhm)
        hit = rays(shape, rs, 150, 30 * NOISE, 300 * NOISE)
        image = noisy(star + rs.normal(0, 1, shape) * np.sqrt(star / 10) + hit, NOISE, rs)
        bad = np.zeros(shape, np.uint8)
        bad[7, 9] = Bad.DEAD
        nothing = np.zeros(shape, np.uint8)
        frame = Compared(image, bad, None, nothing, NOISE, 10.0)
        with untouched(image):
            find_artifacts(frame, NO_CORES)
        cosmic = (bad & Bad.COSMIC) != 0
        empty = star < 0.2 * NOISE
        # It finds the pixels of tracks that are 30 sigma high, but for those of a straight run of
        # four, whose inner ones have no fine structure: one track in twelve.
        assert cosmic[(hit > 0) & empty].mean() > 0.95
        # It grows what it found twice by a pixel, in the picture that it smoothed over five.
        far = ~ndimage.binary_dilation(hit > 0, np.ones((9, 9)))
        on_stars = cosmic & far & (star > NOISE)
        assert on_stars.sum() == 0
        # 5.5 sigma of a Laplacian of white noise in 260000 pixels: a hundredth of a pixel; that
        # image is made of four times as many.
        assert (cosmic & far).sum() <= 2
        assert bad[7, 9] == Bad.DEAD


def test_what_is_an_outlier_in_many_frames_is_hot():
    def marks(*index):
        return Marks(np.array(index), np.full(len(index), Bad.COSMIC, np.uint8))

    trail = Marks(np.array([3, 9]), np.array([Bad.TRAIL, Bad.TRAIL | Bad.COSMIC], np.uint8))
    found = [marks(3, 5), marks(3, 9), marks(3, 7, 9), marks(5), trail]
    with untouched(*(m.flags for m in found)):
        out = without_hot(found, CONFIG)
    # Five frames: an outlier in three of them is hot, in two it is not. A trail stays a trail.
    assert list(out[0].flags) == [Bad.HOT, Bad.COSMIC]
    assert list(out[1].flags) == [Bad.HOT, Bad.HOT]
    assert list(out[2].flags) == [Bad.HOT, Bad.COSMIC, Bad.HOT]
    assert list(out[4].flags) == [Bad.TRAIL, Bad.TRAIL | Bad.HOT]
    # Of twenty frames eight are needed.
    many = [marks(3) if k < 7 else marks() for k in range(20)]
    assert list(without_hot(many, CONFIG)[0].flags) == [Bad.COSMIC]
    many[7] = marks(3)
    assert list(without_hot(many, CONFIG)[0].flags) == [Bad.HOT]
    assert without_hot([], CONFIG) == []


# ---------------------------------------------------------------- persistence


def afterglow_case(amplitude, decay_s, n=6, step_s=70.0, seed=90):
    """Frames after one with saturated stars, which glow where they were: what each one shows."""
    rs = np.random.RandomState(seed)
    core = np.zeros(WINDOW, bool)
    for y, x in zip(rs.randint(20, 360, 8), rs.randint(20, 400, 8), strict=True):
        core[y - 2 : y + 3, x - 2 : x + 3] = True
    cores = np.flatnonzero(core)
    glow = []
    for k in range(1, n):
        light = amplitude * np.exp(-k * step_s / decay_s)
        frame = compared(noisy(light * core, NOISE, rs))
        found = find_artifacts(frame, NO_CORES, [(0, k * step_s, cores)])
        glow.append(found.afterglow)
    return cores, glow


@pytest.mark.parametrize("decay_s", [60.0, 150.0, 500.0])
def test_the_decay_of_the_afterglow_is_recovered(decay_s):
    cores, glow = afterglow_case(20.0, decay_s)
    model = fit_afterglow([one[1:] for of_frame in glow for one in of_frame])
    # 200 pixels: each mean is known to 5 / sqrt(200) = 0.35 ADU. Decay times are tried in steps of
    # 13 %; the first frame's 20 exp(-70 / decay), 6 to 17 ADU, has to come out.
    want = 20 * np.exp(-70 / decay_s)
    assert model is not None
    assert model.after(70.0) == pytest.approx(want, abs=3 * 0.35 + 0.03 * want)
    assert model.decay_s == pytest.approx(decay_s, rel=0.3)
    assert model.after(70.0) / model.after(70.0 + model.decay_s) == pytest.approx(np.e)


def test_it_is_marked_where_it_is_above_the_limit_and_nowhere_else():
    cores, glow = afterglow_case(20.0, 100.0)
    model = fit_afterglow([one[1:] for of_frame in glow for one in of_frame])
    limit = CONFIG.persistence_sigma * NOISE  # 1 ADU: 20 exp(-t / 100) falls below after 300 s
    for k, of_frame in enumerate(glow, start=1):
        marks = persistence(of_frame, [cores], model, WINDOW, NOISE, CONFIG)
        light = 20 * np.exp(-70 * k / 100)
        if light > 1.5 * limit:
            flagged = image_of(marks.index, WINDOW)
            assert flagged.reshape(-1)[cores].all()
            near = ndimage.binary_dilation(image_of(cores, WINDOW), np.ones((3, 3)))
            np.testing.assert_array_equal(flagged, near)
            assert marks.count(Bad.PERSISTENCE) == marks.index.size
        elif light < 0.6 * limit:
            assert marks.index.size == 0


def test_without_glow_there_is_no_model_and_no_mark():
    cores, glow = afterglow_case(0.0, 100.0)
    model = fit_afterglow([one[1:] for of_frame in glow for one in of_frame])
    assert model is None
    assert fit_afterglow([]) is None
    for of_frame in glow:
        assert persistence(of_frame, [cores], model, WINDOW, NOISE, CONFIG).index.size == 0


def test_a_star_on_an_old_core_is_no_afterglow():
    core = np.zeros(WINDOW, bool)
    core[100:110, 100:110] = True
    star = star_image(WINDOW, [105.0], [105.0], 1e5, 4.0)
    frame = compared(noisy(star, NOISE, np.random.RandomState(91)), (star > 1).astype(np.uint8))
    found = find_artifacts(frame, NO_CORES, [(0, 60.0, np.flatnonzero(core))])
    assert found.afterglow == ()
