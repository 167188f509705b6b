"""A sound file through a server, as fast as it goes."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from client.cli.options import stream_as_asked
from client.sdk import Face
from client.sinks.bridge import Bridge
from client.stream.events import Frame, Reconnecting, Resumed
from kfusion import wire
from kfusion.audio import Samples
from kfusion.errors import KFusionError
from kfusion.landmarks import COUNT

Link = Reconnecting | Resumed


async def animate(
    face: Face,
    samples: Samples,
    on_frame: Callable[[Frame], Awaitable[object]],
    on_link: Callable[[Link], object] = lambda _: None,
) -> wire.End | None:
    """Sends all of ``samples`` while reading, so that neither side waits for ever."""

    async def send() -> None:
        await face.send(samples)
        await face.end()

    sending = asyncio.create_task(send())
    ended: wire.End | None = None
    try:
        async for event in face.events():
            if isinstance(event, Frame):
                await on_frame(event)
            elif isinstance(event, wire.End):
                ended = event
            elif isinstance(event, (Reconnecting, Resumed)):
                on_link(event)
            elif isinstance(event, wire.Error):
                raise KFusionError(f"the server refused: {event.message} ({event.code})")
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    return ended


def faces_at(frames: Iterable[Frame], count: int) -> NDArray[np.float32]:
    """(count, 68, 2): the face at every frame; one that was dropped shows the one before."""
    faces = np.zeros((count, COUNT, 2), np.float32)
    known = np.full(count, -1)
    for frame in frames:
        if frame.n < count:
            faces[frame.n], known[frame.n] = frame.points, frame.n
    if not (known >= 0).any():
        return faces[:0]
    last = np.maximum.accumulate(known)
    last[last < 0] = known[known >= 0][0]
    return faces[last]


async def stream_file(
    a: argparse.Namespace,
    samples: Samples,
    rate: int,
    bridge: Bridge,
    on_frame: Callable[[Frame], Awaitable[object]],
    on_link: Callable[[Link], object],
) -> wire.End | None:
    """Opens a stream as ``a`` asks, and animates ``samples``, which go out as they were read."""
    async with (
        bridge,
        stream_as_asked(a, bridge, rate=rate, format="f32le", mode="file") as face,
    ):
        return await animate(face, samples, on_frame, on_link)
