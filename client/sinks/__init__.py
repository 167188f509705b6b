"""Where frames go: files now, other programs' protocols beside them."""

from __future__ import annotations

from typing import Protocol

from client.protocol import Frame


class Sink(Protocol):
    """Takes frames in order; ``close`` when no more come. Neither waits for anyone."""

    def send(self, frame: Frame) -> None: ...

    def close(self) -> None: ...
