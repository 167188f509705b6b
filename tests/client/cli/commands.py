"""``python -m client`` as tests run it, and what it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


def client(*options: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a process with warnings as errors."""
    inherited = {k: v for k, v in os.environ.items() if k != "KFUSION_TOKEN"}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "client", *map(str, options)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=inherited | environment,
        check=False,
    )


def rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line on standard error, which the client wrote."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kfusion-client: ")
    return line
