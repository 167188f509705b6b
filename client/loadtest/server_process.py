"""A server process on a free port, for measuring."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Final

from kfusion.errors import ConnectionFailed

START_S: Final = 120.0  # for loading and warming up a large model
STOP_S: Final = 20.0
_READY: Final = re.compile(r"is ready: open https?://[^/]*:(\d+)/")
_WARNING: Final = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|^Traceback|\w(Warning|Error): ")


class ServerProcess:
    """``python -m server --port 0`` with ``options``, while the ``with`` block runs.

    Raises :class:`~kfusion.errors.ConnectionFailed`, with its last output, if it does not start.
    """

    MAX_LINES: Final = 10_000

    def __init__(self, *options: str) -> None:
        self.options = options
        self.lines: deque[str] = deque(maxlen=self.MAX_LINES)
        self.port: int | None = None
        self._ready = threading.Event()  # or it has ended

    def __enter__(self) -> ServerProcess:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "server", "--port", "0", *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"},
        )
        try:
            self._reader.start()
            self._ready.wait(START_S)
        except BaseException:  # Ctrl-C too
            self._stop()
            raise
        if self.port is None:
            self._stop()
            raise ConnectionFailed(
                f"python -m server {' '.join(self.options)} did not start; it said: "
                + (" / ".join(list(self.lines)[-3:]) or "nothing")
            )
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            ready = _READY.search(line)
            if ready and self.port is None:
                self.port = int(ready[1])
                self._ready.set()
        self._ready.set()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self.process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        finally:  # at Ctrl-C too
            self.process.kill()
            self.process.wait()
            if self._reader.ident is not None:
                self._reader.join()
            assert self.process.stdout is not None
            self.process.stdout.close()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def warnings(self) -> list[str]:
        """The lines of its output that are warnings or errors."""
        return warning_lines(self.lines)


def warning_lines(lines: Iterable[str]) -> list[str]:
    """The lines of a log that are warnings or errors, or begin a traceback."""
    return [line for line in lines if _WARNING.search(line)]
