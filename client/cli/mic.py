"""The command ``mic``: the microphone through a server, live, with a status line."""

import argparse
import asyncio
import contextlib
import signal
import sys
from contextlib import ExitStack
from types import FrameType
from typing import Final

from client.audio.devices import list_devices
from client.audio.microphone import Microphone
from client.cli.options import connect_with_options
from client.cli.status import LatencyMeter, connection_line, print_note, status_line
from client.sdk import Face
from client.sinks.bridge import Bridge
from client.stream.events import Frame, Reconnecting, Resumed
from kfusion import wire
from kfusion.errors import KFusionError

REFRESH_S: Final = 0.1


def run(a: argparse.Namespace) -> None:
    """Runs the command. Raises :class:`~kfusion.errors.KFusionError`."""
    if a.list:
        print_devices()
    else:
        asyncio.run(stream_microphone(a))


def print_devices() -> None:
    """Prints every input device on a line; the default has a star."""
    inputs = list_devices("input")
    if not inputs:
        print("no input device was found; connect a microphone", file=sys.stderr)
    for d in inputs:
        star = "*" if d.default else " "
        print(f"{star}{d.index:3d}  {d.name}  ({d.channels} channels, {d.rate} Hz)")


class Status:
    """The figures of one stream for the status line."""

    def __init__(self, mic: Microphone, face: Face) -> None:
        self.mic, self.face = mic, face
        self.loop = asyncio.get_running_loop()
        self.meter = LatencyMeter(mic.rate)
        self.frames = 0
        self.dropped = 0
        self.unsent = 0  # samples, while there was no connection
        self.connection = ""  # what is wrong with it

    def line(self) -> str:
        lost_s = (self.mic.queue.lost + self.unsent) / self.mic.rate
        return status_line(
            self.mic.level, self.meter.ms, self.frames, self.dropped, lost_s, self.connection
        )

    def on_connection(self, event: Reconnecting | Resumed) -> None:
        """The connection was lost or resumed."""
        resumed = isinstance(event, Resumed)
        if isinstance(event, Resumed):
            self.unsent += event.silence
            self.meter.clear()
        self.connection = "" if resumed else connection_line(event)
        if not sys.stderr.isatty() and (resumed or event.attempt == 1):
            print_note(connection_line(event))

    async def refresh(self) -> None:
        """Writes the line a few times a second until it is cancelled."""
        while True:
            sys.stderr.write(f"\r{self.line():<79}")
            sys.stderr.flush()
            await asyncio.sleep(REFRESH_S)


async def send_audio(mic: Microphone, face: Face, status: Status) -> None:
    """Sends what the microphone captures, and the end when it stops."""
    async for block in mic.blocks():
        if block.lost:
            await face.silence(block.lost)
            continue
        status.meter.captured(face.stream.samples, block.at)
        await face.send(block.pcm)
    await face.end()


async def receive_frames(face: Face, status: Status, bridge: Bridge) -> None:
    """Gives the frames to the sinks until the end of the stream."""
    async for event in face.events():
        if isinstance(event, Frame):
            status.frames += 1
            status.meter.frame(event.n, status.loop.time())
            await bridge.put(event)
        elif isinstance(event, wire.Dropped):
            status.dropped += event.count
        elif isinstance(event, (Reconnecting, Resumed)):
            status.on_connection(event)
        elif isinstance(event, wire.Error):
            print(f"\nkfusion-client: {event.message} ({event.code})", file=sys.stderr)


async def stream_microphone(a: argparse.Namespace) -> None:
    """Streams until Ctrl-C; a second Ctrl-C leaves without waiting for the end."""
    mic = Microphone(a.device)
    bridge = Bridge.open(a.out, a.to, a.face, hop=a.hop, skips=True)
    try:
        await _stream(a, mic, bridge)
    finally:
        print_note(*bridge.troubles)


async def _stream(a: argparse.Namespace, mic: Microphone, bridge: Bridge) -> None:
    status: Status | None = None
    with ExitStack() as undo:
        undo.callback(bridge.discard)
        try:
            async with (
                bridge,
                connect_with_options(a, bridge, rate=mic.rate, record=a.record) as face,
                mic,
            ):
                status = Status(mic, face)
                await _send_and_receive(status, bridge)
        except KFusionError:
            if status is not None and status.frames:
                bridge.close()
                undo.pop_all()
                if a.out not in (None, "-"):
                    print_note(f"the {status.frames} frames that came are in {a.out}")
            raise
        bridge.close()
        undo.pop_all()


async def _send_and_receive(status: Status, bridge: Bridge) -> None:
    mic, face = status.mic, status.face
    _stop_at_interrupt(mic)
    print(f"listening to {mic.device.name} at {mic.rate} Hz; Ctrl-C ends", file=sys.stderr)
    sending = asyncio.create_task(send_audio(mic, face, status))
    refreshing = asyncio.create_task(status.refresh()) if sys.stderr.isatty() else None
    try:
        await receive_frames(face, status, bridge)
        await sending
    finally:
        for task in filter(None, (sending, refreshing)):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        print(f"\n{status.line()}", file=sys.stderr)


def _stop_at_interrupt(mic: Microphone) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        mic.stop()
        loop.remove_signal_handler(signal.SIGINT)

    def interrupted(number: int, stack: FrameType | None) -> None:
        loop.call_soon_threadsafe(mic.stop)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        loop.add_signal_handler(signal.SIGINT, stop)
    except NotImplementedError:  # Windows
        signal.signal(signal.SIGINT, interrupted)
