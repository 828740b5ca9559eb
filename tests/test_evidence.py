"""What the page of a chip is made of."""

import numpy as np
import pytest

from chipcase import SHAPE, WEIGHT, evidence, stack
from photometrus.evidence import reduced


def test_frames_in_order_of_time_with_their_verdicts():
    found = evidence(5, left_out=(2,))
    assert list(found.frames["used"]) == [True, True, False, True, True]
    assert found.frames["name"][2] == "01599145C1"
    assert found.frames["reason"][2].startswith("cloud")
    assert (np.diff(found.frames["begin_mjd"]) > 0).all()
    assert [one.frame for one in found.lost] == ["01599901C1"]
    assert (found.target, found.band, found.chip) == ("field1111", "J", 1)
    assert found.chip_shape == SHAPE


def test_gradient_from_edge_to_edge():
    frames = evidence().frames
    # A plane is fitted to a plane, in float32.
    np.testing.assert_allclose(frames["slope_x"], 0.02, rtol=1e-5)
    np.testing.assert_allclose(frames["slope_y"], -0.01, rtol=1e-5)


def test_residuals_of_the_used_frames_only():
    found = evidence(5, left_out=(0, 2))
    assert set(found.residuals["frame"]) == {1, 3, 4}
    assert len(evidence(catalog=False).residuals) == 0


def test_background_in_units_of_its_noise():
    """Noise of the weight's size is 1; the star is hidden, empty cells tell nothing."""
    found = evidence().background
    known = found.values[np.isfinite(found.values)]
    assert known.size > 15
    # The rms of n normal values is 1 +- 1 / sqrt(2 n), and none is beyond 5 sigma.
    assert abs(np.sqrt(np.mean(known**2)) - 1) < 4 / np.sqrt(2 * known.size)
    assert np.abs(known).max() < 5


def test_depth_of_an_aperture():
    # 5 sigma of pi 1.5^2 / 0.497^2 = 28.6 pixels (the grid's scale), each of weight 0.25.
    pixels = np.pi * 1.5**2 / (np.linalg.det(stack().wcs.pixel_scale_matrix) * -(3600**2))
    assert evidence().depth_adu == pytest.approx(5 * np.sqrt(pixels / WEIGHT), rel=1e-4)


def test_flags_are_counted_by_cause():
    flagged = evidence().flagged
    # A quarter of the rows is dead; every eighth row is looked at.
    assert flagged["dead"] == pytest.approx(64 / SHAPE[0], abs=8 / SHAPE[0])
    assert flagged["hot"] == 0


def test_pictures_are_small():
    image = np.ones((1000, 400), np.float32)
    small = reduced(image, 450)
    assert small.values.shape == (334, 134)
    assert small.side_pix == 3
    assert reduced(image, 1000).side_pix == 1
