"""CPU and memory of the server, from its /metrics."""

import asyncio
import base64
import re
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from client.loadtest.load import Load

MEMORY_AT: Final = (20.0, 60.0)  # s into a run, by which a server has allocated its buffers
_TIMEOUT_S: Final = 3.0
_DIRECT: Final = urllib.request.build_opener(
    urllib.request.ProxyHandler({})
)  # no proxy, as the streams


@dataclass(frozen=True)
class Reading:
    """CPU time used so far (s) and memory held now (bytes), at ``at`` of the monotonic clock."""

    at: float
    cpu_s: float
    memory_bytes: int


@dataclass(frozen=True)
class ServerUsage:
    """``cpu`` as a share of one core; ``memory_bytes`` by the second of the run; -1 is the end."""

    cpu: float
    memory_bytes: dict[int, int]


def from_metrics(text: str, at: float) -> Reading | None:
    """Prometheus text -> the figures of the process; None if it has none."""
    values: list[float] = []
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        line = re.search(rf"^{name}(?:\{{[^}}]*\}})? (\S+)", text, re.MULTILINE)
        if line is None:
            return None
        values.append(float(line[1]))
    return Reading(at, values[0], round(values[1]))


def read_once(load: Load) -> Reading | None:
    """The figures of the server at ``load.url`` now; None if it does not tell them."""
    parts = urlsplit(load.url)
    http = {"ws": "http", "wss": "https"}[parts.scheme]
    credentials, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit((http, host, "/metrics", "", "")))
    if load.token:
        request.add_header("Authorization", f"Bearer {load.token}")
    elif credentials:
        basic = base64.b64encode(unquote(credentials).encode()).decode()
        request.add_header("Authorization", f"Basic {basic}")
    try:
        with _DIRECT.open(request, timeout=_TIMEOUT_S) as answer:
            return from_metrics(answer.read().decode(errors="replace"), time.monotonic())
    except (OSError, ValueError, HTTPException):
        return None


async def watch(load: Load, start: float) -> ServerUsage | None:
    """Reads at the start of the audio, at MEMORY_AT and at its end; None if nothing can be read."""
    loop = asyncio.get_running_loop()
    readings: dict[int, Reading] = {}
    moments = [0.0, *(s for s in MEMORY_AT if s < load.seconds), load.seconds]
    for moment in moments:
        await asyncio.sleep(start + moment - loop.time())
        reading = await asyncio.to_thread(read_once, load)
        if reading is None:
            return None
        readings[-1 if moment == load.seconds else round(moment)] = reading
    first, last = readings[0], readings[-1]
    return ServerUsage(
        (last.cpu_s - first.cpu_s) / (last.at - first.at),
        {second: r.memory_bytes for second, r in readings.items()},
    )
