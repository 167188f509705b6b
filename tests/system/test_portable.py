"""What Linux has and other systems lack is done without: simulated here, for no other is at hand.

``.ci/run`` also has pyright read the packages as Windows and macOS see the standard library.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What only POSIX has is refused to our own modules; others ask for it on Linux with good reason.
REFUSE = """
import builtins, pkgutil, sys
ours = ("kfusion", "server", "client", "training")
real = builtins.__import__
def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    asks = (globals or {}).get("__name__", "").split(".")[0]
    if asks in ours and name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
        raise ImportError(f"{name} is refused")
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = guarded
"""

EVERY = """
import importlib
for package in map(importlib.import_module, sys.argv[1:]):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
"""

NO_HANDLERS = """
import asyncio
def refuse(self, *_):
    raise NotImplementedError
asyncio.SelectorEventLoop.add_signal_handler = refuse
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("packages", [["kfusion", "server", "client"], ["training"]])
def test_every_module_imports_without_what_only_posix_has(packages: list[str]) -> None:
    done = run(REFUSE + EVERY, *packages)
    assert done.returncode == 0, done.stderr


def test_a_server_stops_in_good_order_where_the_loop_takes_no_signals() -> None:
    code = NO_HANDLERS + "from server.__main__ import main; raise SystemExit(main())"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, "--port", "0", "--engine", "synthetic"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = next((line for line in process.stdout if "is ready" in line), "")
        process.terminate()
        rest = process.stdout.read()
        assert said and process.wait(20) == 0, said + rest
        assert "Traceback" not in rest


def test_the_microphone_stops_at_ctrl_c_where_the_loop_takes_no_signals() -> None:
    code = (
        NO_HANDLERS
        + """
import signal
from client.cli import mic as command

class Mic:
    def __init__(self):
        self.stopped = asyncio.Event()
    def stop(self):
        self.stopped.set()

async def main():
    mic = Mic()
    command._stop_at_interrupt(mic)
    signal.raise_signal(signal.SIGINT)
    await asyncio.wait_for(mic.stopped.wait(), 5)
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        print("left at the second")

asyncio.run(main())
"""
    )
    assert run(code).stdout == "left at the second\n"
