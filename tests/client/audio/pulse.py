"""A PulseAudio of our own, whose only loudspeaker nobody hears."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

INSTALL: Final = "apt install pulseaudio pulseaudio-utils libasound2-plugins"


def answers(command: list[str], environment: dict[str, str]) -> bool:
    done = subprocess.run(command, capture_output=True, env=environment, timeout=20, check=False)
    return done.returncode == 0


@contextmanager
def sound_server() -> Generator[dict[str, str]]:
    """The environment in which it is the system's; its monitor hears what the loudspeaker says."""
    if shutil.which("pulseaudio") is None or shutil.which("pactl") is None:
        pytest.skip(f"needs PulseAudio: {INSTALL}")
    folder = Path(tempfile.mkdtemp(prefix="kf"))  # a socket's path must be short
    (folder / ".asoundrc").write_text("pcm.!default pulse\nctl.!default pulse\n")
    environment = {k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"} | {
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "PULSE_RUNTIME_PATH": str(folder),
    }
    socket = folder / "native"
    daemon = subprocess.Popen(
        ["pulseaudio", "--daemonize=no", "--exit-idle-time=-1", "-n",
         "-L", "module-null-sink sink_name=loudspeaker",
         "-L", f"module-native-protocol-unix auth-anonymous=1 socket={socket}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    environment["PULSE_SERVER"] = f"unix:{socket}"
    try:
        until = time.monotonic() + 10
        while not answers(["pactl", "info"], environment):
            if daemon.poll() is not None or time.monotonic() > until:
                pytest.skip("PulseAudio does not start here")
            time.sleep(0.05)
        yield environment
    finally:
        daemon.terminate()
        daemon.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)  # a browser may still be writing there
