"""See :mod:`client.recording.replay`."""

from client.recording.replay import events, play

__all__ = ["events", "play"]
