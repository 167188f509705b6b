"""What tests share: the real data where it is, the bundled model, a server of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

import kfusion
from kfusion.runtime import Animator

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

settings.register_profile(
    "kfusion",
    deadline=None,
    print_blob=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("kfusion")


def folder_of(name: str) -> Path:
    """A folder of the real data, or a skip that says what is missing."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"needs the tracked speech in {folder}, which is not here")
    return folder


@pytest.fixture(scope="session")
def model() -> Animator:
    return kfusion.load()


def voice(seconds: float, rate: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    """Something like speech: harmonics under syllables, with pauses; (N,) within -1..1."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    pitch = 120 + 15 * np.sin(2 * np.pi * 0.7 * t + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = sum((np.sin(k * phase) / k for k in range(1, 25)), np.zeros_like(t))
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * t + rng.uniform(0, 6)) + 0.3, 0, None)
    phrases = np.clip(4 * np.sin(2 * np.pi * 0.4 * t) + 2, 0, 1)
    sound = 0.2 * tone * syllables * phrases + 0.002 * rng.normal(size=len(t))
    return np.clip(sound, -1, 1).astype(np.float32)


@dataclass
class RunningServer:
    port: int
    process: subprocess.Popen[str]
    lines: list[str]
    reader: threading.Thread

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def start_server(*arguments: str) -> RunningServer:
    """A real server process on a free port, once it says that it is ready."""
    environment = {k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "server", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        env=environment,
    )
    watchdog = threading.Timer(90, process.kill)
    watchdog.start()
    lines: list[str] = []
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"is ready: open https?://[^:]+:(\d+)/", line)
            if found:
                rest = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
                rest.start()
                return RunningServer(int(found[1]), process, lines, rest)
    finally:
        watchdog.cancel()
    raise AssertionError("the server did not start:\n" + "".join(lines))


def stop_server(server: RunningServer) -> int:
    """Ends it as an operator would, and gives its exit status."""
    server.process.terminate()
    status = server.process.wait(timeout=20)
    server.reader.join(timeout=5)
    assert server.process.stdout is not None
    server.process.stdout.close()
    return status


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """A server with the bundled model."""
    running = start_server()
    yield running
    assert stop_server(running) == 0, "".join(running.lines)


@pytest.fixture(scope="session")
def synthetic_server() -> Iterator[RunningServer]:
    running = start_server("--engine", "synthetic")
    yield running
    assert stop_server(running) == 0, "".join(running.lines)
