"""See :mod:`client.audio.player`."""

from client.audio.player import Player

__all__ = ["Player"]
