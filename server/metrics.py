"""The server's metrics, for Prometheus."""

from functools import partial

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
        gauge, counter = partial(Gauge, registry=registry), partial(Counter, registry=registry)
        histogram = partial(Histogram, registry=registry)
        timing = partial(histogram, buckets=_SECONDS)
        self.streams = gauge("kfusion_streams", "Open streams")
        self.connections = gauge("kfusion_connections", "Open connections")
        self.refused = counter("kfusion_refused", "Streams and connections refused as too many")
        self.demand = gauge("kfusion_demand_windows", "Windows a second that live streams want")
        self.capacity = gauge("kfusion_capacity_windows", "Windows a second that can be run")
        self.loop_lag = gauge(
            "kfusion_loop_lag_seconds",
            "By which the event loop was late, 95 % of the last two seconds within",
        )
        self.kept = gauge("kfusion_sessions_kept", "Sessions without a connection, to resume")
        self.resumed = counter("kfusion_sessions_resumed", "Sessions resumed")
        self.frames = counter("kfusion_frames_sent", "Frames sent")
        self.dropped = counter("kfusion_frames_dropped", "Frames announced as dropped", ["reason"])
        self.errors = counter("kfusion_errors", "Errors told to clients", ["code"])
        self.batch = histogram(
            "kfusion_batch_windows", "Windows a batch", buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.step = timing("kfusion_step_seconds", "Engine time a batch")
        self.queue = timing(
            "kfusion_queue_seconds",
            "From the sound of a batch's oldest window being in to the batch",
        )
        self.deliver = timing(
            "kfusion_deliver_seconds",
            "From the end of a batch to all of its frames being ready to send",
        )
        self.late = timing(
            "kfusion_late_seconds",
            "From the last of a live window's sound being due to its frames being ready to send",
        )
        self.pictures = counter("kfusion_pictures", "Pictures looked at for a face", ["outcome"])
        self.picture_seconds = timing(
            "kfusion_picture_seconds", "From a picture's turn to what was found"
        )
        self.published = counter("kfusion_zmq_published", "Messages of frames published on ZeroMQ")
        self.unpublished = counter(
            "kfusion_zmq_dropped", "Messages of frames not published, for ZeroMQ was behind"
        )
        self.subscriptions = gauge("kfusion_zmq_subscriptions", "Topics subscribed to on ZeroMQ")
        self.drift = histogram(
            "kfusion_drift_seconds",
            "At the end of a live stream: wall time since its start less what it was sent",
            buckets=(-1, -0.1, -0.033, 0, 0.033, 0.1, 1, 10, 100),
        )

    def text(self) -> bytes:
        return generate_latest(self.registry)
