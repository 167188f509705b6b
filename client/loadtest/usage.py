"""What the server itself costs: CPU and memory, as its /metrics tell them or Linux' /proc."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import sys
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from client.loadtest.plan import Load

MEMORY_AT: Final = (20.0, 60.0)  # s into a run: what a server allots at first is allotted by then
_WAIT_S: Final = 3.0
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # as the streams go


@dataclass(frozen=True)
class Reading:
    """CPU time used so far (s) and memory held now (bytes), at ``at`` of the monotonic clock."""

    at: float
    cpu_s: float
    memory_bytes: int


@dataclass(frozen=True)
class ServerUse:
    """``cpu`` as a share of one core; ``memory_bytes`` by the second of the run; -1 is the end."""

    cpu: float
    memory_bytes: dict[int, int]


def from_metrics(text: str, at: float) -> Reading | None:
    """Prometheus text -> what it says of the process; None where it says nothing of it."""
    found: list[float] = []
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes"):
        line = re.search(rf"^{name}(?:\{{[^}}]*\}})? (\S+)", text, re.MULTILINE)
        if line is None:
            return None
        found.append(float(line[1]))
    return Reading(at, found[0], round(found[1]))


def from_proc(pid: int, at: float, proc: Path = Path("/proc")) -> Reading | None:
    """proc(5): utime and stime of ``stat`` in clock ticks, VmRSS of ``status`` in kB; None where
    there is no such thing.
    """
    if sys.platform == "win32":
        return None
    try:
        stat = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        status = (proc / str(pid) / "status").read_text()
    except OSError:
        return None
    resident = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    if resident is None:
        return None
    ticks = int(stat[11]) + int(stat[12])
    return Reading(at, ticks / os.sysconf("SC_CLK_TCK"), int(resident[1]) * 1024)


def read_once(load: Load) -> Reading | None:
    """What the server at ``load.url`` says now, or the process ``load.server_pid``."""
    parts = urlsplit(load.url)
    http = {"ws": "http", "wss": "https"}[parts.scheme]
    known, _, place = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit((http, place, "/metrics", "", "")))
    if load.token:
        request.add_header("Authorization", f"Bearer {load.token}")
    elif known:
        basic = base64.b64encode(unquote(known).encode()).decode()
        request.add_header("Authorization", f"Basic {basic}")
    try:
        with _DIRECT.open(request, timeout=_WAIT_S) as answer:
            reading = from_metrics(answer.read().decode(errors="replace"), time.monotonic())
    except (OSError, ValueError, HTTPException):
        reading = None
    if reading is None and load.server_pid is not None:
        reading = from_proc(load.server_pid, time.monotonic())
    return reading


async def watch(load: Load, start: float) -> ServerUse | None:
    """Reads at the start of the audio, at MEMORY_AT and at its end; None where nothing is told."""
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
    return ServerUse(
        (last.cpu_s - first.cpu_s) / (last.at - first.at),
        {second: r.memory_bytes for second, r in readings.items()},
    )
