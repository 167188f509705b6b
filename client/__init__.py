"""Clients of a KFusion server: the SDK, the microphone, files, and what draws a face.

The public API is what this package exports, and the documented modules :mod:`client.sdk`,
:mod:`client.clock`, :mod:`client.memory`, :mod:`client.player`, :mod:`client.microphone`,
:mod:`client.speaker`, :mod:`client.recording`, :mod:`client.replay` and :mod:`client.sinks`. All
other modules are internal.

Importing this package imports neither torch nor a WebSocket library until one is needed.
"""

from client.sdk import Backoff, ConnectionOptions, Face, connect
from client.stream.events import Event, Frame, Reconnecting, Resumed

__all__ = [
    "Backoff",
    "ConnectionOptions",
    "Event",
    "Face",
    "Frame",
    "Reconnecting",
    "Resumed",
    "connect",
]
