from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from time import process_time
from timeit import repeat

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
    coefficients,
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
    Similarity,
    mirrored,
)
from tests.conftest import folder_of
from training.corpus.clips import at_30fps, face_at_rest, read_points
from training.phones import INDEX, at, read_phones

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
    parts: list[Array] = [
        rig.arkit52(displacement),
        rig.vrm(displacement),
        rig.visemes(displacement),
    ]
    return np.concatenate(parts, axis=1)


def named(rig: Rig, displacement: NDArray[np.float64]) -> dict[str, float]:
    """ARKit's coefficients of one frame, those above 0."""
    values = rig.arkit52(displacement[None])[0]
    return {name: float(v) for name, v in zip(ARKIT52, values, strict=True) if v > 0}


def column(values: Array, name: str, names: tuple[str, ...] = ARKIT52) -> Array:
    return values[:, names.index(name)]


def sides(values: Array, name: str) -> Array:
    return (column(values, f"{name}Left") + column(values, f"{name}Right")) / np.float32(2)


# Names


def test_every_name_comes_once_and_live_link_face_and_vrm_0_know_the_same() -> None:
    for names in (ARKIT52, LIVE_LINK_FACE, VRM, VISEMES):
        assert len(set(names)) == len(names)
    assert (len(ARKIT52), len(LIVE_LINK_FACE), len(VISEMES)) == (52, 61, 15)
    assert sorted(n[0].lower() + n[1:] for n in LIVE_LINK_FACE[:52]) == sorted(ARKIT52)
    assert list(ARKIT52) == sorted(ARKIT52)  # the order of Apple's header
    assert set(VRM) - set(VRM0) == {"surprised"}


def test_outputs_have_a_value_for_every_name() -> None:
    for name, names in OUTPUTS.items():
        values = coefficients(name, RIG, moves(0, 3))
        assert values.shape == (3, len(names)) and values.dtype == np.float32
    assert np.array_equal(coefficients("arkit52", RIG, moves(1)), RIG.arkit52(moves(1)))
    assert np.array_equal(coefficients("vrm", RIG, moves(1)), RIG.vrm(moves(1)))
    assert RIG.visemes(moves(0, 3)).shape == (3, len(VISEMES))
    assert RIG.arkit52(np.zeros((0, 68, 2))).shape == (0, 52)


def test_live_link_faces_values_are_arkits_in_another_order_and_the_heads_roll() -> None:
    turn = np.exp(0.2j)  # clockwise in the image
    head = Similarity(np.array([[turn.real, -turn.imag], [turn.imag, turn.real]]), np.zeros(2))
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
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = Similarity(turn, np.array([x, -x / 2]))
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
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    head = Similarity(turn, np.array([x, -x / 3]))
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
    rig = Rig(NEUTRAL_IDENTITY)
    make = {"arkit52": rig.arkit52, "vrm": rig.vrm, "visemes": rig.visemes}[name]
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


# Ranges, continuity, cost


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
    felt = [VRM.index(n) for n in ("happy", "angry", "sad", "relaxed", "surprised", "neutral")]
    np.testing.assert_allclose(vrm[:, felt].sum(axis=1), 1, atol=1e-5)
    both = column(vrm, "blink", VRM)
    for side in ("Left", "Right"):
        lid = both + column(vrm, f"blink{side}", VRM)
        np.testing.assert_allclose(lid, column(arkit, f"eyeBlink{side}"), atol=1e-6)


def test_a_hop_of_three_frames_costs_little() -> None:
    frames = moves(1, 3).astype(np.float32)
    for name in OUTPUTS:
        cost = min(
            repeat(
                lambda n=name: coefficients(n, RIG, frames),
                number=20,
                repeat=15,
                timer=process_time,
            )
        )
        assert cost / 20 / 3 < 250e-6  # s a frame; 50e-6 where nothing else runs


# What a face does, and what comes of it


def opened(jaw: float, gap: float) -> NDArray[np.float64]:
    """A jaw lowered by so many pixels and lips that are so far apart."""
    move = np.zeros((68, 2))
    move[[6, 7, 8, 9, 10], 1] = jaw
    move[[56, 57, 58, 65, 66, 67], 1] = min(jaw, gap) if gap else jaw
    move[[50, 51, 52, 61, 62, 63], 1] = move[66, 1] - gap
    return move


def test_a_jaw_that_opens_with_closed_lips_is_closed_again_by_mouth_close() -> None:
    found = named(RIG, opened(8, 0))
    assert 0.2 < found["jawOpen"] < 0.5
    assert found["mouthClose"] == pytest.approx(found["jawOpen"], abs=0.01)
    assert "mouthClose" not in named(RIG, opened(8, 10))


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


def test_vrms_vowels_are_the_visemes() -> None:
    frames = lips_apart_and_together(np.random.default_rng(4), 5000)
    spoken, shown = RIG.visemes(frames), RIG.vrm(frames)
    loud = spoken[:, 1] + spoken[:, 2] == 0
    assert loud.sum() > 20
    for a, b in (("aa", "aa"), ("ih", "ih"), ("ou", "ou"), ("ee", "E"), ("oh", "oh")):
        found = column(shown, a, VRM)[loud]
        np.testing.assert_allclose(found, column(spoken, b, VISEMES)[loud], atol=1e-6)
        assert found.max() > 0.2


def test_the_widest_jaw_of_speech_is_about_1() -> None:
    assert named(RIG, opened(24, 24))["jawOpen"] == pytest.approx(1, abs=0.05)


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


# Real faces


@lru_cache(1)
def acted() -> dict[tuple[str, str], tuple[Array, Array]]:
    """MEAD's speakers and emotions: ARKit's and VRM's coefficients of every frame."""
    folder = folder_of("mead_expressions")
    found: dict[tuple[str, str], tuple[Array, Array]] = {}
    for neutral in sorted(folder.glob("*_neutral_*.npz")):
        speaker = neutral.name.split("_")[0]
        rig = Rig(Identity.from_points(face_at_rest(read_points(neutral)[0])))
        for track in sorted(folder.glob(f"{speaker}_*.npz")):
            moved = rig.displacement(read_points(track)[0])
            found[speaker, track.name.split("_")[2]] = rig.arkit52(moved), rig.vrm(moved)
    assert len(found) == 24
    return found


def of_emotion(name: str) -> list[tuple[Array, Array]]:
    return [values for (_, emotion), values in acted().items() if emotion == name]


def test_real_smiles_are_smiles_and_nothing_else_smiles_as_much() -> None:
    smiles = [float(np.median(sides(a, "mouthSmile"))) for a, _ in of_emotion("happy")]
    assert min(smiles) > 0.3
    for emotion in ("sad", "surprised", "disgusted", "neutral"):
        for arkit, _ in of_emotion(emotion):
            assert np.median(sides(arkit, "mouthSmile")) < 0.15


def test_real_anger_lowers_the_brows_and_tightens_the_eyes_of_all_three() -> None:
    for arkit, vrm in of_emotion("angry"):
        assert np.median(sides(arkit, "browDown")) > 0.6
        assert np.median(sides(arkit, "eyeSquint")) > 0.5
        assert np.median(column(arkit, "browInnerUp")) < 0.05
        assert column(vrm, "angry", VRM).mean() > 0.4


def test_real_surprise_raises_brows_opens_eyes_and_mouth_of_all_three() -> None:
    for (arkit, vrm), (neutral, _) in zip(
        of_emotion("surprised"), of_emotion("neutral"), strict=True
    ):
        assert np.median(column(arkit, "browInnerUp")) > 0.4
        assert np.median(sides(arkit, "eyeWide")) > 0.3
        assert column(arkit, "jawOpen").mean() > 1.5 * column(neutral, "jawOpen").mean()
        assert np.median(sides(arkit, "browDown")) < 0.05
        assert column(vrm, "surprised", VRM).mean() > 0.4


def test_real_sadness_lowers_the_mouths_corners_of_all_three() -> None:
    for (arkit, vrm), (neutral, _) in zip(of_emotion("sad"), of_emotion("neutral"), strict=True):
        frown = sides(arkit, "mouthFrown").mean()
        assert frown > 0.15 and frown > 1.2 * sides(neutral, "mouthFrown").mean()
        assert column(vrm, "sad", VRM).mean() > 0.1
        assert np.median(sides(arkit, "mouthSmile")) < 0.1


def test_the_emotion_acted_shows_most_in_vrm_over_its_four() -> None:
    table = {
        emotion: np.mean([vrm.mean(axis=0) for _, vrm in of_emotion(emotion)], axis=0)
        for emotion in ("happy", "angry", "sad", "surprised", "neutral")
    }
    for emotion in table:
        k = VRM.index(emotion)
        assert max(table, key=lambda other: table[other][k]) == emotion


@lru_cache(1)
def spoken() -> list[tuple[NDArray[np.uint8], Array, Array]]:
    """GRID's speaker: phones, ARKit's coefficients and visemes at 30 fps of every 18th clip."""
    folder = folder_of("grid_s1")
    phones = read_phones(folder.parent / "grid_s1_phones.tsv")
    found: list[tuple[NDArray[np.uint8], Array, Array]] = []
    for track in sorted(folder.glob("*.npz"))[::18]:
        points, fps = read_points(track)
        frames = at_30fps(points, np.arange(len(points)) / fps)
        rig = Rig(Identity.from_points(face_at_rest(points)))
        moved = rig.displacement(frames)
        label = at(phones[track.stem], np.arange(len(frames)) / 30)
        found.append((label, rig.arkit52(moved), rig.visemes(moved)))
    return found


def test_speech_opens_the_jaw_by_up_to_six_tenths_and_moves_little_else() -> None:
    arkit = np.concatenate([a for _, a, _ in spoken()])
    jaw = column(arkit, "jawOpen")
    assert 0.3 < np.percentile(jaw, 95) < 0.5
    assert (jaw < 0.6).mean() > 0.99
    for name in ("mouthSmile", "browDown", "browOuterUp", "mouthStretch", "mouthPress"):
        assert np.percentile(sides(arkit, name), 90) < 0.2, name
    for name in ("browInnerUp", "jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        assert np.percentile(column(arkit, name), 90) < 0.2, name


def test_people_who_are_filmed_blink_and_their_blinks_reach_1() -> None:
    blinks = sum(
        int(((eye[1:] > 0.8) & (eye[:-1] <= 0.8)).sum())
        for eye in (sides(a, "eyeBlink") for _, a, _ in spoken())
    )
    minutes = sum(len(a) for _, a, _ in spoken()) / 1800
    assert 8 < blinks / minutes < 60


def test_p_b_and_m_are_seen_far_more_often_than_by_chance() -> None:
    """The largest viseme is PP in most frames of p, b, m and in few others; of the closures nearly
    every one is seen within a frame."""
    lips = [INDEX[name] for name in "PBM"]
    labels = np.concatenate([label for label, _, _ in spoken()])
    largest = np.concatenate([v.argmax(axis=1) for _, _, v in spoken()])
    pp = largest == VISEMES.index("PP")
    here = np.isin(labels, lips)
    assert pp[here].mean() > 0.5
    assert pp[here].mean() > 3.5 * pp[~here].mean()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], here.astype(int), [0]])))
    seen = [pp[max(0, a - 1) : b + 1].any() for a, b in zip(edges[::2], edges[1::2], strict=True)]
    assert len(seen) > 40 and np.mean(seen) > 0.85


def test_closures_have_mouth_close_and_f_and_v_their_own_viseme() -> None:
    labels = np.concatenate([label for label, _, _ in spoken()])
    arkit = np.concatenate([a for _, a, _ in spoken()])
    visemes = np.concatenate([v for _, _, v in spoken()])
    lips = np.isin(labels, [INDEX[name] for name in "PBM"])
    vowels = np.isin(labels, [INDEX[name] for name in ("AY", "EH", "EY", "IY")])
    close = column(arkit, "mouthClose")
    assert close[lips].mean() > 3 * close[vowels].mean()
    ff = column(visemes, "FF", VISEMES)
    teeth = np.isin(labels, [INDEX["F"], INDEX["V"]])
    assert ff[teeth].mean() > 4 * ff[~teeth].mean()


def test_vowels_are_told_apart_by_opening_and_rounding() -> None:
    labels = np.concatenate([label for label, _, _ in spoken()])
    visemes = np.concatenate([v for _, _, v in spoken()])

    def mean(name: str, *phones: str) -> float:
        here = np.isin(labels, [INDEX[p] for p in phones])
        return float(column(visemes, name, VISEMES)[here].mean())

    open_, high, round_ = ("AA", "AE", "AY"), ("IY", "IH"), ("UW", "W", "AO", "OW")
    assert mean("aa", *open_) > 1.3 * mean("aa", *high) > 0
    assert mean("ih", *high) > 1.5 * mean("ih", *open_) > 0
    assert mean("aa", *open_) > 3 * mean("aa", *round_)
    rounded = mean("oh", *round_) + mean("ou", *round_)
    assert rounded > 3 * (mean("oh", *open_, *high) + mean("ou", *open_, *high))
