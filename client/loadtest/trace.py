"""What the streams of a run record, for the report when it is over."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from client.loadtest.load import Load
from client.loadtest.usage import ServerUsage


@dataclass
class StreamTrace:
    """What one stream sent and received, and when (s of the monotonic clock).

    Chunk k was sent at ``sent[k]`` and ended before sample ``positions[k]``, which was due at
    ``start + positions[k] / rate``. ``counts[m]`` frames from ``firsts[m]`` on were received at
    ``received[m]``.
    """

    index: int
    start: float = 0.0
    sent: array[float] = field(default_factory=lambda: array("d"))
    positions: array[int] = field(default_factory=lambda: array("q"))
    received: array[float] = field(default_factory=lambda: array("d"))
    firsts: array[int] = field(default_factory=lambda: array("q"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    errors: dict[str, int] = field(default_factory=dict[str, int])
    refused: str | None = None  # the server's message that it is full
    lost: str | None = None  # why the connection was lost
    unfinished: bool = False  # the server's end was not received in time


@dataclass(frozen=True)
class RunTrace:
    """All streams of a run that began at ``started``; ``cpu`` is the loader's, of one core."""

    load: Load
    clips: tuple[str, ...]
    started: float
    streams: list[StreamTrace]
    cpu: float
    server: ServerUsage | None
