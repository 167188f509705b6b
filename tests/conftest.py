"""What tests share: the real data where it is, the bundled model, a server of their own."""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import ArrayLike, NDArray

import kfusion
from client.loadtest.load import speech_like
from client.loadtest.server_process import ServerProcess
from kfusion import wire
from kfusion.runtime import Animator

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

for profile, examples in {"dev": 15, "ci": 50, "nightly": 1000}.items():
    settings.register_profile(
        profile,
        deadline=None,
        print_blob=True,
        max_examples=examples,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

LONG_S = 300
"""The timeout of a slow, live or browser test."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Adds the markers that a test's place and imports decide, and the longer timeout."""
    for item in items:
        if item.path.parent.name == "page" and item.path.name != "test_units.py":
            item.add_marker(pytest.mark.browser)
        if hasattr(getattr(item, "module", None), "torch"):
            item.add_marker(pytest.mark.torch)
        if any(item.get_closest_marker(name) for name in ("slow", "live", "browser")):
            item.add_marker(pytest.mark.timeout(LONG_S))


def program(name: str, package: str) -> str:
    """The path of a program, or a skip that names the package to install."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name}: install the package {package}")
    return path


def folder_of(name: str) -> Path:
    """A folder of the real data, or a skip that says what is missing."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"needs the tracked speech in {folder}, which is not here")
    return folder


def usual_p95(late: ArrayLike) -> float:
    """The 95th percentile of each second's frames, and the median of these: what is usual on a
    machine that others use too, and that may stand still for a second.
    """
    frames = np.asarray(late, np.float64)
    seconds = np.array_split(frames, max(1, len(frames) // 30))
    return float(np.median([np.percentile(second, 95) for second in seconds]))


def narrow_socket(port: int, size: int = 4096) -> socket.socket:
    """A connection with so small a buffer that a server notices who does not read."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    narrow.connect(("127.0.0.1", port))
    narrow.setblocking(False)
    return narrow


async def eventually(is_so: Callable[[], bool]) -> None:
    """Waits until something has come about. Raises :class:`TimeoutError`."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.002)


def decoded(message: str | bytes) -> Any:
    """A message of the server."""
    return wire.decode_frames(message) if isinstance(message, bytes) else wire.parse_server(message)


@pytest.fixture(scope="session")
def model() -> Animator:
    return kfusion.load()


def voice(seconds: float, rate: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    """Something like speech: harmonics under syllables, with pauses; (N,) within -1..1."""
    return speech_like(seconds, rate, seed)


class RunningServer(ServerProcess):
    """A real server process on a free port, whose warnings are errors."""

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def start_server(*options: str) -> RunningServer:
    """Starts a server and waits until it is ready."""
    server = RunningServer(
        *options, python=("-W", "error"), cwd=Path(__file__).resolve().parents[1]
    )
    server.__enter__()
    return server


def stop_server(server: RunningServer) -> int:
    """Ends it as an operator would, and gives its exit status."""
    server.__exit__()
    return server.process.returncode


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
