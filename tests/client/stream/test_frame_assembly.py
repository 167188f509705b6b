"""Frames that carry coefficients: whole, in order, once, through both encodings and cut lines."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import Frame, connect
from client.stream.frame_assembly import FrameAssembler
from client.stream.memory import MemoryTransport
from kfusion import wire
from kfusion.coefficients import ARKIT52, VRM, Rig
from kfusion.errors import BadMessage
from kfusion.landmarks import NEUTRAL, NEUTRAL_IDENTITY, Identity
from tests.client.cut_connections import CutConnections
from tests.client.events import all_events, frame_numbers, of_type, without_connections
from tests.client.memory_server import MemoryServer
from tests.client.scripts import run_script
from tests.conftest import RunningServer, voice

OUTPUTS: tuple[wire.Output, ...] = ("points", "arkit52", "vrm")
ALL: Any = {"outputs": OUTPUTS, "mode": "file", "format": "f32le"}


def memory() -> MemoryTransport:
    return MemoryTransport(MemoryServer())


async def said(transport: Any, seconds: float = 1.5, **options: Any) -> list[Frame]:
    where = transport if isinstance(transport, str) else "memory"
    other = {} if isinstance(transport, str) else {"transport": transport}
    async with connect(where, **other, **options) as face:
        speaking = asyncio.create_task(speak(face, seconds))
        frames = [frame async for frame in face.frames()]
        await speaking
    return frames


async def speak(face: Any, seconds: float) -> None:
    await face.send(voice(seconds))
    await face.end()


def stacked(frames: list[Frame], name: str) -> Any:
    return np.stack([getattr(frame, name) for frame in frames])


# Through the SDK


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["json", "binary"])
async def test_frames_carry_what_was_asked_for_and_it_is_that_of_their_points(
    encoding: Any,
) -> None:
    own = Identity.from_points(2 * NEUTRAL + 30)
    frames = await said(memory(), encoding=encoding, identity=own.points, **ALL)
    assert [f.n for f in frames] == list(range(45))
    rig = Rig(own)
    moved = rig.displacement(stacked(frames, "points"))
    np.testing.assert_allclose(stacked(frames, "arkit52"), rig.arkit52(moved), atol=1e-4)
    np.testing.assert_allclose(stacked(frames, "vrm"), rig.vrm(moved), atol=1e-4)
    assert frames[0].arkit52 is not None and frames[0].arkit52.dtype == np.float32
    assert stacked(frames, "arkit52")[:, ARKIT52.index("jawOpen")].max() > 0.1


@pytest.mark.asyncio
async def test_the_names_are_those_of_the_answer_to_the_start() -> None:
    async with connect("memory", transport=memory(), outputs=["vrm", "arkit52", "vrm"]) as face:
        assert face.ready.outputs["arkit52"] == list(ARKIT52)
        assert face.ready.outputs["vrm"] == list(VRM)
        assert list(face.ready.outputs) == ["points", "arkit52", "vrm"]


@pytest.mark.asyncio
@pytest.mark.parametrize("outputs", [(), ("points",), ("vrm",)])
async def test_points_always_come_and_the_rest_only_if_asked_for(outputs: Any) -> None:
    for frame in await said(memory(), 0.3, outputs=outputs, mode="file"):
        assert frame.points.shape == (68, 2) and frame.arkit52 is None
        assert (frame.vrm is None) == ("vrm" not in outputs)


@pytest.mark.asyncio
async def test_life_moves_a_face_and_a_seed_moves_it_otherwise() -> None:
    plain_, one, same, other = [
        stacked(await said(memory(), 3.0, life=life, seed=seed, mode="file"), "points")
        for life, seed in ((0.0, 1), (1.0, 1), (1.0, 1), (1.0, 2))
    ]
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - plain_).max() > 0.2 < np.abs(one - other).max()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "options",
    [{"outputs": ("visemes",)}, {"outputs": "vrm"}, {"life": 1.5}, {"life": -0.1}, {"seed": 1.5}],
)
async def test_what_no_stream_has_is_refused_before_a_server_is_asked(options: Any) -> None:
    transport = memory()
    with pytest.raises(BadMessage):
        async with connect("memory", transport=transport, **options):
            pass
    assert not transport.sent


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["json", "binary"])
async def test_a_server_on_the_network_says_the_same_as_its_session_in_memory(
    synthetic_server: RunningServer, encoding: Any
) -> None:
    options: Any = ALL | {"encoding": encoding, "life": 0.7, "seed": 4}
    network = await said(synthetic_server.url, **options)
    within = await said(memory(), **options)
    for name in OUTPUTS:
        np.testing.assert_allclose(stacked(network, name), stacked(within, name), atol=1e-4)


# Through connections that are cut


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12)), min_size=1, max_size=5),
    st.integers(2, 14), st.integers(1, 6), st.sampled_from(["json", "binary"]),
)  # fmt: skip
def test_through_cut_connections_every_output_comes_once(
    cuts: list[tuple[int, int]], first: int, capacity: int, encoding: str
) -> None:
    script: list[Any] = [
        ("sound", 9_000), ("mark", "a"), ("identity", "me"), ("sound", 5_000), ("reset",),
        ("sound", 3_000), ("mark", "b"),
    ]  # fmt: skip
    options: dict[str, Any] = {"mode": "file", "encoding": encoding, "outputs": OUTPUTS, "life": 1}
    cut = CutConnections(MemoryServer(resume_s=30), [(first, first), *cuts], capacity)
    whole = asyncio.run(
        run_script(script, CutConnections(MemoryServer(resume_s=30), []), **options)
    )
    told = asyncio.run(run_script(script, cut, **options))
    assert without_connections(told) == without_connections(whole)
    assert frame_numbers(told) == list(range(frame_numbers(told)[-1] + 1))
    for name in OUTPUTS:
        np.testing.assert_array_equal(
            stacked(of_type(Frame, told), name), stacked(of_type(Frame, whole), name)
        )


# What no server should say


def ready(**outputs: list[str]) -> wire.Ready:
    return wire.ready(
        wire.Start(), session="", resume="", model=wire.Model("", ""), emotion={}, identity=None,
        limits=wire.Limits(), outputs=outputs,
    )  # fmt: skip


def block(output: wire.Output, first: int, count: int, width: int) -> wire.FrameBlock:
    return wire.FrameBlock(output, first, 0, np.zeros((count, width), np.float32))


def assembler() -> FrameAssembler:
    found = FrameAssembler(("points", "vrm"))
    found.connected(ready(points=wire.POINT_NAMES, vrm=list(VRM)))
    return found


def test_a_server_that_gives_less_than_was_asked_for_is_told_so() -> None:
    with pytest.raises(BadMessage, match="ready without vrm, which was asked for; it gives points"):
        FrameAssembler(("points", "vrm")).connected(ready(points=wire.POINT_NAMES))


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        ([("points", 0, 2, 136), ("vrm", 0, 1, 14)], "1 of vrm from frame 0, where 2 from 0 are"),
        ([("points", 0, 2, 136), ("points", 2, 2, 136)], "where 2 from 0 are unfinished"),
        ([("points", 0, 1, 136), ("vrm", 0, 1, 13)], "frame 0 has 13 numbers of vrm; wanted 14"),
    ],
)
def test_outputs_that_do_not_fit_together_are_no_frames(blocks: Any, says: str) -> None:
    whole = assembler()
    with pytest.raises(BadMessage, match=says):
        for one in blocks:
            assert whole.add_block(block(*one)) == []


def test_outputs_in_any_order_are_one_frame_and_others_are_passed_over() -> None:
    whole = assembler()
    assert whole.add_block(block("vrm", 3, 2, 14)) == []
    assert whole.add_block(block("arkit52", 3, 2, 52)) == []
    assert [f.n for f in whole.add_block(block("points", 3, 2, 136))] == [3, 4]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (wire.Frame(4, 0.1, [0.0] * 136), "frame 4 has 0 numbers of vrm; wanted 14"),
        (wire.Frame(4, 0.1, [0.0] * 135, vrm=[0.0] * 14), "135 numbers of points; wanted 136"),
        (wire.Frame(4, 0.1, vrm=[0.0] * 14), "0 numbers of points; wanted 136"),
    ],
)
def test_a_message_without_all_outputs_is_no_frame(frame: wire.Frame, says: str) -> None:
    with pytest.raises(BadMessage, match=says):
        assembler().from_json(frame)


@pytest.mark.asyncio
async def test_a_partial_frame_is_not_told_and_not_counted() -> None:
    class Halting(MemoryServer):
        """Forgets the second output of the second block."""

        def __call__(self, message: str | bytes) -> Any:
            answers = list(super().__call__(message))
            blocks = [a for a in answers if isinstance(a, bytes)]
            if blocks:
                answers.remove(blocks[3])
            return answers

    asked: Any = {"outputs": ("points", "vrm"), "mode": "file"}
    async with connect("memory", transport=MemoryTransport(Halting()), **asked) as face:
        await face.send(voice(1.0))
        with pytest.raises(BadMessage, match="from frame 6, where 3 from 3 are unfinished"):
            await all_events(face)
        assert face.stream.frames == 3


def test_every_output_of_the_wire_is_one_that_frames_have() -> None:
    frame = Frame(0, 0.0, NEUTRAL_IDENTITY.points.astype(np.float32))
    assert all(hasattr(frame, name) for name in get_args(wire.Output))
