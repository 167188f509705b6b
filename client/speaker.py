"""See :mod:`client.audio.speaker`."""

from client.audio.speaker import Output, Speaker

__all__ = ["Output", "Speaker"]
