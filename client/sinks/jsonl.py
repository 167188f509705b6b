"""Frames as JSON Lines: {"n": 0, "t": 0.0, "points": [[x, y] * 68]}, and coefficients if any."""

import contextlib
import sys
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from client.atomic_file import AtomicFile
from client.stream.events import Frame
from kfusion import wire


class JsonlSink:
    """Writes to a file, which appears at ``close``; or line by line to a pipe, or for ``-`` to
    standard output.

    Raises :class:`~client.errors.OutputError` if it cannot be written.
    """

    needs: tuple[wire.Output, ...] = ()
    live = False
    trouble = ""

    def __init__(self, path: str | Path) -> None:
        self.file = None if str(path) == "-" else AtomicFile(path)
        self.out: BinaryIO = (
            sys.stdout.buffer if self.file is None else self.file.temporary.open("wb")
        )

    def send(self, frame: Frame) -> None:
        line: dict[str, Any] = {"n": frame.n, "t": frame.t, "points": frame.points.tolist()}
        for name, values in (("arkit52", frame.arkit52), ("vrm", frame.vrm)):
            if values is not None:
                line[name] = values.tolist()
        self.out.write(msgspec.json.encode(line) + b"\n")
        if self.file is None or self.file.direct:
            self.out.flush()  # the reader may be live

    def close(self) -> None:
        if self.file is not None:
            self.out.close()
            self.file.commit()

    def discard(self) -> None:
        """Removes the file that is not complete."""
        if self.file is not None:
            with contextlib.suppress(OSError):  # of buffered lines, when the disk is full
                self.out.close()
            self.file.discard()
