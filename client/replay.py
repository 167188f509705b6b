"""Recordings once more: what was told, at any pace, or what was said, to a server again."""

from __future__ import annotations

import argparse
import asyncio
import base64
import functools
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing
from typing import Final

from client.clock import Clock, LoopClock
from client.errors import BadSink, RecordingError
from client.events import Event, Frame
from client.face import Face
from client.link import Link
from client.protocol import ClientStream, State
from client.reconnect import Backoff, Reconnection
from client.recording import Recording, Sent
from client.retrace import Heard, Replay
from client.sinks.bridge import Bridge
from client.transports import Opener, open_websocket
from kfusion import wire
from kfusion.errors import KFusionError

AT_ONCE: Final = float("inf")
OPEN_S: Final = 10.0


def start_of(recording: Recording) -> wire.Start:
    """How the stream was opened. Raises :class:`~client.errors.RecordingError` if it was not."""
    for entry in recording.entries():
        if isinstance(entry, Sent):
            if isinstance(entry.message, bytes):
                break
            said = wire.parse_client(entry.message)
            if isinstance(said, wire.Start) and said.resume is wire.UNSET:
                return said
            break
    raise RecordingError(
        f"{recording.path}: no stream was started in it; wanted one that begins with start"
    )


def events(recording: Recording) -> Iterator[tuple[float, Event]]:
    """(seconds, event) of all that the stream told; frames are the same to the bit.

    :class:`~client.events.Reconnecting` and ``Resumed`` are not among them: the connections are
    in ``recording.entries()``. Raises what ended the stream, at its end.
    """
    replay = Replay(start_of(recording))
    for entry in recording.entries():
        for event in replay.feed(entry):
            yield entry.us / 1e6, event
    if replay.failure is not None:
        raise replay.failure


async def play(
    recording: Recording, speed: float = 1.0, clock: Clock | None = None
) -> AsyncGenerator[Event, None]:
    """The events, when they came; ``speed`` times as fast, or at once for 0 or infinity."""
    clock = clock or LoopClock()
    began, never = clock.now(), asyncio.Event()
    for seconds, event in events(recording):
        if 0 < speed < AT_ONCE:
            await clock.wait(never, began + seconds / speed)
        yield event


def heard_by_server(recording: Recording) -> list[Heard]:
    """What the server got, in order, also across lost connections."""
    replay = Replay(start_of(recording), keeps=True)
    for entry in recording.entries():
        try:
            replay.feed(entry)
        except KFusionError:
            break  # it had ended the stream
    replay.finish()
    return replay.heard


async def resend(
    recording: Recording,
    url: str,
    *,
    token: str | None = None,
    speed: float = 1.0,
    transport: Opener | None = None,
    clock: Clock | None = None,
) -> AsyncGenerator[Event, None]:
    """Says to a server what was said, when it was said, and tells what it answers.

    A stream that was left without its end is ended. ``speed`` as for :func:`play`, though a
    server takes live sound only so far ahead. ``transport`` and ``clock`` as for
    :func:`client.connect`. Raises as that does.
    """
    clock = clock or LoopClock()
    start = start_of(recording)
    opener = transport or functools.partial(
        open_websocket, url, token=token, pings=start.mode == "live", open_timeout=OPEN_S
    )
    stream = ClientStream(start, fill_silence=False, reconnects=True)
    reconnection = Reconnection(opener, Backoff(), clock, OPEN_S)
    face = Face(stream, Link(stream, await opener(), reconnection), clock)
    saying = None
    try:
        await face.open(OPEN_S)
        saying = asyncio.create_task(_say_again(face, heard_by_server(recording), speed))
        async for event in face.events():
            yield event
        await saying
    finally:
        if saying is not None:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
        await face.close()


async def _say_again(face: Face, heard: list[Heard], speed: float) -> None:
    began, never = face.clock.now(), asyncio.Event()
    for said in heard:
        if 0 < speed < AT_ONCE:
            await face.clock.wait(never, began + (said.us - heard[0].us) / 1e6 / speed)
        await _say(face, said)
    if face.stream.state is State.OPEN:
        await face.end()


async def _say(face: Face, said: Heard) -> None:
    match said.what:
        case None:
            await face.silence(said.samples)
        case bytes():
            await face.send(said.what)
        case wire.SetEmotion(weights, ramp):
            await face.set_emotion(weights, ramp)
        case wire.SetIdentity(name, points, image):
            await face.set_identity(
                name,
                None if points is wire.UNSET else points,
                image=None if image is wire.UNSET else base64.b64decode(image),
            )
        case wire.Mark(name):
            await face.mark(name)
        case wire.Reset():
            await face.reset()
        case wire.EndOfAudio():
            await face.end()


# The command


def run(a: argparse.Namespace) -> None:
    """The command ``replay``. Raises a :class:`~kfusion.errors.KFusionError` that says why not."""
    recording = Recording(a.recording)
    start = start_of(recording)
    rest = start.identity.points if isinstance(start.identity, wire.GivenPoints) else None
    bridge = Bridge.open(a.out, a.to, rest, hop=start.hop, skips=1 < a.speed < AT_ONCE)
    with ExitStack() as undo:
        undo.callback(bridge.discard)
        missing = [name for name in bridge.outputs if name not in start.outputs]
        if missing:
            raise BadSink(
                f"{recording.path} was recorded without {' and '.join(missing)}; wanted a "
                "recording of a stream to such a sink (--record beside --to)"
            )
        frames = asyncio.run(_run(a, recording, bridge))
        bridge.close()
        undo.pop_all()
    for line in bridge.troubles:
        print(f"kfusion-client: {line}", file=sys.stderr)
    header = recording.header
    print(
        f"kfusion-client: {frames} frames of {header.date}, {header.url or 'no address'}, "
        f"kfusion {header.kfusion or 'not installed'}",
        file=sys.stderr,
    )
    if recording.torn:
        print(f"kfusion-client: {recording.torn}", file=sys.stderr)


async def _run(a: argparse.Namespace, recording: Recording, bridge: Bridge) -> int:
    frames = 0
    if a.resend:
        told = resend(recording, a.url, token=a.token, speed=a.speed)
    else:
        told = play(recording, a.speed)
    async with bridge, aclosing(told):
        try:
            async for event in told:
                if isinstance(event, Frame):
                    frames += 1
                    await bridge.put(event)
                elif isinstance(event, wire.Error):
                    print(f"kfusion-client: {event.message} ({event.code})", file=sys.stderr)
        except KFusionError as error:
            if a.resend or isinstance(error, RecordingError):
                raise
            print(f"kfusion-client: the stream ended so: {error}", file=sys.stderr)
    return frames
