"""See :mod:`client.stream.clock`."""

from client.stream.clock import Clock

__all__ = ["Clock"]
