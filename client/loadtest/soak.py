"""Live streams for a long time: nothing may drift, grow, be lost or be complained of::

    python -m client.soak [--minutes 30] [--clip speech.flac]

Exit codes: 0 all held; 1 something did not; 2 nothing could be measured.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from client.loadtest.log import Measured
from client.loadtest.plan import Load, Sound, sounds_of
from client.loadtest.report import Array, Report, Timed, report, text, timed_of_all
from client.loadtest.server_process import ServerProcess
from kfusion.errors import BadOptions, ConnectionLost, KFusionError

DRIFT_MS: Final = 1000 / 30  # a frame
GROWTH: Final = 0.05
SETTLED_S: Final = 60  # memory is compared with this second; in a run under 10 minutes ...
SETTLED_SOON_S: Final = 20  # ... with this one
LONG_S: Final = 600


@dataclass(frozen=True)
class Drift:
    """Medians over the first and the last minute (of a short run: half), ms."""

    total_ms: tuple[float, float]
    beyond_ms: tuple[float, float]

    @property
    def most(self) -> float:
        """The larger change, ms."""
        return max(abs(last - first) for first, last in (self.total_ms, self.beyond_ms))


def drift(frames: Timed) -> Drift | None:
    """None where no frame was timed."""
    if not len(frames.at):
        return None
    begin, end = float(frames.at.min()), float(frames.at.max())
    span = min(60.0, (end - begin) / 2)
    first, last = frames.at <= begin + span, frames.at >= end - span

    def medians(delays: Array) -> tuple[float, float]:
        return float(1000 * np.median(delays[first])), float(1000 * np.median(delays[last]))

    return Drift(medians(frames.total), medians(frames.beyond))


def growth(memory_bytes: dict[int, int], seconds: float) -> float | None:
    """By what share the server's memory grew once it had settled; None where it is not told."""
    since = SETTLED_S if seconds >= LONG_S else SETTLED_SOON_S
    if since not in memory_bytes or -1 not in memory_bytes:
        return None
    return memory_bytes[-1] / memory_bytes[since] - 1


def failings(
    r: Report, moved: Drift | None, grown: float | None, complaints: list[str]
) -> list[str]:
    """What did not hold, in words."""
    out = r.failings()
    if moved is not None and moved.most >= DRIFT_MS:
        out.append(f"latency drifted by {moved.most:.1f} ms; wanted under {DRIFT_MS:.1f}")
    if grown is None:
        out.append("the server's memory is not known; wanted it in /metrics or /proc")
    elif grown >= GROWTH:
        out.append(f"the server's memory grew by {grown:.1%}; wanted under {GROWTH:.0%}")
    if complaints:
        out.append(f"the server's log complains {len(complaints)} times, first: {complaints[0]}")
    return out


def soak(load: Load, clips: Sequence[Path], options: Sequence[str]) -> int:
    """A server with ``options`` under this load. Raises KFusionError if it cannot be measured."""
    load.check()
    sounds = sounds_of(clips, load.rate, load.chunk_ms)
    with ServerProcess(*options) as server:
        measured = asyncio.run(measure_at(server, load, sounds))
    frames = timed_of_all(measured)
    r = report(measured, frames)
    print(text(r))
    moved, grown = drift(frames), growth(r.server_memory_bytes, load.seconds)
    if moved is not None:
        print(
            f"median of the first and the last minute: total {_pair(moved.total_ms)} ms, "
            f"beyond {_pair(moved.beyond_ms)} ms"
        )
    if grown is not None:
        print(f"the server's memory grew by {grown:.2%}")
    if r.lost:
        raise ConnectionLost(f"{sum(r.lost.values())} streams: {next(iter(r.lost))}")
    wrong = failings(r, moved, grown, server.complaints)
    print("soak: " + ("; ".join(wrong) or "held"))
    return 1 if wrong else 0


async def measure_at(server: ServerProcess, load: Load, sounds: Sequence[Sound]) -> Measured:
    from client.loadtest.workers import measure  # needs the websockets package

    return await measure(replace(load, url=server.url, server_pid=server.process.pid), sounds)


def _pair(values: tuple[float, float]) -> str:
    return f"{values[0]:.1f} and {values[1]:.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m client.soak", description=__doc__)
    p.add_argument("--minutes", type=float, default=30.0)
    p.add_argument("--streams", type=int, default=4)
    p.add_argument("--rate", type=int, default=16_000)
    p.add_argument("--clip", type=Path, nargs="+", default=[], metavar="FILE")
    p.add_argument("--engine", default="auto", help="of the server (%(default)s)")
    a = p.parse_args(arguments)
    try:
        if a.minutes * 60 <= SETTLED_SOON_S:
            raise BadOptions(f"--minutes {a.minutes:g}: wanted more than {SETTLED_SOON_S} s")
        load = Load("ws://127.0.0.1", a.streams, a.minutes * 60, a.rate)
        return soak(load, a.clip, ["--engine", a.engine, "--log-level", "info"])
    except KFusionError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
