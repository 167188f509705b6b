"""A sound file through a server: frames to JSON Lines, and a preview video."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.asked import stream_as_asked
from client.events import Frame, Reconnecting, Resumed
from client.sdk import Face
from client.sinks.bridge import Bridge
from client.status import link_line
from kfusion import wire
from kfusion.audio import Samples, read_audio
from kfusion.errors import KFusionError
from kfusion.landmarks import COUNT, Points
from kfusion.stream import frame_count

LONG_S: Final = 10.0
"""Files longer than this show their progress."""


def progress(what: str, total: int, *, shown: bool) -> Any:
    """A tqdm bar on a terminal's standard error; it counts frames."""
    from tqdm import tqdm

    hidden = not (shown and sys.stderr.isatty())
    return tqdm(total=total, desc=what, unit="frame", file=sys.stderr, disable=hidden, leave=False)


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


def run(a: argparse.Namespace) -> None:
    """The command ``file``. Raises a :class:`~kfusion.errors.KFusionError` that says why not."""
    if a.video is not None:
        from client import video  # tells at once what is missing

        video.check()
    samples, rate = read_audio(a.audio)
    total = frame_count(len(samples), rate)
    shown = len(samples) > LONG_S * rate and a.out != "-"
    frames: list[Frame] = []
    with ExitStack() as undo:
        bridge = Bridge.open(a.out, a.to, a.face, hop=a.hop, skips=False)
        undo.callback(bridge.discard)
        with progress("animating", total, shown=shown) as bar:

            async def take(frame: Frame) -> None:
                await bridge.put(frame)
                if a.video is not None:
                    frames.append(frame)
                bar.update(1)

            def link(event: Link) -> None:
                if not bar.disable:
                    bar.set_postfix_str("" if isinstance(event, Resumed) else link_line(event))
                elif isinstance(event, Resumed) or event.attempt == 1:
                    print(f"kfusion-client: {link_line(event)}", file=sys.stderr)

            ended = asyncio.run(_stream(a, samples, rate, bridge, take, link))
        if ended is not None and ended.dropped:
            print(f"kfusion-client: {ended.dropped} frames were dropped", file=sys.stderr)
        if a.video is not None:  # outside the loop, so that Ctrl-C ends it at once
            _draw(a, faces_at(frames, total), samples, rate, shown=shown)
        bridge.close()
        undo.pop_all()
    for line in bridge.troubles:
        print(f"kfusion-client: {line}", file=sys.stderr)


async def _stream(
    a: argparse.Namespace,
    samples: Samples,
    rate: int,
    bridge: Bridge,
    on_frame: Callable[[Frame], Awaitable[object]],
    on_link: Callable[[Link], object],
) -> wire.End | None:
    async with (
        bridge,
        # As it was read: nothing is rounded on the way.
        stream_as_asked(a, bridge, rate=rate, format="f32le", mode="file") as face,
    ):
        return await animate(face, samples, on_frame, on_link)


def _draw(
    a: argparse.Namespace, faces: NDArray[np.float32], samples: Samples, rate: int, *, shown: bool
) -> None:
    from client import video

    identity: Points | None = a.face
    with progress("drawing", len(faces), shown=shown) as bar:
        video.write_video(
            a.video, faces, samples, rate, identity=identity, on_frame=lambda: bar.update(1)
        )
