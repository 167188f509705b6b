"""A server process on a free port, for measuring."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from kfusion import wire
from kfusion.errors import ConnectionFailed

START_S: Final = 120.0  # for loading and warming up a large model
STOP_S: Final = 20.0
_READY: Final = re.compile(r"is ready: open https?://[^/]*:(\d+)/")
_WARNING: Final = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|^Traceback|\w(Warning|Error): ")


class ServerProcess:
    """``python -m server --port 0`` with ``options``, while the ``with`` block runs.

    ``python``: options of the interpreter. ``cwd``: the working directory. Raises
    :class:`~kfusion.errors.ConnectionFailed`, with its last output, if it does not start.
    """

    MAX_LINES: Final = 10_000

    def __init__(self, *options: str, python: Sequence[str] = (), cwd: Path | None = None) -> None:
        self.options, self.python, self.cwd = options, python, cwd
        self.lines: deque[str] = deque(maxlen=self.MAX_LINES)
        self.port = 0  # until it is ready
        self._ready = threading.Event()  # or it has ended

    def __enter__(self) -> ServerProcess:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.process = subprocess.Popen(
            [sys.executable, *self.python, "-m", "server", "--port", "0", *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.cwd,
            env={k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"},
        )
        try:
            self._reader.start()
            self._ready.wait(START_S)
        except BaseException:  # Ctrl-C too
            self._stop()
            raise
        if not self.port:
            self._stop()
            raise ConnectionFailed(
                f"python -m server {' '.join(self.options)} did not start; it said: "
                + (" / ".join(line.rstrip() for line in list(self.lines)[-3:]) or "nothing")
            )
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            ready = _READY.search(line)
            if ready and not self.port:
                self.port = int(ready[1])
                self._ready.set()
        self._ready.set()

    def __exit__(self, *exception: object) -> None:
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
        return f"ws://127.0.0.1:{self.port}{wire.PATH}"

    @property
    def warnings(self) -> list[str]:
        """The lines of its output that are warnings or errors."""
        return warning_lines(self.lines)


def warning_lines(lines: Iterable[str]) -> list[str]:
    """The lines of a log that are warnings or errors, or begin a traceback."""
    return [line.rstrip() for line in lines if _WARNING.search(line)]
