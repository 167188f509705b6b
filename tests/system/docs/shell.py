"""Runs what documents tell to type: a server starts and goes on, all else runs to its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final

from tests.system.docs.documents import ROOT

# Nothing else is started: it may install, or take hours.
MAY: Final = re.compile(
    r"([A-Z_]+=\S+ )?(python -m (server|client)|python -c|curl|openssl)\b|umask|cp"
)
WAIT_S: Final = 60.0
USUAL: Final = 8765


class Shell:
    """Types into ``folder``; where no server was started here, that of ``port`` is meant."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.servers: list[subprocess.Popen[str]] = []
        self.said: list[str] = []  # by the servers until they were ready
        self.environment = {k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment["PYTHONPATH"] = str(ROOT)

    def __enter__(self) -> Shell:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """The servers stop as an operator would stop them."""
        for process in self.servers:
            process.terminate()
        ended = [process.wait(20) for process in self.servers]
        for process in self.servers:
            assert process.stdout is not None
            process.stdout.close()
        assert kind is not None or not any(ended)

    def run(self, command: str, place: str = "") -> str:
        """What it prints; it has to succeed."""
        assert MAY.match(command), f"{place}: {command!r} is not run by a test; wanted a mark"
        if command.startswith("python -m server"):
            self._serve(command, place)
            return ""
        text = re.sub(rf"(127\.0\.0\.1|HOST):{USUAL}\b", f"127.0.0.1:{self.port}", command)
        if re.search(r"python -m client(?! replay)", text) and "--url" not in text:
            text += f" --url ws://127.0.0.1:{self.port}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", text], cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=WAIT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{place}: {command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _serve(self, command: str, place: str) -> None:
        """Here alone, at free ports, and unless it says otherwise without a network."""
        text = re.sub(r"(tcp://)[\d.]+:\d+", r"\g<1>127.0.0.1:0", command)
        text = text.replace("0.0.0.0", "127.0.0.1") + " --port 0"
        text += "" if "--engine" in text else " --engine synthetic"
        process = subprocess.Popen(
            ["bash", "-c", f"exec {text}"], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.servers.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line)
            if found := re.search(r"is ready: open https?://[^/]+:(\d+)/", line):
                self.port = int(found[1])
                return
        raise AssertionError(f"{place}: {command}\n{''.join(self.said)}")
