"""A sound file through a server and the loudspeaker: heard and seen together."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import ExitStack

import soxr

from client.audio.player import Player
from client.audio.speaker import Speaker
from client.cli.options import stream_as_asked
from client.cli.status import link_line
from client.sinks.bridge import Bridge
from client.stream.events import Event, Frame, Reconnecting, Resumed
from kfusion import wire
from kfusion.audio import Samples, read_audio


def playable(samples: Samples, rate: int, speaker: Speaker) -> tuple[Samples, int]:
    """The sound at its own rate, or where the device does not take that, at the device's."""
    own = speaker.device.rate
    if rate == own or speaker.takes(wire.AudioFormat(rate)):
        return samples, rate
    return soxr.resample(samples, rate, own).astype("float32"), own


def run(a: argparse.Namespace) -> None:
    """The command ``say``. Raises a :class:`~kfusion.errors.KFusionError` that says why not."""
    samples, rate = read_audio(a.audio)
    speaker = Speaker(a.device)
    samples, rate = playable(samples, rate, speaker)
    # Frames come when their sound is heard: nothing waits for the rest of a hop.
    bridge = Bridge.open(a.out, a.to, a.face, hop=1, skips=True)
    with ExitStack() as undo:
        undo.callback(bridge.discard)
        asyncio.run(_say(a, samples, rate, speaker, bridge))
        bridge.close()
        undo.pop_all()
    for line in bridge.troubles:
        print(f"kfusion-client: {line}", file=sys.stderr)


async def _say(
    a: argparse.Namespace, samples: Samples, rate: int, speaker: Speaker, bridge: Bridge
) -> None:
    async with (
        bridge,
        stream_as_asked(a, bridge, rate=rate) as face,
        Player(face, speaker, lead_s=a.lead / 1000) as player,
    ):
        print(f"speaking through {speaker.name} at {rate} Hz; Ctrl-C ends", file=sys.stderr)

        async def speak() -> None:
            await player.say(samples)
            await player.end()

        speaking = asyncio.create_task(speak())
        frames = 0
        try:
            async for event in player.events():
                frames += isinstance(event, Frame)
                if isinstance(event, Frame):
                    await bridge.put(event)
                _tell(event)
            await speaking
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            print(summary(player, frames), file=sys.stderr)


def _tell(event: Event) -> None:
    if isinstance(event, wire.Error):
        print(f"kfusion-client: {event.message} ({event.code})", file=sys.stderr)
    elif isinstance(event, Resumed) or (isinstance(event, Reconnecting) and event.attempt == 1):
        print(f"kfusion-client: {link_line(event)}", file=sys.stderr)


def summary(player: Player, frames: int) -> str:
    """What was shown, and what went wrong, if anything did."""
    told = [f"{frames} frames with their sound"]
    counts = {
        "late": player.schedule.late,
        "skipped": player.schedule.skipped,
        "gaps in the sound": player.timeline.gaps,
        "underruns": player.speaker.underruns,
    }
    return "  ".join(told + [f"{count} {what}" for what, count in counts.items() if count])
