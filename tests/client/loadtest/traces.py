"""Loads, and traces of streams as if they had run."""

import numpy as np

from client.loadtest.load import Load
from client.loadtest.report import needed_samples
from client.loadtest.trace import RunTrace, StreamTrace
from client.loadtest.usage import ServerUsage

LOAD = Load("ws://127.0.0.1:1", seconds=4.0, warmup=1.0)


def stream_trace(
    load: Load, start: float, delay: float, *, late: float = 0.0, index: int = 0
) -> StreamTrace:
    """A stream whose every block came ``delay`` after the chunk that completed its window."""
    size = load.rate * load.chunk_ms // 1000
    trace = StreamTrace(index, start)
    for k in range(round(load.seconds * load.rate) // size):
        trace.positions.append((k + 1) * size)
        trace.sent.append(start + (k + 1) * load.chunk_ms / 1000 + late)
    positions = np.array(trace.positions)
    for first in range(0, round(load.seconds * 30), load.hop):
        needed = needed_samples(np.array([first]), load.rate, load.hop, load.lookahead)
        chunk = min(int(np.searchsorted(positions, needed[0])), len(positions) - 1)
        trace.firsts.append(first)
        trace.counts.append(load.hop)
        trace.received.append(trace.sent[chunk] + delay)
    return trace


def run_trace(load: Load, *streams: StreamTrace, usage: ServerUsage | None = None) -> RunTrace:
    return RunTrace(load, ("a",), 100.0, list(streams), 0.02, usage)
