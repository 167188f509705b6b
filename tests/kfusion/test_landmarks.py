import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kfusion.errors import BadIdentity
from kfusion.landmarks import (
    MIRROR,
    NEUTRAL,
    NEUTRAL_INTER_OCULAR,
    Identity,
    Similarity,
    align,
    fit_similarity,
    inter_ocular,
    lip_gap,
    mirrored,
)


def similarity(scale: float, angle: float, x: float, y: float) -> Similarity:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return Similarity(scale * turn, np.array([x, y]))


similarities = st.builds(
    similarity,
    st.floats(0.2, 20),
    st.floats(-3, 3),
    st.floats(-2000, 2000),
    st.floats(-2000, 2000),
)


def test_mirroring_twice_gives_every_point_back() -> None:
    assert [MIRROR[MIRROR[i]] for i in range(68)] == list(range(68))


def test_the_neutral_face_is_symmetric_and_its_lips_are_closed() -> None:
    np.testing.assert_allclose(mirrored(NEUTRAL), NEUTRAL)
    assert abs(lip_gap(NEUTRAL)) < 1
    assert np.isfinite(NEUTRAL).all() and NEUTRAL.min() > 0 and NEUTRAL.max() < 256


def test_the_neutral_face_lies_in_the_order_of_a_face() -> None:
    assert NEUTRAL[8, 1] == NEUTRAL[:, 1].max()  # the chin
    assert NEUTRAL[17:27, 1].max() < NEUTRAL[36:48, 1].min()  # brows over eyes
    assert (np.diff(NEUTRAL[:17, 0]) > -2).all()  # the jaw runs from left to right
    for i in range(36, 42):  # the image's left eye, clockwise from its outer corner
        a, b, c = NEUTRAL[36 + (i - 36) % 6], NEUTRAL[36 + (i - 35) % 6], NEUTRAL[36 + (i - 34) % 6]
        u, v = b - a, c - b
        assert u[0] * v[1] - u[1] * v[0] > 0


@given(similarities)
def test_a_similarity_is_found_again_from_the_points_it_moved(moved: Similarity) -> None:
    found = fit_similarity(NEUTRAL, moved.apply(NEUTRAL))
    np.testing.assert_allclose(found.linear, moved.linear, atol=1e-9, rtol=1e-9)
    np.testing.assert_allclose(found.offset, moved.offset, atol=1e-6, rtol=1e-6)
    back = moved.inverse.apply(moved.apply(NEUTRAL))
    np.testing.assert_allclose(back, NEUTRAL, atol=1e-6)


@given(similarities, st.integers(0, 2**32 - 1))
def test_normalising_forgets_place_size_and_roll(moved: Similarity, seed: int) -> None:
    face = NEUTRAL + np.random.default_rng(seed).normal(0, 2, (68, 2))
    if not 8 <= inter_ocular(moved.apply(face)) <= 10_000:
        return
    a, b = Identity.from_points(face), Identity.from_points(moved.apply(face))
    np.testing.assert_allclose(a.canonical, b.canonical, atol=1e-6)
    displacement = np.random.default_rng(seed).normal(0, 3, (2, 68, 2))
    np.testing.assert_allclose(
        b.place(displacement), moved.apply(a.place(displacement)), atol=1e-2, rtol=1e-5
    )


def test_alignment_takes_head_motion_away_and_leaves_the_mouth() -> None:
    opened = NEUTRAL.copy()
    opened[[65, 66, 67], 1] += 10
    turn = Similarity(np.array([[0.9, -0.3], [0.3, 0.9]]), np.array([12.0, -7.0]))
    frames = np.stack([NEUTRAL, turn.apply(opened)])
    straight = align(frames, NEUTRAL)
    np.testing.assert_allclose(straight[1], opened, atol=1e-9)


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (NEUTRAL[:67], "67"),
        (NEUTRAL * np.nan, "not finite"),
        ([["a", "b"]] * 68, "not numbers"),
        (NEUTRAL * 0.05, "inter-ocular"),
        (NEUTRAL * 500, "inter-ocular"),
        (np.stack([np.arange(68.0) * 9, np.arange(68.0) * 2], 1), "line"),
        (np.full((68, 2), 7.0), "inter-ocular"),
    ],
)
def test_what_is_no_face_is_refused_with_the_reason(points: object, says: str) -> None:
    with pytest.raises(BadIdentity, match=says):
        Identity.from_points(points)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("distance", [8.0, 10_000.0])
def test_the_limits_of_the_inter_ocular_distance_are_allowed(distance: float) -> None:
    face = NEUTRAL * (distance / NEUTRAL_INTER_OCULAR) * (1 + (1e-12 if distance == 8 else -1e-12))
    assert Identity.from_points(face).points.shape == (68, 2)
