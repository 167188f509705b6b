"""What streams keep of a run, to be reckoned with when it is over."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from client.loadtest.plan import Load
from client.loadtest.usage import ServerUse


@dataclass
class Log:
    """What one stream sent and got, and when (s of the monotonic clock).

    Chunk k was sent at ``sent[k]`` and ended before sample ``positions[k]``, which was spoken at
    ``start + positions[k] / rate``. ``counts[m]`` frames from ``firsts[m]`` on came at
    ``arrived[m]``.
    """

    index: int
    start: float = 0.0
    sent: array[float] = field(default_factory=lambda: array("d"))
    positions: array[int] = field(default_factory=lambda: array("q"))
    arrived: array[float] = field(default_factory=lambda: array("d"))
    firsts: array[int] = field(default_factory=lambda: array("q"))
    counts: array[int] = field(default_factory=lambda: array("q"))
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    errors: dict[str, int] = field(default_factory=dict[str, int])
    refused: str | None = None  # for want of a place, in the server's words
    lost: str | None = None  # why its connection did not last
    unfinished: bool = False  # its end did not come in time


@dataclass(frozen=True)
class Measured:
    """What came of a run that began at ``started``; ``cpu`` is the loader's, of one core."""

    load: Load
    sounds: tuple[str, ...]
    started: float
    logs: list[Log]
    cpu: float
    server: ServerUse | None
