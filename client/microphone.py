"""See :mod:`client.audio.microphone`."""

from client.audio.microphone import Microphone

__all__ = ["Microphone"]
