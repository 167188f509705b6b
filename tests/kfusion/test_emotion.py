import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kfusion.emotion import (
    EMOTIONS,
    NEUTRAL_INDEX,
    EmotionCurve,
    articulation,
    displacement,
    named,
    vector,
)
from kfusion.errors import BadEmotion
from kfusion.landmarks import BROWS, MIRROR, NEUTRAL, lip_gap


def moves(name: str) -> NDArray[np.float64]:
    return displacement(vector({name: 1.0}))


def test_the_vector_sums_to_one_and_the_rest_is_neutral() -> None:
    weights = vector({"happy": 0.6, "sad": 0.1})
    assert weights.sum() == pytest.approx(1)
    assert named(weights)["neutral"] == pytest.approx(0.3)
    assert vector({})[NEUTRAL_INDEX] == 1


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"joy": 0.5}, "unknown"),
        ({"happy": 1.1}, "outside 0..1"),
        ({"happy": -0.1}, "outside 0..1"),
        ({"happy": float("nan")}, "outside 0..1"),
        ({"happy": 0.7, "sad": 0.4}, "sum"),
        ({"happy": "much"}, "not a number"),
    ],
)
def test_bad_weights_are_refused_with_the_reason(weights: dict[str, float], says: str) -> None:
    with pytest.raises(BadEmotion, match=says):
        vector(weights)


def test_a_sum_a_hair_above_one_is_allowed() -> None:
    assert vector({"happy": 0.5, "sad": 0.5 + 9e-7})[NEUTRAL_INDEX] == 0


@given(st.lists(st.floats(0, 1 / 8), min_size=8, max_size=8))
def test_displacement_is_linear_and_neutral_moves_nothing(weights: list[float]) -> None:
    e = np.array(weights)
    whole = sum((w * moves(name) for w, name in zip(e, EMOTIONS, strict=True)), np.zeros((68, 2)))
    np.testing.assert_allclose(displacement(e), whole, atol=1e-9)
    assert not moves("neutral").any()


def test_emotions_move_the_face_the_way_faces_do() -> None:
    assert moves("angry")[BROWS, 1].mean() > 2 and moves("angry")[[20, 21], 1].mean() > 4
    assert moves("surprised")[BROWS, 1].mean() < -3
    assert moves("fear")[BROWS, 1].mean() < -1.5
    assert moves("disgusted")[BROWS, 1].mean() > 0.5
    happy = moves("happy")
    assert 7 < happy[54, 0] - happy[48, 0] < 14  # wider
    assert happy[[48, 54], 1].mean() < -3  # corners up
    assert moves("sad")[[48, 54], 1].mean() > 1
    assert moves("surprised")[8, 1] > 1  # the jaw drops
    assert abs(moves("contempt")[48]).max() > 1 and not moves("contempt")[54].any()  # one-sided


@pytest.mark.parametrize("name", sorted(set(EMOTIONS) - {"contempt"}))
def test_all_but_contempt_are_symmetric(name: str) -> None:
    move = moves(name)
    np.testing.assert_allclose(move[list(MIRROR)] * [-1, 1], move, atol=1e-12)


@pytest.mark.parametrize("name", ["angry", "contempt", "disgusted", "happy", "sad"])
def test_closed_lips_stay_closed_where_the_emotion_does_not_part_them(name: str) -> None:
    assert abs(lip_gap(NEUTRAL + moves(name)) - lip_gap(NEUTRAL)) < 0.3


def test_articulation_is_linear_and_of_no_account_where_neutral() -> None:
    full = {e: float(articulation(vector({e: 1.0}))) for e in EMOTIONS}
    assert full["neutral"] == 0 and full["angry"] > full["happy"] > 0 > full["sad"] > -1
    mixed = float(articulation(vector({"angry": 0.5, "happy": 0.25})))
    assert mixed == pytest.approx(0.5 * full["angry"] + 0.25 * full["happy"])
    both = articulation(np.stack([vector({"fear": 1.0}), vector({})]))
    np.testing.assert_allclose(both, [full["fear"], 0])


def test_a_ramp_is_linear_from_its_frame_and_the_next_starts_where_it_is() -> None:
    curve = EmotionCurve(vector({}))
    curve.start(10, vector({"happy": 1.0}), 10)
    happy = EMOTIONS.index("happy")
    assert [float(curve.at(n)[happy]) for n in (0, 10, 15, 20, 99)] == pytest.approx(
        [0, 0, 0.5, 1, 1]
    )
    curve.start(15, vector({"sad": 1.0}), 10)
    sad = EMOTIONS.index("sad")
    assert float(curve.at(14)[happy]) == pytest.approx(0.4)  # the first ramp still rules before
    assert float(curve.at(15)[happy]) == pytest.approx(0.5)
    assert float(curve.at(20)[happy]) == pytest.approx(0.25)
    assert float(curve.at(20)[sad]) == pytest.approx(0.5)
    curve.forget(30)
    assert float(curve.at(30)[sad]) == 1 and len(curve.ramps) == 1
    curve.start(35, vector({"angry": 1.0}), 0)
    assert curve.at(34)[0] == 0 and curve.at(35)[0] == 1


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 60)), max_size=6), st.integers(0, 400))
def test_every_frame_has_weights_that_sum_to_one(messages: list[tuple[int, float]], n: int) -> None:
    curve = EmotionCurve(vector({}))
    at = 0
    for i, (later, ramp) in enumerate(messages):
        at += later
        curve.start(at, vector({EMOTIONS[i % 8]: 1.0}), ramp)
    assert curve.at(n).sum() == pytest.approx(1, abs=1e-5)


def test_turning_the_dial_without_a_frame_between_keeps_only_the_last_turn() -> None:
    curve = EmotionCurve(vector({}))
    for k in range(1000):
        curve.start(7, vector({"happy": k / 1000}), 30)
    assert len(curve.ramps) == 2 and curve.at(7)[NEUTRAL_INDEX] == 1
