"""Live streams for a long time: latency and memory must stay, and no frame may be lost::

    python -m client.soak [--minutes 30] [--clip speech.flac]

Exit codes: 0 all held; 1 something did not; 2 nothing could be measured.
"""

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from client.loadtest.load import Load, read_clips
from client.loadtest.report import (
    Array,
    FrameLatencies,
    Report,
    frame_latencies,
    report,
    report_text,
)
from client.loadtest.server_process import ServerProcess
from kfusion import options
from kfusion.errors import BadOptions, ConnectionLost, run_command
from kfusion.options import option

MAX_DRIFT_MS: Final = 1000 / 30  # a frame
MAX_GROWTH: Final = 0.05
SETTLED_S: Final = 60  # into the run, after which memory must stay
SETTLED_SHORT_S: Final = 20  # the same for runs shorter than LONG_S
LONG_S: Final = 600


@dataclass(frozen=True)
class SoakOptions:
    minutes: float = option(30.0)
    streams: int = option(4)
    rate: int = option(16_000)
    clip: tuple[Path, ...] = option((), metavar="FILE")
    engine: str = option("auto", "of the server (%(default)s)")


@dataclass(frozen=True)
class Drift:
    """Medians over the first and the last minute (of a short run: half), ms."""

    total_ms: tuple[float, float]
    beyond_ms: tuple[float, float]

    @property
    def most(self) -> float:
        """The larger change, ms."""
        return max(abs(last - first) for first, last in (self.total_ms, self.beyond_ms))


def drift(frames: FrameLatencies) -> Drift | None:
    """None if no frame was timed."""
    if not len(frames.at):
        return None
    begin, end = float(frames.at.min()), float(frames.at.max())
    span = min(60.0, (end - begin) / 2)
    first, last = frames.at <= begin + span, frames.at >= end - span

    def medians(delays: Array) -> tuple[float, float]:
        return float(1000 * np.median(delays[first])), float(1000 * np.median(delays[last]))

    return Drift(medians(frames.total), medians(frames.beyond))


def memory_growth(memory_bytes: dict[int, int], seconds: float) -> float | None:
    """The growth of the server's memory after it had settled, a share; None if it is unknown."""
    since = SETTLED_S if seconds >= LONG_S else SETTLED_SHORT_S
    if since not in memory_bytes or -1 not in memory_bytes:
        return None
    return memory_bytes[-1] / memory_bytes[since] - 1


def failures(
    r: Report, drifted: Drift | None, growth: float | None, warnings: list[str]
) -> list[str]:
    """What did not hold, in words."""
    out = r.failures()
    if drifted is not None and drifted.most >= MAX_DRIFT_MS:
        out.append(f"latency drifted by {drifted.most:.1f} ms; wanted under {MAX_DRIFT_MS:.1f}")
    if growth is None:
        out.append("the server's memory is not known; wanted it in /metrics")
    elif growth >= MAX_GROWTH:
        out.append(f"the server's memory grew by {growth:.1%}; wanted under {MAX_GROWTH:.0%}")
    if warnings:
        out.append(f"the server's log complains {len(warnings)} times, first: {warnings[0]}")
    return out


def soak(load: Load, clips: Sequence[Path], server_options: Sequence[str]) -> int:
    """Runs a server under this load; the exit code."""
    from client.loadtest.workers import measure  # needs the websockets package

    load.check()
    chunks = read_clips(clips, load.rate, load.chunk_ms)
    with ServerProcess(*server_options) as server:
        load = replace(load, url=server.url)
        trace = asyncio.run(measure(load, chunks))
    frames = frame_latencies(trace)
    r = report(trace, frames)
    print(report_text(r))
    drifted, growth = drift(frames), memory_growth(r.server_memory_bytes, load.seconds)
    if drifted is not None:
        print(
            f"median of the first and the last minute: total {_pair(drifted.total_ms)} ms, "
            f"beyond {_pair(drifted.beyond_ms)} ms"
        )
    if growth is not None:
        print(f"the server's memory grew by {growth:.2%}")
    if r.lost:
        raise ConnectionLost(f"{sum(r.lost.values())} streams: {next(iter(r.lost))}")
    failed = failures(r, drifted, growth, server.warnings)
    print("soak: " + ("; ".join(failed) or "held"))
    return 1 if failed else 0


def _pair(values: tuple[float, float]) -> str:
    return f"{values[0]:.1f} and {values[1]:.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m client.soak", description=__doc__)
    options.add_options(p, SoakOptions)
    o = options.parsed(SoakOptions, p.parse_args(arguments))

    def command() -> int:
        if o.minutes * 60 <= SETTLED_SHORT_S:
            raise BadOptions(f"--minutes {o.minutes:g}: wanted more than {SETTLED_SHORT_S} s")
        load = Load("ws://127.0.0.1", o.streams, o.minutes * 60, o.rate)
        return soak(load, o.clip, ["--engine", o.engine, "--log-level", "info"])

    return run_command("soak", command)
