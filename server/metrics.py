"""The server's metrics, for Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """One server's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # CPU, memory, file descriptors, where it can tell
        self.streams = Gauge("kfusion_streams", "Open streams", registry=registry)
        self.connections = Gauge("kfusion_connections", "Open connections", registry=registry)
        self.refused = Counter(
            "kfusion_refused", "Streams and connections refused as too many", registry=registry
        )
        self.demand = Gauge(
            "kfusion_demand_windows", "Windows a second that live streams want", registry=registry
        )
        self.capacity = Gauge(
            "kfusion_capacity_windows", "Windows a second that can be run", registry=registry
        )
        self.loop_lag = Gauge(
            "kfusion_loop_lag_seconds",
            "By which the event loop was late, 95 % of the last two seconds within",
            registry=registry,
        )
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
            "From the sound of a batch's oldest window being in to the batch",
            buckets=_SECONDS,
            registry=registry,
        )
        self.deliver = Histogram(
            "kfusion_deliver_seconds",
            "From the end of a batch to all of its frames being ready to send",
            buckets=_SECONDS,
            registry=registry,
        )
        self.late = Histogram(
            "kfusion_late_seconds",
            "From the last of a live window's sound being due to its frames being ready to send",
            buckets=_SECONDS,
            registry=registry,
        )
        self.pictures = Counter(
            "kfusion_pictures", "Pictures looked at for a face", ["outcome"], registry=registry
        )
        self.picture_seconds = Histogram(
            "kfusion_picture_seconds",
            "From a picture's turn to what was found",
            buckets=_SECONDS,
            registry=registry,
        )
        self.published = Counter(
            "kfusion_zmq_published", "Messages of frames published on ZeroMQ", registry=registry
        )
        self.unpublished = Counter(
            "kfusion_zmq_dropped",
            "Messages of frames not published, for ZeroMQ was behind",
            registry=registry,
        )
        self.subscriptions = Gauge(
            "kfusion_zmq_subscriptions", "Topics subscribed to on ZeroMQ", registry=registry
        )
        self.drift = Histogram(
            "kfusion_drift_seconds",
            "At the end of a live stream: wall time since its start less what it was sent",
            buckets=(-1, -0.1, -0.033, 0, 0.033, 0.1, 1, 10, 100),
            registry=registry,
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
