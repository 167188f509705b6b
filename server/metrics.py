"""What the server counts, as Prometheus sees it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """One server's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.streams = Gauge("kfusion_streams", "Open streams", registry=registry)
        self.kept = Gauge(
            "kfusion_sessions_kept", "Sessions without a connection, to resume", registry=registry
        )
        self.resumed = Counter("kfusion_sessions_resumed", "Sessions resumed", registry=registry)
        self.frames = Counter("kfusion_frames_sent", "Frames sent", registry=registry)
        self.dropped = Counter(
            "kfusion_frames_dropped", "Frames announced as dropped", ["reason"], registry=registry
        )
        self.errors = Counter(
            "kfusion_errors", "Errors told to clients", ["code"], registry=registry
        )
        self.batch = Histogram(
            "kfusion_batch_windows",
            "Windows a batch",
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self.step = Histogram(
            "kfusion_step_seconds", "Engine time a batch", buckets=_SECONDS, registry=registry
        )
        self.queue = Histogram(
            "kfusion_queue_seconds",
            "From a window's sound being in to its batch",
            buckets=_SECONDS,
            registry=registry,
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
