"""Clients of a KFusion server: the SDK, the microphone, files, and what draws a face.

Importing this package imports neither torch nor a WebSocket library until one is needed.
"""

from client.protocol import Event, Frame
from client.sdk import Face, connect

__all__ = ["Event", "Face", "Frame", "connect"]
