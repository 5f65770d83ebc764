"""Which frames are sampled."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from nontrivial.manifests import frames
from nontrivial.manifests.frames import frame_indices


def test_the_examples_in_the_documentation_hold():
    assert doctest.testmod(frames).failed == 0


@pytest.mark.parametrize("total", [1, 2, 7, 128])
@pytest.mark.parametrize("wanted", [1, 2, 8, 500, None])
@pytest.mark.parametrize("clip", [None, (0.0, 0.01), (0.1, 0.3), (0.2, 99.0), (50.0, 60.0)])
def test_frame_numbers_ascend_are_distinct_and_lie_in_their_range(total, wanted, clip):
    rate = 10.0
    found = frame_indices(total, rate, nframes=wanted, clip=clip)
    assert len(found) >= 1
    assert wanted is None or len(found) <= wanted
    assert (np.diff(found) > 0).all()
    assert 0 <= found[0] <= found[-1] < total
    if clip is None and wanted is not None and wanted <= total:
        assert len(found) == wanted
        shares = found * wanted // total
        assert shares.tolist() == list(range(wanted)), "one frame from each equal share"
    if clip and clip[1] * rate <= total:
        assert found[0] >= np.floor(clip[0] * rate)
        assert found[-1] <= max(np.floor(clip[0] * rate), clip[1] * rate)


def test_a_rate_takes_that_many_frames_of_a_second_up_to_the_most():
    assert len(frame_indices(100, 10.0, nframes=None, fps=2.0)) == 20
    assert len(frame_indices(100, 10.0, nframes=8, fps=2.0)) == 8
    assert len(frame_indices(100, 10.0, nframes=64, fps=2.0, clip=(1.0, 2.0))) == 2
