"""Frames of several outputs: binary blocks and JSON messages -> whole frames."""

from typing import Any

import numpy as np
import pytest

from client import Frame, connect
from client.stream.frame_assembly import FrameAssembler
from kfusion import wire
from kfusion.coefficients import ARKIT52, VRM, Rig
from kfusion.errors import BadMessage
from kfusion.landmarks import NEUTRAL, Identity
from tests.client.memory_server import memory_transport
from tests.conftest import voice


def stacked(frames: list[Frame], name: str) -> Any:
    return np.stack([getattr(frame, name) for frame in frames])


@pytest.mark.asyncio
@pytest.mark.parametrize("encoding", ["json", "binary"])
async def test_frames_have_the_requested_outputs(encoding: Any) -> None:
    own = Identity.from_points(2 * NEUTRAL + 30)
    async with connect(
        "memory", transport=memory_transport(), encoding=encoding, identity=own.points,
        mode="file", format="f32le", outputs=("points", "arkit52", "vrm"),
    ) as face:  # fmt: skip
        await face.send(voice(1.5))
        await face.end()
        frames = [frame async for frame in face.frames()]
    outputs = face.ready.outputs
    assert (outputs["arkit52"], outputs["vrm"]) == (list(ARKIT52), list(VRM))
    assert [frame.n for frame in frames] == list(range(45))
    rig = Rig(own)
    moved = rig.displacement(stacked(frames, "points"))
    np.testing.assert_allclose(stacked(frames, "arkit52"), rig.arkit52(moved), atol=1e-4)
    np.testing.assert_allclose(stacked(frames, "vrm"), rig.vrm(moved), atol=1e-4)
    assert frames[0].arkit52 is not None and frames[0].arkit52.dtype == np.float32
    assert stacked(frames, "arkit52")[:, ARKIT52.index("jawOpen")].max() > 0.1


# Messages that make no frame


def ready(**outputs: list[str]) -> wire.Ready:
    return wire.ready(
        wire.Start(), session="", resume="", model=wire.Model("", ""), emotion={}, identity=None,
        limits=wire.Limits(), outputs=outputs,
    )  # fmt: skip


def block(output: wire.Output, first: int, count: int, width: int) -> wire.FrameBlock:
    return wire.FrameBlock(output, first, 0, np.zeros((count, width), np.float32))


def points_and_vrm() -> FrameAssembler:
    assembler = FrameAssembler(("points", "vrm"))
    assembler.connected(ready(points=wire.POINT_NAMES, vrm=list(VRM)))
    return assembler


def test_a_server_without_a_requested_output_is_refused() -> None:
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
    frames = points_and_vrm()
    with pytest.raises(BadMessage, match=says):
        for one in blocks:
            assert frames.add_block(block(*one)) == []


def test_outputs_come_in_any_order_and_others_are_ignored() -> None:
    frames = points_and_vrm()
    assert frames.add_block(block("vrm", 3, 2, 14)) == []
    assert frames.add_block(block("arkit52", 3, 2, 52)) == []
    assert [f.n for f in frames.add_block(block("points", 3, 2, 136))] == [3, 4]


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
        points_and_vrm().from_json(frame)
