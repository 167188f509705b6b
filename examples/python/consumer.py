"""Speaks a WAV to a KFusion server as if it were spoken now, and shows how far the jaw opens."""

import argparse
import asyncio
import json
import sys
import wave
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

CHUNK_S = 0.02


async def speak(socket: ClientConnection, sound: wave.Wave_read) -> None:
    """Sends the sound in chunks of 20 ms, each when its samples would have been heard."""
    clock = asyncio.get_running_loop()
    begun, sent, size = clock.time(), 0, round(CHUNK_S * sound.getframerate())
    while chunk := sound.readframes(size):
        sent += len(chunk) // (sound.getsampwidth() * sound.getnchannels())
        await asyncio.sleep(begun + sent / sound.getframerate() - clock.time())
        await socket.send(chunk)
    await socket.send(json.dumps({"type": "end"}))


async def stream(url: str, sound: wave.Wave_read) -> None:
    start = {
        "type": "start",
        "audio": {"rate": sound.getframerate(), "channels": sound.getnchannels()},  # s16le
        "outputs": ["arkit52"],
    }
    jaw = 0
    async with connect(url, subprotocols=[Subprotocol("kfusion.v1")]) as socket:
        await socket.send(json.dumps(start))
        speaking: asyncio.Task[None] | None = None
        try:
            async for text in socket:
                message: dict[str, Any] = json.loads(text)
                if message["type"] == "ready":
                    jaw = message["outputs"]["arkit52"].index("jawOpen")
                    speaking = asyncio.create_task(speak(socket, sound))
                elif message["type"] == "frame":
                    value = message["arkit52"][jaw]
                    print(f"{message['t']:7.2f} s  {value:.2f} {'#' * round(40 * value)}")
                elif message["type"] == "dropped":
                    print(f"{message['count']} frames lost: {message['reason']}")
                elif message["type"] == "error":
                    print(message["message"], file=sys.stderr)
                elif message["type"] == "end":
                    print(f"{message['frames']} frames, {message['dropped']} lost")
        finally:
            if speaking:
                speaking.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wav", type=Path, help="16-bit, mono or stereo, 8 to 96 kHz")
    parser.add_argument("--url", default="ws://127.0.0.1:8765/v1/stream")
    arguments = parser.parse_args()
    with wave.open(str(arguments.wav), "rb") as sound:
        if sound.getsampwidth() != 2:
            sys.exit(f"{arguments.wav}: {8 * sound.getsampwidth()} bits; wanted 16")
        try:
            asyncio.run(stream(arguments.url, sound))
        except (OSError, ConnectionClosed) as error:
            sys.exit(f"{arguments.url}: {error}")


if __name__ == "__main__":
    main()
