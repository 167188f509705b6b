"""Real PortAudio on a private PulseAudio, whose null sink is the loudspeaker and whose monitor of
that sink is the microphone.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kfusion.audio import read_audio
from kfusion.landmarks import lip_gap
from kfusion.runtime import Animator
from tests.client.audio.pulse import INSTALL, answers, sound_server
from tests.conftest import RunningServer, folder_of

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.live


def python(*options: str | Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """What it has printed, once it has ended well."""
    with process:
        try:
            out, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    return out + errors


@pytest.fixture(scope="module")
def pulse() -> Iterator[dict[str, str]]:
    """The environment in which a sound server of our own is the system's, for PortAudio too."""
    with sound_server() as environment:
        found = "import sounddevice as s; s.query_devices(None, 'output')"
        if not answers([sys.executable, "-c", found], environment):
            pytest.skip(f"needs PortAudio and ALSA's pulse plugin: {INSTALL} libportaudio2")
        yield environment


def gaps(path: Path) -> NDArray[np.float64]:
    return lip_gap(np.array([json.loads(line)["points"] for line in path.read_text().splitlines()]))


@pytest.mark.data
def test_the_microphone_hears_the_loudspeaker_and_the_lips_follow(
    pulse: dict[str, str], server: RunningServer, model: Animator, tmp_path: Path
) -> None:
    clip = sorted(folder_of("grid_s1").glob("*.flac"))[0]
    played, captured = tmp_path / "played.jsonl", tmp_path / "captured.jsonl"
    url = ["--url", f"ws://127.0.0.1:{server.port}"]
    with python("-m", "client", "mic", *url, "--out", captured, environment=pulse) as mic:
        assert mic.stderr is not None
        try:
            assert "listening to" in mic.stderr.readline()
            output = ""
            for _ in range(3):  # a machine that stalls leaves the device without sound, and says so
                output = finished(python("-m", "client", "say", clip, *url, "--out", played,
                                       environment=pulse))  # fmt: skip
                if "underruns" not in output:
                    break
            else:
                pytest.skip("this machine lets the sound device run dry, three times out of three")
            assert "90 frames with their sound" in output
            mic.send_signal(signal.SIGINT)
            _, output = mic.communicate(timeout=30)
            assert mic.returncode == 0, output
        finally:
            mic.kill()
    offline = lip_gap(model.animate(*read_audio(clip)))
    np.testing.assert_allclose(gaps(played), offline, atol=1e-3)
    lips = gaps(captured)
    correlations = [
        np.corrcoef(offline, lips[k : k + len(offline)])[0, 1]
        for k in range(len(lips) - len(offline) + 1)
    ]
    print(f"\nthe microphone's lip gap against the clip's: r = {max(correlations):.3f}")
    assert max(correlations) >= 0.9
    assert lips.max() > lips.min() + 3


CLICKS = """
import asyncio, sys, time
import numpy as np
import sounddevice
from client import Frame, connect
from client.audio.player import Player

RATE, SECONDS = 16_000, 5
sound = np.zeros(RATE * SECONDS, np.float32)
for k in range(1, SECONDS):
    sound[k * RATE : k * RATE + 160] = 0.9
blocks = []  # (time, samples)

def capture(data, samples, times, status):
    at = time.monotonic() + times.inputBufferAdcTime - stream.time
    blocks.append((at, np.frombuffer(bytes(data), np.int16).copy()))

stream = sounddevice.RawInputStream(
    samplerate=RATE, blocksize=320, channels=1, dtype="int16", callback=capture
)

async def main():
    shown = {}
    async with connect(sys.argv[1], rate=RATE) as face, Player(face) as player:
        stream.start()
        await player.say(sound)
        await player.end()
        async for frame in player.frames():
            shown[frame.n] = time.monotonic()
    stream.stop()
    clicks = []
    for at, samples in blocks:
        for k in np.flatnonzero(np.abs(samples) > 8000):
            if not clicks or at + k / RATE > clicks[-1] + 0.5:
                clicks.append(at + k / RATE)
    print(*(1000 * (shown[30 * k] - clicks[k - 1]) for k in range(1, SECONDS)))

asyncio.run(main())
"""


def test_a_frame_is_given_when_the_loudspeaker_plays_its_sound(
    pulse: dict[str, str], synthetic_server: RunningServer
) -> None:
    url = f"ws://127.0.0.1:{synthetic_server.port}"
    out = finished(python("-c", CLICKS, url, environment=pulse))
    apart = [float(ms) for ms in out.split()]
    print(f"\nms from a click to its frame: {', '.join(f'{ms:.1f}' for ms in apart)}")
    assert len(apart) == 4
    assert abs(float(np.median(apart))) <= 20
