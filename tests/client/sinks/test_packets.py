"""The packets of sinks: what independent readers read in them, and that they do not change."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_packet import OscPacket

from client.sinks import open_sink
from client.sinks.livelink import LiveLinkSink, packed
from client.sinks.openseeface import Head, OpenSeeFaceSink
from client.sinks.vmc import VmcSink
from client.stream.events import Frame
from kfusion.coefficients import ARKIT52, VRM, VRM0
from kfusion.emotion import displacement, vector
from kfusion.landmarks import NEUTRAL, NEUTRAL_IDENTITY, lip_gap, mirrored
from kfusion.runtime import Animator, SyntheticEngine
from tests.client.sinks.packets import (
    GOLDEN_TIME,
    Faces,
    OpenSeeFacePacket,
    frame,
    opened,
    osc,
    read_live_link,
    read_openseeface,
    read_vmc,
)
from tests.conftest import voice

GOLDEN = Path(__file__).parents[2] / "golden"
HEAD = Head(NEUTRAL_IDENTITY)


def packet_of(points: Faces) -> OpenSeeFacePacket:
    return read_openseeface(HEAD.packet(points, GOLDEN_TIME))


# OpenSeeFace


def test_a_face_at_rest_looks_straight_ahead_from_the_middle() -> None:
    p = packet_of(NEUTRAL)
    assert (p.time, p.id, p.size, p.success, p.error) == (GOLDEN_TIME, 0, [640, 480], 1, 0)
    assert (p.right_open, p.left_open) == (1, 1)
    assert p.confidence == [1] * 68
    np.testing.assert_allclose(list(p.features.values()), 0, atol=1e-6)
    # What OpenSee.cs makes of a head that nothing turns: no roll, no pitch.
    assert (p.euler[2] - 90) % 360 == 0 and -(p.euler[0] + 180) % 360 == 0 and p.euler[1] == 0
    np.testing.assert_allclose(p.quaternion, [-(0.5**0.5), 0.5**0.5, 0, 0], atol=1e-7)
    assert (p.points > 0).all() and (p.points < p.size).all()
    across, down = p.points[:, 0], p.points[:, 1]
    assert across.min() < 320 < across.max() and down[8] == down.max()


def test_the_68_points_are_those_of_its_layout() -> None:
    p = packet_of(NEUTRAL)
    pairs = [(0, 16), (17, 26), (36, 45), (48, 52), (49, 51), (56, 54), (57, 53), (58, 62),
             (59, 61), (65, 63), (66, 67)]  # fmt: skip
    for a, b in pairs:  # mirrored in the image and in space
        np.testing.assert_allclose(p.points[a] + p.points[b], [640, 2 * p.points[a, 1]], atol=1e-3)
        np.testing.assert_allclose(p.points3d[a] * [-1, 1, 1], p.points3d[b], atol=1e-6)
    for middle in (8, 27, 30, 33, 50, 55, 60, 64):
        assert p.points[middle, 0] == pytest.approx(320)
    lips = p.points[48:66]
    corners, inner = lips[[10, 14]], lips[[11, 12, 13, 15, 16, 17]]
    assert (corners[0, 0] < inner[:, 0]).all() and (inner[:, 0] < corners[1, 0]).all()
    assert p.points[50, 1] < p.points[60, 1] <= p.points[64, 1] < p.points[55, 1]


@pytest.mark.parametrize("degrees", [-12.0, 3.0, 25.0])
def test_a_head_that_rolls_and_moves_is_where_its_pose_says(degrees: float) -> None:
    turn = np.exp(1j * np.radians(degrees))
    z = (NEUTRAL - 128) @ np.array([1, 1j]) * turn * 1.2
    p = packet_of(np.stack([z.real + 150, z.imag + 120], axis=1))
    assert p.euler[2] == pytest.approx(90 - degrees, abs=1e-3)
    # The camera's axes are down, right and away; its focal length is the image's width.
    x, y, away = p.translation
    np.testing.assert_allclose(
        [320 + 640 * y / away, 240 + 640 * x / away], p.points[30], atol=1e-2
    )
    qx, qy = p.quaternion[:2]
    matrix = np.array([[2 * qx * qx - 1, 2 * qx * qy], [2 * qx * qy, 2 * qy * qy - 1]])
    nose, brow = p.points3d[30, :2] * [1, -1], p.points3d[27, :2] * [1, -1]  # its y is up
    up = matrix @ (brow - nose)
    image_up = (p.points[27] - p.points[30])[::-1]
    np.testing.assert_allclose(up / np.hypot(*up), image_up / np.hypot(*image_up), atol=1e-3)
    np.testing.assert_allclose(p.points3d, packet_of(NEUTRAL).points3d, atol=1e-5)
    np.testing.assert_allclose(list(p.features.values()), 0, atol=1e-4)


def test_features_have_the_signs_that_openseeface_gives_them() -> None:
    def moved(**weights: float) -> dict[str, float]:
        face = NEUTRAL + displacement(vector(weights)) * 91
        return packet_of(face).features

    happy, angry, surprised = moved(happy=1), moved(angry=1), moved(surprised=1)
    for side in "lr":
        assert happy[f"mouth_corner_inout_{side}"] > 0.2  # out
        assert happy[f"mouth_corner_updown_{side}"] < -0.1  # up is negative
        assert angry[f"eyebrow_updown_{side}"] < -0.2
        assert angry[f"eyebrow_steepness_{side}"] < 0  # the inner end is down
        assert surprised[f"eyebrow_updown_{side}"] > 0.2
        assert surprised[f"eye_{side}"] > 0
    assert happy["mouth_wide"] > 0.2


def test_a_shut_eye_is_shut_on_its_own_side() -> None:
    wink = NEUTRAL.copy()
    wink[[43, 44], 1] = wink[[47, 46], 1]
    p = packet_of(wink)
    assert (p.features["eye_l"], p.left_open) == (-1, 0)
    assert (p.features["eye_r"], p.right_open) == (0, 1)


@given(st.integers(0, 2**32 - 1))
def test_the_mirror_image_has_left_and_right_changed_round(seed: int) -> None:
    face = NEUTRAL + np.random.default_rng(seed).normal(0, 2, (68, 2))
    ours, other = packet_of(face).features, packet_of(mirrored(face)).features
    for name, value in ours.items():
        changed = {"_l": "_r", "_r": "_l"}.get(name[-2:], "")
        partner = name[:-2] + changed if changed else name
        assert other[partner] == pytest.approx(value, abs=1e-4)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 40.0, 1e6]))
def test_any_points_at_all_make_a_packet_of_numbers(seed: int, size: float) -> None:
    p = packet_of(NEUTRAL + np.random.default_rng(seed).normal(0, size, (68, 2)))
    features = list(p.features.values())
    assert np.isfinite(p.points).all() and np.isfinite(p.points3d).all()
    assert np.abs(features).max() <= 1 and min(p.right_open, p.left_open) >= 0


def test_the_coordinates_of_an_identity_are_those_of_its_frames() -> None:
    own = 2 * NEUTRAL + 300
    sink = open_sink("osf://127.0.0.1:9", own)
    assert isinstance(sink, OpenSeeFaceSink)
    p = read_openseeface(sink.packet(Frame(0, 0.0, own.astype(np.float32))))
    sink.close()
    np.testing.assert_allclose(p.points[30], [320, NEUTRAL[30, 1] * 480 / 256], atol=1e-2)
    assert np.abs(list(p.features.values())).max() < 1e-4


def test_every_readers_figure_for_an_open_mouth_follows_the_gap_of_the_inner_lips() -> None:
    faces = Animator(SyntheticEngine()).animate(voice(3.0), 16_000)
    gap = lip_gap(faces)
    packets = [packet_of(face) for face in faces]
    for figure in ([p.features["mouth_open"] for p in packets], [p.mouth_gap for p in packets]):
        assert np.corrcoef(figure, gap)[0, 1] > 0.97
    solid = np.array([p.points3d for p in packets])
    assert np.corrcoef((solid[:, 64] - solid[:, 60])[:, 1], gap)[0, 1] > 0.95
    frames = [frame(face) for face in faces]
    jaw = [read_live_link(b"\6" + 8 * b"\0" + packed(f, 0, 0.0)).values for f in frames]
    lips_apart = [v["JawOpen"] - v["MouthClose"] for v in jaw]
    assert np.corrcoef(lips_apart, gap)[0, 1] > 0.7


# VMC


def test_expressions_go_by_the_names_of_their_models_version() -> None:
    f = frame(opened(12))
    assert f.vrm is not None
    for version, names in (
        (0, "A I U E O Joy Angry Sorrow Fun Blink Blink_L Blink_R Neutral"),
        (1, "aa ih ou ee oh happy angry sad relaxed surprised blink blinkLeft blinkRight neutral"),
    ):
        sink = open_sink(f"vmc://127.0.0.1:9?vrm={version}")
        assert isinstance(sink, VmcSink)
        messages = osc(sink.packet(f))
        sink.close()
        values = read_vmc(sink.packet(f))
        assert list(values) == names.split()
        assert [a for a, _ in messages[len(values) :]] == [
            "/VMC/Ext/Blend/Apply", "/VMC/Ext/OK", "/VMC/Ext/T"
        ]  # fmt: skip
        assert dict(messages)["/VMC/Ext/OK"] == [1]
        for name, ours in zip(VRM, f.vrm, strict=True):
            theirs = name if version else VRM0.get(name)
            assert theirs is None or values[theirs] == pytest.approx(float(ours))
        assert values["ih" if version else "I"] > 0.3
        assert len(sink.packet(f)) < 1400  # one datagram, unfragmented


# Live Link Face


def test_a_subject_appears_with_apples_52_and_the_heads_roll() -> None:
    turn = np.exp(1j * np.radians(9))
    z = (opened(10) - 128) @ np.array([1, 1j]) * turn
    f = frame(np.stack([z.real, z.imag], axis=1) + 128, n=5)
    sink = LiveLinkSink("livelink://127.0.0.1", "127.0.0.1", 9, "Ada", NEUTRAL_IDENTITY)
    p, later = read_live_link(sink.packet(f)), read_live_link(sink.packet(frame(n=12)))
    sink.close()
    assert (p.version, p.subject, p.rate, p.subframe) == (6, "Ada", (30, 1), 0)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", p.device)
    assert 0 <= p.frame < 86_400 * 30 and later.frame == p.frame + 7
    assert p.values["HeadRoll"] == pytest.approx(9 / 180, abs=1e-4)
    assert f.arkit52 is not None
    for name, value in zip(ARKIT52, f.arkit52, strict=True):
        assert p.values[name[0].upper() + name[1:]] == pytest.approx(float(value))


def test_two_subjects_are_two_devices_and_one_is_always_the_same() -> None:
    devices: list[str] = []
    for subject in ("Ada", "Bob", "Ada"):
        sink = open_sink(f"livelink://127.0.0.1:9?subject={subject}")
        assert isinstance(sink, LiveLinkSink)
        devices.append(read_live_link(sink.packet(frame())).device)
        sink.close()
    assert devices[0] == devices[2] != devices[1]


# Golden packets; tests/golden/README.md says how they were made


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


def golden_frame() -> Frame:
    """Numbers that float32 holds exactly."""
    face = np.round(opened(8) * 4) / 4
    face[48, 0] -= 2
    k = np.arange(52)
    shapes, expressions = (k / 64).astype(np.float32), (k[: len(VRM)] / 16).astype(np.float32)
    return Frame(75, 2.5, face.astype(np.float32), shapes, expressions)


def test_openseeface_packets_are_as_they_always_were() -> None:
    face = golden_frame().points
    packet, before = HEAD.packet(face, GOLDEN_TIME), golden("openseeface")
    assert packet[:45] == before[:45]
    ours, kept = read_openseeface(packet), read_openseeface(before)
    for name in ("quaternion", "euler", "translation", "points", "points3d", "confidence"):
        np.testing.assert_allclose(getattr(ours, name), getattr(kept, name), rtol=1e-6, atol=1e-6)
    assert ours.features == pytest.approx(kept.features, abs=1e-6)
    assert kept.features["mouth_open"] == pytest.approx(8 / 14, abs=0.02)


@pytest.mark.parametrize("version", [0, 1])
def test_vmc_bundles_are_as_they_always_were(version: int) -> None:
    sink = VmcSink("vmc://127.0.0.1", "127.0.0.1", 9, vrm1=version == 1)
    assert sink.packet(golden_frame()) == golden(f"vmc{version}")
    sink.close()
    (last,) = [m.message for m in OscPacket(golden(f"vmc{version}")).messages][-1:]
    assert (last.address, last.params) == ("/VMC/Ext/T", [2.5])


def test_live_link_packets_are_as_they_always_were() -> None:
    sink = LiveLinkSink("livelink://127.0.0.1", "127.0.0.1", 9, "KFusion", NEUTRAL_IDENTITY)
    sink.close()
    assert sink.head + packed(golden_frame(), 1_296_075, np.pi / 8) == golden("livelink")
    kept = read_live_link(golden("livelink"))
    assert (kept.frame, kept.subject, kept.values["HeadRoll"]) == (1_296_075, "KFusion", 0.125)
    assert kept.values["JawOpen"] == ARKIT52.index("jawOpen") / 64
