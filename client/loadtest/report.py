"""The traces of a run -> its figures. Pure.

The *total* latency of frame n is the time from n / 30 s after its stream's first sample until it
was received. The latency *beyond* its window is the time from the sending of the chunk that
completed its window (protocol.md, Time) until it was received: what the server and the network add.
The last windows, which the end of the audio completes, are counted but not timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.loadtest.load import Load
from client.loadtest.trace import RunTrace, StreamTrace
from client.stream.websocket import redacted_url
from kfusion.audio import resampling_delay
from kfusion.config import FPS
from kfusion.stream import frame_count

Array = NDArray[np.float64]

MAX_LATE_MS: Final = 20.0  # at p95; beyond it the loader measures its own lateness


@dataclass(frozen=True)
class Percentiles:
    """Of ``count`` delays, ms."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Array) -> Percentiles | None:
        """None without any delay."""
        if not len(seconds):
            return None
        p50, p95, p99 = (float(x) for x in np.percentile(seconds * 1000, [50, 95, 99]))
        return cls(len(seconds), p50, p95, p99, float(seconds.max() * 1000))


@dataclass(frozen=True)
class FrameCounts:
    """``missing``: expected, but neither received nor announced as dropped."""

    expected: int
    got: int
    dropped: dict[str, int]

    @property
    def missing(self) -> int:
        return self.expected - self.got - sum(self.dropped.values())


@dataclass(frozen=True)
class FrameLatencies:
    """The time and the two latencies of every timed frame of a run; all in s."""

    at: Array  # after the run's first sample
    total: Array
    beyond: Array


@dataclass(frozen=True)
class Report:
    """A run in figures. CPU is a share of one core, 1 a whole one."""

    load: Load
    sounds: tuple[str, ...]
    total_ms: Percentiles | None
    beyond_ms: Percentiles | None
    late_ms: Percentiles | None  # of the loader: chunks sent after their time
    frames: FrameCounts
    errors: dict[str, int]
    refused: int
    lost: dict[str, int]  # streams whose connection was lost, by the reason
    unfinished: int  # streams without the server's end in time after the last audio
    loader_cpu: float
    server_cpu: float | None
    server_memory_bytes: dict[int, int]  # by the second of the run; -1 is its end

    @property
    def loader_late(self) -> bool:
        return self.late_ms is not None and self.late_ms.p95 > MAX_LATE_MS

    def failures(self, bound_ms: float | None = None) -> list[str]:
        """Why the run does not hold: frames or streams were lost, or p95 exceeds the bound."""
        out: list[str] = []
        if self.refused:
            out.append(f"{self.refused} refused")
        if self.lost:
            out.append(f"{sum(self.lost.values())} streams lost")
        if self.unfinished:
            out.append(f"{self.unfinished} streams unfinished")
        dropped = sum(self.frames.dropped.values())
        if dropped:
            out.append(f"{dropped} frames dropped")
        if self.frames.missing:
            out.append(f"{self.frames.missing} frames missing")
        if self.errors:
            out.append(f"{sum(self.errors.values())} errors")
        if self.total_ms is None:
            out.append("no frame was timed")
        elif bound_ms is not None and self.total_ms.p95 > bound_ms:
            out.append(f"p95 of {self.total_ms.p95:.0f} ms is over {bound_ms:g} ms")
        if out and self.loader_late:
            out.append("but the loader itself was late")
        return out


def _received(stream: StreamTrace) -> tuple[NDArray[np.int64], Array]:
    """The number of each frame received, and when."""
    counts = np.array(stream.counts, np.int64)
    firsts = np.repeat(np.array(stream.firsts, np.int64), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    n = firsts + np.arange(len(firsts)) - before
    return n, np.repeat(np.array(stream.received, np.float64), counts)


def needed_samples(n: NDArray[np.int64], rate: int, hop: int, lookahead: int) -> NDArray[np.int64]:
    """Samples that frame ``n`` needs to be computed: W*R//30 + D."""
    window = lookahead + hop * (n // hop + 1)
    return window * rate // FPS + resampling_delay(rate)


def stream_latencies(stream: StreamTrace, load: Load, started: float) -> FrameLatencies:
    """Of the frames after the warm-up whose windows were completed by live audio."""
    n, received = _received(stream)
    chunk = np.searchsorted(
        np.array(stream.positions, np.int64), needed_samples(n, load.rate, load.hop, load.lookahead)
    )
    timed = (chunk < len(stream.positions)) & (n >= load.warmup * FPS)
    n, received, chunk = n[timed], received[timed], chunk[timed]
    at = stream.start + n / FPS
    sent = np.array(stream.sent, np.float64)[chunk]
    return FrameLatencies(at - started, received - at, received - sent)


def frame_latencies(run: RunTrace) -> FrameLatencies:
    """Of all streams."""
    each = [stream_latencies(stream, run.load, run.started) for stream in run.streams]
    joined: list[Array] = []
    for column in ("at", "total", "beyond"):
        columns: list[Any] = [getattr(latencies, column) for latencies in each]
        joined.append(np.concatenate([np.zeros(0), *columns]))
    return FrameLatencies(*joined)


def send_lateness(streams: Sequence[StreamTrace], rate: int) -> Array:
    """The time between the end of each chunk and its sending, s."""
    each = [
        np.array(s.sent, np.float64) - s.start - np.array(s.positions, np.int64) / rate
        for s in streams
    ]
    return np.concatenate([np.zeros(0), *each])


def report(run: RunTrace, frames: FrameLatencies | None = None) -> Report:
    """The figures; ``frames`` is ``frame_latencies(run)``, if it was computed already."""
    load, streams, usage = run.load, run.streams, run.server
    latencies = frames or frame_latencies(run)
    expected = sum(frame_count(s.positions[-1], load.rate) for s in streams if s.positions)
    received = sum(sum(s.counts) for s in streams)
    return Report(
        load,
        run.clips,
        Percentiles.of(latencies.total),
        Percentiles.of(latencies.beyond),
        Percentiles.of(send_lateness(streams, load.rate)),
        FrameCounts(expected, received, _sum(s.dropped for s in streams)),
        _sum(s.errors for s in streams),
        sum(s.refused is not None for s in streams),
        dict(Counter(s.lost for s in streams if s.lost is not None)),
        sum(s.unfinished for s in streams),
        run.cpu,
        None if usage is None else usage.cpu,
        {} if usage is None else usage.memory_bytes,
    )


def _sum(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(total)


# Output


def report_text(r: Report) -> str:
    """A table for a terminal."""
    load, (clip, *others) = r.load, r.sounds
    more = f" and {len(others)} more" if others else ""
    lines = [
        f"{load.streams} streams x {load.seconds:g} s at {load.rate} Hz, chunks of "
        f"{load.chunk_ms} ms, hop {load.hop}, look-ahead {load.lookahead}, "
        f"starts {load.starts}; {clip}{more}",
        f"{'ms':22}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}",
        _row("total latency", r.total_ms, "frames"),
        _row("beyond the window", r.beyond_ms, "frames"),
        _row("loader's own lateness", r.late_ms, "chunks"),
        f"frames: {r.frames.expected} expected, {r.frames.got} got, "
        f"{_counts(r.frames.dropped)} dropped, {r.frames.missing} missing",
        f"streams: {r.refused} refused (busy), {sum(r.lost.values())} lost, "
        f"{r.unfinished} unfinished; errors: {_counts(r.errors)}",
        _machine(r),
    ]
    lines += [f"lost, {count} x: {why}" for why, count in r.lost.items()]
    if r.loader_late:
        lines.append(
            f"WARNING: the loader was late by more than {MAX_LATE_MS:g} ms at p95: these figures "
            "are its own, not the server's; wanted fewer streams, more --processes or a freer "
            "machine"
        )
    return "\n".join(lines)


def _row(name: str, s: Percentiles | None, what: str) -> str:
    if s is None:
        return f"{name:22}{'-':>8}{'-':>8}{'-':>8}{'-':>8}"
    return f"{name:22}{s.p50:8.1f}{s.p95:8.1f}{s.p99:8.1f}{s.max:8.1f}  of {s.count} {what}"


def _counts(counts: dict[str, int]) -> str:
    if not counts:
        return "0"
    return f"{sum(counts.values())} ({', '.join(f'{k} {n}' for k, n in sorted(counts.items()))})"


def _machine(r: Report) -> str:
    each = 100 * r.loader_cpu / r.load.streams
    line = f"of one core: loader {100 * r.loader_cpu:.1f} % ({each:.3f} % a stream)"
    line += ", server unknown" if r.server_cpu is None else f", server {100 * r.server_cpu:.1f} %"
    memory = [
        f"{size / 2**20:.1f} MiB {'at the end' if second < 0 else f'at {second} s'}"
        for second, size in r.server_memory_bytes.items()
    ]
    return line + (f"; server's memory {', '.join(memory)}" if memory else "")


def as_json(r: Report) -> dict[str, Any]:
    """A report for JSON, without tokens and passwords."""
    data = asdict(r)
    del data["load"]["token"]
    data["load"]["url"] = redacted_url(r.load.url)
    data["frames"]["missing"] = r.frames.missing
    data["loader_late"] = r.loader_late
    return data
