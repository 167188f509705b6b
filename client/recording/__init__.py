"""Recordings of streams: their file, their writer and their reader."""

from client.recording.format import Recording

__all__ = ["Recording"]
