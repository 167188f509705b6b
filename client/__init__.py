"""Clients of a KFusion server: the SDK, the microphone, files, and what draws a face.

Importing this package imports neither torch nor a WebSocket library until one is needed.
"""

from client.sdk import Backoff, Face, connect
from client.stream.events import Event, Frame, Reconnecting, Resumed

__all__ = ["Backoff", "Event", "Face", "Frame", "Reconnecting", "Resumed", "connect"]
