"""See :mod:`client.stream.memory`."""

from client.stream.memory import Answer, MemoryTransport, Server

__all__ = ["Answer", "MemoryTransport", "Server"]
