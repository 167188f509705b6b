"""Two hundred hostile clients beside four honest streams, on one real server process."""

import asyncio
import json
import os
import subprocess
import sys
import time
from math import ceil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tests.conftest import RunningServer, start_server, stop_server, voice
from tests.system.raw_client import client, get, speak

RATE: Final = 16_000
SECONDS: Final = float(os.environ.get("CHAOS_SECONDS", "10"))


async def honest(server: RunningServer, seed: int) -> list[float]:
    """Speaks at live pace; each frame's delay, s. Every frame must come, in order."""
    sound = voice(SECONDS, RATE, seed=seed)
    async with client(server) as raw:
        delays = await speak(raw, sound, RATE)
        assert raw.frames == list(range(ceil(30 * len(sound) / RATE)))
        assert raw.received[-1].dropped == 0 and not raw.codes
        return delays


async def four(server: RunningServer) -> float:
    """The 95th percentile over four honest streams, s."""
    late = await asyncio.gather(*(honest(server, seed) for seed in range(4)))
    return float(np.percentile(np.concatenate(late), 95))


def hostile(server: RunningServer, clients: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.system.hostile_clients", "--port", str(server.port),
         "--clients", str(clients), "--seconds", str(SECONDS + 1)],
        stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip


def figures(server: RunningServer) -> dict[str, float]:
    text = get(f"{server.http}/metrics")[1].decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[:1].isalpha()]
    return {name: float(value) for name, value in lines}


def calm(server: RunningServer, seconds: float = 60) -> dict[str, float]:
    """The server's figures once nobody is there any more, lost sessions included."""
    until = time.monotonic() + seconds
    while True:
        seen = figures(server)
        left = [seen[f"kfusion_{k}"] for k in ("connections", "streams", "sessions_kept")]
        if not any(left) or time.monotonic() > until:
            return seen
        time.sleep(0.5)


@pytest.mark.asyncio
@pytest.mark.live
async def test_two_hundred_hostile_clients_harm_nobody_else() -> None:
    server = start_server("--engine", "synthetic")
    try:
        undisturbed = await four(server)
        before = await asyncio.to_thread(calm, server)
        streaming = asyncio.create_task(four(server))
        await asyncio.sleep(0.5)
        crowd = hostile(server, 200)
        disturbed = await streaming
        out, _ = await asyncio.to_thread(crowd.communicate, timeout=60)
        assert crowd.returncode == 0
        did: dict[str, Any] = json.loads(out)
        assert len(did) > 15 and all(did.values())
        assert get(f"{server.http}/health")[0] == 200
        after = await asyncio.to_thread(calm, server)
    finally:
        assert stop_server(server) == 0
    memory = [seen["process_resident_memory_bytes"] / 2**20 for seen in (before, after)]
    print(
        f"\np95 of the delay: {1000 * undisturbed:.1f} ms undisturbed, "
        f"{1000 * disturbed:.1f} ms beside 200; {memory[1]:.0f} MiB after {memory[0]:.0f}"
    )
    for name in ("connections", "streams", "sessions_kept", "demand_windows"):
        assert after[f"kfusion_{name}"] == 0, name
    assert after["process_open_fds"] <= before["process_open_fds"] + 8
    assert memory[1] < memory[0] + 640  # of 1000 sessions at most, half a MiB each
    told = "".join(server.lines)
    assert "Traceback" not in told and "ERROR" not in told, told
    if disturbed > 1.5 * undisturbed:
        pytest.xfail(f"not on time yet: {disturbed:.3f} s beside them, {undisturbed:.3f} s alone")
