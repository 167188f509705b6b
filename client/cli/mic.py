"""The microphone through a server, live, with one line that says how it goes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from contextlib import ExitStack
from types import FrameType
from typing import Final

from client.audio.microphone import Microphone, devices
from client.cli.options import stream_as_asked
from client.cli.status import LatencyMeter, link_line, status_line
from client.sdk import Face
from client.sinks.bridge import Bridge
from client.stream.events import Frame, Reconnecting, Resumed
from kfusion import wire
from kfusion.errors import KFusionError

REFRESH_S: Final = 0.1


def print_devices() -> None:
    """Every input device, a line each; the default has a star."""
    found = devices()
    if not found:
        print("no input device was found; connect a microphone", file=sys.stderr)
    for d in found:
        star = "*" if d.default else " "
        print(f"{star}{d.index:3d}  {d.name}  ({d.channels} channels, {d.rate} Hz)")


class Show:
    """What the status line tells of one stream."""

    def __init__(self, mic: Microphone, face: Face) -> None:
        self.mic, self.face = mic, face
        self.loop = asyncio.get_running_loop()
        self.meter = LatencyMeter(mic.rate)
        self.frames = 0
        self.dropped = 0
        self.missed = 0  # samples, while there was no connection
        self.away = ""

    def line(self) -> str:
        lost_s = (self.mic.queue.lost_in_all + self.missed) / self.mic.rate
        return status_line(
            self.mic.level, self.meter.ms, self.frames, self.dropped, lost_s, self.away
        )

    def link(self, event: Reconnecting | Resumed) -> None:
        """The connection was lost, or another goes on."""
        back = isinstance(event, Resumed)
        if isinstance(event, Resumed):
            self.missed += event.silence
            self.meter.forget()
        self.away = "" if back else link_line(event)
        if not sys.stderr.isatty() and (back or event.attempt == 1):
            print(f"kfusion-client: {link_line(event)}", file=sys.stderr)

    async def refresh(self) -> None:
        """Writes the line a few times a second; ends by being cancelled."""
        while True:
            sys.stderr.write(f"\r{self.line():<79}")
            sys.stderr.flush()
            await asyncio.sleep(REFRESH_S)


async def speak(mic: Microphone, face: Face, show: Show) -> None:
    """Sends what is heard, and the end when the microphone stops."""
    async for block in mic.blocks():
        if block.lost:
            await face.silence(block.lost)
            continue
        show.meter.sound(face.stream.samples, block.at)
        await face.send(block.pcm)
    await face.end()


async def listen(face: Face, show: Show, bridge: Bridge) -> None:
    """Takes the frames until the end."""
    async for event in face.events():
        if isinstance(event, Frame):
            show.frames += 1
            show.meter.frame(event.n, show.loop.time())
            await bridge.put(event)
        elif isinstance(event, wire.Dropped):
            show.dropped += event.count
        elif isinstance(event, (Reconnecting, Resumed)):
            show.link(event)
        elif isinstance(event, wire.Error):
            print(f"\nkfusion-client: {event.message} ({event.code})", file=sys.stderr)


def run(a: argparse.Namespace) -> None:
    """The command ``mic``. Raises a :class:`~kfusion.errors.KFusionError` that says why not."""
    if a.list:
        print_devices()
    else:
        asyncio.run(talk(a))


async def talk(a: argparse.Namespace) -> None:
    """Streams the microphone until Ctrl-C; a second one leaves without waiting for the end.

    A stream that is lost for good leaves the frames that came.
    """
    mic = Microphone(a.device)
    bridge = Bridge.open(a.out, a.to, a.face, hop=a.hop, skips=True)
    try:
        await _stream(a, mic, bridge)
    finally:
        for line in bridge.troubles:
            print(f"kfusion-client: {line}", file=sys.stderr)


async def _stream(a: argparse.Namespace, mic: Microphone, bridge: Bridge) -> None:
    show: Show | None = None
    with ExitStack() as undo:
        undo.callback(bridge.discard)
        try:
            async with (
                bridge,
                stream_as_asked(a, bridge, rate=mic.rate) as face,
                mic,
            ):
                show = Show(mic, face)
                await _converse(show, bridge)
        except KFusionError:
            if show is not None and show.frames:
                bridge.close()
                undo.pop_all()
                if a.out not in (None, "-"):
                    came = f"the {show.frames} frames that came are in {a.out}"
                    print(f"kfusion-client: {came}", file=sys.stderr)
            raise
        bridge.close()
        undo.pop_all()


async def _converse(show: Show, bridge: Bridge) -> None:
    mic, face = show.mic, show.face
    _stop_at_interrupt(mic)
    print(f"listening to {mic.device.name} at {mic.rate} Hz; Ctrl-C ends", file=sys.stderr)
    sending = asyncio.create_task(speak(mic, face, show))
    showing = asyncio.create_task(show.refresh()) if sys.stderr.isatty() else None
    try:
        await listen(face, show, bridge)
        await sending
    finally:
        for task in filter(None, (sending, showing)):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        print(f"\n{show.line()}", file=sys.stderr)


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
