"""The command ``replay``: the frames of a recorded stream to sinks."""

import argparse
import asyncio
from contextlib import ExitStack, aclosing

from client.cli.status import print_note
from client.errors import BadSink, RecordingError
from client.recording.format import Recording
from client.recording.replay import AT_ONCE, play, start_of
from client.sinks.bridge import Bridge
from client.stream.events import Frame
from kfusion import wire
from kfusion.errors import KFusionError


def run(a: argparse.Namespace) -> None:
    """Runs the command. Raises :class:`~kfusion.errors.KFusionError`."""
    recording = Recording(a.recording)
    start = start_of(recording)
    rest = start.identity.points if isinstance(start.identity, wire.IdentityPoints) else None
    bridge = Bridge.open(a.out, a.to, rest, hop=start.hop, skips=1 < a.speed < AT_ONCE)
    with ExitStack() as undo:
        undo.callback(bridge.discard)
        missing = [name for name in bridge.outputs if name not in start.outputs]
        if missing:
            raise BadSink(
                f"{recording.path} was recorded without {' and '.join(missing)}; wanted a "
                "recording of a stream to such a sink (--record beside --to)"
            )
        frames = asyncio.run(_play(a, recording, bridge))
        bridge.close()
        undo.pop_all()
    header = recording.header
    print_note(
        *bridge.troubles,
        f"{frames} frames of {header.date}, {header.url or 'no address'}, "
        f"kfusion {header.kfusion or 'not installed'}",
    )
    if recording.torn:
        print_note(recording.torn)


async def _play(a: argparse.Namespace, recording: Recording, bridge: Bridge) -> int:
    """Puts the recorded frames into ``bridge``; returns their number."""
    frames = 0
    async with bridge, aclosing(play(recording, a.speed)) as events:
        try:
            async for event in events:
                if isinstance(event, Frame):
                    frames += 1
                    await bridge.put(event)
                elif isinstance(event, wire.Error):
                    print_note(f"{event.message} ({event.code})")
        except RecordingError:
            raise
        except KFusionError as error:
            print_note(f"the stream ended so: {error}")
    return frames
