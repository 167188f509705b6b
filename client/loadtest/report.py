"""What came and when -> the figures of a run. Pure.

A frame's *total* latency is its arrival less its own time, n / 30 s after its stream's first
sample was spoken: what a viewer sees. Its latency *beyond* is its arrival less the sending of the
chunk that completed its window: what the server and the way to it add. A window runs when the
sample before frame W, and the resampler's delay, are in (protocol.md, Time). The last windows,
which the end of the audio completes, are counted but not timed, for no live frame comes so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.loadtest.log import Log, Measured
from client.loadtest.plan import Load
from client.stream.websocket import redacted_url
from kfusion.audio import resampling_delay
from kfusion.config import FPS
from kfusion.stream import frame_count

Array = NDArray[np.float64]

LATE_MS: Final = 20.0  # at p95; a loader that sends later than this measures itself


@dataclass(frozen=True)
class Spread:
    """Percentiles of ``count`` delays, ms."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: Array) -> Spread | None:
        """None of nothing."""
        if not len(seconds):
            return None
        p50, p95, p99 = (float(x) for x in np.percentile(seconds * 1000, [50, 95, 99]))
        return cls(len(seconds), p50, p95, p99, float(seconds.max() * 1000))


@dataclass(frozen=True)
class Frames:
    """``missing`` of those expected neither came nor were announced as dropped."""

    expected: int
    got: int
    dropped: dict[str, int]

    @property
    def missing(self) -> int:
        return self.expected - self.got - sum(self.dropped.values())


@dataclass(frozen=True)
class Timed:
    """Every timed frame of a run: its own time on the run's clock, and its delays; all in s."""

    at: Array  # after the run's first sample
    total: Array
    beyond: Array


@dataclass(frozen=True)
class Report:
    """A run in figures. CPU is a share of one core, 1 a whole one."""

    load: Load
    sounds: tuple[str, ...]
    total_ms: Spread | None
    beyond_ms: Spread | None
    late_ms: Spread | None  # the loader's own sending, after its time
    frames: Frames
    errors: dict[str, int]
    refused: int
    lost: dict[str, int]  # streams whose connection did not last, by the reason
    unfinished: int  # streams whose end did not come in time after the last audio
    loader_cpu: float
    server_cpu: float | None
    server_memory_bytes: dict[int, int]  # by the second of the run; -1 is its end

    @property
    def loader_late(self) -> bool:
        return self.late_ms is not None and self.late_ms.p95 > LATE_MS

    def failings(self, bound_ms: float | None = None) -> list[str]:
        """What keeps it from holding: nothing lost, and p95 of the total within the bound.

        A late loader makes frames later, never earlier: what holds in spite of it does hold.
        """
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


def _numbers(log: Log) -> tuple[NDArray[np.int64], Array]:
    """Each frame that came, and when."""
    counts = np.array(log.counts, np.int64)
    firsts = np.repeat(np.array(log.firsts, np.int64), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    n = firsts + np.arange(len(firsts)) - before
    return n, np.repeat(np.array(log.arrived, np.float64), counts)


def needed_samples(n: NDArray[np.int64], rate: int, hop: int, lookahead: int) -> NDArray[np.int64]:
    """Samples that must be in before frame ``n`` can be computed: W*R//30 + D."""
    window = lookahead + hop * (n // hop + 1)
    return window * rate // FPS + resampling_delay(rate)


def timed(log: Log, load: Load, started: float) -> Timed:
    """The frames of one stream that are past the warm-up and were completed by live audio."""
    n, arrived = _numbers(log)
    chunk = np.searchsorted(
        np.array(log.positions, np.int64), needed_samples(n, load.rate, load.hop, load.lookahead)
    )
    counts = (chunk < len(log.positions)) & (n >= load.warmup * FPS)
    n, arrived, chunk = n[counts], arrived[counts], chunk[counts]
    own = log.start + n / FPS
    return Timed(own - started, arrived - own, arrived - np.array(log.sent, np.float64)[chunk])


def timed_of_all(measured: Measured) -> Timed:
    each = [timed(log, measured.load, measured.started) for log in measured.logs]
    joined: list[Array] = []
    for column in ("at", "total", "beyond"):
        columns: list[Any] = [getattr(t, column) for t in each]
        joined.append(np.concatenate([np.zeros(0), *columns]))
    return Timed(*joined)


def lateness(logs: Sequence[Log], rate: int) -> Array:
    """By how much each chunk was sent after its last sample was spoken, s."""
    each = [
        np.array(log.sent, np.float64) - log.start - np.array(log.positions, np.int64) / rate
        for log in logs
    ]
    return np.concatenate([np.zeros(0), *each])


def report(measured: Measured, frames: Timed | None = None) -> Report:
    """The figures; ``frames`` is ``timed_of_all(measured)``, where it is known already."""
    load, logs, use = measured.load, measured.logs, measured.server
    delays = frames or timed_of_all(measured)
    expected = sum(frame_count(log.positions[-1], load.rate) for log in logs if log.positions)
    return Report(
        load,
        measured.sounds,
        Spread.of(delays.total),
        Spread.of(delays.beyond),
        Spread.of(lateness(logs, load.rate)),
        Frames(expected, sum(sum(log.counts) for log in logs), _sums(logs, lambda l: l.dropped)),
        _sums(logs, lambda log: log.errors),
        sum(log.refused is not None for log in logs),
        dict(Counter(log.lost for log in logs if log.lost is not None)),
        sum(log.unfinished for log in logs),
        measured.cpu,
        None if use is None else use.cpu,
        {} if use is None else use.memory_bytes,
    )


def _sums(logs: Sequence[Log], counts_of: Callable[[Log], dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for log in logs:
        total.update(counts_of(log))
    return dict(total)


# For readers


def text(r: Report) -> str:
    """A short table for a terminal."""
    load = r.load
    lines = [
        f"{load.streams} streams x {load.seconds:g} s at {load.rate} Hz, chunks of "
        f"{load.chunk_ms} ms, hop {load.hop}, look-ahead {load.lookahead}, {load.encoding}, "
        f"{load.mode}, starts {load.starts}; {_named(r.sounds)}",
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
            f"WARNING: the loader was late by more than {LATE_MS:g} ms at p95: these figures are "
            "its own, not the server's; wanted fewer streams, more --processes or a freer machine"
        )
    return "\n".join(lines)


def _named(sounds: Sequence[str]) -> str:
    return sounds[0] if len(sounds) == 1 else f"{sounds[0]} and {len(sounds) - 1} more"


def _row(name: str, s: Spread | None, what: str) -> str:
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
    held = [
        f"{size / 2**20:.1f} MiB {'at the end' if second < 0 else f'at {second} s'}"
        for second, size in r.server_memory_bytes.items()
    ]
    return line + (f"; server's memory {', '.join(held)}" if held else "")


def as_json(r: Report) -> dict[str, Any]:
    """A report as JSON has it, tokens and passwords left out."""
    data = asdict(r)
    del data["load"]["token"]
    data["load"]["url"] = redacted_url(r.load.url)
    data["frames"]["missing"] = r.frames.missing
    data["loader_late"] = r.loader_late
    return data
