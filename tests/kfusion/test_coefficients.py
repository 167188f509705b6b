from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kfusion.coefficients import (
    ARKIT52,
    LIVE_LINK_FACE,
    OUTPUTS,
    UNKNOWN,
    VISEMES,
    VRM,
    VRM0,
    Rig,
    mirrored_names,
)
from kfusion.emotion import displacement, vector
from kfusion.landmarks import (
    BROWS,
    EYES,
    JAW,
    MOUTH,
    NEUTRAL,
    NEUTRAL_IDENTITY,
    Identity,
    mirrored,
)
from tests.kfusion.test_landmarks import similarity

Array = NDArray[np.float32]
SEEDS = st.integers(0, 2**32 - 1)
RIG = Rig(NEUTRAL_IDENTITY)


def face(seed: int) -> Identity:
    """Some face at rest, its lips a little open now and then."""
    rng = np.random.default_rng(seed)
    points = NEUTRAL + rng.normal(0, 1.5, (68, 2))
    points[[65, 66, 67], 1] += rng.choice([0, 2.5])
    return Identity.from_points(points)


def moves(seed: int, count: int = 1, size: float = 4.0) -> NDArray[np.float64]:
    """Arbitrary displacements, of points alone and of whole parts of the face."""
    rng = np.random.default_rng(seed)
    out = rng.normal(0, size / 3, (count, 68, 2))
    for part in (JAW, BROWS, EYES, MOUTH):
        out[:, part] += rng.normal(0, size, (count, 1, 2))
    return out


def everything(rig: Rig, displacement: NDArray[np.float64]) -> Array:
    makers = (rig.arkit52, rig.vrm, rig.visemes)
    return np.concatenate([make(displacement) for make in makers], axis=1)


def named(rig: Rig, displacement: NDArray[np.float64]) -> dict[str, float]:
    """ARKit's coefficients of one frame, those above 0."""
    values = rig.arkit52(displacement[None])[0]
    return {name: float(v) for name, v in zip(ARKIT52, values, strict=True) if v > 0}


def column(values: Array, name: str, names: tuple[str, ...] = ARKIT52) -> Array:
    return values[:, names.index(name)]


# Names


def test_every_name_comes_once_and_live_link_face_and_vrm_0_know_the_same() -> None:
    for names in (ARKIT52, LIVE_LINK_FACE, VRM, VISEMES):
        assert len(set(names)) == len(names)
    assert (len(ARKIT52), len(LIVE_LINK_FACE), len(VISEMES)) == (52, 61, 15)
    assert sorted(n[0].lower() + n[1:] for n in LIVE_LINK_FACE[:52]) == sorted(ARKIT52)
    assert list(ARKIT52) == sorted(ARKIT52)  # the order of Apple's header
    assert set(VRM) - set(VRM0) == {"surprised"}


def test_live_link_faces_values_are_arkits_in_another_order_and_the_heads_roll() -> None:
    head = similarity(1, 0.2, 0, 0)  # clockwise in the image
    frames = head.apply(NEUTRAL + moves(2, 5, 2.0) * NOT_RIGID)
    shown = RIG.live_link_face(frames - NEUTRAL)
    plain = RIG.arkit52(frames - NEUTRAL)
    for k, name in enumerate(LIVE_LINK_FACE[:52]):
        assert np.array_equal(shown[:, k], column(plain, name[0].lower() + name[1:])), name
    np.testing.assert_allclose(column(shown, "HeadRoll", LIVE_LINK_FACE), 0.2 / np.pi, atol=1e-6)
    rest = [LIVE_LINK_FACE.index(n) for n in LIVE_LINK_FACE[52:] if n != "HeadRoll"]
    assert not shown[:, rest].any()


def test_the_document_has_a_line_for_every_name_and_says_what_is_not_computed() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "coefficients.md").read_text()
    arkit, vrm, visemes = text.split("\n## ")[1:4]
    for section, part, names in (
        ("arkit52", arkit, ARKIT52), ("vrm", vrm, VRM), ("visemes", visemes, VISEMES)
    ):  # fmt: skip
        lines = [line for line in part.splitlines() if line.startswith("| `")]
        for name in names:
            stem = name.removesuffix("Left").removesuffix("Right")
            found = [n for n in lines if f"`{name}`" in n or f"`{stem}Left`, `…Right`" in n]
            assert len(found) == 1, (section, name)
            assert (name in UNKNOWN[section]) == ("always 0" in found[0]), (section, name)


# At rest, and whatever does not count

NOT_RIGID = np.ones((68, 1))
NOT_RIGID[[27, 28, 29, 30, 36, 39, 42, 45]] = 0


@given(SEEDS)
def test_at_rest_everything_is_0_but_neutral_and_sil(seed: int) -> None:
    rig = Rig(face(seed))
    rest = rig.displacement(rig.identity.points[None])
    values = everything(rig, rest)[0]
    names = (*ARKIT52, *VRM, *VISEMES)
    shown = {n: v for n, v in zip(names, values.tolist(), strict=True) if abs(v) > 1e-6}
    assert shown == {"neutral": 1.0, "sil": 1.0}


@given(SEEDS, st.floats(0.2, 20), st.floats(-3, 3), st.floats(-2000, 2000))
def test_a_similarity_of_the_identity_changes_nothing(
    seed: int, scale: float, angle: float, x: float
) -> None:
    moved = similarity(scale, angle, x, -x / 2)
    plain = Rig(face(seed))
    other = Rig(Identity.from_points(moved.apply(plain.identity.points)))
    points = plain.identity.points + moves(seed, 3)
    np.testing.assert_allclose(
        everything(other, other.displacement(moved.apply(points))),
        everything(plain, plain.displacement(points)),
        atol=1e-5,
    )


@given(SEEDS, st.floats(0.7, 1.4), st.floats(-0.6, 0.6), st.floats(-60, 60))
def test_the_heads_own_motion_changes_nothing(
    seed: int, scale: float, angle: float, x: float
) -> None:
    head = similarity(scale, angle, x, -x / 2)
    rig = Rig(face(seed))
    frames = rig.identity.canonical + moves(seed, 3) * NOT_RIGID
    np.testing.assert_allclose(
        everything(rig, head.apply(frames) - rig.identity.canonical),
        everything(rig, frames - rig.identity.canonical),
        atol=1e-5,
    )


@given(SEEDS)
def test_the_mirror_image_has_left_and_right_swapped(seed: int) -> None:
    rig = Rig(face(seed))
    other = Rig(Identity.from_points(mirrored(rig.identity.points)))
    points = rig.identity.points + moves(seed, 3)
    a, b = rig.displacement(points), other.displacement(mirrored(points))
    for names, plain, swapped in (
        (ARKIT52, rig.arkit52(a), other.arkit52(b)),
        (VRM, rig.vrm(a), other.vrm(b)),
        (VISEMES, rig.visemes(a), other.visemes(b)),
    ):
        np.testing.assert_allclose(swapped, plain[:, mirrored_names(names)], atol=1e-4)


def test_left_is_the_subjects_left_which_is_the_images_right() -> None:
    for points, name in (
        ((43, 44), "eyeBlinkLeft"),
        ((37, 38), "eyeBlinkRight"),
        ((22, 23, 24), "browDownLeft"),
        ((19, 20, 21), "browDownRight"),
        ((54, 64), "mouthFrownLeft"),
        ((48, 60), "mouthFrownRight"),
    ):
        assert (NEUTRAL[list(points), 0] > 128).all() == name.endswith("Left")
        move = np.zeros((68, 2))
        move[list(points), 1] = 4
        found = named(RIG, move)
        assert found[name] > 0.3
        other = mirrored_names(ARKIT52)[ARKIT52.index(name)]
        assert found.get(ARKIT52[other], 0) < 0.05
    for sign, side in ((1, "Left"), (-1, "Right")):
        aside = np.zeros((68, 2))
        aside[MOUTH, 0] = aside[JAW, 0] = 5 * sign
        found = named(RIG, aside)
        assert found[f"jaw{side}"] > 0.3 and found[f"mouth{side}"] > 0.3


@pytest.mark.parametrize(("name", "names"), [*OUTPUTS.items(), ("visemes", VISEMES)])
def test_what_is_unknown_is_0_and_all_else_can_be_more_than_a_half(
    name: str, names: tuple[str, ...]
) -> None:
    make = {"arkit52": RIG.arkit52, "vrm": RIG.vrm, "visemes": RIG.visemes}[name]
    rng = np.random.default_rng(3)
    frames = np.concatenate([
        moves(1, 20_000, 5.0),
        moves(2, 10_000, 3.0) * rng.choice([0.3, 1], (10_000, 68, 1)),
        lips_apart_and_together(rng, 10_000),
        lid_moves(rng, 10_000),
    ])  # fmt: skip
    most = make(frames).max(axis=0)
    for k, each in enumerate(names):
        if each in UNKNOWN[name]:
            assert most[k] == 0, each
        else:
            assert most[k] > 0.5, (each, most[k])


def lips_apart_and_together(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    out = np.zeros((count, 68, 2))
    for points in ([50, 51, 52], [61, 62, 63], [65, 66, 67], [56, 57, 58], [7, 8, 9]):
        out[:, points, 1] = rng.normal(0, 5, (count, 1))
    wide = rng.normal(0, 5, count)
    out[:, [54, 64], 0], out[:, [48, 60], 0] = wide[:, None], -wide[:, None]
    return out


def lid_moves(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    out = np.zeros((count, 68, 2))
    for points in ([37, 38], [40, 41], [43, 44], [46, 47]):
        out[:, points, 1] = rng.normal(0, 4, (count, 1))
    return out


# Ranges and continuity


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=4, max_size=4),
    SEEDS,
)
def test_any_finite_points_give_coefficients_within_0_and_1(values: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = rng.choice(np.array([*values, 0.0, 1.0]), (4, 68, 2))
    rig = Rig(face(seed))
    collapsed = np.full((1, 68, 2), values[0])
    for each in (frames, rig.displacement(frames), rig.displacement(collapsed), -NEUTRAL[None]):
        out = everything(rig, each)
        assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 1


@settings(max_examples=200)
@given(SEEDS, st.sampled_from([1.0, 3.0, 8.0, 20.0]), st.sampled_from([1e-3, 0.1, 2.0]))
def test_a_small_move_changes_coefficients_little(seed: int, size: float, step: float) -> None:
    """No jumps: at most 3 a pixel of the largest move, wherever the points are."""
    rig = Rig(face(seed))
    here = moves(seed, 8, size)
    there = here + step * np.random.default_rng(seed).uniform(-1, 1, here.shape)
    change = np.abs(everything(rig, there) - everything(rig, here))
    assert change.max() <= 3 * step + 1e-5


def test_frames_alone_have_the_same_bits_as_among_others() -> None:
    frames = moves(5, 40)
    together = everything(RIG, frames)
    for k in (1, 2, 3, 7):
        parts = [everything(RIG, frames[i : i + k]) for i in range(0, 40, k)]
        assert np.array_equal(np.concatenate(parts), together)
    kept = np.asfortranarray(frames)
    assert np.array_equal(everything(RIG, kept), together)


@given(SEEDS)
def test_shares_add_up(seed: int) -> None:
    frames = moves(seed, 20, 5.0)
    spoken, vrm, arkit = RIG.visemes(frames), RIG.vrm(frames), RIG.arkit52(frames)
    np.testing.assert_allclose(spoken.sum(axis=1), 1, atol=1e-5)
    assert vrm[:, :5].sum(axis=1).max() <= 1 + 1e-5
    emotions = [VRM.index(n) for n in ("happy", "angry", "sad", "relaxed", "surprised", "neutral")]
    np.testing.assert_allclose(vrm[:, emotions].sum(axis=1), 1, atol=1e-5)
    both = column(vrm, "blink", VRM)
    for side in ("Left", "Right"):
        lid = both + column(vrm, f"blink{side}", VRM)
        np.testing.assert_allclose(lid, column(arkit, f"eyeBlink{side}"), atol=1e-6)


# What a face does, and what comes of it


def opened(jaw: float, gap: float) -> NDArray[np.float64]:
    """A jaw lowered by so many pixels and lips that are so far apart."""
    move = np.zeros((68, 2))
    move[[6, 7, 8, 9, 10], 1] = jaw
    move[[56, 57, 58, 65, 66, 67], 1] = min(jaw, gap) if gap else jaw
    move[[50, 51, 52, 61, 62, 63], 1] = move[66, 1] - gap
    return move


def test_a_jaw_opens_to_1_and_mouth_close_closes_its_lips_again() -> None:
    found = named(RIG, opened(8, 0))
    assert 0.2 < found["jawOpen"] < 0.5
    assert found["mouthClose"] == pytest.approx(found["jawOpen"], abs=0.01)
    assert "mouthClose" not in named(RIG, opened(8, 10))
    assert named(RIG, opened(24, 24))["jawOpen"] == pytest.approx(1, abs=0.05)


def test_lengths_are_shares_of_the_faces_own() -> None:
    """Eyes further apart: the same move is less. A wider mouth: the same narrowing is less."""
    far = NEUTRAL.copy()
    for points, x in ((range(36, 42), -8), (range(42, 48), 8)):
        far[list(points), 0] += x
    wide = NEUTRAL.copy()
    wide[48, 0], wide[60, 0], wide[54, 0], wide[64, 0] = 90, 93, 166, 163
    narrow = np.zeros((68, 2))
    narrow[[48, 60], 0], narrow[[54, 64], 0] = 3, -3
    usual = named(RIG, opened(12, 12))["jawOpen"], named(RIG, narrow)["mouthPucker"]
    identity = Identity.from_points(far)
    share = np.ptp(NEUTRAL[[36, 45], 0]) / np.ptp(identity.canonical[[36, 45], 0])
    assert share < 0.995
    jaw = named(Rig(identity), opened(12, 12))["jawOpen"]
    assert jaw == pytest.approx(usual[0] * share, rel=1e-4)
    pucker = named(Rig(Identity.from_points(wide)), narrow)["mouthPucker"]
    assert pucker == pytest.approx(usual[1] * np.ptp(NEUTRAL[[48, 54, 60, 64], 0]) / 76, rel=0.1)


def test_an_identity_with_shut_eyes_and_no_lips_has_coefficients_too() -> None:
    shut = NEUTRAL.copy()
    shut[[37, 38, 43, 44], 1] = shut[[41, 40, 47, 46], 1]
    shut[[50, 51, 52], 1] = shut[[61, 62, 63], 1]
    rig = Rig(Identity.from_points(shut))
    assert not rig.arkit52(np.zeros((1, 68, 2))).any()
    lids = np.zeros((68, 2))
    lids[[37, 38, 43, 44], 1] = -0.3
    assert 0 < named(rig, lids)["eyeWideLeft"] < 0.5


def test_a_pursed_mouth_that_is_closed_is_no_p() -> None:
    closed = opened(6, 0)
    closed[[61, 62, 63, 50, 51, 52], 1] += 1.5
    pursed = closed.copy()
    pursed[[48, 60], 0], pursed[[54, 64], 0] = 4, -4
    spoken = RIG.visemes(np.stack([closed, pursed]))
    pp, ou = column(spoken, "PP", VISEMES), column(spoken, "ou", VISEMES)
    assert pp[0] > 0.9 and ou[0] < 0.1
    assert pp[1] < 0.5 < ou[1]


def test_a_narrow_mouth_is_a_pucker_when_closed_and_a_funnel_when_open() -> None:
    narrow = np.zeros((68, 2))
    narrow[[48, 60], 0], narrow[[54, 64], 0] = 4, -4
    closed, open_ = named(RIG, narrow), named(RIG, narrow + opened(5, 8))
    assert closed["mouthPucker"] > 0.6 and "mouthFunnel" not in closed
    assert open_["mouthFunnel"] > 0.6 and "mouthPucker" not in open_
    spoken = dict(zip(VISEMES, RIG.visemes((narrow + opened(5, 8))[None])[0], strict=True))
    assert spoken["oh"] + spoken["ou"] > 0.7


@pytest.mark.parametrize(
    ("emotion", "up", "down"),
    [
        ("happy", ["mouthSmileLeft", "mouthSmileRight", "eyeSquintLeft"], ["mouthFrownLeft"]),
        ("angry", ["browDownLeft", "browDownRight", "eyeSquintLeft"], ["browInnerUp"]),
        ("surprised", ["browInnerUp", "browOuterUpLeft", "eyeWideRight"], ["browDownLeft"]),
        ("sad", ["mouthFrownLeft", "mouthFrownRight"], ["mouthSmileLeft"]),
        ("fear", ["browInnerUp", "eyeWideLeft"], ["browDownLeft", "mouthSmileLeft"]),
        ("disgusted", ["browDownLeft"], ["mouthSmileLeft", "eyeWideLeft"]),
        ("contempt", ["mouthSmileRight"], ["mouthSmileLeft"]),
    ],
)
def test_the_emotion_dial_shows(emotion: str, up: list[str], down: list[str]) -> None:
    found = named(RIG, displacement(vector({emotion: 1.0})))
    for name in up:
        assert found.get(name, 0) > 0.3, name
    for name in down:
        assert found.get(name, 0) < 0.05, name
    same = {"happy", "angry", "sad", "surprised"} & {emotion}
    shown = dict(zip(VRM, RIG.vrm(displacement(vector({emotion: 1.0}))[None])[0], strict=True))
    assert all(shown[n] > 0.4 for n in same)
