"""The command ``say``: a sound file on the loudspeaker, in step with its frames."""

import argparse
import asyncio
import sys
from contextlib import ExitStack

import soxr

from client.audio.player import Player
from client.audio.speaker import Speaker
from client.cli.options import connect_with_options
from client.cli.status import connection_line, print_note
from client.sinks.bridge import Bridge
from client.stream.events import Event, Frame, Reconnecting, Resumed
from kfusion import wire
from kfusion.audio import Samples, read_audio


def playable(samples: Samples, rate: int, speaker: Speaker) -> tuple[Samples, int]:
    """The sound at its own rate, or if the device does not take that, at the device's."""
    own = speaker.device.rate
    if rate == own or speaker.takes(wire.AudioFormat(rate)):
        return samples, rate
    return soxr.resample(samples, rate, own).astype("float32"), own


def run(a: argparse.Namespace) -> None:
    """Runs the command. Raises :class:`~kfusion.errors.KFusionError`."""
    samples, rate = read_audio(a.audio)
    speaker = Speaker(a.device)
    samples, rate = playable(samples, rate, speaker)
    # The player gives each frame when its sound is heard, so the bridge expects hops of one frame.
    bridge = Bridge.open(a.out, a.to, a.face, hop=1, skips=True)
    with ExitStack() as undo:
        undo.callback(bridge.discard)
        asyncio.run(_say(a, samples, rate, speaker, bridge))
        bridge.close()
        undo.pop_all()
    print_note(*bridge.troubles)


async def _say(
    a: argparse.Namespace, samples: Samples, rate: int, speaker: Speaker, bridge: Bridge
) -> None:
    async with (
        bridge,
        connect_with_options(a, bridge, rate=rate, record=a.record) as face,
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
                if isinstance(event, Frame):
                    frames += 1
                    await bridge.put(event)
                else:
                    _print_event(event)
            await speaking
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            print(summary(player, frames), file=sys.stderr)


def _print_event(event: Event) -> None:
    if isinstance(event, wire.Error):
        print_note(f"{event.message} ({event.code})")
    elif isinstance(event, Resumed) or (isinstance(event, Reconnecting) and event.attempt == 1):
        print_note(connection_line(event))


def summary(player: Player, frames: int) -> str:
    """How many frames were shown, and what went wrong if anything did."""
    counts = {
        "late": player.schedule.late,
        "skipped": player.schedule.skipped,
        "gaps in the sound": player.timeline.gaps,
        "underruns": player.speaker.underruns,
    }
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    return "  ".join([f"{frames} frames with their sound", *parts])
